"""A batch of checked conversations in one transaction: every row of a table in a few statements.

Rule 1: a conversation that is there is known by its id, which comes from the source's own id or from what it says. It
is never written twice; what a newer export added to it is.
Rule 2: keys are given out here, inside the write lock; nobody else can take them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, repeat
from typing import Any, Final, NamedTuple

from voxnb.messages import INSTRUCTION_ROLES
from voxnb.store import fresh, ledger
from voxnb.store.ids import derived_number, following, new_id, written
from voxnb.store.importing.draft import Reading
from voxnb.store.importing.ready import Ready, ReadyTurn
from voxnb.store.lately import forget
from voxnb.store.paths import PATH
from voxnb.store.pins import add_pin
from voxnb.store.rows import ConversationRow, dump
from voxnb.store.schema import MAX_SEQ

MAX_NAME_CHARS: Final = 200
KEPT_NAMES: Final = 10_000
MAX_PARAMETERS: Final = 32_000
"""Values in one statement; SQLite takes 32,766."""

TURN_FACTS: Final = ("model", "state", "error", "finish_reason", "duration_ms", "first_token_ms", "cost_usd")
UNSAID: Final = {"state": "complete"}
OTHERWISE: Final = "in the store already, where it goes on otherwise; import with copy=True to have both"


@dataclass(slots=True)
class Outcome:
    """What a batch added; nothing of it counts before its transaction is committed."""

    conversations: int = 0
    turns: int = 0
    messages: int = 0
    known: int = 0
    extended: int = 0
    names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)

    def add(self, turns: Sequence[ReadyTurn], *, name: str | None = None) -> None:
        """Count turns that are written, and the conversation that is new with them."""
        self.turns += len(turns)
        self.messages += sum(len(turn.messages) for turn in turns)
        if name is not None:
            self.conversations += 1
            self.names.append(name)


class Names:
    """Free names for conversations: a taken one gets a number."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._known: dict[str, bool] = {}
        self.pending: set[str] = set()

    def look_up(self, c: sqlite3.Connection, wanted: Iterable[str]) -> None:
        """See which of these are taken; holds until the next look, in one transaction."""
        names = set(wanted)
        there = _taken_of(c, names)
        self._known = {name: name in there for name in names}
        self.pending.clear()

    def free(self, c: sqlite3.Connection, wanted: str) -> str:
        """The name, or the name with the next free number; it is taken from now on."""
        chosen = name = wanted if wanted.strip() else "imported"
        # Where it begins is remembered: ten thousand conversations of one title would try ten thousand numbers each.
        number = self._last.get(name, 1)
        while number > 1 or self._taken(c, chosen):
            number += 1
            chosen = f"{name}-{number}"
            if not self._taken(c, chosen):
                break
        if number > 1 and len(self._last) < KEPT_NAMES:
            self._last[name] = number
        self.pending.add(chosen)
        return chosen

    def _taken(self, c: sqlite3.Connection, name: str) -> bool:
        if name in self.pending:
            return True
        known = self._known.get(name)
        return name in _taken_of(c, {name}) if known is None else known


class Head(NamedTuple):
    """A conversation's id, the number of it (None for a copy), the name it would have, and its metadata."""

    uid: str
    number: int | None
    name: str
    metadata: str


def _taken_of(c: sqlite3.Connection, names: Collection[str]) -> set[str]:
    """Which of the names a conversation has, as its name or as its id."""
    return _among(c, "name", names) | _among(c, "uid", names)


def _among(c: sqlite3.Connection, column: str, values: Collection[str]) -> set[str]:
    """Which of the values a column of the conversations holds, at most `MAX_PARAMETERS` of them.

    Asked for together: after each statement a thread waits for whichever other one runs Python, and reading does.
    """
    marks = ", ".join("?" * len(values))
    return {
        value for (value,) in c.execute(f"SELECT {column} FROM conversation WHERE {column} IN ({marks})", [*values])
    }


