"""What belongs to conversations and turns: prompts, summaries with their coverage, calls, events, media, notes."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from voxnb.store.merging.both import Both, rows
from voxnb.store.rows import dump

Row = dict[str, Any]

STAMPED: Final = ("call", "event", "media")
"""Tables whose rows belong to a conversation, perhaps to a turn."""

KINDS: Final = {"call": "calls", "event": "events", "media": "media"}


class Belongings:
    """What the other store holds beside conversations, turns and messages."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.versions: dict[tuple[str, int], int] = {}
        self._pinned: dict[tuple[int, int], list[list[int | None]]] = {}

    # -- prompts ------------------------------------------------------------------------------

    def prompts(self) -> None:
        """Saved prompts: the same version where it is free, else the next one."""
        both = self.both
        for name, version, value, created_at in both.o.execute(
            "SELECT name, version, value, created_at FROM prompt ORDER BY name, version"
        ).fetchall():
            here = both.value(value)
            known = dict(both.c.execute("SELECT version, value FROM prompt WHERE name = ?", (name,)).fetchall())
            number = self._version(known, version, here)
            both.found.count("prompts", new=number not in known)
            if number not in known:
                both.insert("prompt", name=name, version=number, value=here, created_at=created_at)
            if number != version:
                self.versions[name, version] = number
                both.found.renumbered[f"{name}@{version}"] = f"{name}@{number}"

    @staticmethod
    def _version(known: dict[int, int], version: int, value: int | None) -> int:
        if known.get(version) == value:
            return version
        following = max(known, default=0) + 1
        if version == following:
            return version
        return next((number for number, text in known.items() if text == value), following)

    # -- summaries ----------------------------------------------------------------------------

    def summaries(self) -> None:
        """Every summary with what it was made from."""
        both = self.both
        for there in rows(both.o, "SELECT * FROM summary ORDER BY id"):
            known = both.c.execute("SELECT id FROM summary WHERE uid = ?", (there["uid"],)).fetchone()
            if known is not None:
                both.summaries[there["id"]] = int(known[0])
                both.found.count("summaries", new=False)
                continue
            covered = both.o.execute(
                "SELECT seq, turn, hash FROM coverage WHERE summary = ?", (there["id"],)
            ).fetchall()
            if any(turn not in both.turns for _, turn, _ in covered):
                continue  # made from what still grows there
            values = {key: value for key, value in there.items() if key != "id"}
            version = self.versions.get((there["prompt_name"], there["prompt_version"]), there["prompt_version"])
            values |= {
                "conversation": both.targets[there["conversation"]],
                "previous": both.summaries.get(there["previous"]),
                "prompt": both.value(there["prompt"]),
                "request": both.value(there["request"]),
                "prompt_version": version,
            }
            key = both.summaries[there["id"]] = both.insert("summary", **values)
            both.c.executemany(
                "INSERT INTO coverage (summary, seq, turn, hash) VALUES (?, ?, ?, ?)",
                [(key, seq, both.turns[turn].turn, shown) for seq, turn, shown in covered],
            )
            both.found.count("summaries", new=True)
            both.check()

    # -- calls, events, media -----------------------------------------------------------------

    def stamped(self) -> None:
        """Calls with their plans, events and media."""
        for table in STAMPED:
            known = {uid for (uid,) in self.both.c.execute(f"SELECT uid FROM {table}")}
            for there in rows(self.both.o, f"SELECT * FROM {table} ORDER BY id"):
                new = there["uid"] not in known
                if new and not self._add(table, there):
                    continue
                self.both.found.count(KINDS[table], new=new)
                self.both.check()

    def _add(self, table: str, there: Row) -> bool:
        both = self.both
        if there["turn"] is not None and there["turn"] not in both.turns:
            return False  # of a turn that still runs there
        values = {key: value for key, value in there.items() if key != "id"}
        values["conversation"] = both.targets.get(there["conversation"])
        values["turn"] = None if there["turn"] is None else both.turns[there["turn"]].turn
        if table == "call":
            values["summary"] = both.summaries.get(there["summary"])
            if there["status"] == "running":
                values["status"] = "partial"
            if there["plan"] is not None:
                values["plan"] = dump(self._plan(there, json.loads(there["plan"])))
        both.insert(table, **values)
        return True

    def _plan(self, call: Row, plan: Row) -> Row:
        """What a request was made of, in rows of this store."""
        both = self.both
        return {
            **plan,
            "instructions": both.value(plan["instructions"]),
            "summary": both.summaries.get(plan["summary"]),
            "tools": both.value(plan["tools"]),
            "parameters": both.value(plan["parameters"]),
            "horizon": self._horizon(call["turn"], plan),
            # The pins of that moment, by themselves: this store's count its own changes.
            "pinned": self._pins(call["conversation"], plan["pins"])
            if "pinned" not in plan
            else self._mapped(plan["pinned"]),
        }

    def _horizon(self, turn: int, plan: Row) -> int:
        """The newest message here that the request could know."""
        both = self.both
        branch, seq = both.o.execute("SELECT branch, seq FROM turn WHERE id = ?", (turn,)).fetchone()
        newest = "SELECT max(id) FROM message WHERE turn = ? AND position < ?"
        (own,) = both.o.execute(newest, (turn, plan["upto"])).fetchone()
        found = turn, plan["upto"] - 1
        # Between its own messages and its plan, an earlier turn of its path may have ended.
        for other, position in both.o.execute(
            "SELECT m.turn, m.position FROM message m JOIN turn t ON t.id = m.turn JOIN lineage l ON l.source = t.branch "
            "AND t.seq BETWEEN l.first_seq AND l.last_seq WHERE m.id > ? AND m.id <= ? AND l.branch = ? AND t.seq < ? "
            "ORDER BY m.id DESC LIMIT 1",
            (own or 0, plan["horizon"] if own is not None else -1, branch, seq),
        ):
            found = other, position
        here = both.c.execute(
            "SELECT id FROM message WHERE turn = ? AND position = ?", (both.turns[found[0]].turn, found[1])
        ).fetchone()
        return int(here[0]) if here is not None else int(plan["horizon"])

    def _pins(self, conversation: int, version: int) -> list[list[int | None]]:
        if (conversation, version) not in self._pinned:
            held = self.both.o.execute(
                "SELECT turn, position FROM pin WHERE conversation = ? AND added <= ? AND (removed IS NULL OR removed > ?)",
                (conversation, version, version),
            ).fetchall()
            self._pinned[conversation, version] = self._mapped(held)
        return self._pinned[conversation, version]

    def _mapped(self, held: list[Any]) -> list[list[int | None]]:
        return [[self.both.turns[turn].turn, position] for turn, position in held if turn in self.both.turns]

    # -- notes and what else is known ---------------------------------------------------------

    def notes(self) -> None:
        """Notes, by the ids of what they are on; and what is known of servers that nothing is known of here."""
        both = self.both
        for there in rows(both.o, "SELECT uid, target, label, text, created_at FROM note ORDER BY id"):
            new = both.c.execute("SELECT 1 FROM note WHERE uid = ?", (there["uid"],)).fetchone() is None
            both.found.count("notes", new=new)
            if new:
                both.insert("note", **there)
        both.c.executemany(
            "INSERT OR IGNORE INTO calibration (host, model, state, updated_at) VALUES (?, ?, ?, ?)",
            both.o.execute("SELECT host, model, state, updated_at FROM calibration").fetchall(),
        )


def texts_of(o: sqlite3.Connection, turns: list[int]) -> list[str]:
    """What turns of the other store say, extras as JSON."""
    marks = ", ".join("?" * len(turns))
    found = o.execute(f"SELECT text, coalesce(extra, '') FROM message WHERE turn IN ({marks})", turns).fetchall()
    return [text for pair in found for text in pair]
