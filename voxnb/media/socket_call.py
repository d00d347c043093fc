"""A call on a socket that is here: it is heard as it comes, and hears on the same socket."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from voxnb.audio.formats import FRAME_MS, ULAW_8K, AudioFormat, Frame, audio_format
from voxnb.audio.media import Broken, Start
from voxnb.audio.packets import PacketOrder
from voxnb.audio.silence import Ended, is_quiet
from voxnb.errors import NotSupportedError
from voxnb.events import WebSocketEvents
from voxnb.media.call import Call, CallFacts
from voxnb.media.opus import PCM_48K, OpusDecoder, OpusEncoder
from voxnb.media.sound import Sound
from voxnb.media.stream import Sink, Stream

if TYPE_CHECKING:
    from voxnb.media.line import Line

CLEARING: Final = Sink(lead_ms=200, elastic=True)
"""A service that can be told to throw away what it has: it holds enough in hand to outlast a busy moment."""

PLAYING: Final = Sink(lead_ms=FRAME_MS, elastic=True, clears=False)
"""A service that plays whatever it was sent: it is given a frame ahead, and no more."""

MARK_FRAMES: Final = 5
"""Frames between two marks: 100 ms."""

FILL_MS: Final = 200
"""Longest gap of lost packets that silence stands in for; a longer one is a pause."""

RATES_HZ: Final = (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Rates of PCM that a stream may have."""

MARK: Final = "voxnb:"
"""How the marks begin that are ours."""


