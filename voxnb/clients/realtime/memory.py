"""The memory of a call: a conversation in the store, as a chat has it, with the same budget, summaries and tables."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import weakref
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.chat import ChatCompletionsAPIClient
from voxnb.errors import StoreError, SummaryError
from voxnb.memory.policy import ContextPolicy
from voxnb.messages import parse_messages
from voxnb.params import DEFAULT_REALTIME_URL, RealtimeAPIClientType, RealtimeParameters
from voxnb.store import ledger
from voxnb.store.conversation import Conversation
from voxnb.store.media import MediaRow, add_media
from voxnb.store.planner import Planner
from voxnb.store.rows import ConversationRow

if TYPE_CHECKING:
    from voxnb.clients.realtime.client import RealtimeAPIClient

SHORTEN_S: Final = 60.0
"""How long a new session waits for a summary: an old one is replaced two minutes before its end."""

WINDOW_TOKENS: Final = 32_768
"""Of the realtime models; servers of other kinds are not asked."""

PASSED_ON: Final = (
    "api_key", "project", "store", "conversation", "if_exists", "summary_model", "summary_prompt", "summary_request",
    "summary_client", "metadata", "instructions", "model", "prices", "privacy", "api_version", "max_retries",
)  # fmt: skip
"""Parameters of a realtime client that are its memory's."""


_calls: weakref.WeakValueDictionary[int, RealtimeAPIClient] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def call_in(conversation: Conversation) -> RealtimeAPIClient | None:
    """The call of this process that speaks in a conversation, the newest that is open; None where there is none."""
    for reference in reversed(_calls.valuerefs()):
        call = reference()
        if call is not None and not call.closing and _place(call.conversation) == _place(conversation):
            return call
    return None


def _place(conversation: Conversation) -> tuple[str, str]:
    """By name, which a conversation has before its first turn is written."""
    path = conversation.store.path
    return path if path != ":memory:" else f":memory:{id(conversation.store)}", conversation.name


class CallMemory(ChatCompletionsAPIClient):
    """The conversation of a realtime client; it asks no model but for summaries.

    Its events are the realtime client's, and so are its counters and its waterfall.

    Args:
        owner: the client whose memory it is.
        parameters: the client's.

    Attributes:
        is_answered: somebody answers; where speech is written down alone, what was said is a turn of its own.
    """

    def __init__(self, owner: RealtimeAPIClient, parameters: RealtimeParameters) -> None:
        p = parameters
        given = {name: getattr(p, name) for name in PASSED_ON}
        base_url = None if p.base_url == DEFAULT_REALTIME_URL else p.base_url
        policy = p.policy
        if base_url == "local":
            given["model"] = None  # the embedded one, whose window is known
        elif policy is None:
            policy = ContextPolicy(window_tokens=WINDOW_TOKENS)
        super().__init__(given, base_url=base_url, store_context=True, policy=policy)
        self.waterfall = owner.waterfall
        self.is_answered = p.type is RealtimeAPIClientType.REALTIME
        _calls[next(_numbers)] = owner
        self._media: list[MediaRow] = []
        self._unused, self.dispatcher, self.counters = self.dispatcher, owner.dispatcher, owner.counters

    def _open(self) -> None:
        """Its owner is opened, told of and closed at exit."""

    async def end(self) -> None:
        """Let running folds end, store what could not be stored, close the connection to the summary model."""
        self._closing = True
        await self._write_media()
        await self._stop()
        await self.transport.aclose()
        self._unused.close()

    def instruct(self, text: str) -> None:
        """The instructions from now on."""
        self.instructions = parse_messages([{"role": "system", "content": text}] if text else [])
        self.instructions_said = False

    # -- what a session is told -----------------------------------------------------------------

    async def call_planner(self, tools: Mapping[str, Any] | None = None) -> Planner:
        """How the conversation is laid out now."""
        return await self.current_planner({"model": self._model()}, tools, conversation=self.conversation.id)

    def row(self) -> ConversationRow | None:
        """The conversation, once something was said in it."""
        with self.store.database.reader() as c:
            return ledger.find(c, self.conversation.id)

    async def so_far(self, *, shorten: bool) -> tuple[str, list[dict[str, Any]], bool]:
        """The conversation as a new session is told it.

        Args:
            shorten: fold first what a summary may stand for.

        Returns:
            Instructions; summary and verbatim turns as chat messages; whether there is a summary among them.
        """
        row = self.row()
        if row is None:
            return _text(self.instructions), [], False
        planner = await self.call_planner()
        if shorten:
            await self._shorten(row, planner)
        with self.store.database.snapshot() as c:
            row = ledger.find(c, self.conversation.id)
            assert row is not None
            snapshot = ledger.load_snapshot(c, row)
        layout = planner.lay_out(snapshot)
        stored = _text([m.to_dict() for m in snapshot.instructions])
        own = "" if self.instructions_said else _text(self.instructions)
        return own or stored, layout.messages[layout.leading :], snapshot.summary is not None

    async def _shorten(self, row: ConversationRow, planner: Planner) -> None:
        """Fold the oldest turns, all but the newest few; what goes wrong is told as everywhere."""
        from voxnb.store import folding

        choose = folding.choose_through(None, keep_last_turns=planner.limits.keep_last_turns, weigh=planner.weigh)
        # What fails is told by SummaryFailed; then, and where it takes too long, the turns are sent verbatim.
        with contextlib.suppress(SummaryError, TimeoutError):
            async with asyncio.timeout(SHORTEN_S):
                await self.folder.fold(row, planner, choose=choose, forced=True, context=Context())

    # -- after a turn -----------------------------------------------------------------------------

    def fold_soon(self, row: ConversationRow, planner: Planner) -> None:
        """Fold beside the call, if the budget says so."""
        task = asyncio.ensure_future(self.folder.in_background(row, planner, context=Context()))
        self._folds.add(task)
        task.add_done_callback(self._folds.discard)

    def keep_media(self, row: MediaRow) -> None:
        """A stream has ended; it is written once the conversation is there."""
        self._media.append(row)

    async def _write_media(self) -> None:
        rows, now = self._media, time.time()
        with contextlib.suppress(StoreError):  # no room, or gone: the turns matter, and told of it
            conversation = self.row()
            if conversation is None or not rows:
                return
            self._media = []
            await self.write(lambda c: [add_media(c, row, conversation=conversation.id, now=now) for row in rows])


def _text(messages: Sequence[Any]) -> str:
    said = [m["content"] if isinstance(m, Mapping) else m.content for m in messages]
    return "\n\n".join(text for text in said if isinstance(text, str))
