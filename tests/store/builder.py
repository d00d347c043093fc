"""Rows of a store by SQL alone: what the tables' tests look at, made without the code under test."""

from __future__ import annotations

import itertools
import json
from typing import Any

from voxnb.messages import digest
from voxnb.store import fresh
from voxnb.store.database import Database

NOON = 1_785_499_200.0
"""2026-07-31 12:00 UTC: when the first row was made; every later row is a second later."""

MAX_SEQ = 1 << 53


class Builder:
    """Writes conversations into a store; every method gives the row id of what it made.

    ``build.uid("turn", row)`` is a row's public id. Times count up by a second from `NOON`.
    """

    def __init__(self, db: Database) -> None:
        self.db = db
        self._count = itertools.count(1)

    def insert(self, table: str, /, **values: Any) -> int:
        sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        return self.db.write(lambda c: int(c.execute(sql, tuple(values.values())).lastrowid or 0)).result()

    def run(self, sql: str, *params: Any) -> None:
        self.db.write(lambda c: c.execute(sql, params)).result()

    def one(self, sql: str, *params: Any) -> Any:
        return self.db.read(sql, params)[0][0]

    def uid(self, table: str, row: int) -> str:
        return str(self.one(f"SELECT uid FROM {table} WHERE id = ?", row))

    def now(self) -> float:
        return NOON + next(self._count) - 1

    def value(self, text: str) -> int:
        self.run("INSERT OR IGNORE INTO value (hash, text) VALUES (?, ?)", digest(text), text)
        return int(self.one("SELECT id FROM value WHERE text = ?", text))

    # -- conversations and paths --------------------------------------------------------------

    def conversation(self, name: str, **columns: Any) -> int:
        at = self.now()
        key = self.insert("conversation", uid=f"k-{name}", name=name, branch=0, created_at=at, **columns)
        self._branch(key, [], at)
        return key

    def _branch(self, conversation: int, stretches: list[tuple[int, int, int]], at: float) -> None:
        branch = self.insert("branch", conversation=conversation, created_at=at)
        first = max((last for _, last, _ in stretches), default=0) + 1
        for low, high, source in [*stretches, (first, MAX_SEQ, branch)]:
            self.run("INSERT INTO lineage VALUES (?, ?, ?, ?)", branch, low, high, source)
        self.run("UPDATE conversation SET branch = ?, last_seq = ? WHERE id = ?", branch, first - 1, conversation)

    def _stretches(self, conversation: int, seq: int) -> list[tuple[int, int, int]]:
        return self.db.read(
            "SELECT first_seq, min(l.last_seq, ?), source FROM lineage l JOIN conversation k ON k.branch = l.branch "
            "WHERE k.id = ? AND first_seq <= ? ORDER BY first_seq",
            (seq, conversation, seq),
        )

    def undo(self, conversation: int, *, to: int) -> None:
        self._branch(conversation, self._stretches(conversation, to), self.now())
        self._head_at(conversation, self.one("SELECT head FROM conversation WHERE id = ?", conversation), to)

    def fork(self, conversation: int, name: str, *, at: int) -> int:
        key = self.conversation(name, parent=conversation, fork_seq=at)
        self._branch(key, self._stretches(conversation, at) if at else [], self.now())
        self._head_at(key, self.one("SELECT head FROM conversation WHERE id = ?", conversation), at)
        return key

    def _head_at(self, conversation: int, head: int | None, seq: int) -> None:
        last = 0
        while head is not None:
            ((last, previous),) = self.db.read("SELECT last_seq, previous FROM summary WHERE id = ?", (head,))
            if last <= seq:
                break
            head, last = previous, 0
        self.run("UPDATE conversation SET head = ?, folded_to = ? WHERE id = ?", head, last, conversation)

    # -- turns --------------------------------------------------------------------------------

    def turn(
        self,
        conversation: int,
        *messages: dict[str, Any] | str,
        state: str = "complete",
        **columns: Any,
    ) -> int:
        """A turn; texts are said by user and assistant alternately, dicts are messages of the API."""
        at = columns.pop("created_at", None) or self.now()
        ((branch, last),) = self.db.read("SELECT branch, last_seq FROM conversation WHERE id = ?", (conversation,))
        uid = columns.pop("uid", f"t-{branch}-{last + 1}")
        tokens = columns.pop("tokens", 10 * len(messages))
        turn = self.insert(
            "turn", uid=uid, branch=branch, seq=last + 1, state=state, tokens=tokens, hash=digest(uid), created_at=at, **columns
        )  # fmt: skip
        self.run("UPDATE conversation SET last_seq = ?, last_turn_at = ? WHERE id = ?", last + 1, at, conversation)
        for n, given in enumerate(messages):
            said = {"role": ("user", "assistant")[n % 2], "content": given} if isinstance(given, str) else given
            self.message(turn, said, position=n, created_at=at)
        return turn

    def message(self, turn: int, said: dict[str, Any], *, position: int, created_at: float) -> int:
        content = said["content"]
        extra = {k: v for k, v in said.items() if k not in ("role", "content")}
        if not isinstance(content, str):
            extra["content"] = content
        parts = content if isinstance(content, list) else []
        text = content if isinstance(content, str) else "\n".join(p["text"] for p in parts if "text" in p)
        row = self.insert(
            "message",
            turn=turn,
            position=position,
            role=said["role"],
            text=text,
            extra=json.dumps(extra, ensure_ascii=False) if extra else None,
            tokens=10,
            encoding="o200k_base",
            hash=digest(f"{said['role']} {text}"),
            created_at=created_at,
        )
        self.db.write(lambda c: fresh.written(c, row, text)).result()
        return row

    def turn_at(self, conversation: int, seq: int) -> int:
        return int(
            self.one(
                "SELECT t.id FROM conversation k JOIN lineage l ON l.branch = k.branch JOIN turn t ON t.branch = l.source "
                "AND t.seq BETWEEN l.first_seq AND l.last_seq WHERE k.id = ? AND t.seq = ?",
                conversation,
                seq,
            )
        )

    def pin(self, conversation: int, turn: int, **columns: Any) -> int:
        return self.insert("pin", conversation=conversation, turn=turn, added=1, **columns)

    # -- summaries, calls, events -------------------------------------------------------------

    def fold(self, conversation: int, *, through: int, text: str = "so far", move: bool = True, **columns: Any) -> int:
        """A summary of the turns that are not covered yet, up to ``through``; ``move=False`` leaves the head alone."""
        ((head, folded_to),) = self.db.read("SELECT head, folded_to FROM conversation WHERE id = ?", (conversation,))
        round_ = 1 + (self.one("SELECT round FROM summary WHERE id = ?", head) if head else 0)
        first, at = folded_to + 1, self.now()
        number = self.one("SELECT count(*) FROM summary") + 1
        defaults = {
            "uid": f"s-{number}",
            "mark": f"mark{number}",
            "tokens": 20,
            "model": "small",
            "reason": "over budget",
            "tokens_before": 100,
            "tokens_after": 40,
        }
        summary = self.insert(
            "summary",
            conversation=conversation,
            round=round_,
            previous=head,
            text=text,
            first_seq=first,
            last_seq=through,
            turn_count=through - first + 1,
            created_at=at,
            **{**defaults, **columns},
        )
        for seq in range(first, through + 1):
            turn = self.turn_at(conversation, seq)
            self.run("INSERT INTO coverage SELECT ?, seq, id, hash FROM turn WHERE id = ?", summary, turn)
        if move:
            self.run("UPDATE conversation SET head = ?, folded_to = ? WHERE id = ?", summary, through, conversation)
        return summary

    def call(self, conversation: int, **columns: Any) -> int:
        return self._stamped("call", "c", conversation, {"purpose": "turn", "status": "complete", **columns})

    def event(self, conversation: int, name: str, **columns: Any) -> int:
        return self._stamped("event", "e", conversation, {"seq": 1, "payload": "{}", **columns, "name": name})

    def media(self, conversation: int, **columns: Any) -> int:
        return self._stamped("media", "m", conversation, {"direction": "in", **columns})

    def _stamped(self, table: str, letter: str, conversation: int, columns: dict[str, Any]) -> int:
        number = self.one(f"SELECT count(*) FROM {table}") + 1
        return self.insert(table, uid=f"{letter}-{number}", conversation=conversation, created_at=self.now(), **columns)

    # -- many ---------------------------------------------------------------------------------

    def many(self, conversation: int, turns: int, *, words: str = "about the weather in", fold_every: int = 0) -> None:
        """Append plain two-message turns in one transaction, and a summary for every ``fold_every`` of them."""
        ((branch, last),) = self.db.read("SELECT branch, last_seq FROM conversation WHERE id = ?", (conversation,))
        at = NOON + next(self._count)

        def work(c: Any) -> None:
            (turn,) = c.execute("SELECT coalesce(max(id), 0) FROM turn").fetchone()
            (row,) = c.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()
            seqs = range(last + 1, last + turns + 1)
            c.executemany(
                "INSERT INTO turn (id, uid, branch, seq, state, tokens, hash, created_at) VALUES (?,?,?,?,?,?,?,?)",
                ((turn + n, f"t-{branch}-{s}", branch, s, "complete", 20, f"b2:{branch}-{s}", at + s) for n, s in enumerate(seqs, 1)),
            )  # fmt: skip
            said = [
                (
                    row + 2 * n + p - 1,
                    turn + n,
                    p,
                    role,
                    f"{role} {words} town{s}",
                    10,
                    "o200k_base",
                    f"b2:{s}{p}",
                    at + s,
                )
                for n, s in enumerate(seqs, 1)
                for p, role in enumerate(("user", "assistant"))
            ]
            c.executemany(
                "INSERT INTO message (id, turn, position, role, text, tokens, encoding, hash, created_at) VALUES (?,?,?,?,?,?,?,?,?)",
                said,
            )
            fresh.index_all(c)
            c.execute(
                "UPDATE conversation SET last_seq = ?, last_turn_at = ? WHERE id = ?", (last + turns, at, conversation)
            )

        self.db.write(work).result()
        if fold_every:
            for through in range(last + fold_every, last + turns + 1, fold_every):
                self.fold(conversation, through=through)
