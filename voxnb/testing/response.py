"""A scripted reply as the service's response: whole, and as the events of its stream."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

from voxnb.testing import input as asking
from voxnb.testing import rendering, service
from voxnb.testing.completion import Usage, cut, pieces
from voxnb.testing.rendering import Answer, Manner
from voxnb.testing.replies import Chunks, Reply, Status
from voxnb.testing.request import Request
from voxnb.testing.shelf import Shelf
from voxnb.wire.items import from_input, to_input
from voxnb.wire.parts import to_content
from voxnb.wire.replay import events_of
from voxnb.wire.responses import ResponsesReader

ENCRYPTED: Final = "reasoning.encrypted_content"

_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Final[dict[str, Any]] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response says of its request, and what it says where the request did not."""


def body(reply: Reply, request: Request, manner: Manner, shelf: Shelf) -> Answer:
    """The answer to a Responses request.

    Raises:
        TypeError: the reply is none of those that `voxnb.testing` names.
    """
    if isinstance(reply, bool) or reply is None or inspect.isawaitable(reply):
        raise TypeError(f"a scripted reply cannot be {reply!r}; see voxnb.testing for what it can be")
    if isinstance(reply, int):
        reply = Status(reply)
    if isinstance(reply, Status):
        return rendering.status_answer(reply)
    if isinstance(reply, bytes):
        return rendering.raw_answer(reply, request)
    if isinstance(reply, Chunks):
        reply = reply.chunks
    background = request.json.get("background") is True
    if (
        isinstance(reply, list | tuple)
        and all(isinstance(i, str) for i in reply)
        and (background or not request.stream)
    ):
        reply = "".join(reply)
    if isinstance(reply, Mapping | str):
        return _whole(response(reply, request, manner.usage, history=_history(request, shelf)), request, shelf)
    if not isinstance(reply, Iterable):
        raise TypeError(f"a scripted reply cannot be {reply!r}; see voxnb.testing for what it can be")
    if not request.stream:
        return rendering.json_answer(_folded(reply, request, manner, shelf))
    frames = _frames(reply, request, manner, shelf)
    return rendering.stream_answer(list(frames) if isinstance(reply, list | tuple) else frames)


def _history(request: Request, shelf: Shelf) -> list[Any]:
    found = shelf.history(request.json)
    return [] if isinstance(found, Status) else found


def _whole(made: dict[str, Any], request: Request, shelf: Shelf) -> Answer:
    """A whole response, told at once or in the background, and kept."""
    background = request.json.get("background") is True
    asked = [*_history(request, shelf), *asking.items_of(request.input)]
    told = {**made, "status": "queued", "output": [], "usage": None, "incomplete_details": None, "error": None}
    shelf.keep(request.json, made, asked=asked, status="queued" if background else made["status"])
    if not request.stream:
        return rendering.json_answer(told if background else made)
    events = events_of(made, pieces=pieces)
    if not background:
        return rendering.stream_answer([frame(event) for event in events])
    return rendering.stream_answer(_in_background(events, told, shelf))


def _in_background(events: Iterator[dict[str, Any]], told: dict[str, Any], shelf: Shelf) -> Iterator[bytes]:
    """The frames of a response that goes on where nobody reads them."""
    created = next(events)
    heads: list[dict[str, Any]] = [{**created, "response": told}, {"type": "response.queued", "response": told}]
    for number, event in enumerate(chain(heads, events)):
        yield frame({**event, "sequence_number": number})
    shelf.finish(told["id"])


def response(reply: Mapping[str, Any] | str, request: Request, usage: Usage, *, history: list[Any]) -> dict[str, Any]:
    """The unstreamed answer: a text, a message or a response made whole.

    Args:
        reply: as scripted.
        request: what it answers.
        usage: as the server was told to report it.
        history: items that the server holds for the request; they cost tokens too.
    """
    given = dict(reply) if isinstance(reply, Mapping) else {"content": reply}
    if {"output", "status", "error"} & set(given):
        output = [_item(item, n, request) for n, item in enumerate(given.pop("output", ()))]
        more = given
    else:
        finish = given.pop("finish_reason", None)
        output = _output(given, request)
        finish = finish or _cut(output, request)
        more = {} if finish in (None, "stop", "tool_calls") else {"incomplete_details": {"reason": _reason(finish)}}
    status = "incomplete" if more.get("incomplete_details") else "failed" if more.get("error") else "completed"
    made = {**head(request), "status": status, "output": output, **more}
    if status == "incomplete" and output and output[-1].get("status") == "completed":
        output[-1] = {**output[-1], "status": "incomplete"}
    if "usage" not in more:
        made["usage"] = count(output, request, usage, history=history) if made["status"] != "failed" else None
    return made


def head(request: Request) -> dict[str, Any]:
    """What every response says of itself and its request."""
    asked = {k: request.json[k] for k in _ECHOED if request.json.get(k) is not None}
    return {
        "id": f"resp_{request.number:08d}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": request.model,
        **_ECHOED,
        **asked,
    }


def _reason(finish: str) -> str:
    return _REASONS.get(finish, finish)


def _output(message: Mapping[str, Any], request: Request) -> list[dict[str, Any]]:
    """The items of a scripted message: reasoning, text or refusal, calls."""
    found: list[dict[str, Any]] = []
    thought = message.get("reasoning_content")
    if thought is not None:
        found.append({"type": "reasoning", "summary": [{"type": "summary_text", "text": thought}] if thought else []})
    calls = [_call(c, n, request) for n, c in enumerate(message.get("tool_calls") or ())]
    kept = {k: v for k, v in message.items() if k in ("content", "refusal") and v is not None}
    found += to_input([{"role": "assistant", "content": None, **kept, "tool_calls": calls}], answers=True)
    return [_item({k: v for k, v in item.items() if k != "id"}, n, request) for n, item in enumerate(found)]


