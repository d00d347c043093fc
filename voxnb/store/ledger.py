"""Statements on one connection: conversations, paths, turns, messages, pins.

Every function runs inside a transaction that somebody else began (`Database.write`
or `Database.snapshot`); none commits. All reads are index searches.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any

from voxnb.errors import ConversationError, ConversationExistsError, UnknownConversationError
from voxnb.memory.plan import UNDER_WAY, PastSummary, PastTurn, Said, Snapshot, open_tool_calls
from voxnb.messages import INSTRUCTION_ROLES, Message, canonical, digest
from voxnb.params import nearest
from voxnb.store import fresh
from voxnb.store.ids import new_id
from voxnb.store.lately import KnowingConnection
from voxnb.store.paths import turn_at, turns_between, whole_turn
from voxnb.store.pins import add_pin, load_pins
from voxnb.store.rows import (
    CONVERSATION_COLUMNS,
    ConversationRow,
    Counted,
    TurnRow,
    checked_name,
    dump,
    dump_features,
    load_extra,
    load_features,
    split_message,
    turn_hash,
)
from voxnb.store.schema import MAX_SEQ

# -- values -----------------------------------------------------------------------------------


def put_value(c: sqlite3.Connection, text: str) -> int:
    """Store a long text once; its id."""
    key = digest(text)
    row = c.execute("SELECT id FROM value WHERE hash = ?", (key,)).fetchone()
    if row:
        return int(row[0])
    cursor = c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (key, text))
    return int(cursor.lastrowid or 0)


def get_value(c: sqlite3.Connection, value_id: int | None) -> str | None:
    """A stored text by id."""
    if value_id is None:
        return None
    row = c.execute("SELECT text FROM value WHERE id = ?", (value_id,)).fetchone()
    return None if row is None else str(row[0])


# -- conversations ----------------------------------------------------------------------------


def find(c: sqlite3.Connection, ref: str) -> ConversationRow | None:
    """A conversation by id or name."""
    for column in ("uid", "name"):
        row = c.execute(f"SELECT {CONVERSATION_COLUMNS} FROM conversation WHERE {column} = ?", (ref,)).fetchone()
        if row:
            return ConversationRow.of(row)
    return None


def need(c: sqlite3.Connection, ref: str) -> ConversationRow:
    """A conversation by id or name, or an error that names the nearest."""
    row = find(c, ref)
    if row is None:
        names = [name for (name,) in c.execute("SELECT name FROM conversation ORDER BY id DESC LIMIT 1000")]
        close = nearest(ref, names)
        (there,) = c.execute("SELECT count(*) FROM conversation").fetchone()
        are = "is" if there == 1 else "are"
        hint = f"; did you mean {close[0]!r}?" if close else f"; {there:,} {are} there: see store.conversations()"
        raise UnknownConversationError(f"no conversation {ref!r}{hint}", name=ref, nearest=close)
    return row


def by_id(c: sqlite3.Connection, row_id: int) -> ConversationRow:
    """A conversation by row id."""
    row = c.execute(f"SELECT {CONVERSATION_COLUMNS} FROM conversation WHERE id = ?", (row_id,)).fetchone()
    if row is None:
        raise UnknownConversationError("the conversation was deleted meanwhile", name=str(row_id))
    return ConversationRow.of(row)


def create(
    c: sqlite3.Connection,
    *,
    uid: str,
    name: str,
    now: float,
    model: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    parent: int | None = None,
    fork_seq: int | None = None,
    api: str = "chat",
) -> ConversationRow:
    """A new conversation with an empty branch."""
    if find(c, checked_name(name)) is not None:
        raise ConversationExistsError(f"a conversation {name!r} exists already; choose another name")
    cursor = c.execute(
        "INSERT INTO conversation (uid, name, api, model, parent, fork_seq, branch, metadata, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)",
        (uid, name, api, model, parent, fork_seq, dump(dict(metadata or {})), now),
    )
    row_id = int(cursor.lastrowid or 0)
    c.execute("UPDATE conversation SET branch = ? WHERE id = ?", (new_branch(c, row_id, stretches=[], now=now), row_id))
    return by_id(c, row_id)


def new_branch(
    c: sqlite3.Connection, conversation: int, *, stretches: Sequence[tuple[int, int, int]], now: float
) -> int:
    """A branch that shares ``stretches`` (first, last, source) and goes on after them; its id."""
    cursor = c.execute("INSERT INTO branch (conversation, created_at) VALUES (?, ?)", (conversation, now))
    branch = int(cursor.lastrowid or 0)
    own_first = max((last for _, last, _ in stretches), default=0) + 1
    c.executemany(
        "INSERT INTO lineage (branch, first_seq, last_seq, source) VALUES (?, ?, ?, ?)",
        [(branch, *s) for s in stretches] + [(branch, own_first, MAX_SEQ, branch)],
    )
    return branch


def stretches_to(c: sqlite3.Connection, branch: int, seq: int) -> list[tuple[int, int, int]]:
    """The lineage of a branch cut after ``seq``."""
    rows = c.execute(
        "SELECT first_seq, last_seq, source FROM lineage WHERE branch = ? AND first_seq <= ? ORDER BY first_seq",
        (branch, seq),
    ).fetchall()
    return [(first, min(last, seq), source) for first, last, source in rows]


def head_at(c: sqlite3.Connection, head: int | None, seq: int) -> tuple[int | None, int]:
    """The newest summary of a chain that covers nothing after ``seq``, and what it covers."""
    while head is not None:
        last_seq, previous = c.execute("SELECT last_seq, previous FROM summary WHERE id = ?", (head,)).fetchone()
        if last_seq <= seq:
            return head, last_seq
        head = previous
    return None, 0


def move(c: sqlite3.Connection, row: ConversationRow, *, seq: int, now: float) -> ConversationRow:
    """Point the conversation at its path cut after ``seq``; the turns after it stay in the store."""
    branch = new_branch(c, row.id, stretches=stretches_to(c, row.branch, seq), now=now)
    head, folded_to = head_at(c, row.head, seq)
    c.execute(
        "UPDATE conversation SET branch = ?, last_seq = ?, head = ?, folded_to = ?, fold_after_seq = 0, "
        "fold_owner = NULL, fold_lease_until = NULL WHERE id = ?",
        (branch, seq, head, folded_to, row.id),
    )
    return by_id(c, row.id)


def take_up(c: sqlite3.Connection, row: ConversationRow) -> None:
    """Point the conversation at the path of an earlier row of it; nothing is written where it is on that."""
    c.execute(
        "UPDATE conversation SET branch = ?, last_seq = ?, head = ?, folded_to = ?, fold_after_seq = 0, "
        "fold_owner = NULL, fold_lease_until = NULL WHERE id = ? AND branch != ?",
        (row.branch, row.last_seq, row.head, row.folded_to, row.id, row.branch),
    )


def set_instructions(c: sqlite3.Connection, row: ConversationRow, messages: Sequence[Counted]) -> ConversationRow:
    """Make these the instructions from now on; the earlier version stays in the store."""
    value = put_value(c, instructions_text(messages))
    if value == row.instructions:
        return row
    c.execute("UPDATE conversation SET instructions = ? WHERE id = ?", (value, row.id))
    return row._replace(instructions=value)


def take_back_instructions(c: sqlite3.Connection, row: ConversationRow, turn_id: int, *, before: int | None) -> bool:
    """Go back to earlier instructions where those of a turn never went out: no request of it was planned.

    Returns:
        Whether they were taken back. They stay where others were said since.
    """
    cursor = c.execute(
        "UPDATE conversation SET instructions = ? WHERE id = ? AND instructions IS ? AND instructions IS NOT ? "
        "AND NOT EXISTS (SELECT 1 FROM call WHERE turn = ?)",
        (before, row.id, row.instructions, before, turn_id),
    )
    return cursor.rowcount > 0


def instructions_text(messages: Sequence[Counted]) -> str:
    """A version of the instructions as it is stored."""
    return canonical([[m.message.to_dict(), m.tokens, list(m.features or ())] for m in messages])


def load_instructions(c: sqlite3.Connection, value_id: int | None) -> tuple[Said, ...]:
    """Instructions by version."""
    text = get_value(c, value_id)
    if text is None:
        return ()
    out = []
    for n, (message, tokens, features) in enumerate(json.loads(text)):
        content = message.get("content")
        extra = {k: v for k, v in message.items() if k not in ("role", "content")}
        if not isinstance(content, str):
            extra["content"] = content
        text = content if isinstance(content, str) else ""
        out.append(Said(n, message["role"], text, extra or None, tokens, tuple(features) or None))
    return tuple(out)


# -- turns and messages -----------------------------------------------------------------------


def insert_turn(
    c: sqlite3.Connection,
    row: ConversationRow,
    *,
    state: str,
    now: float,
    model: str | None = None,
    owner: str | None = None,
    lease_until: float | None = None,
    messages: Sequence[Counted] = (),
    error: str | None = None,
) -> tuple[ConversationRow, TurnRow]:
    """The next turn of the conversation's path, with its messages; the conversation as it is afterwards."""
    seq, uid = row.last_seq + 1, new_id("t")
    cursor = c.execute(
        "INSERT INTO turn (uid, branch, seq, state, tokens, hash, model, owner, lease_until, created_at, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            uid,
            row.branch,
            seq,
            state,
            sum(m.tokens for m in messages),
            turn_hash(m.hash for m in messages),
            model,
            owner,
            lease_until,
            now,
            error,
        ),
    )
    turn = TurnRow(int(cursor.lastrowid or 0), uid, row.branch, seq, state, owner, lease_until)
    c.execute("UPDATE conversation SET last_seq = ?, last_turn_at = ? WHERE id = ?", (seq, now, row.id))
    insert_messages(c, row, turn.id, messages=messages, first_position=0, now=now)
    pinned = any(m.message.role in INSTRUCTION_ROLES for m in messages)
    return by_id(c, row.id) if pinned else row._replace(last_seq=seq), turn


