"""The pictures of a conversation: what its requests were made of, what its folds saved, where its time went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import ConversationError, ParameterError, StoreError, StoreFormatError
from voxnb.notebook.figure import Bars, Figure, Level, Part
from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart
from voxnb.store.conversation import Conversation
from voxnb.store.report import counted

if TYPE_CHECKING:
    import pandas as pd

COLOURS: Final = {
    "instructions": "#7b5ea7",
    "tools": "#9aa0a6",
    "pinned": "#c98a1b",
    "summary": "#17879b",
    "tail": "#5a9e5f",
    "current turn": "#3d72b8",
    "overhead": "#c8c8c8",
}
"""The widgets' colours, on white."""

STEPS: Final = (
    ("stopped", "the server notices the end", "#9aa0a6"),
    ("committed", "takes it as an item", "#7b5ea7"),
    ("created", "begins a response", "#c98a1b"),
    ("first_delta", "sends its first sound", "#17879b"),
    ("first_frame", "the first frame goes out", "#5a9e5f"),
    ("first_heard", "it sounds", "#3d72b8"),
)
"""Step of a spoken answer → what happens until then, and its colour."""

FAR: Final = 3.0
"""A limit more than so many times above the bars is told, not drawn."""


def plot_tokens(conversation: Conversation, *, last: int = 60) -> Figure:
    """See `Conversation.plot_tokens`."""
    import_apart("pandas")
    import pandas as pd

    _check(last)
    rows = []
    turns = conversation.turns(limit=last, columns=["seq"])["seq"]
    for seq in turns:
        try:
            rows.append({"turn": int(seq), **conversation.explain(int(seq)).tokens})
        except StoreFormatError:
            raise
        except (ConversationError, StoreError):  # it never came to a request
            continue
    parts = [name for name in COLOURS if any(row.get(name) for row in rows)]
    df = marked(pd.DataFrame(rows, columns=["turn", *parts]).fillna(0).astype("Int64"))
    totals = df[parts].sum(axis=1)
    df["total"] = totals.astype("Int64")
    most = int(totals.max()) if rows else 0
    # Only its client knows at which lengths it folds and ends.
    limits = conversation.plan().layout.limits if conversation.client is not None else None
    levels = [] if limits is None else [Level("folds at", limits.fold_at_tokens), Level("window", limits.window_tokens)]
    folds = conversation.summaries(columns=["round", "last_seq"])
    summary = "no request yet" + (f"; {counted(len(turns), 'turn')} stored without one" if len(turns) else "")
    if rows:
        summary = "; ".join([f"{counted(len(rows), 'request')} of up to {most:,} tokens", *(v.label for v in levels)])
        summary += f"; {counted(len(folds), 'fold')}" if len(folds) else ""
    bars = Bars(
        title=f"Context of {conversation.name!r} by turn",
        across="turn",
        up="tokens of the request",
        names=[str(turn) for turn in df["turn"]],
        parts=[Part(name, COLOURS[name], [max(0, int(n)) for n in df[name]]) for name in parts],
        levels=[level for level in levels if level.value <= FAR * max(most, 1)],
    )
    return Figure(bars, df=df, summary=summary)


def plot_folds(conversation: Conversation) -> Figure:
    """See `Conversation.plot_folds`."""
    wanted = [
        "round",
        "first_seq",
        "last_seq",
        "turn_count",
        "tokens_before",
        "tokens_after",
        "state",
        "model",
        "reason",
    ]
    df = conversation.summaries(columns=wanted)
    after = [_number(n) for n in df["tokens_after"]]
    saved = [max(0.0, _number(b) - a) for b, a in zip(df["tokens_before"], after, strict=True)]
    covered = sum(_number(n) for n in df["turn_count"])
    summary = "no fold yet"
    if len(df):
        summary = f"{counted(len(df), 'fold')} of {covered:,.0f} turns saved {sum(saved):,.0f} tokens"
    bars = Bars(
        title=f"Folds of {conversation.name!r}",
        across="fold (turns)",
        up="tokens to send",
        names=[f"{r} ({a}–{b})" for r, a, b in zip(df["round"], df["first_seq"], df["last_seq"], strict=True)],
        parts=[Part("kept after it", COLOURS["summary"], after), Part("saved", "#d9a3a0", saved)],
    )
    return Figure(bars, df=df, summary=summary)


def plot_latency(conversation: Conversation, *, last: int = 60) -> Figure:
    """See `Conversation.plot_latency`."""
    _check(last)
    waterfall = getattr(conversation.client, "waterfall", None)
    if waterfall is not None:
        spoken = waterfall().tail(last)
        if len(spoken):
            return _spoken(conversation, spoken)
    df = conversation.turns(limit=last, columns=["seq", "state", "first_token_ms", "duration_ms"]).rename(
        columns={"seq": "turn"}
    )
    df = df[df["duration_ms"].notna()].reset_index(drop=True)
    whole = [_number(n) for n in df["duration_ms"]]
    first = [min(_number(n), w) for n, w in zip(df["first_token_ms"], whole, strict=True)]
    summary = "no reply yet"
    if len(df):
        known = df["first_token_ms"].dropna()
        wait = f"first token after {known.median():,.0f} ms (median), " if len(known) else ""
        summary = f"{wait}whole reply after {df['duration_ms'].median():,.0f} ms, {len(df)} turns"
    bars = Bars(
        title=f"Latency of {conversation.name!r} by turn",
        across="turn",
        up="milliseconds",
        names=[str(turn) for turn in df["turn"]],
        parts=[
            Part("until the first token", COLOURS["pinned"], first),
            Part("until the end", COLOURS["current turn"], [w - f for w, f in zip(whole, first, strict=True)]),
        ],
    )
    return Figure(bars, df=df, summary=summary)


def _spoken(conversation: Conversation, falls: pd.DataFrame) -> Figure:
    """From the end of the user's speech to the first sound, step by step."""
    reached = [0.0] * len(falls)
    parts = []
    for step, name, colour in STEPS:
        column = [_number(n) for n in falls[f"{step}_ms"]]
        until = [max(r, c) for r, c in zip(reached, column, strict=True)]
        parts.append(Part(name, colour, [u - r for u, r in zip(until, reached, strict=True)]))
        reached = until
    df = falls.reset_index(drop=True)
    df.insert(0, "answer", range(1, len(df) + 1))
    heard = df["first_heard_ms"].dropna()
    known, what = (heard, "heard") if len(heard) else (df["first_delta_ms"].dropna(), "sent")
    summary = counted(len(df), "spoken answer")
    if len(known):
        summary += f", first sound {what} after {known.median():,.0f} ms (median), {known.quantile(0.95):,.0f} ms (p95)"
    bars = Bars(
        title=f"Latency of {conversation.name!r} by answer",
        across="answer",
        up="milliseconds after the user's last word",
        names=[str(n) for n in df["answer"]],
        parts=[part for part in parts if any(part.heights)],
    )
    return Figure(bars, df=df, summary=summary)


def _number(value: Any) -> float:
    """A cell as a number; 0 where nothing is known."""
    import pandas as pd

    return 0.0 if pd.isna(value) else float(value)


def _check(last: int) -> None:
    if isinstance(last, bool) or not isinstance(last, int) or last < 1:
        raise ParameterError(f"last is {last!r}, expected how many turns, at least 1", name="last")
