"""Speech told from noise by WebRTC's detector, for the local Realtime server."""

from __future__ import annotations

from typing import Final

import numpy as np

from voxnb.audio import g711
from voxnb.audio.formats import AudioFormat
from voxnb.local.realtime.hearing import VAD_FRAME_MS, Detector, energy

RATE_HZ: Final = 8_000
_QUIETER: Final = 0.3
"""Below this threshold of loudness nothing is speech, whatever it sounds like."""


def webrtc(threshold: float, /) -> Detector:
    """A detector by WebRTC's voice model, 1.4 µs for a frame.

    Args:
        threshold: 0 to 1, as in ``turn_detection``; it becomes one of the four modes, 0.5 the third.

    Returns:
        A detector of one stream: it remembers what it heard.

    Raises:
        ModuleNotFoundError: the extra ``[voice]`` is missing.
    """
    import webrtcvad

    model = webrtcvad.Vad(round(threshold * 3))
    is_loud = energy(min(threshold, _QUIETER))

    def speech(data: bytes, form: AudioFormat) -> list[bool]:
        pcm = g711.decode(data, form.coding) if form.is_g711 else data
        every = form.rate_hz // RATE_HZ
        # A mean of neighbours is filter enough for a detector that looks at broad bands.
        samples = np.frombuffer(pcm, "<i2").reshape(-1, every).mean(axis=1).astype("<i2").tobytes()
        size = RATE_HZ * VAD_FRAME_MS // 1_000 * 2
        frames = [samples[i : i + size] for i in range(0, len(samples), size)]
        return [
            loud and model.is_speech(frame, RATE_HZ) for loud, frame in zip(is_loud(data, form), frames, strict=True)
        ]

    return speech
