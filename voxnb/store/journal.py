"""The transactions of a request: begin it with its plan, keep its draft, store its reply.

Rule 1: what the user said is committed before the call, with the plan of the request;
the reply is committed after it. In between the turn carries its owner and a lease.
Rule 2: the plan has constant size and names what the request was made of; `explain` rebuilds from it.
Rule 3: a turn whose owner is gone is closed by the next planner, with the text it had.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from voxnb.errors import ConversationError, ConversationExistsError, HistoryConflictError, MessageError
from voxnb.memory.plan import UNDER_WAY, Layout, PastTurn, Snapshot, open_tool_calls
from voxnb.messages import Message, canonical, goes_on, group_turns, split_instructions, unpaired
from voxnb.store import ledger, paths
from voxnb.store.ending import close_expired
from voxnb.store.history import new_messages, no_place
from voxnb.store.owner import LEASE_S
from voxnb.store.request import plan_call
from voxnb.store.rows import ConversationRow, Counted, TurnRow

UNANSWERED: Final = "tool calls that have no result"
"""Why a turn that came from elsewhere is taken for cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request brings to the store.

    Attributes:
        ref: the conversation's name or id as the user gave it, or None for a new one.
        uid: id to give it if it must be made.
        name: name to give it if it must be made.
        must_be_new: refuse an existing one.
        model: model of the request.
        metadata: of the conversation, if it must be made.
        messages: the request's messages, checked.
        measure: message → counts; what is surely new was measured before.
        instructions: used where the messages bring none.
        instructions_said: they were said before: only a conversation that must be made (again) gets them.
        parameters: the request's body without messages and tools.
        tools: its tools and response format, or None.
        lay_out: snapshot → layout; None stores the turn and plans nothing yet.
        owner: this process.
        host: whom it goes to.
        api: the interface it is sent over.
        held_by: key of the body by which the server has the history; then the store only records.
        whole: it may hold no message: what the server keeps says what is asked.
        reuse_after: (seq, position) up to which this client was answered from the store; None: never.
        reuse_path: the path that is repeated, where requests that failed led off it.
        again: row of the turn that is asked again: the last one, which the new one takes the place of.
    """

    ref: str | None
    uid: str
    name: str
    must_be_new: bool
    model: str | None
    metadata: Mapping[str, Any]
    messages: Sequence[Message]
    measure: Callable[[Message], Counted]
    instructions: Sequence[Message]
    parameters: Mapping[str, Any]
    tools: Any
    lay_out: Callable[[Snapshot], Layout] | None
    owner: str
    host: str
    api: str = "chat"
    held_by: str | None = None
    whole: bool = False
    reuse_after: tuple[int, int] | None = None
    reuse_path: ConversationRow | None = None
    instructions_said: bool = False
    again: int | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that was begun.

    Attributes:
        conversation: as it is now.
        turn: the turn.
        call_id: row of the planned call, or None where the request does not fit yet.
        layout: the request.
        recognised: how many messages were already stored.
        created: whether the conversation was made for it.
        left: the path that was repeated until here; should this turn fail, no context has it, and the path goes on.
        instructions_before: version of the instructions that it found.
        given: how many of its messages the request brought; 0 where it had begun, and may be answered, before.
    """

    conversation: ConversationRow
    turn: TurnRow
    call_id: int | None
    layout: Layout
    recognised: int = 0
    created: bool = False
    left: ConversationRow | None = None
    instructions_before: int | None = None
    given: int = 0


@dataclass(frozen=True, slots=True)
class Reused:
    """A request that the store answers.

    Attributes:
        conversation: as it is.
        turn: the stored turn.
        message: the stored reply.
        cursor: (seq, position) after it.
        finish_reason: as stored.
        model: as stored.
        reply_id: the service's id of the reply, where it is known.
    """

    conversation: ConversationRow
    turn: TurnRow
    message: dict[str, Any]
    cursor: tuple[int, int]
    finish_reason: str | None = None
    model: str | None = None
    reply_id: str | None = None


