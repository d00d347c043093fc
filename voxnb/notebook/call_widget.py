"""`CallWidget`: a realtime call in a notebook, in tabs over one comm."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from voxnb.errors import VoxnbError
from voxnb.notebook.events_tab import EventsTab
from voxnb.notebook.media_tab import MediaTab
from voxnb.notebook.panel import module
from voxnb.notebook.render import framed
from voxnb.notebook.store_widget import ReadTab
from voxnb.notebook.tab import Tab
from voxnb.notebook.tabbed import TabbedPanel
from voxnb.notebook.transcript import page_html

PAGE_TURNS: Final = 30
CLOSED: Final = "The call is over: it can be read, and nothing more be said here."


class CallWidget(TabbedPanel):
    """A panel over a realtime client; made by ``client.widget()``.

    Attributes:
        client: whose call.
    """

    _esm = module("parts.js", "tabs.js", "sound.js", "media_tab.js", "events_tab.js", "store_tabs.js", "call.js")
    TITLE: ClassVar[str] = "a call"
    POLL_S: ClassVar[float] = 0.3

    def __init__(self, client: Any) -> None:
        self.client = client
        self._media = MediaTab(client, tell=self._tell, poke=lambda: self.poke("media"))
        tabs: list[Tab] = [self._media, EventsTab(client, poke=lambda: self.poke("events"))]
        self._talk = None
        with contextlib.suppress(VoxnbError):  # most calls are not remembered
            self._talk = client.conversation
            tabs.append(ReadTab(client.store, talk=self._talk))
        super().__init__(tabs, {})
        self._follow(client)

    @property
    def is_private(self) -> bool:
        """Whether the client is."""
        return bool(self.client.private)

    def static_html(self) -> str:
        """What was said, without script or style."""
        title = repr(self).strip("<>")
        if self._talk is not None:
            with contextlib.suppress(VoxnbError):
                return page_html(title, self._talk.page(limit=PAGE_TURNS))
        lines = "".join(
            f"<p><strong>{'You' if line['who'] == 'user' else 'Model'}</strong> {html.escape(line['text'])}{_heard(line)}</p>"
            for line in self._media.captions.shown().values()
            if line["text"]
        )
        return framed(f"<p><strong>{html.escape(title)}</strong></p>{lines}")

    def __repr__(self) -> str:
        return repr(self.client)

    # -- what the channel calls ---------------------------------------------------------------

    def _tell(self, message: Mapping[str, Any], buffers: list[bytes]) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None:
            channel.tell(message, buffers)

    def _on_message(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        if isinstance(content, Mapping) and content.get("t") in ("mic", "played"):
            self._media.browser.receive(content, buffers)  # at once: sound does not wait for a patch
            return
        super()._on_message(widget, content, buffers)

    def _look(self) -> bool:
        if self._media.is_live():
            self.poke("media")
        return super()._look()

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
