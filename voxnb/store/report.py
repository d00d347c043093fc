"""What an import or an export did, and what it could not do: values that say it in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

EXAMPLES: Final = 8
"""Of each kind of remark so many places are named; the others are counted."""

REASONS: Final = 200
"""So many kinds of remarks are told apart; a source may invent fields without end."""

NAMES: Final = 100
"""So many names of imported conversations are kept."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was left out, changed or noticed.

    Attributes:
        reason: what, in words; the same for every place.
        count: how often.
        places: where, at most `EXAMPLES` of them: line numbers, or conversations and turns.
    """

    reason: str
    count: int
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = "; ".join(self.places)
        more = f"; and {self.count - len(self.places):,} more" if self.places and self.count > len(self.places) else ""
        return f"{self.count:,} × {self.reason}" + (f" ({shown}{more})" if shown else "")


class Remarks:
    """Gathers remarks while something runs, in bounded memory."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}

    def add(self, reason: str, place: str = "", *, count: int = 1) -> None:
        """Note one more of a kind; beyond `REASONS` kinds, as one of the further ones."""
        if count <= 0:
            return
        if reason not in self._counts and len(self._counts) >= REASONS:
            reason, place = "of further kinds", f"{reason} ({place})"[:200]
        self._counts[reason] = self._counts.get(reason, 0) + count
        places = self._places.setdefault(reason, [])
        if place and len(places) < EXAMPLES:
            places.append(place)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def all(self) -> tuple[Remark, ...]:
        """Every remark, in the order in which its kind was first noted."""
        return tuple(
            Remark(reason, count, tuple(self._places.get(reason, ()))) for reason, count in self._counts.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written, and what the format has no place for. Usable wherever a path is (`os.fspath`, `open`).

    Attributes:
        path: the file.
        format: ``jsonl openai csv parquet md html``.
        conversations: how many were written.
        turns: likewise.
        messages: likewise; instructions are not counted.
        left_out: what the conversations hold and the file does not.
    """

    path: Path
    format: str
    conversations: int
    turns: int
    messages: int
    left_out: tuple[Remark, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        done = (
            f"exported {counted(self.conversations, 'conversation')}, {counted(self.turns, 'turn')}, "
            f"{counted(self.messages, 'message')} to {str(self.path)!r} ({self.format})"
        )
        return _listed(done, ("not carried", self.left_out))

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """The same for machines: plain values that JSON can hold."""
        return {
            "path": str(self.path), "format": self.format, "conversations": self.conversations, "turns": self.turns,
            "messages": self.messages, "left_out": _plain(self.left_out),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import added to the store, what was there already, and what could not be taken.

    Attributes:
        source: the file's path, or what was given.
        format: as it was read.
        conversations: how many were added.
        turns: likewise, those that were added to conversations already there included.
        messages: likewise.
        known: conversations that were in the store already and stayed as they are.
        extended: conversations that were there and got the turns that came since.
        skipped: what was not imported, and why.
        remarks: what was imported otherwise than it stood in the source, or looked strange.
        names: names of the added conversations, at most `NAMES` of them.
    """

    source: str
    format: str
    conversations: int
    turns: int
    messages: int
    known: int = 0
    extended: int = 0
    skipped: tuple[Remark, ...] = ()
    remarks: tuple[Remark, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        done = (
            f"imported {counted(self.conversations, 'conversation')}, {counted(self.turns, 'turn')}, "
            f"{counted(self.messages, 'message')} from {self.source!r} ({self.format})"
        )
        if self.known:
            done += f"; {counted(self.known, 'conversation')} known already"
        if self.extended:
            done += f"; {counted(self.extended, 'conversation')} extended"
        return _listed(done, ("skipped", self.skipped), ("remarks", self.remarks))

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """The same for machines: plain values that JSON can hold."""
        return {
            "source": self.source, "format": self.format, "conversations": self.conversations, "turns": self.turns,
            "messages": self.messages, "known": self.known, "extended": self.extended,
            "skipped": _plain(self.skipped), "remarks": _plain(self.remarks), "names": list(self.names),
        }  # fmt: skip


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "turn"), counted(1200, "turn"), counted(2, "summary")
    ('1 turn', '1,200 turns', '2 summaries')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{count:,} {noun}s"


def _listed(first: str, *lists: tuple[str, tuple[Remark, ...]]) -> str:
    lines = [first]
    for title, remarks in lists:
        if remarks:
            lines += [f"{title}:", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines)


def _plain(remarks: tuple[Remark, ...]) -> list[Mapping[str, Any]]:
    return [{"reason": r.reason, "count": r.count, "places": list(r.places)} for r in remarks]