def begin(c: sqlite3.Connection, ask: Ask, *, now: float) -> Begun | Reused:
    """Store what the user said and plan the request; see the module's rules.

    Raises:
        ConversationExistsError: ``if_exists="fail"`` and it exists.
        HistoryConflictError: the messages contradict the stored history.
        MessageError: nothing new, or tool results and calls that do not pair.
    """
    row, created = open_conversation(c, ask, now=now)
    if ask.instructions_said and not created:
        ask = replace(ask, instructions=())
    close_expired(c, row, now=now)
    leading, rest = split_instructions(ask.messages) if ask.again is None else ([], list(ask.messages))
    held: list[Message] = []
    left = ask.reuse_path
    if left is not None and (ask.reuse_after is None or paths.has_answer_after(c, row.branch, ask.reuse_after[0])):
        left, ask = None, replace(ask, reuse_after=None)  # others went on here
    if ask.reuse_after is not None:
        reused = find_reply(c, left or row, ask, leading=leading, rest=rest)
        if reused is not None:
            ledger.take_up(c, left or row)
            return reused
        if left is None:
            left = row if ask.reuse_after[1] == 0 and ask.reuse_after[0] < row.last_seq else None
            row, held = branch_off(c, row, ask.reuse_after, now=now)
    instructions, before = leading or list(ask.instructions), row.instructions
    if instructions:
        row = ledger.set_instructions(c, row, [ask.measure(m) for m in instructions])
    if ask.again is not None:
        row, new, recognised = step_back(c, row, ask.again, now=now), rest, 0
    elif ask.held_by is not None:
        new, recognised = rest, 0
    elif held:
        new, recognised = [*held, *_after_last_answer(rest)], 0
    else:
        new, recognised, after = new_messages(c, row, rest, may_be_empty=ask.whole)
        row = ledger.move(c, row, seq=after, now=now) if after < row.last_seq else row
    whole = bool(held) or ask.again is not None or ask.held_by is not None
    row, turn, current = place(c, row, ask, new, whole=whole, now=now)
    layout, call_id = plan_call(c, row, turn, current, ask, now=now)
    if call_id is None:
        turn = turn._replace(state="queued")
        c.execute("UPDATE turn SET state = 'queued' WHERE id = ?", (turn.id,))
    is_new = not held and ask.again is None and len(current.messages) <= len(new)
    return Begun(row, turn, call_id, layout, recognised, created, left, before, len(current.messages) * is_new)


def open_conversation(c: sqlite3.Connection, ask: Ask, *, now: float) -> tuple[ConversationRow, bool]:
    """The conversation asked for, made if it is not there."""
    row = ledger.find(c, ask.uid) or (ledger.find(c, ask.ref) if ask.ref else None)
    if row is not None:
        if ask.must_be_new and row.uid != ask.uid:
            raise ConversationExistsError(
                f'the conversation {row.name!r} exists and if_exists="fail"; choose another name or "append"'
            )
        return row, False
    return ledger.create(
        c, uid=ask.uid, name=ask.name, now=now, model=ask.model, metadata=ask.metadata, api=ask.api
    ), True


# -- what is new ------------------------------------------------------------------------------


def branch_off(
    c: sqlite3.Connection, row: ConversationRow, cursor: tuple[int, int], *, now: float
) -> tuple[ConversationRow, list[Message]]:
    """Go back to where a repeated run differs; within a turn, also what of it was repeated so far."""
    seq, position = cursor
    held: list[Message] = []
    if position:
        turn = paths.turn_at(c, row.branch, seq)
        assert turn is not None
        check_not_redacted(row, turn)
        held = _as_messages(paths.whole_turn(c, turn.id, first_messages=position))
        seq -= 1
    if seq < row.last_seq:
        row = ledger.move(c, row, seq=seq, now=now)
    return row, held


def step_back(c: sqlite3.Connection, row: ConversationRow, turn_id: int, *, now: float) -> ConversationRow:
    """The conversation before its last turn, which is asked again.

    Raises:
        ConversationError: it is no longer the last one, or still runs.
    """
    last = paths.turn_at(c, row.branch, row.last_seq) if row.last_seq else None
    if last is None or last.id != turn_id:
        raise ConversationError(f"{row.name!r} went on meanwhile: the turn to ask again is no longer the last one")
    if last.state in UNDER_WAY:
        raise ConversationError(f"turn {last.seq} of {row.name!r} is still {last.state}; wait for it or cancel() it")
    check_not_redacted(row, last)
    return ledger.move(c, row, seq=last.seq - 1, now=now)


