"""A conversation as a reader found it, before it is checked; and where the reader leaves its remarks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.store.report import Remarks

MAX_ITEM_BYTES: Final = 64 << 20
"""A line (or one conversation of a JSON array) that is longer is passed over without being held in memory."""


@dataclass(slots=True)
class Draft:
    """One conversation of a foreign source.

    Attributes:
        place: where it stands, for remarks: ``line 3``.
        messages: the API's dicts, not checked yet.
        key: the source's own id of it, or None: then what it says identifies it.
        key_is_global: no other conversation anywhere has this key (a UUID); else it only counts together with the
            first turn, because every table numbers its conversations from 1.
        name: what to call it, or None.
        title: as the source has it.
        model: of its requests, or None.
        metadata: what else the source says of it; must be what JSON can hold.
        created_at: UNIX seconds, or None.
        times: UNIX seconds of each message or None; empty where none is known.
        facts: index of a message → what is known of the turn it belongs to (``model state error finish_reason
            duration_ms``).
        begins: indexes of messages at which a turn begins, also where that cannot be seen: one that only answers.
        each_is_a_turn: nobody answers anybody: every message is a turn of its own.
    """

    place: str
    messages: Sequence[Any]
    key: str | None = None
    key_is_global: bool = False
    name: str | None = None
    title: str | None = None
    model: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: float | None = None
    times: Sequence[float | None] = ()
    facts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    begins: Collection[int] = ()
    each_is_a_turn: bool = False


@dataclass(slots=True)
class Reading:
    """What the parts of one import share.

    Attributes:
        format: as it is read.
        source: the file's path, or what was given.
        stem: conversations without a name are called after it.
        skipped: what is not imported.
        remarks: what is imported otherwise than it stands, or looks strange.
        done: how far it is, in bytes or rows, for the bar.
        max_item_bytes: see `MAX_ITEM_BYTES`.
    """

    format: str
    source: str
    stem: str
    skipped: Remarks = field(default_factory=Remarks)
    remarks: Remarks = field(default_factory=Remarks)
    done: int = 0
    max_item_bytes: int = MAX_ITEM_BYTES


@contextmanager
def shaped(reading: Reading, place: str) -> Iterator[None]:
    """Note a value that is built otherwise than its format says, and go on with the next.

    Readers take what other programs wrote apart without a check of every step: whatever fails there, the value is odd.
    """
    try:
        yield
    except (TypeError, KeyError, AttributeError, ValueError, IndexError, RecursionError, OverflowError) as error:
        reading.skipped.add(
            f"not built as {reading.format} builds it", f"{place}: {type(error).__name__}: {error}"[:200]
        )
