"""Rows of messages: CSV, Parquet, DataFrames, dicts. Each row says whose message it is; rows may come in any order.

Rule 1: the order of the rows is the order of the messages. Rows of one conversation need not stand together: they wait in
a temporary database, so memory does not grow with the file.
Rule 2: a row that cannot be a message is passed over and noted; one that is merely odd is kept.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from voxnb.errors import ParameterError
from voxnb.params import did_you_mean, nearest
from voxnb.store.importing.clock import seconds_of
from voxnb.store.importing.draft import Draft, Reading
from voxnb.store.importing.spoken import role_of
from voxnb.store.lately import Connection

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "conversation": (
        "conversation", "conversation_id", "conv_id", "session_id", "session", "thread_id", "chat_id", "dialogue_id",
        "dialog_id",
    ),
    "role": ("role", "speaker", "author", "sender", "from"),
    "content": ("content", "text", "message", "utterance", "body", "value"),
    "created_at": ("created_at", "timestamp", "datetime", "time", "date", "sent_at"),
    "model": ("model",),
    "name": ("name",),
    "title": ("title",),
    "tool_calls": ("tool_calls",),
    "tool_call_id": ("tool_call_id",),
    "parts": ("parts",),
    "position": ("position",),
    "reasoning": ("reasoning", "reasoning_content"),
    "refusal": ("refusal",),
}  # fmt: skip
"""Our name of a column → what it is looked for under where ``columns`` does not say it.

