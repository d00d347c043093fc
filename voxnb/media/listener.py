"""A unit that gives a program what it hears: an outside voice detector or recogniser, say."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from voxnb.audio.formats import FRAME_MS, PCM_24K, RATES_HZ, AudioFormat, Frame
from voxnb.errors import AudioError, ParameterError
from voxnb.media.clock import Clock
from voxnb.media.stream import Sink, Stream
from voxnb.media.unit import MediaUnit
from voxnb.runtime import config

LONGEST_MS: Final = 10_000
"""What a slow function has not taken in time; the oldest of it is dropped and counted."""


class Listener(MediaUnit):
    """Calls a function with every 20 ms that it hears, in a thread of its own; it is no listener for who counts what was heard.

    The function is in this process: while a cell holds the interpreter, sound from the bridge process waits for it (20 s at
    24 kHz, then it is dropped and counted there), and comes all at once.

    Args:
        function: takes 16-bit mono PCM; what it raises is reported once and ends nothing.
        rate_hz: of what it is given.
        clock: time and the media loop; tests bring their own.

    Attributes:
        dropped_ms: sound that the function did not take in time.

    Raises:
        AudioError: the rate is none.
        ParameterError: the function is none.
    """

    sink = Sink(audible=False)

    def __init__(
        self, function: Callable[[bytes], object], /, *, rate_hz: int = PCM_24K.rate_hz, clock: Clock | None = None
    ) -> None:
        super().__init__(clock=clock)
        if not callable(function):
            raise ParameterError(f"the function is {function!r}, which cannot be called", name="function")
        if rate_hz not in RATES_HZ:
            raise AudioError(f"a sample rate of {rate_hz!r} Hz", rate_hz=rate_hz)
        self.form = AudioFormat("pcm", rate_hz)
        self.dropped_ms = 0.0
        self._function = function
        self._frames: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_reported = False

    def __repr__(self) -> str:
        return f"<Listener, {self.form}>"

    def close(self) -> None:
        """End its streams and, once the function has what was heard, its thread; closing twice does no harm."""
        self._clock.call_soon(self._close)

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _heard(self, stream: Stream, frame: Frame) -> None:
        with self._changed:
            self._frames.append(frame.data)
            if len(self._frames) > LONGEST_MS // FRAME_MS:
                self.dropped_ms += self.form.duration_ms(len(self._frames.popleft()))
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="voxnb-listener", daemon=True)
            self._thread.start()

    def _close(self) -> None:
        self._end_media()
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._is_closed)
                if not self._frames:
                    return
                data = self._frames.popleft()
            try:
                self._function(data)
            except Exception as error:  # noqa: BLE001 - the user's function: one failure must not end the call
                if not self._is_reported:
                    self._is_reported = True
                    config.report(f"the function of a Listener raised {type(error).__name__}: {error}")
