"""The header of a WAV file: 44 bytes that are right whenever they are written.

Source: RIFF WAVE, Microsoft and IBM, 1991 (``WAVE_FORMAT_PCM``).
"""

from __future__ import annotations

import struct
from typing import Final

HEADER_BYTES: Final = 44

LONGEST_BYTES: Final = 0xFFFF_FFFF - HEADER_BYTES
"""A WAV file's sizes have 32 bits."""


def header(data_bytes: int, /, *, rate_hz: int, channels: int) -> bytes:
    """The header of 16-bit PCM.

    Args:
        data_bytes: size of the samples that follow.
        rate_hz: samples per second and channel.
        channels: interleaved.

    >>> len(header(0, rate_hz=24000, channels=2))
    44
    """
    frame = 2 * channels
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        data_bytes + HEADER_BYTES - 8,
        b"WAVE",
        b"fmt ",
        16,
        1,
        channels,
        rate_hz,
        rate_hz * frame,
        frame,
        16,
        b"data",
        data_bytes,
    )
