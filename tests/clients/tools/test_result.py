"""What a tool returned, as the model reads it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from voxnb.clients.tools.result import Limit, ResultError, render_result

LIMIT = Limit(tokens=200, count=lambda text: len(text.split()))


class Level(enum.Enum):
    HIGH = "high"


@dataclasses.dataclass
class Account:
    name: str
    since: dt.date
    key: str = dataclasses.field(default="sk-secret", repr=False)


class Place(BaseModel):
    name: str
    at: dt.datetime


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n{", "as it is\n{"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (float("nan"), '"NaN"'),
        ([float("inf"), float("-inf")], '["Infinity", "-Infinity"]'),
        ({"ü": (1, 2)}, '{"ü": [1, 2]}'),
        ({3, 1, 2}, "[1, 2, 3]"),
        ({"a", 1}, '[1, "a"]'),
        (frozenset(), "[]"),
        (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), '"2026-01-02T03:00:00+00:00"'),
        (dt.timedelta(days=1, seconds=5), '"1 day, 0:00:05"'),
        (Level.HIGH, '"high"'),
        ({Level.HIGH: 1, 2: 3, None: 4, dt.date(2026, 1, 2): 5}, '{"high": 1, "2": 3, "null": 4, "2026-01-02": 5}'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (pathlib.PurePosixPath("a/b"), '"a/b"'),
        (b"text", "text"),
        ({"raw": b"\xff"}, '{"raw": {"base64": "/w=="}}'),
        (range(3), "[0, 1, 2]"),
        (collections.deque([1]), "[1]"),
        (collections.OrderedDict(a=1), '{"a": 1}'),
        (Pair(1, 2), '{"left": 1, "right": 2}'),
        (Account("Ann", dt.date(2026, 1, 2)), '{"name": "Ann", "since": "2026-01-02"}'),
        (
            Place(name="Ulm", at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)),
            '{"name": "Ulm", "at": "2026-01-02T00:00:00+00:00"}',
        ),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (np.array([1.0, np.nan]), '[1.0, "NaN"]'),
        (np.datetime64("2026-01-02T03:04:05.123456789"), '"2026-01-02T03:04:05.123456789"'),
        (pd.Timestamp("2026-01-02"), '"2026-01-02T00:00:00"'),
        (pd.Timedelta("1 day"), '"P1DT0H0M0S"'),
        ([pd.NaT, pd.NA], "[null, null]"),
        (pd.Index([1, 2]), "[1, 2]"),
        ({"table": pd.DataFrame({"a": [1, 2]})}, '{"table": [{"a": 1}, {"a": 2}]}'),
        ("half \ud83d pair", "half \ufffd pair"),
        (["half \ud83d pair"], '["half \ufffd pair"]'),
        ("<|endoftext|> مرحبا 🙂", "<|endoftext|> مرحبا 🙂"),
    ],
)
def test_what_a_value_becomes(value, text):
    assert render_result(value, limit=LIMIT) == text


def circular():
    ring: list = []
    ring.append({"again": ring})
    return ring


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a object, which JSON has no form for"),
        (circular(), "holds itself"),
        (b"\xff\x00", "2 bytes that are no text"),
        ((n for n in range(3)), r"a generator \(return a list instead\)"),
        (print, "which JSON has no form for"),
        ({(1, 2): 3}, r"a dict with the key \(1, 2\)"),
        (ValueError("x"), "a ValueError"),
    ],
)
def test_what_cannot_be_shown_is_a_clear_error(value, words):
    with pytest.raises(ResultError, match=words):
        render_result(value, limit=LIMIT)


def test_a_table_is_csv_cut_between_rows_and_says_so():
    table = pd.DataFrame({"n": range(10_000), "square": [n * n for n in range(10_000)]})
    text = render_result(table, limit=LIMIT)
    assert "10,000 rows × 2 columns, rows 1-" in text
    assert "cut to 200 tokens" in text
    assert LIMIT.count(text) <= 200
    assert "n,square\n0,0\n1,1\n" in text


def test_a_table_of_which_nothing_fits_is_an_error_that_says_what_to_do():
    with pytest.raises(ResultError, match="choose columns"):
        render_result(pd.DataFrame({f"column {n}": [1] for n in range(500)}), limit=LIMIT)


def test_a_long_text_is_cut_and_says_so_quickly():
    text = render_result("word " * 400_000, limit=LIMIT)
    assert LIMIT.count(text) <= 200
    assert text.endswith("of 2,000,000 characters shown]")
    assert text.startswith("word word")


def test_several_results_share_the_limit():
    assert Limit(tokens=2000).shared(4).tokens == 500
    assert LIMIT.shared(0).tokens == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON.filter(lambda v: not isinstance(v, str)))
def test_what_json_can_hold_arrives_as_it_was(value):
    assert json.loads(render_result(value, limit=Limit(tokens=10**6))) == value


@given(st.text(max_size=400), st.integers(1, 100))
def test_a_cut_text_is_the_start_of_the_whole_one(text, tokens):
    limit = Limit(tokens=tokens, count=len)
    whole = render_result(text, limit=Limit(tokens=10**6))
    shown = render_result(text, limit=limit)
    start, mark, _ = shown.rpartition("\n[cut here: ")
    assert shown == whole if len(whole) <= tokens else mark and whole.startswith(start)
