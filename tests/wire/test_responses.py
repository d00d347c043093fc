"""Responses as the service and its imitators really stream them."""

from __future__ import annotations

import contextlib
import copy
import json
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.responses_data import (
    custom_call,
    function_call,
    message,
    outputs,
    reasoning,
    response,
    text,
    web_search,
)
from voxnb.events import ResponsesAPIEvents as Names
from voxnb.usage import Usage
from voxnb.wire.replay import events_of
from voxnb.wire.responses import ResponsesReader

ALL = frozenset(n.value for n in Names)


def letters(words):
    return list(words)


def stream(*output, cut=letters, **settings):
    return list(events_of(response(*output, **settings), pieces=cut))


def read(events, *, wanted=(), **settings):
    """(reader, events given out, text deltas)."""
    reader, found, deltas = ResponsesReader(wanted=wanted, **settings), [], []
    for event in events:
        found += reader.feed(event)
        deltas.append(reader.text_delta)
    return reader, found, [d for d in deltas if d]


def delta(words, **more):
    return {"type": "response.output_text.delta", "delta": words, "output_index": 0, "content_index": 0, **more}


class TestEvents:
    def test_are_the_servers_own_under_their_constants_in_their_order(self):
        events = stream(reasoning(summary=["hm"]), message("Hi"), function_call())
        _, found, _ = read(events, wanted=ALL)
        assert [p for _, p in found] == events
        assert [Names(name).wire_type for name, _ in found] == [e["type"] for e in events]

    @pytest.mark.parametrize("kind", ["response.audio.delta", "response.shell_call_command.delta", "keepalive"])
    def test_without_a_constant_are_unknown_with_the_raw_payload(self, kind):
        event = {"type": kind, "sequence_number": 3, "what": {"ever": [1]}}
        _, found, _ = read([event], wanted=ALL)
        assert found == [(Names.Unknown.value, event)]

    def test_are_built_only_where_they_are_wanted(self):
        _, found, _ = read(stream(message("Hi")), wanted={Names.ResponseTextDone.value})
        assert [(name, p["text"]) for name, p in found] == [(Names.ResponseTextDone.value, "Hi")]

    def test_a_payload_shares_nothing_with_the_reader_or_the_event(self):
        events = stream(message("Hi"), function_call())
        untouched = copy.deepcopy(events)
        reader, found, _ = read(events, wanted=ALL)
        kept = reader.message
        for _, payload in found:
            for value in list(payload.values()):
                if isinstance(value, dict):
                    value.clear()
            payload.clear()
        assert (reader.message, events) == (kept, untouched)

    def test_a_type_that_only_the_event_line_says_is_taken(self):
        reader = ResponsesReader(wanted=ALL)
        found = reader.feed({"delta": "Hi"}, wire_type="response.output_text.delta")
        assert (found[0][0], reader.text_delta) == (Names.ResponseTextDelta.value, "Hi")

    def test_a_listener_that_comes_late_gets_what_follows(self):
        reader = ResponsesReader()
        assert reader.feed(delta("a")) == []
        assert reader.feed(delta("b")) == []
        reader.wanted = ALL
        assert reader.feed(delta("c")) == [(Names.ResponseTextDelta.value, delta("c"))]
        assert reader.message["content"] == "abc"


