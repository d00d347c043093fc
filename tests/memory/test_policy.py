"""A context policy's numbers hold together for every window, or it says at once what cannot be."""

from __future__ import annotations

import dataclasses
import inspect
import math

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from voxnb.errors import BudgetError
from voxnb.memory.policy import (
    DEFAULT_FOLD_AT_TOKENS,
    DEFAULT_RESERVE_TOKENS,
    LEAST_REQUEST_TOKENS,
    MIN_GAIN,
    MIN_SUMMARY_TOKENS,
    ContextPolicy,
)

TOKENS = (
    "window_tokens", "reserve_output_tokens", "fold_at_tokens", "fold_to_tokens", "summary_max_tokens",
)  # fmt: skip

sizes = st.integers(1, 300) | st.integers(1, 3_000_000)
windows = st.integers(-5, 300) | st.integers(1, 3_000_000)


@st.composite
def given_numbers(draw):
    names = draw(st.sets(st.sampled_from([*TOKENS, "fold_at_turns", "keep_last_turns"])))
    return {name: draw(st.integers(0, 12) if "turns" in name else sizes) for name in names}


@st.composite
def sensible_numbers(draw, whole=False):
    """Numbers in the right order, so that most of them are accepted; all of them, or some."""
    window = draw(st.integers(40, 3_000_000))
    reserve = draw(st.integers(0, window - 20))
    fold_at = draw(st.integers(4, window - reserve))
    fold_to = draw(st.integers(2, fold_at - 1))
    summary = draw(st.integers(1, fold_to - 1))
    numbers = dict(zip(TOKENS, (window, reserve, fold_at, fold_to, summary), strict=True))
    return numbers if whole else {name: numbers[name] for name in draw(st.sets(st.sampled_from(TOKENS)))}


def holds(limits):
    assert 0 <= limits.reserve_output_tokens < limits.window_tokens
    assert limits.hard_tokens == limits.window_tokens - limits.reserve_output_tokens
    assert 0 < limits.summary_max_tokens < limits.fold_to_tokens < limits.fold_at_tokens <= limits.hard_tokens
    assert 0 <= limits.min_gain_tokens <= limits.fold_at_tokens / MIN_GAIN
    return True


def policy_or_none(numbers):
    try:
        return ContextPolicy(**numbers)
    except BudgetError:
        return None


@given(given_numbers() | sensible_numbers(), windows, st.none() | st.integers(0, 3_000_000))
def test_an_accepted_policy_gives_limits_that_hold_together_or_an_error_for_every_window(numbers, window, reply):
    policy = policy_or_none(numbers)
    assume(policy is not None)
    try:
        limits = policy.limits(window, reserve_output_tokens=reply)
    except BudgetError:
        return
    assert holds(limits)
    assert limits.window_tokens <= window
    for name, value in numbers.items():
        if name != "window_tokens":
            assert getattr(limits, name) == value
    assert limits.window_tokens <= numbers.get("window_tokens", window)
    if "reserve_output_tokens" not in numbers and reply is not None:
        assert limits.reserve_output_tokens == reply


@settings(
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)  # most numbers contradict each other
@given(given_numbers() | sensible_numbers())
def test_a_policy_that_names_its_window_is_whole_once_it_is_made(numbers):
    policy = policy_or_none(numbers)
    assume(policy is not None and policy.window_tokens)
    assert holds(policy.limits(policy.window_tokens))
    assert holds(policy.limits(3_000_000))


@given(sensible_numbers(whole=True))
def test_numbers_in_the_right_order_are_accepted(numbers):
    assert holds(ContextPolicy(**numbers).limits(numbers["window_tokens"]))


@given(sensible_numbers())
def test_what_is_refused_is_refused_when_it_is_made_and_not_later(numbers):
    """A window that is not named is taken for as large as it must be: then only the order of the numbers counts."""
    numbers.pop("window_tokens", None)
    try:
        policy = ContextPolicy(**numbers)
    except BudgetError:
        with pytest.raises(BudgetError):
            ContextPolicy(**numbers, window_tokens=100_000_000)
    else:
        assert holds(policy.limits(100_000_000))


@given(st.integers(LEAST_REQUEST_TOKENS, 3_000_000))
def test_the_default_policy_holds_for_every_window_a_message_fits_into(window):
    limits = ContextPolicy().limits(window)
    assert holds(limits)
    assert limits.fold_at_tokens <= DEFAULT_FOLD_AT_TOKENS
    assert limits.reserve_output_tokens <= DEFAULT_RESERVE_TOKENS


@given(st.integers(-1000, LEAST_REQUEST_TOKENS - 1))
def test_a_window_without_room_for_a_message_is_refused(window):
    with pytest.raises(BudgetError, match=r"nothing is left for the request.*larger window_tokens"):
        ContextPolicy().limits(window)


