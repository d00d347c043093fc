"""`EventWait`: the handle of an event that has not come yet."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Generator
from typing import Any

from voxnb.events import Event
from voxnb.runtime import loop
from voxnb.runtime.lane import bare_name


class EventWait:
    """The next event of a name: ``.result()`` blocks for it, ``await`` waits for it.

    Both may be used inside a listener: events reach it without the listener thread.
    """

    def __init__(self, name: str, *, timeout_s: float | None, forget: Callable[[EventWait], None]) -> None:
        self.name = name
        self.future: concurrent.futures.Future[Event] = concurrent.futures.Future()
        self.future.set_running_or_notify_cancel()
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._forget = forget

    def done(self) -> bool:
        """Whether the event has come."""
        return self.future.done()

    def result(self, timeout_s: float | None = None) -> Event:
        """Block until the event comes.

        Args:
            timeout_s: counted from this call; the limit given to `wait_for` counts from there.

        Raises:
            TimeoutError: it has not come; after the limit given to `wait_for` it is no longer waited for.
            ClientClosedError: the client was closed first, or its connection ended for good.
            BridgeError: the bridge process ended, and the session with it.
            KeyboardInterrupt: as everywhere.
        """
        left = self._left()
        limit = min((s for s in (left, timeout_s) if s is not None), default=None)
        try:
            return loop.wait(self.future, timeout_s=limit)
        except TimeoutError:
            raise self._late(final=limit == left) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            self._forget(self)
            raise

    def __await__(self) -> Generator[Any, None, Event]:
        return self._wait().__await__()

    async def _wait(self) -> Event:
        try:
            return await loop.wait_async(self.future, timeout_s=self._left())
        except TimeoutError:
            raise self._late(final=True) from None
        except asyncio.CancelledError:
            self._forget(self)
            raise

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _late(self, *, final: bool) -> TimeoutError:
        if final:
            self._forget(self)
        limit = "" if self._timeout_s is None else f" within {self._timeout_s:g} s"
        return TimeoutError(f"no {bare_name(self.name)} came{limit}")

    def __repr__(self) -> str:
        return f"<EventWait {self.name} {'done' if self.done() else 'waiting'}>"
