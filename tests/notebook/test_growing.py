"""A text that is still being written: finished blocks and a tail."""

from hypothesis import given
from hypothesis import strategies as st

from voxnb.notebook.growing import MOST_TAIL, Growing


def shown(pieces):
    text = Growing(str)
    for piece in pieces:
        text.grow(piece)
    return text


PIECES = st.lists(
    st.sampled_from(["a", " ", "\n", "\n\n", "```\n", "~~~py\n", "- x\n", "| a |\n", "word " * 50]), max_size=60
)


@given(PIECES)
def test_nothing_is_lost_and_nothing_comes_twice(pieces):
    text = shown(pieces)
    opener = ("```", "~~~py")
    # What a block has more than the text is the opening of a fence that was torn.
    lines = [line for block in (*text.blocks, text.tail) for line in block.splitlines() if line.strip()]
    said = [line for line in "".join(pieces).splitlines() if line.strip()]
    assert [x for x in lines if x not in opener] == [x for x in said if x not in opener]


@given(PIECES)
def test_how_it_comes_makes_no_difference(pieces):
    whole = "".join(pieces)
    by_letter = shown(whole)
    assert (by_letter.blocks, by_letter.tail) == (shown(pieces).blocks, shown(pieces).tail)


@given(PIECES)
def test_the_tail_stays_short(pieces):
    assert len(shown(pieces * 5).tail) <= 2 * MOST_TAIL + 10


def test_an_empty_line_in_a_fence_ends_no_block():
    text = shown(["```py\na = 1\n\nb = 2\n```\n\nAfter"])
    assert text.blocks == ["```py\na = 1\n\nb = 2\n```\n\n"]
    assert text.tail == "After"


def test_code_that_is_torn_stays_code():
    text = shown(["```py\n", *["x = 1\n"] * 2000, "y = 2"])
    assert len(text.blocks) > 1
    assert all(block.startswith("```py\n") for block in text.blocks)
    assert text.tail.startswith("```py\n")


def test_a_line_without_end_is_cut():
    text = shown(["x" * 100] * 200)
    assert "".join(text.blocks) + text.tail == "x" * 20_000
