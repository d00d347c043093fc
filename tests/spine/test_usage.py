"""What requests took: read from every spelling, added up, unknown where it is not known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voxnb.usage import Spent, Usage


def test_usage_is_read_from_chat_completions_and_responses():
    chat = {
        "prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    responses = {
        "input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    assert Usage.from_dict(chat) == Usage.from_dict(responses) == Usage(10, 5, 4, 2)
    assert Usage.from_dict(chat).total_tokens == 15


def test_no_usage_is_false_and_has_no_total():
    for nothing in (None, {}, {"prompt_tokens": None}):
        assert not Usage.from_dict(nothing)
        assert Usage.from_dict(nothing).total_tokens is None
    assert Usage.from_dict({"prompt_tokens": 0})
    assert Usage.from_dict({"completion_tokens": 3}).total_tokens == 3


junk = st.none() | st.booleans() | st.integers(-5, -1) | st.floats() | st.text() | st.lists(st.integers())


@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"]),
        junk | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), junk),
    )
)
def test_usage_that_says_nonsense_says_nothing(data):
    assert Usage.from_dict(data) == Usage()


def test_usage_that_is_no_dict_says_nothing():
    assert Usage.from_dict([1, 2]) == Usage()


def test_a_null_count_leaves_the_word_to_its_other_name():
    assert Usage.from_dict({"prompt_tokens": None, "input_tokens": 7}).prompt_tokens == 7


def test_sound_and_what_was_put_into_the_cache_are_told_apart():
    chat = {
        "prompt_tokens": 100, "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 40, "cache_write_tokens": 20},
        "completion_tokens_details": {"audio_tokens": 10},
    }  # fmt: skip
    realtime = {
        "input_tokens": 100, "output_tokens": 50,
        "input_token_details": {
            "cached_tokens": 30, "audio_tokens": 40, "image_tokens": 5, "cached_tokens_details": {"audio_tokens": 8},
        },
        "output_token_details": {"audio_tokens": 10},
    }  # fmt: skip
    sound = {"audio_prompt_tokens": 40, "audio_completion_tokens": 10}
    assert Usage.from_dict(chat) == Usage(100, 50, 30, cache_write_tokens=20, **sound)
    assert Usage.from_dict(realtime) == Usage(100, 50, 30, audio_cached_tokens=8, image_prompt_tokens=5, **sound)


counts = st.none() | st.integers(0, 1000)
usages = st.builds(Usage, counts, counts, counts, counts)


@given(usages, usages, usages)
def test_usages_add_up_in_any_order(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)


@given(usages, usages)
def test_a_sum_with_an_unknown_part_is_unknown_and_never_less(a, b):
    both = a + b
    for name in ("prompt_tokens", "completion_tokens"):
        parts = [getattr(a, name), getattr(b, name)]
        assert getattr(both, name) == (None if None in parts else sum(parts))
    known = [n for n in (a.cached_tokens, b.cached_tokens) if n is not None]
    assert both.cached_tokens == (sum(known) if known else None), "many servers say nothing where it is 0"


def test_a_price_that_is_not_known_makes_the_sum_unknown():
    one, other = Spent(Usage(1, 2), 0.25), Spent(Usage(3, 4), 0.5)
    assert one + other == Spent(Usage(4, 6), 0.75)
    assert (one + Spent(Usage(3, 4))).cost_usd is None
