"""Stand-ins of units that live on the other side of the bridge: one that hears for them, one that speaks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from voxnb.audio.formats import AudioFormat, Frame
from voxnb.audio.playout import Playout
from voxnb.media.stream import Sink, Stream
from voxnb.media.unit import MediaUnit
from voxnb.runtime.channel import MOST_SOUND_BYTES

if TYPE_CHECKING:
    from voxnb.media.crossing import Side


class Face(NamedTuple):
    """What a stand-in shows of the unit for which it stands."""

    kind: str
    path: str | None

    @classmethod
    def of(cls, unit: MediaUnit) -> Face:
        """Of a unit that lives here."""
        path = getattr(unit, "path", None)
        return cls(unit._kind_of_unit, None if path is None else str(path))


class StandIn(MediaUnit):
    """Stands for a unit that lives on the other side."""

    def __init__(self, side: Side, number: int, face: Face) -> None:
        super().__init__()
        self.path = face.path
        self._kind = face.kind
        self._side = side
        self._number = number

    @property
    def _kind_of_unit(self) -> str:
        return self._kind

    def __repr__(self) -> str:
        return f"<{self._kind} on the other side of the bridge>"


class Outlet(StandIn):
    """Hears in the place of a unit on the other side; what it hears goes there."""

    def __init__(self, side: Side, number: int, face: Face, *, sink: Sink) -> None:
        super().__init__(side, number, face)
        self.sink = sink
        self.dropped = 0

    def _opened(self, stream: Stream) -> None:
        self._side.tell("begin", self._number, stream.form)

    def _heard(self, stream: Stream, frame: Frame) -> None:
        del stream
        if not self._side.tell("frame", self._number, frame.data, frame.due_s, most_bytes=MOST_SOUND_BYTES):
            self.dropped += 1

    def _cleared(self, stream: Stream) -> None:
        self._side.tell("clear", self._number, stream.playout.generation)

    def _closed(self, stream: Stream) -> None:
        self._side.tell("end", self._number)
        self._side.forget(self._number)

    def counted(self, samples: int, generation: int) -> None:
        """The unit for which it stands has played so much."""
        for stream in self._incoming.values():
            stream.playout.counted(samples, generation=generation)


class Inlet(StandIn):
    """Gives what comes across, in the place of a unit on the other side."""

    def __init__(self, side: Side, number: int, face: Face, *, form: AudioFormat) -> None:
        super().__init__(side, number, face)
        self._form = form

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self._form

    def _feeds(self, stream: Stream) -> None:
        report = self._side.tell
        stream.playout = _Reporting(self._form, lambda *facts: report("counted", self._number, *facts))

    def _fed(self, stream: Stream) -> None:
        self._side.tell("stop", self._number)
        self._side.forget(self._number)

    def give(self, data: bytes, due_s: float) -> None:
        """A frame came across."""
        for stream in list(self._outgoing.values()):
            stream.frame(data, at_s=due_s)

    def void(self, generation: int) -> None:
        """What was sent and not played is void."""
        for stream in list(self._outgoing.values()):
            stream.playout.generation = generation
            stream._stop_playing()


class _Reporting(Playout):
    """The ledger is on the other side: what was played is reported there."""

    def __init__(self, form: AudioFormat, report: Callable[[int, int], object]) -> None:
        super().__init__(form)
        self._report = report

    def counted(self, samples: int, /, *, generation: int) -> int:
        if generation == self.generation:
            self._report(samples, generation)
        return self.heard
