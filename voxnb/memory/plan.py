"""What is sent: pins, one summary, every turn it does not cover, and the current turn.

Pure decisions over plain values: `assemble` lays a request out, `choose_fold` says
which turns should become a summary. Whoever calls loads the values and does what
was decided.

Rule 1: a turn is whole or absent. An assistant's tool calls are sent with all their
results directly behind them, or not at all.
Rule 2: an earlier turn is sent verbatim, covered by the summary that is sent, or a `Drop` with its reason.
Rule 3: the same values give the same request, byte for byte: that is what explain() rebuilds.
Rule 4: the current turn is never folded, cut or dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from voxnb.memory.past import (
    ANSWERED,
    CUT_OFF,
    FENCE_TOKENS,
    SDK_KEYS,
    UNDER_WAY,
    Counts,
    Drop,
    PastSummary,
    PastTurn,
    Said,
    Weigh,
    fence,
    fenced,
    in_pairs,
    is_plain,
    open_tool_calls,
    render,
)
from voxnb.memory.policy import Limits

__all__ = [
    "CUT_OFF",
    "UNDER_WAY",
    "Counts",
    "Drop",
    "Fold",
    "Item",
    "Layout",
    "PastSummary",
    "PastTurn",
    "Said",
    "Snapshot",
    "Weigh",
    "as_fold",
    "assemble",
    "choose_fold",
    "choose_forced_fold",
    "fence",
    "fenced",
    "foldable",
    "older_than_last",
    "open_tool_calls",
    "reducible_tokens",
    "render",
    "turn_weight",
]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store knows at one moment.

    Attributes:
        instructions: leading system and developer messages.
        summary: the newest summary, or None.
        pins: what is kept verbatim of folded turns: whole pinned turns, or turns with only the pinned messages.
        tail: turns after the folded ones and before `current`, every state, in order.
        current: the turn that asks, or None between turns.
        folded_to: last seq that is folded.
        held_by: by what the server was told where it finds everything before `current`; None where we send it.
    """

    instructions: tuple[Said, ...]
    summary: PastSummary | None
    pins: tuple[PastTurn, ...]
    tail: tuple[PastTurn, ...]
    current: PastTurn | None
    folded_to: int
    held_by: str | None = None

    def held(self, by: str, *, start: int) -> Snapshot:
        """The same where the server has the history: only the current turn from one of its messages on is sent."""
        current = self.current and self.current._replace(messages=self.current.messages[start:])
        return replace(self, summary=None, pins=(), tail=(), current=current, held_by=by)


class Item(NamedTuple):
    """One message of a request, and why it is there."""

    kind: str  # instructions, pinned, summary, verbatim, current
    seq: int | None
    message: dict[str, Any]
    tokens: int
    why: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A request laid out: its messages with reasons, what was left out, and what each part weighs.

    Attributes:
        items: the messages, in order.
        drops: what of the past is not sent.
        tokens: per part, as the server will count them.
        limits: of the window it was laid out for.
        counted: per item, what is stored: our own counts.
        tools_tokens: of tools and response format, our own count.
        prefix: stays the same as long as later requests only grow at their end.
    """

    items: tuple[Item, ...]
    drops: tuple[Drop, ...]
    tokens: Mapping[str, int]
    limits: Limits
    counted: tuple[Counts, ...] = ()
    tools_tokens: int = 0
    prefix: str = ""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, ready to send."""
        return [item.message for item in self.items]

    @property
    def leading(self) -> int:
        """How many of the messages are the conversation's instructions; they come first."""
        return sum(item.kind == "instructions" for item in self.items)

    @property
    def total_tokens(self) -> int:
        """The whole request as the server will count it, without the reply."""
        return sum(self.tokens.values())

    @property
    def fits(self) -> bool:
        """Whether request and reserve stay within the window."""
        return self.total_tokens <= self.limits.hard_tokens

    @property
    def least_tokens(self) -> int:
        """What is left when everything that can be folded is."""
        return self.total_tokens - self.tokens["summary"] - self.tokens["tail"]