``position`` counts the messages of a turn from 0, as our own tables do.
"""

_AS_TEXT: Final = {
    "name": "name", "tool_call_id": "tool_call_id", "reasoning": "reasoning_content", "refusal": "refusal",
}  # fmt: skip
"""Columns that are a text of the message → its key there."""

NEEDED: Final = ("role", "content")


def find_columns(
    have: Iterable[Any], given: Mapping[str, str] | None, *, needed: Iterable[str] = NEEDED
) -> dict[str, str]:
    """Our names → the source's columns.

    Args:
        have: the source's columns.
        given: what the user said.
        needed: our names that must be found.

    Raises:
        ParameterError: a name that is none, a column that is not there (the nearest is named), one that is needed, or
            one that is there twice.

    >>> find_columns(["who", "text", "session_id"], {"role": "who"})
    {'role': 'who', 'conversation': 'session_id', 'content': 'text'}
    """
    known = list(have)
    names = {str(name): name for name in known}
    out: dict[str, Any] = {}
    for ours, theirs in (given or {}).items():
        if ours not in COLUMNS:
            raise ParameterError(
                f"columns names {ours!r}, which is none of ours{did_you_mean(str(ours), COLUMNS)}; there are {', '.join(COLUMNS)}",
                name="columns",
                nearest=nearest(str(ours), COLUMNS),
            )
        if str(theirs) not in names:
            raise ParameterError(
                f"there is no column {theirs!r}{did_you_mean(str(theirs), names)}; there are {', '.join(names) or 'none'}",
                name="columns",
                nearest=nearest(str(theirs), names),
            )
        out[ours] = names[str(theirs)]
    lower = {name.strip().lower(): held for name, held in names.items()}
    for ours, aliases in COLUMNS.items():
        if ours not in out:
            found = next(
                (lower[alias] for alias in aliases if alias in lower and lower[alias] not in out.values()), None
            )
            if found is not None:
                out[ours] = found
    missing = [name for name in needed if name not in out]
    if missing:
        raise ParameterError(
            f"no column looks like {missing[0]!r}; say which it is: columns={{{missing[0]!r}: …}}; "
            f"there are {', '.join(names) or 'none'}",
            name="columns",
            nearest=nearest(missing[0], names),
        )
    refuse_twins(known, out.values())
    return out


def refuse_twins(have: Iterable[Any], taken: Iterable[Any]) -> None:
    """Refuse columns of one name where one of them would be taken: which one is not ours to guess.

    Raises:
        ParameterError: there are such columns.
    """
    times = Counter(str(name) for name in have)
    for theirs in taken:
        if times[str(theirs)] > 1:
            raise ParameterError(
                f"the column {theirs!r} is there {times[str(theirs)]} times; rename all but one of them", name="columns"
            )


class Waiting:
    """Rows that wait until all are read, and then come back as conversations, in the order of their first rows.

    Args:
        reading: of the import.
        roles: the source's names of roles → the API's.
    """

    def __init__(self, reading: Reading, roles: Mapping[str, str] | None) -> None:
        self._reading = reading
        self._roles = roles
        # Without a name SQLite keeps it in memory while it is small, and in a file of its own that nobody sees when not.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False, factory=Connection)
        self._db.execute("CREATE TABLE conversation (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE)")
        self._db.execute(
            "CREATE TABLE row (conversation INTEGER, n INTEGER, said TEXT, PRIMARY KEY (conversation, n)) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")
        self._count = 0
        self._last: tuple[str, int] = ("", 0)

    def add(self, place: str, row: Mapping[str, Any]) -> None:
        """Take a row in (our column names → values), or note why it is no message."""
        said = _said(place, row, self._reading, self._roles)
        if said is None:
            return
        key = json.dumps(_text(row.get("conversation")))
        if key != self._last[0]:
            self._db.execute("INSERT OR IGNORE INTO conversation (key) VALUES (?)", (key,))
            (conversation,) = self._db.execute("SELECT id FROM conversation WHERE key = ?", (key,)).fetchone()
            self._last = (key, conversation)
        self._count += 1
        self._db.execute(
            "INSERT INTO row VALUES (?, ?, ?)", (self._last[1], self._count, json.dumps(said, default=str))
        )

    def drafts(self) -> Iterator[Draft]:
        """The conversations; afterwards nothing waits any more."""
        with closing(self._db) as c:
            for key, conversation in c.execute("SELECT key, id FROM conversation ORDER BY id"):
                said = c.execute("SELECT said FROM row WHERE conversation = ? ORDER BY n", (conversation,))
                yield _draft(json.loads(key), [json.loads(text) for (text,) in said], self._reading)


def _said(place: str, row: Mapping[str, Any], reading: Reading, roles: Mapping[str, str] | None) -> list[Any] | None:
    """(place, message, time, model, title, whether a turn begins) of a row, or None where it is no message."""
    message: dict[str, Any] = {"role": role_of(_text(row.get("role")), roles)}
    if unplaced := _unplaced(row, message["role"]):
        reading.skipped.add(unplaced, place)
        return None
    calls, parts, content = _json(row.get("tool_calls")), _json(row.get("parts")), row.get("content")
    if parts is None and isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content):
        parts = content  # a message as the API has it
    if isinstance(parts, list):
        message["content"] = parts
    elif missing(content):
        if not calls:
            reading.skipped.add("rows without content", place)
            return None
        message["content"] = None
    else:
        message["content"] = _text(content) or (None if calls else "")
    if calls:
        message["tool_calls"] = calls
    for column, name in _AS_TEXT.items():
        if not missing(row.get(column)):
            message[name] = _text(row[column])
    at = None
    if not missing(row.get("created_at")):
        at = seconds_of(row["created_at"])
        if at is None:
            reading.remarks.add("times that are none", f"{place}: {str(row['created_at'])[:40]!r}")
    model, title = (None if missing(row.get(name)) else _text(row[name]) for name in ("model", "title"))
    return [place, message, at, model, title, _text(row.get("position")) == "0"]


def _unplaced(row: Mapping[str, Any], role: Any) -> str | None:
    """What a row does not say and must, or None."""
    if "conversation" in row and missing(row["conversation"]):
        return "rows that do not say whose message they are"
    if missing(row.get("role")):
        return "rows without a role"
    if role == "tool" and missing(row.get("tool_call_id")):
        return "rows of tools that do not say which call they answer"
    return None


def _draft(key: str | None, said: Sequence[Sequence[Any]], reading: Reading) -> Draft:
    places, messages, times, models, titles, firsts = zip(*said, strict=True)
    whole = places[0] if len(places) == 1 else f"{places[0]} to {places[-1]}"
    return Draft(
        whole,
        list(messages),
        key=key,
        name=key if key is not None else reading.stem,
        title=next((title for title in titles if title), None),
        model=next((model for model in reversed(models) if model), None),
        times=times if any(at is not None for at in times) else (),
        facts={n: {"model": model} for n, model in enumerate(models) if model},
        begins={n for n, first in enumerate(firsts) if first},
    )


def missing(value: Any) -> bool:
    """None, NaN, NaT, NA."""
    return (
        value is None
        or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN equals nothing
        or type(value).__name__ in ("NAType", "NaTType")
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of numbers with a gap in it
    return str(value)


def _json(value: Any) -> Any:
    """Lists as they are, or as JSON text; None for what is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    return value if isinstance(value, list) and value else None