def insert_messages(
    c: sqlite3.Connection,
    conversation: ConversationRow,
    turn_id: int,
    *,
    messages: Iterable[Counted],
    first_position: int,
    now: float,
) -> None:
    """Append messages to a turn; system messages in between are pinned."""
    for position, counted in enumerate(messages, start=first_position):
        text, extra = split_message(counted.message)
        if isinstance(c, KnowingConnection) and counted.encoding != c.counted_in.get(conversation.branch, ("",))[0]:
            c.counted_in.pop(conversation.branch, None)
        fresh.write_message(
            c,
            turn_id,
            position,
            counted.message.role,
            text,
            None if extra is None else dump(extra),
            counted.tokens,
            dump_features(counted.features),
            counted.encoding,
            counted.hash,
            now,
        )
        if counted.message.role in INSTRUCTION_ROLES:
            add_pin(c, conversation, turn_id, position=position)


def add_message(
    c: sqlite3.Connection, row: ConversationRow, turn_id: int, message: Counted, *, now: float
) -> tuple[str, int]:
    """Append one message to a turn; the turn's hash and tokens afterwards, for the caller to write (see `seal_turn`)."""
    stored = c.execute("SELECT hash, tokens FROM message WHERE turn = ? ORDER BY position", (turn_id,)).fetchall()
    insert_messages(c, row, turn_id, messages=[message], first_position=len(stored), now=now)
    return turn_hash([*(h for h, _ in stored), message.hash]), sum(t for _, t in stored) + message.tokens


