"""A recording holds, to the sample, what sounded and when; and a killed process leaves one that plays."""

from __future__ import annotations

import subprocess
import sys
import wave

import numpy as np
import pytest

from tests.media.ear import Ear, Source, noise
from voxnb.audio.formats import PCM_8K, PCM_24K
from voxnb.audio.playout import Truncate
from voxnb.errors import AudioError
from voxnb.media import AudioFile, Recorder


def channels(path):
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 2
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T


def samples(data):
    return np.frombuffer(data, "<i2")


def test_two_voices_lie_on_one_clock_to_the_sample(clock, tmp_path):
    one, other, recorder = Source(clock), Source(clock), Recorder(tmp_path / "a.wav", clock=clock)
    one.send_media_to(recorder)
    other.send_media_to(recorder)
    clock.advance(0.25)
    one.stream.push(noise(400))
    clock.advance(0.5)
    other.stream.push(noise(200))
    clock.advance(3)
    one.stream.push(noise(100))
    clock.advance(1.25)
    assert recorder.close() == tmp_path / "a.wav"
    left, right = channels(recorder.path)
    assert len(left) == 5 * 24_000
    expected = np.zeros((2, 5 * 24_000), np.int16)
    expected[0, 6000 : 6000 + 9600] = samples(noise(400))
    expected[1, 18_000 : 18_000 + 4800] = samples(noise(200))
    expected[0, 90_000 : 90_000 + 2400] = samples(noise(100))
    assert (left == expected[0]).all()
    assert (right == expected[1]).all()
    assert recorder.duration_ms == 5000


def test_what_an_interruption_kept_from_being_heard_is_not_in_it(clock, tmp_path):
    voice, phone, recorder = Source(clock), Ear(clock), Recorder(tmp_path / "a.wav", clock=clock)
    voice.send_media_to(phone)
    voice.send_media_to(recorder)
    to_phone, to_recorder = voice.feeding
    for number in range(20):
        start = len(channels_of(recorder, clock)) if number else 0
        for stream in voice.feeding:
            stream.push(noise(700), item_id=f"i{number}", response_id=f"r{number}")
        clock.advance(0.1 + 0.0237 * number)
        decisions = to_phone.interrupt()
        assert to_recorder.interrupt() == decisions
        heard_ms = to_phone.playout.heard_ms(f"i{number}")
        assert decisions == [Truncate(f"i{number}", 0, int(heard_ms))]
        clock.advance(2)
        left = channels_of(recorder, clock)[start:]
        heard = round(heard_ms * 24)
        spoken = np.flatnonzero(left)
        first = spoken[0]
        assert (left[first : first + heard] == samples(noise(700))[: len(left[first : first + heard])]).all()
        assert not left[first + heard :].any()
    recorder.close()


def channels_of(recorder, clock):
    clock.advance(1.6)  # until the tape has given it to the file
    return channels(recorder.path)[0]


def test_the_clocks_jitter_is_not_in_the_recording(clock, tmp_path):
    one, recorder = Source(clock), Recorder(tmp_path / "a.wav", clock=clock)
    one.send_media_to(recorder)
    data = noise(1000)
    for number in range(50):  # a telephone's frames, each late by something else
        clock.advance(0.02 + (0.004 if number % 2 else -0.004))
        one.stream.frame(data[number * 960 : (number + 1) * 960])
    recorder.close()
    left, _ = channels(recorder.path)
    spoken = np.flatnonzero(left)
    assert (left[spoken[0] : spoken[0] + 24_000] == samples(data)[np.flatnonzero(samples(data))[0] :][:24_000]).all()


def test_a_late_process_makes_no_gap(clock, tmp_path):
    one, recorder = Source(clock), Recorder(tmp_path / "a.wav", clock=clock)
    one.send_media_to(recorder)
    one.stream.push(noise(1000))
    clock.advance(0.3)
    clock._now_s += 0.4  # the process stood still
    clock.advance(3)
    recorder.close()
    assert (channels(recorder.path)[0][:24_000] == samples(noise(1000))).all()


def test_other_rates_are_recorded_at_the_recorders_own(clock, tmp_path):
    one, recorder = Source(clock, form=PCM_8K), Recorder(tmp_path / "a.wav", rate_hz=16_000, clock=clock)
    one.send_media_to(recorder, tag="right")
    one.stream.push(noise(500, PCM_8K))
    clock.advance(2)
    recorder.close()
    with wave.open(str(recorder.path)) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 32_000)
    left, right = channels(recorder.path)
    assert not left.any()
    assert right.any()


