"""Values of a type that nobody wrote: text where a count belongs, bytes in a name, nothing where there must be something.

SQLite keeps whatever it is given, so a file that was changed by hand can hold them. They are looked for only once
something went wrong with what was read (see `trouble.mapped_sql`), and by ``verify()``.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any, Final

from voxnb.store.schema import STEPS, statements

_WANTED: Final = {
    "INTEGER": ("a whole number", "'integer'"),
    "REAL": ("a number", "'real', 'integer'"),
    "TEXT": ("text", "'text'"),
}
"""Declared type of a column → what belongs there, and SQLite's names of such values."""

_FOUND: Final = {"integer": "a number", "real": "a fraction", "text": "text", "blob": "bytes", "null": "nothing"}

_OR_NOTHING: Final = ", 'null'"


def wrong_values(c: sqlite3.Connection) -> Iterator[str]:
    """One sentence per row that holds such a value, about its first one. Reads the whole file."""
    for table, columns in _columns().items():
        wrong = kinds = ""
        wanted: dict[str, str] = {}
        for _, name, declared, never_null, _, _ in columns:
            wanted[name], types = _WANTED[declared]
            wrong += f" WHEN typeof({name}) NOT IN ({types}{'' if never_null else _OR_NOTHING}) THEN '{name}'"
            kinds += f" WHEN '{name}' THEN typeof({name})"
        key = " || ', ' || ".join(f"quote({name})" for _, name, *_, is_key in columns if is_key)
        rows = f"SELECT *, {key} AS _row, CASE{wrong} END AS _wrong FROM {table}"
        for row, name, kind in c.execute(
            f"SELECT _row, _wrong, CASE _wrong{kinds} END FROM ({rows}) WHERE _wrong NOT NULL"
        ):
            yield f"{table} row {row} has {_FOUND[kind]} in {name!r}, expected {wanted[name]}"


@cache
def _columns() -> dict[str, list[tuple[Any, ...]]]:
    """Our tables and their columns as they were made: what a damaged file says of itself may be wrong too."""
    steps = [statement for _, step in STEPS for statement in statements(step)]
    with closing(sqlite3.connect(":memory:")) as c:
        for statement in steps:
            c.execute(statement)
        names = [match[1] for match in map(re.compile(r"CREATE TABLE (\w+)").match, steps) if match]
        return {name: c.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
