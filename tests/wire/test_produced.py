"""What an answer holds beside its text is shown in one line each; only bytes that are an image are shown as one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.clients.reply import Reply, call_line, reply_plain
from voxnb.notebook.render import reply_html
from voxnb.wire.produced import produced

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = '"><script>alert(1)</script>'


def image(data):
    return {"type": "image_generation_call", "status": "completed", "result": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ({"type": "web_search_call", "action": {"query": "iris"}}, "searched the web: iris"),
        ({"type": "file_search_call", "queries": ["a", "b"]}, "searched files: a, b"),
        (
            {"type": "code_interpreter_call", "code": "1 +\n 1", "outputs": [{"type": "logs", "logs": "2"}]},
            "ran code: 1 + 1 → 2",
        ),
        (
            {"type": "mcp_call", "server_label": "db", "name": "q", "arguments": "{}", "output": "7"},
            "called db.q({}) → 7",
        ),
        (
            {
                "type": "message",
                "content": [{"annotations": [{"type": "container_file_citation", "filename": "a.csv"}]}],
            },
            "a file: a.csv",
        ),
        ({"type": "computer_call", "id": "x"}, "computer call"),
        (image(b"<svg onload='alert(1)'>"), "an image (completed)"),
    ],
)
def test_each_kind_has_its_line(item, label):
    (found,) = produced([item])
    assert (found.label, found.data) == (label, None)


def test_a_message_that_says_no_type_is_one():
    assert (
        produced([{"role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}]) == ()
    )


def test_what_the_reply_shows_anyway_is_not_said_twice():
    calls = [{"type": "function_call"}, {"type": "custom_tool_call"}, {"type": "reasoning"}, {"type": "message"}]
    assert produced(calls) == ()


def test_an_image_is_its_bytes_and_is_shown_from_them():
    reply = Reply(text="Here.", message={"role": "assistant", "content": "Here.", "items": [image(PNG)]})
    (found,) = reply.produced
    assert (found.data, found.media_type) == (PNG, "image/png")
    assert "[an image, PNG, 70 bytes]" in reply_plain(reply)
    assert '<img src="data:image/png;base64,iVBOR' in reply_html(reply)
    assert "an image" in repr(reply)


def test_hostile_words_stay_words():
    items = [{"type": "web_search_call", "action": {"query": HOSTILE}}, {"type": HOSTILE}]
    shown = reply_html(Reply(message={"items": items}))
    assert "<script" not in shown
    assert shown.count("&lt;script") == 2


def test_a_custom_call_is_shown_as_it_was_made():
    assert call_line({"id": "1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}) == "sql(select 1)"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(
    [*(name for name in ("message", "mcp_call", "code_interpreter_call", "web_search_call")), "x", 3, None]
)
keys = ("content", "outputs", "action", "queries", "result", "code", "output", "annotations", "server_label")


@given(
    st.lists(
        values
        | st.builds(lambda kind, rest: {**rest, "type": kind}, kinds, st.dictionaries(st.sampled_from(keys), values))
    )
)
def test_no_item_of_a_server_breaks_it(items):
    for thing in produced(items):
        assert "\n" not in thing.label
