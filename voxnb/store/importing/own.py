"""Our own JSON Lines back into the store, exactly: ids, turns, states, summaries with coverage, pins, calls, events, notes.

Rule 1: ids are global. What has an id that is there is not written again: a turn that another conversation holds is
shared with it, as a fork shares its source's turns; a conversation that is there is known.
Rule 2: a conversation whose lines are not all there, or contradict each other, is left out whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from voxnb.store.importing.draft import Reading
from voxnb.store.importing.lines import json_lines
from voxnb.store.importing.pipeline import BATCH_CHARS, BATCH_MESSAGES
from voxnb.store.importing.restoring import BrokenError, Restoring, Row, Whole
from voxnb.store.importing.writing import Names, Outcome

NEWEST: Final = 1
"""The version of the form that this code reads."""

KINDS: Final = ("turn", "summary", "call", "event", "media", "note")
INCOMPLETE: Final = "conversations whose lines are not all there: the file was cut off, or lines of it were left out"
ODD: Final = (
    BrokenError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError,
    sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError,
)  # fmt: skip
"""What lines that were not written by us may raise; what the disk raises is none of it."""

BROKEN: Final = "conversations whose lines contradict each other"


@dataclass(slots=True)
class OwnBatch:
    """Whole conversations for one transaction."""

    found: list[Whole]
    names: Names

    def write(self, c: sqlite3.Connection) -> Outcome:
        """Write every conversation of the batch; called inside a transaction."""
        outcome = Outcome()
        self.names.pending.clear()
        for whole in self.found:
            c.execute("SAVEPOINT conversation")
            try:
                Restoring(c, whole, self.names, outcome).write()
            except ODD as error:
                c.execute("ROLLBACK TO conversation")
                said = str(error) if isinstance(error, BrokenError) else f"{type(error).__name__}: {error}"
                outcome.skipped.append((BROKEN, f"line {whole.line}, {whole.name}: {said}"[:200]))
            c.execute("RELEASE conversation")
        return outcome


def own_batches(file: IO[bytes], reading: Reading) -> Iterator[OwnBatch]:
    """The conversations of a file in portions for one transaction each."""
    names = Names()
    held: list[Whole] = []
    for whole in _wholes(file, reading):
        held.append(whole)
        if sum(w.messages for w in held) >= BATCH_MESSAGES or sum(w.chars for w in held) >= BATCH_CHARS:
            yield OwnBatch(held, names)
            held = []
    if held:
        yield OwnBatch(held, names)


def _wholes(file: IO[bytes], reading: Reading) -> Iterator[Whole]:
    whole: Whole | None = None
    for number, row in json_lines(file, reading):
        kind = row.get("type") if isinstance(row, dict) else None
        if kind == "conversation":
            if whole is not None and _is_complete(whole, reading):
                yield whole
            whole = _begun(row, number, reading)
        elif kind not in KINDS:
            reading.skipped.add("lines of an unknown type", f"line {number}: {kind!r}")
        elif whole is None:
            reading.skipped.add("lines that belong to no conversation that is read", f"line {number}: {kind}")
        else:
            whole.add(row)
    if whole is not None and _is_complete(whole, reading):
        yield whole


def _begun(row: Row, number: int, reading: Reading) -> Whole | None:
    if row.get("voxnb") != NEWEST:
        reading.skipped.add(
            "conversations in a form that this voxnb does not know; update voxnb",
            f"line {number}: {row.get('voxnb')!r}",
        )
        return None
    return Whole(number, row)


def _is_complete(whole: Whole, reading: Reading) -> bool:
    said = whole.head.get("turn_count")
    if len(whole.turns) == said and _has_summaries(whole):
        return True
    reading.skipped.add(INCOMPLETE, f"line {whole.line}, {whole.name}: {len(whole.turns)} of {said} turns"[:200])
    return False


def _has_summaries(whole: Whole) -> bool:
    held = [summary.get("id") for summary in whole.summaries]
    wanted = [whole.head.get("head_id"), *(summary.get("previous_id") for summary in whole.summaries)]
    return all(name is None or name in held for name in wanted)