def test_a_third_voice_is_added_to_the_right(clock, tmp_path):
    voices, recorder = [Source(clock) for _ in range(3)], Recorder(tmp_path / "a.wav", clock=clock)
    for number, voice in enumerate(voices):
        voice.send_media_to(recorder)
        voice.stream.push(np.full(4800, 10**number, "<i2").tobytes())
    clock.advance(1)
    recorder.close()
    left, right = channels(recorder.path)
    assert (left[:4800] == 1).all()
    assert (right[:4800] == 110).all()


def test_a_file_is_recorded_faster_than_time(clock, tmp_path):
    source = Recorder(tmp_path / "source.wav", clock=clock)
    voice = Source(clock)
    voice.send_media_to(source)
    voice.stream.push(noise(30_000))
    clock.advance(40)
    source.close()
    file, recorder = AudioFile(source.path, real_time=False, clock=clock), Recorder(tmp_path / "a.wav", clock=clock)
    file.send_media_to(recorder)
    clock.advance(0)
    assert file.is_done
    recorder.close()
    left, right = channels(recorder.path)
    assert len(left) == 40 * 24_000
    assert recorder._tape is None
    assert (left[: 30 * 24_000] == (samples(noise(30_000)) / 2).round()).all()
    assert not right.any()


def test_an_hour_takes_no_memory(clock, tmp_path):
    one, recorder = Source(clock), Recorder(tmp_path / "a.wav", rate_hz=8000, clock=clock)
    one.send_media_to(recorder)
    for _ in range(360):
        one.stream.frame(noise(20))
        clock.advance(10)
        assert recorder._tape._open.nbytes < 200_000
    assert recorder.close().stat().st_size == 3600 * 8000 * 4 + 44


def test_the_file_plays_at_every_moment(clock, tmp_path):
    one, recorder = Source(clock), Recorder(tmp_path / "a.wav", clock=clock)
    one.send_media_to(recorder)
    one.stream.push(noise(5000))
    for _ in range(20):
        clock.advance(0.3)
        with wave.open(str(recorder.path)) as file:
            assert recorder.path.stat().st_size == 44 + file.getnframes() * 4
    recorder.close()


@pytest.mark.slow
def test_a_killed_process_leaves_a_file_that_plays(tmp_path):
    script = f"""
import os, signal, time
from voxnb.media import MediaUnit, Recorder

class Tone(MediaUnit):
    def _feeds(self, stream):
        stream.push(b"\\1\\0" * 24000 * 60)

recorder = Recorder({str(tmp_path / "a.wav")!r})
Tone().send_media_to(recorder)
while recorder.duration_ms < 1000:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=100, check=False)
    assert done.returncode == -9
    left, right = channels(tmp_path / "a.wav")
    assert len(left) >= 24_000
    assert (left[np.flatnonzero(left)[0] :] == 1).all()
    assert not right.any()


def test_closing_twice_and_recording_nothing_do_no_harm(clock, tmp_path):
    recorder = Recorder(tmp_path / "deep" / "er" / "a.wav", clock=clock)
    assert recorder.close() == recorder.close()
    assert len(channels(recorder.path)[0]) == 0
    assert clock.waiting == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be replaced there")
def test_a_cell_that_runs_again_has_its_own_recording_and_nothing_of_the_one_before(clock, tmp_path):
    one, other = Source(clock), Source(clock)
    before = Recorder(tmp_path / "a.wav", clock=clock)
    one.send_media_to(before)
    one.stream.push(noise(4000))
    clock.advance(2)
    again = Recorder(tmp_path / "a.wav", clock=clock)
    other.send_media_to(again)
    other.stream.push(noise(600))
    clock.advance(1)
    again.close()
    before.close()
    left, right = channels(again.path)
    assert (left[: 600 * 24] == samples(noise(600))).all()
    assert (len(left), left[600 * 24 :].any(), right.any()) == (24_000, False, False)


def test_a_place_that_cannot_be_written_is_refused(clock, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AudioError, match="cannot be written"):
        Recorder(tmp_path / "file" / "a.wav", clock=clock)
    with pytest.raises(AudioError):
        Recorder(tmp_path / "a.wav", rate_hz=1, clock=clock)


def test_a_full_disk_ends_the_recording_and_nothing_else(clock, tmp_path, capsys):
    one, ear, recorder = Source(clock), Ear(clock), Recorder(tmp_path / "a.wav", clock=clock)

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    recorder._file.close()
    recorder._file = Full()
    one.send_media_to(recorder)
    one.send_media_to(ear)
    for stream in one.feeding:
        stream.push(noise(3000))
    clock.advance(5)
    assert ear.data == noise(3000)
    with pytest.raises(AudioError, match="broke off"):
        recorder.close()
    assert "No space left" in capsys.readouterr().err


def test_it_records_at_the_rate_that_openai_speaks_unless_told(tmp_path, clock):
    recorder = Recorder(tmp_path / "a.wav", clock=clock)
    assert recorder.form == PCM_24K
    recorder.close()
