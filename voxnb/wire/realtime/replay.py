"""A conversation put into a new session: chat messages as items, and the items of an old session as chat messages.

Rule 1: what was said aloud becomes text: a new session has none of the old one's audio, and its items cannot be cut.
Rule 2: an assistant's text is ``output_text`` (the service refuses ``text``), a summary is a *system* item: as the
assistant's words it makes models answer in text.
Rule 3: a call goes with its result or not at all.

Source: OpenAI API reference, ``conversation.item.create``; users' reports on restored sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from voxnb.wire.realtime.item import Item, heard_text

Message = dict[str, Any]

CUT_OFF: Final = " [interrupted here]"
"""Follows what was heard of an answer that was interrupted, so that the model does not take it for its own ending."""

ANCHOR: Final = (
    "This call goes on after its connection was renewed. Do not greet, do not introduce yourself and do not repeat what "
    "was said; keep the language of the conversation."
)
"""Said to the model after a restored conversation: without it models greet again, or change the language."""

_INPUT_ROLES: Final = {"system": "system", "developer": "system", "user": "user"}


def items_of(messages: Iterable[Mapping[str, Any]], *, anchor: bool = False) -> list[dict[str, Any]]:
    """Chat messages as items to create, in order.

    Pictures and files are left out, with a word in their place.

    Args:
        messages: without the leading instructions, which belong into the session.
        anchor: add `ANCHOR` at the end.

    >>> items_of([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])[1]["content"]
    [{'type': 'output_text', 'text': 'Hello.'}]
    """
    listed = list(messages)
    answered = {m.get("tool_call_id") for m in listed if m.get("role") in ("tool", "function")}
    called: set[str] = set()
    out: list[dict[str, Any]] = []
    for message in listed:
        role, text = message.get("role"), _text(message.get("content"))
        if role in _INPUT_ROLES:
            part = {"type": "input_text", "text": text}
            out.append({"type": "message", "role": _INPUT_ROLES[role], "content": [part]})
        elif role == "assistant":
            said = text or _text(message.get("refusal"))
            if said:
                out.append({"type": "message", "role": role, "content": [{"type": "output_text", "text": said}]})
            for call in message.get("tool_calls") or ():
                function = call.get("function")
                if isinstance(function, Mapping) and call.get("id") in answered:
                    called.add(call["id"])
                    out.append(
                        {
                            "type": "function_call",
                            "call_id": call["id"],
                            "name": function.get("name"),
                            "arguments": function.get("arguments") or "{}",
                        }
                    )
        elif message.get("tool_call_id") in called:
            out.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": text})
    if anchor and out:
        out.append({"type": "message", "role": "system", "content": [{"type": "input_text", "text": ANCHOR}]})
    return out


def messages_of(items: Iterable[Item], *, heard_ms: Mapping[str, float] | None = None) -> list[Message]:
    """The items of a session as chat messages, as far as something was said.

    Args:
        items: in order.
        heard_ms: how much of an answer was heard, where not all of it was, by item id.

    Returns:
        Messages; calls of one response and what was said before them are one message.
    """
    heard = heard_ms or {}
    out: list[Message] = []
    last_response: str | None = None
    for item in items:
        if item.type == "message" and item.role == "assistant":
            said = said_of(item, heard_ms=heard.get(item.id))
            if said:
                out.append({"role": "assistant", "content": said})
        elif item.type == "message":
            if item.text and item.text != ANCHOR:
                out.append({"role": "user" if item.role is None else item.role, "content": item.text})
        elif item.type == "function_call" and item.call_id:
            call = tool_call(item)
            if last_response == item.response_id is not None and out and out[-1]["role"] == "assistant":
                out[-1].setdefault("tool_calls", []).append(call)
            else:
                out.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif item.type == "function_call_output" and item.call_id:
            out.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output or ""})
        last_response = item.response_id
    return out


def said_of(item: Item, *, heard_ms: float | None = None) -> str:
    """What an answer said, as far as it was heard.

    Args:
        item: the answer.
        heard_ms: how much of it was heard; None: what the server was told, or all.
    """
    heard = item.truncated_ms if heard_ms is None else heard_ms
    if heard is None:
        return item.text
    length = sum(item.received_ms(n) for n in item.parts)
    cut = heard_text(item.text, heard_ms=heard, length_ms=length)
    return cut if cut == item.text or not cut else cut + CUT_OFF


def tool_call(item: Item) -> dict[str, Any]:
    """A function call in the shape of chat completions."""
    return {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name or "", "arguments": item.arguments},
    }


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = [part for part in content if isinstance(part, Mapping)]
    return "\n".join(
        str(part["text"]) if isinstance(part.get("text"), str) else f"[{part.get('type')}]" for part in parts
    )
