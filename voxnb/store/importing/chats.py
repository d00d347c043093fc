"""Conversations as message lists: OpenAI's chat and fine-tuning JSONL, LangChain's, ShareGPT's; one per line or array item.

A line is ``{"messages": […], …}`` (also ``conversations``, ShareGPT's word), or the bare list. ``tools`` and whatever else
stands beside the messages goes into the conversation's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.store.importing.clock import seconds_of
from voxnb.store.importing.draft import Draft, Reading, shaped
from voxnb.store.importing.lines import json_items, json_lines, opened, stands_in_lines
from voxnb.store.importing.spoken import is_langchain, spoken

LISTS: Final = ("messages", "conversations", "conversation", "history")
"""Keys under which a message list stands."""

KEYS: Final = ("id", "conversation_id", "session_id", "thread_id", "uuid")
NO_LIST: Final = 'no message list (expected {"messages": […]})'


def drafts(path: Path, reading: Reading, *, roles: Mapping[str, str] | None) -> Iterator[Draft]:
    """Drafts of a file: JSON Lines, or one array (of conversations, or of one conversation's messages)."""
    in_lines = stands_in_lines(path, reading.max_item_bytes)
    with opened(path) as file:
        found: Iterator[tuple[str, Any]] = (
            ((f"line {number}", value) for number, value in json_lines(file, reading))
            if in_lines
            else json_items(file, reading, noun="item")
        )
        loose: list[Any] = []
        for place, value in found:
            draft = None
            with shaped(reading, place):
                if isinstance(value, Mapping) and ("role" in value or is_langchain(value) or "from" in value):
                    loose.append(spoken(value, roles))
                else:
                    draft = as_draft(value, place, reading, roles=roles)
            if draft is not None:
                yield draft
        if loose:
            yield Draft("the whole file", loose, name=reading.stem)


def list_of(value: Mapping[str, Any]) -> str | None:
    """The key under which a value has its message list."""
    return next((key for key in LISTS if isinstance(value.get(key), list)), None)


def as_draft(value: Any, place: str, reading: Reading, *, roles: Mapping[str, str] | None = None) -> Draft | None:
    """A value as a draft; noted and None where it has no message list."""
    if isinstance(value, list):
        return Draft(place, [spoken(item, roles) for item in value])
    key = list_of(value) if isinstance(value, Mapping) else None
    if key is None:
        reading.skipped.add(NO_LIST, place)
        return None
    items = value[key]
    # The shape that most lines have needs no look at each message.
    plain = roles is None and all(type(item) is dict and item.get("role") in PLAIN for item in items)
    draft = Draft(place, items if plain else [spoken(item, roles) for item in items])
    if len(value) > 1:
        _beside(draft, value, key)
    if any(type(item) is dict and ("created_at" in item or "timestamp" in item) for item in items):
        _take_times(draft)
    return draft


PLAIN: Final = frozenset({"system", "user", "assistant", "tool", "developer"})


def _beside(draft: Draft, value: Mapping[str, Any], key: str) -> None:
    metadata = {name: held for name, held in value.items() if name != key}
    for name in KEYS:
        if isinstance(metadata.get(name), str | int):
            draft.key = str(metadata.pop(name))
            break
    for name in ("title", "name"):
        if isinstance(metadata.get(name), str) and draft.title is None:
            draft.title = metadata.pop(name)
    if isinstance(metadata.get("model"), str):
        draft.model = metadata.pop("model")
    for name in ("created_at", "create_time", "created"):
        if draft.created_at is None and (at := seconds_of(metadata.get(name))) is not None:
            draft.created_at = at
            metadata.pop(name)
    if isinstance(inner := metadata.get("metadata"), Mapping):
        metadata = {**metadata, **inner}
        del metadata["metadata"]
    draft.metadata = metadata


def _take_times(draft: Draft) -> None:
    """Times that stand in the messages: they are facts of the turn, not part of what was said."""
    held = [dict(item) if isinstance(item, Mapping) else item for item in draft.messages]
    times: list[float | None] = []
    for item in held:
        at = None
        for name in ("created_at", "timestamp"):
            if isinstance(item, dict) and name in item:
                found = seconds_of(item.pop(name))
                at = at if at is not None else found
        times.append(at)
    draft.messages, draft.times = held, times
