"""Past requests, rebuilt: the exact messages the model saw, each with the reason why it was there.

A plan (see `request.plan_call`) names what a request was made of. Turns are never
changed, so the same pure layout over the same rows gives the same bytes; the hash
says whether it did.
"""

from __future__ import annotations

import json
import operator
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voxnb.errors import ConversationError, StoreError
from voxnb.memory.past import REDACTED, UNDER_WAY
from voxnb.memory.plan import Layout, PastTurn, Said, Snapshot, assemble
from voxnb.memory.policy import NO_LIMITS
from voxnb.store import counts, journal, ledger, paths, pins
from voxnb.store.request import request_hash
from voxnb.store.rows import ConversationRow, TurnRow

if TYPE_CHECKING:
    from voxnb.store.planner import Measure

SPEAKS_FOR_ITSELF: Final = ("prompt", "previous_response_id", "conversation")
"""Parameters of a request that may come without a word."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A past request.

    Attributes:
        layout: its messages with reasons; tokens are counts of our encoding, with the overhead the estimate.
        parameters: the rest of the body.
        tools: tools and response format, or None.
        estimated_tokens: what the planner had estimated.
        exact: whether the hash is the one that was stored when it was sent.
        api: the interface it was sent over.
        redacted: whether it cannot be rebuilt because what it carried was redacted since.
    """

    layout: Layout
    parameters: Mapping[str, Any]
    tools: Any
    estimated_tokens: int | None
    exact: bool
    api: str = "chat"
    redacted: bool = False


def rebuild(
    c: sqlite3.Connection, call_id: int, *, measure_for: Callable[[str | None], Measure] | None = None
) -> Rebuilt:
    """Rebuild a request from its plan, counted as its model counts where ``measure_for`` says how.

    Raises:
        StoreError: the call has no plan.
    """
    row = c.execute(
        "SELECT k.conversation, k.turn, k.plan, k.estimated_prompt_tokens, t.branch, t.seq, k.model "
        "FROM call k JOIN turn t ON t.id = k.turn WHERE k.id = ?",
        (call_id,),
    ).fetchone()
    if row is None or row[2] is None:
        raise StoreError("this call has no plan: it was not a turn's request")
    conversation, turn_id, text, estimated, branch, seq, model = row
    plan = json.loads(text)
    snapshot = past_snapshot(c, conversation, branch, seq, turn_id, plan)
    if measure_for is not None:
        snapshot = counts.as_asked(c, snapshot, measure=measure_for(model))
    if "held_by" in plan:
        snapshot = snapshot.held(plan["held_by"], start=plan["start"])
    layout = assemble(
        snapshot,
        limits=NO_LIMITS,
        weigh=lambda tokens, _: tokens,
        summary_role=plan["role"],
        as_said=plan["v"] == 1,
    )
    parameters = json.loads(ledger.get_value(c, plan["parameters"]) or "{}")
    tools_text = ledger.get_value(c, plan["tools"])
    tools = None if tools_text is None else json.loads(tools_text)
    if estimated is not None:  # what tools and the server's own counting add to our counts of the messages
        overhead = operator.index(estimated) - layout.total_tokens  # a fraction is damage, to be told as such
        layout = replace(layout, tokens={**layout.tokens, "overhead": overhead})
    exact = request_hash(layout.messages, parameters, tools, version=plan["v"]) == plan["hash"]
    redacted = not exact and carried_redacted(snapshot, plan)
    return Rebuilt(layout, parameters, tools, estimated, exact, plan.get("api", "chat"), redacted)


def carried_redacted(snapshot: Snapshot, plan: Mapping[str, Any]) -> bool:
    """Whether a past request carried words that were redacted after it."""
    known = set(plan.get("redacted", ()))
    turns = [turn for turn in (*snapshot.pins, *snapshot.tail, snapshot.current) if turn is not None]
    return any(turn.state == "redacted" and turn.seq not in known for turn in turns) or (
        snapshot.summary is not None and snapshot.summary.text == REDACTED
    )


def past_snapshot(
    c: sqlite3.Connection, conversation: int, branch: int, seq: int, turn_id: int, plan: Mapping[str, Any]
) -> Snapshot:
    """The store as it was when a request was planned."""
    horizon, first, running = plan["horizon"], plan["first"], set(plan["running"])
    pinned, kept = pins.load_pins(
        c, conversation, branch, version=plan["pins"], folded_to=first - 1, horizon=horizon, given=plan.get("pinned")
    )
    tail = paths.turns_between(c, branch, first, seq - 1, horizon=horizon, pinned=pinned)
    return Snapshot(
        instructions=ledger.load_instructions(c, plan["instructions"]),
        summary=ledger.load_summary(c, plan["summary"]),
        pins=kept,
        tail=tuple(_as_it_was(c, turn, running=turn.seq in running, horizon=horizon) for turn in tail),
        current=paths.whole_turn(c, turn_id, first_messages=plan["upto"]),
        folded_to=first - 1,
    )


