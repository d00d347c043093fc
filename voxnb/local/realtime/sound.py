"""Whole sounds from one format to another, and the voice of the brains that have none.

The artificial voice is no speech: each word is a chirp of its own, as long as the word, so that a length can be told
from a text, loudness rises and falls as in speech, and two texts sound different.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np

from voxnb.audio import g711
from voxnb.audio.formats import PCM_24K, AudioFormat

LETTER_MS: Final = 60
"""Length of a letter, near what people speak (about 15 letters in a second)."""

PAUSE_MS: Final = 60
LEVEL: Final = 0.25
_TAPS: Final = 95


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
    if form.is_g711 and to.is_g711:
        return g711.transcode(data, form.coding, to=to.coding)
    pcm = g711.decode(data, form.coding) if form.is_g711 else data
    pcm = resampled(pcm, form.rate_hz, to_hz=to.rate_hz)
    return g711.encode(pcm, to.coding) if to.is_g711 else pcm


def resampled(pcm: bytes, rate_hz: int, /, *, to_hz: int) -> bytes:
    """A whole sound at another rate, by a windowed sinc in one go.

    Args:
        pcm: 16-bit mono.
        rate_hz: its samples per second.
        to_hz: those wanted.

    Returns:
        16-bit mono; the length is rounded to whole samples.
    """
    if rate_hz == to_hz or not pcm:
        return pcm
    shared = int(np.gcd(rate_hz, to_hz))
    up, down = to_hz // shared, rate_hz // shared
    widest = max(up, down)
    taps = _TAPS // 3 * widest | 1
    place = np.arange(taps) - taps // 2
    kernel: Any = np.sinc(place / widest) * np.kaiser(taps, 8.0) * (up / widest)
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    spread = np.zeros(len(samples) * up)
    spread[::up] = samples
    filtered = np.convolve(spread, kernel, "same")[::down] if len(spread) >= taps else _short(spread, kernel)[::down]
    return np.clip(np.rint(filtered), -32_768, 32_767).astype("<i2").tobytes()


def _short(spread: Any, kernel: Any) -> Any:
    # numpy's "same" is as long as the longer of the two, which here is the kernel.
    start = len(kernel) // 2
    return np.convolve(spread, kernel)[start : start + len(spread)]
