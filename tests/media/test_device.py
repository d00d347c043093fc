"""Sound devices: what the device played is what was heard; without a device the error says what to do.

The machine that runs the tests has no sound device, so the package that opens one is played by a stand-in with its
very interface: classes that take a callback and call it with buffers.
"""

from __future__ import annotations

import sys
import types
from typing import ClassVar

import pytest

from tests.media.ear import Ear, Source, noise
from voxnb.audio.playout import Truncate
from voxnb.errors import AudioError, NotSupportedError
from voxnb.media import Microphone, Speaker


class Device:
    def __init__(self, *, callback, samplerate, channels, dtype, **options):
        assert (channels, dtype) == (1, "int16")
        if options.get("device") == "none":
            raise StandIn.PortAudioError("Invalid device")
        self.callback, self.rate_hz, self.latency = callback, samplerate, 0.0
        self.running = False
        StandIn.made.append(self)

    def start(self):
        self.running = True

    def close(self):
        self.running = False

    def wants(self, frames):
        out = bytearray(frames * 2)
        self.callback(out, frames, None, None)
        return bytes(out)


class StandIn(types.ModuleType):
    class PortAudioError(Exception):
        pass

    RawOutputStream = RawInputStream = Device
    made: ClassVar[list] = []


@pytest.fixture
def device(monkeypatch):
    StandIn.made = []
    monkeypatch.setitem(sys.modules, "sounddevice", StandIn("sounddevice"))
    return lambda: StandIn.made[-1]


def test_a_loudspeaker_plays_what_it_is_sent_and_silence_after(clock, device):
    source, speaker = Source(clock), Speaker(clock=clock)
    source.send_media_to(speaker)
    source.stream.push(noise(100))
    clock.advance(1)
    assert device().running
    assert device().wants(2400) + device().wants(480) == noise(100) + bytes(960)


def test_what_the_device_has_played_is_what_was_heard(clock, device):
    source, speaker = Source(clock), Speaker(clock=clock)
    source.send_media_to(speaker)
    source.stream.push(noise(1000), item_id="a", response_id="r")
    clock.advance(0.2)
    assert source.stream.heard_ms("a") == 0
    device().wants(2400)
    assert source.stream.heard_ms("a") == 100
    assert source.stream.interrupt() == [Truncate("a", 0, 100)]
    assert device().wants(480) == bytes(960)
    source.stream.push(noise(60), item_id="b", response_id="s")
    device().wants(480)
    assert source.stream.heard_ms("b") == 20


def test_several_streams_are_added(clock, device):
    one, other, speaker = Source(clock), Source(clock), Speaker(clock=clock)
    for source in (one, other):
        source.send_media_to(speaker)
        source.stream.push(b"\x01\x00" * 480)
    clock.advance(0)
    assert device().wants(480) == b"\x02\x00" * 480


def test_a_device_that_stands_still_fills_up_and_no_further(clock, device):
    source, speaker = Source(clock), Speaker(clock=clock)
    source.send_media_to(speaker)
    source.stream.push(noise(5000))
    clock.advance(10)
    assert speaker.dropped_ms == 3000


def test_a_closed_loudspeaker_lets_go(clock, device):
    source, speaker = Source(clock), Speaker(clock=clock)
    source.send_media_to(speaker)
    speaker.close()
    speaker.close()
    assert not device().running
    assert source.streams == ()


def test_a_microphone_is_heard_at_once(clock, device):
    microphone, ear = Microphone(clock=clock), Ear(clock)
    device().callback(noise(20), 480, None, None)
    microphone.send_media_to(ear)
    device().callback(noise(40), 960, None, types.SimpleNamespace(input_overflow=True))
    assert ear.data == noise(40)
    assert microphone.overflows == 1
    microphone.close()
    assert not device().running


@pytest.mark.parametrize("unit", [Speaker, Microphone])
def test_a_device_that_is_not_there_is_an_error_that_says_what_to_do(clock, device, unit):
    with pytest.raises(AudioError, match="name one with device="):
        unit(device="none", clock=clock)


def test_without_the_library_of_its_package_the_error_names_that(monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(NotSupportedError, match="libportaudio2"):
        Speaker()


@pytest.mark.parametrize("unit", [Speaker, Microphone])
def test_without_its_package_the_error_names_the_command(monkeypatch, unit):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(NotSupportedError, match="pip install sounddevice"):
        unit()
