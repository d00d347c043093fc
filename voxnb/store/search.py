"""Finding messages by their words, and asking the store any question in SQL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import ParameterError, StoreError, StoreReadOnlyError
from voxnb.params import did_you_mean
from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart
from voxnb.store import fresh, stretch
from voxnb.store.columns import OWNER, TABLES
from voxnb.store.database import Database
from voxnb.store.frames import ROLE, Kind, frame, row_limit, times, window
from voxnb.store.tables import view
from voxnb.store.trouble import store_error

if TYPE_CHECKING:
    import pandas as pd

FOUND: Final[Mapping[str, Kind]] = {
    "message_id": "str",
    "conversation_id": "str",
    "conversation": "str",
    "turn_seq": "Int64",
    "role": ROLE,
    "snippet": "str",
    "created_at": "time",
}
"""Columns of a search."""

SNIPPET: Final = "0, '[', ']', '…', 16"
"""What ``snippet`` is told: the text's column, the marks, how many words."""

RANK_WAIT_S: Final = 1.0
"""How long a ranked search waits until the newest messages are in the index."""

ON_PATH: Final = (
    "EXISTS (SELECT 1 FROM conversation p JOIN lineage l ON l.branch = p.branch WHERE p.id = :conversation "
    "AND l.source = t.branch AND t.seq BETWEEN l.first_seq AND l.last_seq)"
)

PROGRESS_STEPS: Final = 100_000
"""Steps of SQLite's machine between two looks for an interrupt; about a millisecond."""

READING_PRAGMAS: Final = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
FACT_PRAGMAS: Final = frozenset(
    {"application_id", "compile_options", "data_version", "database_list", "journal_mode", "page_count", "page_size"}
    | {"user_version"}
)
"""Pragmas that only tell as long as no value is given."""


# -- searching --------------------------------------------------------------------------------


def search(
    db: Database,
    text: str,
    /,
    *,
    conversation: int | None = None,
    limit: int | None = 50,
    rank: bool = False,
    since: Any = None,
    until: Any = None,
) -> pd.DataFrame:
    """Messages that hold all the words.

    Words are compared whole, without case and accents; nothing in the text is an operator. Scripts without spaces
    count as one word up to the next mark, so ask for the beginning of it (``北京*``).

    Args:
        db: the store.
        text: words; ``"a phrase"`` in quotes, ``begin*`` for a prefix.
        conversation: row id; only the turns of its path.
        limit: at most so many; None for all.
        rank: best first (bm25), which reads every match; else newest first, which stops at the limit. Where nothing
            can be written, the last few messages (see `fresh`) come before the ranked ones.
        since: only messages from this moment on; see `tables`.
        until: only messages before it.

    Returns:
        ``message_id, conversation_id, conversation, turn_seq, role, snippet, created_at``; in the snippet the words
        stand in square brackets. No row where the text has no word.

    Raises:
        ParameterError: the text is not one, or a filter is not.
    """
    if not isinstance(text, str):
        raise ParameterError(f"the text to search is {type(text).__name__}, expected str", name="text")
    conditions, params = window(since, until, column="m.created_at")
    words = match_expression(text)
    most = row_limit(limit)
    if not words or most == 0:
        return frame(FOUND, [])
    if rank:  # only the index tells one
        _index_all(db)
    with db.snapshot() as c:
        owners: list[int] = []
        stretches = list(stretch.EVERYWHERE)
        if conversation is not None:
            owners, stretches = stretch.of_path(c, conversation)
        if params and not rank:
            stretches = stretch.both(stretches, stretch.of_time(c, params.get("since"), params.get("until")))
        values: dict[str, Any] = {**params, "conversation": conversation, "query": within(words, owners)}
        sql = search_statement(conversation=conversation is not None, conditions=conditions, rank=rank)
        rows = _fresh_rows(c, values, conversation=conversation is not None, conditions=conditions, limit=most)
        if rank:  # every match is read anyway
            if stretches:
                rows += c.execute(sql, {**values, "limit": most if most < 0 else most - len(rows)}).fetchall()
            return frame(FOUND, rows)
        for first, last in stretches:
            left = -1 if most < 0 else most - len(rows)
            if left == 0:
                break
            rows += c.execute(sql, {**values, "first": first, "last": last, "limit": left}).fetchall()
        return frame(FOUND, rows)


def _index_all(db: Database) -> None:
    """Write what is not in the index yet; where it cannot be written (a full disk, a busy file) go on without."""
    if not db.read_only:
        with suppress(StoreError, TimeoutError):
            db.write(fresh.index_all).result(RANK_WAIT_S)


def _fresh_rows(
    c: sqlite3.Connection, values: Mapping[str, Any], *, conversation: bool, conditions: Sequence[str], limit: int
) -> list[tuple[Any, ...]]:
    """The matches that are not in the index yet, newest first."""
    statement = fresh_statement(conversation=conversation, conditions=conditions)
    rows: list[tuple[Any, ...]] = []
    for row, snippet in fresh.found(c, values["query"], snippet=SNIPPET):
        if len(rows) == limit:
            break
        rows += c.execute(statement, {**values, "row": row, "snippet": snippet}).fetchall()
    return rows


def within(words: str, owners: Sequence[int]) -> str:
    """An expression for words in a message's text, and only in messages of these conversations (rows; none: of all).

    >>> within('"new" "york"', [3, 8])
    'text : ("new" "york") AND owner : ("k3" OR "k8")'
    """
    whose = " OR ".join(f'"k{owner}"' for owner in owners)
    return f"text : ({words})" + f" AND owner : ({whose})" * bool(owners)


