"""A realtime session in the bridge process: what `Distant` in the kernel asks of it, and what it tells in return.

It is the same keeper, session machine and voice as in the kernel; only who listens, who writes and who runs tools is on
the other side. Nothing here waits for the kernel but what `Distant`'s rule 1 says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from voxnb.clients.address import Endpoint
from voxnb.clients.realtime.counting import ResponseClocks
from voxnb.clients.realtime.keeper import Keeper
from voxnb.clients.realtime.link import Ended, Link
from voxnb.clients.realtime.told import Told
from voxnb.clients.sdk import Transport
from voxnb.events import RealtimeAPIEvents
from voxnb.media.clock import LOOP
from voxnb.media.crossing import side_of
from voxnb.media.stream import Stream
from voxnb.media.unit import MediaUnit
from voxnb.runtime.channel import MOST_EVENT_BYTES, Channel
from voxnb.runtime.stats import CallFacts
from voxnb.runtime.trace import Trace
from voxnb.store.media import MediaRow
from voxnb.wire.realtime.item import Item
from voxnb.wire.realtime.replay import messages_of
from voxnb.wire.realtime.response import Response
from voxnb.wire.realtime.session import RealtimeSession, Received

TELL_S: Final = 0.25
"""How often it is told how much was heard."""

NUMBERS_EVERY: Final = 4
"""Of these, how often the numbers are told with it."""

DRAIN_S: Final = 0.05
"""How long the end lets what waits go out."""

_SETTINGS: Final = frozenset({"session.created", "session.updated"})


class Served(Told):
    """A session whose client is in the kernel.

    Args:
        channel: to the kernel.
        number: of this object and of its `Distant`.
        plan: what `Distant` knows of its client.
    """

    EVENTS = RealtimeAPIEvents
    CONNECTOR = "/openai/realtime"

    def __init__(self, channel: Channel, number: int, plan: Mapping[str, Any]) -> None:
        self._channel = channel
        self._number = number
        self.endpoint, self.host = plan["endpoint"], plan["host"]
        self._kind, self._model = plan["kind"], plan["model"]
        self.connect_s, self.max_retries = plan["connect_s"], plan["max_retries"]
        self._socket_id, self._is_private = plan["socket_id"], plan["private"]
        self._is_embedded = plan["embedded"]
        asks_key = partial(channel.ask, number, "key") if plan["asks_key"] else None
        self.transport = _KeyTransport(self.endpoint, asks_key=asks_key)
        far = self._kernel = _Kernel(channel, number)
        self.dispatcher, self.counters = far, far  # type: ignore[assignment]  # what of them is used here
        self._tools = far  # type: ignore[assignment]  # as above
        self._memory = self._scribe = far if plan["remembers"] else None  # type: ignore[assignment]  # as above
        self._clocks = ResponseClocks(self.counters, model=self._model, prices=plan["prices"])
        self._sums = Counter()
        self._begin_voice(barge_in=plan["barge_in"], session=plan["session"])
        self._keeper = Keeper(self, kind=self._kind, model=self._model, policy=plan["policy"])
        far.moved = self._keeper.moved
        self._connecting_here: asyncio.Task[None] | None = None
        self._ticks = 0
        self._heard_told: dict[str, float] = {}
        self._just_heard: dict[str, float] = {}  # what was heard to its end since the kernel was told
        self._timer: Any = None
        side_of(channel).units[number] = self

    @property
    def private(self) -> bool:
        """Whether nothing of what is said may be noted; no tape runs here that could."""
        return bool(self._is_private)

    @property
    def _kind_of_unit(self) -> str:
        return "RealtimeAPIClient"

    @property
    def _state(self) -> RealtimeSession:  # type: ignore[override]  # the keeper replaces it
        return self._keeper.state

    # -- asked by the kernel ----------------------------------------------------------------------

    async def connect(self, trace: str | None) -> None:
        """See `Keeper.connect`."""
        if trace is not None and self.transport.trace is None:
            self.transport.trace = Trace(Path(trace), hide=self.transport.hide)
        self._connecting_here = asyncio.ensure_future(self._keeper.connect())
        try:
            await self._connecting_here
        finally:
            self._tell()
        self._tick()

    async def replace(self, reason: str) -> bool:
        """See `Keeper.replace`."""
        return await self._keeper.replace(reason)

    def put(self, command: dict[str, Any]) -> None:
        """A command."""
        self._put(command)

    def go_on(self, response_id: str, command: dict[str, Any]) -> None:
        """The tools have run."""
        self._go_on(response_id, command)

    def moved(self) -> None:
        """Something was written."""
        self._keeper.moved()

    def tell_sound(self, is_watched: bool) -> None:  # noqa: FBT001 - off the wire
        """Whether somebody in the kernel watches the sound."""
        self._sound_watchers = (partial(self._tell_event, "sound"),) if is_watched else ()

    def numbers(self) -> dict[str, Any]:
        """What the statistics have of their own."""
        told = self._numbers()
        return {**told, "queues": [*told["queues"], {"queue": "to the kernel", **self._channel.facts()}]}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the waterfall."""
        return self._waterfall.rows()

    async def finish(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """End it; returns the last numbers and rows."""
        if self._timer is not None:
            self._timer.cancel()
        connecting = self._connecting_here
        if connecting is not None and not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
        self._keep_numbers()
        self._end_media()
        state = self._state
        await self._keeper.close(drain_s=DRAIN_S)
        self._last_session_over(state)
        await self._kernel.end()
        if self.transport.trace is not None:
            self.transport.trace.close()
        side_of(self._channel).units.pop(self._number, None)
        return self.numbers(), self.rows()

    async def lost(self) -> None:
        """The kernel is gone."""
        await self.finish()

    # -- told to the kernel -----------------------------------------------------------------------

    def _tell(self) -> None:
        keeper = self._keeper
        self._channel.do(
            self._number,
            "told",
            {
                "id": keeper.state.id,
                "config": keeper.state.config,
                "link": None if keeper.link is None else True,
                "over": keeper.over,
                "sessions": keeper.sessions,
                "reconnects": keeper.reconnects,
                "tools": keeper.state.settings.wanted.get("tools"),
            },
        )

    def _tick(self) -> None:
        self._timer = LOOP.call_at(LOOP.now() + TELL_S, self._tick)
        self._ticks += 1
        heard = {**self._just_heard, **self._heard_so_far()}
        self._just_heard = {}
        if heard != self._heard_told:
            self._heard_told = heard
            self._tell_event("hearing", heard, self._under_way(self._state))
        if self._ticks % NUMBERS_EVERY == 1:
            self._tell_event("known", self.numbers(), self.rows())
        self._tell_open_rows()

    def _tell_open_rows(self) -> None:
        if self._memory is not None:
            self._tell_event("sounding", self._open_rows())

    def _keep_stream(self, stream: Stream, *, direction: str, unit: MediaUnit) -> None:
        super()._keep_stream(stream, direction=direction, unit=unit)
        self._tell_open_rows()  # this one is kept: a process that dies now does not leave it twice

    def _tell_event(self, method: str, *args: Any) -> None:
        """Something to be seen: dropped where the kernel is too far behind."""
        self._channel.do(self._number, method, *args, most_bytes=MOST_EVENT_BYTES)

    def _spoken_settled(self, item: Item, heard_ms: float) -> None:
        super()._spoken_settled(item, heard_ms)
        if self._outgoing:
            self._just_heard[item.id] = heard_ms

    def received(self, link: Link, received: Received, *, is_current: bool) -> None:
        """An event was taken in."""
        super().received(link, received, is_current=is_current)
        if is_current and any(event["type"] in _SETTINGS for event in received.events):
            self._tell()

    def session_lost(self, ended: Ended) -> None:
        """A session is lost and will be begun again."""
        self._tell()
        super().session_lost(ended)

    def session_followed(self, name: str, facts: Mapping[str, Any]) -> None:
        """A new session has taken the place of one."""
        self._tell()
        super().session_followed(name, facts)

    def session_over(self, ended: Ended) -> None:
        """The last session has ended, and not by us."""
        self._tell()
        super().session_over(ended)

    def nothing_more_comes(self) -> None:
        """Who waits does so in the kernel."""

    async def far_end_is_up(self) -> None:
        """The embedded voice is started again by the kernel, which knows when it is there."""
        if self._is_embedded:
            await self._channel.ask(self._number, "far_end_is_up")

    async def conversation_messages(
        self, session: RealtimeSession, reason: str
    ) -> tuple[frozenset[str], list[dict[str, Any]], bool]:
        """What a new session is told: by the store, or by the session where the kernel is too busy to say.

        It has half of what is left of the session: a new one must be there before that ends.
        """
        ends = session.expires_at
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if ends is None else max(0.0, ends - time.time()) / 2):
                return await super().conversation_messages(session, reason)
        return frozenset(item.id for item in session.items), messages_of(session.items), False


