"""The plan of a request: what it was made of, in constant size, and the hash by which it is known again.

`explain` rebuilds the request from it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import TurnError
from voxnb.memory.plan import Layout, PastTurn
from voxnb.memory.policy import NO_LIMITS
from voxnb.messages import canonical, digest
from voxnb.store import ledger, paths
from voxnb.store.ending import load_counted
from voxnb.store.ids import new_id
from voxnb.store.lately import KnowingConnection
from voxnb.store.owner import LEASE_S
from voxnb.store.rows import ConversationRow, TurnRow, dump

if TYPE_CHECKING:
    from voxnb.store.journal import Ask

NOT_YET: Final = Layout((), (), {}, NO_LIMITS)
"""The layout of a turn that is stored and not planned yet."""

PLAN_VERSION: Final = 3
"""Of how plans become requests. 1: messages stand as they were said. 2: results stand behind their calls. 3: the hash is
one of the messages' hashes: of the next request most are known."""


def plan_call(
    c: sqlite3.Connection, row: ConversationRow, turn: TurnRow, current: PastTurn, ask: Ask, *, now: float
) -> tuple[Layout, int | None]:
    """Lay the request out; if it fits, write the call with its plan.

    Returns:
        The layout, and the call's row (None where it does not fit).
    """
    if ask.lay_out is None:
        return NOT_YET, None
    snapshot, start = load_counted(c, row, measure=ask.measure, current=current), 0
    if ask.held_by is not None:
        start = first_new(c, turn.id, current)
        snapshot = snapshot.held(ask.held_by, start=start)
    layout = ask.lay_out(snapshot)
    if not layout.fits:
        return layout, None
    tools = None if ask.tools is None else canonical(ask.tools)
    parameters = canonical(dict(ask.parameters))
    plan = {
        "v": PLAN_VERSION,
        "instructions": row.instructions,
        "summary": row.head,
        "first": row.folded_to + 1,
        "running": [drop.seq for drop in layout.drops if drop.reason.startswith("still running")],
        "pins": row.pin_version,
        "tools": None if tools is None else ledger.put_value(c, tools),
        "parameters": ledger.put_value(c, parameters),
        "upto": len(current.messages),
        "horizon": paths.horizon(c),
        "role": next((i.message["role"] for i in layout.items if i.kind == "summary"), "system"),
        "hash": _hash(_line_hashes(c, layout.messages), parameters, tools),
    }
    if redacted := [drop.seq for drop in layout.drops if drop.reason == "redacted"]:
        plan["redacted"] = redacted
    if ask.api != "chat":
        plan["api"] = ask.api
    if ask.held_by is not None:
        plan |= {"held_by": ask.held_by, "start": start}
    cursor = c.execute(
        "INSERT INTO call (uid, conversation, turn, purpose, model, base_url_host, estimated_prompt_tokens, status, plan, "
        "created_at) VALUES (?, ?, ?, 'turn', ?, ?, ?, 'running', ?, ?)",
        (new_id("c"), row.id, turn.id, ask.model, ask.host, layout.total_tokens, dump(plan), now),
    )
    if turn.state != "running":
        c.execute(
            "UPDATE turn SET state = 'running', owner = ?, lease_until = ? WHERE id = ?",
            (ask.owner, now + LEASE_S, turn.id),
        )
    return layout, int(cursor.lastrowid or 0)


def check_on_path(c: sqlite3.Connection, row: ConversationRow, turn: TurnRow) -> None:
    """Raise a TurnError where a turn was taken back before it was asked: what the conversation holds now is not its past."""
    here = paths.turn_at(c, row.branch, turn.seq)
    if here is None or here.id != turn.id:
        raise TurnError(
            f"turn {turn.seq} of {row.name!r} was taken back (by undo(), or by a request that went on before it) while it "
            "waited; what was said is stored, ask again"
        )


def first_new(c: sqlite3.Connection, turn_id: int, current: PastTurn) -> int:
    """Where in a turn the messages begin that no request of it has sent and no reply has brought."""
    plans = c.execute("SELECT plan FROM call WHERE turn = ? AND plan IS NOT NULL", (turn_id,)).fetchall()
    sent = [upto for (text,) in plans if (upto := json.loads(text)["upto"]) < len(current.messages)]
    start = max(sent, default=0)
    while sent and start < len(current.messages) - 1 and current.messages[start].role == "assistant":
        start += 1
    return start


def request_hash(
    messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], tools: Any, *, version: int = PLAN_VERSION
) -> str:
    """The hash by which a rebuilt request is known to be the one that was sent, as plans of a version have it."""
    lines = _line_hashes(None, messages) if version >= 3 else map(_line, messages)
    return _hash(lines, canonical(dict(parameters)), None if tools is None else canonical(tools))


def _hash(lines: Iterable[str], parameters: str, tools: str | None) -> str:
    return digest(f"[{parameters},{tools or 'null'}]", *lines)


def _line_hashes(c: sqlite3.Connection | None, messages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The hashes of a request's messages; the writer's connection knows those of earlier ones."""
    known = c if isinstance(c, KnowingConnection) else None
    for message in messages:
        content = message.get("content")
        if known is None or not isinstance(content, str) or len(message) > 2:
            yield digest(_line(message))
            continue
        key = message["role"], content
        found = known.line_hashes.get(key)
        if found is None:
            known.learn_line(key, found := digest(_line(message)))
        yield found


def _line(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    # Most messages are a role and a text: with the text's length before it, no other list reads the same.
    if isinstance(content, str) and len(message) == 2:
        return f"{message['role']} {len(content)} {content}"
    return canonical(message)
