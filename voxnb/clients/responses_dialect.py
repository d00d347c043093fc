"""The Responses API as a `Dialect`: chat messages become items, and the answer's items a chat message."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from voxnb.clients.dialect import Dialect, Kept, Reader
from voxnb.events import ResponsesAPIEvents
from voxnb.wire.items import ITEMS, to_body, to_input
from voxnb.wire.responses import ResponsesReader


def _read(wanted: Container[str], body: Mapping[str, Any]) -> Reader:
    text = body.get("text")
    return ResponsesReader(wanted=wanted, text_format=text.get("format") if isinstance(text, Mapping) else None)


def _write(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], leading: int) -> dict[str, Any]:
    return {**to_body(body, messages, leading=leading), "stream": True}


def _replay(uid: str, model: str | None, message: Mapping[str, Any], finish_reason: str) -> dict[str, Any]:
    status = "incomplete" if finish_reason in ("length", "content_filter") else "completed"
    reason = {"length": "max_output_tokens"}.get(finish_reason, finish_reason)
    return {
        "id": uid,
        "object": "response",
        "model": model,
        "status": status,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "output": to_input([message], answers=True),
    }


def _kept(reader: Reader, pieces: int) -> Kept:
    names, message, out = ResponsesAPIEvents, reader.message, Kept()
    if message.get("content"):
        out.append((names.ResponseTextDone.value, {"characters": len(message["content"])}))
    if message.get("refusal"):
        out.append((names.ResponseRefusalDone.value, {"characters": len(message["refusal"])}))
    for n, call in enumerate(message.get("tool_calls") or ()):
        name = (
            names.ResponseFunctionCallArgumentsDone
            if call["type"] == "function"
            else names.ResponseCustomToolCallInputDone
        )
        out.append((name.value, {"output_index": n, "call_id": call.get("id")}))
    ended = (
        names.ResponseIncomplete if reader.finish_reason in ("length", "content_filter") else names.ResponseCompleted
    )
    return [*out, (ended.value, {"response": reader.id, "messages": pieces})]


_PLAIN: Final = {
    "message": frozenset({"type", "id", "role", "status", "content"}),
    "function_call": frozenset({"type", "id", "call_id", "name", "arguments", "status"}),
    "custom_tool_call": frozenset({"type", "id", "call_id", "name", "input", "status"}),
}
"""Keys of the items that a chat message says as well; an item with more of them is kept."""


def _stored(message: dict[str, Any]) -> dict[str, Any]:
    """A text, then calls, is all in the message: only other answers need their items, so that no text is kept twice."""
    items = message.get(ITEMS) or ()
    kinds = [str(item.get("type")) for item in items]
    in_order = kinds.count("message") <= 1 and "message" not in kinds[1:]
    if in_order and all(_is_plain(item) for item in items):
        return {k: v for k, v in message.items() if k != ITEMS}
    return message


def _is_plain(item: Mapping[str, Any]) -> bool:
    keys = _PLAIN.get(str(item.get("type")), frozenset())
    texts = item.get("content") if item.get("type") == "message" else ()
    return (
        set(item) <= keys
        and isinstance(texts, list | tuple)
        and all(part.get("type") == "output_text" and not part.get("annotations") for part in texts)
    )


def _pending(reader: Reader) -> str | None:
    return reader.id if reader.finish_reason in ("queued", "in_progress") else None


RESPONSES: Final = Dialect(
    api="responses",
    what="response",
    call="create_responses",
    says="input",
    path="/responses",
    connector="/openai/responses",
    events=ResponsesAPIEvents,
    error=ResponsesAPIEvents.ResponsesAPIError.value,
    priced=("tools", "text"),
    limits=("max_output_tokens",),
    held=("previous_response_id", "conversation"),
    prompts=("prompt",),
    read=_read,
    write=_write,
    replay=_replay,
    kept=_kept,
    stored=_stored,
    pending=_pending,
)
