"""A channel between this process and the bridge process: each end calls methods of objects at the other end, in order.

What crosses are pickles on a socket pair that only these two processes hold: neither end takes them from anybody else.

Rule 1: calls arrive in the order in which they were made, whatever they are of. Nothing here blocks or waits for room.
Rule 2: what waits is bounded by its kind. Notes (what a store or a caller depends on) are never dropped; what only a
listener would see, or sound that is late anyway, is dropped and counted once more than so many bytes wait.
Rule 3: everything runs on the background loop.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import pickle
import struct
from collections.abc import Callable
from typing import Any, Final

from voxnb.errors import BridgeError, VoxnbError
from voxnb.runtime import config

MOST_EVENT_BYTES: Final = 32 << 20
"""Bytes that may wait before events are dropped: hours of a call whose kernel is busy."""

MOST_SOUND_BYTES: Final = 1 << 20
"""Bytes that may wait before sound is dropped: twenty seconds of a stream at 24 kHz."""

MAKER: Final = 1
"""Number of the object that makes the others in the bridge process."""

_HEAD: Final = struct.Struct("<I")


class Channel(asyncio.Protocol):
    """One end.

    Args:
        on_end: called once when the other end is gone.

    Attributes:
        objects: number → object whose methods the other end may call.
        sent, received: calls.
        dropped: calls that were not made because too much waited.
        deepest_bytes: most that ever waited.
    """

    def __init__(self, *, on_end: Callable[[], None]) -> None:
        self.objects: dict[int, Any] = {}
        self.sent = self.received = self.dropped = 0
        self.deepest_bytes = 0
        self._on_end = on_end
        self._transport: Any = None
        self._early: list[bytes] = []
        self._buffer = bytearray()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over = False

    # -- out ------------------------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> int:
        """What was given to `do` and `ask` and is not on its way yet."""
        if self._transport is None:
            return sum(map(len, self._early))
        size: int = self._transport.get_write_buffer_size()
        return size

    def do(self, number: int, method: str, /, *args: Any, most_bytes: int | None = None) -> bool:
        """Have a method called; nothing comes back.

        Args:
            number: of the object.
            method: its name.
            *args: what pickle takes.
            most_bytes: drop the call where more than this waits; None: never.

        Returns:
            Whether it is on its way.
        """
        if self._over or (most_bytes is not None and self.waiting_bytes > most_bytes):
            self.dropped += 1
            return False
        self._send((None, number, method, args))
        return True

    async def ask(self, number: int, method: str, /, *args: Any) -> Any:
        """Have a method called, and wait for what it returns; a coroutine is awaited over there.

        Raises:
            BridgeError: the other end is gone.
            VoxnbError: what the method raised.
        """
        if self._over:
            raise BridgeError("the bridge process is gone")
        key = next(self._numbers)
        answer = self._asked[key] = asyncio.get_running_loop().create_future()
        self._send((key, number, method, args))
        try:
            return await answer
        finally:
            self._asked.pop(key, None)

    def _send(self, call: tuple[Any, ...]) -> None:
        data = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
        message = _HEAD.pack(len(data)) + data
        self.sent += 1
        if self._transport is None:
            self._early.append(message)
            return
        self._transport.write(message)
        self.deepest_bytes = max(self.deepest_bytes, self._transport.get_write_buffer_size())

    def facts(self) -> dict[str, int]:
        """Of what goes out: bytes that wait, most that ever did, calls that were dropped."""
        return {"depth_bytes": self.waiting_bytes, "deepest_bytes": self.deepest_bytes, "dropped": self.dropped}

    # -- in -------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """What was asked for early goes out."""
        self._transport = transport
        # Nobody here waits for room: the bounds above are the limit.
        transport.set_write_buffer_limits(high=1 << 62)
        early, self._early = self._early, []
        transport.write(b"".join(early))
        if self._over:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Work off the calls that are whole."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEAD.size:
            (size,) = _HEAD.unpack_from(buffer, at)
            end = at + _HEAD.size + size
            if len(buffer) < end:
                break
            call = pickle.loads(memoryview(buffer)[at + _HEAD.size : end].tobytes())  # noqa: S301 - from our own process
            at = end
            self._take(call)
        del buffer[:at]

    def _take(self, call: tuple[Any, ...]) -> None:
        self.received += 1
        key, number, method, args = call
        if number == 0:
            self._answered(key, *args)
            return
        try:
            outcome = getattr(self.objects[number], method)(*args)
        except Exception as error:  # noqa: BLE001 - it belongs to who asked; one call must not end the others
            self._failed(key, number, method, error)
            return
        if inspect.iscoroutine(outcome):
            task = asyncio.ensure_future(self._finish(key, number, method, outcome))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif key is not None:
            self._send((key, 0, "", (True, outcome, None)))

    async def _finish(self, key: int | None, number: int, method: str, work: Any) -> None:
        try:
            outcome = await work
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(key, number, method, error)
        except asyncio.CancelledError:
            if key is not None:  # whoever asked waits for an answer all the same
                self._failed(key, number, method, BridgeError(f"{method} was cancelled"))
            raise
        else:
            if key is not None and not self._over:
                self._send((key, 0, "", (True, outcome, None)))

    def _failed(self, key: int | None, number: int, method: str, error: Exception) -> None:
        if self._over or (isinstance(error, KeyError) and number not in self.objects and key is None):
            return  # called while its object was let go
        if key is None:
            config.report(f"{method} across the bridge failed: {type(error).__name__}: {error}")
            return
        known = error if isinstance(error, VoxnbError) else BridgeError(f"{type(error).__name__}: {error}")
        self._send((key, 0, "", (False, known, _plain(error.__cause__))))

    def _answered(self, key: int, is_good: bool, value: Any, cause: BaseException | None) -> None:  # noqa: FBT001 - off the wire
        answer = self._asked.get(key)
        if answer is None or answer.done():
            return
        if is_good:
            answer.set_result(value)
        else:
            value.__cause__ = cause
            answer.set_exception(value)

    # -- the end --------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        del exc
        self.end()

    def close(self) -> None:
        """Let what waits go out, then end."""
        if self._transport is not None:
            self._transport.close()

    def end(self) -> None:
        """Nothing more comes or goes; who waits for an answer is told."""
        if self._over:
            return
        self._over = True
        if self._transport is not None:
            self._transport.abort()
        self._on_end()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(BridgeError("the bridge process ended before it answered"))
                answer.exception()  # who waited may be gone: nobody needs to be told twice
        for task in list(self._tasks):
            task.cancel()


def _plain(cause: BaseException | None) -> BaseException | None:
    """A cause as it can cross: as it is, or as what it said."""
    if cause is None:
        return None
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - exceptions of other packages promise nothing
        return RuntimeError(f"{type(cause).__name__}: {cause}")
    return cause
