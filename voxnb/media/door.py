"""The door of a media server: it listens, lets in whom it may, and makes a call of each stream; on the media loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from voxnb.audio.media import Start
from voxnb.errors import AudioError, NotSupportedError, ParameterError
from voxnb.media.clock import LOOP
from voxnb.media.connection import Connection
from voxnb.media.guard import Guard, Limits
from voxnb.media.line import Line
from voxnb.media.socket_call import SocketCall
from voxnb.runtime import config
from voxnb.store.ids import new_id

OPEN_S: Final = 5.0
"""How long a handshake may take."""

NOTHING: Final = {"messages": 0, "broken": 0, "homeless": 0, "binary": 0, "unsent": 0}
"""What no socket has sent yet; see `MediaServer.statistics`."""

CLOSE_S: Final = 0.15
"""How long a peer may take to answer a close."""

_SILENT: Final = logging.Logger("voxnb.media")  # noqa: LOG001 - addresses with tokens are nobody's log
_SILENT.disabled = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a door is made of; see `MediaServer`."""

    host: str = "127.0.0.1"
    origins: tuple[str, ...] = ()
    needs_token: bool = False
    certificate: str | None = None
    certificate_key: str | None = None
    limits: Limits = field(default_factory=Limits)


Asked = Callable[[Mapping[str, str], str], bool | Awaitable[bool]]
"""Headers and path of a handshake → whether it is signed by who it should be."""


class Door:
    """Listens.

    Args:
        plan: how.
        arrived: called with each new call, after the message that began it.
        signature: asked about each handshake.

    Raises:
        AudioError: the certificate cannot be read.
        ParameterError: a key without a certificate.
    """

    def __init__(self, plan: Plan, *, arrived: Callable[[SocketCall], object], signature: Asked | None = None) -> None:
        self.plan = plan
        self.guard = Guard(origins=plan.origins, needs_token=plan.needs_token)
        self.connections: set[Connection] = set()
        self.calls_taken = 0
        self.refused = 0
        self._past = dict(NOTHING)
        self._signature = signature
        self._told_broken = False
        self._tls = tls(plan.certificate, plan.certificate_key)
        self._arrived = arrived
        self._server: Any = None
        self._closed = False

    @property
    def calls(self) -> tuple[SocketCall, ...]:
        """The calls that go on now."""
        return tuple(call for connection in tuple(self.connections) for call in tuple(connection.line.calls.values()))

    def token(self, valid_s: float) -> str:
        """A token for one handshake."""
        return self.guard.token(valid_s=valid_s, now_s=LOOP.now())

    def statistics(self) -> dict[str, int]:
        """What came and was refused since it was made, and what goes on now: counts."""
        lines = [connection.line.statistics() for connection in tuple(self.connections)]
        return {
            "calls": len(self.calls),
            "sockets": len(self.connections),
            "calls_taken": self.calls_taken,
            "refused": self.refused,
            **{name: past + sum(line[name] for line in lines) for name, past in self._past.items()},
        }

    async def listen(self, port: int) -> int:
        """Begin to listen.

        Args:
            port: 0 for a free one.

        Returns:
            The port.

        Raises:
            NotSupportedError, AudioError: see `MediaServer`.
        """
        try:
            from websockets.asyncio.server import serve

            from voxnb.media.express import ExpressServer
        except ImportError as error:
            raise NotSupportedError(
                "a media server needs the websockets package; install it with: pip install 'voxnb[realtime]'",
                name="MediaServer",
                instead="pip install 'voxnb[realtime]'",
            ) from error
        try:
            self._server = await serve(
                self._talk,
                self.plan.host,
                port,
                process_request=self._check,
                compression=None,
                max_size=self.plan.limits.message_bytes,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=20,
                ping_timeout=60,
                ssl=self._tls,
                logger=_SILENT,
                create_connection=ExpressServer,
            )
        except (OSError, OverflowError) as error:
            raise AudioError(
                f"cannot listen on {self.plan.host}:{port}: {error}", host=self.plan.host, port=port
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def _check(self, connection: Any, request: Any) -> Any:
        """Let a handshake in, or answer it."""
        from websockets.datastructures import Headers

        # A header that comes twice is read as HTTP says, one list; websockets would raise where it is asked for.
        said = {name: ", ".join(request.headers.get_all(name)) for name in request.headers}
        headers = Headers(said)
        if self._signature is not None and not await self._is_signed(headers, request.path):
            self.refused += 1
            return connection.respond(403, "the signature is missing or wrong\n")
        refusal = self.guard.refuses(request.path, headers, now_s=LOOP.now())
        if refusal is not None:
            self.refused += 1
            return connection.respond(refusal.status, refusal.reason + "\n")
        if self._closed or len(self.connections) >= self.plan.limits.sockets:
            self.refused += 1
            return connection.respond(503, "too many sockets\n")
        return None

    async def _is_signed(self, headers: Mapping[str, str], path: str) -> bool:
        assert self._signature is not None
        try:
            return await is_signed(self._signature, headers, path)
        except Exception as error:  # noqa: BLE001 - the user's function; who cannot be checked does not come in
            if not self._told_broken:
                config.report(
                    f"signature= of the media server raised {type(error).__name__}: {error}; nobody is let in"
                )
            self._told_broken = True
            return False

    async def _talk(self, socket: Any) -> None:
        if self._closed:
            return
        connection = Connection(socket, limits=self.plan.limits, admit=self._admit)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            for name, count in connection.line.statistics().items():
                self._past[name] += count

    def _admit(self, line: Line, start: Start) -> SocketCall | None:
        if len(self.calls) >= self.plan.limits.calls:
            self.refused += 1
            return None
        call = SocketCall(line, start, call_id=new_id("call"))
        self.calls_taken += 1
        self._arrived(call)
        return call

    async def shut(self) -> None:
        """End all calls and stop listening; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        for connection in list(self.connections):
            connection.close(1001, "the server is closing")
        server = self._server
        if server is not None:
            server.close(close_connections=False)
            tasks = [connection.task for connection in self.connections if connection.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=CLOSE_S)
            for connection in list(self.connections):
                connection.abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), CLOSE_S / 2)


async def is_signed(asked: Asked, headers: Mapping[str, str], path: str) -> bool:
    """What a function, or an ``async def``, says of a handshake."""
    signed = asked(headers, path)
    return bool(await signed if inspect.isawaitable(signed) else signed)


def tls(certificate: str | Path | None, key: str | Path | None) -> ssl.SSLContext | None:
    """The context of a certificate; None without one.

    Raises:
        AudioError, ParameterError: see `Door`.
    """
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
