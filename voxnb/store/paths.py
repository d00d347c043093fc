"""Reading a path: the turns of a conversation's current line, inherited ones included, with their messages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from voxnb.memory.plan import PastTurn
from voxnb.store.lately import KnowingConnection
from voxnb.store.rows import (
    STATE,
    TURN,
    TURN_AND_MESSAGES,
    TurnRow,
    load_extra,
    past_turns,
)
from voxnb.store.schema import MAX_SEQ

PATH: Final = "FROM lineage l JOIN turn t ON t.branch = l.source AND t.seq BETWEEN max(l.first_seq, :low) AND min(l.last_seq, :high) WHERE l.branch = :branch AND l.first_seq <= :high"
"""Turns of a path between two seqs: one search per stretch."""


def turn_at(c: sqlite3.Connection, branch: int, seq: int) -> TurnRow | None:
    """The turn of a path by number."""
    row = c.execute(
        f"SELECT t.id, t.uid, t.branch, t.seq, {STATE}, t.owner, t.lease_until {PATH}",
        {"branch": branch, "low": seq, "high": seq},
    ).fetchone()
    return TurnRow(*row) if row else None


def has_answer_after(c: sqlite3.Connection, branch: int, seq: int) -> bool:
    """Whether anything but failed turns comes after a turn."""
    later = {"branch": branch, "low": seq + 1, "high": MAX_SEQ}
    return c.execute(f"SELECT 1 {PATH} AND {STATE} != 'failed' LIMIT 1", later).fetchone() is not None


def is_answered(c: sqlite3.Connection, turn_id: int, *, first_position: int) -> bool:
    """Whether a turn has a message of the assistant's from a position on; one that was deleted has none."""
    found = "SELECT 1 FROM message WHERE turn = ? AND position >= ? AND role = 'assistant' LIMIT 1"
    return c.execute(found, (turn_id, first_position)).fetchone() is not None


def turns_between(
    c: sqlite3.Connection, branch: int, low: int, high: int, *, horizon: int | None = None, pinned: frozenset[int] = frozenset()
) -> list[PastTurn]:  # fmt: skip
    """Turns of a path with their messages, in order.

    Args:
        c: connection.
        branch: whose path.
        low: first seq.
        high: last seq.
        horizon: only messages stored up to this row, for a look at the past.
        pinned: row ids of pinned turns.
    """
    if high < low:
        return []
    stretch = {"branch": branch, "low": low, "high": high}
    if horizon is not None or not isinstance(c, KnowingConnection):
        return past_turns(c.execute(_turns(horizon), stretch), pinned=pinned)
    heads = c.execute(f"SELECT {TURN} {PATH} ORDER BY l.first_seq, t.seq", stretch).fetchall()
    turns = list(c.known(heads))
    if len(turns) < len(heads):
        new = past_turns(c.execute(_turns(None), stretch | {"low": heads[len(turns)][2]}))
        c.learn(new)
        turns += new
    return [turn._replace(pinned=True) if turn.id in pinned else turn for turn in turns] if pinned else turns


def _turns(horizon: int | None) -> str:
    limit = "" if horizon is None else f" AND m.id <= {int(horizon)}"
    path = PATH.replace(" WHERE ", f" LEFT JOIN message m ON m.turn = t.id{limit} WHERE ")
    return f"SELECT {TURN_AND_MESSAGES} {path} ORDER BY l.first_seq, t.seq, m.position"


def whole_turn(c: sqlite3.Connection, turn_id: int, *, first_messages: int | None = None, horizon: int | None = None) -> PastTurn:  # fmt: skip
    """One turn with its messages."""
    limit = "" if horizon is None else f" AND m.id <= {int(horizon)}"
    limit += "" if first_messages is None else f" AND m.position < {int(first_messages)}"
    rows = c.execute(
        f"SELECT {TURN_AND_MESSAGES} FROM turn t LEFT JOIN message m ON m.turn = t.id{limit} "
        "WHERE t.id = ? ORDER BY m.position",
        (turn_id,),
    )
    return past_turns(rows)[0]


def history_hashes(c: sqlite3.Connection, branch: int, last_seq: int) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """(seq, state, [(role, hash)]) of a path's turns up to ``last_seq``: what a resent list is compared with."""
    rows = c.execute(
        f"SELECT t.seq, t.state, m.role, m.hash {PATH.replace(' WHERE ', ' JOIN message m ON m.turn = t.id WHERE ')} "
        "ORDER BY l.first_seq, t.seq, m.position",
        {"branch": branch, "low": 1, "high": last_seq},
    )
    out: list[tuple[int, str, list[tuple[str, str]]]] = []
    for seq, state, role, key in rows:
        if not out or out[-1][0] != seq:
            out.append((seq, state, []))
        out[-1][2].append((role, key))
    return out


def calling_turns(c: sqlite3.Connection, branch: int, last_seq: int) -> Iterator[tuple[int, int]]:
    """(row, seq) of a path's turns that hold tool calls, newest first."""
    return c.execute(
        f"SELECT DISTINCT t.id, t.seq {PATH.replace(' WHERE ', ' JOIN message m ON m.turn = t.id WHERE ')} "
        "AND m.role = 'assistant' AND json_extract(m.extra, '$.tool_calls') IS NOT NULL ORDER BY t.seq DESC",
        {"branch": branch, "low": 1, "high": last_seq},
    )


def horizon(c: sqlite3.Connection) -> int:
    """The newest message row: what was stored later did not exist yet."""
    return int(c.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()[0])


def load_message(c: sqlite3.Connection, turn_id: int, position: int) -> dict[str, Any] | None:
    """One stored message as the API's dict."""
    row = c.execute(
        "SELECT role, text, extra FROM message WHERE turn = ? AND position = ?", (turn_id, position)
    ).fetchone()
    return None if row is None else {"role": row[0], "content": row[1], **(load_extra(row[2]) or {})}
