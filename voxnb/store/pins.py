"""Pins: turns, or single messages, that stay verbatim when they are folded."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from voxnb.memory.plan import PastTurn
from voxnb.store.paths import whole_turn
from voxnb.store.rows import (
    ConversationRow,
)


def add_pin(c: sqlite3.Connection, row: ConversationRow, turn_id: int, *, position: int | None) -> None:
    """Keep a turn (or one of its messages) verbatim from the next request on."""
    held = c.execute(
        "SELECT 1 FROM pin WHERE conversation = ? AND turn = ? AND position IS ? AND removed IS NULL",
        (row.id, turn_id, position),
    ).fetchone()
    if held:
        return
    c.execute("UPDATE conversation SET pin_version = pin_version + 1 WHERE id = ?", (row.id,))
    c.execute(
        "INSERT INTO pin (conversation, turn, position, added) "
        "SELECT id, ?, ?, pin_version FROM conversation WHERE id = ?",
        (turn_id, position, row.id),
    )


def remove_pin(c: sqlite3.Connection, row: ConversationRow, turn_id: int) -> bool:
    """No longer keep a turn verbatim; False if it was not pinned."""
    c.execute("UPDATE conversation SET pin_version = pin_version + 1 WHERE id = ?", (row.id,))
    cursor = c.execute(
        "UPDATE pin SET removed = (SELECT pin_version FROM conversation WHERE id = pin.conversation) "
        "WHERE conversation = ? AND turn = ? AND position IS NULL AND removed IS NULL",
        (row.id, turn_id),
    )
    return cursor.rowcount > 0


def load_pins(
    c: sqlite3.Connection, conversation: int, branch: int, *, version: int, folded_to: int, horizon: int | None = None,
    given: Sequence[Sequence[int | None]] | None = None,
) -> tuple[frozenset[int], tuple[PastTurn, ...]]:  # fmt: skip
    """Row ids of the pinned turns, and what is pinned of the folded ones.

    Pins made on turns that are no longer on the path do not count. ``given`` are pins (turn, position) of another
    store's conversation, instead of those of a version.
    """
    if given is None and not version:  # nothing was ever pinned
        return frozenset(), ()
    rows = (
        c.execute(
            "SELECT t.id, json_extract(g.value, '$[1]'), t.seq, t.branch FROM json_each(?) g "
            "JOIN turn t ON t.id = json_extract(g.value, '$[0]')",
            (json.dumps(given),),
        ).fetchall()
        if given is not None
        else c.execute(
            "SELECT p.turn, p.position, t.seq, t.branch FROM pin p JOIN turn t ON t.id = p.turn "
            "WHERE p.conversation = ? AND p.added <= ? AND (p.removed IS NULL OR p.removed > ?)",
            (conversation, version, version),
        ).fetchall()
    )
    if not rows:
        return frozenset(), ()
    stretches = c.execute("SELECT first_seq, last_seq, source FROM lineage WHERE branch = ?", (branch,)).fetchall()
    on_path = [r for r in rows if any(f <= r[2] <= last and r[3] == source for f, last, source in stretches)]
    whole = frozenset(turn for turn, position, _, _ in on_path if position is None)
    folded: dict[int, set[int]] = {}
    for turn, position, seq, _ in on_path:
        if seq <= folded_to:
            folded.setdefault(turn, set()).add(-1 if position is None else position)
    pins = []
    for turn, positions in folded.items():
        past = whole_turn(c, turn, horizon=horizon)
        if turn not in whole:
            past = past._replace(messages=tuple(m for m in past.messages if m.position in positions))
        pins.append(past._replace(pinned=turn in whole))
    return whole, tuple(sorted(pins, key=lambda p: p.seq))
