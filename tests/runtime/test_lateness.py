"""Percentiles of delays, in a fixed amount of memory."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.runtime.lateness import Lateness


@given(st.lists(st.floats(0, 6e5), min_size=1), st.sampled_from([50, 90, 99, 100]))
def test_a_percentile_is_never_too_low_and_at_most_a_fifth_too_high(delays, percent):
    late = Lateness()
    for ms in delays:
        late.add(ms)
    ranked = sorted(delays)
    exact = ranked[max(0, -(-len(ranked) * percent // 100) - 1)]
    told = late.percentile(percent)
    assert exact * 0.999 <= told <= max(0.06, exact * 1.2)
    assert late.max_ms == max(delays)
    assert late.count == len(delays)


def test_what_is_early_is_not_late_and_nothing_is_nothing():
    late = Lateness()
    assert late.facts() == {"late_p50_ms": 0.0, "late_p99_ms": 0.0, "late_max_ms": 0.0}
    late.add(-5)
    assert late.facts() == {"late_p50_ms": 0.0, "late_p99_ms": 0.0, "late_max_ms": 0.0}
    assert late.count == 1


def test_a_day_is_the_last_bucket_and_takes_no_more_room():
    late = Lateness()
    size = sys.getsizeof(late._buckets)
    late.add(86_400_000)
    assert late.percentile(50) == pytest.approx(86_400_000, rel=0.5)
    assert sys.getsizeof(late._buckets) == size
