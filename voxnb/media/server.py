"""The inbound media server: telephone services connect to it, and every stream of theirs is a `Call`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import logging
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

from voxnb.audio.media import Start
from voxnb.errors import AudioError, NotSupportedError, ParameterError
from voxnb.events import Event, EventNamespace
from voxnb.media.call import Call
from voxnb.media.clock import LOOP
from voxnb.media.connection import Connection
from voxnb.media.guard import Guard, Limits, Signature, is_loopback
from voxnb.media.line import Line
from voxnb.runtime import loop
from voxnb.runtime.dispatch import Dispatcher
from voxnb.store.ids import new_id

OPEN_S: Final = 5.0
"""How long a handshake may take."""

CLOSE_S: Final = 0.15
"""How long a peer may take to answer a close."""

START_S: Final = 10.0
"""How long the server may take to listen."""

BACKLOG: Final = 64
"""Calls that wait for somebody to ask for them."""

_SILENT: Final = logging.Logger("voxnb.media")  # noqa: LOG001 - addresses with tokens are nobody's log
_SILENT.disabled = True


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

    or ``for call in server:``, or ``async for call in server:``; both end when the server is closed. It listens as
    soon as it is made, on this machine alone. On another address each call needs a token: `one_time_url` makes an
    address that is good for one handshake.

    Args:
        host: address to listen on; anything but this machine's own exposes the server.
        port: 0 for a free one.
        origins: of web pages that may connect; a page that is not named is refused everywhere.
        signature: checks each handshake's headers and path (`voxnb.media.guard.twilio_signature`).
        certificate: path of a TLS certificate chain (PEM); then the addresses are ``wss``.
        certificate_key: path of its key; None: it is in the same file.
        limits: what a peer may do.

    Raises:
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
    ) -> None:
        if isinstance(origins, str):
            raise ParameterError(f"origins is a list of origins, not {origins!r}", name="origins")
        self.host = host
        self.limits = limits or Limits()
        self.guard = Guard(origins=origins, needs_token=not is_loopback(host), signature=signature)
        self.calls_taken = 0
        self.refused = 0
        self._tls = _tls(certificate, certificate_key)
        self._connections: set[Connection] = set()
        self._waiting: deque[Call] = deque(maxlen=BACKLOG)
        self._askers: list[_Asker] = []
        self._answering = False
        self._lock = threading.Lock()
        self._dispatcher = Dispatcher(client=self, client_id=new_id("server"), known=[ServerEvents])
        self._server: Any = None
        self._closed = False
        self.port = loop.wait(loop.submit(self._listen(port)), timeout_s=START_S)
        self._forget_exit = loop.at_exit(self._shut)

    # -- addresses ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Its address, without a token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self._tls else 'ws'}://{host}:{self.port}"

    def one_time_url(self, path: str = "/", /, *, valid_s: float = 300) -> str:
        """An address with a token that is good for one handshake.

        Args:
            path: what comes before the token; a proxy's public name is put before it by the caller.
            valid_s: how long it is good.
        """
        token = self.guard.token(valid_s=valid_s, now_s=LOOP.now())
        return f"{self.url}{path}{'&' if '?' in path else '?'}token={token}"

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

        self._dispatcher.add(ServerEvents.Call, answer_async if inspect.iscoroutinefunction(function) else answer)
        self._answering = True
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
        return tuple(call for connection in tuple(self._connections) for call in connection.line.calls.values())

    def _ask(self) -> _Asker:
        with self._lock:
            asker = _Asker(self._waiting)
            self._waiting.clear()
            if self._closed:
                asker.close()
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
        state = "closed" if self._closed else f"{len(self.calls)} calls"
        return f"<MediaServer {self.url}, {state}>"

    def statistics(self) -> dict[str, int]:
        """What came and was refused since it was made, and what goes on now: counts."""
        return {
            "calls": len(self.calls),
            "sockets": len(self._connections),
            "calls_taken": self.calls_taken,
            "refused": self.refused,
        }

    # -- on the media loop --------------------------------------------------------------------

    async def _listen(self, port: int) -> int:
        try:
            from websockets.asyncio.server import serve
        except ImportError as error:
            raise NotSupportedError(
                "a media server needs the websockets package; install it with: pip install 'voxnb[realtime]'",
                name="MediaServer",
                instead="pip install 'voxnb[realtime]'",
            ) from error
        try:
            self._server = await serve(
                self._talk,
                self.host,
                port,
                process_request=self._check,
                compression=None,
                max_size=self.limits.message_bytes,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=20,
                ping_timeout=60,
                ssl=self._tls,
                logger=_SILENT,
            )
        except (OSError, OverflowError) as error:
            raise AudioError(f"cannot listen on {self.host}:{port}: {error}", host=self.host, port=port) from error
        return int(self._server.sockets[0].getsockname()[1])

    def _check(self, connection: Any, request: Any) -> Any:
        """Let a handshake in, or answer it."""
        refusal = self.guard.refuses(request.path, request.headers, now_s=LOOP.now())
        if refusal is not None:
            self.refused += 1
            return connection.respond(refusal.status, refusal.reason + "\n")
        if self._closed or len(self._connections) >= self.limits.sockets:
            self.refused += 1
            return connection.respond(503, "too many sockets\n")
        return None

    async def _talk(self, socket: Any) -> None:
        if self._closed:
            return
        connection = Connection(socket, limits=self.limits, admit=self._admit)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _admit(self, line: Line, start: Start) -> Call | None:
        if len(self.calls) >= self.limits.calls:
            self.refused += 1
            return None
        call = Call(line, start, call_id=new_id("call"))
        self.calls_taken += 1
        with self._lock:
            for asker in self._askers:
                asker.add(call)
            if not self._askers and not self._answering:
                self._waiting.append(call)
        # After the message that began it was worked off, so that who answers finds a whole call.
        self._dispatcher.emit(ServerEvents.Call.value, {"call": call}, context=None)
        return call

    async def _shut(self) -> None:
        if self._closed:
            return
        self._closed = True
        for connection in list(self._connections):
            connection.close(1001, "the server is closing")
        server = self._server
        if server is not None:
            server.close(close_connections=False)
            tasks = [connection.task for connection in self._connections if connection.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=CLOSE_S)
            for connection in list(self._connections):
                connection.abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), CLOSE_S / 2)
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

    def add(self, call: Call) -> None:
        """A call began."""
        with self._lock:
            self._calls.append(call)
        self._wake()

    def close(self) -> None:
        """No more calls will come."""
        self._closed = True
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


def _tls(certificate: str | Path | None, key: str | Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise ParameterError("certificate_key without certificate", name="certificate_key")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise AudioError(
            f"the certificate {str(certificate)!r} cannot be used: {error}", path=str(certificate)
        ) from error
    return context