def _as_it_was(c: sqlite3.Connection, turn: PastTurn, *, running: bool, horizon: int) -> PastTurn:
    if running:
        return turn._replace(state="running")
    grown = c.execute("SELECT 1 FROM message WHERE turn = ? AND id > ? LIMIT 1", (turn.id, horizon)).fetchone()
    # It went on afterwards (a tool loop), so it had ended before.
    return turn._replace(state="complete") if grown or turn.state in UNDER_WAY else turn


class Asked(NamedTuple):
    """What a turn asked, to be asked again.

    Attributes:
        turn_id: row of the turn.
        messages: what it said and was not the model's last answer.
        body: of its newest request without the messages; empty where there was none.
        times: how often the same was asked before it at its place.
    """

    turn_id: int
    messages: list[dict[str, Any]]
    body: dict[str, Any]
    times: int = 0


def asked_last(c: sqlite3.Connection, row: ConversationRow) -> Asked:
    """The last turn of a conversation as it was asked.

    Raises:
        ConversationError: there is none, its words were redacted, or it is an answer to nothing.
    """
    last = paths.turn_at(c, row.branch, row.last_seq) if row.last_seq else None
    if last is None:
        raise ConversationError(f"{row.name!r} has no turn to ask again")
    return _asked(c, row, last)


def retried(c: sqlite3.Connection, row: ConversationRow, seq: int) -> Asked | None:
    """A turn that stands where the same was asked before, or None."""
    turn = paths.turn_at(c, row.branch, seq)
    if turn is None or turn.state != "complete":
        return None
    (times,) = c.execute(
        "SELECT count(*) FROM branch b JOIN turn t ON t.branch = b.id AND t.seq = :seq AND t.id < :turn "
        "JOIN message m ON m.turn = t.id AND m.position = 0 JOIN message n ON n.turn = :turn AND n.position = 0 "
        "WHERE b.conversation = :conversation AND m.role = n.role AND (m.hash = n.hash OR n.role = 'assistant')",
        {"seq": seq, "turn": turn.id, "conversation": row.id},
    ).fetchone()
    return _asked(c, row, turn)._replace(times=times) if times else None


def _asked(c: sqlite3.Connection, row: ConversationRow, last: TurnRow) -> Asked:
    journal.check_not_redacted(row, last)
    said = list(paths.whole_turn(c, last.id).messages)
    answers = []
    while said and said[-1].role == "assistant":
        answers.append(said.pop())
    body = _last_body(c, last.id)
    if not said and not _asks_without_words(body, answers):
        raise ConversationError(f"turn {last.seq} of {row.name!r} is an answer to nothing; there is nothing to ask")
    return Asked(last.id, [m.to_dict() for m in said], body)


def _asks_without_words(body: Mapping[str, Any], answers: Sequence[Said]) -> bool:
    """Whether the request itself was the question; what the service said alone stands in the turn then."""
    items = [item for answer in answers for item in answer.to_dict().get("items") or ()]
    refers = any(item.get("type") == "item_reference" for item in items)
    return any(body.get(name) for name in SPEAKS_FOR_ITSELF) and len(answers) <= 1 and not refers


def _last_body(c: sqlite3.Connection, turn_id: int) -> dict[str, Any]:
    """The body of a turn's newest request without its messages; empty where there was none."""
    row = c.execute(
        "SELECT plan FROM call WHERE turn = ? AND plan IS NOT NULL ORDER BY id DESC LIMIT 1", (turn_id,)
    ).fetchone()
    plan = {} if row is None else json.loads(row[0])
    kept = [ledger.get_value(c, plan.get(name)) for name in ("parameters", "tools")]
    return {k: v for text in kept if text is not None for k, v in json.loads(text).items()}


def last_call(c: sqlite3.Connection, turn_id: int) -> int | None:
    """The newest planned request of a turn."""
    row = c.execute(
        "SELECT id FROM call WHERE turn = ? AND plan IS NOT NULL ORDER BY id DESC LIMIT 1", (turn_id,)
    ).fetchone()
    return None if row is None else int(row[0])


class Shown(NamedTuple):
    """What a summary was made from.

    Attributes:
        turns: those that its model was newly shown.
        mark: the fence round them.
        requests: how many it took; long stretches are shown in pieces.
    """

    turns: list[PastTurn]
    mark: str
    requests: int


def shown(c: sqlite3.Connection, summary: int) -> Shown:
    """What the model of a summary was shown, by the summary's row."""
    covered = c.execute("SELECT turn FROM coverage WHERE summary = ? ORDER BY seq", (summary,)).fetchall()
    mark, conversation = c.execute("SELECT mark, conversation FROM summary WHERE id = ?", (summary,)).fetchone()
    hosts = c.execute(
        "SELECT base_url_host FROM call WHERE conversation = ? AND turn IS NULL AND summary = ?",
        (conversation, summary),
    ).fetchall()
    # The embedded model is asked without marks.
    return Shown([paths.whole_turn(c, turn) for (turn,) in covered], "" if ("local",) in hosts else mark, len(hosts))
