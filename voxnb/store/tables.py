"""The tables as DataFrames, filtered by conversation, time and number.

Every function takes the same filters:

- ``conversation``: row id; only what belongs to its path, a fork's inherited turns included.
- ``since``, ``until``: rows from ``since`` on and before ``until`` (datetime, date, ISO text; UTC without a zone).
- ``limit``: only so many of the newest rows; they still come oldest first.
- ``columns``: names of the columns wanted, in that order; what is not asked for is not computed.

Each raises `ParameterError` for a filter that is not one (an unknown column names the nearest), and `StoreError` where
the store cannot be read. Dtypes are the same with no row at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

from voxnb.errors import ParameterError
from voxnb.events import EventNamespace
from voxnb.params import did_you_mean, nearest
from voxnb.store.columns import CHAIN, INHERITED, REACH, TABLES, Table
from voxnb.store.database import Database
from voxnb.store.frames import frame, row_limit, window

if TYPE_CHECKING:
    import pandas as pd


class Filters(TypedDict, total=False):
    """What every table takes; see the module."""

    conversation: int | None
    since: Any
    until: Any
    limit: int | None
    columns: Iterable[str] | None


FILTERS: Final = """
Args:
    since: rows from then on: a datetime, a date or ISO text; UTC without a zone.
    until: rows before then.
    limit: only so many of the newest rows; they still come oldest first.
    columns: names of the columns wanted, in that order; what is not asked for is not computed.

Raises:
    ParameterError: a filter that is none, or an unknown column; the nearest is named.
"""

F = TypeVar("F", bound=Callable[..., Any])


def documented(method: F) -> F:
    """Say in a method's tooltip which columns and filters the table of its name has."""
    first, _, more = inspect.cleandoc(globals()[method.__name__].__doc__).partition("\n\n")
    columns = f"Columns: {', '.join(TABLES[method.__name__].columns)}."
    told = [inspect.cleandoc(method.__doc__ or ""), f"{first} {more}".strip(), columns, FILTERS]
    method.__doc__ = "\n\n".join(part.strip("\n") for part in told) + "\n"
    own = [p for p in inspect.signature(method).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    passed = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=getattr(kind, "__forward_arg__", kind)
        )
        for name, kind in Filters.__annotations__.items()
        if name != "conversation"
    ]
    method.__signature__ = inspect.Signature([*own, *passed])  # type: ignore[attr-defined]  # what inspect reads
    return method


