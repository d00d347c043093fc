"""`ChatWidget`: a conversation in a notebook, in tabs over one comm."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from voxnb.errors import ParameterError, VoxnbError
from voxnb.events import WebSocketEvents
from voxnb.notebook.chat_tab import PAGE_TURNS, ChatTab
from voxnb.notebook.context_tab import ContextTab
from voxnb.notebook.panel import Panel, module
from voxnb.notebook.tab import Tab, Verb
from voxnb.notebook.transcript import page_html

if TYPE_CHECKING:
    from voxnb.store.conversation import Conversation


class ChatWidget(Panel):
    """A panel over a client's conversation; made by ``chat.widget()``.

    Every control calls a method of `Conversation`, of the store or of the client, and shows what that says; another
    view, a cell and another process may do the same at the same time.

    Attributes:
        client: who asks.
        conversation: what is shown: the client's own, or a fork of it.
    """

    _esm = module("parts.js", "chat_tab.js", "context_tab.js", "chat.js")
    TITLE: ClassVar[str] = "a conversation"

    def __init__(self, client: Any) -> None:
        self.client = client
        self.conversation: Conversation = client.conversation
        self._stamp: tuple[int, int] | None = None
        self._notice = ""
        self._chat = ChatTab(client, talk=lambda: self.conversation, go=self.go, poke=self._poke)
        self._tabs: tuple[Tab, ...] = (
            self._chat,
            ContextTab(client, talk=lambda: self.conversation, poke=self._poke),
        )
        self._seen_tabs = {self._chat.name}
        self._head: Mapping[str, Any] = {}
        self._verbs: dict[str, Verb] = {"show": self._show, "open": self._open}
        for tab in self._tabs:
            self._verbs.update({f"{tab.name}.{name}": verb for name, verb in tab.verbs.items()})
        super().__init__()
        client.on(WebSocketEvents.Close, self._on_close)

    def go(self, conversation: Conversation) -> None:
        """Show another conversation of the same store; what is asked here is asked there."""
        conversation.client = self.client
        self.conversation = conversation

    def close(self) -> None:
        """Leave the conversation as text where it was shown, and end; the client goes on."""
        if not getattr(self, "_chat", None):
            super().close()
            return
        self._chat.close()
        self.client.remove_event_listener(WebSocketEvents.Close, self._on_close)
        super().close()

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

    def _poke(self) -> None:
        self._channel.poke()

    def _on_close(self, _event: Any) -> None:
        self._poke()
        self.freeze()

    def _on_message(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        if isinstance(content, Mapping) and content.get("t") == "stop":
            self._chat.stop()  # at once: it must not wait for a patch under way
            return
        super()._on_message(widget, content, buffers)

    def _look(self) -> bool:
        stamp: tuple[int, int] = self.client.store.stamp()
        changed = stamp != self._stamp
        self._stamp = stamp
        return changed

    def _compose(self, *, full: bool) -> Mapping[str, Any] | None:
        out: dict[str, Any] = {}
        head = self._facts()
        if full or head != self._head:
            self._head = out["head"] = head
        for tab in self._tabs:
            if tab.name in self._seen_tabs:
                section = tab.compose(full=full)
                if section is not None:
                    out[tab.name] = section
        return out or None

    def _facts(self) -> Mapping[str, Any]:
        talk = self.conversation
        own = self.client.conversation
        model = self.client.planner_model()
        return {
            "name": talk.name,
            "model": f"{model} at {self.client.host}" if model else f"no model yet, at {self.client.host}",
            "own": None if talk.id == own.id else own.name,
            "closed": bool(self.client.closing),
            "tabs": [tab.name for tab in self._tabs],
        }

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
        self._poke()

    def _show(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """A page turned to a tab: from now on it is kept up to date."""
        for tab in self._tabs:
            if tab.name == message.get("tab") and tab.name not in self._seen_tabs:
                self._seen_tabs.add(tab.name)

    def _open(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> str:
        """Show another conversation, or the client's own."""
        name = message.get("name")
        own = self.client.conversation
        self.go(own if name in (None, own.name, own.id) else self.client.store[str(name)])
        return self.conversation.name
