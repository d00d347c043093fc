"""`TabbedPanel`: several tabs over one comm; what the chat's, a call's and the store's widget have in common."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from voxnb.errors import ParameterError, VoxnbError
from voxnb.notebook.panel import Panel
from voxnb.notebook.tab import Tab, Verb


class TabbedPanel(Panel):
    """A panel of tabs. Every control of a page is a *verb*; its answer goes back to the page that asked.

    A tab is composed from when a page first showed it (the first one always), and again when it is *due*.
    """

    def __init__(self, tabs: Sequence[Tab], verbs: Mapping[str, Verb]) -> None:
        self._seen_tabs = {tabs[0].name}
        self._due = {tab.name for tab in tabs}
        self._due_lock = threading.Lock()
        self._stamp: Any = None
        self._head: Mapping[str, Any] = {}
        self._own_verbs: Mapping[str, Verb] = {"show": self._show, **verbs}
        self._have(tabs)
        super().__init__()

    def _have(self, tabs: Sequence[Tab]) -> None:
        """Have these tabs from now on."""
        self._tabs = tuple(tabs)
        verbs = {f"{tab.name}.{name}": verb for tab in tabs for name, verb in tab.verbs.items()}
        self._verbs = {**self._own_verbs, **verbs}

    def _facts(self) -> Mapping[str, Any]:
        """What stands above the tabs."""
        raise NotImplementedError

    def _seen(self) -> Any:
        """What changes when something is written that nobody told; asked about once a second."""
        return None

    def poke(self, *tabs: str) -> None:
        """There is something new in these tabs, or in any; returns at once, from any thread."""
        channel = getattr(self, "_channel", None)
        if channel is None:
            return  # not whole yet: a page will ask for everything
        with self._due_lock:
            self._due.update(tabs or (tab.name for tab in self._tabs))
        channel.poke()

    def close(self) -> None:
        """Leave the text where it was shown, and end; a second call does nothing."""
        for tab in getattr(self, "_tabs", ()):
            tab.close()
        super().close()

    def _look(self) -> bool:
        stamp = self._seen()
        changed: bool = stamp != self._stamp
        self._stamp = stamp
        due = {tab.name for tab in self._tabs if changed or tab.is_live()}
        with self._due_lock:
            self._due |= due
        return bool(due)

    def _compose(self, *, full: bool) -> Mapping[str, Any] | None:
        with self._due_lock:
            due, self._due = self._due, set()
        out: dict[str, Any] = {}
        head = {**self._facts(), "tabs": [tab.name for tab in self._tabs]}
        if full or head != self._head:
            self._head = out["head"] = head
        for tab in self._tabs:
            if tab.name in self._seen_tabs and (full or tab.name in due):
                section = tab.compose(full=full)
                if section is not None:
                    out[tab.name] = section
        return out or None

    def _perform(self, message: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        answer: dict[str, Any] = {"t": "answer", "id": message.get("id")}
        verb = self._verbs.get(str(message.get("verb")))
        try:
            if verb is None:
                raise ParameterError(f"this widget has no {message.get('verb')!r}", name="verb")
            answer["value"] = verb(message, buffers)
        except (VoxnbError, TypeError, ValueError, OSError) as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        self._channel.tell(answer)
        self.poke()

    def _show(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """A page turned to a tab: from now on it is kept up to date."""
        for tab in self._tabs:
            if tab.name == message.get("tab") and tab.name not in self._seen_tabs:
                self._seen_tabs.add(tab.name)
