"""The newest messages, which are stored and not in the search index yet; they are found all the same.

The index is written for many messages at once (see the triggers of the schema): one entry costs as much as the rest
of a message, thirty together a fifth of that. What is not in it are the messages after its last row, at most
`MOST_ROWS` that say something, none of them long. A search puts those into an index of its own, in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

MOST_ROWS: Final = 31
"""The trigger that writes the index says so too: the next message takes them all in."""

INDEXED_TO: Final = "(SELECT coalesce(max(id), 0) FROM message_fts_docsize)"
"""Last message row that is in the index; every one before it that says something is too."""

FRESH: Final = f"SELECT id, text, owner FROM message_words WHERE id > {INDEXED_TO} AND text != ''"

_TOKENIZER: Final = "unicode61 remove_diacritics 2"
"""That of the index in the file."""


def index_all(c: sqlite3.Connection) -> None:
    """Write what is not in the index yet; in a transaction."""
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
