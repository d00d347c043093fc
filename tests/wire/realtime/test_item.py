"""Where an interrupted answer is cut, and what of its words was heard."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from voxnb.wire.realtime.item import WHOLE_MS, Item, Part, cut, heard_text

SPOKEN = st.builds(
    lambda audio_bytes, done, added, deleted, role: Item(
        "i",
        role=role,
        added=added,
        deleted=deleted,
        done=done,
        parts={0: Part("output_audio", text="some words", audio_bytes=audio_bytes, audio_done=done)},
    ),
    st.integers(0, 48 * 60_000),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["assistant", "user"]),
)
HEARD = st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf)


@given(SPOKEN, HEARD)
def test_a_cut_lies_within_what_came_and_what_was_heard(item, heard_ms):
    found = cut(item, heard_ms=heard_ms)
    if found.kind == "truncate":
        assert 0 < found.audio_end_ms <= item.received_ms()
        assert found.audio_end_ms <= heard_ms
    if item.role != "assistant" or item.deleted or not item.added:
        assert found.kind == "keep"
    assert (found.command is None) == (found.kind == "keep")


@given(st.integers(0, 60_000), st.floats(0, 60_000))
def test_only_a_whole_answer_that_was_nearly_heard_is_kept(received_ms, heard_ms):
    part = Part("output_audio", audio_bytes=received_ms * 48, audio_done=True)
    found = cut(Item("i", role="assistant", added=True, parts={0: part}), heard_ms=heard_ms)
    assert (found.kind == "keep") == (heard_ms >= 1 and received_ms > 0 and heard_ms >= received_ms - WHOLE_MS)


def test_what_is_still_to_come_was_not_heard():
    item = Item("i", role="assistant", added=True, parts={0: Part("output_audio", audio_bytes=48_000)})
    assert cut(item, heard_ms=990).audio_end_ms == 990
    assert cut(item, heard_ms=1_500).audio_end_ms == 1_000


def test_an_answer_in_text_is_not_cut():
    written = Item("i", role="assistant", added=True, parts={0: Part("output_text", text="All read.")})
    assert cut(written, heard_ms=0).kind == "keep"
    restored = Item("i", role="assistant", added=True, is_restored=True, parts={0: Part("output_text", text="Old.")})
    assert cut(restored, heard_ms=300).kind == "keep"


def test_an_answer_is_cut_once():
    part = Part("output_audio", audio_bytes=48_000)
    item = Item("i", role="assistant", added=True, truncated_ms=100, parts={0: part})
    assert cut(item, heard_ms=500).kind == "keep"


@given(st.text(), HEARD, st.floats(0, 1e6))
def test_what_was_heard_is_the_start_of_what_was_said(said, heard_ms, length_ms):
    heard = heard_text(said, heard_ms=heard_ms, length_ms=length_ms)
    assert said.startswith(heard)


@given(st.lists(st.text("abc", min_size=1), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_who_hears_longer_hears_no_less(words, one, other):
    said = " ".join(words)
    less, more = sorted((one, other))
    heard = [heard_text(said, heard_ms=share * 10_000, length_ms=10_000) for share in (less, more)]
    assert heard[1].startswith(heard[0])
    assert all(not h or h.split() == words[: len(h.split())] for h in heard)
