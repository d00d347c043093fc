"""The clock of the media path: what time it is, and how to be called on the media loop.

Everything that moves audio runs on one thread, the background loop's, without locks. Other threads hand work over
with `Clock.call_soon`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from voxnb.runtime import loop
from voxnb.runtime.lateness import Lateness

LIVE_SWITCH_S: Final = 0.0005
"""How long a busy cell may keep the interpreter while audio flows (Python's default is 5 ms)."""


LOOK_S: Final = 0.02
"""How often the lateness of the loop is looked at."""


class Timer(Protocol):
    """A call that was asked for."""

    def cancel(self) -> None:
        """Do not call it."""


class Clock(Protocol):
    """Time, and calls on the media loop. Tests bring one that they move by hand."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Call a function on the media loop: at once where the caller is on it, else soon. From any thread."""

    def call_at(self, when_s: float, fn: Callable[..., object], /, *args: Any) -> Timer:
        """Call a function on the media loop at a time of `now`. On the media loop only."""


class LoopClock:
    """The background loop and its clock."""

    now = staticmethod(time.monotonic)
    """Seconds of the monotonic clock, which is the loop's too."""

    def call_soon(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Call on the loop; at once where the caller is on it."""
        if loop.on_loop():
            fn(*args)
        else:
            loop.call_soon(fn, *args)

    def call_at(self, when_s: float, fn: Callable[..., object], /, *args: Any) -> Timer:
        """Call on the loop at a time of its clock."""
        return asyncio.get_running_loop().call_at(when_s, fn, *args)


LOOP: Final = LoopClock()
"""The clock of everything that is not under test."""


class Gauge:
    """How late the media loop does what it is to do: looked at every 20 ms while something lives on it.

    Args:
        clock: whose loop.

    Attributes:
        late: since the newest life began.
    """

    def __init__(self, clock: Clock) -> None:
        self.late = Lateness()
        self._clock = clock
        self._live = 0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Something lives; on the loop."""
        self._live += 1
        if self._live == 1:
            self.late = Lateness()
            self._wait(self._clock.now() + LOOK_S)

    def end(self) -> None:
        """It lives no more."""
        self._live -= 1
        if not self._live and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, due_s: float) -> None:
        self._timer = self._clock.call_at(due_s, self._look, due_s)

    def _look(self, due_s: float) -> None:
        now_s = self._clock.now()
        self.late.add((now_s - due_s) * 1000)
        self._wait(max(due_s, now_s - LOOK_S) + LOOK_S)


GAUGE: Final = Gauge(LOOP)
"""Of the background loop of this process."""


class _Alertness:
    """How many live streams there are, and the switch interval that they need.

    With Python's own interval a busy cell delays a frame by 11 ms in the median and 270 ms at worst; with this one
    by 1.5 ms and 14 ms.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live = 0
        self._usual_s = 0.0

    def begin(self) -> None:
        with self._lock:
            self._live += 1
            if self._live == 1:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual_s, LIVE_SWITCH_S))

    def end(self) -> None:
        with self._lock:
            self._live -= 1
            if self._live == 0:
                sys.setswitchinterval(self._usual_s)


ALERT: Final = _Alertness()
"""Entered by each stream while it lives."""
