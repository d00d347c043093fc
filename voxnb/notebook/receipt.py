"""A receipt in words: what a turn took, what is left, what was folded before it."""

from __future__ import annotations

import html

from voxnb.store.receipt import Receipt
from voxnb.usage import money


def receipt_html(receipt: Receipt) -> str:
    """A receipt as one small line, and another where something was folded."""
    return "".join(f"<p><small>{html.escape(line)}</small></p>" for line in receipt_lines(receipt))


def receipt_lines(receipt: Receipt) -> list[str]:
    """A receipt in words; what is not known is called unknown.

    >>> receipt_lines(Receipt(prompt_tokens=1200, completion_tokens=38, duration_ms=1240.0))
    ['1,200 tokens in, 38 out · cost unknown · 1.2 s']
    >>> receipt_lines(Receipt())
    ['tokens unknown · cost unknown']
    """
    told = receipt.prompt_tokens is not None or receipt.completion_tokens is not None
    facts = [_tokens(receipt) if told else "tokens unknown"]
    facts.append(f"cost {money(receipt.cost_usd)}")
    if receipt.duration_ms is not None:
        first = receipt.first_token_ms
        begun = f" (first text after {first / 1000:.1f} s)" if first is not None else ""
        facts.append(f"{receipt.duration_ms / 1000:.1f} s{begun}")
    if receipt.left_tokens is not None:
        facts.append(budget_line(receipt))
    folds = [
        f"folded before this turn: {turns_named(fold.first_seq, fold.last_seq)} into summary {fold.round}, "
        f"{fold.tokens_before:,} → {fold.tokens_after:,} tokens"
        for fold in receipt.folds
    ]
    return [" · ".join(facts), *folds]


def _tokens(receipt: Receipt) -> str:
    cached = f" ({receipt.cached_tokens:,} cached)" if receipt.cached_tokens else ""
    return f"{_count(receipt.prompt_tokens)} tokens in{cached}, {_count(receipt.completion_tokens)} out"


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def budget_line(receipt: Receipt) -> str:
    """What is left for the next request, and when it folds."""
    left = f"{receipt.left_tokens:,} of {receipt.window_tokens:,} tokens left for the next turn"
    if receipt.fold_at_tokens is None or receipt.reducible_tokens is None:
        return left
    until = receipt.fold_at_tokens - receipt.reducible_tokens
    return f"{left}, {f'{until:,} until it folds' if until > 0 else 'due to fold'}"


def turns_named(first: int, last: int) -> str:
    """Turns in words.

    >>> turns_named(1, 7), turns_named(3, 3)
    ('turns 1 to 7', 'turn 3')
    """
    return f"turn {first}" if first == last else f"turns {first} to {last}"
