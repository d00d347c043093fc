"""Nothing that a model says acts on the terminal, and widths are counted in columns."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.terminal.text import Printable, clip, one_line, pad, printable, width_of, wrapped

ANY = st.text(st.characters(exclude_categories=()), max_size=60)
ACTING = {*map(chr, range(32)), *map(chr, range(127, 160))} - {"\n"}
TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
        ("\x9b31mred\x9d0;title\x9c", r"\x9b31mred\x9d0;title\x9c"),
        ("safe\rrm -rf", r"safe\rrm -rf"),
        ("abc\b\b\bxyz\x7f", r"abc\x08\x08\x08xyz\x7f"),
        ("\u202eevil\u2069", r"\u202eevil\u2069"),
        ("half \ud83d emoji", r"half \ud83d emoji"),
        ("null\0", r"null\x00"),
        ("one\r\ntwo\nthree", "one\ntwo\nthree"),
        ("a\tb", "a    b"),
        ("שלום 北京 👩‍👩‍👧 e\u0301 <|endoftext|>", "שלום 北京 👩‍👩‍👧 e\u0301 <|endoftext|>"),
    ],
)
def test_what_would_act_is_shown_instead(said, shown):
    assert printable(said) == shown


@given(ANY)
def test_nothing_that_acts_is_left_and_all_can_be_written(text):
    shown = printable(text)
    assert not set(shown) & (ACTING | TURNING)
    shown.encode("utf-8")


@given(st.lists(st.text(st.sampled_from("a\r\n\x1b"), max_size=4), max_size=8))
def test_a_text_in_pieces_is_shown_as_the_whole(pieces):
    stream = Printable()
    assert "".join(map(stream.feed, pieces)) + stream.end() == printable("".join(pieces))


@given(ANY, st.integers(2, 40))
def test_clipped_text_fits(text, width):
    shown = printable(one_line(text))
    cut = clip(shown, width)
    assert width_of(cut) <= width
    assert cut == shown or (cut.endswith("…") and shown.startswith(cut[:-1]))


@given(ANY, st.integers(2, 40))
def test_wrapped_lines_fit_and_hold_everything(text, width):
    shown = printable(text)
    lines = list(wrapped(shown, width))
    assert all(width_of(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == shown.replace("\n", "").replace(" ", "")


def test_a_long_word_is_wrapped_in_linear_time():
    assert sum(map(len, wrapped("x" * 2_000_000, 100))) == 2_000_000


def test_wide_letters_take_two_columns_and_marks_none():
    assert width_of("北京") == 4
    assert width_of("é") == width_of(unicodedata.normalize("NFD", "é")) == 1
    assert pad("北京", 6) == "北京  "
    assert pad("7", 3, right=True) == "  7"
