"""Sound and silence of one tag, watched on a clock: when it begins, and when it has ended."""

from __future__ import annotations

from collections.abc import Callable

from voxnb.audio.silence import Ended, SilenceRule
from voxnb.media.clock import Clock, Timer


class Sound:
    """The one-second rule with a timer.

    Args:
        clock: time and the media loop.
        began: called when a sound begins.
        ended: called when it has ended.
    """

    def __init__(self, clock: Clock, /, *, began: Callable[[], object], ended: Callable[[Ended], object]) -> None:
        self._clock = clock
        self._began = began
        self._ended = ended
        self._rule = SilenceRule()
        self._timer: Timer | None = None

    def sounded(self, at_s: float, /, *, length_s: float) -> None:
        """A piece of audio sounds."""
        if self._rule.sounded(at_s, length_s=length_s):
            self._began()
        if self._timer is None:
            self._wait()

    def cut(self, at_s: float, /) -> None:
        """What was to sound after this moment was thrown away."""
        self._rule.cut(at_s)
        self._cancel()
        self._wait()

    def stop(self) -> None:
        """The stream stops."""
        self._cancel()
        ended = self._rule.stop()
        if ended is not None:
            self._ended(ended)

    def _wait(self) -> None:
        wake_s = self._rule.wake_s
        self._timer = None if wake_s is None else self._clock.call_at(wake_s, self._listen)

    def _listen(self) -> None:
        """A second after what was the last sound when we were asked: is it still?"""
        self._timer = None
        ended = self._rule.passed(self._clock.now())
        if ended is not None:
            self._ended(ended)
        else:
            self._wait()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
