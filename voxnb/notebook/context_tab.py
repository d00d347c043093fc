"""The Context tab: what would be sent next, every past request, and the chain of summaries."""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.reply import plain, shorten
from voxnb.errors import VoxnbError
from voxnb.memory.policy import NO_LIMITS
from voxnb.notebook.tab import Tab
from voxnb.notebook.transcript import said_text, user_messages
from voxnb.store.views import Plan

if TYPE_CHECKING:
    from voxnb.store.conversation import Conversation

PAGE_TURNS: Final = 60
MOST_TURNS: Final = 300
"""Turns that a page shows at once; `Conversation.explain` knows them all."""

MOST_SUMMARIES: Final = 20
MOST_COMPARED: Final = 4_000
"""Words of a summary that are compared; more takes too long to be looked at."""


class ContextTab(Tab):
    """What the memory holds.

    Args:
        client: who folds.
        talk: the conversation that is shown now.
        poke: called, from any thread, when there is something new.
    """

    name = "context"

    def __init__(self, client: Any, *, talk: Callable[[], Conversation], poke: Callable[[], None]) -> None:
        self._client, self._talk, self._poke = client, talk, poke
        self._known: Mapping[str, Any] | None = None
        self._note = ""
        self._limit = PAGE_TURNS
        self.verbs = {
            "pin": lambda message, _buffers: self._talk().pin(message.get("turn")),
            "unpin": lambda message, _buffers: self._talk().unpin(message.get("turn")),
            "fold": self._fold,
            "earlier": self._earlier,
            "unfold": lambda _message, _buffers: self._talk().unfold() is not None,
            "explain": lambda message, _buffers: request_of(self._talk().explain(message.get("turn"))),
            "try": lambda message, _buffers: request_of(self._talk().plan(str(message.get("text") or ""))),
        }

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """All of it, where something changed."""
        talk = self._talk()
        plan = talk.plan()
        page = talk.page(limit=self._limit)
        dropped = dict(plan.dropped)
        turns = [
            {
                "id": turn.id,
                "seq": turn.seq,
                "place": place_of(turn.seq, pinned=turn.pinned, folded_to=page.folded_to, dropped=dropped),
                "pinned": turn.pinned,
                "tokens": turn.tokens,
                "round": turn.summary_round,
                "text": shorten(plain(" ".join(said_text(m) for m in user_messages(turn))), limit=90),
            }
            for turn in page.turns
        ]
        now = {
            "bar": bar_of(plan),
            "turns": turns,
            "count": page.turn_count,
            "most": MOST_TURNS,
            "chain": chain_of(talk),
            "note": self._note,
        }
        if not full and now == self._known:
            return None
        self._known = now
        return now

    def _earlier(self, _message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        self._limit = min(MOST_TURNS, self._limit + PAGE_TURNS)

    def _fold(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """Begin a fold; what comes of it is shown when it has come."""
        handle = self._talk().fold(message.get("turn"), client=self._client)
        self._note = "folding …"

        def wait() -> None:
            try:
                self._note = "" if handle.result() is not None else "nothing to fold: only the newest turns are left"
            except VoxnbError as error:
                self._note = f"{type(error).__name__}: {error}"
            self._poke()

        threading.Thread(target=wait, name="voxnb-widget-fold", daemon=True).start()


def place_of(seq: int, *, pinned: bool, folded_to: int, dropped: Mapping[int, str]) -> str:
    """How a turn is in the next request.

    >>> place_of(3, pinned=False, folded_to=4, dropped={})
    'covered'
    """
    if seq in dropped:
        return f"dropped: {dropped[seq]}"
    if pinned:
        return "pinned"
    return "covered" if seq <= folded_to else "verbatim"


def bar_of(plan: Plan) -> dict[str, Any]:
    """A request's parts against its window."""
    limits = plan.layout.limits
    tokens = {name: count for name, count in plan.tokens.items() if count}
    known = limits is not NO_LIMITS
    out: dict[str, Any] = {
        "tokens": tokens,
        "total": plan.total_tokens,
        "window": limits.window_tokens if known else None,
    }
    if known:
        # Only summary and tail can be folded: the threshold lies as far behind what stands before them.
        fixed = plan.total_tokens - plan.tokens["summary"] - plan.tokens["tail"]
        out |= {"reserved": limits.reserve_output_tokens, "fold_at": limits.fold_at_tokens}
        out |= {"fold_mark": min(fixed + limits.fold_at_tokens, limits.window_tokens)}
        out |= {"reducible": plan.tokens["summary"] + plan.tokens["tail"]}
    return out


def request_of(plan: Plan) -> dict[str, Any]:
    """A request, message by message, with the reason why each is there."""
    items = [
        {
            "kind": item.kind,
            "turn": item.seq,
            "role": item.message["role"],
            "tokens": item.tokens,
            "why": item.why,
            "text": _words(item.message),
        }
        for item in plan.layout.items
    ]
    drops = [{"turn": seq, "why": reason} for seq, reason in plan.dropped]
    return {"items": items, "drops": drops, "total": plan.total_tokens, "exact": plan.exact, "redacted": plan.redacted}


def _words(message: Mapping[str, Any]) -> str:
    """A message to read: its text, what else is in it, and the tools that it calls."""
    content = message.get("content")
    parts = content if isinstance(content, list | tuple) else ()
    others = [f"[{part.get('type')}]" for part in parts if not isinstance(part.get("text"), str)]
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [said_text(message), *map(plain, [*others, *calls])]))


def chain_of(talk: Conversation) -> list[dict[str, Any]]:
    """The newest summaries of the chain, newest first, each with what it changed."""
    out: list[dict[str, Any]] = []
    summary = talk.summary()
    while summary is not None and len(out) < MOST_SUMMARIES:
        previous = summary.previous
        out.append(
            {
                "round": summary.round,
                "turns": list(summary.turns),
                "last": summary.last_seq,
                "model": summary.model,
                "before": summary.tokens_before,
                "after": summary.tokens_after,
                "reason": summary.reason,
                "quality": summary.quality,
                "flags": list(summary.flags),
                "prompt": plain(summary.prompt or ""),
                "text": plain(summary.text),
                "diff": word_diff(previous.text if previous else "", summary.text) if previous else [],
            }
        )
        summary = previous
    return out


def word_diff(before: str, after: str) -> list[tuple[str, str]]:
    """What became of a text, word by word.

    Returns:
        Pieces in order: ``("same" | "gone" | "new", text)``.

    >>> word_diff("two cats sleep", "two dogs sleep")
    [('same', 'two '), ('gone', 'cats'), ('new', 'dogs'), ('same', ' sleep')]
    """
    old, new = (re.findall(r"\s+|\w+|[^\w\s]", plain(text))[:MOST_COMPARED] for text in (before, after))
    out: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            out.append(("same", "".join(old[a:b])))
            continue
        if b > a:
            out.append(("gone", "".join(old[a:b])))
        if d > c:
            out.append(("new", "".join(new[c:d])))
    return out
