"""A unit that plays what a program gives it: the sound of an outside voice, say."""

from __future__ import annotations

from typing import Any, Final

from voxnb.audio.formats import PCM_24K, RATES_HZ, AudioFormat, check_whole
from voxnb.errors import AudioError
from voxnb.media.clock import Clock
from voxnb.media.moving import MovingUnit

PCM_BUFFERS: Final = frozenset({"B", "b", "c", "h", "<h"})
"""Of what the items of a buffer may be that is 16-bit PCM: bytes, or samples."""


class Player(MovingUnit):
    """A source that plays what it is given, piece after piece and in real time, to whom it sends its media.

    `clear_media_buffer` drops what has not sounded yet, as when the other side begins to speak.

    Args:
        rate_hz: of what it is given.
        clock: time and the media loop; tests bring their own.

    Raises:
        AudioError: the rate is none.
    """

    def __init__(self, *, rate_hz: int = PCM_24K.rate_hz, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        if rate_hz not in RATES_HZ:
            raise AudioError(f"a sample rate of {rate_hz!r} Hz", rate_hz=rate_hz)
        self.form = AudioFormat("pcm", rate_hz)
        self._dropped_ms = 0.0

    def __repr__(self) -> str:
        return f"<Player, {self.form}, {self.waiting_ms / 1000:.1f} s waiting>"

    @property
    def waiting_ms(self) -> float:
        """How much of what it was given has not been played yet."""
        waiting = (stream.playout.waiting_ms for stream in list(self._outgoing.values()))
        return self._known("waiting_ms", max(waiting, default=0.0))

    @property
    def dropped_ms(self) -> float:
        """What was given and never played, because nobody heard or too much waited."""
        return self._known("dropped_ms", self._dropped_ms)

    def play(self, sound: bytes, /) -> None:
        """Play a piece after those that wait; where nobody hears, or more than the stream's bound waits, it is dropped.

        Args:
            sound: 16-bit mono PCM of the unit's rate, little-endian: bytes, or an array of such samples.

        Raises:
            AudioError: it is something else, or ends within a sample.
        """
        try:
            view = memoryview(sound)
        except (TypeError, ValueError):  # no buffer, or one of dates
            view = None
        if view is not None and view.shape and view.nbytes > max(view.shape) * view.itemsize:
            raise AudioError(f"play() takes mono, not an array of {view.shape!r}; choose a channel: samples[:, 0]")
        if view is None or view.format not in PCM_BUFFERS:
            raise AudioError(
                f"play() takes 16-bit PCM as bytes, not {type(sound).__name__}"
                f"{'' if view is None else f' of {view.format!r}'}; of samples between -1 and 1: "
                "(samples * 32767).astype('<i2').tobytes()"
            )
        data = view.tobytes()
        check_whole(data, self.form)
        self._clock.call_soon(self._play, data)

    def close(self) -> None:
        """End its streams; closing twice does no harm."""
        self._leave_far()
        self._clock.call_soon(self._end_media)

    def _made_of(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"rate_hz": self.form.rate_hz}

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _play(self, sound: bytes) -> None:
        if self._far is not None:
            self._far.do("_play", sound)
            return
        samples = len(sound) // self.form.sample_bytes
        taken = max((stream.push(sound) for stream in list(self._outgoing.values())), default=0)
        self._dropped_ms += (samples - taken) * 1000 / self.form.rate_hz
