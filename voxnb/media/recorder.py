"""A unit that records what it hears: a stereo WAV file on one clock."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

from voxnb.audio.formats import PCM_24K, RATES_HZ, AudioFormat, Frame
from voxnb.audio.tape import HELD_S, Tape, Voice
from voxnb.audio.wav import LONGEST_BYTES, header
from voxnb.errors import AudioError, BridgeError
from voxnb.media.clock import Clock, Timer
from voxnb.media.moving import MovingUnit
from voxnb.media.stream import Sink, Stream
from voxnb.runtime import config, loop

WRITE_S: Final = 0.5
"""How often the file is written to."""

AHEAD_S: Final = 5.0
"""How far a voice that does not keep to real time may run ahead of the file."""

CHANNELS: Final = {"left": 0, "right": 1}

CLOSE_S: Final = 10.0
"""Longest wait of `Recorder.close` for the media loop."""


class Recorder(MovingUnit):
    """Records who sends to it: the first sender on the left, every other one on the right.

    The file begins when the first stream opens and ends with `close`; all voices lie on one timeline, each frame
    where it sounded, and what an interruption kept from being heard is not in it. The header is right after every
    write, so that a killed process leaves a file that plays.

    Args:
        path: of the WAV file; it takes the place of an older one, also of one that is still being recorded.
        rate_hz: of the file.
        clock: time and the media loop; tests bring their own.

    Raises:
        AudioError: the rate is none, or the file cannot be written.

    ``call.send_media_to(recorder, tag="left")`` chooses a channel.
    """

    sink = Sink(audible=False)

    def __init__(self, path: str | Path, /, *, rate_hz: int = PCM_24K.rate_hz, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        if rate_hz not in RATES_HZ:
            raise AudioError(f"a sample rate of {rate_hz!r} Hz", rate_hz=rate_hz)
        self.path = config.expanded(path)
        self.form = AudioFormat("pcm", rate_hz)
        self.error: AudioError | None = None
        self._data_bytes = 0
        self._tape: Tape | None = None
        self._voices: dict[Stream, Voice] = {}
        self._senders: list[int] = []  # of those that chose no channel, in the order in which they came
        self._timer: Timer | None = None
        self._file: BinaryIO | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file() and not self.path.is_symlink():
                # Who still writes to the older one, or plays it, has it to himself: a cell that runs again mixes nothing.
                with contextlib.suppress(OSError):
                    self.path.unlink()
            self._file = self.path.open("wb")
            self._file.write(header(0, rate_hz=rate_hz, channels=len(CHANNELS)))
            self._file.flush()
        except (OSError, ValueError) as error:
            raise AudioError(f"{str(self.path)!r} cannot be written: {error}", path=str(self.path)) from error

    def __repr__(self) -> str:
        return f"<Recorder {self.path.name!r}, {self.duration_ms / 1000:.1f} s>"

    @property
    def duration_ms(self) -> float:
        """Length of what is in the file."""
        return self._known("duration_ms", self._data_bytes * 1000 / (self.form.rate_hz * 2 * len(CHANNELS)))

    def close(self) -> Path:
        """End the recording, at this moment of the clock; closing twice does no harm.

        Returns:
            The file.

        Raises:
            AudioError: it could not be written to its end.
        """
        done = threading.Event()
        # Where it is then: it may be about to move.
        self._clock.call_soon(lambda: self._close(done) if self._far is None else self._close_far(done))
        if not loop.on_loop():
            loop.block(done, timeout_s=CLOSE_S)
        if self.error is not None:
            raise self.error
        return self.path

    # -- where it lives in the bridge process -------------------------------------------------

    KEEPS = True  # what it holds back is not lost with the last client

    def _may_move(self) -> bool:
        return self._tape is None

    def _made_of(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (str(self.path.resolve()),), {"rate_hz": self.form.rate_hz}

    def _moved(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lost(self, error: Exception | None) -> None:
        self._media_over = True
        self.error = AudioError(f"the recording {str(self.path)!r} broke off: {error}", path=str(self.path))

    def _close_far(self, done: threading.Event) -> None:
        if self._media_over:
            done.set()
            return
        self._end_media()
        loop.submit(self._finish_far(done))

    async def _finish_far(self, done: threading.Event) -> None:
        assert self._far is not None
        try:
            self._data_bytes, self.error = await self._far.ask("finish")
            self._last.clear()
            self._far.leave()
        except BridgeError as error:
            self._lost(error)
        finally:
            done.set()

    def finish(self) -> tuple[int, AudioError | None]:
        """In the bridge process: end the recording."""
        self._close(threading.Event())
        return self._data_bytes, self.error

    def lost(self) -> None:
        """In the bridge process: the kernel is gone; what was heard is in the file."""
        self._close(threading.Event())

    # -- hooks --------------------------------------------------------------------------------

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _opened(self, stream: Stream) -> None:
        now_s = self._clock.now()
        if self._tape is None:
            self._tape = Tape(rate_hz=self.form.rate_hz, channels=len(CHANNELS), start_s=now_s)
            self._timer = self._clock.call_at(now_s + WRITE_S, self._turn)
        channel = CHANNELS.get(stream.tag)
        if channel is None:
            sender = id(stream.source)
            if sender not in self._senders:
                self._senders.append(sender)
            channel = min(self._senders.index(sender), len(CHANNELS) - 1)
        self._voices[stream] = Voice(channel)

    def _heard(self, stream: Stream, frame: Frame) -> None:
        voice = self._voices.get(stream)
        if voice is not None and self._tape is not None:
            self._tape.lay(voice, frame.data, at_s=frame.due_s)
            if voice.end - self._tape.given > AHEAD_S * self.form.rate_hz:
                self._write(self._tape.take(upto_s=self._final_s(self._tape)))

    def _cleared(self, stream: Stream) -> None:
        voice = self._voices.get(stream)
        if voice is not None and self._tape is not None:
            self._tape.cut(voice, at_s=self._clock.now())

    def _closed(self, stream: Stream) -> None:
        self._voices.pop(stream, None)

    # -- writing, on the media loop -----------------------------------------------------------

    def _turn(self) -> None:
        now_s = self._clock.now()
        self._timer = self._clock.call_at(now_s + WRITE_S, self._turn)
        if self._tape is not None:
            self._write(self._tape.take(upto_s=self._final_s(self._tape)))

    def _final_s(self, tape: Tape) -> float:
        """Up to when nothing changes any more: a while ago, or before what all voices have passed ahead of time."""
        ends = [voice.end for voice in self._voices.values() if voice.end >= 0]
        passed_s = tape.start_s + min(ends) / tape.rate_hz if ends else 0.0
        return max(self._clock.now(), passed_s) - HELD_S

    def _write(self, data: bytes) -> None:
        if not data or self._file is None or self.error is not None:
            return
        if self._data_bytes + len(data) > LONGEST_BYTES:
            self._fail(OSError("a WAV file holds at most 4 GiB"))
            return
        try:
            # The samples first: a header never promises more than is there.
            self._file.write(data)
            self._file.flush()
            self._data_bytes += len(data)
            self._file.seek(0)
            self._file.write(header(self._data_bytes, rate_hz=self.form.rate_hz, channels=len(CHANNELS)))
            self._file.flush()
            self._file.seek(0, 2)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.error = AudioError(f"the recording {str(self.path)!r} broke off: {error}", path=str(self.path))
        self.error.__cause__ = error
        config.report(str(self.error))

    def _close(self, done: threading.Event) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end_media()
        tape, self._tape = self._tape, None
        if tape is not None:
            # Audio that was given faster than time may end later than now.
            last_s = tape.start_s + tape.end / tape.rate_hz
            self._write(tape.take(upto_s=max(self._clock.now(), last_s)))
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        done.set()
