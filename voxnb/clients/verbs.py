"""`SpeakingClient`: what a conversation's verbs ask of their client: to fold it, to say something in it, to ask again."""

from __future__ import annotations

from typing import Any, ClassVar

from voxnb.clients.base import caller_context
from voxnb.clients.handle import Handle
from voxnb.clients.text import TextClient
from voxnb.clients.turn import Turn
from voxnb.errors import ConversationError
from voxnb.messages import parse_messages
from voxnb.runtime import config, loop
from voxnb.runtime.packages import import_apart
from voxnb.store import explain
from voxnb.store import folding as fold_ledger
from voxnb.store.conversation import Conversation
from voxnb.store.views import Summary, load_summary


class SpeakingClient(TextClient):
    """A text client as a `Conversation` uses it, its own or another of the same store."""

    PUBLIC: ClassVar[tuple[str, ...]] = ("widget",)

    def widget(self) -> Any:
        """A panel of the conversation for notebooks: as a cell's last line, or ``display(chat.widget())``.

        Tabs: *Chat* (history, composer, Stop, retry, edit and fork, attachments), *Context* (what would be sent next,
        every past request, the summaries and what they changed), *Events* (what listeners are told), and *Media* once a
        call of this process speaks in the conversation. Works by keyboard. Where no widgets are, it is the conversation
        as text; ``close()`` leaves that in the notebook.

        Returns:
            An anywidget; it can be shown several times and laid out with ipywidgets.

        Raises:
            ConversationError: the client was made without store_context.
        """
        import_apart("anywidget")
        return config.load("chat_widget")(self)

    def ask_conversation(
        self, conversation: Conversation, text: str | None, *, attach: Any = (), **request: Any
    ) -> Turn:
        """`Conversation.ask` with this client."""
        self._check_open()
        self._check_store(conversation)
        return self._ask([self._question(text, attach, request)], dict(request), conversation=conversation)

    def fold_conversation(self, conversation: Conversation, *, through: Any = None) -> Handle[Summary | None]:
        """`Conversation.fold` with this client's summary model."""
        self._check_open()
        self._check_store(conversation)
        seq = None if through is None else conversation.number_of(through)
        model = self._model() or conversation.row().model
        self.measure_of(model)
        context = caller_context()

        async def work() -> Summary | None:
            row = conversation.row()
            planner = await self.current_planner({"model": model}, None, conversation=row.uid)
            choose = fold_ledger.choose_through(
                seq, keep_last_turns=planner.limits.keep_last_turns, weigh=planner.weigh
            )
            uid = await self.folder.fold(row, planner, choose=choose, forced=True, context=context)
            if uid is None:
                return None
            (row_id,) = self.store.database.read("SELECT id FROM summary WHERE uid = ?", (uid,))[0]
            return load_summary(self.store, row_id)

        return Handle(loop.submit(work()), name="fold")

    def retry_turn(self, conversation: Conversation) -> Turn:
        """`Conversation.retry` with this client."""
        self._check_open()
        self._check_store(conversation)
        row = conversation.row()
        with conversation.store.database.snapshot() as c:
            replayed = self.reuse_cursor if conversation.client is self else None
            if replayed is not None and replayed[0] > 0 and replayed[1] == 0 and self.reuse_path is None:
                known = explain.retried(c, row, replayed[0])
                if known is not None and known.times > self._retries_replayed.get(replayed[0], 0):
                    # The cell runs again: the stored turn is what its retry gave.
                    self._retries_replayed[replayed[0]] = self._retries_replayed.get(replayed[0], 0) + 1
                    self.reuse_cursor = (replayed[0] - 1, 0)
                    return self._ask(parse_messages(known.messages), known.body, conversation=conversation)
            last = explain.asked_last(c, row)
        if conversation.client is not self:
            last.body["model"] = self._model() or last.body.get("model")
        return self._ask(parse_messages(last.messages), last.body, conversation=conversation, again=last.turn_id)

    def _check_store(self, conversation: Conversation) -> None:
        """A client writes into its own store alone."""
        if conversation.store.database is not self.store.database and (
            conversation.store.path == ":memory:" or conversation.store.path != self.store.path
        ):
            raise ConversationError(
                f"the conversation is in {conversation.store.path!r}, this client's store is {self.store.path!r}; "
                "make a client with store=… for it"
            )
