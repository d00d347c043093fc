"""A clock that is moved by hand, so that an hour of audio takes a moment."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class VirtualTimer:
    """A call that was asked for at a virtual time."""

    def __init__(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.fn: Callable[..., object] | None = fn
        self.args = args

    def cancel(self) -> None:
        """Do not call it."""
        self.fn = None


class VirtualClock:
    """Time that passes only in `advance`; calls are made by it, in order, on the caller's thread.

    Args:
        start_s: the first time.

    >>> clock = VirtualClock()
    >>> _ = clock.call_at(clock.now() + 3600, print, "an hour later")
    >>> clock.advance(3600)
    an hour later
    """

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._calls: list[tuple[float, int, VirtualTimer]] = []
        self._number = itertools.count()

    def now(self) -> float:
        """Seconds."""
        return self._now_s

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Call at once."""
        fn(*args)

    def call_at(self, when_s: float, fn: Callable[..., object], /, *args: Any) -> VirtualTimer:
        """Call when time has come to `when_s`."""
        timer = VirtualTimer(fn, args)
        heapq.heappush(self._calls, (when_s, next(self._number), timer))
        return timer

    def advance(self, seconds: float, /) -> None:
        """Let time pass, and make the calls that fall due in it."""
        end_s = self._now_s + seconds
        while self._calls and self._calls[0][0] <= end_s:
            when_s, _, timer = heapq.heappop(self._calls)
            self._now_s = max(self._now_s, when_s)
            if timer.fn is not None:
                timer.fn(*timer.args)
        self._now_s = end_s

    @property
    def waiting(self) -> int:
        """How many calls are asked for."""
        return sum(timer.fn is not None for _, _, timer in self._calls)
