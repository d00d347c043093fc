"""How a request ends in the store: its draft meanwhile, its reply, its call and its events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxnb.memory.plan import UNDER_WAY, PastTurn, Snapshot
from voxnb.messages import Message
from voxnb.store import counts, ledger
from voxnb.store.database import Database
from voxnb.store.ids import new_ids
from voxnb.store.lately import forget
from voxnb.store.owner import LEASE_S, is_gone
from voxnb.store.rows import CallRecord, ConversationRow, Counted, dump, dump_features, load_extra

ESTIMATED: Final = "estimated"
"""The encoding of a text that nobody has counted yet."""

DIED: Final = "the process that asked ended before a reply came; retry() asks again"


def renew(c: sqlite3.Connection, *, turn_id: int, owner: str, draft: Mapping[str, Any] | None, now: float) -> None:
    """A sign of life, with the reply so far."""
    cursor = c.execute(
        "UPDATE turn SET lease_until = ? WHERE id = ? AND owner = ? AND state IN ('queued', 'running')",
        (now + LEASE_S, turn_id, owner),
    )
    if cursor.rowcount and draft is not None:
        c.execute("INSERT OR REPLACE INTO draft (turn, message) VALUES (?, ?)", (turn_id, dump(draft)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a request ended.

    Attributes:
        state: ``complete``, ``partial`` or ``failed``.
        message: the reply, if anything came.
        finish_reason: of the reply.
        error: what went wrong.
        call: the call as it was.
        events: (name, payload) to keep.
    """

    state: str
    message: Counted | None
    finish_reason: str | None
    error: str | None
    call: CallRecord
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()


def finish(
    c: sqlite3.Connection,
    row: ConversationRow,
    turn_id: int,
    call_id: int | None,
    *,
    ending: Ending,
    now: float,
    owner: str | None = None,
) -> bool:
    """Store how a request ended: the reply, the turn's state, the call and its events.

    Args:
        c: connection, in a transaction.
        row: the conversation.
        turn_id: row of the turn.
        call_id: row of the call, if it was made.
        ending: how it ended.
        now: UNIX seconds.
        owner: who asked; None where nobody else can have closed the turn.

    Returns:
        False if another process has closed the turn meanwhile: then the reply is kept beside it.

    Raises:
        UnknownConversationError: the conversation was deleted meanwhile.
    """
    if owner is not None and not is_running(c, turn_id=turn_id, owner=owner):
        _keep_beside(c, ledger.by_id(c, row.id), turn_id, call_id, ending=ending, now=now)
        return False
    key, tokens = ledger.add_message(c, row, turn_id, ending.message, now=now) if ending.message else (None, None)
    call = ending.call
    c.execute(
        "UPDATE turn SET hash = coalesce(?, hash), tokens = coalesce(?, tokens), state = ?, finish_reason = ?, error = ?, "
        "owner = NULL, lease_until = NULL, model = coalesce(?, model), "
        "cost_usd = CASE WHEN ? IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0) + ? END, "
        "first_token_ms = coalesce(first_token_ms, ?), duration_ms = coalesce(duration_ms, 0) + ? WHERE id = ?",
        (
            key,
            tokens,
            ending.state,
            ending.finish_reason,
            ending.error,
            call.model,
            call.cost_usd,
            call.cost_usd,
            call.first_token_ms,
            call.duration_ms or 0.0,
            turn_id,
        ),
    )
    if call.model is not None:  # mostly that of the last turn: then nothing is written
        c.execute("UPDATE conversation SET model = ? WHERE id = ? AND model IS NOT ?", (call.model, row.id, call.model))
    c.execute("DELETE FROM draft WHERE turn = ?", (turn_id,))
    if call_id is not None:
        end_call(c, call_id, call)
    add_events(c, row.id, turn_id, ending.events, now=now)
    return True


