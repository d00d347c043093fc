"""Chat messages become items and items chat messages, and nothing the service needs is lost on the way."""

from __future__ import annotations

import copy
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem, response_input_item_param

from tests.wire.responses_data import (
    SAID,
    WORD,
    custom_call,
    function_call,
    message,
    outputs,
    reasoning,
    response,
    text,
    web_search,
)
from voxnb.errors import MessageError
from voxnb.messages import parse_messages
from voxnb.wire.item import NOISE, NULLABLE, OUTPUTS, STATUS_ASKED, as_input, sendable
from voxnb.wire.items import from_input, to_body, to_input, without_items
from voxnb.wire.responses import ResponsesReader

PICTURE = "data:image/png;base64,iVBORw0KGgo="


def output_of(call_id="call_1", words="42", kind="function_call_output"):
    return {"type": kind, "call_id": call_id, "output": words}


def stored(*items):
    """The message that an answer of these items is kept as."""
    reader = ResponsesReader()
    reader.feed_completion(response(*items))
    return reader.message


class TestFromInput:
    def test_a_text_is_what_the_user_says(self):
        assert from_input("Hi") == [{"role": "user", "content": "Hi"}]

    def test_nothing_is_nothing(self):
        assert from_input(None) == from_input([]) == []

    def test_plain_messages_stay_as_they_are(self):
        given = [{"role": r, "content": r} for r in ("system", "developer", "user", "assistant", "user")]
        assert from_input(given) == given

    def test_parts_are_spelled_as_in_chat_completions(self):
        parts = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": PICTURE, "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        ]
        (found,) = from_input([{"role": "user", "content": parts}])
        assert found["content"] == [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
        ]

    def test_what_chat_completions_cannot_say_is_kept(self):
        parts = [{"type": "input_image", "file_id": "file_1"}, {"type": "input_file", "file_url": "https://x.test/a"}]
        (found,) = from_input([{"role": "user", "content": parts}])
        assert to_input([found]) == [
            {"role": "user", "content": [{"type": "input_image", "detail": "auto", "file_id": "file_1"}, parts[1]]}
        ]

    def test_an_answers_items_are_one_message_equal_to_the_one_stored(self):
        items = [reasoning(summary=["hm"]), message("Let me see."), web_search(), function_call()]
        found = from_input([*items, output_of(), {"role": "user", "content": "ok"}])
        kept, again = parse_messages([stored(*items), found[0]])
        assert [m["role"] for m in found] == ["assistant", "tool", "user"]
        assert kept.content_hash == again.content_hash
        assert found[0] == stored(*items)

    def test_outputs_are_tool_messages(self):
        found = from_input(
            [function_call(), custom_call(), output_of(), output_of("call_2", "x", "custom_tool_call_output")]
        )
        assert [m.get("tool_call_id") for m in found] == [None, "call_1", "call_2"]
        assert [m["content"] for m in found[1:]] == ["42", "x"]
        assert "items" not in found[2], "its kind follows from the call"

    def test_another_easy_message_is_another_message(self):
        given = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
        assert from_input(given) == given

    def test_a_reference_and_a_setting_travel(self):
        given = [
            {"type": "item_reference", "id": "msg_1"},
            {"role": "user", "content": "x"},
            {"type": "compaction_trigger"},
        ]
        found = from_input(given)
        assert [m["role"] for m in found] == ["assistant", "user", "user"]
        assert to_input(found) == given
        parse_messages(found)

    def test_a_reference_may_leave_its_type_out(self):
        assert to_input(from_input([{"id": "msg_1"}])) == [{"type": "item_reference", "id": "msg_1"}]

    def test_sdk_objects_are_taken(self):
        from openai.types.responses import Response

        made = Response.model_validate(
            {
                **response(message("Hi"), function_call()),
                "tools": [],
                "tool_choice": "auto",
                "parallel_tool_calls": True,
            }
        )
        found = from_input([{"role": "user", "content": "x"}, *made.output])
        assert found[1] == stored(message("Hi"), function_call())

    def test_chat_messages_in_the_list_stay(self):
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        given = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
        ]
        assert from_input(given) == given

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (5, "input is int"),
            (b"Hi", "input is bytes"),
            ({"role": "user", "content": "x"}, "input is dict"),
            (["Hi"], "input item 0 is 'Hi'"),
            ([{"role": "user", "content": "x"}, {}], "input item 1 is {}"),
            ([{"role": "user", "content": "x"}, {"role": "user", "content": {1, 2}}], "message 1 cannot be written"),
            ([{"type": "message", "role": "user", "content": float("nan")}], "NaN|nan"),
        ],
    )
    def test_what_is_no_input_is_named(self, given, words):
        with pytest.raises(MessageError, match=words):
            from_input(given)

    def test_a_message_without_content_is_refused_by_the_check_of_messages(self):
        with pytest.raises(MessageError, match="no content"):
            parse_messages(from_input([{"role": "user"}]))