class SocketCall(Call):
    """A call of a `Line`.

    Args:
        line: its socket.
        start: the message that began it.
        call_id: ours.
    """

    def __init__(self, line: Line, start: Start, /, *, call_id: str) -> None:
        super().__init__(
            CallFacts(
                id=call_id,
                tag=start.tag,
                custom_parameters=start.custom_parameters,
                form=start.form,
                shape=line.writer.shape,
                remote=line.remote,
                sink=CLEARING if line.writer.can_clear else PLAYING,
                facts=start.facts,
            ),
            clock=line.clock,
        )
        self.filled_ms = self.unheard_ms = 0.0
        self.odd_bytes = 0
        self._line = line
        self._order = PacketOrder()
        self._opus = OpusDecoder() if self.form.coding == "opus" else None
        self._native = PCM_48K if self._opus is not None else self.form
        self._sound = Sound(self._clock, began=self._tell_began, ended=self._tell_ended)
        self._speech: dict[Stream, _Speech] = {}

    def statistics(self) -> dict[str, Any]:
        """What came, and what became of it: counts of packets and of their faults."""
        return {
            **asdict(self._order.counters),
            "filled_ms": self.filled_ms,
            "unheard_ms": self.unheard_ms,
            "odd_bytes": self.odd_bytes,
            "damaged": self._opus.damaged if self._opus is not None else 0,
            "unsent_frames": self._line.unsent,
        }

    # -- hooks --------------------------------------------------------------------------------

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self._native

    def _wire(self, wanted: AudioFormat | None) -> AudioFormat:
        """How sound is written to the service."""
        return ULAW_8K if self.shape == "twilio" else wanted or self.form

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        wire = self._wire(wanted)
        return PCM_48K if wire.coding == "opus" else wire

    def _opened(self, stream: Stream) -> None:
        # As in VoxEngine, who is connected last is the one that is heard.
        for other in [s for s in self._incoming.values() if s is not stream and s.tag == stream.tag]:
            self._part(other)
        wanted = None if stream.encoding is None else audio_format(stream.encoding)
        wire = self._wire(wanted)
        speech = self._speech[stream] = _Speech(stream.tag or self.tag, wire)
        for text in self._line.writer.start(speech.tag, wire, parameters=stream.custom_parameters):
            self._line.send(text)

    def _heard(self, stream: Stream, frame: Frame) -> None:
        speech = self._speech.get(stream)
        if speech is None:
            return
        payload = frame.data if speech.encoder is None else speech.encoder.feed(frame.data)
        if not payload:
            return
        samples, writer = frame.samples, self._line.writer
        text = writer.media(speech.tag, payload, samples=samples)
        if writer.can_clear and speech.frames % MARK_FRAMES == MARK_FRAMES - 1:
            sent = self._line.send(text, *writer.mark(MARK + stream.playout.mark()))
        else:
            sent = self._line.send(text)
        if sent:
            speech.frames += 1
            speech.sent_s += samples / frame.format.rate_hz

    def _cleared(self, stream: Stream) -> None:
        if stream in self._speech:
            for text in self._line.writer.clear():
                self._line.send(text)

    def _closed(self, stream: Stream) -> None:
        speech = self._speech.pop(stream, None)
        if speech is not None:
            for text in self._line.writer.stop(speech.tag, duration_s=speech.sent_s):
                self._line.send(text)

    def _hang_up(self) -> None:
        self._line.hang_up(self)

    def _send(self, text: str) -> None:
        if self.closed:  # it ended while the message was on its way to this loop
            self._line.unsent += 1
        else:
            self._line.send(text)

    # -- what comes, on the media loop --------------------------------------------------------

    def _packet(self, payload: bytes, chunk: int | None) -> None:
        for piece in self._order.add(chunk, payload):
            self._play(piece.payload, piece.lost)

    def _play(self, payload: bytes, lost: int) -> None:
        if self._opus is not None:
            data = self._opus.feed(payload)
        else:
            odd = len(payload) % self.form.sample_bytes
            self.odd_bytes += odd
            data = payload[: len(payload) - odd] if odd else payload
            if lost:
                self._fill(lost * self.form.duration_ms(len(data)))
        if not data:
            return
        now_s = self._clock.now()
        if not is_quiet(data, self._native):
            self._sound.sounded(now_s, length_s=self._native.duration_ms(len(data)) / 1000)
        if not self._outgoing:
            self.unheard_ms += self._native.duration_ms(len(data))
        for stream in list(self._outgoing.values()):
            stream.frame(data)

    def _fill(self, missing_ms: float) -> None:
        """Silence where packets were lost: what is heard keeps its time."""
        if not 0 < missing_ms <= FILL_MS:
            return
        self.filled_ms += missing_ms
        data = self._native.silence * int(missing_ms * self._native.rate_hz / 1000)
        for stream in list(self._outgoing.values()):
            stream.frame(data)

    def _marked(self, name: str) -> bool:
        """A mark came back: is it ours?"""
        if not name.startswith(MARK):
            return False
        return any(stream.playout.marked(name.removeprefix(MARK)) for stream in self._speech)

    def _tell(self, event: WebSocketEvents, facts: dict[str, Any]) -> None:
        self._dispatcher.emit(event.value, facts, context=None)

    def _tell_began(self) -> None:
        facts: dict[str, Any] = {"encoding": self.form.encoding}
        if self.tag:
            facts["tag"] = self.tag
        if self.custom_parameters:
            facts["customParameters"] = dict(self.custom_parameters)
        self._tell(WebSocketEvents.MediaStarted, facts)

    def _tell_ended(self, ended: Ended) -> None:
        facts: dict[str, Any] = {"mediaInfo": {"duration": ended.duration_s}, "utterance_s": ended.utterance_s}
        if self.tag:
            facts["tag"] = self.tag
        self._tell(WebSocketEvents.MediaEnded, facts)

    def _ended(self, *, code: int, reason: str, was_clean: bool) -> None:
        """Nothing more comes."""
        if self.closed:
            return
        for piece in self._order.flush():
            self._play(piece.payload, piece.lost)
        self._end_media()
        self._sound.stop()
        self._tell(WebSocketEvents.Close, {"code": code, "reason": reason, "wasClean": was_clean})
        self._over.set_result(None)
        self._dispatcher.close()

    # What is sent to a call is told by who sends it; what it says is told as it comes.
    def _sounded(self, stream: Stream, at_s: float, length_s: float) -> None:
        """Nothing: see above."""


class _Speech:
    """What is said to the call in one stream."""

    def __init__(self, tag: str, wire: AudioFormat) -> None:
        self.tag = tag
        self.encoder = OpusEncoder() if wire.coding == "opus" else None
        self.frames = 0
        self.sent_s = 0.0


def refused(start: Start) -> Broken | None:
    """Why a stream cannot be taken, or None."""
    if start.form.coding == "opus":
        try:
            OpusDecoder()
        except NotSupportedError as error:
            return Broken(str(error))
    elif start.form.rate_hz not in RATES_HZ:
        return Broken(f"a sample rate of {start.form.rate_hz} Hz; {', '.join(map(str, RATES_HZ))} Hz are taken")
    return None
