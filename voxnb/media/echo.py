"""A unit that says what it hears: to try a line, and to measure it."""

from __future__ import annotations

from voxnb.audio.formats import PCM_24K, AudioFormat, Frame
from voxnb.media.clock import Clock
from voxnb.media.crossing import Shell
from voxnb.media.stream import Stream
from voxnb.media.unit import MediaUnit, Recipe


class Echo(MediaUnit):
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
        if self._far is not None:
            self._clock.call_soon(self._far.do, "close")
        self._clock.call_soon(self._end_media)

    def _recipe(self) -> Recipe | None:
        shell = Shell(done=lambda _: None, lost=lambda _: self._end_media())
        return Recipe("voxnb.media.echo:Echo", (), {}, keeps=False, shell=shell) if self._is_fresh else None

    def lost(self) -> None:
        """In the bridge process: the kernel is gone."""
        self._end_media()

    def _opened(self, stream: Stream) -> None:
        self._form = stream.form

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self._form

    def _heard(self, stream: Stream, frame: Frame) -> None:
        for out in list(self._outgoing.values()):
            out.push(frame.data, form=frame.format)
