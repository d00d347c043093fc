"""The proof: every earlier turn of every request was sent, covered by the summary that was sent, or dropped for a reason."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from voxnb.memory.past import ANSWERED, REDACTED, UNDER_WAY
from voxnb.messages import Message
from voxnb.store import fresh, paths
from voxnb.store.damage import wrong_values
from voxnb.store.explain import rebuild
from voxnb.store.report import counted
from voxnb.store.rows import STATE, load_extra, turn_hash
from voxnb.store.trouble import NOT_AS_WRITTEN, is_corrupt


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether everything holds; truthy if so.

    Attributes:
        problems: one sentence each, empty if all holds.
        conversations: how many were looked at.
        turns: likewise.
        summaries: likewise.
        requests: how many past requests were rebuilt and compared by hash.
        redacted: how many of them cannot be rebuilt, because words that they carried were redacted since.
    """

    problems: tuple[str, ...]
    conversations: int
    turns: int
    summaries: int
    requests: int
    redacted: int = 0

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        looked = (
            f"{counted(self.conversations, 'conversation')}, {counted(self.turns, 'turn')}, "
            f"{counted(self.summaries, 'summary')}, {counted(self.requests - self.redacted, 'request')} rebuilt"
        ) + (f", {self.redacted:,} not: redacted since" if self.redacted else "")
        if not self.problems:
            return f"all holds: {looked}"
        return f"{counted(len(self.problems), 'problem')} ({looked}):\n" + "\n".join(f"- {p}" for p in self.problems)

    __repr__ = __str__


def verify(c: sqlite3.Connection) -> Verdict:
    """Check a store in one read transaction; see `Verdict`. Costs about a millisecond per stored request.

    A file whose pages are damaged is read as far as it goes; nothing counts as looked at then.
    """
    problems: list[str] = []
    try:
        return _verdict(c, problems)
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        return Verdict((*problems, f"the file cannot be read to its end ({error})"), 0, 0, 0, 0)


def _verdict(c: sqlite3.Connection, problems: list[str]) -> Verdict:
    for problem in _file(c):
        problems.append(problem)  # noqa: PERF402 - the last of them may end in an error
    for what, check in (("messages", _messages), ("the search index", _index), ("summaries", _summaries)):
        try:
            problems += check(c)
        except NOT_AS_WRITTEN as error:
            problems.append(f"{what}: a value is not what was written ({error!r})")
    requests, redacted, found = _requests(c)
    problems += found
    conversations, turns, summaries = (
        c.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("conversation", "turn", "summary")
    )
    return Verdict(tuple(problems), conversations, turns, summaries, requests, redacted)


def _file(c: sqlite3.Connection) -> Iterator[str]:
    for (line,) in c.execute("PRAGMA quick_check(20)"):
        if line != "ok":
            yield f"the file is damaged: {line}"
    for table, row_id, parent, _ in c.execute("PRAGMA foreign_key_check"):
        yield f"{table} row {row_id} points at a {parent} that is not there"
    yield from wrong_values(c)
    for (uid,) in c.execute("SELECT uid FROM conversation WHERE metadata IS NOT NULL AND NOT json_valid(metadata)"):
        yield f"conversation {uid}: its metadata is damaged"


def _messages(c: sqlite3.Connection) -> Iterator[str]:
    """Hashes and counts, re-derived from what is stored."""
    rows = c.execute(
        f"SELECT t.id, t.uid, t.hash, t.tokens, {STATE}, m.position, m.role, m.text, m.extra, m.hash, m.tokens "
        "FROM turn t LEFT JOIN message m ON m.turn = t.id ORDER BY t.id, m.position"
    )
    turn: tuple[Any, ...] = (None,)
    hashes: list[str] = []
    tokens = 0

    def check() -> Iterator[str]:
        if turn[0] is not None and turn[4] not in UNDER_WAY:
            if turn_hash(hashes) != turn[2]:
                yield f"turn {turn[1]}: its hash is not that of its messages"
            if tokens != turn[3]:
                yield f"turn {turn[1]}: {turn[3]} tokens stored, its messages have {tokens}"

    for row in rows:
        if row[0] != turn[0]:
            yield from check()
            turn, hashes, tokens = row, [], 0
        if row[5] is None:  # a prompt of the service was asked, and nothing came (yet)
            if row[4] in ANSWERED:
                yield f"turn {row[1]}: has no message"
            continue
        if row[5] != len(hashes):
            yield f"turn {row[1]}: message {len(hashes)} is missing"
        if row[4] == "redacted":
            if row[7] != REDACTED or row[8] is not None:
                yield f"turn {row[1]}: was redacted, and message {row[5]} still says something"
        elif _hash_of(row) != row[9]:
            yield f"turn {row[1]}: message {row[5]} is not what was stored"
        hashes.append(row[9])
        tokens += row[10]
    yield from check()


def _index(c: sqlite3.Connection) -> Iterator[str]:
    """The search index has every message up to its last one that says something, and none that is not there."""
    (lost,) = c.execute(
        f"SELECT count(*) FROM message WHERE text != '' AND id <= {fresh.INDEXED_TO} "
        "AND id NOT IN (SELECT id FROM message_fts_docsize)"
    ).fetchone()
    if lost:
        yield f"the search index lacks {lost:,} messages"
    (left,) = c.execute(
        "SELECT count(*) FROM message_fts_docsize WHERE id NOT IN (SELECT id FROM message WHERE text != '')"
    ).fetchone()
    if left:
        yield f"the search index has {left:,} messages that are not in the store"


