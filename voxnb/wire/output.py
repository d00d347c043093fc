"""The items of one answer, put together from what a stream says of them, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from voxnb.wire.answer import text_of
from voxnb.wire.choice import copied, expect

PARTS: Final = ("content", "summary")
"""Keys of an item that hold lists of parts."""

_EMPTY: Final[tuple[Any, ...]] = (None, "", [])


class OutputItem:
    """One item so far.

    Attributes:
        fields: what was said of it whole; parts and texts that still grow are kept apart.
        closed: whether the server said that it is done.
    """

    __slots__ = ("_parts", "_pieces", "closed", "fields")

    def __init__(self, kind: str = "message") -> None:
        self.fields: dict[str, Any] = {"type": kind}
        self.closed = False
        self._parts: dict[tuple[str, int], dict[str, Any]] = {}
        self._pieces: dict[tuple[str, int], list[str]] = {}

    def update(self, item: Mapping[str, Any]) -> None:
        """Take the item as the server says it whole; what it leaves empty stays as it was."""
        for key, value in item.items():
            if key in PARTS and type(value) is list:
                for index, part in enumerate(value):
                    if type(part) is dict:
                        self.put(key, index, part)
                if value:
                    self._cut(key, len(value))
                self.fields.setdefault(key, [])
            elif value not in _EMPTY or key not in self.fields:
                self.fields[key] = copied(value)
                if value not in _EMPTY:
                    self._pieces.pop((key, 0), None)

    def put(self, field: str, index: int, part: Mapping[str, Any]) -> None:
        """Take a part as the server says it whole; an empty text leaves the pieces as they are."""
        known = self._parts.setdefault((field, index), {})
        known.update({k: copied(v) for k, v in part.items() if v not in _EMPTY or k not in known})
        text = part.get(_text_key(known))
        if text not in _EMPTY:
            self._pieces[field, index] = [text_of(text)]

    def pieces(self, field: str, index: int, kind: str) -> list[str]:
        """The growing text of a part (or of a key, where `kind` is ``""``)."""
        found = self._pieces.get((field, index))
        if found is None:
            found = self._pieces[field, index] = []
            if kind:
                self._parts.setdefault((field, index), {"type": kind})
            elif text := text_of(self.fields.get(field)):
                found.append(text)
        return found

    def set_text(self, field: str, index: int, kind: str, text: str) -> None:
        """Take a whole text; an empty one leaves what came."""
        pieces = self.pieces(field, index, kind)
        if text or not pieces:
            pieces[:] = [text]

    def note(self, field: str, index: int, kind: str, key: str, entries: list[Any]) -> None:
        """Add entries to a list of a part: annotations, token probabilities."""
        part = self._parts.setdefault((field, index), {"type": kind})
        known = part.get(key)
        if not isinstance(known, list):
            known = part[key] = []
        known += copied(entries)

    def to_dict(self) -> dict[str, Any]:
        """The item so far, shared with nobody."""
        out: dict[str, Any] = {k: copied(v) for k, v in self.fields.items()}
        for (field, _), part in sorted(self._parts.items(), key=lambda pair: pair[0]):
            known = out.get(field)
            if not isinstance(known, list):
                known = out[field] = []
            known.append(copied(part))
        places = sorted(self._parts)
        for (field, index), pieces in self._pieces.items():
            if len(pieces) > 1:
                pieces[:] = ["".join(pieces)]
            text = pieces[0] if pieces else ""
            if (field, index) in self._parts:
                at = [i for f, i in places if f == field].index(index)
                part = out[field][at]
                part[_text_key(part)] = text
                if part.get("type") == "output_text":
                    part.setdefault("annotations", [])
            else:
                out[field] = text
        return out

    def _cut(self, field: str, length: int) -> None:
        """Forget parts beyond the list that the server says is all."""
        for key in [k for k in self._parts if k[0] == field and k[1] >= length]:
            del self._parts[key]
            self._pieces.pop(key, None)


class Output:
    """All items of an answer, by their place."""

    def __init__(self) -> None:
        self._items: dict[int, OutputItem] = {}
        self._by_id: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._items)

    def __iter__(self) -> Iterator[OutputItem]:
        return (self._items[index] for index in sorted(self._items))

    def at(self, index: int | None, identity: str, kind: str) -> OutputItem:
        """The item at a place, or of an id where a server tells no place; made where it is new.

        Args:
            index: its place, or None.
            identity: its id, or ``""``.
            kind: its type, where it is new.
        """
        if index is None:
            last = max(self._items, default=0)
            index = self._by_id.get(identity, last if not identity or last not in self._items else last + 1)
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = OutputItem(kind)
        if identity:
            self._by_id.setdefault(identity, index)
            item.fields.setdefault("id", identity)
        return item

    def replace(self, items: list[dict[str, Any]]) -> None:
        """Take the whole list as the server says it at the end; items of the same id (or place and type) go on."""
        old = dict(self._items)
        by_id = {i.fields["id"]: i for i in old.values() if isinstance(i.fields.get("id"), str)}
        self._items, self._by_id = {}, {}
        for index, given in enumerate(items):
            kind, identity = given.get("type"), given.get("id")
            known = by_id.pop(identity, None) if isinstance(identity, str) else None
            if known is None and index in old and "id" not in old[index].fields:
                known = old[index]
            if known is None or known.fields.get("type") != kind:
                known = OutputItem(str(kind))
            known.update(given)
            known.closed = True
            self._items[index] = known
            if isinstance(identity, str):
                self._by_id[identity] = index

    def so_far(self) -> dict[int, tuple[dict[str, Any], bool]]:
        """Place → the item so far, and whether it is done."""
        return {index: (item.to_dict(), item.closed) for index, item in self._items.items()}

    def to_list(self) -> list[dict[str, Any]]:
        """All items so far, shared with nobody."""
        return [item.to_dict() for item in self]


def items_in(output: Any) -> list[dict[str, Any]]:
    """A response's output, looked at.

    Raises:
        ValueError: it is no list of items.
    """
    expect(output, list, "output", of="a response")
    for item in output:
        expect(item, dict, "an output item", of="a response")
    return list(output)


def place_of(event: Mapping[str, Any], key: str) -> int | None:
    """The place that an event names, or None where it names none.

    Raises:
        ValueError: it is none.
    """
    index: Any = event.get(key)
    if index is None:
        return None
    expect(index, int, key, of="a response's event")
    if index < 0:
        raise ValueError(f"{key} of a response's event is {index}; they are counted from 0")
    return int(index)


def _text_key(part: Mapping[str, Any]) -> str:
    return "refusal" if part.get("type") == "refusal" else "text"
