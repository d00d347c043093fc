"""A unit that plays an audio file: in real time, or as fast as its listeners take it."""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Callable, Generator
from numbers import Real
from pathlib import Path
from typing import Any, Final

from voxnb.audio import g711
from voxnb.audio.formats import FRAME_MS, PCM_24K, ULAW_8K, AudioFormat
from voxnb.audio.pace import Pacer
from voxnb.audio.transcode import Transcoder
from voxnb.errors import AudioError, NotSupportedError, ParameterError
from voxnb.media.clock import Clock, Timer
from voxnb.media.moving import MovingUnit
from voxnb.media.stream import EARLY_S, FRAME_S, Stream
from voxnb.runtime import config, loop
from voxnb.runtime.packages import import_apart

BLOCK_S: Final = 1
"""How much is read at a time."""

NATIVE_HZ: Final = (8_000, 16_000, 24_000, 48_000)
"""Rates that are given as they are; others become 24 kHz."""

BUSY_S: Final = 0.005
"""How long to wait for a listener that has no room."""

BATCH_FRAMES: Final = 25
"""Frames given between two looks at the loop, where time does not matter."""


def soundfile() -> Any:
    """The package that reads files.

    Raises:
        NotSupportedError: it is not installed.
    """
    try:
        import_apart("soundfile")
        import soundfile
    except (ImportError, OSError) as error:
        raise NotSupportedError(
            f"audio files need the package 'soundfile' ({error}): pip install 'voxnb[realtime]'",
            name="AudioFile",
            instead="pip install 'voxnb[realtime]'",
        ) from error
    return soundfile


