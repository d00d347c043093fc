"""Deleting: rows, search entries and free pages, so that the words are in no file of the store."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from voxnb.errors import ConversationError, StoreBusyError
from voxnb.store.database import Database
from voxnb.store.rows import ConversationRow

CHECKPOINT_TRIES: Final = 50

BRANCHES: Final = "(SELECT id FROM branch WHERE conversation = ?)"
TURNS: Final = f"(SELECT id FROM turn WHERE branch IN {BRANCHES})"
SUMMARIES: Final = "(SELECT id FROM summary WHERE conversation = ?)"


def forks_of(c: sqlite3.Connection, conversation: int) -> list[tuple[int, str]]:
    """Conversations that share turns with this one, or with one that does, as (row, name)."""
    return c.execute(
        "WITH RECURSIVE fork (id) AS (VALUES (?) UNION SELECT b.conversation FROM fork f "
        "JOIN branch s ON s.conversation = f.id JOIN lineage l ON l.source = s.id JOIN branch b ON b.id = l.branch) "
        "SELECT k.id, k.name FROM fork JOIN conversation k ON k.id = fork.id WHERE k.id != ? ORDER BY k.id",
        (conversation, conversation),
    ).fetchall()


def delete(c: sqlite3.Connection, row: ConversationRow, *, forks: bool) -> list[str]:
    """Delete a conversation's rows; the names that went.

    Raises:
        ConversationError: others were forked from it and ``forks`` does not say to delete them too.
    """
    dependent = forks_of(c, row.id)
    if dependent and not forks:
        names = ", ".join(repr(name) for _, name in dependent)
        raise ConversationError(
            f"{row.name!r} shares turns with {names}; delete(forks=True) deletes them too, or delete them first"
        )
    doomed = [*(key for key, _ in reversed(dependent)), row.id]
    for key in doomed:
        _delete_rows(c, key)
    _sweep_values(c)
    c.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")
    return [row.name, *(name for _, name in dependent)]


def _delete_rows(c: sqlite3.Connection, key: int) -> None:
    c.execute("PRAGMA defer_foreign_keys=ON")
    c.execute(
        f"DELETE FROM note WHERE target IN (SELECT uid FROM turn WHERE id IN {TURNS}) "
        f"OR target IN (SELECT uid FROM summary WHERE conversation = ?) OR target = (SELECT uid FROM conversation WHERE id = ?)",
        (key, key, key),
    )
    c.execute(f"DELETE FROM coverage WHERE summary IN {SUMMARIES}", (key,))
    for table in ("pin", "event", "call", "media"):
        c.execute(f"DELETE FROM {table} WHERE conversation = ?", (key,))
    c.execute(f"DELETE FROM draft WHERE turn IN {TURNS}", (key,))
    c.execute(f"DELETE FROM message WHERE turn IN {TURNS}", (key,))
    c.execute("UPDATE conversation SET head = NULL WHERE id = ?", (key,))
    c.execute("UPDATE conversation SET parent = NULL WHERE parent = ?", (key,))  # it forked at 0: shares nothing
    c.execute("DELETE FROM summary WHERE conversation = ?", (key,))
    c.execute(f"DELETE FROM turn WHERE branch IN {BRANCHES}", (key,))
    c.execute(f"DELETE FROM lineage WHERE branch IN {BRANCHES}", (key,))
    c.execute("DELETE FROM branch WHERE conversation = ?", (key,))
    c.execute("DELETE FROM conversation WHERE id = ?", (key,))


def _sweep_values(c: sqlite3.Connection) -> None:
    """Drop long texts that nothing names any more."""
    c.execute(
        "DELETE FROM value WHERE id NOT IN (SELECT instructions FROM conversation WHERE instructions IS NOT NULL "
        "UNION SELECT prompt FROM summary WHERE prompt IS NOT NULL UNION SELECT request FROM summary WHERE request IS NOT NULL "
        "UNION SELECT value FROM prompt "
        "UNION SELECT json_extract(plan, '$.instructions') FROM call WHERE json_extract(plan, '$.instructions') IS NOT NULL "
        "UNION SELECT json_extract(plan, '$.tools') FROM call WHERE json_extract(plan, '$.tools') IS NOT NULL "
        "UNION SELECT json_extract(plan, '$.parameters') FROM call WHERE json_extract(plan, '$.parameters') IS NOT NULL)"
    )


def erase(database: Database, row: ConversationRow, *, forks: bool) -> list[str]:
    """Delete a conversation for good: also out of free pages and the write-ahead log.

    Raises:
        ConversationError: see `delete`.
        StoreBusyError: another process reads, so that the log could not be emptied; the rows are gone.
    """

    def job(c: sqlite3.Connection) -> list[str]:
        c.execute("PRAGMA secure_delete=ON")
        try:
            names = database.transaction(c, lambda connection: delete(connection, row, forks=forks), durable=True)
        finally:
            c.execute("PRAGMA secure_delete=OFF")
        if database.journal_mode == "wal":
            for _ in range(CHECKPOINT_TRIES):
                busy, _, _ = c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return names
                time.sleep(0.02)
            raise StoreBusyError(
                f"{row.name!r} is deleted, but another reader keeps the log of {database.path!r} from being emptied; "
                "close it and call store.checkpoint()",
                path=database.path,
            )
        return names

    return database.perform(job).result()
