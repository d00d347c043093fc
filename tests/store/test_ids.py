"""Public ids: in the order they were made, and never the same twice, also across a fork."""

from __future__ import annotations

import os
import pickle
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.store import ids
from voxnb.store.ids import ALPHABET, new_id, new_ids, written

A_TIME_NS = 1_800_000_000_000_000_000


@pytest.fixture
def still(monkeypatch):
    """A clock that stands."""
    monkeypatch.setattr(time, "time_ns", lambda: A_TIME_NS)
    monkeypatch.setattr(ids, "_last", 0)


@given(st.integers(0, (1 << 125) - 1), st.integers(0, (1 << 125) - 1))
def test_ids_sort_as_their_numbers(one, other):
    assert (written("t", one) < written("t", other)) == (one < other)
    digits = written("t", one).removeprefix("t-")
    assert sum(ALPHABET.index(digit) << 5 * n for n, digit in enumerate(reversed(digits))) == one


@pytest.mark.usefixtures("still")
def test_within_a_millisecond_ids_follow_each_other():
    made = [new_id("e"), *new_ids("e", 3), new_id("e"), *new_ids("e", 0), new_id("e")]
    assert len(made) == 6
    assert all(a < b for a, b in pairwise(made))


def test_ids_keep_their_order_when_the_clock_goes_back(monkeypatch):
    before = new_id("t")
    monkeypatch.setattr(time, "time_ns", lambda: A_TIME_NS // 2)
    assert before < new_id("t")


@pytest.mark.usefixtures("still")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_ids_of_its_own_in_the_same_millisecond():
    new_id("t")
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, pickle.dumps(new_ids("t", 5)))
        os._exit(0)
    own = new_ids("t", 5)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        theirs = pickle.load(pipe)
    os.waitpid(pid, 0)
    assert len({*own, *theirs}) == 10