def seal_turn(c: sqlite3.Connection, turn_id: int) -> None:
    """Bring a turn's token count and content hash up to date with its messages."""
    rows = c.execute("SELECT hash, tokens FROM message WHERE turn = ? ORDER BY position", (turn_id,)).fetchall()
    c.execute(
        "UPDATE turn SET hash = ?, tokens = ? WHERE id = ?",
        (turn_hash(h for h, _ in rows), sum(t for _, t in rows), turn_id),
    )


# -- summaries --------------------------------------------------------------------------------


def load_summary(c: sqlite3.Connection, summary_id: int | None) -> PastSummary | None:
    """A summary as the planner sees it."""
    if summary_id is None:
        return None
    row = c.execute(
        "SELECT id, uid, mark, text, last_seq, tokens, features, round FROM summary WHERE id = ?", (summary_id,)
    ).fetchone()
    return PastSummary._make((*row[:5], index(row[5]), load_features(row[6]), row[7]))


def load_snapshot(c: sqlite3.Connection, row: ConversationRow, *, current: PastTurn | None = None) -> Snapshot:
    """Everything the planner needs, as it is now."""
    pinned, pins = load_pins(c, row.id, row.branch, version=row.pin_version, folded_to=row.folded_to)
    last = row.last_seq if current is None else current.seq - 1
    return Snapshot(
        instructions=load_instructions(c, row.instructions),
        summary=load_summary(c, row.head),
        pins=pins,
        tail=tuple(turns_between(c, row.branch, row.folded_to + 1, last, pinned=pinned)),
        current=current,
        folded_to=row.folded_to,
    )


