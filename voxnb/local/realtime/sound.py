"""Whole sounds from one format to another, and the voice of the brains that have none.

The artificial voice is no speech: each word is a chirp of its own, as long as the word, so that a length can be told
from a text, loudness rises and falls as in speech, and two texts sound different.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final

import numpy as np

from voxnb.audio.formats import PCM_24K, AudioFormat
from voxnb.audio.resample import DELAY_MS
from voxnb.audio.transcode import Transcoder

LETTER_MS: Final = 60
"""Length of a letter, near what people speak (about 15 letters in a second)."""

PAUSE_MS: Final = 60
LEVEL: Final = 0.25


@lru_cache(maxsize=256)
def tone(text: str, /, *, letter_ms: int = LETTER_MS, rate_hz: int = PCM_24K.rate_hz) -> bytes:
    """The artificial voice.

    Args:
        text: what it says.
        letter_ms: length of a letter in milliseconds.
        rate_hz: samples per second.

    Returns:
        16-bit mono PCM; empty where the text has no words.

    >>> len(tone("Hello Ann.")) / 48
    600.0
    """
    out = bytearray()
    for word in text.split():
        samples = len(word) * letter_ms * rate_hz // 1_000
        time = np.arange(samples) / rate_hz
        pitch = 110 + zlib.crc32(word.encode()) % 120
        rise = np.minimum(1.0, np.minimum(time, time[::-1]) * 100)  # 10 ms at either end
        wave = sum(np.sin(2 * np.pi * pitch * k * time + 2 * k * time**2) / k for k in (1, 2, 3, 5))
        out += (wave / 2.0 * rise * LEVEL * 32_767).astype("<i2").tobytes()
        out += bytes(2 * (PAUSE_MS * rate_hz // 1_000))
    return bytes(out[: -2 * (PAUSE_MS * rate_hz // 1_000)])


def converted(data: bytes, form: AudioFormat, /, *, to: AudioFormat) -> bytes:
    """A whole sound in another format.

    Args:
        data: samples of `form`.
        form: PCM or G.711.
        to: likewise.
    """
    if form == to:
        return data
    transcoder = Transcoder(form, to)
    out = transcoder.feed(data) + transcoder.flush()
    # The live resampler is late by DELAY_MS; a whole sound need not be.
    late_samples = round(to.rate_hz * DELAY_MS / 1_000) if form.rate_hz != to.rate_hz else 0
    return out[late_samples * to.sample_bytes :]
