"""A sound has ended after a second of silence; durations add up and are cut to whole seconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.formats import ALAW_8K, PCM_16K, ULAW_8K
from voxnb.audio.g711 import encode
from voxnb.audio.silence import QUIET_PEAK, SILENCE_S, SilenceRule, is_quiet

FRAME_S = 0.02


def play(rule, *, at_s, seconds):
    """Frames without a gap; whether any was a first one."""
    return [rule.sounded(at_s + i * FRAME_S, length_s=FRAME_S) for i in range(round(seconds / FRAME_S))]


def test_the_logged_session_gives_the_logged_numbers():
    rule, now_s, durations = SilenceRule(), 100.0, []
    for seconds in (6.84, 4.16, 2.52, 12.0):
        assert play(rule, at_s=now_s, seconds=seconds).count(True) == 1
        now_s += seconds + 3
        durations.append(rule.passed(now_s).duration_s)
    assert durations == [6, 11, 13, 25]


def test_an_interrupted_call_counts_what_sounded():
    rule = SilenceRule()
    play(rule, at_s=0.0, seconds=9.0)
    rule.cut(2.23)
    assert rule.passed(3.22) is None
    ended = rule.passed(3.23)
    assert (ended.duration_s, ended.utterance_s) == (2, pytest.approx(2.23))


def test_a_pause_below_a_second_is_one_sound():
    rule = SilenceRule()
    rule.sounded(0.0, length_s=1.0)
    assert rule.passed(1.9) is None
    assert rule.sounded(1.9, length_s=1.0) is False
    assert rule.stop().utterance_s == pytest.approx(2.9)


def test_a_stop_ends_a_sound_at_once_and_silence_not_at_all():
    rule = SilenceRule()
    assert rule.stop() is None
    rule.sounded(5.0, length_s=0.5)
    assert rule.stop().utterance_s == pytest.approx(0.5)
    assert rule.stop() is None
    assert rule.wake_s is None


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.001, 2)), min_size=1, max_size=40))
def test_starts_and_ends_alternate_and_the_total_is_the_sum(pieces):
    rule, at_s, total_s, starts, ends = SilenceRule(), 10.0, 0.0, 0, 0
    for gap_s, length_s in pieces:
        at_s += gap_s
        ended = rule.passed(at_s)
        if ended is not None:
            ends += 1
            total_s += ended.utterance_s
            assert ended.duration_s == int(total_s + 1e-9)
            assert at_s - ended.ended_at_s >= SILENCE_S - 1e-6
        starts += rule.sounded(at_s, length_s=length_s)
        assert starts == ends + 1
        at_s += length_s
    assert rule.stop().utterance_s + total_s <= at_s - 10.0 + 1e-6


@pytest.mark.parametrize("form", [PCM_16K, ULAW_8K, ALAW_8K])
def test_quiet_is_below_the_threshold_in_every_coding(form):
    def written(value):
        pcm = np.full(160, value, "<i2").tobytes()
        return encode(pcm, form.coding) if form.is_g711 else pcm

    assert is_quiet(written(0), form)
    assert is_quiet(written(QUIET_PEAK // 2), form)
    assert not is_quiet(written(QUIET_PEAK * 2), form)
    assert not is_quiet(written(-QUIET_PEAK * 2), form)
    assert not is_quiet(written(-32_768), form)
    assert is_quiet(b"", form)