class AudioFile(MovingUnit):
    """A file as a source of audio; it plays from its start when its first stream opens.

    Args:
        path: any format of libsndfile (WAV, FLAC, Ogg, MP3, AIFF …); several channels become their mean.
        real_time: whether a second of audio takes a second; otherwise it is given as fast as it is taken.
        start_ms: where to begin.
        tail_ms: silence after its end, which a listener needs to notice that nobody speaks any more.
        clock: time and the media loop; tests bring their own.

    Raises:
        AudioError: the file is missing, empty or no audio, or begins beyond its end.
        ParameterError: a time that is none.
        NotSupportedError: the package that reads files is not installed.

    ``file.wait()`` blocks until all was played, ``await file`` too. A file that was played to its end plays again
    with `rewind`.
    """

    def __init__(
        self,
        path: str | Path,
        /,
        *,
        real_time: bool = True,
        start_ms: float = 0,
        tail_ms: float = 0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        given: dict[str, Any] = {"start_ms": start_ms, "tail_ms": tail_ms}
        for name, value in given.items():
            if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise ParameterError(f"{name} is {value!r}, expected milliseconds, 0 or more", name=name)
        self.path = config.expanded(path)
        self.real_time = real_time
        self._file = _opened(self.path)
        rate_hz = self._file.samplerate
        self.duration_ms: float = self._file.frames * 1000 / rate_hz
        if start_ms >= max(self.duration_ms, 1):
            self._file.close()
            raise AudioError(f"{self.path.name} lasts {self.duration_ms:.0f} ms; start_ms is {start_ms!r}")
        is_ulaw = self._file.subtype == "ULAW" and rate_hz == ULAW_8K.rate_hz
        native = AudioFormat("pcm", rate_hz if rate_hz in NATIVE_HZ else PCM_24K.rate_hz)
        self.form = ULAW_8K if is_ulaw else native
        self._start_ms = start_ms
        self._told_done: Callable[[Exception | None], object] = lambda _: None
        self._start = int(start_ms * rate_hz / 1000)
        self._tail_frames = int(tail_ms // FRAME_MS)
        self._done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._done.set_running_or_notify_cancel()
        self._timer: Timer | None = None
        self._start_again()

    def __repr__(self) -> str:
        return f"<AudioFile {self.path.name!r}, {self.duration_ms / 1000:.1f} s, {self.form}>"

    # -- verbs --------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until all was played, or the file was closed.

        Raises:
            TimeoutError: it still plays.
            AudioError: the file could not be read to its end.
        """
        loop.wait(self._done, timeout_s=timeout_s)

    def __await__(self) -> Generator[Any, None, None]:
        return loop.wait_async(self._done).__await__()

    @property
    def is_done(self) -> bool:
        """Whether all was played."""
        return self._done.done()

    def rewind(self) -> None:
        """Play again from the start."""
        if self._media_over:
            return
        self._wait_anew()  # now, so that who waits next waits for this round
        self._clock.call_soon(self._rewind)

    def _wait_anew(self) -> None:
        if self._done.done():
            self._done = concurrent.futures.Future()
            self._done.set_running_or_notify_cancel()

    def close(self) -> None:
        """Stop, and let go of the file; closing twice does no harm."""
        self._clock.call_soon(self._close)

    # -- where it lives in the bridge process -------------------------------------------------

    def _may_move(self) -> bool:
        return not self._over and self._began_s is None

    def _made_of(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        made_of = {"real_time": self.real_time, "start_ms": self._start_ms, "tail_ms": self._tail_frames * FRAME_MS}
        return (str(self.path.resolve()),), made_of

    def _moved(self) -> None:
        self._file.close()

    def _done_far(self, error: Exception | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)

    def _lost(self, error: Exception | None) -> None:
        self._media_over = True
        self._done_far(error)

    def _as_port(self, done: Callable[[Exception | None], object]) -> Any:
        self._told_done = done
        return self

    def lost(self) -> None:
        """In the bridge process: the kernel is gone."""
        self._close()

    # -- hooks --------------------------------------------------------------------------------

    def _offers(self, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _feeds(self, stream: Stream) -> None:
        if self._timer is None and not self._over:
            self._timer = self._clock.call_at(self._clock.now(), self._play)

    # -- playing, on the media loop -----------------------------------------------------------

    def _start_again(self) -> None:
        self._file.seek(self._start)
        self._pacer = Pacer(elastic=False)
        self._held = b""
        self._tail_left = self._tail_frames
        self._over = False
        native = AudioFormat("pcm", self._file.samplerate)
        rate = AudioFormat("pcm", self.form.rate_hz)
        self._to_rate = Transcoder(native, rate)
        self._began_s: float | None = None

    def _rewind(self) -> None:
        if self._media_over:
            return
        self._wait_anew()  # it may have ended since
        if self._far is not None:
            self._far.do("rewind")
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._start_again()
        if self._outgoing:
            self._timer = self._clock.call_at(self._clock.now(), self._play)

    def _play(self) -> None:
        self._timer = None
        now_s = self._clock.now()
        for _ in range(BATCH_FRAMES):
            streams = list(self._outgoing.values())
            if not streams:
                return  # it goes on where it was when somebody listens again
            if not self.real_time and not all(s.target._ready(s) for s in streams):
                self._timer = self._clock.call_at(now_s + BUSY_S, self._play)
                return
            wake_s = self._pacer.wake_s(now_s)
            if self.real_time and wake_s > now_s + EARLY_S:
                self._timer = self._clock.call_at(wake_s, self._play)
                return
            data = self._frame()
            if not data:
                self._end()
                return
            if self._began_s is None:
                self._began_s = now_s
            due_s = self._pacer.step(now_s, length_s=FRAME_S, since_s=self._began_s).due_s
            for stream in streams:
                stream.frame(data, at_s=due_s)
        self._timer = self._clock.call_at(now_s, self._play)

    def _frame(self) -> bytes:
        """The next frame, the last one filled up with silence; nothing at the end."""
        size = self.form.rate_hz * FRAME_MS // 1000 * self.form.sample_bytes
        while len(self._held) < size:
            block = self._read()
            if not block:
                break
            self._held += block
        data, self._held = self._held[:size], self._held[size:]
        if not data and self._tail_left and not self._over:
            self._tail_left -= 1
            return self.form.silence * (size // self.form.sample_bytes)
        if 0 < len(data) < size:
            data += self.form.silence * ((size - len(data)) // self.form.sample_bytes)
        return data

    def _read(self) -> bytes:
        try:
            samples = self._file.read(BLOCK_S * self._file.samplerate, dtype="int16", always_2d=True)
        except (RuntimeError, OSError) as error:
            self._fail(error)
            return b""
        if len(samples) == 0:
            return self._to_rate.flush()
        mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1).round()
        pcm = self._to_rate.feed(mono.astype("<i2").tobytes())
        return g711.encode(pcm, self.form.coding) if self.form.is_g711 else pcm

    def _fail(self, error: Exception) -> None:
        broken = AudioError(f"{self.path.name} broke off: {error}", path=str(self.path))
        broken.__cause__ = error
        self._over = True
        if not self._done.done():
            self._done.set_exception(broken)
            self._told_done(broken)

    def _end(self) -> None:
        self._over = True
        # The last frame still sounds.
        end_s = self._pacer.end_s
        if self.real_time and end_s is not None:
            self._timer = self._clock.call_at(end_s, self._tell_done)
        else:
            self._tell_done()

    def _tell_done(self) -> None:
        self._timer = None
        if not self._done.done():
            self._done.set_result(None)
            self._told_done(None)

    def _close(self) -> None:
        self._leave_far()
        if self._timer is not None:
            self._timer.cancel()
        self._end_media()
        self._over = True
        self._tell_done()
        self._file.close()


def _opened(path: Path) -> Any:
    package = soundfile()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name that is too long, say
        raise AudioError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
    if not is_file:
        what = f"{str(path)!r} is a folder" if is_folder else f"there is no file {str(path)!r}"
        raise AudioError(what, path=str(path))
    try:
        opened = package.SoundFile(str(path))
    except (RuntimeError, TypeError, OSError) as error:
        raise AudioError(
            f"{path.name!r} is no audio that can be read ({error}); WAV, FLAC, Ogg, MP3 and AIFF are", path=str(path)
        ) from error
    if opened.frames <= 0:
        opened.close()
        raise AudioError(f"{path.name!r} holds no sound", path=str(path))
    if not opened.seekable():
        opened.close()
        raise AudioError(f"{path.name!r} cannot be wound; copy it to a file first", path=str(path))
    return opened
