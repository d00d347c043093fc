"""A snapshot in one encoding: earlier turns may have been asked of a model that counts by another.

What is stored stays as it was counted; forks share turns, and each may go on with a model of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from voxnb.memory.past import ANSWERED, PastTurn, Said, fenced
from voxnb.memory.plan import Snapshot
from voxnb.messages import Message
from voxnb.store import ledger, paths
from voxnb.store.lately import KnowingConnection
from voxnb.store.rows import ConversationRow, Counted

if TYPE_CHECKING:
    from voxnb.store.planner import Measure

COUNTED_OTHERWISE: Final = f"SELECT DISTINCT t.id {paths.PATH.replace(' WHERE ', ' JOIN message m ON m.turn = t.id WHERE ')} AND m.encoding != :encoding"

OTHERWISE_OF: Final = (
    "SELECT DISTINCT turn FROM message WHERE encoding != ? AND turn IN (SELECT value FROM json_each(?))"
)


def load(c: sqlite3.Connection, row: ConversationRow, *, measure: Callable[[Message], Counted]) -> Snapshot:
    """What the planner needs between two turns, in the encoding of a measure."""
    return in_one_encoding(c, row, ledger.load_snapshot(c, row), measure=measure)


def in_one_encoding(
    c: sqlite3.Connection, row: ConversationRow, snapshot: Snapshot, *, measure: Callable[[Message], Counted]
) -> Snapshot:
    """The same with every text of the past counted as a measure counts; the usual case is told by a look-up.

    Args:
        c: in a transaction.
        row: the conversation.
        snapshot: of it.
        measure: counts; one that does not name its ``encoding`` is taken to count as before.
    """
    encoding = getattr(measure, "encoding", None)
    known = c.counted_in if isinstance(c, KnowingConnection) else {}
    seen = (encoding, row.head, row.folded_to, row.pin_version)
    if encoding is None or known.get(row.branch) == seen:
        return snapshot
    stretch = {"branch": row.branch, "low": row.folded_to + 1, "high": row.last_seq, "encoding": encoding}
    other = {turn_id for (turn_id,) in c.execute(COUNTED_OTHERWISE, stretch)} | {turn.id for turn in snapshot.pins}
    again = _again(snapshot, other, measure)
    if again == snapshot:
        known[row.branch] = seen
    return again


def folded(c: sqlite3.Connection, row: ConversationRow, *, head: int, folded_to: int, encoding: str) -> None:
    """Go on knowing that a conversation is in one encoding, where a summary in the same one replaces its oldest turns.

    Args:
        c: in the transaction that commits the summary.
        row: the conversation before it.
        head: the summary's row.
        folded_to: what it covers.
        encoding: in which it was counted.
    """
    known = c.counted_in if isinstance(c, KnowingConnection) else {}
    if known.get(row.branch, ())[:3] == (encoding, row.head, row.folded_to):
        known[row.branch] = (encoding, head, folded_to, known[row.branch][3])


def as_asked(c: sqlite3.Connection, snapshot: Snapshot, *, measure: Measure) -> Snapshot:
    """A past request's snapshot as its model counts, where its own turn was counted so."""
    turns = [turn.id for turn in (*snapshot.pins, *snapshot.tail, snapshot.current) if turn is not None]
    other = {turn_id for (turn_id,) in c.execute(OTHERWISE_OF, (measure.encoding, json.dumps(turns)))}
    asked = snapshot.current is not None and snapshot.current.id not in other
    return _again(snapshot, other, measure) if other and asked else snapshot


def _again(snapshot: Snapshot, other: set[int], measure: Callable[[Message], Counted]) -> Snapshot:
    def said_again(said: Said) -> Said:
        counted = measure(Message.from_dict(said.to_dict()))
        return said._replace(tokens=counted.tokens, features=counted.features)

    def turn_again(turn: PastTurn) -> PastTurn:
        if turn.id not in other or (turn.state not in ANSWERED and turn is not snapshot.current):
            return turn
        return turn._replace(messages=tuple(said_again(said) for said in turn.messages))

    summary = snapshot.summary
    if summary is not None:
        counted = measure(Message("system", fenced(summary), {}))
        summary = summary._replace(tokens=counted.tokens, features=counted.features)
    return replace(
        snapshot,
        instructions=tuple(said_again(said) for said in snapshot.instructions),
        summary=summary,
        pins=tuple(turn_again(turn) for turn in snapshot.pins),
        tail=tuple(turn_again(turn) for turn in snapshot.tail),
        current=snapshot.current and turn_again(snapshot.current),
    )
