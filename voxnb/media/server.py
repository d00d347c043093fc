"""The inbound media server: telephone services connect to it, and every stream of theirs is a `Call`."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import math
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from numbers import Real
from pathlib import Path
from typing import Any, Final, Self

from voxnb.errors import BridgeError, ParameterError
from voxnb.events import Event, EventNamespace
from voxnb.media.call import Call
from voxnb.media.door import Door, Plan
from voxnb.media.far_door import FarDoor
from voxnb.media.guard import Limits, Signature, is_loopback
from voxnb.runtime import bridge as bridges
from voxnb.runtime import config, loop
from voxnb.runtime.dispatch import Dispatcher
from voxnb.store.ids import new_id

START_S: Final = 10.0
"""How long the server may take to listen."""

BACKLOG: Final = 64
"""Calls that wait for somebody to ask for them."""


VALID_S: Final = 300.0
"""How long an address for one call is good."""

_ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/\s]+/?", re.IGNORECASE)


class ServerEvents(EventNamespace):
    """What a media server tells."""

    Call = "MediaServer.Call"


class MediaServer:
    """A WebSocket server for media streams in Voximplant's and Twilio's messages.

    ::

        with MediaServer() as server:

            @server.on_call
            def answer(call):
                send_media_between(call, client)

    or ``for call in server:``, or ``async for call in server:``; both end when the server is closed, and raise
    `BridgeError` where its bridge process ends by itself. It listens as soon as it is made, on this machine alone. On
    another address each call needs a token: `one_time_url` makes an address that is good for one handshake.

    Args:
        host: address to listen on; anything but this machine's own exposes the server.
        port: 0 for a free one.
        origins: of web pages that may connect; a page that is not named is refused everywhere.
        signature: checks each handshake's headers and path (`voxnb.media.guard.twilio_signature`).
        certificate: path of a TLS certificate chain (PEM); then the addresses are ``wss``.
        certificate_key: path of its key; None: it is in the same file.
        limits: what a peer may do.
        bridge: where calls live: ``loop``, on a thread of this process, or ``process``, in the bridge process, where a
            busy cell cannot hold them up. Calls are answered here all the same: one that comes while a cell holds the
            interpreter is accepted at once and hears nothing until the cell lets go. What is said before a call is
            connected with anybody is heard by nobody and counted: ``call.statistics()["unheard_ms"]``.

    Raises:
        BridgeError: the bridge process cannot be started.
        NotSupportedError: the websockets package is missing.
        AudioError: it cannot listen there, or the certificate cannot be read.
        ParameterError: a parameter makes no sense.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        origins: Iterable[str] = (),
        signature: Signature | None = None,
        certificate: str | Path | None = None,
        certificate_key: str | Path | None = None,
        limits: Limits | None = None,
        bridge: str = "loop",
    ) -> None:
        if isinstance(origins, str) or not isinstance(origins, Iterable):
            raise ParameterError(f"origins is a list of origins, not {origins!r}", name="origins")
        origins = tuple(origins)
        for origin in origins:
            if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
                raise ParameterError(
                    f"{origin!r} is no origin, which is a scheme and a host such as 'https://example.com'",
                    name="origins",
                )
        if not isinstance(host, str) or not host:
            raise ParameterError(f"host is {host!r}, expected an address such as '127.0.0.1' or '0.0.0.0'", name="host")
        if isinstance(port, bool) or not isinstance(port, int):
            raise ParameterError(f"port is {port!r}, expected a whole number, 0 for a free one", name="port")
        if signature is not None and not callable(signature):
            raise ParameterError(
                f"signature is {signature!r}, expected a TwilioSignature or a function", name="signature"
            )
        if limits is not None and not isinstance(limits, Limits):
            raise ParameterError(f"limits is {limits!r}, expected voxnb.media.Limits(…)", name="limits")
        self.host = host
        plan = Plan(
            host=host,
            origins=origins,
            needs_token=not is_loopback(host),
            certificate=None if certificate is None else str(certificate),
            certificate_key=None if certificate_key is None else str(certificate_key),
            limits=limits or Limits(),
        )
        self._secure = certificate is not None
        self._waiting: deque[Call] = deque(maxlen=BACKLOG)
        self._askers: list[_Asker] = []
        self._answering = False
        self._lock = threading.Lock()
        self._dispatcher = Dispatcher(client=self, client_id=new_id("server"), known=[ServerEvents])
        self._closed = False
        self._error: BridgeError | None = None
        self._door: Door | FarDoor = (
            FarDoor(plan, arrived=self._arrived, gone=self._gone, signature=signature)
            if bridges.is_asked(bridge)
            else Door(plan, arrived=self._arrived, signature=signature)
        )
        self.port = loop.wait(loop.submit(self._door.listen(port)), timeout_s=START_S)
        self._forget_exit = loop.at_exit(self._shut)

    # -- addresses ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Its address, without a token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self._secure else 'ws'}://{host}:{self.port}"

    def one_time_url(self, path: str = "/", /, *, valid_s: float = VALID_S) -> str:
        """An address with a token that is good for one handshake.

        Args:
            path: what comes before the token; a proxy's public name is put before it by the caller.
            valid_s: how long it is good.

        Raises:
            ParameterError: the path does not begin with ``/``, or has a ``#``; a time that is none.
        """
        if not isinstance(path, str) or not path.startswith("/") or "#" in path:
            raise ParameterError(f"path is {path!r}, expected one that begins with '/', without '#'", name="path")
        given: Any = valid_s
        if not isinstance(given, Real) or not math.isfinite(float(given)):
            raise ParameterError(f"valid_s is {valid_s!r}, expected seconds", name="valid_s")
        token = self._door.token(valid_s)
        return f"{self.url}{path}{'&' if '?' in path else '?'}token={token}"

    @property
    def limits(self) -> Limits:
        """What a peer may do."""
        return self._door.plan.limits

    @property
    def needs_token(self) -> bool:
        """Whether each call needs an address of its own."""
        return self._door.plan.needs_token

    # -- calls --------------------------------------------------------------------------------

    def on_call(self, function: Callable[[Call], Any], /) -> Callable[[Call], Any]:
        """Call a function, or start an ``async def``, with each new `Call`; usable as a decorator.

        It runs in the server's listener thread, one call after the other; an ``async def`` may wait without holding
        up the next one.
        """
        if not callable(function):
            raise TypeError(f"on_call takes a function, not {function!r}")

        @functools.wraps(function)
        def answer(event: Event) -> Any:
            return function(event.payload["call"])

        @functools.wraps(function)
        async def answer_async(event: Event) -> None:
            await function(event.payload["call"])

        with self._lock:
            self._dispatcher.add(ServerEvents.Call, answer_async if inspect.iscoroutinefunction(function) else answer)
            self._answering = True
            for call in self._waiting:  # that came before anybody answered
                if not call.closed:
                    self._tell(call)
            self._waiting.clear()
        return function

    def __iter__(self) -> Iterator[Call]:
        asker = self._ask()
        try:
            while (call := asker.next()) is not None:
                yield call
        finally:
            self._ask_no_more(asker)

    async def __aiter__(self) -> AsyncIterator[Call]:
        asker = self._ask()
        try:
            while (call := await asker.next_async()) is not None:
                yield call
        finally:
            self._ask_no_more(asker)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that go on now."""
        return self._door.calls

    def _ask(self) -> _Asker:
        with self._lock:
            asker = _Asker(self._waiting)
            self._waiting.clear()
            if self._closed or self._error is not None:
                asker.close(None if self._closed else self._error)
            self._askers.append(asker)
        return asker

    def _ask_no_more(self, asker: _Asker) -> None:
        with self._lock:
            self._askers.remove(asker)

    # -- life ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End all calls and stop listening, within a quarter of a second; closing twice does no harm."""
        self._forget_exit()
        if loop.on_loop():
            loop.submit(self._shut())
        else:
            loop.wait(loop.submit(self._shut()), timeout_s=START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._error is not None else f"{len(self.calls)} calls"
        return f"<MediaServer {self.url}, {state}>"

    def statistics(self) -> dict[str, int]:
        """What came and was refused since it was made, and what goes on now: counts.

        ``calls`` and ``sockets`` that go on, ``calls_taken``, ``refused`` handshakes and calls; ``messages``, of them
        ``broken`` (no message of the protocol, a sound that is no base64, a stream that cannot be taken), ``binary``, and
        ``homeless`` (of a stream that has not begun); ``unsent`` messages that a peer did not take in time.
        """
        return self._door.statistics()

    # -- on the media loop --------------------------------------------------------------------

    def _arrived(self, call: Call) -> None:
        """A call has begun."""
        with self._lock:
            for asker in self._askers:
                asker.add(call)
            if not self._askers and not self._answering:
                self._waiting.append(call)
            self._tell(call)

    def _tell(self, call: Call) -> None:
        # After the message that began it was worked off, so that who answers finds a whole call.
        self._dispatcher.emit(ServerEvents.Call.value, {"call": call}, context=None)

    def _gone(self, error: BridgeError) -> None:
        """The bridge process has ended by itself: who waits for calls, or only for a function to be called, is told."""
        with self._lock:
            self._error = error
            for asker in self._askers:
                asker.close(error)
        config.report(f"the media server {self.url} is gone: {error}")

    async def _shut(self) -> None:
        self._closed = True
        await self._door.shut()
        with self._lock:
            for asker in self._askers:
                asker.close()
        self._dispatcher.close()


class _Asker:
    """One loop over the server's calls."""

    def __init__(self, waiting: Iterable[Call]) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(call for call in waiting if not call.closed)
        self._waiter: concurrent.futures.Future[None] | None = None
        self._closed = False
        self._error: BridgeError | None = None

    def add(self, call: Call) -> None:
        """A call began."""
        with self._lock:
            self._calls.append(call)
        self._wake()

    def close(self, error: BridgeError | None = None) -> None:
        """No more calls will come; with an error, what came is taken and then it is raised."""
        with self._lock:
            self._closed, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)

    def _take(self) -> tuple[Call | None, concurrent.futures.Future[None] | None]:
        with self._lock:
            if self._calls:
                return self._calls.popleft(), None
            if self._error is not None:
                raise self._error
            if self._closed:
                return None, None
            self._waiter = concurrent.futures.Future()
            self._waiter.set_running_or_notify_cancel()
            return None, self._waiter

    def next(self) -> Call | None:
        """The next call; None at the end."""
        while True:
            call, waiter = self._take()
            if waiter is None:
                return call
            loop.wait(waiter)

    async def next_async(self) -> Call | None:
        """The same, from any event loop."""
        while True:
            call, waiter = self._take()
            if waiter is None:
                return call
            await loop.wait_async(waiter)
