"""Deleting: rows, search entries and free pages, so that the words are in no file of the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from voxnb.errors import ConversationError, StoreBusyError
from voxnb.store.database import Database
from voxnb.store.lately import forget
from voxnb.store.place import empty_log
from voxnb.store.rows import ConversationRow
from voxnb.store.trouble import store_error

T = TypeVar("T")

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
    forget(c)  # the next branch may get the number of one that went
    sweep_values(c)
    c.execute("DELETE FROM message_zone WHERE block > coalesce((SELECT max(id) >> 10 FROM message), -1)")
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


def sweep_values(c: sqlite3.Connection) -> None:
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
    return for_good(database, lambda c: delete(c, row, forks=forks), what=f"{row.name!r} is deleted")


def for_good(database: Database, work: Callable[[sqlite3.Connection], T], *, what: str) -> T:
    """Run a transaction that takes words out of rows, then take them out of the rest of the file.

    Args:
        database: the store.
        work: the transaction.
        what: says in an error what is done all the same.

    Raises:
        StoreBusyError: another process reads, so that the log could not be emptied.
        StoreError: the file could not be rewritten: as a rule there is no room for it.
    """

    def job(c: sqlite3.Connection) -> T:
        c.execute("PRAGMA secure_delete=ON")
        try:
            done = database.transaction(c, work, durable=True)
        finally:
            c.execute("PRAGMA secure_delete=OFF")
        if not database.memory:
            try:
                rewrite(c)
            except sqlite3.Error as error:
                raise type(store_error(error, database.path))(
                    f"{what}, but {database.path!r} could not be rewritten ({error}), so that free pages may still hold "
                    "the words; close other readers, make room for a copy of it, and call store.compact()",
                    path=database.path,
                ) from error
            if not empty_log(c):
                raise StoreBusyError(
                    f"{what}, but another reader keeps the log of {database.path!r} from being emptied; "
                    "close it and call store.checkpoint()",
                    path=database.path,
                )
        return done

    return database.perform(job).result()


def rewrite(c: sqlite3.Connection) -> None:
    """Write every page anew.

    Erasing rows is not enough: a page that was split keeps a copy of what moved out of it, and the search index leaves
    pages behind whenever it merges its parts.
    """
    c.execute("VACUUM")