class _KeyTransport(Transport):
    """Where the session is, and its key.

    Args:
        endpoint: with the key, where that is a text.
        asks_key: asks the kernel for it, where it is what a function there returns.
    """

    def __init__(self, endpoint: Endpoint, *, asks_key: Callable[[], Awaitable[str]] | None) -> None:
        super().__init__(endpoint)
        self._asks_key = asks_key

    async def key(self) -> str:
        """The key of the next connection."""
        if self._asks_key is None:
            return await super().key()
        key = await self._asks_key()
        self._learn_secrets(key)
        return key


class _Kernel:
    """What a session needs of the kernel: its listeners, scribe, memory, tools and counters, across.

    Args:
        channel, number: of the session.
    """

    def __init__(self, channel: Channel, number: int) -> None:
        self.moved: Any = None
        self._channel = channel
        self._number = number
        self._running: set[asyncio.Task[None]] = set()

    def _do(self, method: str, *args: Any, most_bytes: int | None = None) -> None:
        self._channel.do(self._number, method, *args, most_bytes=most_bytes)

    # -- listeners, numbers -------------------------------------------------------------------------

    def emit(self, name: str, payload: Mapping[str, Any], *, context: Any = None, turn: Any = None) -> None:
        """An event."""
        del context, turn
        self._do("emit", name, dict(payload), most_bytes=MOST_EVENT_BYTES)

    def add(self, facts: CallFacts) -> None:
        """A response has ended."""
        self._do("counted", facts)

    # -- the scribe and its memory ------------------------------------------------------------------

    def said(self, item: Item, *, is_heard: bool) -> None:
        """See `Scribe.said`; so for the next three."""
        self._do("note", "said", (item,), {"is_heard": is_heard})

    def understood(self, item_id: str, text: str | None) -> None:
        self._do("note", "understood", (item_id, text), {})

    def answered(self, response: Response, items: Sequence[Item], facts: CallFacts | None) -> None:
        self._do("note", "answered", (response, list(items), facts), {})

    def heard(self, item: Item, heard_ms: float) -> None:
        self._do("note", "heard", (item, heard_ms), {})

    async def written(self, *, timeout_s: float) -> bool:
        """See `Scribe.written`."""
        return bool(await self._channel.ask(self._number, "written", timeout_s))

    def instruct(self, text: str) -> None:
        """The kernel's memory knows: the command came from there."""

    async def so_far(self, *, shorten: bool) -> Any:
        """See `CallMemory.so_far`."""
        return await self._channel.ask(self._number, "so_far", shorten)

    def keep_media(self, row: MediaRow) -> None:
        """A stream has ended."""
        self._do("keep_media", row)

    # -- tools ----------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a tool runs."""
        return bool(self._running)

    def heard_user(self) -> None:
        """The user spoke."""
        self._do("heard_user")

    def answer(self, response_id: str, items: Sequence[Item]) -> None:
        """Run the calls of a response."""
        if not items:
            return
        task = asyncio.ensure_future(self._answer(response_id, items))
        self._running.add(task)

    async def _answer(self, response_id: str, items: Sequence[Item]) -> None:
        try:
            await self._channel.ask(self._number, "calls", response_id, list(items))
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._running.discard(task)
            self.moved()

    async def end(self) -> None:
        """Wait for nothing any more."""
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