def _hash_of(row: tuple[Any, ...]) -> str:
    return Message.from_dict({"role": row[6], "content": row[7], **(load_extra(row[8]) or {})}).content_hash


def _summaries(c: sqlite3.Connection) -> Iterator[str]:
    """Each covers exactly the answered turns of its stretch, as they are, and continues the one before it."""
    rows = c.execute(
        "SELECT s.id, s.uid, s.previous, s.first_seq, s.last_seq, p.last_seq, k.branch, s.turn_count FROM summary s "
        "JOIN conversation k ON k.id = s.conversation LEFT JOIN summary p ON p.id = s.previous WHERE s.kind IS NULL"
    ).fetchall()
    for (uid,) in c.execute(
        "SELECT DISTINCT s.uid FROM turn t CROSS JOIN coverage v ON v.turn = t.id CROSS JOIN summary s ON s.id = v.summary "
        "WHERE t.redacted_at IS NOT NULL AND s.text != ?",
        (REDACTED,),
    ):
        yield f"summary {uid}: was shown a turn that is redacted, and still has its text"
    for summary_id, uid, previous, first, last, previous_last, _, turn_count in rows:
        if first != (previous_last or 0) + 1 and not (turn_count == 0 and last == previous_last):
            yield f"summary {uid}: begins at turn {first}, the one before it ends at {previous_last or 0}"
        if previous is not None and previous_last is None:
            yield f"summary {uid}: the one before it is not there"
        covered = c.execute(
            "SELECT v.seq, v.hash, t.hash, t.seq, t.branch FROM coverage v JOIN turn t ON t.id = v.turn WHERE v.summary = ?",
            (summary_id,),
        ).fetchall()
        if len(covered) != turn_count:
            yield f"summary {uid}: says {counted(turn_count, 'turn')}, its ledger lists {len(covered)}"
        for seq, shown, now, turn_seq, _ in covered:
            if shown != now:
                yield f"summary {uid}: turn {seq} is not what the summary model was shown"
            if seq != turn_seq or not first <= seq <= last:
                yield f"summary {uid}: lists turn {turn_seq} as {seq}, outside turns {first}-{last}"


def _requests(c: sqlite3.Connection) -> tuple[int, int, list[str]]:
    """Every planned request: nothing fell between summary and tail, and the rebuilt bytes are those that were sent."""
    problems: list[str] = []
    whole: dict[tuple[int, int], list[str]] = {}
    count = redacted = 0
    rows = c.execute(
        "SELECT k.id, k.uid, k.plan, t.branch, t.seq FROM call k JOIN turn t ON t.id = k.turn "
        "WHERE k.plan IS NOT NULL ORDER BY k.id"
    ).fetchall()
    for call_id, uid, text, branch, seq in rows:
        count += 1
        try:
            plan = json.loads(text)
            rebuilt = rebuild(c, call_id)
            redacted += rebuilt.redacted
            if not rebuilt.exact and not rebuilt.redacted:
                problems.append(f"request {uid} (turn {seq}): what is stored does not give the request that was sent")
            if "held_by" in plan:
                continue  # the server took the history from a place of its own, as it was asked to
            summary_id, first = plan["summary"], plan["first"]
            last = 0
            if summary_id is not None:
                (last,) = c.execute("SELECT last_seq FROM summary WHERE id = ?", (summary_id,)).fetchone()
                if (summary_id, branch) not in whole:
                    whole[summary_id, branch] = list(_chain(c, summary_id, branch))
                problems += whole[summary_id, branch]
                whole[summary_id, branch] = []
            if first != last + 1:
                problems.append(
                    f"request {uid} (turn {seq}): summary ends at turn {last}, verbatim turns begin at {first}"
                )
            missing = _missing(c, branch, first, seq - 1)
            if missing:
                problems.append(f"request {uid} (turn {seq}): turns {missing} are not in the store")
        except NOT_AS_WRITTEN as error:
            problems.append(f"request {uid} (turn {seq}): a value is not what was written ({error!r})")
    return count, redacted, problems


def _chain(c: sqlite3.Connection, summary_id: int | None, branch: int) -> Iterator[str]:
    """Whether a summary's chain covers every answered turn of a path, up to where it ends."""
    while summary_id is not None:
        uid, previous, first, last = c.execute(
            "SELECT uid, previous, first_seq, last_seq FROM summary WHERE id = ?", (summary_id,)
        ).fetchone()
        shown = {turn for (turn,) in c.execute("SELECT turn FROM coverage WHERE summary = ?", (summary_id,))}
        for turn_id, seq, state in c.execute(
            f"SELECT t.id, t.seq, {STATE} {paths.PATH}", {"branch": branch, "low": first, "high": last}
        ):
            if turn_id not in shown and state in ("complete", "partial"):
                yield f"summary {uid}: turn {seq} is neither sent nor covered"
        summary_id = previous


def _missing(c: sqlite3.Connection, branch: int, low: int, high: int) -> list[int]:
    """Numbers of a path that have no turn."""
    if high < low:
        return []
    (count,) = c.execute(f"SELECT count(*) {paths.PATH}", {"branch": branch, "low": low, "high": high}).fetchone()
    if count == high - low + 1:
        return []
    have = {s for (s,) in c.execute(f"SELECT t.seq {paths.PATH}", {"branch": branch, "low": low, "high": high})}
    return [n for n in range(low, high + 1) if n not in have][:20]