def conversations(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per conversation, in the order they were begun.

    ``turn_count`` and ``token_count`` are those of its current path, ``folds`` the summaries behind its head,
    ``cost_usd`` the sum of what is known of all its calls, ``metadata`` JSON. ``since`` and ``until`` look at
    ``last_turn_at``.
    """
    return select(db, "conversations", **filters)


def turns(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per turn: what was asked and answered, and what became of it.

    ``covered_by`` is the summary that stands for it in requests, NA where it is sent verbatim; ``live`` is False where
    it was undone (it is on no conversation's current path).
    """
    return select(db, "turns", **filters)


def messages(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per message.

    ``parts`` and ``tool_calls`` are JSON; ``tool_name`` is the function a tool message answers; ``refusal`` is what the
    model says instead of an answer, ``reasoning`` its thoughts (or their summary), where the server tells them.
    """
    return select(db, "messages", **filters)


def summaries(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per summary; ``live`` is what is sent. ``prompt_id`` is the content hash of the instruction."""
    return select(db, "summaries", **filters)


def coverage(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per summary and turn that its model was newly shown, with the turn's content as it was then."""
    return select(db, "coverage", **filters)


def calls(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per request to a model; ``token_error`` is reported over estimated prompt tokens, minus 1; ``reply_id`` is a turn's answer at the service."""
    return select(db, "calls", **filters)


def events(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per event that was kept; ``payload`` is JSON."""
    return select(db, "events", **filters)


def media(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per media stream of a spoken conversation."""
    return select(db, "media", **filters)


def prompts(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per version of a saved prompt; with a conversation, those its summaries were made with."""
    return select(db, "prompts", **filters)


def notes(db: Database, /, **filters: Unpack[Filters]) -> pd.DataFrame:
    """One row per note; ``target_id`` is a conversation, a turn or a summary."""
    return select(db, "notes", **filters)


def select(
    db: Database,
    table: str,
    *,
    conversation: int | None = None,
    since: Any = None,
    until: Any = None,
    limit: int | None = None,
    columns: Iterable[str] | None = None,
) -> pd.DataFrame:
    """A table by name; see the module."""
    spec = TABLES[table]
    names = _asked(columns, known=spec.columns)
    conditions, params = window(since, until, column=spec.time)
    sql = statement(spec, names, conversation=conversation is not None, conditions=conditions, newest=limit is not None)
    values: dict[str, Any] = {**params, "limit": row_limit(limit), "conversation": conversation}
    with db.reader() as c:  # also while the frame is made: that is when a damaged value shows
        rows = c.execute(sql, values).fetchall()
        if limit is not None:
            rows.reverse()
        return frame({name: spec.columns[name].kind for name in names}, rows)


def _asked(columns: Iterable[str] | None, *, known: Mapping[str, Any]) -> list[str]:
    if columns is None:
        return list(known)
    if not isinstance(columns, Iterable):
        raise ParameterError(f"columns is {columns!r}, expected names of columns in a list", name="columns")
    names = list(dict.fromkeys([columns] if isinstance(columns, str) else columns))
    for name in names:
        if name not in known:
            raise ParameterError(
                f"unknown column {name!r}{did_you_mean(str(name), known)}; there are {', '.join(known)}",
                name="columns",
                nearest=nearest(str(name), known),
            )
    if not names:
        raise ParameterError("columns is empty; name some, or leave it out for all", name="columns")
    return names


def event_table(namespace: type[EventNamespace], /) -> pd.DataFrame:
    """An events namespace as a DataFrame: ``constant``, ``value``, ``wire_type`` (NA where the connector makes it)."""
    names = ("constant", "value", "wire_type")
    return frame(dict.fromkeys(names, "str"), [tuple(row[name] for name in names) for row in namespace.rows()])


# -- statements -------------------------------------------------------------------------------


def statement(
    table: Table,
    names: Iterable[str],
    *,
    conversation: bool = False,
    conditions: Iterable[str] = (),
    newest: bool = False,
) -> str:
    """The SELECT of some columns of a table.

    Args:
        table: which.
        names: of its columns, in the order wanted.
        conversation: only the rows of ``:conversation``.
        conditions: more of them, joined by AND.
        newest: newest row first, at most ``:limit`` rows; else oldest first, all.
    """
    whose = ":conversation" if conversation else "b.conversation"
    columns = [(name, table.columns[name]) for name in names]
    chosen = ", ".join(
        f"{((conversation and column.path) or column.sql).format(whose=whose)} AS {name}" for name, column in columns
    )
    source = (conversation and table.path) or table.every
    joins = [] if conversation else dict.fromkeys(join for _, column in columns for join in column.joins)
    where = [table.where] * conversation + list(conditions)
    shared = (
        [CHAIN.format(only=" WHERE k.id = :conversation"), INHERITED]
        if conversation
        else [CHAIN.format(only=""), REACH]
    )
    keys = (conversation and table.path_order) or table.order
    order = ", ".join(f"{key} DESC" for key in keys) + " LIMIT :limit" if newest else ", ".join(keys)
    return (
        f"WITH RECURSIVE {', '.join(shared)} SELECT {chosen} {source} {' '.join(table.joins[join] for join in joins)} "
        f"{'WHERE ' if where else ''}{' AND '.join(where)} ORDER BY {order}"
    )


def view(name: str) -> str:
    """``CREATE TEMP VIEW`` of a table under its DataFrame's name."""
    table = TABLES[name]
    return f"CREATE TEMP VIEW {name} AS {statement(table, table.columns)}"
