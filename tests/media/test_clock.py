"""The gauge of the media loop: how late it is, looked at while something lives on it."""

from __future__ import annotations

import pytest

from voxnb.media.clock import Gauge
from voxnb.testing.clock import VirtualClock


class Slow(VirtualClock):
    """A clock whose loop was busy: what was due comes so much later."""

    late_s = 0.0

    def now(self):
        return super().now() + self.late_s


def test_a_loop_in_time_is_not_late():
    clock = Slow()
    gauge = Gauge(clock)
    gauge.begin()
    clock.advance(2)
    assert gauge.late.count >= 99
    assert gauge.late.max_ms == pytest.approx(0, abs=1e-6)
    gauge.end()


def test_a_busy_loop_is_told_by_its_percentiles_and_catches_up():
    clock = Slow()
    gauge = Gauge(clock)
    gauge.begin()
    clock.advance(1)
    clock.late_s = 0.3
    clock.advance(0.02)
    clock.late_s = 0.0
    clock.advance(1)
    assert gauge.late.max_ms == pytest.approx(300, rel=0.1)
    assert gauge.late.percentile(50) < 1
    gauge.end()


def test_it_looks_only_while_something_lives():
    clock = Slow()
    gauge = Gauge(clock)
    gauge.begin()
    gauge.begin()
    gauge.end()
    clock.advance(0.1)
    seen = gauge.late.count
    gauge.end()
    clock.advance(1)
    assert gauge.late.count == seen > 0
    gauge.begin()
    assert gauge.late.count == 0, "anew for the next life"
    gauge.end()
