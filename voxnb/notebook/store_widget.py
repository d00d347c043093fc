"""`StoreWidget`: the conversations of a store in a notebook: found, read, compared, forked, exported, deleted."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from voxnb.clients.reply import plain
from voxnb.errors import ParameterError, VoxnbError
from voxnb.notebook.compare_tab import CompareTab
from voxnb.notebook.panel import module
from voxnb.notebook.render import framed
from voxnb.notebook.tab import Tab
from voxnb.notebook.tabbed import TabbedPanel
from voxnb.notebook.transcript import clock, page_html
from voxnb.usage import money

if TYPE_CHECKING:
    from voxnb.store.context_store import ContextStore
    from voxnb.store.conversation import Conversation

MOST_LISTED: Final = 200
"""Conversations that are listed: those that were spoken in last; searching finds the others."""

MOST_FOUND: Final = 40
PAGE_TURNS: Final = 30


class StoreWidget(TabbedPanel):
    """A panel over a store; made by ``store.widget()``. Every control calls a method of the store or a conversation.

    Attributes:
        store: what is shown.
    """

    _esm = module("parts.js", "tabs.js", "store_tabs.js", "store.js")
    TITLE: ClassVar[str] = "a store"

    def __init__(self, store: ContextStore) -> None:
        self.store = store
        super().__init__((ListTab(store), ReadTab(store), CompareTab(store)), {})

    def static_html(self) -> str:
        """The conversations as a table, without script or style."""
        try:
            rows = listed(self.store, "", dated=True)
        except VoxnbError as error:
            return f"<p>{type(error).__name__}</p>"
        head = "".join(f'<th scope="col">{word}</th>' for word in ("conversation", "turns", "folds", "last turn"))
        cells = (
            "<tr>"
            + "".join(f"<td>{html.escape(str(row[key]))}</td>" for key in ("name", "turns", "folds", "last"))
            + "</tr>"
            for row in rows
        )
        title = f"<p><strong>{html.escape(repr(self).strip('<>'))}</strong></p>"
        return framed(f"{title}<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>")

    def __repr__(self) -> str:
        # A saved notebook travels: the file is named in it, not where on this machine it lies.
        return repr(self.store).replace(self.store.path, Path(self.store.path).name)

    def _seen(self) -> Any:
        return self.store.stamp()

    def _facts(self) -> Mapping[str, Any]:
        state = self.store.database.unusable()
        return {
            "name": "Conversations",
            "facts": self.store.path,
            "own": None,
            "closed": f"The store was {state}; open it again to read on." if state else "",
        }


def listed(store: ContextStore, text: str, *, dated: bool = False) -> list[dict[str, Any]]:
    """The conversations whose name or title holds a text, those spoken in last first; ``dated`` to be read another day."""
    table = store.conversations().sort_values("last_turn_at", ascending=False, na_position="last", kind="stable")
    if text:
        words = table.name.str.casefold() + " " + table.title.fillna("").str.casefold()
        table = table[words.str.contains(text.casefold(), regex=False)]
    names = dict(zip(table.conversation_id, table.name, strict=True))
    return [row_of(row, names, dated=dated) for row in table.head(MOST_LISTED).to_dict("records")]


def row_of(row: Mapping[Any, Any], names: Mapping[str, str], *, dated: bool) -> dict[str, Any]:
    """A conversation as a page shows it."""

    def known(name: str) -> Any:
        value = row[name]
        return None if value is None or value != value or str(value) == "<NA>" else value  # noqa: PLR0124 - NaN and NaT are unlike themselves

    parent, last, cost = known("parent_id"), known("last_turn_at"), known("cost_usd")
    return {
        "id": str(row["conversation_id"]),
        "name": plain(str(row["name"])),
        "title": plain(str(known("title") or "")),
        "turns": int(row["turn_count"]),
        "tokens": int(known("token_count") or 0),
        "folds": int(row["folds"]),
        "model": plain(str(known("model") or "")),
        "cost": money(None if cost is None else float(cost)),
        "last": "" if last is None else clock(last.timestamp(), dated=dated),
        "fork": None if parent is None else [plain(names.get(str(parent), str(parent))), int(known("fork_seq") or 0)],
    }


class ListTab(Tab):
    """All conversations: search, fork, export, delete.

    Args:
        store: whose.
    """

    name = "list"

    def __init__(self, store: ContextStore) -> None:
        self._store = store
        self._known: Any = None
        self.verbs = {
            "search": self._search,
            "fork": lambda message, _buffers: self._talk(message).fork(name=message.get("name") or None).name,
            "export": self._export,
            "delete": lambda message, _buffers: self._talk(message).delete(forks=message.get("forks") is True),
            "rename": lambda message, _buffers: self._talk(message).rename(message.get("name")),  # type: ignore[arg-type]  # it says what is wrong
        }

    def _talk(self, message: Mapping[str, Any]) -> Conversation:
        return self._store[message.get("talk")]  # type: ignore[index]  # the store says what is wrong with it

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """The conversations, where something changed."""
        if self._store.database.unusable():
            return None
        now = {"rows": listed(self._store, ""), "count": len(self._store), "read_only": self._store.read_only}
        if not full and now == self._known:
            return None
        self._known = now
        return now

    def _search(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> Mapping[str, Any]:
        text = str(message.get("text") or "").strip()
        found = self._store.search(text, limit=MOST_FOUND)
        hits = [
            {
                "id": row["conversation_id"],
                "name": plain(row["conversation"]),
                "turn": int(row["turn_seq"]),
                "role": str(row["role"]),
                "text": plain(row["snippet"]),
            }
            for row in found.to_dict("records")
        ]
        return {"rows": listed(self._store, text), "hits": hits, "most": MOST_FOUND}

    def _export(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> str:
        path = str(message.get("path") or "").strip()
        if not path:
            raise ParameterError(
                "there is no file name; write one that ends in .html, .md, .jsonl or .csv", name="path"
            )
        report = self._talk(message).export(path, overwrite=message.get("overwrite") is True, progress=False)
        return str(report).splitlines()[0]


class ReadTab(Tab):
    """One conversation to read.

    Args:
        store: whose.
        talk: what is open at first.
    """

    name = "read"

    def __init__(self, store: ContextStore, *, talk: Conversation | None = None) -> None:
        self._store = store
        self._talk = talk
        self._upto: int | None = None
        self._known: Any = None
        self.verbs = {"open": self._open}

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """The page that is open, where it changed."""
        now: dict[str, Any] = {"id": None}
        if self._store.database.unusable():
            return None
        talk = self._talk
        if talk is not None:
            with contextlib.suppress(VoxnbError):  # it was deleted meanwhile: nothing is open
                now = self._page_of(talk)
        if not full and now == self._known:
            return None
        self._known = now
        return now

    def _page_of(self, talk: Conversation) -> dict[str, Any]:
        talk.row()
        page = talk.page(before=None if self._upto is None else self._upto + 1, limit=PAGE_TURNS)
        first = page.turns[0].seq if page.turns else 0
        last = page.turns[-1].seq if page.turns else 0
        body = page_html(talk.name, page, headed=False)
        return {
            "id": talk.id,
            "name": plain(talk.name),
            "html": body,
            "first": first,
            "last": last,
            "count": page.turn_count,
        }

    def _open(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """Open a conversation, or another page of it: the one that ends with turn ``upto``."""
        upto = message.get("upto")
        talk = self._store[message.get("talk")]  # type: ignore[index]  # the store says what is wrong with it
        self._upto = upto if isinstance(upto, int) and 0 < upto < len(talk) else None
        self._talk = talk
