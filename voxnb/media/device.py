"""Units for the sound devices of this machine: what is heard goes to a loudspeaker, a microphone is a source.

They need the package ``sounddevice`` and a device; the device's own thread calls back for audio, and its counter of
played samples is the evidence of what was heard. That thread needs the interpreter: in the bridge process, where they move
when they are first connected with what lives there, no cell can hold them up.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

from voxnb.audio.formats import PCM_24K, AudioFormat, Frame
from voxnb.errors import AudioError, NotSupportedError
from voxnb.media.clock import Clock
from voxnb.media.moving import MovingUnit
from voxnb.media.stream import Sink, Stream
from voxnb.runtime import config
from voxnb.runtime.packages import import_apart

BUFFER_MS: Final = 60
"""What a loudspeaker holds in hand, so that a late frame is no gap."""

LONGEST_MS: Final = 2000
"""More than this is never held; it is dropped and counted."""


def sounddevice() -> Any:
    """The package that opens sound devices.

    Raises:
        NotSupportedError: it, or the PortAudio library that it needs, is not installed.
    """
    try:
        import_apart("sounddevice")
        import sounddevice
    except (ImportError, OSError) as error:
        mend = "pip install sounddevice"
        if isinstance(error, OSError):  # of the library that the package loads
            mend = "install it, as with: apt install libportaudio2"
        raise NotSupportedError(
            f"sound devices need the package 'sounddevice' and the PortAudio library ({error}): {mend}",
            name="Speaker",
            instead="Recorder",
        ) from error
    return sounddevice


def _open(kind: str, **options: Any) -> Any:
    package = sounddevice()
    try:
        device = getattr(package, kind)(**options)
        device.start()
    except (package.PortAudioError, ValueError, OSError) as error:
        raise AudioError(
            f"no sound device could be opened ({error}); name one with device=, or use a Recorder or an AudioFile",
            device=options.get("device"),
        ) from error
    return device


class _OnDevice(MovingUnit):
    """What a speaker and a microphone share: a device that is open until `close`, here or in the bridge process."""

    form: AudioFormat

    def __init__(self, *, device: int | str | None, rate_hz: int, clock: Clock | None) -> None:
        super().__init__(clock=clock)
        self.form = AudioFormat("pcm", rate_hz)
        self._name = device
        self._device: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self.form}>"

    def close(self) -> None:
        """Let go of the device; closing twice does no harm."""
        self._leave_far()
        self._clock.call_soon(self._end_media)
        self._let_go()

    def _let_go(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()

    # -- where it lives in the bridge process -------------------------------------------------

    KEEPS = True  # it is open until it is closed, whoever else leaves

    def _may_move(self) -> bool:
        return self._device is not None

    def _made_of(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"device": self._name, "rate_hz": self.form.rate_hz}

    _moved = _let_go

    def _lost(self, error: Exception | None) -> None:
        self._end_media()
        if error is not None:
            config.report(f"{self!r} is closed: {error}")

    def lost(self) -> None:
        """In the bridge process: the kernel is gone."""
        self.close()


class Speaker(_OnDevice):
    """Plays what is sent to it on a loudspeaker; several streams are added.

    Args:
        device: number or name of the device; None for the default.
        rate_hz: of the device.
        clock: time and the media loop; tests bring their own.

    Raises:
        NotSupportedError: the package ``sounddevice`` is not installed.
        AudioError: there is no such device.
    """

    sink = Sink(lead_ms=BUFFER_MS, prebuffer_ms=BUFFER_MS, counts=True)

    def __init__(
        self, *, device: int | str | None = None, rate_hz: int = PCM_24K.rate_hz, clock: Clock | None = None
    ) -> None:
        super().__init__(device=device, rate_hz=rate_hz, clock=clock)
        self._dropped_ms = 0.0
        self._lock = threading.Lock()
        self._lanes: dict[Stream, _Lane] = {}
        self._device = _open(
            "RawOutputStream",
            samplerate=rate_hz,
            device=device,
            channels=1,
            dtype="int16",
            blocksize=self.form.frame_samples // 2,
            latency="low",
            callback=self._play,
        )

    @property
    def dropped_ms(self) -> float:
        """Sound that the device did not take in time."""
        return self._known("dropped_ms", self._dropped_ms)

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _opened(self, stream: Stream) -> None:
        with self._lock:
            self._lanes[stream] = _Lane()

    def _heard(self, stream: Stream, frame: Frame) -> None:
        with self._lock:
            lane = self._lanes.get(stream)
            if lane is None or not lane.add(frame.data, most=self.form.rate_hz * LONGEST_MS // 1000 * 2):
                self._dropped_ms += self.form.duration_ms(len(frame.data))

    def _cleared(self, stream: Stream) -> None:
        with self._lock:
            lane = self._lanes.get(stream)
            if lane is not None:
                self._lanes[stream] = _Lane(generation=stream.playout.generation)

    def _closed(self, stream: Stream) -> None:
        with self._lock:
            self._lanes.pop(stream, None)

    def _play(self, out: Any, frames: int, _time: Any, _status: Any) -> None:
        """The device wants samples; in its own thread."""
        reports = []
        with self._lock:
            pieces = []
            for stream, lane in self._lanes.items():
                piece = lane.take(frames * 2)
                if piece:
                    pieces.append(piece)
                    reports.append((stream, lane.played_bytes // 2, lane.generation))
        out[:] = _mixed(pieces, size_bytes=frames * 2)
        for report in reports:
            self._clock.call_soon(self._report, *report)

    def _report(self, stream: Stream, samples: int, generation: int) -> None:
        # What the device was just given sounds after its latency.
        latency = 0.0 if self._device is None else float(getattr(self._device, "latency", 0.0) or 0.0)
        heard = max(0, samples - int(latency * self.form.rate_hz))
        playout = stream.playout
        playout.counted(heard * playout.form.rate_hz // self.form.rate_hz, generation=generation)


class _Lane:
    """What one stream has for the device."""

    def __init__(self, *, generation: int = 0) -> None:
        self.generation = generation
        self.played_bytes = 0
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes, *, most: int) -> bool:
        """Whether there was room."""
        if self._size + len(data) > most:
            return False
        self._pieces.append(data)
        self._size += len(data)
        return True

    def take(self, size_bytes: int) -> bytes:
        """At most so many bytes."""
        parts = []
        wanted = size_bytes
        while wanted and self._pieces:
            piece = self._pieces.popleft()
            parts.append(piece[:wanted])
            if len(piece) > wanted:
                self._pieces.appendleft(piece[wanted:])
            wanted -= len(parts[-1])
        data = b"".join(parts)
        self._size -= len(data)
        self.played_bytes += len(data)
        return data


def _mixed(pieces: list[bytes], *, size_bytes: int) -> bytes:
    """The sum of pieces of 16-bit PCM, filled up with silence."""
    if not pieces:
        return bytes(size_bytes)
    if len(pieces) == 1:
        return pieces[0].ljust(size_bytes, b"\0")
    import numpy as np

    total = np.zeros(size_bytes // 2, np.int32)
    for piece in pieces:
        total[: len(piece) // 2] += np.frombuffer(piece, "<i2")
    return np.clip(total, -32_768, 32_767).astype("<i2").tobytes()


class Microphone(_OnDevice):
    """A microphone as a source; it is open while somebody hears it.

    Args:
        device: number or name of the device; None for the default.
        rate_hz: of the device.
        clock: time and the media loop; tests bring their own.

    Raises:
        NotSupportedError: the package ``sounddevice`` is not installed.
        AudioError: there is no such device.
    """

    def __init__(
        self, *, device: int | str | None = None, rate_hz: int = PCM_24K.rate_hz, clock: Clock | None = None
    ) -> None:
        super().__init__(device=device, rate_hz=rate_hz, clock=clock)
        self._overflows = 0
        self._device = _open(
            "RawInputStream",
            samplerate=rate_hz,
            device=device,
            channels=1,
            dtype="int16",
            blocksize=self.form.frame_samples,
            latency="low",
            callback=self._listen_in,
        )

    @property
    def overflows(self) -> int:
        """How often the device had more than was taken from it in time."""
        return self._known("overflows", self._overflows)

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _listen_in(self, data: Any, _frames: int, _time: Any, status: Any) -> None:
        """The device has samples; in its own thread."""
        if status and getattr(status, "input_overflow", False):
            self._overflows += 1
        if self._outgoing:
            self._clock.call_soon(self._give, bytes(data))

    def _give(self, data: bytes) -> None:
        for stream in list(self._outgoing.values()):
            stream.frame(data)
