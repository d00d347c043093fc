"""The transactions of a fold: take it, commit it by compare-and-swap, or note that it failed.

Rule 1: a fold commits only if the conversation's (branch, head, folded_to) and the
content of every covered turn are what the summary was made from. Otherwise nothing
changes and the fold is planned again.
Rule 2: correctness comes from rule 1 alone. The lease only keeps two processes from paying for the same fold.
Rule 3: after three failures in a row, folding waits 2, 4, 8 … turns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxnb.memory.plan import (
    Fold,
    Layout,
    PastSummary,
    Snapshot,
    Weigh,
    as_fold,
    foldable,
    older_than_last,
)
from voxnb.messages import Message, canonical
from voxnb.store import counts, ending, ledger
from voxnb.store.ids import new_id
from voxnb.store.owner import FOLD_LEASE_S, is_gone
from voxnb.store.rows import STATE, CallRecord, ConversationRow, Counted, dump, dump_features

FREE_FAILURES: Final = 3
"""Failures in a row before the breaker opens."""

MAX_WAIT_TURNS: Final = 64

Choose = Callable[[Snapshot], "Fold | None"]


@dataclass(frozen=True, slots=True)
class FoldJob:
    """A fold that was taken on.

    Attributes:
        conversation: as it was; what the swap compares with.
        fold: the turns to show and cover.
        previous: the summary so far, or None.
    """

    conversation: ConversationRow
    fold: Fold
    previous: PastSummary | None


def may_be_due(layout: Layout, reply: Counted | None, *, weigh: Weigh) -> bool:
    """Whether a turn can have made a fold due, told from its request and reply: most turns need not look further.

    Args:
        layout: the turn's request.
        reply: what answered it, or None.
        weigh: stored counts → the server's tokens.
    """
    limits, tokens = layout.limits, layout.tokens
    said = weigh(reply.tokens, reply.features) if reply is not None else 0
    if tokens["summary"] + tokens["tail"] + tokens["current turn"] + said > limits.fold_at_tokens:
        return True
    turns = {item.seq for item in layout.items if item.kind == "verbatim"}
    return limits.fold_at_turns is not None and len(turns) + 1 > limits.fold_at_turns


def take(
    c: sqlite3.Connection, conversation: int, *, choose: Choose, owner: str, now: float, forced: bool,
    measure: Callable[[Message], Counted],
) -> FoldJob | None:  # fmt: skip
    """Decide on a fold and hold its lease.

    Args:
        c: connection, in a transaction.
        conversation: row id.
        choose: snapshot → fold.
        owner: this process.
        now: UNIX seconds.
        forced: ignore the lease and the breaker: the next request needs the room.
        measure: how ``choose`` counts.

    Returns:
        The job, or None if there is nothing to fold or somebody else folds.
    """
    row = ledger.by_id(c, conversation)
    ending.close_expired(c, row, now=now)
    if not forced:
        held = (row.fold_lease_until or 0) > now and not is_gone(row.fold_owner)
        if held or row.last_seq < row.fold_after_seq:
            return None
    snapshot = ending.load_counted(c, row, measure=measure)
    fold = choose(snapshot)
    if fold is None:
        return None
    c.execute(
        "UPDATE conversation SET fold_owner = ?, fold_lease_until = ? WHERE id = ?", (owner, now + FOLD_LEASE_S, row.id)
    )
    return FoldJob(row, fold, snapshot.summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A summary to be committed.

    Attributes:
        text: accepted text.
        mark: its fence.
        tokens: of the fenced message.
        features: likewise.
        encoding: in which they were counted.
        weight: of the fenced message, as the server counts.
        prompt: the instruction that made it.
        prompt_name: if it was a saved one.
        prompt_version: likewise.
        request: parameters of the call.
        model: who wrote it (``extract`` if nobody did).
        quality: ``full`` or ``cut``.
        flags: doubts.
        duration_ms: of all its calls.
        cost_usd: likewise, None where unknown.
        calls: the calls made for it.
    """

    text: str
    mark: str
    tokens: int
    features: tuple[int, ...] | None
    encoding: str
    weight: int
    prompt: str
    prompt_name: str | None
    prompt_version: int | None
    request: Mapping[str, Any]
    model: str
    quality: str
    flags: Sequence[str]
    duration_ms: float
    cost_usd: float | None
    calls: Sequence[CallRecord]


