"""G.711: µ-law and A-law to 16-bit PCM and back, by table.

Rule 1: every byte decodes to the value of the standard, and every 16-bit value encodes to the byte that Sun's
reference code and Python's old ``audioop`` give; the tables are made once, from the definition.
Rule 2: decoding and encoding again gives the same byte, but for µ-law's second zero (0x7F, which becomes 0xFF).

Source: ITU-T G.711; RFC 3551 sections 4.5.14 (PCMA, PCMU).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from voxnb.errors import AudioError

_BIAS: Final = 33  # of µ-law, on its 14-bit scale
_CLIP: Final = 8159  # the largest magnitude; it has the byte of the one before it


def _ulaw_values() -> npt.NDArray[np.int16]:
    byte = ~np.arange(256) & 0xFF
    magnitude = (((byte & 0x0F) << 1) + _BIAS << ((byte >> 4) & 7)) - _BIAS
    return (np.where(byte & 0x80, -magnitude, magnitude) << 2).astype("<i2")


def _alaw_values() -> npt.NDArray[np.int16]:
    byte = np.arange(256) ^ 0x55
    segment, step = (byte >> 4) & 7, byte & 0x0F
    magnitude = np.where(segment > 0, (step << 4) + 0x108 << np.maximum(segment - 1, 0), (step << 4) + 8)
    return np.where(byte & 0x80, magnitude, -magnitude).astype("<i2")


def _segment(magnitude: npt.NDArray[Any], ends: list[int]) -> npt.NDArray[Any]:
    return np.searchsorted(np.array(ends), magnitude)


def _ulaw_bytes() -> npt.NDArray[np.uint8]:
    value = _every_value() >> 2
    magnitude = np.minimum(np.abs(value), _CLIP - 1) + _BIAS
    segment = _segment(magnitude, [0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF, 0x1FFF])
    byte = (segment << 4) | ((magnitude >> segment + 1) & 0x0F)
    return np.asarray(byte ^ np.where(value < 0, 0x7F, 0xFF), np.uint8)


def _alaw_bytes() -> npt.NDArray[np.uint8]:
    value = _every_value() >> 3
    magnitude = np.where(value < 0, -value - 1, value)
    segment = _segment(magnitude, [0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF])
    byte = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    return np.asarray(byte ^ np.where(value < 0, 0x55, 0xD5), np.uint8)


def _every_value() -> npt.NDArray[Any]:
    """All 16-bit values in the order of their bits read without a sign, which is how `encode` indexes."""
    return np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)


_VALUES: Final = {"ulaw": _ulaw_values(), "alaw": _alaw_values()}
_BYTES: Final = {"ulaw": _ulaw_bytes(), "alaw": _alaw_bytes()}
_ACROSS: Final = {
    ("ulaw", "alaw"): _BYTES["alaw"][_VALUES["ulaw"].view("<u2")].tobytes(),
    ("alaw", "ulaw"): _BYTES["ulaw"][_VALUES["alaw"].view("<u2")].tobytes(),
}


def decode(data: bytes, law: str, /) -> bytes:
    r"""G.711 bytes as 16-bit little-endian PCM at the same rate.

    Args:
        data: one byte per sample.
        law: ``ulaw`` or ``alaw``.

    >>> decode(b"\xff\x00", "ulaw").hex()
    '00008482'
    """
    return _VALUES[law].take(np.frombuffer(data, np.uint8)).tobytes()


def encode(pcm: bytes, law: str, /) -> bytes:
    r"""16-bit little-endian PCM as G.711.

    Args:
        pcm: two bytes per sample.
        law: ``ulaw`` or ``alaw``.

    Raises:
        AudioError: an odd number of bytes.

    >>> encode(b"\x00\x00\x84\x82", "ulaw").hex()
    'ff00'
    """
    if len(pcm) % 2:
        raise AudioError(f"{len(pcm)} bytes are no whole 16-bit samples", size_bytes=len(pcm))
    return _BYTES[law].take(np.frombuffer(pcm, "<u2")).tobytes()


def transcode(data: bytes, law: str, /, *, to: str) -> bytes:
    """G.711 bytes of one law as those of the other, by one table of 256 bytes."""
    return data if law == to else data.translate(_ACROSS[law, to])
