"""Conversations: which are new, which went on, and which went on differently in both stores.

Rule: a conversation that is here keeps its course. Where the other store's only goes on from it, it goes on here; where it
went another way, that way becomes a fork.
"""

from __future__ import annotations

from typing import Any

from voxnb.store import ledger
from voxnb.store.ending import close_expired
from voxnb.store.merging.both import Both, rows
from voxnb.store.merging.report import Forked
from voxnb.store.merging.turns import derived_conversation, path_there, stretches
from voxnb.store.paths import PATH
from voxnb.store.pins import add_pin
from voxnb.store.schema import MAX_SEQ

Row = dict[str, Any]


class Courses:
    """The conversations of the other store, each with the one here that takes what is new of it."""

    def __init__(self, both: Both) -> None:
        self.both = both
        self.all = rows(both.o, "SELECT * FROM conversation ORDER BY id")
        self.moved: dict[int, Row] = {}
        self.fresh: set[int] = set()
        self.left: set[int] = set()
        self._paths: dict[int, list[int]] = {}  # of conversations that will be moved: see `_keys`

    def close(self) -> None:
        """End what dead processes left running here, so that it can be compared."""
        for there in self.all:
            row = ledger.find(self.both.c, there["uid"])
            if row is not None and row.uid == there["uid"]:
                close_expired(self.both.c, row, now=self.both.now)

    def choose(self) -> None:
        """Say for each conversation who takes what is new of it."""
        for there in self.all:
            known = self.both.c.execute("SELECT id FROM conversation WHERE uid = ?", (there["uid"],)).fetchone()
            if known is None:
                target = self._create(there, uid=there["uid"], wanted=there["name"])
                self._will_move(there, target, self._keys(path_there(self.both, there["branch"], there["last_seq"])))
            else:
                self.both.found.count("conversations", new=False)
                target = self._compare(there, int(known[0]))
            self.both.targets[there["id"]] = target
            self.both.check()

    def _create(self, there: Row, *, uid: str, wanted: str, parent: int | None = None, after: int | None = None) -> int:
        both, name = self.both, wanted
        n = 1
        while ledger.find(both.c, name) is not None:
            n += 1
            name = f"{wanted}-{n}"
        if name != wanted and parent is None:
            both.found.renamed[wanted] = name
        both.found.names.append(name)
        facts = {key: there[key] for key in ("title", "api", "model", "metadata", "created_at", "last_turn_at")}
        fork_seq = there["fork_seq"] if after is None else after
        key = both.insert("conversation", uid=uid, name=name, branch=0, parent=parent, fork_seq=fork_seq, **facts)
        self.fresh.add(key)
        both.found.count("conversations", new=True)
        return key

    def _will_move(self, there: Row, here: int, path: list[int]) -> None:
        self.moved[there["id"]] = there
        self._paths[here] = path

    def _keys(self, path: list[int]) -> list[int]:
        """Turns of the other store as rows here, where they are, else as their own rows below zero."""
        return [self.both.turns[turn].turn if turn in self.both.turns else -turn for turn in path]

    def _compare(self, there: Row, here: int) -> int:
        """The conversation that takes the other course: this one, or a fork of it, or of that."""
        both = self.both
        theirs = self._keys(path_there(both, there["branch"], there["last_seq"]))
        first = here
        while True:
            ours = self._path_here(here)
            common = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
            if common is None and len(theirs) <= len(ours):
                return here  # it is here, or further
            common = len(ours) if common is None else common
            if common == len(ours) and theirs[common] < 0:
                if here not in self.fresh:
                    self._note_continued(here)
                self._will_move(there, here, theirs)
                return here
            uid, created_at, name = both.c.execute(
                "SELECT uid, created_at, name FROM conversation WHERE id = ?", (here,)
            ).fetchone()
            fork = derived_conversation(
                uid, created_at, self._uid(ours[common]) if common < len(ours) else "", self._uid(theirs[common])
            )
            known = both.c.execute("SELECT id FROM conversation WHERE uid = ?", (fork,)).fetchone()
            if known is None and all(key > 0 for key in theirs):
                self.left.add(there["id"])  # all of it was said here, and taken back
                return first
            if known is None:
                key = self._create(there, uid=fork, wanted=f"{name}-2", parent=here, after=common)
                both.found.forked.append(Forked(name, both.found.names[-1], common))
                self._will_move(there, key, theirs)
                return key
            here = int(known[0])

    def _note_continued(self, here: int) -> None:
        (name,) = self.both.c.execute("SELECT name FROM conversation WHERE id = ?", (here,)).fetchone()
        self.both.found.continued.append(name)

    def _path_here(self, conversation: int) -> list[int]:
        if conversation in self._paths:
            return self._paths[conversation]
        (branch,) = self.both.c.execute("SELECT branch FROM conversation WHERE id = ?", (conversation,)).fetchone()
        sql = f"SELECT t.id {PATH} ORDER BY l.first_seq, t.seq"
        return [turn for (turn,) in self.both.c.execute(sql, {"branch": branch, "low": 1, "high": MAX_SEQ})]

    def _uid(self, key: int) -> str:
        c = self.both.c if key > 0 else self.both.o
        return str(c.execute("SELECT uid FROM turn WHERE id = ?", (abs(key),)).fetchone()[0])

    def on_course(self) -> set[int]:
        """New turns of the other store that the conversations here go on with."""
        return {-key for path in self._paths.values() for key in path if key < 0}

    # -- once the turns are in their places ---------------------------------------------------

    def point(self) -> None:
        """Move the conversations that are new or went on to where they are in the other store."""
        both = self.both
        for key, there in self.moved.items():
            here = both.targets[key]
            path = path_there(both, there["branch"], there["last_seq"])
            branch, last = self._branch(here, path), len(path)
            row = ledger.by_id(both.c, here)
            head, folded_to = ledger.head_at(both.c, both.summaries.get(there["head"]), last)
            if here not in self.fresh and row.folded_to > folded_to:
                head, folded_to = row.head, row.folded_to
            both.c.execute(
                "UPDATE conversation SET branch = ?, last_seq = ?, head = ?, folded_to = ?, instructions = ?, "
                "model = coalesce(?, model), last_turn_at = max(coalesce(last_turn_at, 0), coalesce(?, 0)) WHERE id = ?",
                (
                    branch,
                    last,
                    head,
                    folded_to,
                    both.value(there["instructions"]),
                    there["model"],
                    there["last_turn_at"],
                    here,
                ),
            )
            if there["last_turn_at"] is None and here in self.fresh:
                both.c.execute("UPDATE conversation SET last_turn_at = NULL WHERE id = ?", (here,))
        self._parents()
        self._pins()

    def _branch(self, here: int, path: list[int]) -> int:
        """A branch of the conversation's own with this path."""
        both, found = self.both, stretches(self.both, path)
        if found:
            source, last = found[-1][2], found[-1][1]
            owner, newest = both.c.execute(
                "SELECT conversation, (SELECT max(seq) FROM turn WHERE branch = branch.id) FROM branch WHERE id = ?",
                (source,),
            ).fetchone()
            if owner == here and newest == last:
                return source
        return ledger.new_branch(both.c, here, stretches=found, now=both.now)

    def _parents(self) -> None:
        for there in self.all:
            here = self.both.targets[there["id"]]
            if there["parent"] is None or here not in self.fresh:
                continue
            (uid,) = self.both.o.execute("SELECT uid FROM conversation WHERE id = ?", (there["parent"],)).fetchone()
            self.both.c.execute(
                "UPDATE conversation SET parent = (SELECT id FROM conversation WHERE uid = ?) WHERE id = ? AND parent IS NULL",
                (uid, here),
            )

    def _pins(self) -> None:
        """What is pinned there is pinned here, unless it was unpinned here."""
        for pin in rows(self.both.o, "SELECT * FROM pin WHERE removed IS NULL ORDER BY id"):
            here = self.both.targets[pin["conversation"]]
            turn = self.both.turns.get(pin["turn"])
            if turn is None or pin["conversation"] in self.left:
                continue
            held = self.both.c.execute(
                "SELECT 1 FROM pin WHERE conversation = ? AND turn = ? AND position IS ?",
                (here, turn.turn, pin["position"]),
            ).fetchone()
            self.both.found.count("pins", new=held is None)
            if held is None:
                add_pin(self.both.c, ledger.by_id(self.both.c, here), turn.turn, position=pin["position"])
