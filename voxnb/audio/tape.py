"""A recording's tape: several voices laid on one timeline, to the sample.

Rule 1: pieces that follow one another lie one after the other, whatever the jitter of their times; a piece that is
out by more than `SLACK_S` from where it should follow begins anew at its own time.
Rule 2: voices of a channel that overlap are added, and cut off at full scale.
Rule 3: what is older than `HELD_S` is final and leaves the tape; what comes for it later is dropped and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

HELD_S: Final = 1.0
"""How long the tape can still be changed."""

SLACK_S: Final = 0.06
"""Jitter of pieces that follow one another."""


@dataclass(slots=True)
class Voice:
    """One stream on the tape.

    Attributes:
        channel: which.
        began_s: when its present run began.
        first: position at which that run began.
        end: position after its last sample.
    """

    channel: int
    began_s: float = 0.0
    first: int = 0
    end: int = -1


class Tape:
    """A timeline of samples in channels, of which the newest part is still open.

    Args:
        rate_hz: samples per second.
        channels: how many.
        start_s: the time at which it begins.
    """

    def __init__(self, *, rate_hz: int, channels: int, start_s: float) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        self.start_s = start_s
        self.given = 0  # position up to which it left the tape
        self.end = 0  # position after the last sample
        self.late_samples = 0
        self._open: npt.NDArray[np.int32] = np.zeros((rate_hz, channels), np.int32)

    def position(self, at_s: float, /) -> int:
        """The position of a time."""
        return max(0, round((at_s - self.start_s) * self.rate_hz))

    def lay(self, voice: Voice, pcm: bytes, /, *, at_s: float) -> None:
        """Lay a piece down.

        Args:
            voice: whose.
            pcm: 16-bit little-endian samples at the tape's rate.
            at_s: when it sounds.
        """
        samples = np.frombuffer(pcm, "<i2")
        place = self.position(at_s)
        if voice.end < 0 or abs(place - voice.end) > SLACK_S * self.rate_hz:
            voice.began_s, voice.first = at_s, place
        else:
            place = voice.end
        voice.end = place + len(samples)
        late = max(0, self.given - place)
        self.late_samples += min(late, len(samples))
        samples, place = samples[late:], max(place, self.given)
        if len(samples):
            self._reach(place + len(samples))
            self._open[place - self.given : place - self.given + len(samples), voice.channel] += samples

    def cut(self, voice: Voice, /, *, at_s: float) -> None:
        """What this voice was to say from a time on was never heard: silence it."""
        played = int((at_s - voice.began_s) * self.rate_hz + 1e-6)
        place = max(self.given, voice.first + max(0, played))
        if place < voice.end:
            self._open[place - self.given : voice.end - self.given, voice.channel] = 0
            voice.end = place

    def take(self, *, upto_s: float) -> bytes:
        """What is final: all before a time, interleaved, 16-bit little-endian; silence where nobody spoke."""
        place = self.position(upto_s)
        if place <= self.given:
            return b""
        self._reach(place)
        count = place - self.given
        out = np.clip(self._open[:count], -32_768, 32_767).astype("<i2").tobytes()
        left = self.end - place
        self._open[:left] = self._open[count : count + left]
        self._open[left : left + count] = 0
        self.given = place
        return out

    def _reach(self, end: int) -> None:
        self.end = max(self.end, end)
        needed = self.end - self.given
        if needed > len(self._open):
            grown = np.zeros((max(needed, 2 * len(self._open)), self.channels), np.int32)
            grown[: len(self._open)] = self._open
            self._open = grown