class TestToInput:
    def test_a_chat_becomes_items(self):
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        custom = {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "ls"}}
        chat = [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
            },
            {"role": "assistant", "content": "Wait.", "tool_calls": [call, custom]},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        ]
        assert to_input(chat) == [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a"},
                    {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
                ],
            },
            {"role": "assistant", "content": "Wait."},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "ls"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        ]

    def test_a_refusal_and_spoken_words_are_said_again(self):
        chat = [
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "Hi"}},
        ]
        assert to_input(chat) == [
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "content": "Hi"},
        ]

    def test_the_old_function_call_is_paired(self):
        chat = [
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ]
        assert [i["call_id"] for i in to_input(chat)] == ["call_f", "call_f"]

    @pytest.mark.parametrize("kind", sorted(set(OUTPUTS) - {"function_call", "custom_tool_call", "tool_search_call"}))
    def test_the_result_of_every_kind_of_call_is_an_item_of_its_kind(self, kind):
        call = {"type": kind, "id": "x_1", "call_id": "call_1", "status": "completed", "action": {}, "operation": {}}
        answer = {"role": "tool", "tool_call_id": "call_1", "content": "done"}
        (_, output) = to_input([stored(call), answer])
        assert output["type"] == OUTPUTS[kind]
        assert output.get("call_id", output.get("id")) == "call_1"

    def test_an_answers_items_go_back_as_they_came(self):
        items = [
            reasoning(summary=["hm"]),
            message(text("Hi", logprobs=[{"token": "Hi"}])),
            web_search(),
            function_call(),
        ]
        sent = to_input([stored(*items), {"role": "tool", "tool_call_id": "call_1", "content": "1"}])
        assert sent == [*map(as_input, items), output_of(words="1")]
        assert "logprobs" not in json.dumps(sent)

    def test_reasoning_goes_back_encrypted_or_not_at_all(self):
        items = [reasoning(encrypted=None, summary=["hm"]), web_search(), message("Hi"), function_call()]
        kept = stored(*items)
        assert kept["items"][0]["type"] == "reasoning", "it is kept to be shown"
        assert to_input([kept, {"role": "tool", "tool_call_id": "call_1", "content": "1"}]) == [
            {"role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            output_of(words="1"),
        ]

    def test_reasoning_that_nothing_follows_stays_behind(self):
        kept = stored(message("Hi"), reasoning())
        sent = to_input([kept, {"role": "user", "content": "?"}])
        assert [i.get("type", i["role"]) for i in sent] == ["message", "user"]

    def test_a_call_that_was_taken_out_is_not_sent(self):
        kept = stored(reasoning(), function_call("a"), function_call("b", identity="fc_2"))
        kept["tool_calls"] = kept["tool_calls"][1:]
        assert [i.get("call_id") for i in to_input([kept])] == [None, "b"]

    @pytest.mark.parametrize("words", ["Hi [the reply was cut off here]", "", "[redacted]"])
    def test_a_text_that_was_changed_wins_over_the_items(self, words):
        kept = {**stored(reasoning(), message("Hi")), "content": words}
        assert to_input([kept]) == [{"role": "assistant", "content": words}]

    @pytest.mark.parametrize("field", ["items", "tool_calls"])
    def test_items_of_another_making_are_not_trusted(self, field):
        kept = {"role": "assistant", "content": "Hi", field: [5, {"type": 7}, {}]}
        assert to_input([kept])[0] == {"role": "assistant", "content": "Hi"}

    def test_an_answer_to_be_replayed_has_ids_and_a_status(self):
        items = [message("Hi"), function_call()]
        plain = without_items(stored(*items))
        found = to_input([plain], answers=True)
        assert [(i["type"], i["id"], i["status"]) for i in found] == [
            ("message", "msg_0", "completed"),
            ("function_call", "fc_1", "completed"),
        ]
        assert {k: v for k, v in stored(*found).items() if k != "items"} == plain

    @given(outputs())
    def test_a_replayed_answer_reads_as_the_one_that_was_kept(self, output):
        kept = stored(*output)
        assert stored(*to_input([kept], answers=True)) == kept or not output


USER = st.one_of(
    WORD,
    st.lists(
        st.one_of(
            SAID.map(lambda t: {"type": "input_text", "text": t}),
            st.sampled_from(["auto", "low"]).map(lambda d: {"type": "input_image", "image_url": PICTURE, "detail": d}),
            st.just({"type": "input_image", "file_id": "file_1"}),
            st.just({"type": "input_file", "file_id": "file_2"}),
            st.just({"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,AA=="}),
            st.just({"type": "input_file", "file_url": "https://x.test/a"}),
        ),
        min_size=1,
        max_size=3,
    ),
)


@st.composite
def inputs(draw):
    """What callers send: messages of every role, answers as they came, outputs of their calls, references."""
    made: list = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["user", "answer", "easy", "reference", "instruction", "approval"]))
        if kind == "user":
            item = {"role": "user", "content": draw(USER)}
            made.append({"type": "message", **item} if draw(st.booleans()) else item)
        elif kind == "instruction":
            made.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(WORD)})
        elif kind == "easy":
            made.append({"role": "assistant", "content": draw(SAID)})
        elif kind == "reference":
            made.append({"type": "item_reference", "id": "rs_9"})
        elif kind == "approval":
            made.append({"type": "mcp_approval_response", "approval_request_id": "a", "approve": True, "id": None})
        else:
            output = draw(outputs())
            if draw(st.booleans()):
                output = [{**i, "encrypted_content": None} if i["type"] == "reasoning" else i for i in output]
            made += output
            calls = [i for i in output if i["type"] in ("function_call", "custom_tool_call")]
            made += [output_of(c["call_id"], draw(WORD), OUTPUTS[c["type"]]) for c in calls]
            made += [output_of("elsewhere", draw(WORD), draw(st.sampled_from(sorted(OUTPUTS.values()))))][
                : draw(st.integers(0, 1))
            ]
    return made


