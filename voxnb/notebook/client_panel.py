"""`ClientPanel`: a panel over a client; in it a call can be heard and spoken in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxnb.events import WebSocketEvents
from voxnb.notebook.media_tab import MediaTab
from voxnb.notebook.tab import Tab, Verb
from voxnb.notebook.tabbed import TabbedPanel


class ClientPanel(TabbedPanel):
    """What the panels of a chat and of a call have in common.

    Attributes:
        client: whose it is.
    """

    def __init__(self, client: Any, tabs: Sequence[Tab], verbs: Mapping[str, Verb]) -> None:
        self.client = client
        super().__init__(tabs, verbs)

        def closed(_event: Any) -> None:
            self.poke()
            self.freeze()

        client.on(WebSocketEvents.Close, closed)
        self._unfollow = lambda: client.remove_event_listener(WebSocketEvents.Close, closed)

    @property
    def is_private(self) -> bool:
        """Whether the client is."""
        return bool(self.client.private)

    def close(self) -> None:
        """Leave the text where it was shown, and end; a second call does nothing."""
        getattr(self, "_unfollow", lambda: None)()
        super().close()

    # -- a call's sound -----------------------------------------------------------------------

    def _media_of(self, call: Any) -> MediaTab:
        return MediaTab(call, tell=self._tell, poke=lambda: self.poke("media"))

    def _media(self) -> MediaTab | None:
        """The Media tab, where there is one."""
        return next((tab for tab in self._tabs if isinstance(tab, MediaTab)), None)

    def _tell(self, message: Mapping[str, Any], buffers: list[bytes]) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None:
            channel.tell(message, buffers)

    def _on_message(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        if isinstance(content, Mapping) and content.get("t") in ("mic", "played"):
            media = self._media()
            if media is not None:
                media.browser.receive(content, buffers)  # at once: sound does not wait for a patch
            return
        super()._on_message(widget, content, buffers)
