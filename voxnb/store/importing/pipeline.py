"""The import itself: read, check, write; one batch is read while the one before it is written.

Rule 1: a conversation is in a batch whole, and a batch is a transaction: nothing is ever half there.
Rule 2: at most `AHEAD` batches wait for the writer, so memory is bounded by a few batches and the longest conversation.
Rule 3: whatever ends an import early, an interrupt too: batches that have not begun are given up, the running one is waited
for, and the error says what had been imported. Importing again goes on from there, because what is stored is known.
"""

from __future__ import annotations

import gc
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final, Protocol

from voxnb.store.database import Database
from voxnb.store.importing.draft import Draft, Reading
from voxnb.store.importing.ready import make_ready
from voxnb.store.importing.writing import Batch, Names, Outcome
from voxnb.store.report import NAMES, ImportReport

BATCH_MESSAGES: Final = 8_000
BATCH_CHARS: Final = 4_000_000
BATCH_CONVERSATIONS: Final = 4_000
AHEAD: Final = 2
COLLECT_AFTER: Final = 200_000
"""Objects more than before after which the garbage collector looks; usually it does after a few hundred."""


class Writable(Protocol):
    """What is written in one transaction."""

    def write(self, c: sqlite3.Connection) -> Outcome:
        """Write it, and say what was added."""


class Totals:
    """What was committed so far."""

    def __init__(self) -> None:
        self.sum = Outcome()

    def add(self, outcome: Outcome, reading: Reading) -> None:
        """Count a batch that was committed."""
        total = self.sum
        for name in ("conversations", "turns", "messages", "known", "extended"):
            setattr(total, name, getattr(total, name) + getattr(outcome, name))
        total.names += outcome.names[: NAMES - len(total.names)]
        for reason, place in outcome.skipped:
            reading.skipped.add(reason, place)
        for reason, place in outcome.remarks:
            reading.remarks.add(reason, place)

    def report(self, reading: Reading) -> ImportReport:
        """As the user gets it."""
        total = self.sum
        return ImportReport(
            source=reading.source,
            format=reading.format,
            conversations=total.conversations,
            turns=total.turns,
            messages=total.messages,
            known=total.known,
            extended=total.extended,
            skipped=reading.skipped.all(),
            remarks=reading.remarks.all(),
            names=tuple(total.names),
        )


def batches(drafts: Iterable[Draft], reading: Reading, *, copy: bool) -> Iterator[Batch]:
    """Drafts in portions for one transaction each, checked and counted."""
    names, now = Names(), time.time()
    for some in _portions(drafts):
        ready = make_ready(some, reading)
        if ready:
            yield Batch(ready, reading, names, now, copy)


def _portions(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    held: list[Draft] = []
    messages = chars = 0
    for draft in drafts:
        held.append(draft)
        messages += len(draft.messages)
        chars += sum(_size(item) for item in draft.messages)
        if messages >= BATCH_MESSAGES or chars >= BATCH_CHARS or len(held) >= BATCH_CONVERSATIONS:
            yield held
            held, messages, chars = [], 0, 0
    if held:
        yield held


def _size(item: object) -> int:
    content = item.get("content") if type(item) is dict else None
    return len(content) if type(content) is str else 500


Waiting = deque[tuple[Future[Outcome], Writable]]
"""Batches that are being written, kept here until then: so that the writer, who has most to do, need not free them."""


def run(db: Database, found: Iterable[Writable], reading: Reading, step: Callable[[int], None]) -> ImportReport:
    """Write batch after batch.

    Args:
        db: the store.
        found: batches as they are read.
        reading: of the import.
        step: told how far reading is.

    Raises:
        VoxnbError: what writing or reading raised; a note says what had been imported.
    """
    totals = Totals()
    waiting: Waiting = deque()
    try:
        with rare_collections():
            for batch in found:
                waiting.append((db.write(batch.write), batch))
                step(reading.done)
                if len(waiting) > AHEAD:
                    totals.add(waiting.popleft()[0].result(), reading)
            while waiting:
                totals.add(waiting.popleft()[0].result(), reading)
        # Once for all: it makes every earlier commit durable too.
        db.write(_touch, durable=True).result()
    except BaseException as error:
        _give_up(waiting, totals, reading)
        if totals.sum.messages:
            error.add_note(f"voxnb: {totals.report(reading)}\nImporting again goes on from there.")
        raise
    step(reading.done)
    return totals.report(reading)


def _touch(c: sqlite3.Connection) -> None:
    """Something to commit that changes nothing."""
    c.execute("UPDATE conversation SET title = title WHERE id = (SELECT max(id) FROM conversation)")


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector run rarely: an import makes millions of objects and no cycles.

    It looks again and again at everything that a notebook holds, which took half of an import's time. It is not switched
    off: other threads may make cycles meanwhile.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], COLLECT_AFTER) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _give_up(waiting: Waiting, totals: Totals, reading: Reading) -> None:
    """Cancel what has not begun, wait for what has."""
    for future, _ in reversed(waiting):
        future.cancel()
    for future, _ in waiting:
        if not future.cancelled() and future.exception() is None:
            totals.add(future.result(), reading)
