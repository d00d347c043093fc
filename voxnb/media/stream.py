"""A stream: one directed, tagged flow of audio from a unit to a unit.

A source pushes audio as fast as it has it; the stream's playout keeps it, and hands the target one frame of 20 ms
at each deadline. A source that is in real time itself gives frames, which pass at once. Formats are settled when
the stream opens: where both ends speak the same one, nothing is converted.

Everything here runs on the media loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voxnb.audio.formats import FRAME_MS, AudioFormat, Frame, check_whole
from voxnb.audio.pace import Pacer
from voxnb.audio.playout import Decision, Playout
from voxnb.audio.transcode import Transcoder
from voxnb.media.clock import ALERT, GAUGE, LOOP, Clock, Timer
from voxnb.runtime.lateness import Lateness
from voxnb.store.media import MediaRow

if TYPE_CHECKING:
    from voxnb.media.unit import MediaUnit

FRAME_S: Final = FRAME_MS / 1000

PAUSE_S: Final = 3 * FRAME_S
"""A sink without audio for longer has a pause, not a hiccup."""

MUCH_MS: Final = 200
"""A sink that holds so much in hand gets a few frames at a time: each wake-up costs as much as a frame."""

SLACK_S: Final = 2 * FRAME_S

EARLY_S: Final = 0.0002
"""A timer this much early is on time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """How a unit plays what it hears.

    Attributes:
        lead_ms: how long before it sounds a frame may be handed over; the sink keeps it so long.
        prebuffer_ms: how long after a pause the first frame waits.
        delay_ms: how much later than told it sounds.
        elastic: it starts again where it ran dry (a telephone) rather than keep its grid (a recording).
        clears: it can drop what it was handed and has not played.
        counts: it reports what it played itself (`Playout.counted`), so deadlines are no evidence.
        audible: somebody listens; a recorder is no listener.
    """

    lead_ms: float = 0.0
    prebuffer_ms: float = 0.0
    delay_ms: float = 0.0
    elastic: bool = False
    clears: bool = True
    counts: bool = False
    audible: bool = True


@dataclass(slots=True)
class Traffic:
    """What went through a stream.

    Attributes:
        frames: frames handed to the target.
        size_bytes: their size, in the target's format.
        sounded_samples: their length, in samples of the target's format.
        late_frames: frames that came after the sink had run dry, though the audio was there.
        late_max_ms: the worst of them.
        starved: how often the sink ran dry because the source had nothing.
    """

    frames: int = 0
    size_bytes: int = 0
    sounded_samples: int = 0
    late_frames: int = 0
    late_max_ms: float = 0.0
    starved: int = 0


@dataclass(slots=True)
class _Way:
    """How the source's audio becomes the target's."""

    form_out: AudioFormat
    by_form: dict[AudioFormat, Transcoder] = field(default_factory=dict)

    def convert(self, data: bytes, form: AudioFormat) -> bytes:
        if form is self.form_out or form == self.form_out:
            return data
        transcoder = self.by_form.get(form)
        if transcoder is None:
            transcoder = self.by_form[form] = Transcoder(form, self.form_out)
        return transcoder.feed(data)


