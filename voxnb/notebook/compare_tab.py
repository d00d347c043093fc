"""The Compare tab: two conversations, or two summaries of one, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.reply import plain
from voxnb.errors import ConversationError, VoxnbError
from voxnb.notebook.context_tab import word_diff
from voxnb.notebook.tab import Tab

if TYPE_CHECKING:
    from voxnb.store.context_store import ContextStore
    from voxnb.store.views import Summary

SIDES: Final = ("left", "right")

MOST_NAMES: Final = 500
"""Conversations that can be chosen; a list of more is not read."""


class CompareTab(Tab):
    """Two sides, each a conversation and one of its summaries, and what is different.

    Args:
        store: whose conversations.
    """

    name = "compare"

    def __init__(self, store: ContextStore) -> None:
        self._store = store
        self._chosen: dict[str, tuple[str, int | None]] = {}
        self._known: Any = None
        self.verbs = {"choose": self._choose}

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """Both sides, where something changed."""
        if self._store.database.unusable():
            return None
        shown = {side: self._side(side) for side in SIDES}
        left, right = (shown[side].get("text") for side in SIDES)
        diff = word_diff(left, right) if left is not None and right is not None else None
        now = {**shown, "names": self._names(shown), "diff": diff}
        if not full and now == self._known:
            return None
        self._known = now
        return now

    def _names(self, shown: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Ids and names to choose from: the newest conversations, and those that are shown."""
        table = self._store.conversations(columns=["conversation_id", "name"]).tail(MOST_NAMES)
        names = {one["id"]: one["name"] for one in shown.values() if one["id"] is not None}
        names |= {key: plain(name) for key, name in zip(table.conversation_id, table.name, strict=True)}
        return sorted(names.items(), key=lambda item: item[1].casefold())

    def _choose(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """Put a conversation on a side, with its newest summary or that of a round."""
        side, number = message.get("side"), message.get("round")
        talk = self._store[message.get("talk")]  # type: ignore[index]  # the store says what is wrong with it
        if side not in SIDES:
            raise ConversationError(f"there is no side {side!r}; there are {' and '.join(SIDES)}")
        self._chosen[side] = (talk.id, number if isinstance(number, int) else None)

    def _side(self, side: str) -> dict[str, Any]:
        chosen = self._chosen.get(side)
        if chosen is None:
            return {"id": None}
        try:
            talk = self._store[chosen[0]]
            page = talk.page(limit=1)
            newest = talk.summary()
            rounds = newest.round if newest else 0
            number = min(chosen[1] or rounds, rounds)
            summary = talk.summary(number - 1) if 0 < number <= rounds else None
        except VoxnbError:  # it was deleted meanwhile
            del self._chosen[side]
            return {"id": None}
        row = talk.row()
        facts: dict[str, Any] = {
            "id": talk.id,
            "name": plain(talk.name),
            "turns": page.turn_count,
            "folded": page.folded_to,
            "model": plain(row.model or ""),
            "rounds": rounds,
            "round": number if summary else None,
        }
        return {**facts, **_summary_facts(summary)} if summary else facts


def _summary_facts(summary: Summary) -> dict[str, Any]:
    return {
        "text": plain(summary.text),
        "by": plain(summary.model),
        "last": summary.last_seq,
        "tokens": summary.tokens,
        "before": summary.tokens_before,
        "after": summary.tokens_after,
        "doubts": [*([] if summary.quality == "full" else [summary.quality]), *summary.flags],
    }
