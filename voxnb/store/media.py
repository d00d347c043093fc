"""Rows of the media table: what of sound went where, how long, and in which file it is kept."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from voxnb.errors import ParameterError
from voxnb.store.database import Database
from voxnb.store.ids import new_id

DIRECTIONS: Final = ("in", "out")
"""``in``: what the model hears; ``out``: what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRow:
    """One stream of sound, when it has ended.

    Attributes:
        direction: one of `DIRECTIONS`.
        tag: its name among several, or None.
        encoding: how it was written on its way: ``PCM8``, ``PCM16``, ``ULAW``, ``ALAW``, ``OPUS``.
        sample_rate_hz: samples per second.
        duration_ms: how long it sounded.
        size_bytes: how much went over.
        path: file in which it is kept, or None.
    """

    direction: str
    tag: str | None
    encoding: str | None
    sample_rate_hz: int | None
    duration_ms: float | None
    size_bytes: int | None
    path: str | None = None

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ParameterError(f"a direction is 'in' or 'out', not {self.direction!r}", name="direction")


def add_media(
    c: sqlite3.Connection, row: MediaRow, *, conversation: int | None, turn: int | None = None, now: float
) -> str:
    """Keep a stream, within a transaction.

    Args:
        c: the writer's connection.
        row: the stream.
        conversation: row of the conversation it belongs to, or None.
        turn: row of the turn, or None where it spans several.
        now: seconds since 1970.

    Returns:
        Its id.
    """
    uid = new_id("m")
    c.execute(
        "INSERT INTO media (uid, conversation, turn, direction, tag, encoding, sample_rate_hz, duration_ms, bytes, "
        "path, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            uid,
            conversation,
            turn,
            row.direction,
            row.tag or None,
            row.encoding,
            row.sample_rate_hz,
            row.duration_ms,
            row.size_bytes,
            row.path,
            now,
        ),
    )
    return uid


def record_media(db: Database, row: MediaRow, /, *, conversation_id: str | None, turn_id: str | None = None) -> str:
    """Keep a stream by the public ids of what it belongs to.

    Args:
        db: the store.
        row: the stream.
        conversation_id: as in ``store.conversations()``, or None.
        turn_id: as in ``store.turns()``, or None.

    Returns:
        Its id.

    Raises:
        ParameterError: there is no such conversation or turn.
    """

    def work(c: sqlite3.Connection) -> str:
        conversation = _row_of(c, "conversation", conversation_id)
        turn = _row_of(c, "turn", turn_id)
        return add_media(c, row, conversation=conversation, turn=turn, now=time.time())

    return db.write(work).result()


def _row_of(c: sqlite3.Connection, table: str, uid: str | None) -> int | None:
    if uid is None:
        return None
    found = c.execute(f"SELECT id FROM {table} WHERE uid = ?", (uid,)).fetchone()
    if found is None:
        raise ParameterError(f"there is no {table} {uid!r}", name=f"{table}_id")
    return int(found[0])
