"""Resent history: which of a request's messages are stored already."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from voxnb.errors import HistoryConflictError, MessageError
from voxnb.memory.plan import open_tool_calls
from voxnb.messages import Message
from voxnb.store import paths
from voxnb.store.rows import ConversationRow


class Fresh(NamedTuple):
    """What of a message list is not stored yet.

    Attributes:
        messages: the new ones.
        recognised: how many before them are stored.
        after: last turn that they come after; what follows it is said again, differently.
    """

    messages: list[Message]
    recognised: int
    after: int


def new_messages(
    c: sqlite3.Connection,
    row: ConversationRow,
    rest: Sequence[Message],
    *,
    last_seq: int | None = None,
    may_be_empty: bool = False,
) -> Fresh:
    """The messages that are not stored yet, and how many are.

    A list that holds an answer is taken for the whole conversation: it must begin with what is stored. One that ends
    with what was said since the last whole answer says it again: a reply that was cut off there gives way.
    """
    if not rest and not may_be_empty:
        raise MessageError("the request has no message but instructions; add what the user says", index=None)
    last = row.last_seq if last_seq is None else last_seq
    if not any(m.role == "assistant" for m in rest) or last == 0:
        return Fresh(list(rest), 0, last)
    stored, after = paths.history_hashes(c, row.branch, last), last
    try:
        at = match_history(stored, rest)
    except HistoryConflictError as error:
        if (referred := _reference(rest)) is None:
            raise
        raise HistoryConflictError(
            f"the input refers to {referred}, which the service keeps; this conversation is sent whole, with "
            "its items: leave the reference out, or name previous_response_id, whose history the service adds",
            index=error.index,
        ) from error
    while at == len(rest) and stored and stored[-1][1] != "complete":
        seq, state, _ = stored.pop()
        after = seq - 1 if state == "partial" else after
        at = match_history(stored, rest)
    if at == len(rest):
        raise MessageError(
            "the messages hold nothing that is not stored already; add what the user says next", index=None
        )
    return Fresh(list(rest[at:]), at, after)


def _reference(messages: Sequence[Message]) -> str | None:
    """The first item that a list only refers to, in words, or None."""
    items = (item for m in messages for item in m.extra.get("items") or () if item.get("type") == "item_reference")
    return next((f"the item {item['id']!r}" if item.get("id") else "an item without an id" for item in items), None)


def match_history(stored: Sequence[tuple[int, str, list[tuple[str, str]]]], given: Sequence[Message]) -> int:
    """How many of the given messages are the stored conversation.

    Failed turns may be left out of the list or stand in it without a reply; so may the reply of a partial one.

    Raises:
        HistoryConflictError: they differ, or end before the stored ones do.
    """
    hashes = [m.content_hash for m in given]
    reached = {0}  # several where a turn without an answer may be in the list or not
    for seq, state, messages in stored:
        keys = [key for _, key in messages]
        before = reached
        if state == "complete":
            reached = {at + len(keys) for at in before if hashes[at : at + len(keys)] == keys}
        else:
            ends = [at + len(f) for at in before for f in _forms(messages) if hashes[at : at + len(f)] == f]
            reached = {at for at in ends if at == len(given) or given[at].role != "assistant"}
        if not reached:
            at = max(before)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(keys, hashes[at:], strict=False)))
            index = at + same
            if index >= len(given):
                if same and messages[same][0] == "assistant":
                    raise _answered(seq, last=stored[-1][0], index=index)
                raise HistoryConflictError(
                    f"the messages end {'within' if same else 'before'} turn {seq} of the stored conversation; send the whole of it and what is "
                    f"new, only what is new, or continue from there with conversation.fork(at={seq - 1}, name=…)",
                    index=len(given),
                )
            raise HistoryConflictError(
                f"message {index} differs from turn {seq} of the stored conversation; send only what is new, or "
                f"continue from there with conversation.fork(at={seq - 1}, name=…)",
                index=index,
            )
    return max(reached)


def _answered(seq: int, *, last: int, index: int) -> HistoryConflictError:
    """The error for a list that ends where the answer of a turn follows, with what there is to do."""
    again = "conversation.retry() asks again, " if seq == last else ""
    return HistoryConflictError(
        f"the messages end where the stored conversation has the answer of turn {seq}: they were sent before; "
        f'{again}conversation.undo({last - seq + 1}) goes back before them, and a client made with if_exists="reuse" '
        "is answered from the store",
        index=index,
    )


def _forms(messages: Sequence[tuple[str, str]]) -> list[list[str]]:
    """How a turn that was not wholly answered may stand in a list: as it is, without its cut reply, without any, not."""
    keys = [key for _, key in messages]
    replies = next((n for n, (role, _) in enumerate(reversed(messages)) if role != "assistant"), 0)
    asked = [key for role, key in messages if role not in ("assistant", "tool", "function")]
    return [keys, keys[: len(keys) - replies], asked, []]


def no_place(
    c: sqlite3.Connection,
    row: ConversationRow,
    new: Sequence[Message],
    *,
    at: int,
    waiting: Sequence[str],
    given_before: int,
) -> MessageError:
    """The error for a tool result that answers no call.

    Args:
        c: connection.
        row: the conversation.
        new: the messages that are not stored yet.
        at: which of them it is.
        waiting: calls that have no result yet.
        given_before: how many messages of the request stand before the new ones.
    """
    call_id, index = new[at].tool_call_id or "", at + given_before
    if any(m.tool_call_id == call_id for m in new[:at]):
        return MessageError(f"message {index} answers {call_id!r} a second time; leave one of the two out", index=index)
    return MessageError(
        f"message {index} is the result of {call_id!r}, which {_why_nothing_waits(c, row, call_id)}"
        + (f"; waiting are {', '.join(map(repr, waiting))}" if waiting else ""),
        index=index,
    )


def _why_nothing_waits(c: sqlite3.Connection, row: ConversationRow, call_id: str) -> str:
    """Why a tool result has no place: its call was never made, has a result, or was passed over; in words."""
    for turn_id, seq in paths.calling_turns(c, row.branch, row.last_seq):
        said = paths.whole_turn(c, turn_id).messages
        if call_id in open_tool_calls(said):
            return (
                f"turn {seq} called: the conversation went on without it; go back with "
                f"conversation.undo({row.last_seq - seq}) and send it there, or tell it in a user message"
            )
        if any(call["id"] == call_id for m in said for call in (m.extra or {}).get("tool_calls") or ()):
            return f"turn {seq} called and has a result of; leave it out"
    return "no assistant message called"
