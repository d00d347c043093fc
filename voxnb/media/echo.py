"""A unit that says what it hears: to try a line, and to measure it."""

from __future__ import annotations

from voxnb.audio.formats import PCM_24K, AudioFormat, Frame
from voxnb.media.clock import Clock
from voxnb.media.moving import MovingUnit
from voxnb.media.stream import Stream


class Echo(MovingUnit):
    """Gives every frame that it hears to whom it sends, at once and in the format in which it came.

    Connect who is heard first: it settles the format.

    Args:
        clock: time and the media loop; tests bring their own.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._form = PCM_24K

    def __repr__(self) -> str:
        return f"<Echo, {self._form}>"

    def close(self) -> None:
        """End its streams; closing twice does no harm."""
        self._leave_far()
        self._clock.call_soon(self._end_media)

    def _opened(self, stream: Stream) -> None:
        self._form = stream.form

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self._form

    def _heard(self, stream: Stream, frame: Frame) -> None:
        for out in list(self._outgoing.values()):
            out.push(frame.data, form=frame.format)