class TestMessage:
    def test_of_a_text(self):
        reader, _, deltas = read(stream(message("Hello")))
        assert "".join(deltas) == "Hello"
        assert reader.message == {
            "role": "assistant",
            "content": "Hello",
            "items": [{**message(), "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}],
        }

    def test_of_calls_is_that_of_a_chat(self):
        reader, _, _ = read(stream(reasoning(), function_call(arguments='{"x": 1}'), custom_call()))
        found = reader.message
        assert found["content"] is None
        assert found["tool_calls"] == [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ]
        assert [i["type"] for i in found["items"]] == ["reasoning", "function_call", "custom_tool_call"]

    def test_of_other_calls_that_the_caller_answers_keeps_their_kind(self):
        call = {"type": "computer_call", "id": "cu_1", "call_id": "call_9", "status": "completed"}
        call |= {"action": {"type": "wait"}, "pending_safety_checks": []}
        reader, _, _ = read(stream(call))
        inner = {"action": {"type": "wait"}, "pending_safety_checks": []}
        assert reader.message["tool_calls"] == [{"id": "call_9", "type": "computer_call", "computer_call": inner}]
        assert reader.finish_reason == "tool_calls"

    def test_a_call_that_the_service_answered_itself_is_not_the_callers(self):
        call = {"type": "shell_call", "id": "sh_1", "call_id": "call_9", "action": {"commands": ["ls"]}}
        output = {"type": "shell_call_output", "id": "so_1", "call_id": "call_9", "output": []}
        reader, _, _ = read(stream({**call, "status": "completed"}, {**output, "status": "completed"}, message("ok")))
        assert "tool_calls" not in reader.message
        assert reader.finish_reason == "stop"

    def test_several_messages_are_set_apart_also_while_they_stream(self):
        output = [message("Let me see.", identity="m1"), web_search(), message("It ", "is 3.", identity="m2")]
        reader, _, deltas = read(stream(*output))
        assert reader.message["content"] == "".join(deltas) == "Let me see.\n\nIt is 3."

    def test_annotations_point_into_the_whole_text(self):
        note = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
        output = [message("One.", identity="m1"), message(text("two", annotations=[note]), identity="m2")]
        reader, _, _ = read(stream(*output))
        found = reader.message
        (annotation,) = found["annotations"]
        assert found["content"][annotation["start_index"] : annotation["end_index"]] == "tw"
        assert found["items"][1]["content"][0]["annotations"] == [note], "the item says it as the service did"

    def test_reasoning_is_its_text_or_else_its_summary(self):
        raw = [{"type": "reasoning_text", "text": "raw"}]
        reader, _, _ = read(stream(reasoning("r1", summary=["a", "b"]), reasoning("r2", summary=["c"], content=raw)))
        assert reader.message["reasoning_content"] == "a\n\nb\n\nraw"

    def test_a_refusal_is_no_text(self):
        reader, _, deltas = read(stream(message({"type": "refusal", "refusal": "No."})))
        assert (reader.message["content"], reader.message["refusal"], deltas) == (None, "No.", [])

    def test_pictures_and_files_stay_in_the_items(self):
        picture = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORw0KGgo="}
        code = {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "status": "completed",
            "code": "1+2",
            "container_id": "c",
        }
        output = [picture, {**code, "outputs": None}, message("Here.")]
        reader, _, _ = read(stream(*output))
        assert reader.message["content"] == "Here."
        assert reader.message["items"][0]["result"] == "iVBORw0KGgo="
        assert reader.message["items"][1]["outputs"] is None, "the service asks for the key"

    @given(outputs(), st.sampled_from(["all", "deltas", "items", "end", "whole"]))
    def test_is_the_same_however_much_of_the_stream_a_server_sends(self, output, sent):
        whole = response(*output)
        expected, _, deltas = read(events_of(whole, pieces=letters))
        reader = ResponsesReader()
        if sent == "whole":
            reader.feed_completion(copy.deepcopy(whole))
            shown = reader.text_delta
        else:
            shown = ""
            for event in events_of(whole, pieces=letters):
                kind = event["type"]
                if sent == "items" and kind not in ("response.output_item.done", "response.completed"):
                    continue
                if sent == "end" and kind != "response.completed":
                    continue
                if sent == "deltas" and kind.rpartition(".")[2] == "done" and kind != "response.output_item.done":
                    continue
                if sent in ("deltas", "items") and kind == "response.completed":
                    event["response"]["output"] = []
                reader.feed(event)
                shown += reader.text_delta
        assert reader.message == expected.message
        assert shown == "".join(deltas) == (reader.message["content"] or "")
        assert (reader.complete, reader.finish_reason, reader.usage) == (True, expected.finish_reason, expected.usage)

    def test_of_deltas_alone_is_made(self):
        kinds = ("delta", "function_call_arguments.delta")
        events = [delta("Hi"), {"type": f"response.{kinds[1]}", "delta": '{"a"', "output_index": 1, "item_id": "fc_1"}]
        events.append({"type": f"response.{kinds[1]}", "delta": ": 1}", "output_index": 1, "item_id": "fc_1"})
        end = {"type": "response.function_call_arguments.done", "arguments": '{"a": 1}', "name": "f", "output_index": 1}
        reader, _, _ = read([*events, end])
        reader.done()
        function = {"name": "f", "arguments": '{"a": 1}'}
        assert reader.message["content"] == "Hi"
        assert reader.message["tool_calls"] == [{"id": "fc_1", "type": "function", "function": function}]
        assert (reader.complete, reader.finish_reason) == (True, "tool_calls")

    def test_a_call_without_any_id_gets_one_that_stays(self):
        call = {"type": "function_call", "name": "f", "arguments": "{}"}
        reader, _, _ = read([{"type": "response.completed", "response": response(call)}])
        (made,) = reader.message["tool_calls"]
        assert made["id"] == reader.message["items"][0]["call_id"] == "call_abc_0"

    def test_of_items_with_one_id_keeps_each(self):
        said = [{**message(words), "id": "msg_0"} for words in ("Hi", "there")]
        for events in (stream(*said), [{"type": "response.completed", "response": response(*said)}]):
            reader, _, _ = read(events)
            assert reader.message["content"] == "Hi\n\nthere"

    def test_the_end_has_the_last_word(self):
        events = [delta("Hallo"), {"type": "response.completed", "response": response(message("Hello"))}]
        reader, _, deltas = read(events)
        assert (reader.message["content"], deltas) == ("Hello", ["Hallo"])

    @given(outputs(), st.randoms(use_true_random=False))
    def test_survives_any_order_of_events(self, output, chance):
        events = list(events_of(response(*output), pieces=letters))
        end = events.pop()
        chance.shuffle(events)
        reader, found, _ = read([*events, end], wanted=ALL)
        expected, _, _ = read([end])
        assert len(found) == len(events) + 1
        assert [i["type"] for i in reader.message.get("items", ())] == [i["type"] for i in output]
        assert (reader.message["content"], reader.finish_reason) == (
            expected.message["content"],
            expected.finish_reason,
        )


class TestEnd:
    def test_nothing_is_not_complete(self):
        reader = ResponsesReader(wanted=ALL)
        assert (reader.complete, reader.finish(), reader.finish_reason, reader.choices) == (False, [], None, [])
        assert reader.message == {"role": "assistant", "content": None}

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [
            ("completed", None, "stop"),
            ("incomplete", "max_output_tokens", "length"),
            ("incomplete", "content_filter", "content_filter"),
            ("incomplete", "steered", "steered"),
            ("failed", None, "error"),
            ("cancelled", None, "cancelled"),
        ],
    )
    def test_a_terminal_event_completes(self, status, reason, expected):
        *events, end = stream(message("Hi"), status=status, reason=reason)
        reader, _, _ = read(events)
        assert not reader.complete
        assert reader.finish_reason is None
        reader.feed(end)
        assert (reader.complete, reader.finish_reason) == (True, expected)

    @pytest.mark.parametrize("status", ["queued", "in_progress"])
    def test_a_response_in_the_background_is_an_answer(self, status):
        reader = ResponsesReader()
        reader.feed_completion(response(status=status))
        assert (reader.complete, reader.finish_reason, reader.id) == (True, status, "resp_abc")

    def test_a_queued_stream_goes_on(self):
        reader, _, _ = read(stream(status="queued"))
        assert not reader.complete

    def test_an_end_without_the_response_completes(self):
        reader, _, _ = read([delta("Hi"), {"type": "response.completed"}])
        assert (reader.complete, reader.finish_reason, reader.message["content"]) == (True, "stop", "Hi")

    def test_done_of_a_compatible_server_completes(self):
        reader, _, _ = read(stream(message("Hi"))[:-1])
        reader.done()
        assert (reader.complete, reader.finish_reason) == (True, "stop")

    def test_what_the_response_says_of_itself_is_kept(self):
        reader, _, _ = read(stream(message("Hi")))
        assert (reader.id, reader.model, reader.service_tier) == ("resp_abc", "gpt-5-mini", "default")
        assert Usage.from_dict(reader.usage) == Usage(11, 7, 3, 2, cache_write_tokens=0)

    def test_a_failed_response_has_its_error(self):
        reader, found, _ = read(
            stream(message("Hi"), status="failed", error={"code": "server_error", "message": "Oh"}), wanted=ALL
        )
        assert reader.error == {"code": "server_error", "message": "Oh"}
        assert reader.message["content"] == "Hi"
        assert found[-1][0] == Names.ResponseFailed.value

    @pytest.mark.parametrize(
        ("event", "error"),
        [
            (
                {"type": "error", "code": "c", "message": "m", "param": None, "sequence_number": 1},
                {"code": "c", "message": "m"},
            ),
            ({"type": "error", "error": {"message": "m"}}, {"message": "m"}),
            ({"error": {"message": "m", "type": "x"}}, {"message": "m", "type": "x"}),
            ({"error": "m"}, {"message": "m"}),
            ({"type": "error"}, {"message": "the service sent an error and no words"}),
        ],
    )
    def test_an_error_event_is_kept_and_nothing_is_complete(self, event, error):
        reader, found, _ = read([delta("Hi"), event], wanted=ALL)
        reader.done()
        assert (reader.error, reader.complete, reader.message["content"]) == (error, False, "Hi")
        assert found[-1][0] == Names.ResponseError.value

    def test_an_error_with_status_200_is_an_error(self):
        reader = ResponsesReader()
        assert reader.feed_completion({"error": {"message": "m"}}) == []
        assert (reader.error, reader.complete) == ({"message": "m"}, False)

    def test_half_a_call_is_unfinished(self):
        whole = stream(function_call(arguments='{"x": 1}'))
        cut = next(n for n, e in enumerate(whole) if e["type"].endswith("arguments.delta"))
        reader, _, _ = read(whole[: cut + 2])
        assert reader.unfinished_tool_calls
        reader, _, _ = read(whole)
        assert not reader.unfinished_tool_calls

    def test_a_custom_tools_input_is_finished_when_the_server_says_so(self):
        whole = stream(custom_call())
        cut = next(n for n, e in enumerate(whole) if e["type"].endswith("input.delta"))
        reader, _, _ = read(whole[: cut + 1])
        assert reader.unfinished_tool_calls
        reader, _, _ = read(whole[: cut + 3])
        assert not reader.unfinished_tool_calls

    def test_a_call_cut_by_the_limit_is_unfinished(self):
        call = function_call(arguments='{"x', status="incomplete")
        reader, _, _ = read(stream(call, status="incomplete", reason="max_output_tokens"))
        assert (reader.complete, reader.unfinished_tool_calls) == (True, True)

    def test_log_probabilities_are_a_choices(self):
        token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
        events = [delta("a", logprobs=[token]), delta("a", logprobs=[token])]
        reader, _, _ = read(events)
        assert reader.choices[0]["logprobs"] == {"content": [token, token], "refusal": None}
        assert "logprobs" not in json.dumps(reader.message), "the items are sent back without"


class TestParsed:
    @pytest.mark.parametrize("given", [{"type": "json_object"}, {"format": {"type": "json_schema", "name": "x"}}])
    def test_is_the_last_message_where_json_was_asked_for(self, given):
        output = [message("Thinking.", identity="m1"), message('{"a": 1}', identity="m2")]
        assert read(stream(*output), text_format=given)[0].parsed == {"a": 1}

    def test_is_none_otherwise(self):
        assert read(stream(message('{"a": 1}')))[0].parsed is None
        assert read(stream(message("{")), text_format={"type": "json_object"})[0].parsed is None
        refusal = {"type": "refusal", "refusal": "No."}
        assert read(stream(message("{}", refusal)), text_format={"type": "json_object"})[0].parsed is None


KEYS = st.sampled_from(
    "type delta item item_id output_index content_index summary_index part text refusal arguments input response "
    "output id status error content summary annotation logprobs usage incomplete_details call_id name object".split()
)
KINDS = st.sampled_from([n.wire_type for n in Names if n.wire_type] + ["reasoning", "message", "function_call", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text(max_size=3) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
EVENT = st.fixed_dictionaries({"type": KINDS}, optional={}).flatmap(
    lambda head: st.dictionaries(KEYS, JSON, max_size=6).map(lambda rest: {**rest, **head})
)


class TestGarbage:
    @given(st.lists(EVENT | JSON, max_size=5))
    def test_is_read_or_refused_and_never_breaks_the_reader(self, events):
        reader = ResponsesReader(wanted=ALL, text_format={"type": "json_object"})
        reader.feed(delta("safe", output_index=9))
        for raw in events:
            with contextlib.suppress(ValueError):
                reader.feed(raw)
            json.dumps([reader.choices, reader.message, reader.usage, reader.error, reader.parsed, reader.items])
            assert isinstance(reader.unfinished_tool_calls, bool)
        reader.done()
        assert reader.finish() == []

    @given(JSON | st.dictionaries(KEYS, JSON, max_size=6))
    @example({"output": [{"type": []}]})
    def test_as_a_body_is_read_or_refused(self, body):
        reader = ResponsesReader(wanted=ALL)
        with contextlib.suppress(ValueError):
            reader.feed_completion(body)
        json.dumps([reader.choices, reader.message, reader.error])

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (None, "the whole of a response's event should be dict, not NoneType: None"),
            ({"type": 5}, "type of a response's event should be str, not int: 5"),
            ({"type": "response.output_text.delta", "delta": 5}, "delta of a response's event should be str"),
            ({"type": "response.output_text.delta", "delta": "", "output_index": "0"}, "output_index"),
            ({"type": "response.output_item.done", "item": []}, "item of a response's event should be dict"),
            ({"type": "response.completed", "response": {"output": {}}}, "output of a response should be list"),
            ({"type": "response.completed", "response": {"output": [1]}}, "an output item of a response"),
            ({"choices": []}, "does not speak the Responses API"),
        ],
    )
    def test_is_named(self, raw, words):
        with pytest.raises(ValueError) as caught:
            ResponsesReader().feed(raw)
        assert words in str(caught.value)

    @pytest.mark.parametrize("body", [None, [], {}, {"choices": []}, {"output": 3}])
    def test_another_body_is_refused(self, body):
        with pytest.raises(ValueError, match="of a response should be"):
            ResponsesReader().feed_completion(body)

    def test_nested_beyond_reason_is_refused(self):
        deep: dict = {}
        for _ in range(sys.getrecursionlimit() + 100):
            deep = {"a": deep}
        reader = ResponsesReader(wanted=ALL)
        with pytest.raises(ValueError, match="nested too deeply"):
            reader.feed({"type": "response.output_item.done", "item": deep})
        json.dumps(reader.message)