def check_not_redacted(row: ConversationRow, turn: TurnRow) -> None:
    """Raise a ConversationError where a turn's words, which are to be said again, were taken out."""
    if turn.state == "redacted":
        raise ConversationError(
            f"turn {turn.seq} of {row.name!r} was redacted: its words are gone; go back before it with undo()"
        )


def _as_messages(turn: PastTurn) -> list[Message]:
    return [Message.from_dict(said.to_dict()) for said in turn.messages]


def _after_last_answer(messages: Sequence[Message]) -> list[Message]:
    """What follows the last assistant message of a list (all of it where there is none)."""
    answers = [n for n, m in enumerate(messages) if m.role == "assistant"]
    return list(messages[answers[-1] + 1 :] if answers else messages)


def place(
    c: sqlite3.Connection, row: ConversationRow, ask: Ask, new: Sequence[Message], *, whole: bool = False, now: float
) -> tuple[ConversationRow, TurnRow, PastTurn]:
    """Put new messages into the turn they belong to: the open one with results of its calls, else the next.

    An open turn that another path shares, or that is folded, stays as it is there: this path goes on with a copy.

    Args:
        c: connection, in a transaction.
        row: the conversation.
        ask: the request.
        new: messages that are not stored yet.
        whole: they are one turn, whatever is in them.
        now: UNIX seconds.

    Returns:
        The conversation as it is afterwards, the turn, and the turn with all its messages.

    Raises:
        MessageError: tool results and calls that do not pair.
    """
    answers = row.last_seq and any(m.role in ("tool", "function") for m in new)
    last = paths.turn_at(c, row.branch, row.last_seq) if answers else None
    held = paths.whole_turn(c, last.id).messages if last else ()
    waiting = open_tool_calls(held) if held else []
    if not goes_on(new, open_ids=waiting):
        last, held, waiting = None, (), []
    orphans, unanswered = unpaired(new, open_ids=waiting)
    if orphans and ask.held_by is not None:  # of calls that the server knows of
        last, held, waiting = None, (), []
    elif orphans:
        given_before = len(ask.messages) - len(new)  # what is new is the end of what was given
        raise no_place(c, row, new, at=orphans[0][0], waiting=waiting, given_before=given_before)
    if unanswered and ask.held_by is None:
        raise MessageError(
            f"the tool call {unanswered[0]!r} has no result; send the results of all calls together", index=None
        )
    lease = now + LEASE_S
    if last is not None and waiting and (last.branch != row.branch or last.seq <= row.folded_to):
        new, whole = [*_as_messages(paths.whole_turn(c, last.id)), *new], True
        row, waiting = ledger.move(c, row, seq=last.seq - 1, now=now), []
    if last is not None and waiting:
        c.execute(
            "UPDATE turn SET state = 'running', owner = ?, lease_until = ? WHERE id = ?", (ask.owner, lease, last.id)
        )
        turn = last._replace(state="running")
        counted = [ask.measure(m) for m in new]
        ledger.insert_messages(c, row, turn.id, messages=counted, first_position=len(held), now=now)
        ledger.seal_turn(c, turn.id)
        return ledger.by_id(c, row.id), turn, paths.whole_turn(c, turn.id)
    groups = [list(new)] if whole or not new else list(group_turns(new))
    for group in groups[:-1]:
        row = append_turn(c, row, group, measure=ask.measure, now=now)
    counted = [ask.measure(m) for m in groups[-1]]
    row, turn = ledger.insert_turn(
        c, row, state="running", now=now, model=ask.model, owner=ask.owner, lease_until=lease, messages=counted
    )
    said = tuple(message.said(n) for n, message in enumerate(counted))
    return row, turn, PastTurn(turn.id, turn.uid, turn.seq, turn.state, said)