def _keep_beside(
    c: sqlite3.Connection, row: ConversationRow, turn_id: int, call_id: int | None, *, ending: Ending, now: float
) -> None:
    """Keep a reply whose turn was closed meanwhile: in a copy of the turn, on a path that no conversation is on.

    The turn itself stays as it was closed: so it was sent to a model since, or summarised.
    """
    if call_id is None or ending.message is None:
        return
    branch, seq, redacted_at = c.execute(
        "SELECT branch, seq, redacted_at FROM turn WHERE id = ?", (turn_id,)
    ).fetchone()
    if redacted_at is not None:  # its words are to be nowhere
        end_call(c, call_id, ending.call)
        return
    (plan,) = c.execute("SELECT plan FROM call WHERE id = ?", (call_id,)).fetchone()
    side = ledger.new_branch(c, row.id, stretches=ledger.stretches_to(c, branch, seq - 1), now=now)
    before = row._replace(branch=side, last_seq=seq - 1)
    copy = ledger.copy_turn(c, before, turn_id, first_messages=json.loads(plan)["upto"])
    c.execute("UPDATE conversation SET last_seq = ? WHERE id = ?", (row.last_seq, row.id))
    finish(c, row, copy.id, call_id, ending=ending, now=now)


def end_call(c: sqlite3.Connection, call_id: int, call: CallRecord) -> None:
    """Fill in what is known of a call once it ended."""
    c.execute(
        "UPDATE call SET request_id = ?, prompt_tokens = ?, completion_tokens = ?, cached_tokens = ?, cost_usd = ?, "
        "retries = ?, first_token_ms = ?, duration_ms = ?, status = ?, error = ?, "
        "plan = json_set(plan, '$.reply', ?) WHERE id = ?",
        (
            call.request_id,
            call.usage.get("prompt_tokens"),
            call.usage.get("completion_tokens"),
            call.usage.get("cached_tokens"),
            call.cost_usd,
            call.retries,
            call.first_token_ms,
            call.duration_ms,
            call.status,
            call.error,
            call.reply_id,
            call_id,
        ),
    )


def add_call(
    c: sqlite3.Connection, call: CallRecord, *, conversation: int, turn: int | None, summary: int | None, now: float
) -> int:
    """A call that is written once, after it ended (folds, trials)."""
    cursor = c.execute(
        "INSERT INTO call (uid, conversation, turn, summary, purpose, model, base_url_host, estimated_prompt_tokens, status, "
        "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'running', ?)",
        (
            call.uid,
            conversation,
            turn,
            summary,
            call.purpose,
            call.model,
            call.host,
            call.estimated_prompt_tokens,
            now,
        ),
    )
    call_id = int(cursor.lastrowid or 0)
    end_call(c, call_id, call)
    return call_id


def add_events(
    c: sqlite3.Connection,
    conversation: int,
    turn_id: int | None,
    events: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    now: float,
) -> None:
    """Keep events; deltas come as one row with their count."""
    c.executemany(
        "INSERT INTO event (uid, conversation, turn, seq, name, payload, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (uid, conversation, turn_id, n, name, dump(payload), now)
            for n, (uid, (name, payload)) in enumerate(zip(new_ids("e", len(events)), events, strict=True), 1)
        ],
    )


def close_expired(c: sqlite3.Connection, row: ConversationRow, *, now: float) -> list[int]:
    """Close the running turns of this path whose owner is gone; the seqs that were closed."""
    left = _left(c, row, now=now)
    for turn_id, _ in left:
        close_turn(c, row, turn_id, now=now)
    return [seq for _, seq in left]


def _left(c: sqlite3.Connection, row: ConversationRow, *, now: float) -> list[tuple[int, int]]:
    """(row, seq) of the running turns of this path whose owner is gone."""
    rows = c.execute(
        "SELECT t.id, t.seq, t.owner, t.lease_until FROM lineage l JOIN turn t ON t.branch = l.source "
        "AND t.state IN ('queued', 'running') AND t.seq BETWEEN l.first_seq AND l.last_seq WHERE l.branch = ?",
        (row.branch,),
    )
    return [(key, seq) for key, seq, owner, until in rows if (until or 0) <= now or is_gone(owner)]


