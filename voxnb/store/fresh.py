"""The newest messages, which are stored and not in the search index yet; they are found all the same.

The index is written for many messages at once: one entry costs as much as the rest of a message, thirty together a
fifth of that. What is not in it are the messages after its last row, at most `MOST_ROWS` that say something, none of
them long. A search puts those into an index of its own, in memory. Should somebody write messages and not tell: they are
found all the same.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any, Final

from voxnb.store.lately import KnowingConnection
from voxnb.store.stretch import BLOCK_BITS

MOST_ROWS: Final = 31
"""The next message takes them all in."""

LONG_CHARS: Final = 2_000
"""A longer text is taken in at once: each search would cut it into words again."""

INDEXED_TO: Final = "(SELECT coalesce(max(id), 0) FROM message_fts_docsize)"
"""Last message row that is in the index; every one before it that says something is too."""

FRESH: Final = f"SELECT id, text, owner FROM message_words WHERE id > {INDEXED_TO} AND text != ''"

_ZONES: Final = (
    f"INSERT INTO message_zone SELECT id >> {BLOCK_BITS}, (CAST(min(created_at) / 3600 AS INTEGER) - 1) * 3600.0, "
    f"(CAST(max(created_at) / 3600 AS INTEGER) + 1) * 3600.0 FROM message WHERE id > {INDEXED_TO} GROUP BY 1 "
    "ON CONFLICT (block) DO UPDATE SET since_at = min(since_at, excluded.since_at), until_at = max(until_at, excluded.until_at)"
)
"""Which times the messages have that are not in the index yet; see the schema."""

_MESSAGE: Final = (
    "INSERT INTO message (turn, position, role, text, extra, tokens, features, encoding, hash, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_TOKENIZER: Final = "unicode61 remove_diacritics 2"
"""That of the index in the file."""


def write_message(c: sqlite3.Connection, turn: int, position: int, role: str, text: str, *rest: Any) -> None:
    """Write a message's row, and the index if it is time to; in a transaction.

    Args:
        c: the connection.
        turn: its turn's row.
        position: in the turn.
        role: who says it.
        text: what.
        rest: extra, tokens, features, encoding, hash and created_at, as they are stored.
    """
    cursor = c.execute(_MESSAGE, (turn, position, role, text, *rest))
    written(c, cursor.lastrowid, text)


def written(c: sqlite3.Connection, row: int | None, text: str) -> None:
    """A message was written: it is time to write the index if it is long, or enough have come; in its transaction.

    Args:
        c: the connection that wrote it; one that remembers is seldom asked how far the index goes.
        row: of the message.
        text: of the message.
    """
    if not text or row is None:
        return
    indexed_to = c.indexed_to if isinstance(c, KnowingConnection) else -1
    if not indexed_to < row <= indexed_to + MOST_ROWS:  # rows of what was taken back are given again
        (indexed_to,) = c.execute(f"SELECT {INDEXED_TO}").fetchone()
        if isinstance(c, KnowingConnection):
            c.indexed_to = indexed_to
    if row > indexed_to + MOST_ROWS or len(text) > LONG_CHARS:
        index_all(c)


def index_all(c: sqlite3.Connection) -> None:
    """Write what is not in the index yet; in a transaction."""
    c.execute(_ZONES)
    c.execute(f"INSERT INTO message_fts (rowid, text, owner) {FRESH} ORDER BY id")


def found(c: sqlite3.Connection, query: str, *, snippet: str) -> list[tuple[int, str]]:
    """What of the messages that are not in the index matches, newest first, as (row, snippet).

    Args:
        c: connection; the caller's transaction decides which messages there are.
        query: an FTS5 expression over ``text`` and ``owner``.
        snippet: the arguments of FTS5's ``snippet`` after the table.
    """
    messages = c.execute(FRESH).fetchall()
    if not messages:
        return []
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as aside:
        aside.execute(f"CREATE VIRTUAL TABLE fresh USING fts5(text, owner, tokenize='{_TOKENIZER}')")
        aside.executemany("INSERT INTO fresh (rowid, text, owner) VALUES (?, ?, ?)", messages)
        return aside.execute(
            f"SELECT rowid, snippet(fresh, {snippet}) FROM fresh WHERE fresh MATCH ? ORDER BY rowid DESC", (query,)
        ).fetchall()
