"""The transactions between two requests of one turn: a reply whose tools are run, their results, the next request.

In between the turn runs on: nobody else's turn comes in, and whoever finds it without an owner closes it as it stands.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from voxnb.errors import TurnError
from voxnb.messages import Message
from voxnb.store import ending, ledger, paths
from voxnb.store.ending import Ending
from voxnb.store.journal import Ask, Begun, Reused, reply_id
from voxnb.store.owner import LEASE_S
from voxnb.store.request import check_on_path, plan_call
from voxnb.store.rows import TurnRow


def end_round(c: sqlite3.Connection, begun: Begun, *, outcome: Ending, now: float, owner: str) -> bool:
    """Store a reply whose turn goes on; see `ending.finish`.

    Returns:
        False if another process has closed the turn meanwhile: then the reply is kept beside it.
    """
    here = ending.finish(c, begun.conversation, begun.turn.id, begun.call_id, ending=outcome, now=now, owner=owner)
    if here:
        c.execute(
            "UPDATE turn SET state = 'running', owner = ?, lease_until = ? WHERE id = ?",
            (owner, now + LEASE_S, begun.turn.id),
        )
    return here


def go_on(c: sqlite3.Connection, begun: Begun, results: Sequence[Message], ask: Ask, *, now: float) -> Begun:
    """Add the results of a turn's tools and plan its next request.

    Raises:
        TurnError: another process has closed the turn meanwhile, or it was taken back.
    """
    turn_id = begun.turn.id
    if not ending.is_running(c, turn_id=turn_id, owner=ask.owner):
        raise TurnError("another process closed this turn while its tools ran; retry() asks again")
    row = ledger.by_id(c, begun.conversation.id)
    check_on_path(c, row, begun.turn)
    held = length(c, begun.turn)
    counted = [ask.measure(m) for m in results]
    ledger.insert_messages(c, row, turn_id, messages=counted, first_position=held, now=now)
    ledger.seal_turn(c, turn_id)
    row, current = ledger.by_id(c, row.id), paths.whole_turn(c, turn_id)
    layout, call_id = plan_call(c, row, begun.turn, current, ask, now=now)
    return replace(begun, conversation=row, call_id=call_id, layout=layout)


def next_reply(c: sqlite3.Connection, reused: Reused) -> tuple[list[Message], Reused | None]:
    """The stored results of a reused reply's calls, and the reply that followed them in the same turn.

    Returns:
        Nothing where the turn ends with the calls.
    """
    seq, position = reused.cursor
    stored = paths.whole_turn(c, reused.turn.id).messages[position:] if position else ()
    results = [Message.from_dict(said.to_dict()) for said in stored if said.role == "tool"]
    at = next((n for n, said in enumerate(stored) if said.role == "assistant"), None)
    if at is None or at != sum(said.role == "tool" for said in stored[:at]):
        return [], None
    message = paths.load_message(c, reused.turn.id, position + at)
    assert message is not None
    more = len(stored) > at + 1
    (reason,) = c.execute("SELECT finish_reason FROM turn WHERE id = ?", (reused.turn.id,)).fetchone()
    cursor = (seq, position + at + 1) if more else (seq, 0)
    again = replace(
        reused,
        message=message,
        cursor=cursor,
        finish_reason="tool_calls" if more else reason,
        reply_id=reply_id(c, reused.turn.id, position + at),
    )
    return results[:at], again


def length(c: sqlite3.Connection, turn: TurnRow) -> int:
    """How many messages a turn has."""
    (held,) = c.execute("SELECT count(*) FROM message WHERE turn = ?", (turn.id,)).fetchone()
    return int(held)
