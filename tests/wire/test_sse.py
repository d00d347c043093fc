"""Bytes in any blocks, payloads out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from voxnb.wire.sse import SSEReader

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), min_size=1).filter(
    lambda t: not t.startswith("\ufeff")
)


def read(blocks, **settings):
    reader = SSEReader(**settings)
    found = [p for block in blocks for p in reader.feed(block)]
    return found + reader.close()


@st.composite
def streams(draw):
    """(bytes, payloads): events in every spelling, with comments and other fields between."""
    lines, payloads = [], []
    for values in draw(st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=6)):
        noise = draw(st.lists(st.sampled_from([": ping", "event: delta", "id: 7", "retry: 10"]), max_size=2))
        spaced = "data: " if draw(st.booleans()) else "data:"
        said = values if spaced == "data: " else [v.lstrip(" ") or "x" for v in values]
        lines += [*noise, *(spaced + v for v in said), *[""] * draw(st.integers(1, 3))]
        payloads.append("\n".join(said))
    raw = ""
    for line in lines:
        # A lone CR and an empty line ended by LF would be one line end, CR LF.
        ends = LINE_ENDS if line or not raw.endswith("\r") else st.sampled_from(["\r", "\r\n"])
        raw += line + draw(ends)
    return raw.encode(), payloads


@st.composite
def cut(draw, raw):
    """The same bytes in blocks, empty ones included."""
    marks = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    return [raw[a:b] for a, b in zip([0, *marks], [*marks, len(raw)], strict=True)]


@given(st.data())
def test_any_cut_of_the_bytes_gives_the_same_payloads(data):
    raw, payloads = data.draw(streams())
    assert read(data.draw(cut(raw))) == payloads
    assert read([raw[i : i + 1] for i in range(len(raw))]) == payloads


@given(st.lists(st.sampled_from([b"data", b":", b" ", b"x", b"\n", b"\r", b"\n\n", b"data: y", b"id: 1"]), max_size=30))
@example([b"data: y", b"\r", b"\n", b"\r", b"\n"])
@example([b"data: y", b"\n", b"\r", b"data: z", b"\n\n"])
def test_what_a_blank_line_ended_is_what_the_sdk_reads(parts):
    raw = b"".join(parts)
    expected = [e.data for e in SSEDecoder().iter_bytes(iter([raw])) if e.data]
    reader = SSEReader()
    assert [p for part in parts for p in reader.feed(part)] == expected
    assert SSEReader().feed(raw) == expected


def test_the_last_event_may_lack_its_blank_line():
    reader = SSEReader()
    assert reader.feed(b"data: [DONE]\n") == []
    assert reader.close() == ["[DONE]"]
    assert reader.close() == []


def test_a_character_split_between_blocks_stays_whole():
    raw = 'data: {"t": "čaj 🫖"}\n\n'.encode()
    for at in range(len(raw)):
        assert read([raw[:at], raw[at:]]) == ['{"t": "čaj 🫖"}']


def test_a_byte_order_mark_is_passed_over_also_when_split():
    raw = b"\xef\xbb\xbfdata: a\n\n"
    for at in range(len(raw)):
        assert read([raw[:at], raw[at:]]) == ["a"]


def test_bytes_that_are_not_utf8_do_not_lose_the_event():
    assert read([b"data: a\xffb\n\ndata: c\n\n"]) == ["a\ufffdb", "c"]


def test_separators_of_other_alphabets_do_not_end_a_line():
    assert read(["data: a\u2028b\x85c\x0bd\n\n".encode()]) == ["a\u2028b\x85c\x0bd"]


def test_a_login_page_gives_nothing_but_its_first_line():
    reader = SSEReader()
    assert reader.feed(b"<!doctype html>\n<title>Sign in</title>\n\n<p>\n\n") == []
    assert reader.stray == "<!doctype html>"


def test_an_event_stream_has_no_stray_line():
    reader = SSEReader()
    reader.feed(b": hello\nevent: x\nid: 1\nretry: 5\ndata: y\ndata\n\n")
    assert reader.stray == ""


def test_an_event_that_grows_without_end_is_refused():
    reader = SSEReader(max_bytes=1000)
    for _ in range(9):
        assert reader.feed(b"data: " + b"x" * 100) == []
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        reader.feed(b"x" * 100)


def test_a_block_may_be_larger_than_the_longest_event():
    assert len(read([b"data: x\n\n" * 1000], max_bytes=100)) == 1000
