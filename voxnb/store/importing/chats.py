"""Conversations as message lists: OpenAI's chat and fine-tuning JSONL, LangChain's, ShareGPT's; one per line or array item.

A line is ``{"messages": […], …}`` (also ``conversations``, ShareGPT's word), or the bare list. ``tools`` and whatever else
stands beside the messages goes into the conversation's metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.store.importing.clock import seconds_of
from voxnb.store.importing.draft import Draft, Reading, shaped
from voxnb.store.importing.lines import json_items, json_lines, opened, stands_in_lines
from voxnb.store.importing.spoken import facts_of, is_langchain, is_removal, spoken

LISTS: Final = ("messages", "conversations", "conversation", "history")
"""Keys under which a message list stands."""

KEYS: Final = ("id", "conversation_id", "session_id", "thread_id", "uuid")
REMOVAL: Final = "orders to take a message out again (LangChain's RemoveMessage)"
NO_FIELD: Final = "{} of messages: the API has no place for it"
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
        loose = _Taken(reading, roles)
        for place, value in found:
            draft = None
            with shaped(reading, place):
                if isinstance(value, Mapping) and ("role" in value or is_langchain(value) or "from" in value):
                    loose.add(value, place)
                else:
                    draft = as_draft(value, place, reading, roles=roles)
            if draft is not None:
                yield draft
        if loose.messages:
            yield loose.draft("the whole file", name=reading.stem)


def list_of(value: Mapping[str, Any]) -> str | None:
    """The key under which a value has its message list."""
    return next((key for key in LISTS if isinstance(value.get(key), list)), None)


def as_draft(value: Any, place: str, reading: Reading, *, roles: Mapping[str, str] | None = None) -> Draft | None:
    """A value as a draft; noted and None where it has no message list."""
    if isinstance(value, list):
        return _Taken(reading, roles).draft(place, value)
    key = list_of(value) if isinstance(value, Mapping) else None
    if key is None:
        reading.skipped.add(NO_LIST, place)
        return None
    items = value[key]
    # The shape that most lines have needs no look at each message.
    plain = roles is None and all(type(item) is dict and item.get("role") in PLAIN for item in items)
    draft = Draft(place, items) if plain else _Taken(reading, roles).draft(place, items)
    if len(value) > 1:
        _beside(draft, value, key)
    if any(type(item) is dict and ("created_at" in item or "timestamp" in item) for item in items):
        _take_times(draft)
    return draft


class _Taken:
    """Messages in whatever shape, taken one after another; what has no place in one is noted."""

    def __init__(self, reading: Reading, roles: Mapping[str, str] | None) -> None:
        self._reading = reading
        self._roles = roles
        self.messages: list[Any] = []
        self.facts: dict[int, dict[str, Any]] = {}

    def add(self, item: Any, place: str) -> None:
        """The next message."""
        if is_removal(item):
            self._reading.skipped.add(REMOVAL, place)
            return
        if found := facts_of(item):
            self.facts[len(self.messages)] = found
        self.messages.append(
            spoken(item, self._roles, lambda name: self._reading.skipped.add(NO_FIELD.format(name), place))
        )

    def draft(self, place: str, items: Iterable[Any] = (), *, name: str | None = None) -> Draft:
        """The conversation, with these messages at its end."""
        for n, item in enumerate(items):
            self.add(item, f"{place}, message {n}")
        models = (facts["model"] for _, facts in sorted(self.facts.items(), reverse=True) if "model" in facts)
        return Draft(place, self.messages, name=name, facts=self.facts, model=next(models, None))


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
