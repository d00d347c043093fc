"""`RealtimeAPIClient`: VoxEngine's realtime client, over a WebSocket of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, Self

from voxnb.clients import base
from voxnb.clients.address import Endpoint
from voxnb.clients.base import Client
from voxnb.clients.ends import error_payload
from voxnb.clients.handle import Handle
from voxnb.clients.realtime.commands import RealtimeCommands
from voxnb.clients.realtime.counting import RealtimeStatistics, ResponseClock, taken
from voxnb.clients.realtime.link import Ended, Link
from voxnb.clients.realtime.socket import CLOSE_S, OPEN_S, Socket, realtime_headers, realtime_url
from voxnb.clients.refusal import payload_refusal, wait_before_retry
from voxnb.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    NotSupportedError,
    ParameterError,
    RemoteProtocolError,
)
from voxnb.events import WIRE_TYPES, RealtimeAPIEvents, WebSocketEvents
from voxnb.params import DEFAULT_REALTIME_URL, ChatParameters, RealtimeParameters, defaults, takes
from voxnb.runtime import loop
from voxnb.wire.realtime.session import RealtimeSession, Received

DRAIN_S: Final = 0.05
"""How long close() lets what waits go out; with the close itself it is at most a quarter of a second."""

NOT_HERE: Final = (
    "store_context", "conversation", "store", "policy", "summary_model", "summary_prompt", "summary_request",
    "summary_client", "openai_client", "tools", "run_tools",
)  # fmt: skip
"""Parameters of the text clients that a realtime client does not take."""

NAMES: Final[Mapping[str, str]] = {kind: str(event.value) for event, kind in WIRE_TYPES[RealtimeAPIEvents].items()}
UNTOLD: Final = frozenset({"response.output_audio.delta"})
"""Sound goes to the media units, not to listeners: VoxEngine has no constant for it."""

UNKNOWN: Final = RealtimeAPIEvents.Unknown.value


class RealtimeAPIClient(RealtimeCommands, Client):
    """A realtime session: speech or text in, speech or text out, every server event as an event here.

    Making one does nothing yet; `connect` (or ``with client:``) begins the session. Parameters in VoxEngine's spelling or
    Python's, as keywords or one dict; see `RealtimeParameters`.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
    """

    EVENTS = RealtimeAPIEvents
    CONNECTOR = "/openai/realtime"
    STICKY = ("ConnectorInformation", "SessionCreated", "HTTPResponse", "WebSocketError")
    PUBLIC = (
        "connect",
        "connected",
        "conversation_item_create",
        "conversation_item_delete",
        "conversation_item_retrieve",
        "conversation_item_truncate",
        "input_audio_buffer_clear",
        "input_audio_buffer_commit",
        "response_cancel",
        "response_create",
        "session",
        "session_update",
    )

    @takes(RealtimeParameters)
    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **given: Any) -> None:
        p = RealtimeParameters.parse({**(parameters or {}), **given})
        usual = defaults(RealtimeParameters)
        for name in NOT_HERE:
            if getattr(p, name) != usual[name]:
                raise ParameterError(f"{name} is not for realtime clients; leave it out", name=name)
        super().__init__(p)
        self._kind = p.type
        self._model = p.model
        self._state = RealtimeSession()
        self._link: Link | None = None
        self._reading: asyncio.Task[Ended] | None = None
        self._connecting: Future[Self] | None = None
        self._connect_task: asyncio.Task[Any] | None = None
        self._over: Ended | None = None
        self._refusal: APIStatusError | None = None
        self._clocks: dict[str, ResponseClock] = {}
        self._sums = {"sessions": 0, "messages_sent": 0, "messages_received": 0, "problems": 0, "refused_events": 0}
        first = {**({"instructions": p.instructions} if p.instructions else {}), **p.session}
        if first:
            self.session_update(session=first)
        self._open()

    def _resolve(self, parameters: ChatParameters) -> tuple[Endpoint, Any]:
        if parameters.base_url == "local":
            raise NotSupportedError(
                "there is no embedded realtime server in this version; voxnb.testing.server(…, realtime=True) is one "
                "with scripted replies",
                name='base_url="local"',
                instead="voxnb.testing.server",
            )
        if parameters.base_url == DEFAULT_REALTIME_URL:
            parameters = replace(parameters, base_url=None)
        return super()._resolve(parameters)

    def _open(self) -> None:
        self._tell_created()

    # -- the connection -----------------------------------------------------------------------

    def connect(self) -> Handle[Self]:
        """Begin the session; a handle that is done when the session is there.

        Block with ``.result()``, ``await`` it, or write ``with client:``. While it runs, and once it is done, a second
        call is the same; after a failure it tries again.

        Raises:
            ClientClosedError: after close().

        The handle raises:
            AuthenticationError: the key was refused.
            APIError: nothing listens there, no answer in time, or another refusal.
            NotSupportedError: the websockets package is missing.
        """
        with self._lock:
            self._check_open()
            found = self._connecting
            if found is None or (found.done() and found.exception() is not None):
                found = self._connecting = loop.submit(self._connect())
        return Handle(found, name="connect")

    @property
    def connected(self) -> bool:
        """Whether the session is there now."""
        return self._link is not None and not self._closing

    @property
    def session(self) -> Mapping[str, Any]:
        """The session as the server last told it; empty before it is there."""
        return dict(self._state.config)

    async def _connect(self) -> Self:
        self._connect_task = asyncio.current_task()
        try:
            return await self._try_to_connect()
        except asyncio.CancelledError:
            if self._closing:
                raise ClientClosedError("the client was closed while it connected") from None
            raise

    async def _try_to_connect(self) -> Self:
        attempt = 0
        while True:
            try:
                await self._begin()
            except APIError as error:
                wait_s = wait_before_retry(error, attempt=attempt + 1) if attempt < self.max_retries else None
                if wait_s is None:
                    error.retries = attempt
                    self._tell_failure(error)
                    raise
                attempt += 1
            else:
                return self
            await asyncio.sleep(wait_s)

    async def _begin(self) -> None:
        """Open a socket and wait for the session."""
        endpoint, timeout_s = self.endpoint, self._parameters.timeout_s or OPEN_S
        self._refusal = None
        try:
            async with asyncio.timeout(timeout_s):
                key = await self.transport.key() if endpoint.api_key is not None else ""
                socket = await Socket.open(
                    realtime_url(endpoint, kind=self._kind, model=self._model),
                    headers=realtime_headers(endpoint, key=key),
                    endpoint=endpoint,
                    model=self._model,
                    timeout_s=timeout_s,
                )
                await self._greet(socket)
        except TimeoutError:
            raise APITimeoutError(
                f"{endpoint.host} took longer than {timeout_s:g} s to begin a session; check base_url, or raise timeout_s",
                host=endpoint.host,
            ) from None

    async def _greet(self, socket: Socket) -> None:
        self._tell_open()
        self._sums["sessions"] += 1
        link = Link(socket, session=self._state, on_received=self._received, on_wrong=self._wrong, trace=self.trace)
        running = asyncio.ensure_future(link.run())
        try:
            await self._ready(link, running)
        except BaseException:
            await socket.close()
            running.cancel()
            await asyncio.wait({running})
            raise
        self._link, self._reading = link, running
        running.add_done_callback(lambda task: self._lost(link, task))

    async def _ready(self, link: Link, running: asyncio.Task[Ended]) -> None:
        both: set[asyncio.Future[Any]] = {running, link.ready}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not link.ready.done():
            raise self._not_begun(running.result())
        link.ready.result()

    def _not_begun(self, ended: Ended) -> APIError:
        if self._refusal is not None:
            return self._refusal
        host, said = self.endpoint.host, f": {ended.reason}" if ended.reason else ""
        return APIConnectionError(
            f"{host} closed the connection before a session began (code {ended.code}{said})",
            host=host,
            passing=ended.code != 1008,
        )

    def _lost(self, link: Link, task: asyncio.Task[Ended]) -> None:
        """The connection ended, and nobody here asked for it."""
        if task.cancelled() or self._closing:
            return
        fault = task.exception()
        ended = task.result() if fault is None else Ended(1006, f"voxnb failed with {fault!r}", was_clean=False)
        self._count(link)
        self._link, self._over = None, ended
        said = f": {ended.reason}" if ended.reason else ""
        message = f"{self.endpoint.host} ended the connection (code {ended.code}{said})"
        self._emit(RealtimeAPIEvents.WebSocketError, {"type": "closed", "message": message, "code": ended.code})
        self._tell_end(ended)

    def _tell_end(self, ended: Ended) -> None:
        facts = {"code": ended.code, "reason": ended.reason, "wasClean": ended.was_clean}
        self.dispatcher.emit(WebSocketEvents.Close.value, {"websocket": self._socket_id, **facts}, context=None)

    def _tell_failure(self, error: APIError) -> None:
        payload = error_payload(error)
        if isinstance(error, APIStatusError):
            self._emit(RealtimeAPIEvents.HTTPResponse, {**payload, "body": error.body})
        self._emit(RealtimeAPIEvents.WebSocketError, payload)

    async def _stop(self) -> dict[str, Any] | None:
        connecting, link = self._connect_task, self._link
        if connecting is not None and not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
            link = self._link
        if link is not None:
            await link.close(drain_s=DRAIN_S, within_s=CLOSE_S)
            self._count(link)
            self._link = None
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait({self._reading})
        return None if self._over is not None else dict(base.NORMAL_CLOSE)

    def __enter__(self) -> Self:
        try:
            return self.connect().result()
        except BaseException:
            self.close()
            raise

    async def __aenter__(self) -> Self:
        try:
            return await self.connect()
        except BaseException:
            await loop.wait_async(self._begin_close())
            raise

    # -- what goes out ------------------------------------------------------------------------

    def _command(self, command: dict[str, Any]) -> None:
        self._check_open()
        over = self._over
        if over is not None:
            raise ClientClosedError(f"the connection has ended (code {over.code}); make a new client")
        self._do(self._put, command)

    def _do(self, work: Callable[..., None], *args: Any) -> None:
        """Run something on the background loop: now, if this is it."""
        if loop.on_loop():
            work(*args)
        else:
            loop.call_soon(work, *args)

    def _put(self, command: dict[str, Any]) -> None:
        if command["type"] == "session.update":
            command["session"].setdefault("type", self._kind.value)
        send = self._state.put(command)
        if self._link is not None:
            self._link.send(send)

    # -- what comes ---------------------------------------------------------------------------

    def _received(self, link: Link, received: Received) -> None:
        self._sums["problems"] += len(received.problems)
        for event in received.events:
            kind = event["type"]
            self._look(link, kind, event)
            if kind not in UNTOLD:
                self.dispatcher.emit(NAMES.get(kind, UNKNOWN), event, context=None)
        if link.ready.done():
            return
        if link.session.ready:
            link.ready.set_result(None)
        elif received.severity is not None:
            self._refusal = payload_refusal(received.events[0], endpoint=self.endpoint, model=self._model)
            if self._refusal is not None and received.severity == "fatal":
                link.ready.set_exception(self._refusal)

    def _wrong(self, link: Link, error: RemoteProtocolError, event: Any) -> None:
        """What came out of order or shape is told and passed on; the session goes on."""
        del link
        self._sums["refused_events"] += 1
        name = NAMES.get(error.event_type, UNKNOWN)
        payload = dict(event) if isinstance(event, Mapping) else {"message": str(event)[:1000]}
        self.dispatcher.emit(name, payload, context=None)
        facts = {"type": "RemoteProtocolError", "message": str(error), "event_type": error.event_type}
        self._emit(RealtimeAPIEvents.WebSocketError, facts)

    def _look(self, link: Link, kind: str, event: Mapping[str, Any]) -> None:
        """Take the time of responses."""
        socket = link.socket
        if kind == "response.created":
            self._clocks[event["response"]["id"]] = ResponseClock(
                time.time(), time.monotonic(), socket.bytes_sent, socket.bytes_received
            )
        elif kind == "response.done":
            clock = self._clocks.pop(event["response"]["id"], None)
            response = self._state.responses.get(event["response"]["id"])
            if clock is not None and response is not None:
                sizes = {"bytes_sent": socket.bytes_sent, "bytes_received": socket.bytes_received}
                self.counters.add(clock.ended(response, model=self._model, **sizes))
        elif kind.startswith("response."):
            clock = self._clocks.get(event.get("response_id", ""))
            if clock is not None:
                clock.heard(brings=kind.endswith(".delta"))

    def _emit(self, event: RealtimeAPIEvents, payload: Mapping[str, Any]) -> None:
        self.emit(event.value, payload, context=None)

    # -- numbers ------------------------------------------------------------------------------

    def _count(self, link: Link) -> None:
        self._sums["messages_sent"] += link.outbox.sent
        self._sums["messages_received"] += link.messages

    def statistics(self) -> RealtimeStatistics:
        """What this client has done so far; each response is a call of ``.df``."""
        link, sums = self._link, dict(self._sums)
        own: dict[str, float] = {"waiting": self._state.waiting}
        if link is not None:
            sums["messages_sent"] += link.outbox.sent
            sums["messages_received"] += link.messages
            own["waiting"] += len(link.outbox)
            own |= {"deepest": link.outbox.deepest, "audio_dropped_ms": link.outbox.dropped_ms}
        return taken(self.counters, **sums, **own)

    def __repr__(self) -> str:
        what = self._model if self._kind == "realtime" else "transcription"
        if self._closing:
            state = "closed"
        elif self._over is not None:
            state = f"ended by the server (code {self._over.code})"
        elif self._link is not None:
            state = f"session {self._state.id}" if self._state.id else "connected"
        else:
            state = "not connected"
        return f"<{type(self).__name__} {what} at {self.host}, {state}>"
