"""The Responses API as the test server speaks it: a scripted reply as a response, its events, and what is refused.

Source: openai-python ``types/responses``; error bodies of api.openai.com.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.testing import completion as making
from voxnb.testing.replies import Chunks, Status
from voxnb.testing.request import Request
from voxnb.testing.service import bad_frame, refuse
from voxnb.wire.items import to_input
from voxnb.wire.replay import events_of

OUTPUTS: Final = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
ROLES: Final = ("user", "assistant", "system", "developer")
MOVED: Final = {
    "messages": "input",
    "functions": "tools",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
"""Parameters of chat completions, and what they are called here."""

_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass
class Kept:
    """The responses that the server has given, as the service keeps them.

    Attributes:
        known: by id; what was asked, and the whole response.
        waiting: how often a background response still says that it is in progress.
    """

    known: dict[str, tuple[Request, dict[str, Any]]] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, request: Request, whole: dict[str, Any]) -> None:
        """Keep a response."""
        with self.lock:
            self.known[whole["id"]] = (request, whole)
            if request.json.get("background") is True:
                self.waiting[whole["id"]] = 1

    def page(self, request: Request, name: str) -> Status:
        """The answer to ``GET /responses/<id>`` and ``POST /responses/<id>/cancel``."""
        name, _, verb = name.partition("/")
        with self.lock:
            if name not in self.known:
                return refuse(f"Response with id '{name}' not found.", status=404)
            asked, whole = self.known[name]
            if verb == "cancel" and request.method == "POST":
                if name not in self.waiting:
                    return refuse("Cannot cancel a synchronous response.")
                self.known[name] = (asked, whole := {**whole, "status": "cancelled", "output": []})
            elif verb or request.method != "GET":
                return refuse(f"Invalid URL ({request.method} {request.path})", status=404)
            elif self.waiting.get(name):
                self.waiting[name] -= 1
                return Status(200, body={**whole, "status": "in_progress", "output": [], "usage": None})
            return Status(200, body=whole)

    def calls_of(self, name: str) -> dict[str, str]:
        """Open calls at the end of a chain of responses: id → type; raises KeyError for an unknown one."""
        request, whole = self.known[name]
        before = request.json.get("previous_response_id")
        calls = self.calls_of(before) if before in self.known else {}
        given = request.json.get("input")
        for item in [*(given if isinstance(given, list) else ()), *whole["output"]]:
            if isinstance(item, dict) and item.get("type") in OUTPUTS:
                calls[str(item.get("call_id"))] = item["type"]
        return calls


# -- answers ----------------------------------------------------------------------------------


def response(reply: Mapping[str, Any] | str, request: Request, usage: making.Usage) -> dict[str, Any]:
    """The unstreamed answer: a text, a message or a response made whole."""
    body = request.json
    given: Mapping[str, Any] = reply if isinstance(reply, Mapping) else {}
    whole: dict[str, Any] = {
        "id": f"resp_{request.number:08d}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "background": body.get("background", False),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": request.model,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "tools": body.get("tools") or [],
        "tool_choice": body.get("tool_choice", "auto"),
        "store": body.get("store", True),
    }
    if "output" in given or "error" in given or "status" in given:
        whole |= {"output": [], **given}
        written = [{"message": {"content": None}}]
    else:
        choice = making.choice(reply, 0, request)
        message = {k: v for k, v in choice["message"].items() if v is not None}
        whole["output"] = [_numbered(item, n, request) for n, item in enumerate(_output(message))]
        written = [choice]
        if reason := _REASONS.get(choice["finish_reason"]):
            whole |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
    if "usage" not in given:
        whole["usage"] = _usage(making.count(written, request, usage))
    return whole


def _output(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    thought = message.get("reasoning_content")
    items = to_input([{k: v for k, v in message.items() if k != "reasoning_content"}], answers=True)
    if not thought:
        return items
    return [{"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": thought}]}, *items]


def _numbered(item: Mapping[str, Any], n: int, request: Request) -> dict[str, Any]:
    """Ids that no other response has."""
    out = {**item, "id": f"{str(item['id']).partition('_')[0]}_{request.number:08d}_{n}"}
    if out["type"] == "message":
        out["content"] = [
            {"annotations": [], "logprobs": [], **p} if p["type"] == "output_text" else p for p in out["content"]
        ]
    return out


def _usage(counted: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if counted is None or "input_tokens" in counted:
        return None if counted is None else dict(counted)
    details = counted.get("prompt_tokens_details") or {}
    return {
        "input_tokens": counted.get("prompt_tokens"),
        "input_tokens_details": {"cached_tokens": details.get("cached_tokens", 0)},
        "output_tokens": counted.get("completion_tokens"),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counted.get("total_tokens"),
    }


def stream(whole: Mapping[str, Any], request: Request) -> Iterator[dict[str, Any]]:
    """A response as the events that the service would have sent."""
    events = events_of(whole, pieces=making.pieces)
    if request.json.get("background") is not True:
        yield from events
        return
    for number, event in enumerate(_queued(events)):
        yield {**event, "sequence_number": number}


def _queued(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for event in events:
        if event["type"] == "response.created":
            queued = {**event["response"], "status": "queued"}
            yield {**event, "response": queued}
            yield {"type": "response.queued", "response": queued}
        else:
            yield event


def of_events(reply: Chunks, request: Request, usage: making.Usage) -> Iterator[dict[str, Any] | bytes]:
    """The events of a list: dicts and bytes as they are; texts alone are the pieces of one text."""
    items = list(reply.chunks)
    if items and all(isinstance(item, str) for item in items):
        whole = response("".join(map(str, items)), request, usage)
        yield from events_of(whole, pieces=lambda _: [str(item) for item in items])
        return
    for item in items:
        if isinstance(item, str):
            raise TypeError("a list of events for the Responses API holds texts alone, or events (dicts) and bytes")
        yield item if isinstance(item, bytes) else dict(item)


# -- refusals ---------------------------------------------------------------------------------


def objection(request: Request, models: Sequence[str] | None, kept: Kept) -> Status | None:
    """Why the service would not take this request, or None."""
    found = bad_frame(request, models)
    if found is not None:
        return found
    body = request.json
    for name, now in MOVED.items():
        if name in body:
            words = f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to '{now}'."
            return refuse(words, param=name, code="unsupported_parameter")
    before = body.get("previous_response_id")
    calls: dict[str, str] = {}
    if before is not None:
        try:
            calls = kept.calls_of(str(before))
        except KeyError:
            words = f"Previous response with id '{before}' not found."
            return refuse(words, param="previous_response_id", code="previous_response_not_found")
    if body.get("input") is None:
        return refuse("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    if isinstance(body["input"], str):
        body = {**body, "input": [{"role": "user", "content": body["input"]}]}
    if not isinstance(body["input"], list):
        words = "Invalid type for 'input': expected one of a string or array of objects."
        return refuse(words, param="input", code="invalid_type")
    return _bad_items(body["input"], calls, is_held=body.get("conversation") is not None)


def _bad_items(items: Sequence[Any], calls: dict[str, str], *, is_held: bool) -> Status | None:
    waiting = dict(calls)
    answered: set[str] = set()
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            words = f"Invalid type for 'input[{index}]': expected an object."
            return refuse(words, param=f"input[{index}]", code="invalid_type")
        kind = item.get("type", "message")
        found = _bad_message(item, index) if kind == "message" else None
        if kind == "reasoning" and index + 1 < len(items):
            found = _lonely(item, items[index + 1])
        elif kind == "reasoning":
            found = _lonely(item, {})
        if found is not None:
            return found
        if kind in OUTPUTS:
            waiting[str(item.get("call_id"))] = kind
        elif kind in OUTPUTS.values():
            call = str(item.get("call_id"))
            if call not in waiting and not is_held:
                words = f"No tool call found for {kind.replace('_', ' ').removesuffix(' output')} output with call_id {call}."
                return refuse(words, param="input")
            answered.add(call)
    open_calls = [call for call in waiting if call not in answered]
    if open_calls:
        kind = waiting[open_calls[0]].replace("_", " ")
        return refuse(f"No tool output found for {kind} {open_calls[0]}.", param="input")
    return None


def _bad_message(item: Mapping[str, Any], index: int) -> Status | None:
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        words = f"Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'."
        return refuse(words, param=f"input[{index}].role", code="invalid_value")
    if not isinstance(content, str | list):
        words = f"Invalid type for 'input[{index}].content': expected one of an array of objects or string."
        return refuse(words, param=f"input[{index}].content", code="invalid_type")
    allowed = (
        ("output_text", "refusal")
        if role == "assistant"
        else ("input_text", "input_image", "input_file", "input_audio")
    )
    for n, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in allowed:
            supported = " and ".join(f"'{name}'" for name in allowed)
            words = f"Invalid value: '{kind}'. Supported values are: {supported}."
            return refuse(words, param=f"input[{index}].content[{n}]", code="invalid_value")
    return None


def _lonely(item: Mapping[str, Any], after: Any) -> Status | None:
    kind = after.get("type", "message") if isinstance(after, Mapping) and after else None
    if (
        kind in OUTPUTS
        or kind == "reasoning"
        or (kind == "message" and after.get("role") == "assistant")
        or (kind is not None and str(kind).endswith("_call"))
    ):
        return None
    words = f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
    return refuse(words, param="input")
