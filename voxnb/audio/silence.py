"""The one-second rule: when a stream's sound has begun and when it has ended.

Rule 1: sound begins with the first audible piece after a silence, and has ended once nothing audible was played
for one second, or at once when the stream stops. So an end is told a second late, and a pause of more than a
second within an answer makes two.
Rule 2: `duration_s` adds up over the stream's life and is cut to whole seconds; `utterance_s` is this
utterance's own length, from its first sound to the end of its last.
Rule 3: time is when audio sounds, not when it arrives; the clock comes in as an argument.

Source: VoxEngine's `WebSocketMediaStarted` and `WebSocketMediaEnded`, `WebSocketMediaInfo`, and logged sessions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from voxnb.audio.formats import AudioFormat
from voxnb.audio.g711 import decode

SILENCE_S: Final = 1.0
"""How long nothing is played until a sound has ended."""

QUIET_PEAK: Final = 64
"""Largest sample (of 32768; -54 dBFS) of a frame that counts as silence."""


class Ended(NamedTuple):
    """A sound has ended.

    Attributes:
        duration_s: whole seconds of sound since the stream began, this one included.
        utterance_s: length of this sound.
        ended_at_s: when its last piece ended.
    """

    duration_s: int
    utterance_s: float
    ended_at_s: float


class SilenceRule:
    """Sound and silence of one tagged stream.

    >>> rule = SilenceRule()
    >>> rule.sounded(10.0, length_s=0.02), rule.sounded(10.02, length_s=6.82)
    (True, False)
    >>> rule.passed(17.0), rule.passed(17.84).duration_s
    (None, 6)
    """

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._ends_s = 0.0
        self._total_s = 0.0

    @property
    def sounding(self) -> bool:
        """Whether a sound has begun and not ended."""
        return self._began_s is not None

    @property
    def wake_s(self) -> float | None:
        """When to ask `passed` again, or None in silence."""
        return None if self._began_s is None else self._ends_s + SILENCE_S

    def sounded(self, at_s: float, /, *, length_s: float) -> bool:
        """A piece of audio sounds.

        Args:
            at_s: when it begins to.
            length_s: how long it lasts.

        Returns:
            Whether it is the first of a sound.
        """
        if self._began_s is None:
            self._began_s, self._ends_s = at_s, at_s + length_s
            return True
        self._ends_s = max(self._ends_s, at_s + length_s)
        return False

    def cut(self, at_s: float, /) -> None:
        """What was to sound after this moment was thrown away."""
        if self._began_s is not None:
            self._ends_s = max(self._began_s, min(self._ends_s, at_s))

    def passed(self, now_s: float, /) -> Ended | None:
        """The end of the sound, if a second of silence has passed."""
        wake_s = self.wake_s
        return self.stop() if wake_s is not None and now_s >= wake_s - 1e-9 else None

    def stop(self) -> Ended | None:
        """The stream stops: the end of the sound, if there was one."""
        if self._began_s is None:
            return None
        utterance_s = self._ends_s - self._began_s
        self._total_s += utterance_s
        self._began_s = None
        return Ended(int(self._total_s + 1e-9), utterance_s, self._ends_s)


def is_quiet(data: bytes, form: AudioFormat, /, *, peak: int = QUIET_PEAK) -> bool:
    """Whether no sample is louder than `peak`.

    Args:
        data: whole samples.
        form: how they are written; 16-bit PCM or G.711.
        peak: of 32768.
    """
    if not data:
        return True
    if form.is_g711:
        return not data.translate(None, _quiet_bytes(form.coding, peak))
    samples = np.frombuffer(data, "<i2")
    return bool(int(samples.max()) <= peak and int(samples.min()) >= -peak)


@lru_cache(maxsize=16)
def _quiet_bytes(law: str, peak: int) -> bytes:
    """The bytes of a law that are no louder than `peak`."""
    values = np.frombuffer(decode(bytes(range(256)), law), "<i2").astype(np.int32)
    return bytes(np.flatnonzero(np.abs(values) <= peak).tolist())