def assemble(
    snapshot: Snapshot,
    *,
    limits: Limits,
    weigh: Weigh,
    fixed_tokens: int = 0,
    tools_tokens: int = 0,
    own_tools_tokens: int = 0,
    summary_role: str = "system",
    cut_off: Counts = (0, None),
    prefix: str = "",
    as_said: bool = False,
) -> Layout:
    """Lay the next request out.

    Args:
        snapshot: the store's state.
        limits: the policy's numbers for this window.
        weigh: turns stored counts into the server's tokens.
        fixed_tokens: what every request costs beside its messages (the reply's primer).
        tools_tokens: tool schemas and response format, as the server counts.
        own_tools_tokens: the same in our encoding.
        summary_role: role of the summary's message.
        cut_off: counts of `CUT_OFF`.
        prefix: goes into the layout, see there.
        as_said: see `render`.

    Returns:
        The layout; the caller looks at ``fits``.
    """
    items: list[Item] = []
    counted: list[Counts] = []
    drops: list[Drop] = []
    tokens = {"instructions": 0, "tools": tools_tokens, "pinned": 0, "summary": 0, "tail": 0, "current turn": 0}
    tokens["overhead"] = fixed_tokens

    def put(kind: str, part: str, seq: int | None, message: dict[str, Any], counts: Counts, why: str) -> None:
        weight = weigh(*counts)
        items.append(Item(kind, seq, message, weight, why))
        counted.append(counts)
        tokens[part] += weight

    def counts_of(message: Mapping[str, Any], said: Said) -> Counts:
        more = cut_off[0] if message.get("content") == said.text + CUT_OFF else 0
        return said.tokens + more, said.features

    for said in snapshot.instructions:
        put("instructions", "instructions", None, said.to_dict(), (said.tokens, said.features), "instructions")
    for turn in snapshot.pins:
        whole, dropped = render(turn, as_said=as_said)
        drops.extend(dropped)
        why = "pinned turn" if turn.pinned else "said to the model in between, kept verbatim"
        for message, said in whole:
            put("pinned", "pinned", turn.seq, message, counts_of(message, said), why)
    if snapshot.summary is not None:
        s = snapshot.summary
        message = {"role": summary_role, "content": fenced(s)}
        put("summary", "summary", None, message, (s.tokens, s.features), f"covers turns 1-{s.last_seq}")
    for turn in snapshot.tail:
        part, why = ("pinned", "pinned turn") if turn.pinned else ("tail", "not covered yet")
        if is_plain(turn):  # as `render` shows it, at a third of the cost: most of a request are such turns
            for _, role, text, _, count, features in turn.messages:
                put("verbatim", part, turn.seq, {"role": role, "content": text}, (count, features), why)
            continue
        shown, dropped = render(turn, as_said=as_said)
        drops.extend(dropped)
        for message, said in shown:
            put("verbatim", part, turn.seq, message, counts_of(message, said), why)
    if snapshot.held_by is not None and snapshot.current is not None and snapshot.current.seq > 1:
        drops.append(
            Drop(snapshot.current.seq - 1, f"this turn and all before it: the server has them ({snapshot.held_by})")
        )
    if snapshot.current is not None:
        for said in in_pairs(snapshot.current.messages, as_said=as_said):
            message = {k: v for k, v in said.to_dict().items() if k not in SDK_KEYS}
            put("current", "current turn", snapshot.current.seq, message, (said.tokens, said.features), "this turn")
    return Layout(tuple(items), tuple(drops), tokens, limits, tuple(counted), own_tools_tokens, prefix)


# -- folding ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fold:
    """Turns that should become part of the summary.

    Attributes:
        turns: what the summary model is shown, in order (complete and partial turns).
        last_seq: everything up to here is folded afterwards.
        reason: why now.
        tokens_before: summary and tail as they are.
        folded_tokens: what of it the new summary replaces, the previous summary included.
    """

    turns: tuple[PastTurn, ...]
    last_seq: int
    reason: str
    tokens_before: int
    folded_tokens: int


def turn_weight(turn: PastTurn, weigh: Weigh) -> int:
    """What a turn of the tail costs in a request."""
    shown = turn.messages if is_plain(turn) else [said for _, said in render(turn)[0]]
    return sum([weigh(said.tokens, said.features) for said in shown])


def reducible_tokens(snapshot: Snapshot, weigh: Weigh) -> int:
    """Summary and tail: the only part that folding can shrink."""
    summary = snapshot.summary
    return (weigh(summary.tokens, summary.features) if summary else 0) + sum(
        turn_weight(turn, weigh) for turn in snapshot.tail if not turn.pinned
    )


