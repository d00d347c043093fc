"""An answer's items as one chat message: what the memory, the search and every other room know a reply as."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from voxnb.wire.choice import copied
from voxnb.wire.item import OUTPUTS, call_id_of, kind_of
from voxnb.wire.parts import TEXTS

BETWEEN_MESSAGES: Final = "\n\n"
"""Between the texts of two messages of one answer (a comment before a search, say, and the answer after it)."""

_OFFSETS: Final = ("start_index", "end_index")


def text_of(value: Any) -> str:
    """What `value` says where a text is expected: itself, nothing, or its JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def message_of(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The assistant message that an answer's items make, without the items themselves.

    ``content`` holds the text of every message, parts joined and messages set apart by an empty line;
    ``tool_calls`` the calls that the caller must answer, those of another kind than function and custom under their
    own type; ``reasoning_content`` the reasoning as text, or its summary; ``annotations`` those of all texts, their
    offsets counted in ``content``.

    >>> message_of([{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}])["tool_calls"]
    [{'id': 'c1', 'type': 'function', 'function': {'name': 'f', 'arguments': '{}'}}]
    """
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    annotations: list[dict[str, Any]] = []
    length = 0
    for item in items:
        kind = kind_of(item)
        if kind == "message":
            text, refusal, notes = _said(item, length + (len(BETWEEN_MESSAGES) if texts else 0))
            if text:
                length += len(text) + (len(BETWEEN_MESSAGES) if texts else 0)
                texts.append(text)
            if refusal is not None:
                refusals.append(refusal)
            annotations += notes
        elif kind == "reasoning":
            thoughts += _thoughts(item)
    message: dict[str, Any] = {"role": "assistant", "content": BETWEEN_MESSAGES.join(texts) or None}
    if refusals:
        message["refusal"] = BETWEEN_MESSAGES.join(refusals)
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if calls := [call for item in open_calls(items) if (call := as_tool_call(item))]:
        message["tool_calls"] = calls
    if annotations:
        message["annotations"] = annotations
    return message


def last_text(items: Iterable[Mapping[str, Any]]) -> str:
    """The text of the last message that has one: where an answer in JSON stands."""
    found = ""
    for item in items:
        if kind_of(item) == "message":
            found = _said(item, 0)[0] or found
    return found


def logprobs_of(items: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """The token probabilities of all texts, in order."""
    for item in items:
        parts = item.get("content")
        for part in parts if kind_of(item) == "message" and isinstance(parts, list) else ():
            if isinstance(part, Mapping) and isinstance(part.get("logprobs"), list):
                yield from part["logprobs"]


def open_calls(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The calls among the items that no other item of the same answer answers."""
    answered = {call_id_of(item) for item in items if item.get("type") in OUTPUTS.values()}
    return [
        item
        for item in items
        if item.get("type") in OUTPUTS
        and call_id_of(item) not in answered
        and not (item["type"] == "tool_search_call" and item.get("execution") != "client")
    ]


def as_tool_call(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """A call as a chat message holds it, or None where it has no id to answer it by."""
    kind, identity = str(item.get("type")), call_id_of(item) or item.get("id")
    if not isinstance(identity, str) or not identity:
        return None
    if kind in ("function_call", "custom_tool_call"):
        name, field = ("function", "arguments") if kind == "function_call" else ("custom", "input")
        return {
            "id": identity,
            "type": name,
            name: {"name": text_of(item.get("name")), field: text_of(item.get(field))},
        }
    inner = {k: copied(v) for k, v in item.items() if k not in ("type", "id", "call_id", "status") and v is not None}
    return {"id": identity, "type": kind, kind: inner}


def _said(item: Mapping[str, Any], offset: int) -> tuple[str, str | None, list[dict[str, Any]]]:
    """Text, refusal and annotations of one message."""
    content = item.get("content")
    if isinstance(content, str):
        return content, None, []
    texts: list[str] = []
    refusal: str | None = None
    annotations = []
    for part in content if isinstance(content, list | tuple) else ():
        if not isinstance(part, Mapping):
            continue
        if part.get("type") == "refusal":
            refusal = (refusal or "") + text_of(part.get("refusal"))
        elif part.get("type") in TEXTS:
            given = part.get("annotations")
            for note in given if isinstance(given, list) else ():
                if isinstance(note, Mapping):
                    moved = {k: note[k] + offset for k in _OFFSETS if type(note.get(k)) is int}
                    annotations.append({**copied(dict(note)), **moved})
            text = text_of(part.get("text"))
            offset += len(text)
            texts.append(text)
    return "".join(texts), refusal, annotations


def _thoughts(item: Mapping[str, Any]) -> list[str]:
    for key in ("content", "summary"):
        given = item.get(key)
        parts = given if isinstance(given, list | tuple) else ()
        found = [p["text"] for p in parts if isinstance(p, Mapping) and isinstance(p.get("text"), str) and p["text"]]
        if found:
            return found
    return []
