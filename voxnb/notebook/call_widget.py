"""`CallWidget`: a realtime call in a notebook, in tabs over one comm."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from voxnb.errors import VoxnbError
from voxnb.notebook.client_panel import ClientPanel
from voxnb.notebook.events_tab import EventsTab
from voxnb.notebook.panel import module
from voxnb.notebook.render import framed
from voxnb.notebook.store_widget import ReadTab
from voxnb.notebook.tab import Tab
from voxnb.notebook.transcript import page_html

PAGE_TURNS: Final = 30
CLOSED: Final = "The call is over: it can be read, and nothing more be said here."


class CallWidget(ClientPanel):
    """A panel over a realtime client; made by ``client.widget()``.

    Attributes:
        client: whose call.
    """

    _esm = module("parts.js", "tabs.js", "sound.js", "media_tab.js", "events_tab.js", "store_tabs.js", "call.js")
    TITLE: ClassVar[str] = "a call"
    POLL_S: ClassVar[float] = 0.3

    def __init__(self, client: Any) -> None:
        self._captions = (media := self._media_of(client)).captions
        tabs: list[Tab] = [media, EventsTab(client, poke=lambda: self.poke("events"))]
        self._talk = None
        with contextlib.suppress(VoxnbError):  # most calls are not remembered
            self._talk = client.conversation
            tabs.append(ReadTab(client.store, talk=self._talk))
        super().__init__(client, tabs, {})

    def static_html(self) -> str:
        """What was said, without script or style."""
        title = repr(self).strip("<>")
        if self._talk is not None:
            with contextlib.suppress(VoxnbError):
                return page_html(title, self._talk.page(limit=PAGE_TURNS))
        lines = "".join(
            f"<p><strong>{'You' if line['who'] == 'user' else 'Model'}</strong> {html.escape(line['text'])}{_heard(line)}</p>"
            for line in self._captions.shown().values()
            if line["text"]
        )
        return framed(f"<p><strong>{html.escape(title)}</strong></p>{lines}")

    def __repr__(self) -> str:
        return repr(self.client)

    # -- what the channel calls ---------------------------------------------------------------

    def _seen(self) -> Any:
        return (self.client.closing, self._talk and self.client.store.stamp())

    def _facts(self) -> Mapping[str, Any]:
        client = self.client
        name = self._talk.name if self._talk is not None else "Call"
        words = repr(client).strip("<>").partition(" ")[2].rpartition(", ")[0]
        return {"name": name, "facts": words, "own": None, "closed": CLOSED if client.closing else ""}


def _heard(line: Mapping[str, Any]) -> str:
    if line["heard_ms"] is None or line["heard_ms"] >= line["received_ms"]:
        return ""
    return f" <small>(heard {line['heard_ms'] / 1000:.1f} of {line['received_ms'] / 1000:.1f} s)</small>"
