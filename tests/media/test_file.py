"""A file of any format plays in real time, or as fast as it is taken, and what is no audio is refused."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest
import soundfile

from tests.media.ear import Ear
from voxnb.audio.formats import PCM_8K, PCM_24K, ULAW_8K
from voxnb.errors import AudioError, NotSupportedError, ParameterError
from voxnb.media import AudioFile


def tone(rate_hz, seconds=1.0):
    return (9000 * np.sin(2 * np.pi * 440 * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.int16)


@pytest.fixture
def wav(tmp_path):
    def make(rate_hz=24_000, seconds=1.0, name="a.wav", channels=1, **options):
        path = tmp_path / name
        samples = tone(rate_hz, seconds)
        soundfile.write(path, samples if channels == 1 else np.stack([samples] * channels, 1), rate_hz, **options)
        return path

    return make


def pitch_hz(data, rate_hz):
    samples = np.frombuffer(data, "<i2")
    return np.abs(np.fft.rfft(samples)).argmax() * rate_hz / len(samples)


def test_a_file_is_heard_in_real_time_to_the_sample(clock, wav):
    file, ear = AudioFile(wav(), clock=clock), Ear(clock)
    file.send_media_to(ear)
    clock.advance(0.5)
    assert len(ear.heard) == 26
    assert not file.is_done
    clock.advance(0.5)
    assert file.is_done
    assert ear.data == tone(24_000).tobytes()
    assert [at for at, _ in ear.heard] == pytest.approx([1000 + 0.02 * i for i in range(50)])
    file.wait(0)


def test_a_file_may_be_given_as_fast_as_it_is_taken(clock, wav):
    file, ear = AudioFile(wav(seconds=60), real_time=False, clock=clock), Ear(clock)
    file.send_media_to(ear)
    clock.advance(0)
    assert file.is_done
    assert ear.data == tone(24_000, 60).tobytes()
    assert ear.heard[-1][1].due_s == pytest.approx(1059.98)


def test_a_listener_without_room_makes_a_fast_file_wait(clock, wav):
    class Narrow(Ear):
        def _ready(self, stream):
            return len(self.heard) < 10

    file, ear = AudioFile(wav(seconds=60), real_time=False, clock=clock), Narrow(clock)
    file.send_media_to(ear)
    clock.advance(1)
    assert len(ear.heard) == 10
    ear._ready = lambda stream: True
    clock.advance(1)
    assert file.is_done


@pytest.mark.parametrize(
    ("name", "rate_hz", "options"),
    [
        ("a.wav", 44_100, {}), ("a.wav", 11_025, {}), ("a.wav", 48_000, {"subtype": "FLOAT"}), ("a.flac", 16_000, {}),
        ("a.ogg", 24_000, {}), ("a.mp3", 24_000, {}), ("a.aiff", 8_000, {}), ("a.wav", 8_000, {"subtype": "ALAW"}),
        ("a.wav", 24_000, {"channels": 2}),
    ],
)  # fmt: skip
def test_every_format_is_heard_at_the_pitch_it_has(clock, wav, name, rate_hz, options):
    file, ear = AudioFile(wav(rate_hz, name=name, **options), clock=clock), Ear(clock, form=PCM_24K)
    file.send_media_to(ear)
    clock.advance(3)
    assert pitch_hz(ear.data, 24_000) == pytest.approx(440, abs=1.5)
    assert len(ear.data) / 48_000 == pytest.approx(1.0, abs=0.08)


def test_a_mu_law_file_passes_untouched_to_who_speaks_mu_law(clock, wav):
    file, ear = AudioFile(wav(8000, subtype="ULAW"), clock=clock), Ear(clock)
    assert file.form == ULAW_8K
    file.send_media_to(ear)
    clock.advance(2)
    assert ear.data == file.path.read_bytes()[-8000:]


def test_what_is_left_of_a_frame_is_filled_up(clock, wav):
    file, ear = AudioFile(wav(8000, seconds=0.03), clock=clock), Ear(clock)
    file.send_media_to(ear)
    clock.advance(1)
    assert len(ear.data) == 2 * PCM_8K.frame_bytes
    assert ear.data[: 2 * 240] == tone(8000, 0.03).tobytes()
    assert not any(ear.data[480:])


def test_it_goes_on_where_it_was_and_again_from_the_start(clock, wav):
    file, one, other = AudioFile(wav(), clock=clock), Ear(clock), Ear(clock)
    file.send_media_to(one)
    clock.advance(0.1)
    file.stop_media_to(one)
    clock.advance(5)
    file.send_media_to(other)
    clock.advance(5)
    assert one.data + other.data == tone(24_000).tobytes()
    file.rewind()
    assert not file.is_done
    clock.advance(5)
    assert file.is_done
    assert len(other.heard) == 44 + 50


def test_one_that_ends_while_it_is_wound_back_is_waited_for_again(clock, wav, monkeypatch):
    file, ear, asked = AudioFile(wav(), clock=clock), Ear(clock), []
    file.send_media_to(ear)
    with monkeypatch.context() as other_thread:
        other_thread.setattr(clock, "call_soon", lambda *work: asked.append(work))
        file.rewind()
    clock.advance(5)
    for work, *args in asked:
        work(*args)
    assert not file.is_done
    clock.advance(5)
    assert file.is_done


def test_it_may_begin_in_the_middle(clock, wav):
    file, ear = AudioFile(wav(), start_ms=900, clock=clock), Ear(clock)
    file.send_media_to(ear)
    clock.advance(2)
    assert ear.data == tone(24_000)[-2400:].tobytes()


def test_two_listeners_hear_the_same(clock, wav):
    file, one, other = AudioFile(wav(), clock=clock), Ear(clock), Ear(clock, form=PCM_8K)
    file.send_media_to(one)
    file.send_media_to(other)
    clock.advance(2)
    assert (len(one.heard), len(other.heard)) == (50, 50)


def test_a_closed_file_is_silent_and_whoever_waits_goes_on(clock, wav):
    file, ear = AudioFile(wav(), clock=clock), Ear(clock)
    file.send_media_to(ear)
    clock.advance(0.1)
    file.close()
    file.close()
    clock.advance(5)
    assert len(ear.heard) == 6
    file.wait(0)
    assert clock.waiting == 0


def test_it_can_be_awaited_and_blocked_on_while_it_plays(wav):
    file, ear = AudioFile(wav(seconds=0.1)), Ear(None)
    file.send_media_to(ear)
    file.wait(30)
    assert len(ear.heard) == 5

    async def again():
        file.rewind()
        await file

    asyncio.run(again())
    file.close()


@pytest.mark.parametrize("content", [b"", b"not audio at all", b"RIFF\x00\x00\x00\x00WAVE", b"\x00" * 5000])
def test_what_is_no_audio_is_refused(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav"):
        AudioFile(path)


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="there is no file"):
        AudioFile(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is a folder"):
        AudioFile(tmp_path)
    with pytest.raises(AudioError, match="cannot be read"):
        AudioFile("x" * 5000)


@pytest.mark.parametrize("wrong", [-100, "100", None, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["start_ms", "tail_ms"])
def test_a_time_that_is_none_is_refused(wav, name, wrong):
    with pytest.raises(ParameterError, match=f"{name} is .* expected milliseconds, 0 or more"):
        AudioFile(wav(), **{name: wrong})


def test_a_file_without_a_sound_and_a_start_beyond_the_end_are_refused(wav):
    with pytest.raises(AudioError, match="no sound"):
        AudioFile(wav(seconds=0))
    with pytest.raises(AudioError, match="lasts 1000 ms"):
        AudioFile(wav(), start_ms=5000)


def test_without_its_package_the_error_names_the_command(monkeypatch, wav):
    path = wav()
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(NotSupportedError, match=r"pip install 'voxnb\[realtime\]'"):
        AudioFile(path)


def test_a_file_that_breaks_off_says_so_to_whoever_waits(clock, wav, monkeypatch):
    file, ear = AudioFile(wav(seconds=3), clock=clock), Ear(clock)

    class Broken:
        samplerate = 24_000

        def read(self, *args, **options):
            raise RuntimeError("bad sector")

    real, file._file = file._file, Broken()
    file.send_media_to(ear)
    clock.advance(5)
    with pytest.raises(AudioError, match="broke off: bad sector"):
        file.wait(0)
    real.close()
