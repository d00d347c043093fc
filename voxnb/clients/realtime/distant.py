"""A realtime session that lives in the bridge process, seen from the kernel.

The session's state, its socket, the paced sound and the decision to interrupt are over there (`served.Served`); the
listeners, the tools and the conversation in the store are here. What happens there comes here in order: events for
listeners, and notes for the scribe, the tools and the numbers.

Rule 1: nothing over there waits for the kernel, but a first connection for what its conversation had said, a key that is
a function's, and a reconnection for the embedded voice, which the kernel starts again. A session that is to be replaced asks
for its conversation as long as it has time. A kernel that is busy hears of it all when it has time.
Rule 2: how much was heard, and the numbers, are told as it sounds: a process that is killed leaves turns cut where they
were heard, rows of its streams, and the last numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from voxnb.audio.formats import AudioFormat
from voxnb.clients.realtime.link import Ended
from voxnb.errors import BridgeError
from voxnb.events import WebSocketEvents
from voxnb.media.crossing import Far, Near
from voxnb.params import RealtimeParameters
from voxnb.runtime import bridge, loop
from voxnb.runtime.stats import CallFacts
from voxnb.store.media import MediaRow
from voxnb.wire.realtime.item import Item
from voxnb.wire.realtime.names import session_of
from voxnb.wire.realtime.policy import SessionPolicy
from voxnb.wire.realtime.response import Response
from voxnb.wire.realtime.session import RealtimeSession

if TYPE_CHECKING:
    from voxnb.clients.realtime.client import RealtimeAPIClient

SERVED: Final = "voxnb.clients.realtime.served:Served"

ASK_S: Final = 1.0
"""How long numbers are waited for; then the last known ones are told."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream of a session in the bridge process, as it was when it was asked for.

    Attributes:
        told: what `statistics` returns.
    """

    told: Mapping[str, Any]

    @property
    def tag(self) -> str:
        """Its name among several, or ""."""
        return str(self.told["tag"])

    def statistics(self) -> dict[str, Any]:
        """What went through it, as `voxnb.media.stream.Stream.statistics`."""
        return dict(self.told)


class Distant:
    """The keeper's place in a client whose session is in the bridge process.

    Args:
        client: whose; it is told what comes and what happens.
        parameters: the client's.
        policy: of its session.

    Attributes:
        state: what is known of the current session: its id and configuration.
        link: whether there is a current session, else None.
        over, sessions, reconnects: as `Keeper` has them.
        tools: of the session's settings.
        error: how the process ended, where it ended by itself.
    """

    def __init__(self, client: RealtimeAPIClient, parameters: RealtimeParameters, policy: SessionPolicy) -> None:
        self.state = RealtimeSession()
        self.link: bool | None = None
        self.over: Ended | None = None
        self.sessions = self.reconnects = 0
        self.tools: Any = None
        self.error: BridgeError | None = None
        self._client = client
        self._heard: dict[str, float] = {}
        self._under_way: tuple[Response, list[Item]] | None = None
        self._numbers: dict[str, Any] = {"streams": (), "queues": ()}
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._sounding: Sequence[MediaRow] = ()
        self._bridge = bridge.shared()
        self._channel = self._bridge.channel
        near = Near.of(self._bridge)
        self._number = self._bridge.make(self, SERVED, _plan(client, parameters, policy))
        client._far = Far(near, self._number)  # noqa: SLF001 - it is this client's shell from here on

    @classmethod
    def started(cls, client: RealtimeAPIClient, parameters: RealtimeParameters, policy: SessionPolicy) -> Distant:
        """The same, from any thread.

        Raises:
            BridgeError: the process cannot be started.
            NotSupportedError: not on this system.
        """

        async def start() -> Distant:
            return cls(client, parameters, policy)

        return cls(client, parameters, policy) if loop.on_loop() else loop.wait(loop.submit(start()))

    @property
    def heard(self) -> Mapping[str, float]:
        """Item → milliseconds heard of what still sounds, as it was last told."""
        return dict(self._heard)

    # -- what the client asks ---------------------------------------------------------------------

    async def connect(self) -> None:
        """See `Keeper.connect`."""
        trace = self._client.trace
        await self._channel.ask(self._number, "connect", None if trace is None else str(trace.path))

    async def replace(self, reason: str) -> bool:
        """See `Keeper.replace`."""
        return bool(await self._channel.ask(self._number, "replace", reason))

    def put(self, command: dict[str, Any]) -> None:
        """See `Keeper.put`."""
        self._channel.do(self._number, "put", command)

    def go_on(self, response_id: str, command: dict[str, Any]) -> None:
        """Ask for the next response, unless the model has spoken since that one."""
        self._channel.do(self._number, "go_on", response_id, command)

    def moved(self) -> None:
        """Something was written: a session that waits for that looks again."""
        self._channel.do(self._number, "moved")

    async def close(self, *, drain_s: float) -> None:
        """End the session, and the process with its last one."""
        del drain_s  # over there, the same
        if self.error is not None:
            return
        try:
            self._numbers, self._rows = await self._channel.ask(self._number, "finish")
        except BridgeError:  # it went first: told by `lost`
            return
        self.link = None
        await self._bridge.release(self._number)

    def numbers(self) -> dict[str, Any]:
        """What `RealtimeStatistics` has of its own; the last known where the process does not answer."""
        told = self._asked("numbers")
        if told is not None:
            self._numbers = told
        queues = [*self._numbers["queues"], {"queue": "to the bridge process", **self._channel.facts()}]
        return {**self._numbers, "queues": queues}

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of the waterfall, likewise."""
        told = self._asked("rows")
        if told is not None:
            self._rows = told
        return self._rows

    def streams(self) -> tuple[StreamView, ...]:
        """Its streams, likewise."""
        is_on = self._is_there and self.over is None
        return tuple(StreamView(told) for told in self.numbers()["streams"]) if is_on else ()

    @property
    def _is_there(self) -> bool:
        """Whether the session's other half is there: neither has it ended nor its process."""
        return self.error is None and self._number in self._channel.objects

    def _asked(self, method: str) -> Any:
        if loop.on_loop() or not self._is_there:
            return None
        if not self.sessions:  # the process may still be starting: whoever looks on need not wait for that
            return None
        try:
            return loop.wait(loop.submit(self._channel.ask(self._number, method)), timeout_s=ASK_S)
        except (BridgeError, TimeoutError):
            return None

    # -- what comes from over there ---------------------------------------------------------------

    def emit(self, name: str, payload: dict[str, Any]) -> None:
        """An event for the client's listeners."""
        self._client.dispatcher.emit(name, payload, context=None)
        if name == WebSocketEvents.Close.value:
            self._client.nothing_more_comes()

    def told(self, facts: Mapping[str, Any]) -> None:
        """What the session is now."""
        self.state.id, self.state.config = facts["id"], facts["config"]
        self.link, self.sessions, self.reconnects = facts["link"], facts["sessions"], facts["reconnects"]
        self.tools = facts["tools"]
        if facts["over"] is not None:
            self.over = facts["over"]
            self._client.media_over()

    def counted(self, facts: CallFacts) -> None:
        """A response has ended."""
        self._client.counters.add(facts)

    def known(self, numbers: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """The numbers and the rows of the waterfall, told from time to time."""
        self._numbers, self._rows = numbers, rows

    def sounding(self, rows: Sequence[MediaRow]) -> None:
        """The streams that go on, as the rows that they will be."""
        self._sounding = rows

    def hearing(self, heard_ms: Mapping[str, float], under_way: tuple[Response, list[Item]] | None) -> None:
        """How much of what sounds now was heard so far, and the answer that is still being made."""
        self._heard, self._under_way = dict(heard_ms), under_way

    def sound(self, direction: str, key: str, data: bytes, form: AudioFormat) -> None:
        """Sound that somebody here watches."""
        self._client._show_sound(direction, key, data, form)  # noqa: SLF001 - as if it were heard here

    def note(self, method: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Something for the scribe."""
        if method == "answered":
            self._under_way = None
        if self._client.scribe is not None:
            getattr(self._client.scribe, method)(*args, **named)

    def keep_media(self, row: MediaRow) -> None:
        """A stream has ended."""
        if self._client.memory is not None:
            self._client.memory.keep_media(row)

    def heard_user(self) -> None:
        """The user spoke."""
        self._client.tools_here.heard_user()

    async def calls(self, response_id: str, items: Sequence[Item]) -> None:
        """The model calls tools; returns when they have run."""
        self._client.tools_here.answer(response_id, items)
        await self._client.tools_here.idle()

    async def key(self) -> str:
        """The key of the next connection."""
        return await self._client.transport.key()

    async def far_end_is_up(self) -> None:
        """Wait for an embedded voice that is starting again."""
        await self._client.far_end_is_up()

    async def so_far(self, shorten: bool) -> tuple[str, list[dict[str, Any]], bool]:  # noqa: FBT001 - off the wire
        """The conversation as a new session is told it."""
        assert self._client.memory is not None
        return await self._client.memory.so_far(shorten=shorten)

    async def written(self, timeout_s: float) -> bool:
        """Wait until what was said is written."""
        assert self._client.scribe is not None
        return await self._client.scribe.written(timeout_s=timeout_s)

    def lost(self, error: BridgeError) -> None:
        """The process ended by itself: the session is over, and what was heard is known."""
        self.error, self.link = error, None
        self.over = Ended(1006, error.message.partition("\n")[0], was_clean=False)
        if self._client.scribe is not None:
            for item_id, heard_ms in self._heard.items():
                self._client.scribe.heard(Item(item_id), heard_ms)
            if self._under_way is not None:
                self._client.scribe.answered(*self._under_way, None)
        for row in self._sounding:
            self.keep_media(row)
        self._client.bridge_lost(error, self.over)


def _plan(client: RealtimeAPIClient, parameters: RealtimeParameters, policy: SessionPolicy) -> dict[str, Any]:
    """What the other side needs to know to serve a client; the key is among it, and stays on the socket pair."""
    endpoint = client.endpoint
    asks_key = callable(endpoint.api_key)
    return {
        "endpoint": replace(
            endpoint,
            api_key="" if asks_key else endpoint.api_key,
            headers=dict(endpoint.headers),
            query=dict(endpoint.query),
        ),
        "asks_key": asks_key,
        "kind": parameters.type,
        "model": client._model,  # noqa: SLF001 - it may be another than was asked for
        "host": client.host,
        "policy": policy,
        "connect_s": parameters.timeout_s,
        "max_retries": parameters.max_retries,
        "barge_in": parameters.barge_in,
        "session": session_of(parameters.session),
        "socket_id": client.web_socket_id(),
        "private": parameters.privacy,
        "embedded": client.served is not None,
        "remembers": parameters.store_context,
        "prices": client.prices,
    }
