"""A conversation in a new session: chat messages as items, items as chat messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.wire.realtime.talk import Talk
from voxnb.wire.realtime.item import Item, Part
from voxnb.wire.realtime.replay import ANCHOR, CUT_OFF, items_of, messages_of, said_of
from voxnb.wire.realtime.session import RealtimeSession

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
CONVERSATION = [
    {"role": "system", "content": "Summary of the earlier conversation: Ann likes iris."},
    {"role": "user", "content": "Add one and one."},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "2"},
    {"role": "assistant", "content": "Two."},
]


def test_messages_become_items_of_the_kinds_that_the_service_takes():
    items = items_of(CONVERSATION)
    assert [(i["type"], i.get("role")) for i in items] == [
        ("message", "system"),
        ("message", "user"),
        ("message", "assistant"),
        ("function_call", None),
        ("function_call_output", None),
        ("message", "assistant"),
    ]
    assert [i["content"][0]["type"] for i in items if i["type"] == "message"] == [
        "input_text", "input_text", "output_text", "output_text",
    ]  # fmt: skip
    assert (items[3]["call_id"], items[4]["call_id"], items[4]["output"]) == ("c1", "c1", "2")


def test_a_call_without_its_result_is_left_out_and_a_result_without_its_call():
    assert [i["type"] for i in items_of(CONVERSATION[:3])] == ["message", "message", "message"]
    assert items_of([CONVERSATION[3]]) == []


def test_pictures_leave_a_word():
    content = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:…"}}]
    (item,) = items_of([{"role": "user", "content": content}])
    assert item["content"] == [{"type": "input_text", "text": "Look:\n[image_url]"}]


def test_an_anchor_follows_what_was_restored_and_nothing_else():
    assert items_of(CONVERSATION, anchor=True)[-1]["content"][0]["text"] == ANCHOR
    assert items_of([], anchor=True) == []


TEXT = st.text(min_size=1).filter(str.strip)
TURNS = st.lists(
    st.one_of(
        st.builds(lambda t: [{"role": "user", "content": t}], TEXT),
        st.builds(lambda t: [{"role": "assistant", "content": t}], TEXT),
        st.builds(
            lambda n, t: [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": f"c{n}", "content": t},
            ],
            st.integers(0, 10_000),
            TEXT,
        ),
    ),
    max_size=8,
).map(lambda groups: [m for g in groups for m in g])


@given(TURNS)
def test_what_a_session_was_given_reads_back_as_it_was(messages):
    talk, session = Talk(), RealtimeSession()
    session.receive(talk.created())
    for n, item in enumerate(items_of(messages)):
        (command,) = session.command("conversation.item.create", {"item": {**item, "id": f"i{n}"}})
        session.receive(talk.event("conversation.item.added", item=command["item"], previous_item_id=talk.last_item))
        talk.last_item = f"i{n}"
    assert messages_of(session.items) == messages
    assert all(item.is_restored for item in session.items)


def spoken(text, *, heard_ms=None):
    part = Part("output_audio", text=text, audio_bytes=48_000)
    return Item("a1", role="assistant", added=True, parts={0: part}, truncated_ms=heard_ms)


def test_of_an_interrupted_answer_the_heard_part_is_kept_and_says_so():
    assert said_of(spoken("one two three four")) == "one two three four"
    assert said_of(spoken("one two three four", heard_ms=500)) == "one two" + CUT_OFF
    assert said_of(spoken("one two three four"), heard_ms=0) == ""
    assert messages_of([spoken("one two three four")], heard_ms={"a1": 0}) == []
    assert said_of(spoken("one two", heard_ms=980)) == "one two"
