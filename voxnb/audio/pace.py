"""When the next frame is due: deadline arithmetic, without a clock of its own.

A pacer models how a sink plays: a frame sounds when the one before it has ended, or when it arrives if that is
later. Sleeping 20 ms between frames would drift by 2 %; a deadline that moves on by exactly one frame does not.

Rule 1: frames sound one after the other, never two at a time: ``due ≥ previous due + its length``.
Rule 2: a frame is sent at most `lead_ms` before it sounds. What the sink so holds in hand hides a
late wake-up, and is what a sink that cannot be cleared still plays after an interruption.
Rule 3: an elastic sink (a telephone) that ran dry starts again when the frame arrives; a rigid one (a recording)
keeps its grid as long as the audio was there in time and only we were late.
"""

from __future__ import annotations

from typing import Final, NamedTuple

STARVED_S: Final = 0.001
"""Rounding that does not count as late."""


class Step(NamedTuple):
    """One frame sent.

    Attributes:
        due_s: when it sounds.
        late_s: how long the sink had nothing to play although the audio was there: our fault.
        starved_s: how long it had nothing to play because nothing was there.
        fresh: it is the first after a pause.
    """

    due_s: float
    late_s: float
    starved_s: float
    fresh: bool


class Pacer:
    """Deadlines of one stream.

    Args:
        lead_ms: how long before it sounds a frame may be sent.
        prebuffer_ms: how long after a pause the first frame waits, so that later ones may be late.
        elastic: whether the sink starts again where it ran dry; see rule 3.

    Attributes:
        end_s: when what was sent has ended, or None while nothing is being played.

    >>> pacer = Pacer()
    >>> pacer.step(10.0, length_s=0.02).due_s, pacer.step(10.0, length_s=0.02).due_s
    (10.0, 10.02)
    """

    def __init__(self, *, lead_ms: float = 0.0, prebuffer_ms: float = 0.0, elastic: bool = True) -> None:
        self.lead_s = lead_ms / 1000
        self.prebuffer_s = prebuffer_ms / 1000
        self.elastic = elastic
        self.end_s: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is being played."""
        return self.end_s is None

    def wake_s(self, now_s: float, /) -> float:
        """When the next frame may be sent: now, or later."""
        if self.end_s is None:
            return now_s
        return max(now_s, self.end_s - self.lead_s)

    def step(self, now_s: float, /, *, length_s: float, since_s: float | None = None) -> Step:
        """Send a frame now.

        Args:
            now_s: the clock.
            length_s: how long it lasts.
            since_s: since when the frame has been there to be sent; None: only now.
        """
        there_s = now_s if since_s is None else min(since_s, now_s)
        if self.end_s is None:
            due_s = (now_s if self.elastic else there_s) + self.prebuffer_s
            self.end_s = due_s + length_s
            return Step(due_s, 0.0, 0.0, fresh=True)
        end_s, from_s = self.end_s, now_s if self.elastic else there_s
        if end_s >= now_s:  # the sink still plays: the usual case
            self.end_s = end_s + length_s
            return Step(end_s, 0.0, 0.0, fresh=False)
        late_s, starved_s = now_s - max(end_s, there_s), there_s - end_s
        due_s = max(end_s, from_s)
        self.end_s = due_s + length_s
        return Step(due_s, _counted(late_s), _counted(starved_s), fresh=False)

    def rest(self) -> None:
        """Nothing is left to play: the next frame is the first after a pause."""
        self.end_s = None


def _counted(late_s: float) -> float:
    return late_s if late_s > STARVED_S else 0.0
