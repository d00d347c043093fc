"""The two stores of a merge, and what of the one is what in the other."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from voxnb.store.merging.report import Found


class InterruptedMergeError(Exception):
    """Ends a merge that nobody waits for any more; it takes everything back."""


class Here(NamedTuple):
    """Where a turn of the other store is in this one."""

    turn: int
    branch: int
    seq: int


@dataclass(slots=True)
class Both:
    """Connections and what was recognised so far.

    Attributes:
        c: this store, in a write transaction.
        o: the other, in a read transaction.
        now: UNIX seconds.
        found: the report.
        stop: set when nobody waits any more.
        turns: other turn → where it is here.
        targets: other conversation → the one here that takes what is new of it.
        summaries: other summary → row here.
        cut: other branch → first number on its path that is not taken, because that turn still runs.
    """

    c: sqlite3.Connection
    o: sqlite3.Connection
    now: float
    found: Found
    stop: threading.Event
    turns: dict[int, Here] = field(default_factory=dict)
    targets: dict[int, int] = field(default_factory=dict)
    summaries: dict[int, int] = field(default_factory=dict)
    cut: dict[int, int] = field(default_factory=dict)
    _values: dict[int, int] = field(default_factory=dict)

    def check(self) -> None:
        """Go on only while somebody waits."""
        if self.stop.is_set():
            raise InterruptedMergeError

    def value(self, there: int | None) -> int | None:
        """Row here of a long text of the other store."""
        if there is None:
            return None
        if there not in self._values:
            (key, text) = self.o.execute("SELECT hash, text FROM value WHERE id = ?", (there,)).fetchone()
            self.c.execute("INSERT OR IGNORE INTO value (hash, text) VALUES (?, ?)", (key, text))
            (self._values[there],) = self.c.execute("SELECT id FROM value WHERE hash = ?", (key,)).fetchone()
        return self._values[there]

    def insert(self, table: str, **values: Any) -> int:
        """A row here; its id."""
        sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        return int(self.c.execute(sql, tuple(values.values())).lastrowid or 0)


def rows(c: sqlite3.Connection, sql: str, *params: Any) -> list[dict[str, Any]]:
    """All rows of a query as dicts."""
    cursor = c.execute(sql, params)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
