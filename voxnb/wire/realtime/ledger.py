"""The items of a session: what was announced, what is whole, what was cut or taken out, and in which order they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voxnb.wire.realtime import field as read
from voxnb.wire.realtime.item import Item, Part

ROOT = "root"
"""What stands before the first item."""


class ItemLedger:
    """The items of one session, by id and in order."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._reserved: dict[str, None] = {}
        self._offered: dict[str, None] = {}
        self._unconfirmed: dict[str, Mapping[str, Any]] = {}

    def __iter__(self) -> Iterator[Item]:
        """The conversation: what is in it, in order."""
        return (self._items[item_id] for item_id in self._order)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def expected(self) -> int:
        """Items with an id of the client's that the server has not added yet."""
        return len(self._offered)

    @property
    def unconfirmed(self) -> tuple[Mapping[str, Any], ...]:
        """The commands, oldest first, to create items that the server has neither added nor refused."""
        return tuple(self._unconfirmed.values())

    @property
    def last(self) -> Item | None:
        """The newest item of the conversation."""
        return self._items[self._order[-1]] if self._order else None

    def get(self, item_id: Any) -> Item | None:
        """An item, also one that was taken out; None where the id is unknown."""
        return self._items.get(item_id) if isinstance(item_id, str) else None

    # -- what the client does -----------------------------------------------------------------

    def offered(self, command: Mapping[str, Any]) -> None:
        """The client creates an item; with an id of its own, that is one the server has no audio of."""
        self._unconfirmed[command["event_id"]] = command
        item_id = command["item"].get("id")
        if isinstance(item_id, str):
            self._offered[item_id] = None

    def withdrawn(self, command: Mapping[str, Any]) -> None:
        """The server refused to create it."""
        self._unconfirmed.pop(command["event_id"], None)
        self._offered.pop(command["item"].get("id"), None)

    def not_cut(self, item_id: Any, real_ms: int | None) -> None:
        """The server refused to cut an item beyond its end: all of it counts as heard."""
        item = self.get(item_id)
        if item is not None and real_ms is not None:
            item.truncated_ms = real_ms

    # -- what the server says -----------------------------------------------------------------

    def reserve(self, event: Mapping[str, Any], item_id: str) -> None:
        """The user began to speak what will be this item."""
        if item_id in self._items:
            raise read.wrong(event, f"for {item_id!r}, which is in the conversation")
        self._reserved[item_id] = None

    def commit(self, event: Mapping[str, Any], problems: list[str]) -> None:
        """What was spoken becomes an item."""
        item_id = read.text(event, "item_id")
        previous = read.optional_text(event, "previous_item_id")
        if item_id in self._items:
            raise read.wrong(event, f"for {item_id!r}, which is in the conversation")
        self._reserved.pop(item_id, None)
        self._items[item_id] = Item(item_id, role="user", parts={0: Part("input_audio")})
        self._note_place(event["type"], previous, problems)

    def output(self, event: Mapping[str, Any], *, response_id: str) -> Item:
        """A response begins an item."""
        item_id = read.id_of(event, "item")
        known = self._items.get(item_id)
        if known is not None and (known.response_id is not None or known.deleted or known.done):
            raise read.wrong(event, f"for {item_id!r}, which is there already")
        item = _fill(known or Item(item_id), event["item"])
        item.response_id = response_id
        self._items[item_id] = item
        return item

    def take(self, event: Mapping[str, Any], problems: list[str]) -> None:
        """One of the ``conversation.item`` events."""
        kind = event["type"].removeprefix("conversation.item.")
        if kind == "added":
            self._added(event, problems)
        elif kind == "done":
            self._done(event, problems)
        elif kind == "retrieved":
            read.id_of(event, "item")
        elif kind == "truncated":
            self._truncated(event, problems)
        elif kind == "deleted":
            item = self._in_conversation(event)
            item.deleted = True
            self._order.remove(item.id)
        elif kind.startswith("input_audio_transcription."):
            self._transcribed(event, kind.rpartition(".")[2], problems)

    def _added(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item_id = read.id_of(event, "item")
        previous = read.optional_text(event, "previous_item_id")
        known = self._items.get(item_id)
        if known is not None and (known.added or known.deleted):
            raise read.wrong(event, f"for {item_id!r}, which {'was deleted' if known.deleted else 'is there already'}")
        item = _fill(known or Item(item_id), event["item"])
        if known is None:
            self._confirm(item)
        item.added = True
        item.is_restored = item_id in self._offered
        self._offered.pop(item_id, None)
        self._items[item_id] = item
        self._note_place(event["type"], previous, problems)
        if previous == ROOT:
            self._order.insert(0, item_id)
        elif previous in self._order:
            self._order.insert(self._order.index(previous) + 1, item_id)
        else:
            self._order.append(item_id)

    def _confirm(self, item: Item) -> None:
        """An item that neither the user's voice nor a response made: who asked for it has it."""
        for event_id, command in self._unconfirmed.items():
            asked = command["item"]
            is_alike = asked.get("type") == item.type and item.role in (asked.get("role"), None)
            if asked.get("id") == item.id or (asked.get("id") is None and is_alike):
                del self._unconfirmed[event_id]
                return

    def _note_place(self, kind: str, previous: str | None, problems: list[str]) -> None:
        if previous is None and self._order:
            problems.append(f"{kind} without previous_item_id")
        elif previous not in (None, ROOT) and previous not in self._items:
            problems.append(f"{kind} after {previous!r}, which was never there")

    def _done(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item = self.get(read.id_of(event, "item"))
        if item is None or not item.added:
            raise read.wrong(event, "for an item that was never added")
        if item.deleted:
            problems.append("conversation.item.done after it was deleted")
            return
        _fill(item, event["item"])
        item.done = True

    def _truncated(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item = self._in_conversation(event)
        content_index, end_ms = read.whole(event, "content_index"), read.whole(event, "audio_end_ms")
        if item.role != "assistant":
            raise read.wrong(event, f"for {item.id!r}, which the model did not say")
        received_ms = item.received_ms(content_index)
        if end_ms > received_ms and not item.is_restored:
            problems.append(f"conversation.item.truncated at {end_ms} ms of {received_ms}")
        item.truncated_ms = end_ms

    def _in_conversation(self, event: Mapping[str, Any]) -> Item:
        item = self.get(read.text(event, "item_id"))
        if item is None or not item.added:
            raise read.wrong(event, f"for {event['item_id']!r}, which is not in the conversation")
        if item.deleted:
            raise read.wrong(event, f"for {item.id!r}, which was deleted")
        return item

    def _transcribed(self, event: Mapping[str, Any], what: str, problems: list[str]) -> None:
        item_id = read.text(event, "item_id")
        item = self._items.get(item_id)
        if item is None and item_id in self._reserved:
            return  # models that transcribe while one speaks name the item before it is committed
        if item is None:
            raise read.wrong(event, f"for {item_id!r}, which nobody spoke")
        if item.role == "assistant":
            raise read.wrong(event, f"for {item_id!r}, which the user did not speak")
        if item.transcription in ("completed", "failed"):
            raise read.wrong(event, f"for {item_id!r}, whose transcription has ended")
        index = read.whole(event, "content_index") if event.get("content_index") is not None else 0
        if what == "completed":
            transcript = read.text(event, "transcript", empty=True)
            item.parts.setdefault(index, Part("input_audio")).text = transcript
            item.transcription = "completed"
        elif what == "failed":
            item.transcription = "failed"
        elif what == "delta":
            delta = read.optional_text(event, "delta") or ""
            item.parts.setdefault(index, Part("input_audio")).text += delta
            item.transcription = "running"
        if item.deleted:
            problems.append(f"{event['type']} after the item was deleted")


def _fill(item: Item, said: Mapping[str, Any]) -> Item:
    """Take over what an item object tells; it never makes shorter what is known."""
    item.type = _text_of(said, "type") or item.type
    item.role = _text_of(said, "role") or item.role
    item.name = _text_of(said, "name") or item.name
    item.call_id = _text_of(said, "call_id") or item.call_id
    item.arguments = _text_of(said, "arguments") or item.arguments
    item.output = _text_of(said, "output") or item.output
    content = said.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, Mapping):
            continue
        known = item.parts.setdefault(index, Part(_text_of(part, "type") or ""))
        known.kind = _text_of(part, "type") or known.kind
        told = _text_of(part, "text") or _text_of(part, "transcript") or ""
        if len(told) > len(known.text):
            known.text = told
    return item


def _text_of(said: Mapping[str, Any], name: str) -> str | None:
    value = said.get(name)
    return value if isinstance(value, str) else None
