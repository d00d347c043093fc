"""What a session hears: the input buffer, its timeline, and where speech begins and ends on it.

Rule 1: ``audio_start_ms`` and ``audio_end_ms`` count all audio written in this session; a start includes the padding
before it, an end the silence after it. Time passes only as audio is written.
Rule 2: outside of speech no more is kept than the padding needs, with turn detection; without it the newest `KEPT_MS`.

Source: OpenAI Realtime API reference, `input_audio_buffer.*` and turn detection (2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from voxnb.audio import g711
from voxnb.audio.formats import PCM_24K, AudioFormat
from voxnb.local.realtime.config import EAGERNESS_SILENCE_MS

KEPT_MS: Final = 15 * 60_000
"""Audio kept without turn detection; older audio is dropped, as `Hearing.dropped_ms` counts."""

LEAST_COMMIT_MS: Final = 100
VAD_FRAME_MS: Final = 20
ONSET_FRAMES: Final = 2
"""Loud frames in a row that begin a speech: one alone is a click."""

SILENCE_DB: Final = -60.0
LOUD_SPAN_DB: Final = 40.0
"""A threshold of 0 is `SILENCE_DB` below full scale, one of 1 `LOUD_SPAN_DB` above that; 0.5 is -40 dB, quiet speech."""

Detector = Callable[[bytes, AudioFormat], "list[bool]"]
"""Whole frames of `VAD_FRAME_MS` in a format → for each, whether it is speech."""


@dataclass(frozen=True)
class Started:
    """Speech began.

    Attributes:
        audio_start_ms: on the timeline, with padding.
    """

    audio_start_ms: int


@dataclass(frozen=True)
class Stopped:
    """Speech ended.

    Attributes:
        audio_end_ms: on the timeline, with the silence after it.
        audio: from the start to the end.
    """

    audio_end_ms: int
    audio: bytes


def energy(threshold: float, /) -> Detector:
    """A detector by loudness.

    Args:
        threshold: 0 to 1, as in ``turn_detection``.
    """
    limit = 10 ** ((SILENCE_DB + LOUD_SPAN_DB * threshold) / 20) * 32_768

    def loud(data: bytes, form: AudioFormat) -> list[bool]:
        pcm = g711.decode(data, form.coding) if form.is_g711 else data
        frames = np.frombuffer(pcm, "<i2").reshape(-1, form.rate_hz * VAD_FRAME_MS // 1_000).astype(np.float32)
        found: list[bool] = (np.einsum("ij,ij->i", frames, frames) > limit * limit * frames.shape[1]).tolist()
        return found

    return loud


class Hearing:
    """The input buffer of a session.

    Args:
        detector: makes a detector from a threshold; default `energy`.

    Attributes:
        written_ms: length of the timeline.
        dropped_ms: audio that was dropped because nobody committed it.
    """

    def __init__(self, detector: Callable[[float], Detector] = energy) -> None:
        self._new_detector = detector
        self._form = PCM_24K
        self._buffer = bytearray()
        self._start_ms = 0.0  # of the buffer, on the timeline
        self._seen_bytes = 0  # of the buffer, by the detector
        self._detect: Detector | None = None
        self._padding_ms = self._silence_ms = 0
        self._loud_frames = self._quiet_frames = 0
        self.is_speech = False
        self.dropped_ms = 0.0

    @property
    def form(self) -> AudioFormat:
        """How audio is written."""
        return self._form

    @property
    def written_ms(self) -> float:
        """Length of the timeline, in milliseconds."""
        return self._start_ms + self.buffered_ms

    @property
    def buffered_ms(self) -> float:
        """How much a commit would take, in milliseconds."""
        return self._form.duration_ms(len(self._buffer))

    def configure(self, form: AudioFormat, turn_detection: Mapping[str, Any] | None) -> None:
        """Follow the session's configuration; another format empties the buffer.

        Args:
            form: of the audio that will be written.
            turn_detection: of the session.
        """
        if form != self._form:
            self.clear()
            self._form = form
        had_detection = self._detect is not None
        if turn_detection is None:
            self._detect, self.is_speech = None, False
            return
        if turn_detection["type"] == "semantic_vad":
            self._silence_ms, self._padding_ms = EAGERNESS_SILENCE_MS[turn_detection["eagerness"]], 300
        else:
            self._silence_ms = turn_detection["silence_duration_ms"]
            self._padding_ms = turn_detection["prefix_padding_ms"]
        self._detect = self._new_detector(turn_detection.get("threshold", 0.5))
        if not had_detection:
            self._loud_frames = self._quiet_frames = 0
            self._seen_bytes = len(self._buffer) // self._frame_bytes * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return self._form.rate_hz * VAD_FRAME_MS // 1_000 * self._form.sample_bytes

    def append(self, data: bytes, /) -> list[Started | Stopped]:
        """Write audio.

        Args:
            data: whole samples.

        Returns:
            What was found in it, in order.
        """
        self._buffer += data
        if self._detect is None:
            self._drop(self.buffered_ms - KEPT_MS, counted=True)
            return []
        size = self._frame_bytes
        end = self._seen_bytes + (len(self._buffer) - self._seen_bytes) // size * size
        if end == self._seen_bytes:
            return []
        found: list[Started | Stopped] = []
        for is_loud in self._detect(bytes(self._buffer[self._seen_bytes : end]), self._form):
            self._seen_bytes += size
            event = self._frame(is_loud=is_loud)
            if event is not None:
                found.append(event)
        if not self.is_speech:
            waiting_ms = self._form.duration_ms(len(self._buffer) - self._seen_bytes)
            onset_ms = self._loud_frames * VAD_FRAME_MS
            self._drop(self.buffered_ms - waiting_ms - onset_ms - max(self._padding_ms, LEAST_COMMIT_MS))
        return found

    def _frame(self, *, is_loud: bool) -> Started | Stopped | None:
        self._loud_frames = self._loud_frames + 1 if is_loud else 0
        self._quiet_frames = 0 if is_loud else self._quiet_frames + 1
        if not self.is_speech:
            if self._loud_frames < ONSET_FRAMES:
                return None
            self.is_speech = True
            seen_ms = self._form.duration_ms(self._seen_bytes)
            self._drop(seen_ms - ONSET_FRAMES * VAD_FRAME_MS - self._padding_ms)
            return Started(round(self._start_ms))
        if self._quiet_frames * VAD_FRAME_MS < self._silence_ms or self._loud_frames:
            return None
        self.is_speech = False
        audio = self._cut(self._seen_bytes)
        return Stopped(round(self._start_ms), audio)

    def _drop(self, length_ms: float, *, counted: bool = False) -> None:
        if length_ms > 0:
            size = int(length_ms * self._form.rate_hz / 1_000) * self._form.sample_bytes
            self._cut(min(size, len(self._buffer)))
            self.dropped_ms += self._form.duration_ms(size) if counted else 0

    def _cut(self, size: int) -> bytes:
        out = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._start_ms += self._form.duration_ms(size)
        self._seen_bytes = max(0, self._seen_bytes - size)
        return out

    def take(self) -> bytes:
        """Everything in the buffer; it is empty then, and no speech goes on."""
        self.is_speech = False
        self._loud_frames = self._quiet_frames = 0
        return self._cut(len(self._buffer))

    def clear(self) -> None:
        """Throw the buffer away."""
        self.take()