@dataclass(slots=True)
class Batch:
    """Conversations for one transaction.

    Attributes:
        ready: in order.
        reading: of the import.
        names: of the import.
        now: UNIX seconds; stands in for times that nobody knows.
        copy: give new ids, so that nothing is recognised.
        heads: what is told of each before it is written: where it is made, since the writer has most to do.
    """

    ready: Sequence[Ready]
    reading: Reading
    names: Names
    now: float
    copy: bool = False
    heads: Sequence[Head] = ()

    def __post_init__(self) -> None:
        self.heads = [self._head(ready) for ready in self.ready]

    def write(self, c: sqlite3.Connection) -> Outcome:
        """Write every conversation of the batch; called inside a transaction."""
        rows, outcome = Rows(c, self.now), Outcome()
        stored, fresh = _among(c, "uid", [head.uid for head in self.heads]), set[str]()
        self.names.look_up(c, [head.name for head in self.heads])
        for ready, (uid, number, wanted, metadata) in zip(self.ready, self.heads, strict=True):
            if uid in fresh:
                rows.flush()
                stored |= fresh
                fresh.clear()
            if uid in stored:
                self._meet(rows, ledger.need(c, uid), ready, number, outcome)
            else:
                fresh.add(uid)
                name = self.names.free(c, wanted)
                rows.add_conversation(ready, uid=uid, name=name, metadata=metadata, number=number)
                outcome.add(ready.turns, name=name)
        rows.flush()
        return outcome

    def _head(self, ready: Ready) -> Head:
        number = self._number(ready)
        uid = new_id("k") if number is None else written("k", number)
        return Head(uid, number, self._wanted_name(ready), self._metadata(ready))

    def _number(self, ready: Ready) -> int | None:
        """The number of the id that this conversation always gets, or None for a copy."""
        if self.copy:
            return None
        draft = ready.draft
        at = draft.created_at or next((turn.created_at for turn in ready.turns if turn.created_at is not None), None)
        if draft.key is None:
            return derived_number(at, "content", ready.content)
        if draft.key_is_global:
            return derived_number(at, self.reading.format, draft.key)
        return derived_number(at, "key", draft.key, ready.turns[0].hash)

    def _wanted_name(self, ready: Ready) -> str:
        draft = ready.draft
        wanted = draft.name or draft.title or f"{self.reading.stem} {draft.place}"
        return " ".join(wanted.split())[:MAX_NAME_CHARS].strip()

    def _metadata(self, ready: Ready) -> str:
        draft = ready.draft
        facts = {
            "format": self.reading.format, "source": self.reading.source, "place": draft.place, "id": draft.key,
            "created_at": draft.created_at,
        }  # fmt: skip
        return dump({**draft.metadata, "imported": {k: v for k, v in facts.items() if v is not None}})

    def _meet(self, rows: Rows, stored: ConversationRow, ready: Ready, number: int | None, outcome: Outcome) -> None:
        """A conversation that is there: nothing new, new turns at its end, or another course."""
        path = rows.c.execute(
            f"SELECT t.hash {PATH} ORDER BY l.first_seq, t.seq", {"branch": stored.branch, "low": 1, "high": MAX_SEQ}
        )
        have, given = [key for (key,) in path], [turn.hash for turn in ready.turns]
        shared = min(len(have), len(given))
        if have[:shared] != given[:shared]:
            outcome.skipped.append((OTHERWISE, f"{ready.draft.place}: {stored.name!r}"))
        elif len(given) <= len(have):
            outcome.known += 1
        else:
            new = ready.turns[shared:]
            rows.extend(stored, new, number=number)
            outcome.add(new)
            outcome.extended += 1


# -- rows -------------------------------------------------------------------------------------

CONVERSATION: Final = (
    "conversation", "id uid name title model branch last_seq instructions pin_version metadata created_at last_turn_at"
)  # fmt: skip
BRANCH: Final = ("branch", "id conversation created_at")
LINEAGE: Final = ("lineage", "branch first_seq last_seq source")
TURN: Final = ("turn", "id uid branch seq tokens hash created_at state")
KNOWN_TURN: Final = ("turn", f"id uid branch seq tokens hash created_at {' '.join(TURN_FACTS)}")
MESSAGE: Final = ("message", "id turn position role text extra tokens features encoding hash created_at")
PIN: Final = ("pin", "conversation turn position added")
TABLES: Final = (CONVERSATION, BRANCH, LINEAGE, TURN, KNOWN_TURN, MESSAGE, PIN)