def _call(given: Mapping[str, Any], position: int, request: Request) -> dict[str, Any]:
    name = given.get("id", f"call_{request.number}_{position}")
    if "function" in given or "custom" in given:
        return {"type": "custom" if "custom" in given else "function", **given, "id": name}
    arguments = given.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": given["name"], "arguments": text}}


def _item(given: Any, position: int, request: Request) -> dict[str, Any]:
    """An output item with what the service says of it."""
    item = dict(given) if isinstance(given, Mapping) else {"content": given}
    kind = item.get("type", "message")
    stem = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}.get(kind, kind)
    out: dict[str, Any] = {"id": f"{stem}_{request.number}_{position}", **item, "type": kind}
    if kind == "reasoning":
        out.setdefault("summary", [])
        if ENCRYPTED in (request.json.get("include") or ()):
            out.setdefault("encrypted_content", f"gAAAAAB{request.number:08d}{position:04d}" * 4)
        return out
    out.setdefault("status", "completed")
    if kind == "message":
        out.setdefault("role", "assistant")
        content = out.get("content")
        parts = to_content([content] if isinstance(content, str) else content or [], role="assistant")
        out["content"] = [{"logprobs": [], **p} if p.get("type") == "output_text" else p for p in parts]
    return out


def _cut(output: list[dict[str, Any]], request: Request) -> str | None:
    """Cut the text at the request's own limit, as a model would; "length" where something was cut."""
    limit = request.json.get("max_output_tokens")
    used = 0
    for item in output:
        for part in item["content"] if item["type"] == "message" and isinstance(limit, int) else ():
            text = part.get("text") or ""
            kept, tokens = cut(text, limit - used, request.model)
            if kept != text:
                part["text"] = kept
                return "length"
            used += tokens
    return None


def count(
    output: Iterable[Mapping[str, Any]], request: Request, usage: Usage, *, history: list[Any]
) -> dict[str, Any] | None:
    """The usage block, or None where the server was told to report none."""
    if usage is False:
        return None
    if usage is not True:
        return dict(usage(request) if callable(usage) else usage)
    asked, thought = input_tokens(request, history), 0
    written = 0
    for item in output:
        texts = [item.get(k) for k in ("name", "arguments", "input", "code")]
        texts += [p.get("text", p.get("refusal")) for k in ("content", "summary") for p in item.get(k) or ()]
        tokens = sum(service.count_text(t, request.model) for t in texts if isinstance(t, str) and t)
        written += tokens
        thought += tokens if item["type"] == "reasoning" else 0
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": asked + written,
    }


def input_tokens(request: Request, history: list[Any]) -> int:
    """Tokens of the whole request, with what the server holds of it, by the published recipe."""
    from voxnb.memory import tokens

    said = [{"role": "system", "content": request.instructions}] if request.instructions else []
    messages = [*said, *from_input([*history, *asking.items_of(request.input)])]
    return tokens.request_tokens(
        messages,
        lambda text: service.count_text(text, request.model),
        tools=request.json.get("tools"),
        model=request.model,
    )


def frame(event: Mapping[str, Any]) -> bytes:
    """One event as the service frames it."""
    name = str(event.get("type", "")).encode()
    return b"event: " + name + b"\ndata: " + service.as_json(event) + b"\n\n"


def _events(
    items: Iterable[Mapping[str, Any] | str | bytes], request: Request, manner: Manner, shelf: Shelf
) -> Iterator[Mapping[str, Any] | bytes]:
    """The events of a list: dicts and bytes as they are, texts as one message in the documented order."""
    texts: list[str] = []
    before, after = 0, [dict[str, Any]()]
    for item in items:
        if not isinstance(item, str):
            yield item
            continue
        if not texts:
            made = list(events_of(response("?", request, False, history=[]), pieces=pieces))
            before = next(n for n, e in enumerate(made) if e["type"] == "response.output_text.delta")
            yield from made[:before]
            after = made
        texts.append(item)
        yield {**after[before], "sequence_number": before + len(texts) - 1, "delta": item}
    if not texts:
        return
    whole = response("".join(texts), request, manner.usage, history=_history(request, shelf))
    shelf.keep(
        request.json, whole, asked=[*_history(request, shelf), *asking.items_of(request.input)], status=whole["status"]
    )
    closing = list(events_of(whole))
    start = next(n for n, e in enumerate(closing) if e["type"] == "response.output_text.done")
    for number, event in enumerate(closing[start:], before + len(texts)):
        yield {**event, "sequence_number": number}


def _frames(items: Iterable[Any], request: Request, manner: Manner, shelf: Shelf) -> Iterator[bytes]:
    try:
        for item in _events(items, request, manner, shelf):
            yield item if isinstance(item, bytes) else frame(item)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _folded(items: Iterable[Any], request: Request, manner: Manner, shelf: Shelf) -> dict[str, Any]:
    """What an unstreamed request gets of a list of events: the response that they end in, or add up to."""
    reader, last = ResponsesReader(), None
    for item in _events(items, request, manner, shelf):
        if isinstance(item, Mapping):
            reader.feed(dict(item))
            if isinstance(item.get("response"), Mapping):
                last = item["response"]
    made = dict(last) if last is not None and reader.complete else {**head(request), "status": "completed"}
    return {**made, "output": reader.items}
