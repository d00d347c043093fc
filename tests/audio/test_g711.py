"""G.711 by table is, byte for byte, what the standard's definition gives sample by sample."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from voxnb.audio import g711
from voxnb.errors import AudioError

EVERY = range(-32_768, 32_768)
PCM = np.array(EVERY, "<i2").tobytes()
BYTES = bytes(range(256))


def ulaw_byte(value):
    """Sun's `linear2ulaw`, on 14 bits."""
    value >>= 2
    mask, magnitude = (0x7F, -value) if value < 0 else (0xFF, value)
    magnitude = min(magnitude, 8159) + 33
    for segment, end in enumerate((0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF, 0x1FFF)):
        if magnitude <= end:
            return ((segment << 4) | ((magnitude >> (segment + 1)) & 0xF)) ^ mask
    return 0x7F ^ mask


def alaw_byte(value):
    """Sun's `linear2alaw`, on 13 bits."""
    value >>= 3
    mask, magnitude = (0xD5, value) if value >= 0 else (0x55, -value - 1)
    for segment, end in enumerate((0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF)):
        if magnitude <= end:
            low = (magnitude >> 1) & 0xF if segment < 2 else (magnitude >> segment) & 0xF
            return ((segment << 4) | low) ^ mask
    return 0x7F ^ mask


def ulaw_value(byte):
    byte = ~byte & 0xFF
    magnitude = (((byte & 0xF) << 3) + 0x84) << ((byte & 0x70) >> 4)
    return 0x84 - magnitude if byte & 0x80 else magnitude - 0x84


def alaw_value(byte):
    byte ^= 0x55
    magnitude, segment = (byte & 0xF) << 4, (byte & 0x70) >> 4
    magnitude += 8 if segment == 0 else 0x108
    if segment > 1:
        magnitude <<= segment - 1
    return magnitude if byte & 0x80 else -magnitude


REFERENCE = {"ulaw": (ulaw_byte, ulaw_value), "alaw": (alaw_byte, alaw_value)}


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_every_sample_has_the_byte_of_the_definition(law):
    assert g711.encode(PCM, law) == bytes(map(REFERENCE[law][0], EVERY))


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_every_byte_has_the_value_of_the_definition(law):
    assert np.frombuffer(g711.decode(BYTES, law), "<i2").tolist() == list(map(REFERENCE[law][1], BYTES))


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_every_sample_is_what_the_standard_library_had(law):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="the standard library has none from Python 3.13 on")
    encode = {"ulaw": audioop.lin2ulaw, "alaw": audioop.lin2alaw}[law]
    decode = {"ulaw": audioop.ulaw2lin, "alaw": audioop.alaw2lin}[law]
    assert g711.encode(PCM, law) == encode(PCM, 2)
    assert g711.decode(BYTES, law) == decode(BYTES, 2)


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_a_byte_comes_back_but_for_the_second_zero(law):
    back = g711.encode(g711.decode(BYTES, law), law)
    differing = {(was, now) for was, now in zip(BYTES, back) if was != now}
    assert differing == ({(0x7F, 0xFF)} if law == "ulaw" else set())


@pytest.mark.parametrize(("law", "to"), [("ulaw", "alaw"), ("alaw", "ulaw"), ("ulaw", "ulaw")])
def test_one_law_becomes_the_other_as_by_way_of_samples(law, to):
    direct = g711.transcode(BYTES, law, to=to)
    assert direct == (g711.encode(g711.decode(BYTES, law), to) if law != to else BYTES)


def test_half_a_sample_is_refused():
    with pytest.raises(AudioError, match="no whole 16-bit samples"):
        g711.encode(b"abc", "ulaw")
