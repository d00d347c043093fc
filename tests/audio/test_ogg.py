"""Opus packets go into Ogg pages and come out again, however the stream is cut or damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.ogg import OggReader, OggWriter
from voxnb.errors import AudioError

packets = st.lists(st.binary(min_size=1, max_size=2000).filter(lambda p: not p.startswith(b"Opus")), max_size=12)
cuts = st.lists(st.integers(1, 700), min_size=1, max_size=30)


def written(parts):
    writer = OggWriter(serial=7)
    return b"".join(writer.page(part, samples=960) for part in parts)


def read(data, sizes):
    reader, out, at = OggReader(), [], 0
    while at < len(data):
        for size in sizes:
            out += reader.feed(data[at : at + size])
            at += size
    return out, reader


@given(packets, cuts)
def test_packets_come_back_however_the_pages_are_cut(parts, sizes):
    out, reader = read(written(parts), sizes)
    assert out == parts
    assert reader.damaged == 0


@given(packets, cuts, st.binary(min_size=1, max_size=300).filter(lambda b: b"O" not in b))
def test_what_is_no_page_is_passed_over(parts, sizes, rubbish):
    out, reader = read(rubbish + written(parts), sizes)
    assert out == parts
    assert reader.damaged >= (1 if parts or len(rubbish) > 3 else 0)


def test_a_damaged_page_costs_its_own_packet_alone():
    data = bytearray(written([b"a" * 50, b"b" * 50, b"c" * 50]))
    data[data.index(b"bbbb")] ^= 1
    out, reader = read(bytes(data), [len(data)])
    assert out == [b"a" * 50, b"c" * 50]
    assert reader.damaged >= 1


@given(st.binary(max_size=3000), cuts)
def test_any_bytes_are_survived(data, sizes):
    reader = OggReader()
    for size in sizes:
        reader.feed(data[:size])
    assert len(reader._held) <= 70_000


def test_a_packet_larger_than_a_page_is_refused():
    with pytest.raises(AudioError, match="does not fit a page"):
        OggWriter(serial=1).page(bytes(70_000), samples=960)


def test_a_packet_on_two_pages_is_one_packet():
    # A page whose last lacing value is 255 goes on on the next one, which says so.
    writer = OggWriter(serial=1)
    writer._number = 1
    from voxnb.audio import ogg

    def page(body, lacing, kind):
        fields = (ogg.PATTERN, 0, kind, 0, 1, 5)
        blank = ogg._HEADER.pack(*fields, 0, len(lacing)) + bytes(lacing) + body
        return ogg._HEADER.pack(*fields, ogg.checksum(blank), len(lacing)) + bytes(lacing) + body

    first, second = page(b"x" * 255, [255], 0), page(b"y" * 10, [10], 1)
    assert OggReader().feed(first + second) == [b"x" * 255 + b"y" * 10]
    assert OggReader().feed(second) == []
