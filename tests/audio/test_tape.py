"""Voices lie on a recording's timeline to the sample, whatever the jitter of their times."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.tape import SLACK_S, Tape, Voice
from voxnb.audio.wav import HEADER_BYTES, LONGEST_BYTES, header

RATE = 8000
FRAME_S = 0.02


def pcm(values):
    return np.array(values, "<i2").tobytes()


def channels(data):
    return np.frombuffer(data, "<i2").reshape(-1, 2).T


def tape():
    return Tape(rate_hz=RATE, channels=2, start_s=100.0)


@given(jitter=st.lists(st.floats(-SLACK_S / 3, SLACK_S / 3), min_size=1, max_size=60))
def test_frames_that_follow_one_another_have_no_seam(jitter):
    t, voice = tape(), Voice(1)
    values = np.arange(160 * len(jitter)) % 30_000 + 1
    # A piece may be out, but not by more than the slack from where it follows.
    at_s = 101.0
    for number, out_s in enumerate(jitter):
        place_s = at_s + number * FRAME_S + (out_s if number else 0)
        t.lay(voice, pcm(values[number * 160 : (number + 1) * 160]), at_s=place_s)
    left, right = channels(t.take(upto_s=at_s + len(jitter) * FRAME_S))
    assert not left.any()
    assert not right[:RATE].any()
    assert (right[RATE:] == values).all()


def test_a_pause_is_as_long_as_it_was():
    t, voice = tape(), Voice(0)
    t.lay(voice, pcm([1] * 160), at_s=100.0)
    t.lay(voice, pcm([2] * 160), at_s=100.5)
    left, _ = channels(t.take(upto_s=101.0))
    assert np.flatnonzero(left).tolist() == [*range(160), *range(4000, 4160)]
    assert len(left) == RATE


def test_voices_of_a_channel_are_added_and_cut_off_at_full_scale():
    t, one, other = tape(), Voice(0), Voice(0)
    t.lay(one, pcm([20_000, -20_000, 5]), at_s=100.0)
    t.lay(other, pcm([20_000, -20_000, 7]), at_s=100.0)
    left, _ = channels(t.take(upto_s=100.0 + 3 / RATE))
    assert left.tolist() == [32_767, -32_768, 12]


def test_what_was_not_heard_is_cut_to_the_sample():
    t, voice = tape(), Voice(0)
    for number in range(10):
        t.lay(voice, pcm([1] * 160), at_s=100.25 + number * FRAME_S)
    t.cut(voice, at_s=100.25 + 0.15)
    t.lay(voice, pcm([2] * 160), at_s=101.0)
    left, _ = channels(t.take(upto_s=102.0))
    assert np.flatnonzero(left == 1).tolist() == [*range(2000, 3200)]
    assert np.flatnonzero(left == 2).tolist() == [*range(8000, 8160)]


def test_a_cut_before_and_after_all_sound_changes_nothing_wrongly():
    t, voice = tape(), Voice(0)
    t.cut(voice, at_s=100.0)
    t.lay(voice, pcm([1] * 160), at_s=100.0)
    t.cut(voice, at_s=105.0)
    assert channels(t.take(upto_s=100.02))[0].sum() == 160


def test_what_comes_for_a_part_that_is_final_is_dropped_and_counted():
    t, voice = tape(), Voice(0)
    assert len(t.take(upto_s=101.0)) == RATE * 4
    t.lay(voice, pcm([1] * 160), at_s=100.99)
    assert t.late_samples == 80
    assert channels(t.take(upto_s=101.01))[0].tolist() == [1] * 80
    assert t.take(upto_s=100.5) == b""


@given(
    pieces=st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 2000), st.integers(0, 1)), max_size=20),
    takes=st.lists(st.floats(0, 3), max_size=5),
)
def test_how_often_it_is_emptied_changes_no_sample_that_was_in_time(pieces, takes):
    def run(stops):
        t, voices, now_s, out = tape(), (Voice(0), Voice(1)), 100.0, b""
        waiting = sorted(100.0 + s for s in stops)
        for gap_s, count, channel in pieces:
            now_s += gap_s + count / RATE
            while waiting and waiting[0] < now_s - 1:
                out += t.take(upto_s=waiting.pop(0))
            t.lay(voices[channel], pcm([channel + 1] * count), at_s=now_s - count / RATE)
        return out + t.take(upto_s=now_s + 1), t.late_samples

    whole, _ = run([])
    got, late = run(takes)
    assert late == 0
    assert got == whole


def test_the_header_is_one_that_others_read():
    data = pcm([1, -1, 2, -2])
    with wave.open(io.BytesIO(header(len(data), rate_hz=24_000, channels=2) + data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (24_000, 2, 2, 2)
        assert file.readframes(9) == data
    assert len(header(0, rate_hz=8000, channels=1)) == HEADER_BYTES


def test_the_longest_data_still_fits_the_header():
    assert len(header(LONGEST_BYTES, rate_hz=24_000, channels=2)) == HEADER_BYTES
    with pytest.raises(struct.error):
        header(LONGEST_BYTES + 9, rate_hz=24_000, channels=2)
