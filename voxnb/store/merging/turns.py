"""Turns: which are here already, and where those that are not belong.

Rule 1: a turn's past never changes. So what is known of a path is its beginning, and all that is new follows.
Rule 2: a turn that both have and that says something else in each is kept twice: the other's has an id of its own,
derived from both, so that it is recognised the next time.
Rule 3: messages are added in the order in which they were stored there: past requests are rebuilt by it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from voxnb.memory.past import UNDER_WAY
from voxnb.messages import Message
from voxnb.store import fresh, ledger
from voxnb.store.ending import DIED, estimated
from voxnb.store.ids import derived_number, written
from voxnb.store.merging.both import Both, Here, rows
from voxnb.store.owner import is_gone
from voxnb.store.rows import dump, split_message, turn_hash
from voxnb.store.schema import MAX_SEQ

FACTS: Final = (
    "seq", "state", "tokens", "hash", "model", "finish_reason", "error", "cost_usd", "first_token_ms", "duration_ms",
    "redacted_at", "created_at",
)  # fmt: skip

Row = dict[str, Any]


class Turns:
    """The turns of the other store, recognised or added."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.new: dict[int, Row] = {}
        self.grown: dict[int, tuple[int, Row]] = {}
        self.ended: dict[int, Row] = {}
        self._unfinished()

    # -- what cannot be taken yet -------------------------------------------------------------

    def _unfinished(self) -> None:
        """Turns that somebody is answering there are left, with all that follows; those of dead processes are ended."""
        both = self.both
        for turn in rows(both.o, "SELECT * FROM turn WHERE state IN ('queued', 'running')"):
            if (turn["lease_until"] or 0) <= both.now or is_gone(turn["owner"]):
                self.ended[turn["id"]] = turn
                continue
            both.found.running.append(turn["uid"])
            for (branch,) in both.o.execute(
                "SELECT branch FROM lineage WHERE source = ? AND ? BETWEEN first_seq AND last_seq",
                (turn["branch"], turn["seq"]),
            ):
                both.cut[branch] = min(turn["seq"], both.cut.get(branch, MAX_SEQ))

    # -- what is here -------------------------------------------------------------------------

    def recognise(self) -> None:
        """Tell the turns that are here from those that are not."""
        both = self.both
        cursor = both.o.execute("SELECT * FROM turn ORDER BY branch, seq")
        names = [column[0] for column in cursor.description]
        for values in cursor:
            turn = dict(zip(names, values, strict=True))
            if turn["seq"] >= both.cut.get(turn["branch"], MAX_SEQ):
                continue
            if turn["id"] in self.ended:
                turn = self._as_ended(turn)
            self._meet(turn)
            both.check()

    def _as_ended(self, turn: Row) -> Row:
        """A turn whose process is gone, as the next planner would close it."""
        messages = self._hashes_there(turn["id"])
        draft = self.both.o.execute("SELECT message FROM draft WHERE turn = ?", (turn["id"],)).fetchone()
        (tokens,) = self.both.o.execute("SELECT sum(tokens) FROM message WHERE turn = ?", (turn["id"],)).fetchone()
        tokens = tokens or 0
        if draft is not None:
            said = estimated(Message.from_dict(json.loads(draft[0])))
            messages.append(said.hash)
            tokens += said.tokens
        answered = draft is not None or self.both.o.execute(
            "SELECT 1 FROM message WHERE turn = ? AND role = 'assistant'", (turn["id"],)
        ).fetchone()  # fmt: skip
        state = "partial" if answered else "failed"
        return {
            **turn, "state": state, "error": DIED, "tokens": tokens, "hash": turn_hash(messages),
            "draft": draft and draft[0],
        }  # fmt: skip

    def _meet(self, turn: Row) -> None:
        both, found = self.both, self.both.found
        here = self._here(turn["uid"])
        if here is not None and (here["seq"] != turn["seq"] or not self._same(here, turn)):
            if self._grows(here, turn):
                self.grown[turn["id"]] = (here["id"], turn)
            else:
                at = turn["created_at"]
                turn["uid"] = written("t", derived_number(at, turn["uid"], turn["hash"] or ""))
                here = self._here(turn["uid"])
        if here is None:
            self.new[turn["id"]] = turn
            return
        both.turns[turn["id"]] = Here(here["id"], here["branch"], here["seq"])
        found.count("turns", new=False)
        if here["redacted_at"] is not None and turn["redacted_at"] is None:
            found.redacted_here[here["id"]] = turn["uid"]
        elif turn["redacted_at"] is not None and here["redacted_at"] is None:
            found.redacted_there.append(turn["uid"])

    def _here(self, uid: str) -> Row | None:
        found = rows(self.both.c, "SELECT id, branch, seq, hash, state, redacted_at FROM turn WHERE uid = ?", uid)
        return found[0] if found else None

    def _same(self, here: Row, turn: Row) -> bool:
        """Whether the turn is as there, or is further and nothing there relies on how it was."""
        if here["hash"] == turn["hash"] or here["state"] in UNDER_WAY:
            return True
        ours, theirs = self._hashes_here(here["id"]), self._hashes_there(turn["id"])
        return len(theirs) < len(ours) and ours[: len(theirs)] == theirs and self._is_loose(self.both.o, turn)

    def _grows(self, here: Row, turn: Row) -> bool:
        """Whether the turn went on there, and nothing here relies on how it is."""
        ours, theirs = self._hashes_here(here["id"]), self._hashes_there(turn["id"])
        theirs += [""] if turn.get("draft") else []
        return (
            here["seq"] == turn["seq"]
            and len(ours) < len(theirs)
            and theirs[: len(ours)] == ours
            and here["redacted_at"] is None
            and turn["redacted_at"] is None
            and self._is_loose(self.both.c, here)
        )

    def _is_loose(self, c: Any, turn: Row) -> bool:
        """Whether a turn is the last one wherever it is, and in no summary."""
        return not c.execute(
            "SELECT 1 FROM turn WHERE branch = :branch AND seq > :seq UNION ALL "
            "SELECT 1 FROM coverage WHERE turn = :id UNION ALL "
            "SELECT 1 FROM lineage WHERE source = :branch AND branch != :branch AND :seq BETWEEN first_seq AND last_seq",
            {"branch": turn["branch"], "seq": turn["seq"], "id": turn["id"]},
        ).fetchone()

    def _hashes_here(self, turn: int) -> list[str]:
        return [
            key for (key,) in self.both.c.execute("SELECT hash FROM message WHERE turn = ? ORDER BY position", (turn,))
        ]

    def _hashes_there(self, turn: int) -> list[str]:
        return [
            key for (key,) in self.both.o.execute("SELECT hash FROM message WHERE turn = ? ORDER BY position", (turn,))
        ]

    # -- what is new --------------------------------------------------------------------------

    def place(self, on_course: set[int]) -> None:
        """Give every new turn its place: after its predecessor's, or on a branch of its own.

        Args:
            on_course: turns that a conversation here goes on with; what others are on its branch would be in its way.
        """
        both, line, last = self.both, (0, 0), 0
        for turn in self.new.values():  # by branch and number
            (conversation,) = both.o.execute(
                "SELECT conversation FROM branch WHERE id = ?", (turn["branch"],)
            ).fetchone()
            target = both.targets[conversation]
            if (turn["branch"], turn["seq"]) != (line[0], last + 1):
                line = turn["branch"], self._line_after(turn, target, free=turn["id"] in on_course)
            last = turn["seq"]
            key = both.insert("turn", uid=turn["uid"], branch=line[1], **{name: turn[name] for name in FACTS})
            both.turns[turn["id"]] = Here(key, line[1], turn["seq"])
            both.found.count("turns", new=True)
            both.check()

    def _line_after(self, turn: Row, target: int, *, free: bool) -> int:
        """The branch here on which a turn goes on: that of its predecessor where it is free, else a new one."""
        both, branch, seq = self.both, turn["branch"], turn["seq"]
        before = both.o.execute("SELECT id FROM turn WHERE branch = ? AND seq = ?", (branch, seq - 1)).fetchone()
        if free and before is not None and before[0] in both.turns:
            here = both.turns[before[0]]
            owner, last = both.c.execute(
                "SELECT conversation, (SELECT max(seq) FROM turn WHERE branch = branch.id) FROM branch WHERE id = ?",
                (here.branch,),
            ).fetchone()
            if owner == target and last == here.seq:
                return here.branch
        path = path_there(both, branch, seq - 1)
        return ledger.new_branch(both.c, target, stretches=stretches(both, path), now=both.now)

    # -- messages -----------------------------------------------------------------------------

    def say(self) -> None:
        """Add the messages of what is new, and what turns that are here have grown by."""
        both = self.both
        starts = dict.fromkeys(self.new, 0)
        for there, (here, turn) in self.grown.items():
            (starts[there],) = both.c.execute("SELECT count(*) FROM message WHERE turn = ?", (here,)).fetchone()
            names = [name for name in FACTS if name not in ("seq", "created_at", "redacted_at")]
            both.c.execute(
                f"UPDATE turn SET owner = NULL, lease_until = NULL, {', '.join(f'{name} = ?' for name in names)} WHERE id = ?",
                (*(turn[name] for name in names), here),
            )
            both.c.execute("DELETE FROM draft WHERE turn = ?", (here,))
        for turn, position, *said in both.o.execute(
            "SELECT turn, position, role, text, extra, tokens, features, encoding, hash, created_at FROM message ORDER BY id"
        ):
            if position >= starts.get(turn, MAX_SEQ):
                fresh.write_message(both.c, both.turns[turn].turn, position, *said)
                both.found.count("messages", new=True)
                both.check()
            elif turn in both.turns:
                both.found.count("messages", new=False)
        for turn in [*self.new.values(), *(turn for _, turn in self.grown.values())]:
            if turn.get("draft"):
                self._say_draft(turn)

    def _say_draft(self, turn: Row) -> None:
        said = estimated(Message.from_dict(json.loads(turn["draft"])))
        here = self.both.turns[turn["id"]].turn
        (position,) = self.both.c.execute("SELECT count(*) FROM message WHERE turn = ?", (here,)).fetchone()
        text, extra = split_message(said.message)
        fresh.write_message(
            self.both.c, here, position, said.message.role, text, None if extra is None else dump(extra), said.tokens,
            None, said.encoding, said.hash, self.both.now,
        )  # fmt: skip
        self.both.found.count("messages", new=True)