def test_the_defaults_are_the_documented_ones():
    large = ContextPolicy().limits(128_000)
    assert dataclasses.asdict(large) == {
        "window_tokens": 128_000, "reserve_output_tokens": 4_096, "hard_tokens": 123_904, "fold_at_tokens": 16_000,
        "fold_at_turns": None, "fold_to_tokens": 8_000, "keep_last_turns": 4, "summary_max_tokens": 2_000,
    }  # fmt: skip
    assert large.min_gain_tokens == 2_000
    small = ContextPolicy().limits(4_096)
    assert (small.reserve_output_tokens, small.fold_at_tokens, small.fold_to_tokens) == (512, 3_276, 1_638)
    assert small.summary_max_tokens == 409
    assert ContextPolicy().limits(1_000).summary_max_tokens == MIN_SUMMARY_TOKENS
    assert ContextPolicy().background is True


def test_the_smaller_window_counts():
    policy = ContextPolicy(window_tokens=4_096)
    assert policy.limits(128_000).window_tokens == 4_096
    assert policy.limits(2_048).window_tokens == 2_048


def test_the_reserve_is_the_policys_else_the_requests_else_a_share():
    assert ContextPolicy(reserve_output_tokens=100).limits(8_000, reserve_output_tokens=900).hard_tokens == 7_900
    assert ContextPolicy().limits(8_000, reserve_output_tokens=900).hard_tokens == 7_100
    assert ContextPolicy().limits(8_000).hard_tokens == 7_000
    assert ContextPolicy(reserve_output_tokens=0).limits(8_000).hard_tokens == 8_000


IMPOSSIBLE = [
    (
        {"window_tokens": 4_096, "reserve_output_tokens": 4_096},
        r"reserve_output_tokens is 4,096 and the window has 4,096 tokens.*shorter reply .*or set a larger window_tokens",
    ),
    (
        {"window_tokens": 4_096, "fold_at_tokens": 5_000},
        "fold_at_tokens is 5,000, but a request has room for 3,584 tokens .*set it below that",
    ),
    (
        {"window_tokens": 4_096, "reserve_output_tokens": 3_000, "fold_at_tokens": 2_000},
        "room for 1,096 tokens .*or reserve_output_tokens lower",
    ),
    (
        {"fold_at_tokens": 1_000, "fold_to_tokens": 1_000},
        r"fold_to_tokens is 1,000, expected less than fold_at_tokens \(1,000\); set it lower",
    ),
    ({"fold_to_tokens": 20_000}, r"fold_at_tokens \(16,000 by default\); set it lower, or fold_at_tokens higher"),
    (
        {"summary_max_tokens": 9_000},
        r"summary_max_tokens is 9,000, expected less than fold_to_tokens \(8,000 by default\).*set it lower, or",
    ),
    ({"fold_at_tokens": 2}, "fold_at_tokens and fold_to_tokens higher"),
    ({"fold_at_turns": 3}, "fold_at_turns is 3 and keep_last_turns is 4: .*set keep_last_turns below fold_at_turns"),
    ({"keep_last_turns": None}, "keep_last_turns is None, expected a whole number of at least 0"),
    ({"summary_role": "tool"}, "summary_role is 'tool', expected system, developer, user or assistant"),
    ({"background": "yes"}, "background is 'yes', expected True or False"),
    ({"count": 3}, "count is 3, expected a function"),
]


@pytest.mark.parametrize(("numbers", "reason"), IMPOSSIBLE)
def test_an_impossible_budget_fails_when_it_is_made_and_says_what_to_change(numbers, reason):
    with pytest.raises(BudgetError, match=reason):
        ContextPolicy(**numbers)


@pytest.mark.parametrize("name", [*TOKENS, "fold_at_turns", "keep_last_turns"])
@pytest.mark.parametrize("value", [-1, 1.5, "8", True, math.nan, math.inf])
def test_a_number_that_is_no_whole_number_is_refused(name, value):
    with pytest.raises(BudgetError, match=f"{name} is .*, expected a whole number of at least"):
        ContextPolicy(**{name: value})


def test_zero_is_only_taken_where_it_means_something():
    assert ContextPolicy(keep_last_turns=0, reserve_output_tokens=0)
    for name in ("window_tokens", "fold_at_tokens", "fold_to_tokens", "summary_max_tokens", "fold_at_turns"):
        with pytest.raises(BudgetError):
            ContextPolicy(**{name: 0})


def test_a_budget_that_fits_a_large_window_is_refused_when_the_small_one_is_known():
    policy = ContextPolicy(fold_at_tokens=6_000)
    with pytest.raises(BudgetError, match="fold_at_tokens is 6,000, but a request has room for 3,584"):
        policy.limits(4_096)
    assert holds(policy.limits(8_192))


def test_a_policy_is_a_value():
    assert ContextPolicy(window_tokens=4_096) == ContextPolicy(window_tokens=4_096)
    assert hash(ContextPolicy()) == hash(ContextPolicy())
    with pytest.raises(dataclasses.FrozenInstanceError):
        ContextPolicy().window_tokens = 1
    assert "window_tokens=4096" in repr(ContextPolicy(window_tokens=4_096))


def test_tooltips_and_completion_know_the_names():
    assert list(inspect.signature(ContextPolicy).parameters) == [
        field.name for field in dataclasses.fields(ContextPolicy)
    ]
