"""How long to try, and when to replace a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.errors import ParameterError
from voxnb.wire.realtime.policy import SessionPolicy
from voxnb.wire.realtime.refusal import may_reconnect


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_are_bounded_and_the_first_try_is_at_once(attempt, spread):
    policy = SessionPolicy()
    wait_s = policy.wait_s(attempt, spread=spread)
    assert 0 <= wait_s <= policy.longest_wait_s
    assert (wait_s == 0) == (attempt == 1)
    assert policy.wait_s(attempt + 1, spread=0) >= policy.wait_s(attempt, spread=0)


@given(st.floats(0, 1e9), st.floats(1, 1e5))
def test_a_session_is_replaced_shortly_before_its_end_and_not_when_it_begins(began_at, life_s):
    policy, expires_at = SessionPolicy(), began_at + life_s
    assert not policy.expires(now=began_at, began_at=began_at, expires_at=expires_at) or life_s < 1e-3
    assert policy.expires(now=expires_at, began_at=began_at, expires_at=expires_at)


def test_an_hour_is_left_two_minutes_before_its_end():
    policy = SessionPolicy()
    assert not policy.expires(now=3_479, began_at=0, expires_at=3_600)
    assert policy.expires(now=3_480, began_at=0, expires_at=3_600)
    assert not policy.expires(now=1e9, began_at=0, expires_at=None)
    assert not SessionPolicy(expiry_margin_s=0).expires(now=3_600, began_at=0, expires_at=3_600)


def test_tokens_beyond_the_limit_are_too_many():
    assert [SessionPolicy(most_tokens=10).is_long(n) for n in (10, 11)] == [False, True]
    assert not SessionPolicy(most_tokens=None).is_long(10**9)


@pytest.mark.parametrize("bad", [{"attempts": -1}, {"attempts": 1.5}, {"first_wait_s": float("nan")}, {"most_tokens": "x"}, {"attempts": True}])  # fmt: skip
def test_a_number_out_of_range_is_refused(bad):
    with pytest.raises(ParameterError):
        SessionPolicy(**bad)


def test_a_parameter_is_a_policy_or_none():
    assert SessionPolicy.of(None) == SessionPolicy()
    with pytest.raises(ParameterError, match="expected SessionPolicy"):
        SessionPolicy.of(5)


@pytest.mark.parametrize(("code", "again"), [(1001, True), (1006, True), (1011, True), (1009, False), (1008, False), (1007, False), (1003, False)])  # fmt: skip
def test_closes_that_would_come_again_are_not_tried_again(code, again):
    assert may_reconnect(code) is again
