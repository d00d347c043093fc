"""The text of a turn while it comes, and the readers that follow it: blocking and in any event loop.

A turn's `Progress` is written by the background loop alone. Whoever waits leaves a waker; a waker is taken
out when it is called, so a burst of deltas wakes a reader once, and a delta that nobody waits for costs
one append.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from voxnb.errors import TurnError
from voxnb.runtime import loop
from voxnb.runtime.dispatch import in_listener

BREATH: Final = 64
"""Deltas an async iteration hands out before it lets other tasks (and an interrupt) have the loop."""


class Progress:
    """What has come of a turn, and the two points it passes.

    Attributes:
        deltas: all text so far, in pieces.
        stored: done when the reply is committed.
        delivered: done when the turn's listeners have run, too.
    """

    __slots__ = ("_pid", "_wakers", "delivered", "deltas", "stored")

    def __init__(self) -> None:
        self.deltas: list[str] = []
        self.stored: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.delivered: concurrent.futures.Future[None] = concurrent.futures.Future()
        # A running future cannot be cancelled: no waiter can take it from the others.
        self.stored.set_running_or_notify_cancel()
        self.delivered.set_running_or_notify_cancel()
        self._wakers: list[Callable[[], None]] = []
        self._pid = os.getpid()

    def push(self, delta: str) -> None:
        """Take a piece of text; the background loop calls this once per delta."""
        self.deltas.append(delta)
        if self._wakers:
            self.wake()

    def wake(self) -> None:
        """Wake everyone who waits for news."""
        while self._wakers:
            self._wakers.pop()()

    def watch(self, waker: Callable[[], None]) -> None:
        """Call a function at the next news, once; look again for news after this call."""
        # The list is never replaced: append here and pop there are atomic, so no waker is lost between.
        self._wakers.append(waker)

    def end(self) -> concurrent.futures.Future[None]:
        """What a waiter waits for: inside a listener *stored*, else *delivered*.

        Raises:
            TurnError: the turn runs in the process that this one was forked from.
        """
        point = self.stored if in_listener() else self.delivered
        if not point.done() and self._pid != os.getpid():
            raise TurnError(f"this turn runs in process {self._pid}, which this one was forked from; ask again here")
        return point


class Follower:
    """Reads a turn's deltas from the first, blocking for more."""

    def __init__(self, progress: Progress) -> None:
        self.position = 0
        self._progress = progress
        self._end = progress.end()
        self._news = threading.Event()
        self._watching = False

    def wait(self, *, timeout_s: float | None = None) -> bool:
        """Block until there is more text, or the end.

        Returns:
            False if neither came in time.
        """
        while not self.ready():
            self._news.clear()
            if not self._watching:
                self._watching = True
                self._progress.watch(self._wake)
            if not self.ready() and not loop.block(self._news, timeout_s=timeout_s):
                return False
        return True

    def rest(self, pause_s: float) -> None:
        """Block for a while, or until the end."""
        ended = threading.Event()
        self._end.add_done_callback(lambda _: ended.set())
        loop.block(ended, timeout_s=pause_s)

    def ready(self) -> bool:
        """Whether there is more text, or the end was reached."""
        return self._end.done() or len(self._progress.deltas) > self.position

    def take(self) -> str | None:
        """The text that has come since the last call; None at the end."""
        ended = self._end.done()
        new = self._progress.deltas[self.position :]
        if not new and ended:
            return None
        self.position += len(new)
        return "".join(new)

    def _wake(self) -> None:
        self._watching = False
        self._news.set()


class DeltaIterator:
    """A ``for`` loop over a turn.

    Interrupted while it waits, the turn is cancelled and its partial kept; ``break`` (and an interrupt in
    the loop's own body) leaves the turn running.
    """

    def __init__(self, progress: Progress, *, outcome: Callable[[], Any], give_up: Callable[[], None]) -> None:
        self._deltas = progress.deltas
        self._follower = Follower(progress)
        self._outcome = outcome
        self._give_up = give_up

    def __iter__(self) -> DeltaIterator:
        return self

    def __next__(self) -> str:
        follower = self._follower
        try:
            if follower.position >= len(self._deltas):
                follower.wait()
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            self._give_up()
            raise without_frames(error) from None
        position = follower.position
        if position >= len(self._deltas):
            self._outcome()
            raise StopIteration
        follower.position = position + 1
        return self._deltas[position]


class AsyncDeltaIterator:
    """An ``async for`` loop over a turn, in whichever event loop runs it."""

    def __init__(self, progress: Progress, *, outcome: Callable[[], Any], cancel: Callable[[], Any]) -> None:
        self._progress = progress
        self._end = progress.end()
        self._outcome = outcome
        self._cancel = cancel
        self._position = 0
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncDeltaIterator:
        return self

    async def __anext__(self) -> str:
        deltas = self._progress.deltas
        try:
            if self._position >= len(deltas):
                await self._more()
            elif self._position % BREATH == BREATH - 1:
                await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            await give_up(self._progress, self._cancel)
            raise without_frames(error) from None
        if self._position >= len(deltas):
            self._outcome()
            raise StopAsyncIteration
        self._position += 1
        return deltas[self._position - 1]

    async def _more(self) -> None:
        running = asyncio.get_running_loop()
        while not self._ready():
            waiter = running.create_future()
            self._progress.watch(lambda waiter=waiter: loop.wake(running, waiter))  # type: ignore[misc]  # bound now
            if not self._ready():
                await loop.sliced(waiter)

    def _ready(self) -> bool:
        return self._end.done() or self._position < len(self._progress.deltas)


STORE_S: Final = 1.0
"""How long an interrupted waiter waits for the partial reply to be stored."""


async def give_up(progress: Progress, cancel: Callable[[], Any]) -> None:
    """Cancel a turn and wait a moment for its partial to be stored; a second cancellation ends the wait."""
    cancel()
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        await loop.wait_async(progress.stored, timeout_s=STORE_S)


def without_frames(interrupt: BaseException) -> BaseException:
    """The same interrupt, without the frames it came through: where in a lock it came tells nobody anything.

    A notebook parses the file of every frame before its cell ends, which would take a quarter of a second, and twice
    that while the SDK is imported for the first request.
    """
    return interrupt.with_traceback(None)