def close_left(database: Database, conversation: str | None = None, *, now: float) -> None:
    """End what processes that are gone left running, before it is looked at, shared or written out.

    Args:
        database: the store; one that is read-only stays as it is.
        conversation: id of the one whose path is looked at, or None for all.
        now: Unix time, seconds.
    """
    if database.read_only:
        return
    with database.reader() as c:
        if conversation is None:
            found = c.execute(
                "SELECT DISTINCT b.conversation FROM turn t INDEXED BY turn_open JOIN branch b ON b.id = t.branch "
                "WHERE t.state IN ('queued', 'running')"
            ).fetchall()
            rows = [ledger.by_id(c, key) for (key,) in found]
        else:
            row = ledger.find(c, conversation)
            rows = [] if row is None else [row]
        left = [row for row in rows if _left(c, row, now=now)]
    if left:
        database.write(lambda c: [close_expired(c, ledger.by_id(c, row.id), now=now) for row in left]).result()


def estimated(message: Message) -> Counted:
    """A message counted by its bytes, until `load_counted`: who ends a turn for another may not know how to count."""
    return Counted(message, max(1, len(message.text.encode()) // 4), None, ESTIMATED, message.content_hash)


def close_turn(c: sqlite3.Connection, row: ConversationRow, turn_id: int, *, now: float) -> None:
    """End a turn for its owner: its draft becomes the reply."""
    draft = c.execute("SELECT message FROM draft WHERE turn = ?", (turn_id,)).fetchone()
    if draft:
        said = estimated(Message.from_dict(json.loads(draft[0])))
        (position,) = c.execute("SELECT count(*) FROM message WHERE turn = ?", (turn_id,)).fetchone()
        ledger.insert_messages(c, row, turn_id, messages=[said], first_position=position, now=now)
        c.execute("DELETE FROM draft WHERE turn = ?", (turn_id,))
    ledger.seal_turn(c, turn_id)
    # What the first request sent is no answer, not even where it ends with words put into the model's mouth.
    answered = c.execute(
        "SELECT 1 FROM message WHERE turn = ?1 AND role = 'assistant' AND position >= coalesce("
        "(SELECT min(json_extract(plan, '$.upto')) FROM call WHERE turn = ?1 AND plan IS NOT NULL), 0)",
        (turn_id,),
    ).fetchone()
    state = "partial" if answered else "failed"
    c.execute(
        "UPDATE turn SET state = ?, error = ?, owner = NULL, lease_until = NULL WHERE id = ?", (state, DIED, turn_id)
    )
    c.execute("UPDATE call SET status = ?, error = ? WHERE turn = ? AND status = 'running'", (state, DIED, turn_id))


def load_counted(
    c: sqlite3.Connection,
    row: ConversationRow,
    *,
    measure: Callable[[Message], Counted],
    current: PastTurn | None = None,
) -> Snapshot:
    """What the planner needs (see `ledger.load_snapshot`), with every text counted as ``measure`` does."""
    snapshot = ledger.load_snapshot(c, row, current=current)
    cut = [turn.id for turn in (*snapshot.pins, *snapshot.tail) if turn.state == "partial"]
    counted = [turn_id for turn_id in cut if _count_estimated(c, turn_id, measure)]
    snapshot = ledger.load_snapshot(c, row, current=current) if counted else snapshot
    return counts.in_one_encoding(c, row, snapshot, measure=measure)


def _count_estimated(c: sqlite3.Connection, turn_id: int, measure: Callable[[Message], Counted]) -> bool:
    """Count the texts of a turn that were only estimated; whether there were any."""
    rows = c.execute(
        "SELECT id, role, text, extra FROM message WHERE turn = ? AND encoding = ?", (turn_id, ESTIMATED)
    ).fetchall()
    for row_id, role, text, extra in rows:
        said = measure(Message.from_dict({"role": role, "content": text, **(load_extra(extra) or {})}))
        c.execute(
            "UPDATE message SET tokens = ?, features = ?, encoding = ? WHERE id = ?",
            (said.tokens, dump_features(said.features), said.encoding, row_id),
        )
    if rows:
        ledger.seal_turn(c, turn_id)
        forget(c)
    return bool(rows)


def is_running(c: sqlite3.Connection, *, turn_id: int, owner: str) -> bool:
    """Whether a turn still waits for its owner to close it."""
    row = c.execute("SELECT owner, state FROM turn WHERE id = ?", (turn_id,)).fetchone()
    return row is not None and row[0] == owner and row[1] in UNDER_WAY