class TestRoundTrip:
    @given(inputs())
    def test_what_was_given_is_what_is_sent(self, given):
        untouched = copy.deepcopy(given)
        messages = from_input(given)
        assert to_input(messages) == sendable(given)
        assert given == untouched
        assert [m.to_dict() for m in parse_messages(messages)] == messages

    @given(inputs())
    def test_sending_again_changes_nothing(self, given):
        once = sendable(given)
        assert sendable(once) == once

    @given(inputs())
    def test_no_message_shares_parts_with_what_is_sent(self, given):
        messages = from_input(given)
        kept = copy.deepcopy(messages)
        for item in to_input(messages):
            for value in item.values():
                if isinstance(value, list | dict):
                    value.clear()
        assert messages == kept


class TestBody:
    def test_leading_messages_become_the_instructions(self):
        messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi"}]
        assert to_body({"model": "m"}, messages, leading=1) == {
            "model": "m",
            "instructions": "Be terse.",
            "input": [{"role": "user", "content": "Hi"}],
        }

    def test_instructions_in_parts_stay_messages(self):
        messages = [{"role": "system", "content": [{"type": "text", "text": "Be terse."}]}]
        body = to_body({"instructions": "x"}, messages, leading=1)
        assert body == {
            "instructions": "x",
            "input": [{"role": "system", "content": [{"type": "input_text", "text": "Be terse."}]}],
        }

    def test_tools_and_formats_of_chat_completions_are_laid_flat(self):
        function = {"name": "f", "parameters": {"type": "object"}}
        schema = {"name": "s", "schema": {"type": "object"}, "strict": True}
        body = to_body(
            {
                "tools": [
                    {"type": "function", "function": function},
                    {"type": "web_search"},
                    {"type": "custom", "custom": {"name": "g"}},
                ],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "response_format": {"type": "json_schema", "json_schema": schema},
                "text": {"verbosity": "low"},
            },
            [],
        )
        assert body == {
            "tools": [{"type": "function", **function}, {"type": "web_search"}, {"type": "custom", "name": "g"}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"verbosity": "low", "format": {"type": "json_schema", **schema}},
        }

    def test_the_given_body_is_not_changed(self):
        given = {"tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "text"}}
        kept = copy.deepcopy(given)
        to_body(given, [])
        assert given == kept


class TestWithoutItems:
    def test_other_messages_are_not_changed(self):
        assert without_items({"role": "assistant", "content": None, "x": 1}) == {
            "role": "assistant",
            "content": None,
            "x": 1,
        }

    def test_a_message_of_calls_needs_no_content(self):
        kept = without_items(stored(function_call()))
        assert (kept["content"], "items" in kept) == (None, False)

    def test_an_answer_of_built_in_tools_only_is_an_empty_text(self):
        assert without_items(stored(web_search())) == {"role": "assistant", "content": ""}


class TestHash:
    def test_answers_that_differ_only_in_their_reasoning_say_the_same(self):
        one, other = parse_messages(
            [stored(reasoning(), message("Hi")), stored(reasoning("rs_2", encrypted="x"), message("Hi", identity="m"))]
        )
        assert one.content_hash == other.content_hash
        assert one == parse_messages([{"role": "assistant", "content": "Hi"}])[0]

    def test_an_answer_of_built_in_tools_only_is_not_an_empty_one(self):
        tea, coffee, empty = parse_messages(
            [stored(web_search()), stored(web_search(query="coffee")), {"role": "assistant", "content": ""}]
        )
        assert len({tea.content_hash, coffee.content_hash, empty.content_hash}) == 3


def _classes(kind):
    """The members of a union, annotated or not."""
    found = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return _classes(found[0])
    return [c for k in found for c in _classes(k)] if found and not isinstance(kind, type) else [kind]


def _types(kind):
    """Type names that a ``type`` annotation allows."""
    found = typing.get_args(kind)
    return {kind} if isinstance(kind, str) else {t for k in found for t in _types(k)}


INPUTS: dict[str, list] = {}
for _class in _classes(response_input_item_param.ResponseInputItemParam):
    for _name in _types(typing.get_type_hints(_class).get("type")):
        INPUTS.setdefault(_name, []).append(_class)


@pytest.mark.parametrize("item", _classes(ResponseOutputItem), ids=lambda c: c.__name__)
def test_what_the_sdk_returns_is_left_out_or_taken_back(item):
    (kind,) = _types(item.model_fields["type"].annotation)
    accepted = {k for c in INPUTS[kind] for k in typing.get_type_hints(c)}
    returned = {f.alias or name for name, f in item.model_fields.items()}
    assert returned - accepted - NOISE - {"status"} == set(), (
        "a new key the service does not take back: add it to NOISE"
    )
    if kind != "message":
        required = {
            k
            for c in INPUTS[kind]
            for k, v in typing.get_type_hints(c, include_extras=True).items()
            if "Required" in str(v)
        }
        assert ("status" in required) == (kind in STATUS_ASKED)
        nullable = {
            k
            for c in INPUTS[kind]
            for k, v in typing.get_type_hints(c).items()
            if k in required and type(None) in typing.get_args(v)
        }
        assert nullable == set(NULLABLE.get(kind, ()))