def append_turn(
    c: sqlite3.Connection,
    row: ConversationRow,
    group: Sequence[Message],
    *,
    measure: Callable[[Message], Counted],
    now: float,
    may_go_on: bool = False,
) -> ConversationRow:
    """Add a turn that was answered elsewhere; the conversation as it is afterwards.

    Args:
        c: in a transaction.
        row: the conversation.
        group: the turn's messages.
        measure: counts one.
        now: UNIX time in seconds.
        may_go_on: whether results of its tool calls may still come; else a turn without them was cut off.
    """
    waiting = not may_go_on and any(unpaired(group))
    state, error = ("partial", UNANSWERED) if waiting else ("complete", None)
    counted = [measure(m) for m in group]
    return ledger.insert_turn(c, row, state=state, now=now, messages=counted, error=error)[0]


def find_reply(
    c: sqlite3.Connection, row: ConversationRow, ask: Ask, *, leading: Sequence[Message], rest: Sequence[Message]
) -> Reused | None:
    """The stored reply to the same request at the same place, or None where it differs."""
    assert ask.reuse_after is not None
    seq, position = ask.reuse_after
    try:
        fresh = new_messages(c, row, rest, last_seq=seq, may_be_empty=ask.whole) if position == 0 else None
    except HistoryConflictError:
        return None
    # A whole list resent inside a tool loop: the open turn's messages are its end.
    new = _after_last_answer(rest) if fresh is None else fresh.messages
    at_seq = seq if position else seq + 1
    turn = paths.turn_at(c, row.branch, at_seq)
    while turn is not None and turn.state == "failed" and not position:  # nobody was answered there
        at_seq += 1
        turn = paths.turn_at(c, row.branch, at_seq)
    if turn is None or turn.state != "complete":
        return None
    stored = paths.whole_turn(c, turn.id).messages[position:]
    keys = [
        key for (key,) in c.execute(
            "SELECT hash FROM message WHERE turn = ? AND position >= ? ORDER BY position", (turn.id, position)
        )
    ]  # fmt: skip
    if len(stored) <= len(new) or stored[len(new)].role != "assistant":
        return None
    if keys[: len(new)] != [m.content_hash for m in new] or not _same_request(c, ask, turn, leading, position):
        return None
    reply_at = position + len(new)
    message = paths.load_message(c, turn.id, reply_at)
    assert message is not None
    more = len(stored) > len(new) + 1
    cursor = (at_seq, reply_at + 1) if more else (at_seq, 0)
    finish_reason, model = c.execute("SELECT finish_reason, model FROM turn WHERE id = ?", (turn.id,)).fetchone()
    return Reused(
        row, turn, message, cursor, "tool_calls" if more else finish_reason, model, reply_id(c, turn.id, reply_at)
    )


def reply_id(c: sqlite3.Connection, turn_id: int, position: int) -> str | None:
    """The service's id of a stored reply, or None where no request of the turn brought it."""
    found = c.execute(
        "SELECT json_extract(plan, '$.reply') FROM call WHERE turn = ? AND json_extract(plan, '$.upto') = ? "
        "ORDER BY id DESC LIMIT 1",
        (turn_id, position),
    ).fetchone()
    return None if found is None else found[0]


def _same_request(c: sqlite3.Connection, ask: Ask, turn: TurnRow, leading: Sequence[Message], position: int) -> bool:
    """Whether model, parameters, tools and instructions are those of the stored turn's request."""
    plans = c.execute("SELECT plan FROM call WHERE turn = ? AND plan IS NOT NULL ORDER BY id", (turn.id,)).fetchall()
    plan = next((p for (text,) in plans if (p := json.loads(text))["upto"] >= position), None)
    if plan is None:
        return True  # imported or appended: nobody asked for it
    wanted = leading or list(ask.instructions)
    if wanted:
        have = [s.to_dict() for s in ledger.load_instructions(c, plan["instructions"])]
        if [Message.from_dict(m) for m in have] != list(wanted):
            return False
    return bool(
        ledger.get_value(c, plan["parameters"]) == canonical(dict(ask.parameters))
        and ledger.get_value(c, plan["tools"]) == (None if ask.tools is None else canonical(ask.tools))
    )
