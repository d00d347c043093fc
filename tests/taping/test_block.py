"""A tape is text: each exchange a block that people read, diff and mend, and that comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.errors import TapeError
from voxnb.taping.asked import Asked, cleaned, differences, nearest
from voxnb.taping.block import Exchange, Step, read, write

LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
EVENTS = st.dictionaries(st.sampled_from(["type", "delta", "a.b", "n", "choices", ""]), VALUES, max_size=4).filter(
    lambda e: isinstance(e.get("type", ""), str) and " " not in e.get("type", "") and "\n" not in e.get("type", "")
)


def chat(*texts, model="m", **more):
    messages = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
    return Asked("POST", "/chat/completions", {"model": model, "messages": messages, **more})


def stream(asked, *values, status=200):
    return Exchange(asked, status, "text/event-stream", [Step("came", n, value) for n, value in enumerate(values)])


def again(*exchanges):
    text = ""
    for n, exchange in enumerate(exchanges):
        text += "\n" + write(exchange, [before.asked for before in exchanges[:n]])
    found, torn = read(text, path="t.tape")
    assert torn == 0
    return found, text


@given(body=st.dictionaries(st.sampled_from(["model", "messages", "tools", "stop"]), VALUES), events=st.lists(EVENTS))
def test_whatever_was_said_is_read_as_it_was_written(body, events):
    asked = Asked("POST", "/chat/completions", body)
    (found,), _ = again(stream(asked, *events))
    assert found.asked.body == asked.body
    assert [step.value for step in found.steps] == events
    assert [step.wait_ms for step in found.steps] == list(range(len(events)))
    assert found.asked.label == asked.label


@given(st.lists(st.lists(st.text(min_size=60, max_size=90), min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_a_conversation_said_before_is_referred_to_and_read_whole(conversations):
    exchanges = [stream(chat(*texts, tools=[{"long": "t" * 300}])) for texts in conversations]
    found, _ = again(*exchanges)
    assert [e.asked.body for e in found] == [e.asked.body for e in exchanges]


@given(st.text() | st.sampled_from(["<html>\r\n404\n</html>", "{not JSON}", '"', "[{", "~a b", "~a {}", "---\n=== x"]))
def test_an_answer_that_is_no_json_leaves_the_tape_readable(text):
    (found,), _ = again(stream(chat("Hi"), text))
    assert [step.value for step in found.steps] == [text]


def test_a_long_conversation_is_on_the_tape_once():
    texts = [f"turn {n}: " + "long " * 50 for n in range(21)]
    _, text = again(*(stream(chat(*texts[: n + 1])) for n in range(0, 21, 2)))
    assert len(text) < 2.5 * sum(map(len, texts))
    assert all(text.count(f"turn {n}:") == 1 for n in range(21))


def test_a_piece_of_a_stream_is_written_as_what_changed():
    def piece(text):
        return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": text}}]}

    (found,), text = again(stream(chat("Hi"), piece("Hel"), piece("lo"), "[DONE]"))
    assert '+1 ~ {"choices.0.delta.content": "lo"}\n+2 [DONE]\n---\n' in text
    assert [step.value for step in found.steps] == [piece("Hel"), piece("lo"), "[DONE]"]


def test_pieces_of_two_streams_that_come_by_turns_are_kept_apart():
    events = [{"type": f"{kind}.delta", "item_id": "i" * 40, "delta": str(n)} for n in range(3) for kind in ("a", "b")]
    (found,), text = again(stream(chat("Hi"), *events))
    assert text.count("~a.delta") == text.count("~b.delta") == 2
    assert [step.value for step in found.steps] == events


def test_a_session_keeps_who_said_what_and_how_much_sound():
    steps = [
        Step("came", 3, {"type": "session.created"}),
        Step("said", 0, {"type": "response.create"}),
        Step("sound", 1240),
        Step("came", 80, {"type": "response.done"}),
    ]
    (found,), _ = again(Exchange(Asked("REALTIME", "/realtime", {"model": "r"}), 1001, "session is over", steps))
    assert (found.status, found.kind, list(found.steps)) == (1001, "session is over", steps)


def test_half_of_a_surrogate_pair_does_not_stop_the_tape():
    (found,), _ = again(stream(chat("\ud83d"), {"delta": "\ude00"}))
    assert found.asked.body["messages"][0]["content"] == "\ud83d"


def test_a_block_that_was_not_written_to_its_end_does_not_count():
    whole = write(stream(chat("one"), "[DONE]"))
    half = write(stream(chat("two"), "[DONE]")).removesuffix("---\n")
    for text in (whole + half, half + "\n" + whole, half + whole, half[:-4] + "\n" + whole):
        found, torn = read(text, path="t.tape")
        assert [e.asked.body["messages"][0]["content"] for e in found] == ["one"]
        assert torn == 1


def test_blocks_may_change_places():
    one, two = stream(chat("a" * 200), "x"), stream(chat("a" * 200, "b", "c"), "y")
    first, second = write(one), write(two, [one.asked])
    assert f"= {one.asked.label}" in second
    found, _ = read(second + first, path="t.tape")
    assert [e.asked.body for e in found] == [two.asked.body, one.asked.body]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("<<<<<<< HEAD", "merge"),
        ("hello", "hello"),
        ("> model: {", "model"),
        ("> model: = 00000000", "00000000"),
        ("+12 ~chat {}", "chat"),
        ('+x {"a": 1}', "x"),
        (">> nothing", "nothing"),
    ],
)
def test_a_line_that_is_none_of_a_tape_is_named(line, place):
    lines = write(stream(chat("Hi"), {"a": 1}, "[DONE]")).split("\n")
    at = next(n for n, text in enumerate(lines) if text.startswith("<")) + (line[0] in "+>" and line[:2] != "> ")
    text = "\n".join([*lines[:at], line, *lines[at:]])
    with pytest.raises(TapeError, match=place) as caught:
        read(text, path="t.tape")
    assert caught.value.line == at + 1
    assert caught.value.path == "t.tape"


def test_a_block_that_refers_to_itself_by_another_is_an_error_and_no_endless_loop():
    text = "=== a POST /p\n> tools: = b\n< 200 x\n---\n=== b POST /p\n> tools: = a\n< 200 x\n---\n"
    with pytest.raises(TapeError, match="line"):
        read(text, path="t.tape")


def test_the_nearest_request_shows_in_which_fields_it_differs():
    known = [chat("Load titanic?"), chat("Load iris?", temperature=0.2), Asked("GET", "/models", {})]
    asked = chat("Load irises?", temperature=0.2, seed=1)
    assert nearest(asked, known) == 1
    assert differences(asked, known[1]) == (
        ("messages.0.content", "Load iris?", "Load irises?"),
        ("seed", "(nothing)", "1"),
    )
    assert nearest(Asked("GET", "/props", {}), known) is None


def test_long_texts_are_shown_from_shortly_before_they_part():
    same = "the same beginning " * 30
    ((_, old, new),) = differences(chat(same + "one end"), chat(same + "another end"))
    assert old.startswith("…")
    assert "another" in old
    assert "one end" in new
    assert len(old) < 70


def test_requests_are_the_same_whoever_asks_and_an_attachment_is_its_digest():
    hide = str
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    body = cleaned({"user": "ann", "messages": [image]}, hide=hide, without=frozenset({"user"}))
    assert "user" not in body
    url = body["messages"][0]["image_url"]["url"]
    assert len(url) < 100
    assert "5,022 characters of base64" in url
    other = cleaned({"messages": [{**image, "image_url": {"url": "data:image/png;base64," + "B" * 5000}}]}, hide=hide)
    assert other["messages"][0]["image_url"]["url"] != url
