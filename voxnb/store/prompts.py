"""Saved prompts with versions, and notes on what is stored."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import ParameterError
from voxnb.messages import digest
from voxnb.params import nearest
from voxnb.store import ledger
from voxnb.store.database import Database
from voxnb.store.ids import new_id

if TYPE_CHECKING:
    import sqlite3

COLUMNS: Final = "q.name, q.version, v.text, v.hash FROM prompt q JOIN value v ON v.id = q.value"

TARGETS: Final = ("conversation", "turn", "summary")
"""What a note may be written on; all of them have a ``uid``."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A saved prompt in one of its versions; ``str(prompt)`` is its text.

    Attributes:
        name: without the version.
        version: from 1.
        text: literal but for ``{{previous_summary}}`` and ``{{messages}}``.
        id: content hash of the text; the ``prompt_id`` of summaries made with it.
    """

    name: str
    version: int
    text: str
    id: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Prompt {self.name}@{self.version}, {len(self.text):,} characters>\n{self.text}"


def save_prompt(db: Database, name: str, text: str) -> Prompt:
    """Save a text under a name; another text than the newest becomes the next version.

    Args:
        db: the store.
        name: without ``@``, which names versions.
        text: the prompt.

    Returns:
        The new version, or the newest one where it has this text already.

    Raises:
        ParameterError: an empty name or text, or one that is not Unicode.
    """
    _check(name, "name")
    _check(text, "text")
    if "@" in name or name != name.strip():
        raise ParameterError(
            f"{name!r} cannot name a prompt; leave out '@' and spaces around it (versions count by themselves)",
            name="name",
        )

    def work(c: sqlite3.Connection) -> Prompt:
        newest = _newest(c, name)
        if newest is not None and newest.text == text:
            return newest
        version = 1 if newest is None else newest.version + 1
        c.execute(
            "INSERT INTO prompt (name, version, value, created_at) VALUES (?, ?, ?, ?)",
            (name, version, ledger.put_value(c, text), time.time()),
        )
        return Prompt(name, version, text, digest(text))

    return db.write(work, durable=True).result()


def get_prompt(db: Database, ref: str) -> Prompt:
    """A saved prompt: ``"name"`` is the newest version, ``"name@3"`` the third.

    Raises:
        ParameterError: there is none; the message names the nearest, or how many versions there are.
    """
    match = re.fullmatch(r"(?P<name>[^@]+)(?:@(?P<version>[0-9]{1,9}))?", ref) if isinstance(ref, str) else None
    if match is None:
        raise ParameterError(f"{ref!r} names no prompt; expected 'name' or 'name@3'", name="name")
    name = match["name"]
    with db.snapshot() as c:
        newest = _newest(c, name)
        if newest is None:
            known = [known for (known,) in c.execute("SELECT DISTINCT name FROM prompt ORDER BY name")]
            close = nearest(name, known)
            hint = f"; did you mean {close[0]!r}?" if close else "; save it with store.save_prompt(name, text)"
            raise ParameterError(f"no saved prompt {name!r}{hint}", name=name, nearest=close)
        if match["version"] is None:
            return newest
        version = int(match["version"])
        row = c.execute(f"SELECT {COLUMNS} WHERE q.name = ? AND q.version = ?", (name, version)).fetchone()
    if row is None:
        raise ParameterError(f"the prompt {name!r} has versions 1 to {newest.version}, not {version}", name=name)
    return Prompt(*row)


def note(db: Database, target: str, text: str, *, label: str | None = None) -> str:
    """Write a note on a conversation, a turn or a summary.

    Args:
        db: the store.
        target: its id, or a conversation's name.
        text: the note.
        label: one word to sort by, such as ``"wrong"``.

    Returns:
        The note's id.

    Raises:
        ParameterError: the text is empty, or nothing has that id.
    """
    _check(text, "text")
    if label is not None:
        _check(label, "label")
    uid = new_id("n")

    def work(c: sqlite3.Connection) -> str:
        c.execute(
            "INSERT INTO note (uid, target, label, text, created_at) VALUES (?, ?, ?, ?, ?)",
            (uid, _target(c, target), label, text, time.time()),
        )
        return uid

    return db.write(work, durable=True).result()


def _target(c: sqlite3.Connection, target: Any) -> str:
    if isinstance(target, str) and target.isprintable():
        for table in TARGETS:
            if c.execute(f"SELECT 1 FROM {table} WHERE uid = ?", (target,)).fetchone():
                return target
        row = ledger.find(c, target)
        if row is not None:
            return row.uid
    raise ParameterError(
        f"nothing to note on: {target!r} is no conversation, turn or summary (a message's note goes to its turn)",
        name="target",
    )


def _newest(c: sqlite3.Connection, name: str) -> Prompt | None:
    row = c.execute(f"SELECT {COLUMNS} WHERE q.name = ? ORDER BY q.version DESC LIMIT 1", (name,)).fetchone()
    newest = None if row is None else Prompt(*row)
    repr(newest)  # a text that is none shows here, while the store is at hand to say which row has it
    return newest


def _check(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ParameterError(f"{name} is {value!r}, expected a text that is not empty", name=name)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(
            f"{name} is not Unicode at character {error.start} (a lone surrogate); repair it first", name=name
        ) from error
