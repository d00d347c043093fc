"""What was encoded to Opus sounds the same when it is decoded, as Ogg and as bare packets."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from voxnb.audio.ogg import OggReader
from voxnb.errors import NotSupportedError
from voxnb.media.opus import OpusDecoder, OpusEncoder

TONE = (9000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype("<i2").tobytes()


def pages():
    encoder = OpusEncoder()
    return [encoder.feed(TONE[at : at + 1920]) for at in range(0, len(TONE), 1920)]


def pitch_hz(pcm):
    samples = np.frombuffer(pcm, "<i2")[4800:28_800]
    return np.abs(np.fft.rfft(samples)).argmax() * 48_000 / len(samples)


def test_a_tone_keeps_its_length_and_its_pitch():
    decoder = OpusDecoder()
    heard = b"".join(decoder.feed(page) for page in pages())
    assert len(heard) == len(TONE)
    assert pitch_hz(heard) == 440
    assert decoder.damaged == 0


def test_bare_packets_are_read_too():
    reader, decoder = OggReader(), OpusDecoder()
    packets = [packet for page in pages() for packet in reader.feed(page)]
    assert len(packets) == 50
    assert pitch_hz(b"".join(decoder.feed(packet) for packet in packets)) == 440


def test_a_frame_that_is_not_whole_waits():
    encoder = OpusEncoder()
    assert encoder.feed(bytes(1000)) == b""
    assert encoder.feed(bytes(920)).startswith(b"OggS")


def test_rubbish_is_counted_and_the_next_packet_is_heard():
    reader, decoder = OggReader(), OpusDecoder()
    packets = [packet for page in pages() for packet in reader.feed(page)]
    assert decoder.feed(b"\xff" * 40) == b""
    assert decoder.damaged == 1
    assert decoder.feed(packets[0])


def test_without_its_package_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NotSupportedError, match=r"pip install 'voxnb\[opus\]'"):
        OpusEncoder()