def foldable(snapshot: Snapshot) -> list[PastTurn]:
    """The unbroken stretch of ended turns after the folded ones.

    A turn that still runs ends it, and so does the newest one while its tool calls wait for results.
    """
    out = []
    for turn in snapshot.tail:
        if turn.state in UNDER_WAY:
            break
        out.append(turn)
    if snapshot.current is None and out and len(out) == len(snapshot.tail) and open_tool_calls(out[-1].messages):
        out.pop()
    return out


def choose_fold(snapshot: Snapshot, *, limits: Limits, weigh: Weigh) -> Fold | None:
    """Whether the oldest turns should be folded now, and which.

    Both thresholds and the least gain are looked at; see `ContextPolicy`.
    """
    before = reducible_tokens(snapshot, weigh)
    ended = sum(turn.state in ANSWERED for turn in snapshot.tail)
    if before > limits.fold_at_tokens:
        reason = f"{before:,} tokens, folds at {limits.fold_at_tokens:,}"
    elif limits.fold_at_turns is not None and ended > limits.fold_at_turns:
        reason = f"{ended} turns, folds at {limits.fold_at_turns}"
    else:
        return None
    candidates = older_than_last(foldable(snapshot), limits.keep_last_turns)
    weights = [0 if turn.pinned else turn_weight(turn, weigh) for turn in candidates]
    old = weigh(snapshot.summary.tokens, snapshot.summary.features) if snapshot.summary else 0
    if sum(weights) + old - limits.summary_max_tokens < limits.min_gain_tokens:
        return None
    taken, answered, saved = 0, 0, old - limits.summary_max_tokens
    by_turns = before <= limits.fold_at_tokens
    for turn, weight in zip(candidates, weights, strict=True):
        enough = before - saved <= limits.fold_to_tokens and saved >= limits.min_gain_tokens
        if answered and enough and not by_turns:
            break
        taken += 1
        answered += turn.state in ANSWERED
        saved += weight
    return as_fold(candidates[:taken], snapshot=snapshot, weigh=weigh, reason=reason)


def choose_forced_fold(snapshot: Snapshot, *, limits: Limits, weigh: Weigh, layout: Layout) -> Fold | None:
    """What must be folded so that `layout`, which does not fit, will: `keep_last_turns` gives way.

    Returns:
        The smallest prefix that makes room, or all that can be folded if none does; None if nothing can be.
    """
    candidates = foldable(snapshot)
    if not candidates:
        return None
    summary_tokens = weigh(limits.summary_max_tokens + FENCE_TOKENS, None)
    target = layout.total_tokens - layout.tokens["summary"] + summary_tokens - limits.hard_tokens
    taken, answered, saved = 0, 0, 0
    for turn in candidates:
        if answered and saved >= target:
            break
        taken += 1
        answered += turn.state in ANSWERED
        saved += 0 if turn.pinned else turn_weight(turn, weigh)
    reason = f"the request has {layout.total_tokens:,} tokens, room for {limits.hard_tokens:,}"
    return as_fold(candidates[:taken], snapshot=snapshot, weigh=weigh, reason=reason)


def older_than_last(turns: Sequence[PastTurn], keep_last_turns: int) -> list[PastTurn]:
    """The turns before the newest `keep_last_turns` that were answered."""
    if keep_last_turns <= 0:
        return list(turns)
    kept = 0
    for n in range(len(turns) - 1, -1, -1):
        kept += turns[n].state in ANSWERED
        if kept == keep_last_turns:
            return list(turns[:n])
    return []


def as_fold(turns: Iterable[PastTurn], *, snapshot: Snapshot, weigh: Weigh, reason: str) -> Fold | None:
    """A fold of these turns; failed ones are passed over and never shown. None if nothing was said."""
    turns = list(turns)
    shown = tuple(turn for turn in turns if turn.state in ANSWERED)
    if not shown:
        return None
    old = snapshot.summary
    return Fold(
        turns=shown,
        last_seq=turns[-1].seq,
        reason=reason,
        tokens_before=reducible_tokens(snapshot, weigh),
        folded_tokens=sum(0 if turn.pinned else turn_weight(turn, weigh) for turn in shown)
        + (weigh(old.tokens, old.features) if old else 0),
    )