def match_expression(text: str) -> str:
    """A text as an FTS5 expression in which every word and phrase is quoted.

    >>> match_expression('NEAR( "new york" tow* "')
    '"NEAR(" "new york" "tow"*'
    """
    plain = text.replace("\0", " ").encode("utf-8", "replace").decode()
    # A phrase in quotes or a run of other characters, each perhaps with a star behind it.
    terms = []
    for phrase, phrase_star, word in re.findall(r'"([^"]*)"(\*?)|([^\s"]+)', plain):
        said, star = (phrase, phrase_star) if not word else (word.rstrip("*"), "*" * word.endswith("*"))
        if any(character.isalnum() for character in said):
            terms.append(f'"{said}"{star}')
    return " ".join(dict.fromkeys(terms))


def search_statement(*, conversation: bool, conditions: Sequence[str], rank: bool) -> str:
    """The statement behind `search`: the index gives the rows in order, so that a limit ends it early."""
    where = ["message_fts MATCH :query", *conditions, *[ON_PATH] * conversation]
    if not rank:
        where.append("message_fts.rowid BETWEEN :first AND :last")
    return (
        f"SELECT t.uid || '.' || m.position, k.uid, k.name, t.seq, m.role, snippet(message_fts, {SNIPPET}), m.created_at "
        "FROM message_fts CROSS JOIN message m ON m.id = message_fts.rowid CROSS JOIN turn t ON t.id = m.turn"
        f"{OWNER} WHERE {' AND '.join(where)} "
        f"ORDER BY {'message_fts.rank' if rank else 'message_fts.rowid DESC'} LIMIT :limit"
    )


def fresh_statement(*, conversation: bool, conditions: Sequence[str]) -> str:
    """The same for one message that was found elsewhere."""
    where = ["m.id = :row", *conditions, *[ON_PATH] * conversation]
    return (
        "SELECT t.uid || '.' || m.position, k.uid, k.name, t.seq, m.role, :snippet, m.created_at "
        f"FROM message m CROSS JOIN turn t ON t.id = m.turn{OWNER} WHERE {' AND '.join(where)}"
    )


# -- SQL --------------------------------------------------------------------------------------


def sql(db: Database, query: str, params: Sequence[Any] | Mapping[str, Any] = (), /) -> pd.DataFrame:
    """One reading statement, as a DataFrame.

    The tables are those of the DataFrames under their names (``turns``, ``messages`` …) beside the narrower ones of
    the schema (``turn``, ``message`` …). Times are UNIX seconds in SQL; a result column whose name ends in ``_at``
    comes back as UTC timestamps. An interrupt ends a long query. A query of the search index, ``message_fts``, sees every
    message; in a store that cannot be written all but the newest, at most 31, which `search` finds there too.

    Args:
        db: the store.
        query: SELECT, WITH, VALUES, EXPLAIN, or a pragma that tells something.
        params: for ``?`` a sequence, for ``:name`` a mapping.

    Raises:
        StoreReadOnlyError: the statement would change something.
        StoreError: SQLite does not understand it; the message says what.
    """
    if not isinstance(query, str):
        raise ParameterError(f"the query is {type(query).__name__}, expected SQL as str", name="query")
    import_apart("pandas")
    import pandas as pd

    if "message_fts" in query.lower():
        _index_all(db)
    with db.reader() as connection, _named_views(connection):
        try:
            cursor = connection.execute(query, params)
            if cursor.description is None:
                raise StoreError("the statement gives no rows; sql() is for SELECT", path=db.path)
            names, rows = [column[0] for column in cursor.description], cursor.fetchall()
        except (
            sqlite3.Error,
            sqlite3.Warning,
            ValueError,
            OverflowError,
        ) as error:  # the last two: what cannot be bound
            raise _sql_error(error, db.path) from error
    found = marked(pd.DataFrame(rows, columns=names))
    for position, name in enumerate(names):
        known = [row[position] for row in rows if row[position] is not None]
        if name.endswith("_at") and known and all(isinstance(value, int | float) for value in known):
            found.isetitem(position, times([row[position] for row in rows]).array)
    return found


@contextmanager
def _named_views(connection: sqlite3.Connection) -> Iterator[None]:
    """The DataFrames' names as views, and nothing but reading, until the block ends.

    The views live in a transaction that is rolled back: two of them hide tables that everything else means by
    these names.
    """
    (query_only,) = connection.execute("PRAGMA query_only").fetchone()
    connection.execute("SAVEPOINT named_views")
    try:
        connection.execute("PRAGMA query_only=OFF")
        for name in TABLES:
            connection.execute(view(name))
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT rowid FROM message_fts LIMIT 0")  # once open, the index is only read
        connection.set_authorizer(_only_reading)
        connection.set_progress_handler(lambda: 0, PROGRESS_STEPS)
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        connection.execute("ROLLBACK TO named_views")
        connection.execute("RELEASE named_views")
        connection.execute(f"PRAGMA query_only={query_only}")


def _only_reading(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in READING_PRAGMAS or (name in FACT_PRAGMAS and second is None)
    else:
        allowed = action in (
            sqlite3.SQLITE_SELECT,
            sqlite3.SQLITE_READ,
            sqlite3.SQLITE_FUNCTION,
            sqlite3.SQLITE_RECURSIVE,
        )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _sql_error(error: Exception, path: str) -> BaseException:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        # Raised in the progress handler, where SQLite made an error of its own of it.
        return KeyboardInterrupt()
    if code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
        return StoreReadOnlyError(
            f"sql() only reads, and this statement would change something ({error}); use the store's verbs", path=path
        )
    if isinstance(error, sqlite3.Error) and code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE):
        return store_error(error, path)
    table = re.fullmatch(r"no such table: (?:\w+\.)?(\w+)", str(error))
    hint = did_you_mean(table[1], TABLES) if table else ""
    return StoreError(f"SQLite does not understand the query: {error}{hint}", path=path)