def commit(c: sqlite3.Connection, job: FoldJob, written: Written, *, now: float) -> str | None:
    """Commit a summary with its coverage by compare-and-swap.

    Returns:
        The summary's public id, or None where the conversation changed meanwhile (then only its calls are kept).
    """
    row, fold = job.conversation, job.fold
    current = ledger.by_id(c, row.id)
    same = (current.branch, current.head, current.folded_to) == (row.branch, row.head, row.folded_to)
    if not same or not _unchanged(c, fold):
        for call in written.calls:
            ending.add_call(c, call, conversation=row.id, turn=None, summary=None, now=now)
        c.execute("UPDATE conversation SET fold_owner = NULL, fold_lease_until = NULL WHERE id = ?", (row.id,))
        return None
    uid = new_id("s")
    cursor = c.execute(
        "INSERT INTO summary (uid, conversation, round, previous, mark, text, tokens, features, first_seq, last_seq, turn_count, "
        "prompt, prompt_name, prompt_version, request, model, reason, quality, flags, tokens_before, tokens_after, cost_usd, "
        "duration_ms, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            uid,
            row.id,
            (job.previous.round if job.previous else 0) + 1,
            row.head,
            written.mark,
            written.text,
            written.tokens,
            dump_features(written.features),
            row.folded_to + 1,
            fold.last_seq,
            len(fold.turns),
            ledger.put_value(c, written.prompt) if written.prompt else None,
            written.prompt_name,
            written.prompt_version,
            ledger.put_value(c, canonical(dict(written.request))),
            written.model,
            fold.reason,
            written.quality,
            dump(list(written.flags)),
            fold.tokens_before,
            fold.tokens_before - fold.folded_tokens + written.weight,
            written.cost_usd,
            written.duration_ms,
            now,
        ),
    )
    summary_id = int(cursor.lastrowid or 0)
    c.executemany(
        "INSERT INTO coverage (summary, seq, turn, hash) VALUES (?, ?, ?, ?)",
        [(summary_id, turn.seq, turn.id, turn.hash) for turn in fold.turns],
    )
    c.execute(
        "UPDATE conversation SET head = ?, folded_to = ?, fold_owner = NULL, fold_lease_until = NULL "
        "WHERE id = ? AND branch = ? AND head IS ? AND folded_to = ?",
        (summary_id, fold.last_seq, row.id, row.branch, row.head, row.folded_to),
    )
    counts.folded(c, row, head=summary_id, folded_to=fold.last_seq, encoding=written.encoding)
    if written.calls:  # the summary model works again; an extract says nothing of it
        c.execute("UPDATE conversation SET fold_failures = 0, fold_after_seq = 0 WHERE id = ?", (row.id,))
    for call in written.calls:
        ending.add_call(c, call, conversation=row.id, turn=None, summary=summary_id, now=now)
    return uid


def _unchanged(c: sqlite3.Connection, fold: Fold) -> bool:
    """Whether every covered turn still says what the summary model was shown."""
    for turn in fold.turns:
        row = c.execute(f"SELECT t.hash, {STATE} FROM turn t WHERE t.id = ?", (turn.id,)).fetchone()
        if row is None or row[0] != turn.hash or row[1] not in ("complete", "partial"):
            return False
    return True


def fail(
    c: sqlite3.Connection, job: FoldJob, *, calls: Sequence[CallRecord], events: Sequence[tuple[str, Mapping[str, Any]]],
    now: float, blamed: bool,
) -> int:  # fmt: skip
    """Note a failed fold and release its lease; how many have failed in a row, this one only where somebody is to blame."""
    row = ledger.by_id(c, job.conversation.id)
    if not blamed:
        release(c, job, calls=calls, now=now)
        ending.add_events(c, row.id, None, events, now=now)
        return row.fold_failures
    failures = row.fold_failures + 1
    wait = 0 if failures < FREE_FAILURES else min(2 ** (failures - FREE_FAILURES + 1), MAX_WAIT_TURNS)
    c.execute(
        "UPDATE conversation SET fold_failures = ?, fold_after_seq = ?, fold_owner = NULL, fold_lease_until = NULL WHERE id = ?",
        (failures, row.last_seq + wait if wait else 0, row.id),
    )
    for call in calls:
        ending.add_call(c, call, conversation=row.id, turn=None, summary=None, now=now)
    ending.add_events(c, row.id, None, events, now=now)
    return failures


def release(c: sqlite3.Connection, job: FoldJob, *, calls: Sequence[CallRecord], now: float) -> None:
    """Give a fold up that nobody is to blame for: it was cancelled."""
    c.execute("UPDATE conversation SET fold_owner = NULL, fold_lease_until = NULL WHERE id = ?", (job.conversation.id,))
    for call in calls:
        ending.add_call(c, call, conversation=job.conversation.id, turn=None, summary=None, now=now)


def is_resting(c: sqlite3.Connection, conversation: int) -> bool:
    """Whether the summary model failed so often that it is not asked for a while."""
    row = ledger.by_id(c, conversation)
    return row.last_seq < row.fold_after_seq


def choose_through(seq: int | None, *, keep_last_turns: int, weigh: Weigh) -> Choose:
    """A fold that was asked for: all turns up to ``seq``, or all but the newest ones."""

    def choose(snapshot: Snapshot) -> Fold | None:
        turns = foldable(snapshot)
        chosen = [t for t in turns if t.seq <= seq] if seq is not None else older_than_last(turns, keep_last_turns)
        return as_fold(chosen, snapshot=snapshot, weigh=weigh, reason="asked for")

    return choose


def unfold(c: sqlite3.Connection, conversation: int) -> int | None:
    """Move the head back to the previous summary; the one it was, or None if there is none."""
    row = ledger.by_id(c, conversation)
    if row.head is None:
        return None
    (previous,) = c.execute("SELECT previous FROM summary WHERE id = ?", (row.head,)).fetchone()
    folded_to = 0
    if previous is not None:
        (folded_to,) = c.execute("SELECT last_seq FROM summary WHERE id = ?", (previous,)).fetchone()
    c.execute(
        "UPDATE conversation SET head = ?, folded_to = ?, fold_owner = NULL, fold_lease_until = NULL WHERE id = ?",
        (previous, folded_to, row.id),
    )
    return row.head


def squeeze(layout: Layout) -> int:
    """Tokens that a summary may have at most so that a request fits; below 1 it cannot."""
    return layout.limits.hard_tokens - (layout.total_tokens - layout.tokens["summary"])
