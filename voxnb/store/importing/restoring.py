"""One conversation of our own JSON Lines into the tables, as it was; see `own` for the rules."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from voxnb.errors import MessageError
from voxnb.memory.past import UNDER_WAY
from voxnb.messages import Message, canonical, parse_message
from voxnb.store import fresh, ledger
from voxnb.store.columns import rows_of
from voxnb.store.importing.writing import Names, Outcome, insert
from voxnb.store.lately import forget
from voxnb.store.paths import PATH
from voxnb.store.redact import forget_summaries
from voxnb.store.rows import ConversationRow, dump, split_message, turn_hash
from voxnb.store.schema import MAX_SEQ

Row = dict[str, Any]


class BrokenError(ValueError):
    """Lines that do not go together, and how."""


@dataclass(slots=True)
class Whole:
    """The lines of one conversation."""

    line: int
    head: Row
    turns: list[Row] = field(default_factory=list)
    summaries: list[Row] = field(default_factory=list)
    rest: list[Row] = field(default_factory=list)
    messages: int = 0
    chars: int = 0

    def add(self, row: Row) -> None:
        """Take a line in."""
        kind = row["type"]
        if kind == "turn":
            self.turns.append(row)
            held = row.get("messages")
            held = held if isinstance(held, list) else []
            self.messages += len(held)
            self.chars += sum(len(str(m.get("message"))) for m in held if isinstance(m, dict))
        elif kind == "summary":
            self.summaries.append(row)
        else:
            self.rest.append(row)

    @property
    def name(self) -> str:
        """Its name in quotes, for remarks."""
        return repr(self.head.get("name"))


class Restoring:
    """Writes one conversation.

    Args:
        c: the writer's connection, in a transaction.
        whole: its lines.
        names: of the import.
        outcome: counts what is written.
    """

    def __init__(self, c: sqlite3.Connection, whole: Whole, names: Names, outcome: Outcome) -> None:
        self.c = c
        self.whole = whole
        self.head = whole.head
        self.names = names
        self.outcome = outcome
        self.place = f"line {whole.line}, {whole.name}"
        self.turns: dict[str, int] = {}
        self.fresh: list[Row] = []

    def write(self) -> None:
        """Write it, or note that it is there.

        Raises:
            BrokenError: its lines do not go together; the caller takes everything back.
        """
        stored = self.c.execute("SELECT id FROM conversation WHERE uid = ?", (_text(self.head, "id"),)).fetchone()
        if stored is not None:
            self._meet(int(stored[0]))
            return
        wanted = _text(self.head, "name")
        name = self.names.free(self.c, wanted)
        if name != wanted:
            self.outcome.remarks.append(("named otherwise, because the name is taken", f"{self.place}: {name!r}"))
        conversation = self._conversation(name)
        self._path(conversation)
        self._pins(conversation, self.whole.turns)
        self._summaries(conversation)
        self._rest(conversation)
        forget_summaries(self.c)  # of turns that are redacted here, while the file's summaries still quote them
        self.outcome.conversations += 1
        self.outcome.names.append(name)
        self._count()

    def _meet(self, conversation: int) -> None:
        """The conversation is there: as in the file or longer, without the newest turns, or with another course since."""
        row = ledger.by_id(self.c, conversation)
        have = [
            (uid, key)
            for uid, key in self.c.execute(
                f"SELECT t.uid, t.hash {PATH} ORDER BY l.first_seq, t.seq",
                {"branch": row.branch, "low": 1, "high": MAX_SEQ},
            )
        ]
        given = [(turn["id"], turn["content_hash"]) for turn in self.whole.turns]
        if have[: len(given)] == given:
            self.outcome.known += 1
        elif given[: len(have)] == have and not self._undone(conversation, given[len(have) :]):
            self._extend(row, self.whole.turns[len(have) :])
        else:
            self.outcome.skipped.append(
                (
                    "in the store already with another course; the file's is not taken (merge() unites stores)",
                    self.place,
                )
            )

    def _undone(self, conversation: int, turns: list[tuple[str, str]]) -> bool:
        """Whether the conversation had one of these turns, its own or one of its source, and went back before it."""
        sql = "SELECT 1 FROM turn t JOIN lineage l ON l.source = t.branch AND t.seq BETWEEN l.first_seq AND l.last_seq JOIN branch b ON b.id = l.branch WHERE t.uid = ? AND b.conversation = ?"
        return any(self.c.execute(sql, (uid, conversation)).fetchone() for uid, _ in turns)

    def _extend(self, row: ConversationRow, turns: list[Row]) -> None:
        """Bring what came since; where it was folded here meanwhile, the summaries stay those of here."""
        self._path(row.id)
        self.c.execute(
            "UPDATE conversation SET last_seq = ?, last_turn_at = ?, model = ?, instructions = ? WHERE id = ?",
            (
                len(self.whole.turns), cell(self.head, "last_turn_at"), cell(self.head, "model"), self._instructions(),
                row.id,
            ),
        )  # fmt: skip
        self._pins(row.id, turns, added=row.pin_version)  # also of those that a fork brought before
        if row.head is None or row.head in {self._row("summary", line.get("id")) for line in self.whole.summaries}:
            self._summaries(row.id)
        else:
            self.outcome.remarks.append(("folded otherwise since: the file's summaries are not taken", self.place))
        self._rest(row.id)
        forget_summaries(self.c)
        forget(self.c)
        self.outcome.extended += 1
        self._count()

    def _count(self) -> None:
        self.outcome.turns += len(self.fresh)
        self.outcome.messages += sum(len(turn["messages"]) for turn in self.fresh)

    def _conversation(self, name: str) -> int:
        head = self.head
        parent = self._row("conversation", head.get("parent_id"))
        if head.get("parent_id") and parent is None:
            self.outcome.remarks.append(("forks whose source is not in the store: it is not named", self.place))
        cursor = self.c.execute(
            "INSERT INTO conversation (uid, name, title, api, model, parent, fork_seq, branch, last_seq, instructions, "
            "metadata, created_at, last_turn_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
            (
                head["id"], name, cell(head, "title"), cell(head, "api") or "chat", cell(head, "model"), parent,
                cell(head, "fork_seq"), len(self.whole.turns), self._instructions(), _json(dict(head.get("metadata") or {})),
                float(head["created_at"]), cell(head, "last_turn_at"),
            ),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def _instructions(self) -> int | None:
        if not self.head.get("instructions"):
            return None
        said = [[m["message"], m["tokens"], list(m["features"] or ())] for m in self.head["instructions"]]
        return ledger.put_value(self.c, canonical(said))

    # -- the path -----------------------------------------------------------------------------

    def _path(self, conversation: int) -> None:
        """Turns that are new, on a branch of their own, between those that are there."""
        branch = self._insert("branch", {"conversation": conversation, "created_at": float(self.head["created_at"])})
        self.c.execute("UPDATE conversation SET branch = ? WHERE id = ?", (branch, conversation))
        stretches: list[list[int]] = []
        for number, turn in enumerate(self.whole.turns, 1):
            if turn.get("seq") != number:
                raise BrokenError(f"turn {turn.get('seq')!r} stands where turn {number} should")
            source = self._stored_branch(turn)
            if source is None:
                source = branch
                self.turns[turn["id"]] = self._turn(branch, turn)
                self.fresh.append(turn)
            if stretches and stretches[-1][2] == source:
                stretches[-1][1] = number
            else:
                stretches.append([number, number, source])
        if stretches and stretches[-1][2] == branch:
            stretches[-1][1] = MAX_SEQ
        else:
            stretches.append([len(self.whole.turns) + 1, MAX_SEQ, branch])
        insert(self.c, "lineage", "branch first_seq last_seq source", [v for s in stretches for v in (branch, *s)])

    def _stored_branch(self, turn: Row) -> int | None:
        """The branch of a turn that is in the store already."""
        found = self.c.execute("SELECT id, branch, seq, hash FROM turn WHERE uid = ?", (_text(turn, "id"),)).fetchone()
        if found is None:
            return None
        key, branch, seq, content = found
        if seq != turn["seq"] or content != turn["content_hash"]:
            raise BrokenError(f"turn {seq} is in the store already and says something else")
        self.turns[turn["id"]] = int(key)
        return int(branch)

    def _turn(self, branch: int, turn: Row) -> int:
        messages = [self._message(n, m, turn) for n, m in enumerate(turn["messages"])]
        if turn_hash(m[7] for m in messages) != turn["content_hash"]:
            raise BrokenError(f"turn {turn['seq']} is not what its hash says")
        state, error = turn["state"], cell(turn, "error")
        if state in UNDER_WAY:
            state = "partial" if any(m[1] == "assistant" for m in messages) else "failed"
            error = error or "was still running when it was exported"
            self.outcome.remarks.append(("turns that still ran when they were exported count as ended", self.place))
        if state not in ("complete", "partial", "failed"):
            raise BrokenError(f"turn {turn['seq']} has the state {state!r}")
        cursor = self.c.execute(
            "INSERT INTO turn (uid, branch, seq, state, tokens, hash, model, finish_reason, error, cost_usd, first_token_ms, "
            "duration_ms, redacted_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                turn["id"], branch, turn["seq"], state, sum(m[4] for m in messages), turn["content_hash"], cell(turn, "model"),
                cell(turn, "finish_reason"), error, cell(turn, "cost_usd"), cell(turn, "first_token_ms"),
                cell(turn, "duration_ms"), cell(turn, "redacted_at"), float(turn["created_at"]),
            ),
        )  # fmt: skip
        key = int(cursor.lastrowid or 0)
        for row in messages:
            fresh.write_message(self.c, key, *row)
        return key

    def _message(self, position: int, held: Row, turn: Row) -> tuple[Any, ...]:
        redacted = turn.get("redacted_at") is not None  # then the hash is of words that are gone
        try:
            parse = Message.from_dict if redacted else partial(parse_message, index=position)
            message: Message = parse(held["message"])
        except MessageError as error:
            raise BrokenError(f"turn {turn['seq']}: {error}") from error
        if held["position"] != position:
            raise BrokenError(
                f"turn {turn['seq']}: message {held['position']!r} stands where message {position} should"
            )
        if message.content_hash != held["content_hash"] and not redacted:
            raise BrokenError(f"turn {turn['seq']}, message {position}: is not what its hash says (was it edited?)")
        text, extra = split_message(message)
        features = held.get("features")
        return (
            position, message.role, text, None if extra is None else dump(extra), int(held["tokens"]),
            None if features is None else _json(features), _text(held, "encoding"), held["content_hash"],
            float(held["created_at"]),
        )  # fmt: skip

    # -- what belongs to it -------------------------------------------------------------------

    def _pins(self, conversation: int, turns: list[Row], *, added: int = 0) -> None:
        for turn in turns:
            positions: list[int | None] = [None] * bool(turn.get("pinned"))
            for position in [*positions, *turn.get("pinned_positions", ())]:
                added += 1
                self.c.execute(
                    "INSERT INTO pin (conversation, turn, position, added) VALUES (?, ?, ?, ?)",
                    (conversation, self.turns[turn["id"]], position, added),
                )
        self.c.execute("UPDATE conversation SET pin_version = ? WHERE id = ?", (added, conversation))

    def _summaries(self, conversation: int) -> None:
        for row in self.whole.summaries:
            if self._row("summary", _text(row, "id")) is not None:
                continue
            owner = self._row("conversation", row.get("conversation_id")) or conversation
            values = {
                **{name: cell(row, name) for name in SUMMARY},
                "uid": row["id"], "conversation": owner, "previous": self._row("summary", row.get("previous_id")),
                "features": None if row.get("features") is None else _json(row["features"]),
                "flags": _json(row.get("flags") or []),
                "prompt": None if row.get("prompt") is None else ledger.put_value(self.c, row["prompt"]),
                "request": None if row.get("request") is None else ledger.put_value(self.c, canonical(row["request"])),
            }  # fmt: skip
            key = self._insert("summary", values)
            for covered in row["coverage"]:
                turn = self.turns.get(covered["turn_id"])
                if turn is None:
                    raise BrokenError(f"summary {row['round']} covers a turn that is not there")
                self.c.execute(
                    "INSERT INTO coverage (summary, seq, turn, hash) VALUES (?, ?, ?, ?)",
                    (key, covered["seq"], turn, covered["content_hash"]),
                )
        self.c.execute(
            "UPDATE conversation SET head = ?, folded_to = ? WHERE id = ?",
            (self._row("summary", self.head.get("head_id")), int(self.head["folded_to"]), conversation),
        )

    def _rest(self, conversation: int) -> None:
        given = {"conversation": conversation, "turns": json.dumps([*self.turns.values()])}
        here = {uid for (uid,) in self.c.execute(HERE, given)}
        for row in self.whole.rest:
            kind = row["type"]
            if row.get("id") in here or (kind == "note" and self._row("note", row.get("id")) is not None):
                continue  # a note on an inherited turn comes with every fork
            values = {name: cell(row, name) for name in REST[kind]}
            values["uid"] = _text(row, "id")
            if kind == "note":
                values["target"] = _text(row, "target_id")
            else:
                values["conversation"] = conversation
                values["turn"] = self._row("turn", row.get("turn_id"))
            if kind == "call":
                values["summary"] = self._row("summary", row.get("summary_id"))
            self._insert(kind, values)

    def _row(self, table: str, uid: Any) -> int | None:
        if uid is None:
            return None
        found = self.c.execute(f"SELECT id FROM {table} WHERE uid = ?", (uid,)).fetchone()
        return None if found is None else int(found[0])

    def _insert(self, table: str, values: Mapping[str, Any]) -> int:
        names = ", ".join(values)
        sql = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})"
        return int(self.c.execute(sql, tuple(values.values())).lastrowid or 0)


SUMMARY: Final = (
    "round", "mark", "text", "tokens", "first_seq", "last_seq", "turn_count", "prompt_name", "prompt_version", "model",
    "reason", "quality", "tokens_before", "tokens_after", "cost_usd", "duration_ms", "created_at",
)  # fmt: skip
MOST: Final = 2**63
"""From here on SQLite has no integers."""

REST: Final[dict[str, tuple[str, ...]]] = {
    "call": (
        "purpose", "model", "base_url_host", "request_id", "estimated_prompt_tokens", "prompt_tokens", "completion_tokens",
        "cached_tokens", "cost_usd", "retries", "first_token_ms", "duration_ms", "status", "error", "created_at",
    ),
    "event": ("seq", "name", "payload", "created_at"),
    "media": ("direction", "tag", "encoding", "sample_rate_hz", "duration_ms", "bytes", "path", "created_at"),
    "note": ("label", "text", "created_at"),
}  # fmt: skip
"""Kind of line → what of it is a column under the same name."""

HERE: Final = "SELECT uid FROM media WHERE conversation = :conversation" + "".join(
    f" UNION ALL {rows_of(kind, ':conversation', column='uid')} "
    f"UNION ALL SELECT uid FROM {kind} WHERE turn IN (SELECT value FROM json_each(:turns))"
    for kind in ("call", "event")
)
"""What is there of a conversation's media, calls and events; a turn that another one holds has brought its own."""

