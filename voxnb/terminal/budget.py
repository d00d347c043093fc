"""What a request holds and what it costs, as lines: the bar of its budget, its items, a fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from voxnb.store.views import Plan, Summary
from voxnb.terminal.screen import Screen, Span

BAR_CHARS: Final = 40
PARTS: Final = (("instructions", "I", "35"), ("tools", "T", "35"), ("pinned", "P", "33"), ("summary", "S", "36"),
                ("tail", "=", "32"), ("current turn", ">", "34"))  # fmt: skip
"""Part of a request, its letter in the bar, its colour on a terminal."""


def token_bar(
    screen: Screen, tokens: Mapping[str, int], *, total_tokens: int, window_tokens: int, reserve_tokens: int
) -> list[Span]:
    """The budget of a request: what each part takes of the window, what is reserved for the reply, what is free.

    Args:
        screen: where it will be shown; on a terminal without room the bar gets shorter.
        tokens: per part.
        total_tokens: their sum.
        window_tokens: the hard limit of the whole request, reply included.
        reserve_tokens: kept free for the reply.
    """
    shares = [(name, mark, colour, tokens.get(name, 0)) for name, mark, colour in PARTS]
    shares.append(("reserved", "r", "31", reserve_tokens))
    chars = max(8, min(BAR_CHARS, screen.columns - 8))
    spans: list[Span] = ["    ["]
    used = 0
    for _, mark, colour, count in shares:
        cells = max(1, round(chars * count / max(1, window_tokens))) if count else 0
        cells = min(cells, chars - used)
        used += cells
        spans.append(((" " if screen.colours and mark == "=" else mark) * cells, f"7;{colour}"))
    named = " · ".join(f"{name} {count:,}" for name, _, _, count in shares if count)
    spans.append(f"{'.' * (chars - used)}] {total_tokens:,} of {window_tokens:,}: {named}")
    return spans


def show_plan(screen: Screen, plan: Plan) -> None:
    """A request as its bar and a table with one row per item, and what was left out."""
    if plan.exact is None:
        limits = plan.layout.limits
        screen.line(
            *token_bar(
                screen,
                plan.tokens,
                total_tokens=plan.total_tokens,
                window_tokens=limits.window_tokens,
                reserve_tokens=limits.reserve_output_tokens,
            )
        )
    else:  # of a request that was sent long ago nobody knows the window any more
        named = " · ".join(f"{name} {count:,}" for name, count in plan.tokens.items() if count)
        screen.line(f"{plan.total_tokens:,} tokens: {named}")
    frame = plan.df
    rows = []
    for row in frame.itertuples(index=False):
        cells = (row.item, row.kind, row.turn, row.role, row.tokens, row.why, row.content)
        rows.append([_cell(cell) for cell in cells])
    heads = ("item", "kind", "turn", "role", "tokens", "why", "content")
    screen.table(heads, rows, right=("item", "turn", "tokens"), flexible=("why", "content"))


def _cell(value: Any) -> str:
    import pandas as pd

    return "" if pd.isna(value) else str(value)


def turns_named(first: int, last: int) -> str:
    """Turns in words.

    >>> turns_named(1, 7), turns_named(3, 3)
    ('turns 1-7', 'turn 3')
    """
    return f"turn {first}" if first == last else f"turns {first}-{last}"


def fold_line(facts: Mapping[str, Any]) -> str:
    """A fold in one line, from a `SummaryFolded` event or `folded`."""
    doubts = [str(doubt) for doubt in (facts["quality"], *facts["flags"]) if doubt != "full"]
    seconds = f", {facts['duration_ms'] / 1000:.1f} s" if facts["duration_ms"] is not None else ""
    return (
        f"fold {facts['round']}: {turns_named(facts['first_seq'], facts['last_seq'])}, {facts['tokens_before']:,} → "
        f"{facts['tokens_after']:,} tokens{seconds}, by {facts['model']}"
        + (f" ({', '.join(doubts)})" if doubts else "")
    )


def folded(summary: Summary) -> dict[str, Any]:
    """What `fold_line` wants, of a stored summary."""
    names = (
        "round",
        "first_seq",
        "last_seq",
        "tokens_before",
        "tokens_after",
        "model",
        "quality",
        "flags",
        "duration_ms",
    )
    return {name: getattr(summary, name) for name in names}
