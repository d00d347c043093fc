"""Turns of a path, page by page, as views show them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from voxnb.store import paths, pins
from voxnb.store.rows import ConversationRow


class ShownTurn(NamedTuple):
    """One turn.

    Attributes:
        id: public id.
        seq: its number.
        state: ``queued running complete partial failed``, or ``redacted``.
        messages: the API's dicts, in order.
        pinned: whether it stays verbatim.
        summary_round: of the summary that first covered it; None where none does.
        tokens: of its messages, by our count.
        model: that was asked, or None.
        error: what went wrong, or None.
        cost_usd: None where unknown.
        created_at: Unix time, seconds.
        duration_ms: None while it runs, and where it was not asked here.
    """

    id: str
    seq: int
    state: str
    messages: tuple[Mapping[str, Any], ...]
    pinned: bool
    summary_round: int | None
    tokens: int
    model: str | None
    error: str | None
    cost_usd: float | None
    created_at: float
    duration_ms: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some turns, and how many there are.

    Attributes:
        turns: oldest first.
        turn_count: of the whole path.
        folded_to: last turn that is covered by the summary that is sent; 0 for none.
        rounds: summaries behind it.
    """

    turns: tuple[ShownTurn, ...]
    turn_count: int
    folded_to: int
    rounds: int


EMPTY: Final = Page((), 0, 0, 0)


def page(c: sqlite3.Connection, row: ConversationRow, *, before: int | None, limit: int) -> Page:
    """A page of a conversation; see `Conversation.page`."""
    high = row.last_seq if before is None else min(row.last_seq, before - 1)
    low = max(1, high - max(1, limit) + 1)
    pinned, _ = pins.load_pins(c, row.id, row.branch, version=row.pin_version, folded_to=row.folded_to)
    found = paths.turns_between(c, row.branch, low, high, pinned=pinned)
    facts = {
        key: rest
        for key, *rest in c.execute(
            f"SELECT t.id, t.tokens, t.model, t.error, t.cost_usd, t.created_at, t.duration_ms {paths.PATH}",
            {"branch": row.branch, "low": low, "high": high},
        )
    }
    chain = summaries_of(c, row.head)
    shown = []
    for turn in found:
        tokens, model, error, cost_usd, created_at, duration_ms = facts[turn.id]
        covered = next((number for number, last in chain if turn.seq <= last), None)
        messages = tuple(said.to_dict() for said in turn.messages)
        shown.append(
            ShownTurn(
                turn.uid,
                turn.seq,
                turn.state,
                messages,
                turn.pinned,
                covered,
                tokens,
                model,
                error,
                cost_usd,
                created_at,
                duration_ms,
            )
        )
    return Page(tuple(shown), row.last_seq, row.folded_to, len(chain))


def summaries_of(c: sqlite3.Connection, head: int | None) -> list[tuple[int, int]]:
    """(round, last turn) of the summaries behind a head, oldest first."""
    rows = c.execute(
        "WITH RECURSIVE chain(id, previous, round, last_seq) AS ("
        "SELECT id, previous, round, last_seq FROM summary WHERE id = ? UNION ALL "
        "SELECT s.id, s.previous, s.round, s.last_seq FROM chain JOIN summary s ON s.id = chain.previous) "
        "SELECT round, last_seq FROM chain ORDER BY round",
        (head,),
    )
    return [(int(number), int(last)) for number, last in rows]
