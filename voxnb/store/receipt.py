"""What a turn took (tokens, money, time, folds) and what is left for the next one."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from voxnb.memory.policy import NO_LIMITS
from voxnb.store.rows import ConversationRow
from voxnb.usage import Usage

if TYPE_CHECKING:
    from voxnb.store.views import Plan

SUMS: Final = (
    "count(*), count(prompt_tokens), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), "
    "count(cost_usd), sum(cost_usd)"
)


class Folded(NamedTuple):
    """A fold that came before a turn."""

    round: int
    first_seq: int
    last_seq: int
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a turn took, as the server reported it; never an estimate.

    Attributes:
        prompt_tokens: sent, of all its requests; None where the server did not tell.
        completion_tokens: written; likewise.
        cached_tokens: of those sent, read from the service's cache; likewise.
        cost_usd: None where a price is not known.
        first_token_ms: until the first text; None where none came.
        duration_ms: until the end.
        folds: summaries that were made between the turn before and the end of this one.
        next_tokens: what the next request has before anything new is said; None without a plan.
        reducible_tokens: of it, summary and unfolded turns: what a fold can shrink.
        fold_at_tokens: folds when `reducible_tokens` exceed this.
        window_tokens: hard limit of a whole request, reply included.
        left_tokens: room that the next request has for what is said next.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    first_token_ms: float | None = None
    duration_ms: float | None = None
    folds: tuple[Folded, ...] = ()
    next_tokens: int | None = None
    reducible_tokens: int | None = None
    fold_at_tokens: int | None = None
    window_tokens: int | None = None
    left_tokens: int | None = None


def of_usage(usage: Usage, cost_usd: float | None) -> Receipt:
    """The receipt of a reply that is not stored."""
    return Receipt(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cost_usd=cost_usd,
    )


def of_turn(c: sqlite3.Connection, row: ConversationRow, *, seq: int, turn_id: int, plan: Plan) -> Receipt:
    """The receipt of a stored turn.

    Args:
        c: connection.
        row: its conversation.
        seq: its number.
        turn_id: its row.
        plan: of the next request.
    """
    calls, told, prompt, completion, cached, priced, cost = c.execute(
        f"SELECT {SUMS} FROM call WHERE turn = ? AND purpose = 'turn' AND status IS NOT 'failed'", (turn_id,)
    ).fetchone()
    first_token_ms, duration_ms = c.execute(
        "SELECT first_token_ms, duration_ms FROM turn WHERE id = ?", (turn_id,)
    ).fetchone()
    limits = plan.layout.limits
    known = limits is not NO_LIMITS
    tokens = plan.tokens
    return Receipt(
        prompt_tokens=prompt if told == calls else None,
        completion_tokens=completion if told == calls else None,
        cached_tokens=cached,
        cost_usd=cost if calls and priced == calls else None,
        first_token_ms=first_token_ms,
        duration_ms=duration_ms,
        folds=_folds(c, row, seq),
        next_tokens=plan.total_tokens,
        reducible_tokens=tokens["summary"] + tokens["tail"],
        fold_at_tokens=limits.fold_at_tokens if known else None,
        window_tokens=limits.window_tokens if known else None,
        left_tokens=max(0, limits.hard_tokens - plan.total_tokens) if known else None,
    )


def _folds(c: sqlite3.Connection, row: ConversationRow, seq: int) -> tuple[Folded, ...]:
    ends = {
        number: created_at + (duration_ms or 0.0) / 1000
        for number, created_at, duration_ms in c.execute(
            "SELECT t.seq, t.created_at, t.duration_ms FROM lineage l JOIN turn t ON t.branch = l.source "
            "AND t.seq BETWEEN max(l.first_seq, :low) AND min(l.last_seq, :high) "
            "WHERE l.branch = :branch AND l.first_seq <= :high",
            {"branch": row.branch, "low": seq - 1, "high": seq},
        )
    }
    found = c.execute(
        "SELECT round, first_seq, last_seq, tokens_before, tokens_after FROM summary "
        "WHERE conversation = ? AND last_seq < ? AND created_at > ? AND created_at <= ? AND kind IS NULL ORDER BY id",
        (row.id, seq, ends.get(seq - 1, 0.0), ends.get(seq, 0.0)),
    )
    return tuple(Folded(*one) for one in found)
