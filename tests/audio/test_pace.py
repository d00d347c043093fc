"""A frame sounds when the one before it has ended; nobody drifts, and a late wake-up is nobody's gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.pace import Pacer

FRAME_S = 0.02


def close(value):
    return pytest.approx(value, abs=1e-9)


def test_an_hour_of_frames_ends_after_an_hour():
    pacer, now_s = Pacer(), 5.0
    for _ in range(180_000):
        now_s = pacer.wake_s(now_s) + 0.0004  # every wake-up is a little late
        pacer.step(now_s, length_s=FRAME_S, since_s=0.0)
    assert pacer.end_s == pytest.approx(5.0 + 3600, abs=80)
    rigid, now_s = Pacer(elastic=False), 5.0
    for _ in range(180_000):
        now_s = rigid.wake_s(now_s) + 0.0004
        rigid.step(now_s, length_s=FRAME_S, since_s=5.0)
    assert rigid.end_s == pytest.approx(5.0 + 3600, abs=1e-3)


def test_a_lead_hides_late_wake_ups_and_does_not_drift():
    pacer, now_s = Pacer(lead_ms=40), 5.0
    for number in range(180_000):
        now_s = pacer.wake_s(now_s) + (0.035 if number % 100 == 99 else 0.004)
        step = pacer.step(now_s, length_s=FRAME_S, since_s=5.0)
        assert step.late_s == 0.0
    assert pacer.end_s == pytest.approx(5.004 + 3600, abs=1e-3)


def test_a_frame_is_sent_a_lead_before_it_sounds_and_no_earlier():
    pacer = Pacer(lead_ms=40)
    assert [pacer.step(1.0, length_s=FRAME_S).due_s for _ in range(3)] == [close(1.0), close(1.02), close(1.04)]
    assert pacer.wake_s(1.0) == close(1.02)


def test_a_prebuffer_delays_only_the_first_frame():
    pacer = Pacer(prebuffer_ms=60)
    first = pacer.step(1.0, length_s=FRAME_S)
    assert (first.due_s, first.fresh) == (close(1.06), True)
    assert pacer.step(1.07, length_s=FRAME_S).due_s == close(1.08)


def test_a_telephone_that_ran_dry_starts_again_when_the_frame_arrives():
    pacer = Pacer()
    pacer.step(1.0, length_s=FRAME_S, since_s=1.0)
    step = pacer.step(1.05, length_s=FRAME_S, since_s=1.0)
    assert (step.due_s, step.late_s, step.starved_s) == (close(1.05), close(0.03), 0.0)


def test_a_recording_keeps_its_grid_when_only_we_were_late():
    pacer = Pacer(elastic=False)
    pacer.step(1.0, length_s=FRAME_S, since_s=1.0)
    step = pacer.step(1.05, length_s=FRAME_S, since_s=1.0)
    assert (step.due_s, step.late_s) == (close(1.02), close(0.03))


def test_a_recording_has_a_gap_where_the_source_had_nothing():
    pacer = Pacer(elastic=False)
    pacer.step(1.0, length_s=FRAME_S, since_s=1.0)
    step = pacer.step(1.05, length_s=FRAME_S, since_s=1.05)
    assert (step.due_s, step.late_s, step.starved_s) == (close(1.05), 0.0, close(0.03))


def test_after_a_rest_the_next_frame_is_the_first():
    pacer = Pacer()
    pacer.step(1.0, length_s=FRAME_S)
    assert not pacer.idle
    pacer.rest()
    assert pacer.idle
    step = pacer.step(9.0, length_s=FRAME_S)
    assert (step.due_s, step.late_s, step.fresh) == (close(9.0), 0.0, True)


@given(
    waits=st.lists(st.floats(0, 0.2), max_size=60),
    lead_ms=st.sampled_from([0, 20, 60]),
    elastic=st.booleans(),
)
def test_frames_never_sound_two_at_a_time_nor_before_they_are_there(waits, lead_ms, elastic):
    pacer, now_s, ended_s = Pacer(lead_ms=lead_ms, elastic=elastic), 1.0, 0.0
    for wait_s in waits:
        since_s = now_s
        now_s = max(now_s + wait_s, pacer.wake_s(now_s))
        step = pacer.step(now_s, length_s=FRAME_S, since_s=since_s)
        assert step.due_s >= ended_s - 1e-9
        assert step.due_s >= (now_s if elastic else since_s) - 1e-9
        assert step.due_s <= max(now_s, ended_s) + lead_ms / 1000 + 1e-9
        assert step.late_s >= 0
        ended_s = step.due_s + FRAME_S
        assert pacer.end_s == close(ended_s)
