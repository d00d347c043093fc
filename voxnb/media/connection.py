"""One socket of the media server: read until it ends, written without waiting, held to its limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from voxnb.audio.media import Start
from voxnb.media.clock import LOOP, Timer
from voxnb.media.guard import Limits, Rate
from voxnb.media.line import Line
from voxnb.media.socket_call import SocketCall
from voxnb.runtime import config, loop

if TYPE_CHECKING:
    from voxnb.media.express import ExpressServer

MOST_UNSENT_BYTES: Final = 256 << 10
"""What a peer may leave unread before frames to it are dropped: about three seconds of 24 kHz PCM."""

LOOK_S: Final = 1.0
"""How often the limits of time are looked at."""


class Connection:
    """A socket and its `Line`.

    Args:
        socket: its connection.
        limits: what the peer may do.
        admit: see `Line`.
    """

    def __init__(
        self, socket: ExpressServer, /, *, limits: Limits, admit: Callable[[Line, Start], SocketCall | None]
    ) -> None:
        self._socket = socket
        self._transport = socket.transport
        self._limits = limits
        self._rate = Rate(limits, now_s=LOOP.now())
        self._began_s = self._heard_s = LOOP.now()
        self._closing = False
        self.task: asyncio.Task[Any] | None = None
        self._timer: Timer | None = None
        address = socket.remote_address or ("?", 0)
        self.line = Line(self, clock=LOOP, remote=f"{address[0]}:{address[1]}", admit=admit)

    async def run(self) -> None:
        """Read until it ends."""
        from websockets.exceptions import ConnectionClosed

        self.task = asyncio.current_task()
        self._look()
        try:
            await self._socket.each(self._receive)
        except ConnectionClosed:
            pass  # told below, with its code
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this socket and no other
            config.report(f"a media socket was closed: {type(error).__name__}: {error}")
            self.close(1011, "internal error")
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._closing:
                await self._socket.wait_closed()
            code = self._socket.close_code or 1006
            self.line.ended(code=code, reason=self._socket.close_reason or "", was_clean=code in (1000, 1001, 1005))

    def _receive(self, message: str | bytes) -> None:
        if self._closing:
            return
        now_s = self._heard_s = LOOP.now()
        if self._rate.add(len(message), now_s=now_s):
            self.line.receive(message)
        else:
            self.close(1008, "too much at once")

    def send(self, *texts: str) -> bool:
        """Send text messages now, or not at all; whether there was room."""
        if self._closing or self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            return False
        self._socket.say(*texts)
        return True

    def close(self, code: int, reason: str, /) -> None:
        """Close it, and let go of it where the peer does not answer."""
        if not self._closing:
            self._closing = True
            loop.submit(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(OSError):
            await self._socket.close(code, reason)

    def abort(self) -> None:
        """Let go of it at once."""
        self._closing = True
        self._transport.abort()

    def _look(self) -> None:
        now_s = LOOP.now()
        if now_s - self._heard_s > self._limits.idle_s:
            self.close(1001, "nothing came for too long")
        elif now_s - self._began_s > self._limits.session_s:
            self.close(1001, "the longest session is over")
        else:
            self._timer = LOOP.call_at(now_s + LOOK_S, self._look)
