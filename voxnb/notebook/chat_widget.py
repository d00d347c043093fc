"""`ChatWidget`: a conversation in a notebook, in tabs over one comm."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from voxnb.clients.realtime.memory import call_in
from voxnb.errors import VoxnbError
from voxnb.notebook.chat_tab import PAGE_TURNS, ChatTab
from voxnb.notebook.client_panel import ClientPanel
from voxnb.notebook.context_tab import ContextTab
from voxnb.notebook.events_tab import EventsTab
from voxnb.notebook.panel import module
from voxnb.notebook.tab import Tab
from voxnb.notebook.transcript import page_html

if TYPE_CHECKING:
    from voxnb.store.conversation import Conversation

CLOSED: Final = "The client was closed: the conversation can be read, and nothing more be asked here."


class ChatWidget(ClientPanel):
    """A panel over a client's conversation; made by ``chat.widget()``.

    Every control calls a method of `Conversation`, of the store or of the client, and shows what that says; another
    view, a cell and another process may do the same at the same time. While a call of this process speaks in the
    conversation, or once one did, there is a *Media* tab, too.

    Attributes:
        client: who asks.
        conversation: what is shown: the client's own, or a fork of it.
    """

    _esm = module(
        "parts.js", "tabs.js", "sound.js", "chat_tab.js", "context_tab.js", "events_tab.js", "media_tab.js", "chat.js"
    )
    TITLE: ClassVar[str] = "a conversation"

    def __init__(self, client: Any) -> None:
        self.conversation: Conversation = client.conversation
        self._chat = ChatTab(client, talk=self._talk, go=self.go, poke=self.poke)
        context = ContextTab(client, talk=self._talk, poke=self.poke)
        events = EventsTab(client, poke=lambda: self.poke("events"))
        tabs: list[Tab] = [self._chat, context, events]
        call = call_in(self.conversation)
        super().__init__(client, [*tabs, self._media_of(call)] if call else tabs, {"open": self._open})

    def _talk(self) -> Conversation:
        return self.conversation

    def go(self, conversation: Conversation) -> None:
        """Show another conversation of the same store; what is asked here is asked there."""
        conversation.client = self.client
        self.conversation = conversation

    def static_html(self) -> str:
        """The conversation to read, without script or style."""
        try:
            return page_html(repr(self).strip("<>"), self.conversation.page(limit=PAGE_TURNS))
        except VoxnbError as error:
            return f"<p>{type(error).__name__}</p>"

    def __repr__(self) -> str:
        with contextlib.suppress(VoxnbError):
            return f"<Conversation {self.conversation.name!r} with {self.client.planner_model() or 'no model'}>"
        return "<Conversation, its store is closed>"

    # -- what the channel calls ---------------------------------------------------------------

    def _on_message(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        if isinstance(content, Mapping) and content.get("t") == "stop":
            self._chat.stop()  # at once: it must not wait for a patch under way
            return
        super()._on_message(widget, content, buffers)

    def _look(self) -> bool:
        call, media = call_in(self.conversation), self._media()
        if call is not None and (media is None or media.call is not call):
            self._have([*(tab for tab in self._tabs if tab is not media), self._media_of(call)])
            self.poke()
            if media is not None:
                media.close()
        return super()._look()

    def _seen(self) -> Any:
        return self.client.store.stamp()

    def _facts(self) -> Mapping[str, Any]:
        talk = self.conversation
        own = self.client.conversation
        model = self.client.planner_model()
        return {
            "name": talk.name,
            "facts": f"{model} at {self.client.host}" if model else f"no model yet, at {self.client.host}",
            "own": None if talk.id == own.id else own.name,
            "closed": CLOSED if self.client.closing else "",
        }

    def _open(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> str:
        """Show another conversation, or the client's own."""
        name = message.get("name")
        own = self.client.conversation
        self.go(own if name in (None, own.name, own.id) else self.client.store[str(name)])
        return self.conversation.name