class Stream:
    """One flow of audio; made by `MediaUnit.send_media_to`.

    Attributes:
        source: who sends.
        target: who hears.
        tag: its name among several, or "".
        encoding: the name that was asked for, or None.
        custom_parameters: what the sender said of it.
        form_in: how the source writes.
        form: how the target hears.
        woken: how much later than planned it was woken to hand over a frame.
        is_open: between the hooks `MediaUnit._opened` and `MediaUnit._closed`.
        is_muted: whether a model that hears it is given silence in its place.
    """

    def __init__(
        self,
        source: MediaUnit,
        target: MediaUnit,
        /,
        *,
        tag: str,
        encoding: str | None,
        custom_parameters: Mapping[str, Any] | None,
        form_in: AudioFormat,
        form: AudioFormat,
        clock: Clock,
    ) -> None:
        self.source = source
        self.target = target
        self.tag = tag
        self.encoding = encoding
        self.custom_parameters = dict(custom_parameters or {})
        self.form_in = form_in
        self.form = form
        self._sample_bytes = form.sample_bytes
        self.clock = clock
        self.is_open = self.is_muted = False
        self.traffic = Traffic()
        self.woken = Lateness()
        self.sink: Sink = target.sink
        self.playout = Playout(form_in, sink_delay_ms=self.sink.delay_ms, sink_clears=self.sink.clears)
        self._pacer = Pacer(lead_ms=self.sink.lead_ms, prebuffer_ms=self.sink.prebuffer_ms, elastic=self.sink.elastic)
        self._way = _Way(form)
        self._into_playout = _Way(form_in)
        self._slack_s = SLACK_S if self.sink.lead_ms >= MUCH_MS else 0.0
        self._timer: Timer | None = None
        self._position = 0
        self._since_s = 0.0
        self._more = True  # the source may go on
        self._whole_by_s: float | None = None  # when a rest shorter than a frame is sent all the same

    def __repr__(self) -> str:
        tag = f" {self.tag!r}" if self.tag else ""
        return f"<Stream{tag} {self.source!r} → {self.target!r}, {self.form}>"

    @property
    def is_passthrough(self) -> bool:
        """Whether the target hears the source's own bytes."""
        return self.form == self.form_in

    # -- for the source -----------------------------------------------------------------------

    def push(
        self,
        data: bytes,
        /,
        *,
        form: AudioFormat | None = None,
        item_id: str | None = None,
        content_index: int = 0,
        response_id: str | None = None,
    ) -> int:
        """Give audio faster than it sounds: the stream keeps it and plays it in real time.

        Args:
            data: whole samples.
            form: how they are written; `form_in` if not given.
            item_id: the conversation item that it belongs to.
            content_index: which of the item's contents.
            response_id: the item's response.

        Returns:
            How many samples were taken; the rest was dropped and counted.

        Raises:
            AudioError: the bytes end within a sample.
        """
        if not self.is_open:
            return 0
        if form is not None and form is not self.form_in and form != self.form_in:
            check_whole(data, form)
            data = self._into_playout.convert(data, form)
        now_s = self.clock.now()
        if not self.playout.waiting_samples:
            self._since_s = now_s
        taken = self.playout.queue(data, item_id=item_id, content_index=content_index, response_id=response_id)
        if taken:
            self._more = True
            if self._timer is None or self._whole_by_s is not None:
                self._pump()
        return taken

    def frame(self, data: bytes, /, *, form: AudioFormat | None = None, at_s: float | None = None) -> None:
        """Give audio that is in real time already: it is heard at once.

        Args:
            data: whole samples, at most about 100 ms.
            form: how they are written; `form_in` if not given.
            at_s: when it sounds; now if not given.

        Raises:
            AudioError: the bytes end within a sample.
        """
        if not self.is_open or not data:
            return
        if form is None:
            form = self.form_in
        check_whole(data, form)
        self._deliver(data, form, self.clock.now() if at_s is None else at_s)

    def finish(self, item_id: str | None = None, /, *, content_index: int = 0) -> None:
        """No more of this item (or of anything, for now) comes: a rest shorter than a frame is played at once."""
        if item_id is not None:
            self.playout.finish(item_id, content_index=content_index)
        self._more = False
        if self._whole_by_s is not None:
            self._pump()

    def clear(self) -> float:
        """Throw away what was not played yet.

        Returns:
            Milliseconds that were thrown away.
        """
        self._look()
        dropped_ms = self.playout.clear()
        self._stop_playing()
        return dropped_ms

    def interrupt(self) -> list[Decision]:
        """The listener speaks: stop, and say for each item what the far end must be told it heard."""
        self._look()
        decisions = self.playout.interrupt()
        self._stop_playing()
        return decisions

    def heard_ms(self, item_id: str, /, *, content_index: int = 0) -> float:
        """How much of an item's audio the target has played by now."""
        self._look()
        return self.playout.heard_ms(item_id, content_index=content_index)

    @property
    def is_playing(self) -> bool:
        """Whether something waits, or was handed over and still sounds."""
        end_s = self._pacer.end_s
        return bool(self.playout.waiting_samples) or (end_s is not None and end_s > self.clock.now())

    def _look(self) -> None:
        if not self.sink.counts:
            self.playout.clock(self.clock.now())

    def _stop_playing(self) -> None:
        now_s = self.clock.now()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._whole_by_s = None
        if self.sink.clears:
            self._pacer.rest()
            self.source._sound_cut(self, now_s)
        self.target._cleared(self)

    # -- playing ------------------------------------------------------------------------------

    def _sleep_until(self, when_s: float) -> None:
        self._timer = self.clock.call_at(when_s, self._wake, when_s)

    def _wake(self, when_s: float) -> None:
        self.woken.add((self.clock.now() - when_s) * 1000)
        self._pump()

    def _pump(self) -> None:
        """Hand over what is due, and come back for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self.clock.now()
        playout, pacer = self.playout, self._pacer
        length = self.form_in.frame_samples
        if pacer.end_s is not None and now_s - pacer.end_s > PAUSE_S and self._since_s > pacer.end_s:
            pacer.rest()
        while self.is_open and playout.waiting_samples:
            wake_s = pacer.wake_s(now_s)
            if wake_s > now_s + EARLY_S:
                self._sleep_until(wake_s + self._slack_s)
                return
            short = playout.waiting_samples < length
            if short and self._more:
                if self._whole_by_s is None:
                    self._whole_by_s = max(now_s, pacer.end_s or 0.0) + FRAME_S
                if now_s + EARLY_S < self._whole_by_s:
                    self._sleep_until(self._whole_by_s)
                    return
            self._whole_by_s = None
            step = pacer.step(now_s, length_s=FRAME_S, since_s=self._since_s)
            if step.late_s:
                self.traffic.late_frames += 1
                self.traffic.late_max_ms = max(self.traffic.late_max_ms, step.late_s * 1000)
            if step.starved_s:
                self.traffic.starved += 1
            self._deliver(playout.take(length, due_s=step.due_s, pad=short), self.form_in, step.due_s)

    def _deliver(self, data: bytes, form: AudioFormat, due_s: float) -> None:
        heard = self._way.convert(data, form)
        self.source._sounded(self, due_s, form.duration_ms(len(data)) / 1000)
        if not heard:
            return
        frame = Frame(heard, self.form, due_s, self._position)
        samples = len(heard) // self._sample_bytes
        self._position += samples
        traffic = self.traffic
        traffic.frames += 1
        traffic.size_bytes += len(heard)
        traffic.sounded_samples += samples
        self.target._heard(self, frame)

    # -- life ---------------------------------------------------------------------------------

    def _open(self) -> None:
        self.is_open = True
        ALERT.begin()
        if self.clock is LOOP:
            GAUGE.begin()

    def _shut(self) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ALERT.end()
        if self.clock is LOOP:
            GAUGE.end()

    def statistics(self) -> dict[str, Any]:
        """What went through it, and how it fared: a flat dict with units in its names."""
        counters, rate_hz = self.playout.counters, self.form_in.rate_hz
        lost = counters.overflow_samples
        return {
            "tag": self.tag,
            "source": self.source._kind_of_unit,
            "target": self.target._kind_of_unit,
            "encoding": self.form.encoding,
            "rate_hz": self.form.rate_hz,
            "frames": self.traffic.frames,
            "size_bytes": self.traffic.size_bytes,
            "duration_ms": self.traffic.sounded_samples * 1000 / self.form.rate_hz,
            "depth_ms": self.playout.waiting_ms,
            "dropped_ms": lost * 1000 / rate_hz,
            "cleared_ms": counters.cleared_samples * 1000 / rate_hz,
            "late_frames": self.traffic.late_frames,
            "late_max_ms": self.traffic.late_max_ms,
            "starved": self.traffic.starved,
            "muted": self.is_muted,
            "wake_p50_ms": self.woken.percentile(50),
            "wake_p99_ms": self.woken.percentile(99),
            "wake_max_ms": self.woken.max_ms,
        }

    def row(self, *, direction: str, path: str | None = None) -> MediaRow:
        """What the media table keeps of it.

        Args:
            direction: ``in``: the model hears it; ``out``: the model says it.
            path: file in which it is kept, or None.
        """
        return MediaRow(
            direction=direction,
            tag=self.tag or None,
            encoding=self.form.encoding,
            sample_rate_hz=self.form.rate_hz,
            duration_ms=self.traffic.sounded_samples * 1000 / self.form.rate_hz,
            size_bytes=self.traffic.size_bytes,
            path=path,
        )
