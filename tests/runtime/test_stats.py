"""Sums over all calls, medians over the newest, unknown where nothing is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.runtime import stats
from voxnb.runtime.stats import CallFacts, Counters


def call(**facts):
    usual = {
        "at": 1_700_000_000.0,
        "purpose": "turn",
        "model": "m",
        "status": "complete",
        "retries": 0,
        "bytes_sent": 100,
        "bytes_received": 1_000,
        "events": 10,
        "first_event_ms": 50.0,
        "first_token_ms": 100.0,
        "duration_ms": 1_100.0,
        "prompt_tokens": 20,
        "completion_tokens": 11,
    }
    return CallFacts(**{**usual, **facts})


def test_nothing_done_is_zero_and_unknown():
    taken = Counters().taken()
    assert (taken.requests, taken.cost_usd, taken.first_token_ms) == (0, None, None)
    assert len(taken.df) == 0
    assert "unknown" in repr(taken)


def test_speed_counts_from_the_first_token():
    assert call().tokens_per_s == pytest.approx(10.0)
    assert call(first_token_ms=None).tokens_per_s is None
    assert call(completion_tokens=None).tokens_per_s is None


def test_folds_are_counted_apart():
    counters = Counters()
    counters.add(call())
    counters.add(call(purpose="fold", prompt_tokens=300, completion_tokens=40, cost_usd=0.25))
    counters.folded(tokens_before=500, tokens_after=200)
    counters.fold_failed()
    taken = counters.taken()
    assert (taken.requests, taken.folds, taken.folds_failed) == (2, 1, 1)
    assert (taken.fold_tokens, taken.saved_tokens) == (340, 300)
    assert (taken.cost_usd, taken.fold_cost_usd) == (0.25, 0.25)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_sums_are_over_all_calls_and_rows_over_the_newest(calls):
    counters = Counters()
    for retries, failed in calls:
        counters.add(call(retries=retries, status="failed" if failed else "complete"))
    taken = counters.taken()
    assert taken.requests == len(calls)
    assert taken.retries == sum(r for r, _ in calls)
    assert taken.failures == sum(f for _, f in calls)
    assert taken.bytes_received == 1_000 * len(calls)
    assert len(taken.df) == min(len(calls), stats.KEPT_CALLS)


def test_dtypes_are_fixed_also_when_it_is_empty():
    empty, one = Counters(), Counters()
    one.add(call(first_token_ms=None))
    assert list(empty.taken().df.dtypes) == list(one.taken().df.dtypes)