MEASURES: Final = frozenset({"created_at", "last_turn_at", "redacted_at", "cost_usd", "first_token_ms", "duration_ms"})
COUNTS: Final = frozenset(
    {
        "fork_seq", "round", "tokens", "first_seq", "last_seq", "turn_count", "prompt_version", "tokens_before",
        "tokens_after", "estimated_prompt_tokens", "prompt_tokens", "completion_tokens", "cached_tokens", "retries", "seq",
        "sample_rate_hz", "bytes",
    }
)  # fmt: skip
"""Columns that hold numbers and whole numbers; all others hold text. SQLite would take anything."""


def cell(row: Row, name: str) -> Any:
    """What a line says for a column, or None.

    Raises:
        BrokenError: it is of a kind that the column's table could not show.
    """
    value = row.get(name)
    if value is None:
        return None
    kinds: tuple[type, ...] = (int,) if name in COUNTS else (int, float) if name in MEASURES else (str,)
    fits = isinstance(value, str) or (isinstance(value, int | float) and abs(value) < MOST)  # NaN does not
    if isinstance(value, bool) or not isinstance(value, kinds) or not fits:
        raise BrokenError(f"{row.get('type', 'message')} line whose {name!r} is {str(value)[:40]!r}")
    return value


def _json(value: Any) -> str:
    """A value as it is stored; NaN, which SQLite does not take for JSON, raises ValueError."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise BrokenError(f"{row.get('type', 'message')} line without {name!r}")
    return value