# -- paths ------------------------------------------------------------------------------------


def path_there(both: Both, branch: int, last: int) -> list[int]:
    """Turns of a path of the other store up to a number, as far as they are taken."""
    last = min(last, both.cut.get(branch, MAX_SEQ) - 1)
    return [
        turn for (turn,) in both.o.execute(
            "SELECT t.id FROM lineage l JOIN turn t ON t.branch = l.source AND t.seq BETWEEN l.first_seq AND min(l.last_seq, ?) "
            "WHERE l.branch = ? AND l.first_seq <= ? ORDER BY l.first_seq, t.seq",
            (last, branch, last),
        )
    ]  # fmt: skip


def stretches(both: Both, path: list[int]) -> list[tuple[int, int, int]]:
    """A path of the other store as stretches (first, last, source) of branches here."""
    out: list[tuple[int, int, int]] = []
    for there in path:
        _, branch, seq = both.turns[there]
        if out and out[-1][2] == branch and out[-1][1] == seq - 1:
            out[-1] = (out[-1][0], seq, branch)
        else:
            out.append((seq, seq, branch))
    return out


def derived_conversation(uid: str, created_at: float, ours: str, theirs: str) -> str:
    """The id of the fork that takes a conversation's other course: the same whichever store is merged into which."""
    return written("k", derived_number(created_at, uid, *sorted((ours, theirs))))