class Rows:
    """Rows that wait to be written, with their keys given out.

    Args:
        c: the writer's connection, in a transaction.
        now: UNIX seconds, for what has no time.
    """

    def __init__(self, c: sqlite3.Connection, now: float) -> None:
        self.c = c
        self.now = now
        self._values: dict[tuple[str, str], list[Any]] = {table: [] for table in TABLES}
        self._next = {
            table[0]: int(c.execute(f"SELECT coalesce(max(id), 0) FROM {table[0]}").fetchone()[0]) + 1
            for table in (CONVERSATION, BRANCH, TURN, MESSAGE)
        }
        self._texts: dict[str, int] = {}

    def _key(self, table: str) -> int:
        key = self._next[table]
        self._next[table] = key + 1
        return key

    def add_conversation(self, ready: Ready, *, uid: str, name: str, metadata: str, number: int | None) -> None:
        """A new conversation with its turns."""
        draft = ready.draft
        key, branch = self._key("conversation"), self._key("branch")
        pins = self._add_turns(ready.turns, branch=branch, first_seq=1, number=number, begun=draft.created_at)
        known = [turn.created_at for turn in ready.turns if turn.created_at is not None]
        begun = draft.created_at or (known[0] if known else self.now)
        self._values[CONVERSATION] += (
            key, uid, name, draft.title, draft.model, branch, len(ready.turns), self._instructions(ready), len(pins),
            metadata, begun, max(known, default=begun),
        )  # fmt: skip
        self._values[BRANCH] += (branch, key, begun)
        self._values[LINEAGE] += (branch, 1, MAX_SEQ, branch)
        for added, (turn, position) in enumerate(pins, 1):
            self._values[PIN] += (key, turn, position, added)

    def extend(self, row: ConversationRow, turns: Sequence[ReadyTurn], *, number: int | None) -> None:
        """More turns for a conversation that is there."""
        pins = self._add_turns(turns, branch=row.branch, first_seq=row.last_seq + 1, number=number, begun=None)
        self.flush()
        forget(self.c)  # they may be counted by another encoding than the turns before
        last = max((turn.created_at for turn in turns if turn.created_at is not None), default=self.now)
        self.c.execute(
            "UPDATE conversation SET last_seq = ?, last_turn_at = max(coalesce(last_turn_at, 0), ?) WHERE id = ?",
            (row.last_seq + len(turns), last, row.id),
        )
        for turn, position in pins:
            add_pin(self.c, row, turn, position=position)

    def _add_turns(
        self, turns: Sequence[ReadyTurn], *, branch: int, first_seq: int, number: int | None, begun: float | None
    ) -> list[tuple[int, int]]:
        """Turns and messages of one path; (turn, position) of the system messages in between, which are pinned."""
        turn_values, known_values, message_values = (self._values[table] for table in (TURN, KNOWN_TURN, MESSAGE))
        message = self._next["message"]
        pins = []
        uids = repeat(None) if number is None else following("t", number, first_seq)
        for seq, turn, uid in zip(count(first_seq), turns, uids):
            key = self._key("turn")
            begun_at = turn.created_at or begun or self.now
            row = (key, uid or new_id("t"), branch, seq, turn.tokens, turn.hash, begun_at)
            if turn.facts:
                known_values += (*row, *(turn.facts.get(name, UNSAID.get(name)) for name in TURN_FACTS))
            else:
                turn_values += (*row, "complete")
            for position, (role, text, extra, tokens, features, encoding, content, at) in enumerate(turn.messages):
                if role in INSTRUCTION_ROLES:
                    pins.append((key, position))
                message_values += (
                    message, key, position, role, text, extra, tokens, features, encoding, content, at or begun_at
                )  # fmt: skip
                message += 1
        self._next["message"] = message
        return pins

    def _instructions(self, ready: Ready) -> int | None:
        if not ready.instructions:
            return None
        text = ledger.instructions_text(ready.instructions)
        if text not in self._texts:
            self._texts[text] = ledger.put_value(self.c, text)
        return self._texts[text]

    def flush(self) -> None:
        """Write what waits."""
        said = bool(self._values[MESSAGE])
        for table, values in self._values.items():
            insert(self.c, *table, values)
            values.clear()
        if said:
            fresh.index_all(self.c)


CHUNKS: Final = (1024, 128, 16, 1)
"""Rows per statement: a few sizes, so that SQLite prepares a few statements."""


def insert(c: sqlite3.Connection, table: str, columns: str, values: Sequence[Any]) -> None:
    """Insert rows given as one flat list; many in a statement, during which other threads run.

    Args:
        c: connection, in a transaction.
        table: name.
        columns: names with spaces between.
        values: row after row.
    """
    width, at = len(columns.split()), 0
    for rows in CHUNKS:
        size = rows * width
        if size > MAX_PARAMETERS:
            continue
        while len(values) - at >= size:
            c.execute(_statement(table, columns, rows), values[at : at + size])
            at += size


@lru_cache(maxsize=256)
def _statement(table: str, columns: str, rows: int) -> str:
    names = columns.split()
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"
