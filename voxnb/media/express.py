"""A WebSocket's express lane: a text message goes from the socket straight to who takes it, and back without a queue.

The websockets library parses in a generator, queues what it found and wakes a task for it. With a message every 20 ms
of each call that costs more than all that is done with the message.

Rule 1: the lane takes text messages of one frame. All else is the library's (the handshake, pings, closes, messages in
pieces, binary ones, what is too long, masked wrongly or no UTF-8), and it is given whole frames of it: so it always
stands between two frames, and neither needs to know what the other has read.
Rule 2: order is kept. While something that the library was given has not been read the lane gives it all that comes;
after a message that the lane cannot count (in pieces, binary) it does so for good.

Rule 3: what comes is read into a buffer that stays. asyncio would get one of 256 KiB from the system for every packet
and give it back, which takes five times as long as to read the packet.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # the C one, where there is one
from websockets.protocol import State

if TYPE_CHECKING:
    from websockets.asyncio.connection import Connection as _Connection
else:
    _Connection = object

TEXT: Final = 0x81
"""First byte of a text message in one frame."""

CONTROL: Final = 0x08
"""Bit of the frames that are no message: pings, pongs, closes."""

HEAD_END: Final = b"\r\n\r\n"

BUFFER_BYTES: Final = 1 << 16

_BUFFERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview]] = WeakKeyDictionary()
"""One for all connections of a loop: what was read into it is taken out at once."""

_DRAWN: Final = 4096


def _keys() -> Iterator[bytes]:
    """Masking keys, drawn a thousand at a time."""
    while True:
        drawn = os.urandom(_DRAWN)
        for at in range(0, _DRAWN, 4):
            yield drawn[at : at + 4]


_KEYS: Final = _keys()


class Express(_Connection):
    """What a connection of the library gains; see `ExpressClient` and `ExpressServer`."""

    is_server: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The library has changed the name; None would be no limit.
        known = vars(self.protocol)
        self._most_bytes: int = known.get("max_message_size", known.get("max_size")) or 0
        self._take: Callable[[str | bytes], object] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._fault: Exception | None = None
        self._is_greeted = False
        self._is_shut = False  # all that comes is the library's
        self._given = self._read = 0  # messages that it was given, and those of them that were read
        self._buffer = _BUFFERS.setdefault(self.loop, memoryview(bytearray(BUFFER_BYTES)))
        self._held = bytearray()  # the beginning of a frame
        self._needed = 0  # how long it has to be before anything more can be said

    # -- in -----------------------------------------------------------------------------------

    async def each(self, take: Callable[[str | bytes], object], /) -> None:
        """Have every message taken, in order, until the connection ends; what taking one raises ends it.

        Raises:
            ConnectionClosed: it has ended.
        """
        self._take, self._reader = take, asyncio.current_task()
        try:
            while True:
                message = await self.recv()
                self._read += 1
                take(message)
        except asyncio.CancelledError:
            if self._fault is None or (self._reader is not None and self._reader.uncancel()):
                raise
            raise self._fault from None
        finally:
            self._take = self._reader = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the transport."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the transport."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """What came."""
        if self._is_shut:
            super().data_received(data)
        elif self.protocol.state is not State.OPEN:
            self._before_or_after(data)
        elif self._held:
            self._held += data
            if len(self._held) >= self._needed:
                data = bytes(self._held)
                self._held.clear()
                self._frames(data)
        else:
            self._frames(data)

    def _frames(self, data: bytes) -> None:
        at, size, key_bytes = 0, len(data), 4 if self.is_server else 0
        while at < size:
            body = at + 2
            if body > size:
                self._hold(data, at, body)
                return
            length = data[at + 1] & 0x7F
            if length > 125:
                body += 2 if length == 126 else 8
                if body > size:
                    self._hold(data, at, body)
                    return
                length = int.from_bytes(data[at + 2 : body], "big")
            body += key_bytes
            end = body + length
            if length > self._most_bytes or (data[at + 1] > 0x7F) != self.is_server:
                self._shut(data[at:])
                return
            if end > size:
                self._hold(data, at, end)
                return
            first = data[at]
            if first != TEXT and not first & CONTROL:
                self._shut(data[at:])
                return
            if not (first == TEXT and self._given == self._read and self._took(data, body, end)):
                self._given += first == TEXT
                super().data_received(data[at:end])
                if self.protocol.state is not State.OPEN:
                    self._shut(data[end:])
                    return
            at = end

    def _took(self, data: bytes, body: int, end: int) -> bool:
        """Whether a text was taken."""
        take = self._take
        if take is None:
            return False
        payload = data[body:end]
        try:
            text = (apply_mask(payload, data[body - 4 : body]) if self.is_server else payload).decode()
        except UnicodeDecodeError:
            return False  # the library says to the peer what is wrong
        try:
            take(text)
        except Exception as error:  # noqa: BLE001 - told by `each`
            self._fault, self._take = error, None
            if self._reader is not None:
                self._reader.cancel()
        return True

    def _hold(self, data: bytes, at: int, end: int) -> None:
        self._held += data[at:]
        self._needed = end - at

    def _shut(self, rest: bytes) -> None:
        """From here on it is all the library's."""
        self._is_shut = True
        if rest:
            super().data_received(rest)

    def _before_or_after(self, data: bytes) -> None:
        """The handshake, whose end is looked for; or what comes once somebody has begun to close."""
        head, end, rest = data.partition(HEAD_END)
        if self._is_greeted or not end:
            self._shut(bytes(self._held) + data)
            return
        self._is_greeted = True
        super().data_received(head + end)
        if rest:
            self.data_received(rest)

    # -- out ----------------------------------------------------------------------------------

    def say(self, *texts: str) -> None:
        """Send text messages at once, however much waits; nothing happens where the connection is not open."""
        if self.protocol.state is State.OPEN:
            self.transport.write(self._frame(texts[0]) if len(texts) == 1 else b"".join(map(self._frame, texts)))

    def _frame(self, text: str) -> bytes:
        data = text.encode()
        length, mask = len(data), 0 if self.is_server else 0x80
        if length < 126:
            head = bytes((TEXT, mask | length))
        elif length < 1 << 16:
            head = bytes((TEXT, mask | 126, length >> 8, length & 0xFF))
        else:
            head = bytes((TEXT, mask | 127)) + length.to_bytes(8, "big")
        if mask:
            key = next(_KEYS)
            return b"".join((head, key, apply_mask(data, key)))
        return head + data


class ExpressClient(Express, ClientConnection, asyncio.BufferedProtocol):
    """The client's end."""

    is_server = False


class ExpressServer(Express, ServerConnection, asyncio.BufferedProtocol):
    """The server's end."""

    is_server = True
