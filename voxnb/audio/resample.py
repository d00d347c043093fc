"""Sampling rates of live audio: a polyphase FIR that holds 2 ms back and remembers where it was.

A block of input (1 ms, or the shortest at which both rates have whole samples) times one matrix gives a block
of output; the matrix holds the filter's taps for every output of the block.

Rule 1: what comes out does not depend on how the input was cut. The taps are integers (times 2^-24) and the
sums stay under 53 bits, so that float64 adds them exactly, in whatever order a matrix product takes.
Rule 2: input that does not fill a block waits for the next call; at the usual rates whole milliseconds do.
Rule 3: a constant stays that constant: the taps of each output add up to exactly 1.

Files are better served by ``soxr``: it filters more sharply and holds 17 to 150 ms back.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from voxnb.audio.formats import RATES_HZ
from voxnb.errors import AudioError

DELAY_MS: Final = 2.0
"""How much later a sample comes out than it went in."""

_BETA: Final = 9.0  # of the Kaiser window: -95 dB from 1.15 times the lower Nyquist rate on
_CUTOFF: Final = 0.97  # of the lower Nyquist rate
_TAP_BITS: Final = 24
_LONGEST_BLOCK_MS: Final = 20
_PIECE_BLOCKS: Final = 256  # long input is worked off in pieces, so that the windows stay small

Samples = npt.NDArray[np.float64]


class _Filter(NamedTuple):
    """One conversion: `matrix` is (`reach` + `block_in`) × `block_out`."""

    matrix: Samples
    reach: int  # samples of the past that a block needs
    block_in: int
    block_out: int


@lru_cache(maxsize=64)
def _filter(rate_in_hz: int, rate_out_hz: int) -> _Filter:
    shared = gcd(rate_in_hz, rate_out_hz)
    up, down = rate_out_hz // shared, rate_in_hz // shared
    repeat = ceil(rate_in_hz / 1000 / down)
    block_in, block_out = down * repeat, up * repeat
    if block_in * 1000 > rate_in_hz * _LONGEST_BLOCK_MS:
        raise AudioError(
            f"{rate_in_hz} Hz to {rate_out_hz} Hz have whole samples together only every "
            f"{block_in * 1000 / rate_in_hz:.0f} ms; use 8000, 16000, 24000, 44100 or 48000 Hz",
            rate_hz=rate_in_hz,
        )
    half = round(DELAY_MS / 1000 * rate_in_hz * up)
    place = np.arange(2 * half + 1) - half
    cutoff = _CUTOFF * min(rate_in_hz, rate_out_hz) / (rate_in_hz * up)
    taps = np.sinc(cutoff * place) * np.kaiser(2 * half + 1, _BETA)
    taps *= up / taps.sum()
    reach = ceil(2 * half / up)
    rows, columns = np.meshgrid(np.arange(-reach, block_in), np.arange(block_out), indexing="ij")
    index = columns * down - rows * up
    inside = (index >= 0) & (index <= 2 * half)
    matrix = np.where(inside, taps[np.clip(index, 0, 2 * half)], 0.0)
    matrix = np.rint(matrix * (1 << _TAP_BITS))
    largest = np.abs(matrix).argmax(axis=0)
    matrix[largest, np.arange(block_out)] += (1 << _TAP_BITS) - matrix.sum(axis=0)
    return _Filter(np.ascontiguousarray(matrix / (1 << _TAP_BITS)), reach, block_in, block_out)


class Resampler:
    """Turns 16-bit PCM of one rate into that of another, piece by piece.

    Args:
        rate_in_hz: of what is fed.
        rate_out_hz: of what comes out.

    Raises:
        AudioError: rates out of range, or without a short common period (24000 and 24001 Hz).

    >>> Resampler(8000, 24000).feed(bytes(320)) == bytes(960)
    True
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, /) -> None:
        for rate_hz in (rate_in_hz, rate_out_hz):
            if rate_hz not in RATES_HZ:
                raise AudioError(
                    f"a sample rate of {rate_hz} Hz; it must be from {RATES_HZ[0]} to {RATES_HZ[-1]} Hz",
                    rate_hz=rate_hz,
                )
        self.rate_in_hz = rate_in_hz
        self.rate_out_hz = rate_out_hz
        self._filter = None if rate_in_hz == rate_out_hz else _filter(rate_in_hz, rate_out_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample is the first."""
        self._held: Samples = np.zeros(self._filter.reach if self._filter else 0)
        self._fed_samples = 0
        self._given_samples = 0

    def feed(self, pcm: bytes, /) -> bytes:
        """Convert what comes next.

        Args:
            pcm: 16-bit little-endian samples at `rate_in_hz`, any number of them.

        Returns:
            Samples at `rate_out_hz`: as many as whole blocks have come for.

        Raises:
            AudioError: an odd number of bytes.
        """
        if len(pcm) % 2:
            raise AudioError(f"{len(pcm)} bytes are no whole 16-bit samples", size_bytes=len(pcm))
        if self._filter is None:
            return pcm
        samples = np.frombuffer(pcm, "<i2")
        self._fed_samples += len(samples)
        made = self._convert(self._filter, samples)
        self._given_samples += len(made) // 2
        return made

    def flush(self) -> bytes:
        """The rest of what was fed, as if silence followed; then start anew."""
        if self._filter is None:
            return b""
        block = self._filter.block_in
        delay = DELAY_MS / 1000 * self.rate_out_hz
        wanted = round(self._fed_samples * self.rate_out_hz / self.rate_in_hz + delay) if self._fed_samples else 0
        missing = wanted - self._given_samples
        padding = block * (2 + ceil(delay / self._filter.block_out))
        rest = self._convert(self._filter, np.zeros(padding, np.int16))
        self.reset()
        return rest[: missing * 2]

    def _convert(self, how: _Filter, samples: npt.NDArray[Any]) -> bytes:
        held = np.concatenate((self._held, samples))
        blocks = (len(held) - how.reach) // how.block_in
        pieces = []
        for first in range(0, blocks, _PIECE_BLOCKS):
            count = min(_PIECE_BLOCKS, blocks - first)
            pieces.append(convert(held, how.matrix, first=first * how.block_in, count=count, step=how.block_in))
        self._held = held[blocks * how.block_in :].copy()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def convert(held: Samples, matrix: Samples, /, *, first: int, count: int, step: int) -> bytes:
    """Overlapping windows of `held` times a matrix, as 16-bit samples.

    Args:
        held: samples, contiguous.
        matrix: window length × outputs per window.
        first: where the first window starts.
        count: how many windows.
        step: from the start of one window to the next.
    """
    windows = np.ndarray((count, len(matrix)), np.float64, held, first * 8, (step * 8, 8))
    made: Samples = windows.dot(matrix)
    made.clip(-32_768.0, 32_767.0, out=made)
    return np.rint(made, out=made).astype("<i2").tobytes()