def copy_turn(
    c: sqlite3.Connection, row: ConversationRow, turn_id: int, *, first_messages: int | None = None
) -> TurnRow:
    """The next turn of a path as a copy of another one (or of its first messages), for a turn that may still grow."""
    state, model, finish_reason, error, created_at = c.execute(
        "SELECT state, model, finish_reason, error, created_at FROM turn WHERE id = ?", (turn_id,)
    ).fetchone()
    stored = c.execute(
        "SELECT role, text, extra, tokens, features, encoding, hash FROM message WHERE turn = ? ORDER BY position LIMIT ?",
        (turn_id, -1 if first_messages is None else first_messages),
    ).fetchall()
    messages = [
        Counted(
            Message.from_dict({"role": role, "content": text, **(load_extra(extra) or {})}),
            tokens,
            load_features(features),
            encoding,
            key,
        )
        for role, text, extra, tokens, features, encoding, key in stored
    ]
    _, turn = insert_turn(c, row, state=state, now=created_at, model=model, messages=messages)
    c.execute("UPDATE turn SET finish_reason = ?, error = ? WHERE id = ?", (finish_reason, error, turn.id))
    return turn


def adopt(c: sqlite3.Connection, fork: ConversationRow, source: ConversationRow, *, seq: int) -> None:
    """Make a fork share its source's path up to ``seq``, with the summaries and pins of that part.

    A last turn whose tool calls wait for results is copied: either conversation may get them.

    Raises:
        ConversationError: the last turn to share still runs.
    """
    last = turn_at(c, source.branch, seq) if seq else None
    if last is not None and last.state in UNDER_WAY:
        raise ConversationError(f"turn {seq} of {source.name!r} is still {last.state}; wait for it, or fork before it")
    if last is None or not open_tool_calls(whole_turn(c, last.id).messages):
        _share(c, fork, source, seq=seq)
        return
    _share(c, fork, source, seq=seq - 1)
    copy_turn(c, by_id(c, fork.id), last.id)
    c.execute("UPDATE conversation SET last_turn_at = created_at WHERE id = ?", (fork.id,))


def _share(c: sqlite3.Connection, fork: ConversationRow, source: ConversationRow, *, seq: int) -> None:
    stretches = stretches_to(c, source.branch, seq) if seq else []
    branch = new_branch(c, fork.id, stretches=stretches, now=0.0)
    c.execute(
        "UPDATE branch SET created_at = (SELECT created_at FROM conversation WHERE id = ?) WHERE id = ?",
        (fork.id, branch),
    )
    head, folded_to = head_at(c, source.head, seq)
    c.execute(
        "UPDATE conversation SET branch = ?, last_seq = ?, head = ?, folded_to = ?, instructions = ?, last_turn_at = created_at "
        "WHERE id = ?",
        (branch, seq, head, folded_to, source.instructions, fork.id),
    )
    for turn, position in c.execute(
        "SELECT p.turn, p.position FROM pin p JOIN turn t ON t.id = p.turn "
        "WHERE p.conversation = ? AND p.removed IS NULL AND t.seq <= ?",
        (source.id, seq),
    ).fetchall():
        add_pin(c, fork, turn, position=position)
