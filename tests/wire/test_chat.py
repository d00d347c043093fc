"""Answers as providers really send them."""

from __future__ import annotations

import contextlib
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.events import ChatCompletionsAPIEvents as Names
from voxnb.wire.chat import ChatReader

ALL = frozenset(n.value for n in Names)


def chunk(delta=None, *, index=0, finish=None, logprobs=None, **more):
    entry = {"index": index, "delta": delta or {}, "logprobs": logprobs, "finish_reason": finish}
    head = {"id": "chatcmpl-abc", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    return {**head, "choices": [entry], **more}


def read(*chunks, wanted=(), **settings):
    reader = ChatReader(wanted=wanted, **settings)
    events = [e for c in chunks for e in reader.feed(c)]
    return reader, events


def names(events):
    return [Names(name).name for name, _ in events]


def call(index=None, identity=None, name=None, arguments=None):
    """A tool call delta with only the keys that are given."""
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    found = {k: v for k, v in (("index", index), ("id", identity)) if v is not None}
    return {**found, **({"function": function} if function else {})}


def calls_of(*deltas):
    reader, _ = read(*(chunk({"tool_calls": list(d) if isinstance(d, tuple) else [d]}) for d in deltas))
    return [(c["function"]["name"], c["function"]["arguments"]) for c in reader.message.get("tool_calls", ())]


class TestOrder:
    def test_of_one_chunk_is_voxengines(self):
        logprobs = {"content": [{"token": "a"}], "refusal": [{"token": "b"}]}
        _, events = read(chunk({"content": "a", "refusal": "b"}, finish="stop", logprobs=logprobs), wanted=ALL)
        assert names(events) == [
            "Chunk",
            "Content",
            "ContentDelta",
            "RefusalDelta",
            "LogProbsContentDelta",
            "LogProbsRefusalDelta",
            "ContentDone",
            "RefusalDone",
            "LogProbsContentDone",
            "LogProbsRefusalDone",
        ]

    def test_a_tool_call_closes_the_content_and_the_call_before_it(self):
        _, events = read(
            chunk({"content": "Let me see."}),
            chunk({"tool_calls": [call(0, "a", "f", "{}")]}),
            chunk({"tool_calls": [call(1, "b", "g", "{}")]}),
            chunk(finish="tool_calls"),
            wanted=ALL - {Names.Chunk.value},
        )
        assert names(events) == [
            "Content",
            "ContentDelta",
            "ContentDone",
            "FunctionToolCallArgumentsDelta",
            "FunctionToolCallArgumentsDone",
            "FunctionToolCallArgumentsDelta",
            "FunctionToolCallArgumentsDone",
        ]

    def test_whole_calls_and_the_finish_reason_in_one_chunk_are_all_closed(self):
        whole = [call(0, "a", "f", '{"x": 1}'), call(1, "b", "g", "{}")]
        _, events = read(chunk({"tool_calls": whole}, finish="tool_calls"), wanted=ALL - {Names.Chunk.value})
        assert [(n, p["index"]) for n, p in zip(names(events), (p for _, p in events), strict=True)] == [
            ("FunctionToolCallArgumentsDelta", 0),
            ("FunctionToolCallArgumentsDone", 0),
            ("FunctionToolCallArgumentsDelta", 1),
            ("FunctionToolCallArgumentsDone", 1),
        ]
        assert events[1][1] == {"name": "f", "index": 0, "arguments": '{"x": 1}', "parsed_arguments": {"x": 1}}

    def test_an_answer_of_tool_calls_only_has_no_content_event(self):
        _, events = read(
            chunk({"role": "assistant", "content": None}),
            chunk({"tool_calls": [call(0, "a", "f", "{}")]}),
            chunk(finish="tool_calls"),
            wanted=ALL,
        )
        assert not [n for n in names(events) if n.startswith("Content")]

    def test_events_of_several_choices_stay_apart(self):
        wanted = {Names.ContentDone.value}
        reader, events = read(
            *(chunk({"content": t}, index=i) for i, t in ((0, "a"), (1, "x"), (0, "b"), (1, "y"))),
            chunk(finish="stop", index=1),
            chunk(finish="stop"),
            wanted=wanted,
        )
        assert [p["content"] for _, p in events] == ["xy", "ab"]
        assert [c["message"]["content"] for c in reader.choices] == ["ab", "xy"]

    def test_a_closing_event_comes_once(self):
        reader, events = read(chunk({"content": "a"}, finish="stop"), chunk(finish="stop"), wanted=ALL)
        reader.done()
        assert names(events + reader.finish()).count("ContentDone") == 1

    def test_a_listener_that_comes_late_gets_what_follows(self):
        tokens = [{"token": t} for t in "abc"]
        reader = ChatReader()
        reader.feed(chunk({"content": "a"}, logprobs={"content": tokens[:1], "refusal": None}))
        reader.wanted = {Names.ContentDelta.value, Names.LogProbsContentDelta.value}
        events = reader.feed(chunk({"content": "bc"}, logprobs={"content": tokens[1:], "refusal": None}))
        assert events == [
            (Names.ContentDelta.value, {"delta": "bc", "snapshot": "abc", "parsed": None}),
            (Names.LogProbsContentDelta.value, {"content": tokens[1:], "snapshot": tokens}),
        ]


class TestEnd:
    def test_a_finish_reason_completes(self):
        reader, _ = read(chunk({"content": "a"}), chunk(finish="length"))
        assert (reader.complete, reader.finish_reason) == (True, "length")

    def test_every_choice_needs_one(self):
        reader, _ = read(chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="stop"))
        assert not reader.complete
        reader.feed(chunk(finish="stop", index=1))
        assert reader.complete

    def test_nothing_is_not_complete(self):
        reader, events = read(wanted=ALL)
        assert (reader.complete, events, reader.finish()) == (False, [], [])
        assert reader.message == {"role": "assistant", "content": None}

    def test_a_server_that_says_only_done_has_its_texts_and_calls_closed(self):
        reader, _ = read(chunk({"content": "a", "tool_calls": [call(0, "a", "f", "{}")]}), wanted=ALL)
        assert not reader.complete
        reader.done()
        assert reader.complete
        assert names(reader.finish()) == ["FunctionToolCallArgumentsDone"]  # the content was closed by the call
        assert reader.finish() == []

    def test_half_an_answer_is_never_said_to_be_done(self):
        reader, _ = read(chunk({"content": "half a sen"}), wanted=ALL)
        assert reader.finish() == []
        assert reader.message["content"] == "half a sen"

    def test_half_a_tool_call_is_unfinished(self):
        reader, _ = read(chunk({"tool_calls": [call(0, "a", "f", '{"x"')]}))
        assert reader.unfinished_tool_calls
        reader.feed(chunk({"tool_calls": [call(0, arguments=": 1}")]}))
        assert not reader.unfinished_tool_calls

    def test_a_call_without_arguments_is_finished_at_the_end_only(self):
        reader, _ = read(chunk({"tool_calls": [call(0, "a", "f", "")]}))
        assert reader.unfinished_tool_calls
        reader.feed(chunk(finish="tool_calls"))
        assert not reader.unfinished_tool_calls

    def test_a_call_cut_by_the_limit_is_unfinished(self):
        reader, _ = read(chunk({"tool_calls": [call(0, "a", "f", '{"x": ')]}), chunk(finish="length"))
        assert reader.complete
        assert reader.unfinished_tool_calls

    def test_an_error_in_the_stream_is_kept_and_nothing_is_complete(self):
        reader, events = read(
            chunk({"content": "a"}),
            {"error": {"message": "overloaded", "code": 503}},
            wanted={Names.Chunk.value},
        )
        reader.done()
        assert reader.error == {"message": "overloaded", "code": 503}
        assert not reader.complete
        assert names(events) == ["Chunk"]
        assert reader.message["content"] == "a"

    @pytest.mark.parametrize("raw", [{"type": "ping"}, {"event": "x", "data": {"a": [1]}}, {}, {"object": "x.y"}])
    def test_what_is_no_chunk_is_unknown_with_what_was_sent(self, raw):
        reader, events = read(chunk({"content": "a"}), raw, chunk({"content": "b"}, finish="stop"), wanted=ALL)
        assert [payload for name, payload in events if name == Names.Unknown.value] == [raw]
        assert names(events).count("Chunk") == 2
        assert (reader.message["content"], reader.complete) == ("ab", True)

    def test_an_error_beside_choices_keeps_their_text(self):
        raw = {**chunk({"content": "b"}, finish="error"), "error": {"message": "upstream"}}
        reader, _ = read(chunk({"content": "a"}), raw)
        assert (reader.message["content"], reader.complete, reader.error) == ("ab", False, {"message": "upstream"})

    @pytest.mark.parametrize(
        "raw", [{"object": "error", "message": "no"}, {"detail": "no"}, {"error": "no"}, {"message": "no", "code": 400}]
    )
    def test_errors_in_other_shapes_are_errors(self, raw):
        assert "no" in read(raw)[0].error.values()

    def test_no_error_is_none(self):
        assert read({**chunk({"content": "a"}), "error": None})[0].error is None


class TestToolCalls:
    def test_fragments_are_joined_by_index(self):
        assert calls_of(
            call(0, "a", "f", ""), call(0, arguments='{"x"'), call(1, "b", "g", "{}"), call(0, arguments=": 1}")
        ) == [("f", '{"x": 1}'), ("g", "{}")]

    def test_whole_calls_that_all_say_index_0_stay_apart_by_id(self):
        assert calls_of(call(0, "a", "f", "{}"), call(0, "b", "f", '{"x": 1}')) == [("f", "{}"), ("f", '{"x": 1}')]

    def test_whole_calls_with_index_0_and_empty_ids_stay_apart(self):
        assert calls_of((call(0, "", "f", "{}"), call(0, "", "f", '{"x": 1}'))) == [("f", "{}"), ("f", '{"x": 1}')]

    def test_calls_without_an_index_are_told_apart_by_id(self):
        assert calls_of(
            call(None, "a", "f", "{"), call(None, "b", "g", "{"), call(None, "a", arguments="}"), call(arguments=" }")
        ) == [("f", "{}"), ("g", "{ }")]

    def test_calls_without_index_and_id_begin_with_a_name(self):
        assert calls_of(call(name="f", arguments='{"x": '), call(arguments="1}"), call(name="g", arguments="{}")) == [
            ("f", '{"x": 1}'),
            ("g", "{}"),
        ]

    def test_a_new_id_for_every_fragment_does_not_begin_a_call(self):
        reader, _ = read(
            chunk({"tool_calls": [call(0, "a", "f", '{"x"')]}), chunk({"tool_calls": [call(0, "zz", arguments=": 1}")]})
        )
        assert reader.message["tool_calls"] == [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
        ]

    def test_a_name_said_with_every_fragment_is_said_once(self):
        assert calls_of(call(0, "a", "f", "{"), call(0, "a", "f", "}"), call(0, "a", "f", "")) == [("f", "{}")]

    def test_a_name_in_pieces_is_joined(self):
        assert calls_of(call(0, "a", "get_"), call(0, None, "weather", "{}")) == [("get_weather", "{}")]

    def test_ready_made_arguments_become_their_text(self):
        assert calls_of(call(0, "a", "f", {"city": "Zürich"})) == [("f", '{"city": "Zürich"}')]

    def test_an_index_that_starts_at_1_leaves_no_gap(self):
        _, events = read(
            chunk({"tool_calls": [call(1, "a", "f", "{}")]}), chunk(finish="stop"),
            wanted={Names.FunctionToolCallArgumentsDone.value},
        )  # fmt: skip
        assert [p["index"] for _, p in events] == [0]

    def test_missing_and_double_ids_are_made_unique_and_stay(self):
        raw = [call(0, name="f", arguments="{}"), call(1, "same", "g", "{}"), call(2, "same", "h", "{}")]
        reader, _ = read(chunk({"tool_calls": raw}))
        ids = [c["id"] for c in reader.message["tool_calls"]]
        assert ids == ["call_abc_0_0", "same", "same_2"]
        assert [c["id"] for c in reader.message["tool_calls"]] == ids

    def test_a_made_up_id_fits_the_services_40_characters(self):
        raw = {**chunk({"tool_calls": [call(0, name="f", arguments="{}")]}), "id": "chatcmpl-" + "x" * 60}
        assert len(read(raw)[0].message["tool_calls"][0]["id"]) <= 40

    def test_what_a_provider_adds_to_a_call_is_kept(self):
        extra = {"extra_content": {"google": {"thought_signature": "s"}}}
        reader, _ = read(chunk({"tool_calls": [{**call(0, "a", "f", "{}"), **extra}]}))
        assert reader.message["tool_calls"][0]["extra_content"] == extra["extra_content"]

    def test_a_custom_tool_is_kept_and_raises_no_function_event(self):
        first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}
        second = {"index": 0, "custom": {"input": " 1"}}
        reader, events = read(
            chunk({"tool_calls": [first]}),
            chunk({"tool_calls": [second]}),
            chunk(finish="tool_calls"),
            wanted=ALL - {Names.Chunk.value},
        )
        assert events == []
        assert reader.message["tool_calls"] == [
            {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
        ]
        assert not reader.unfinished_tool_calls


class TestMessage:
    @pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
    def test_reasoning_of_compatible_providers_is_kept_apart(self, key):
        reader, _ = read(
            chunk({"role": "assistant", "content": None, key: "Hm"}),
            chunk({key: ", yes."}),
            chunk({"content": "Yes."}),
            chunk(finish="stop"),
        )
        assert reader.message == {"role": "assistant", "content": "Yes.", key: "Hm, yes."}

    def test_reasoning_details_are_joined_by_index(self):
        first = {"type": "reasoning.text", "index": 0, "text": "Hm", "format": "v1"}
        reader, _ = read(
            chunk({"reasoning_details": [first]}), chunk({"reasoning_details": [{**first, "text": ", yes."}]})
        )
        assert reader.message["reasoning_details"] == [{**first, "text": "Hm, yes."}]

    def test_content_in_parts_becomes_text_and_thinking(self):
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
        reader, events = read(
            chunk({"content": [thinking]}),
            chunk({"content": [{"type": "text", "text": "Yes"}]}),
            chunk({"content": "."}),
            wanted={Names.Content.value},
        )
        assert reader.message == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
        assert [p["delta"] for _, p in events] == ["", "Yes", "."]

    def test_audio_is_joined_and_its_id_is_not(self):
        reader, _ = read(
            chunk({"audio": {"id": "au_1", "data": "AAAA"}}),
            chunk({"audio": {"id": "au_1", "data": "BBBB", "transcript": "Hi"}}),
            chunk({"audio": {"expires_at": 9}}),
        )
        assert reader.message["audio"] == {"id": "au_1", "data": "AAAABBBB", "transcript": "Hi", "expires_at": 9}

    def test_the_old_function_call_is_joined(self):
        reader, _ = read(
            chunk({"function_call": {"name": "f", "arguments": ""}}), chunk({"function_call": {"arguments": "{}"}})
        )
        assert reader.message["function_call"] == {"name": "f", "arguments": "{}"}

    @pytest.mark.parametrize("role", ["user", "system", "tool", "model", ""])
    def test_what_answers_is_the_assistant_whatever_a_provider_calls_it(self, role):
        reader, _ = read(chunk({"role": role, "content": "Yes."}))
        assert reader.message == {"role": "assistant", "content": "Yes."}

    def test_a_role_said_with_every_chunk_is_said_once(self):
        reader, _ = read(*(chunk({"role": "assistant", "content": t}) for t in "abc"))
        assert reader.message == {"role": "assistant", "content": "abc"}

    def test_annotations_are_gathered(self):
        reader, _ = read(chunk({"annotations": [{"url": "a"}]}), chunk({"annotations": [{"url": "b"}]}))
        assert reader.message["annotations"] == [{"url": "a"}, {"url": "b"}]

    def test_a_filter_chunk_without_a_delta_changes_nothing(self):
        results = {"id": "", "model": "", "object": "", "choices": [{"index": 0, "content_filter_results": {}}]}
        reader, _ = read({"choices": [], "prompt_filter_results": []}, chunk({"content": "a"}), results)
        assert (reader.id, reader.model, reader.message["content"]) == ("chatcmpl-abc", "gpt-4o-mini", "a")

    def test_a_last_chunk_with_the_whole_message_is_not_read_twice(self):
        whole = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}
        assert read(chunk({"content": "ab"}), {"choices": [whole]})[0].message["content"] == "ab"
        assert read({"choices": [whole]})[0].message["content"] == "ab"

    def test_the_newest_usage_stays_when_a_chunk_without_follows(self):
        reader, _ = read(
            chunk({"content": "a"}, usage={"total_tokens": 1}),
            {"choices": [], "usage": {"total_tokens": 2}},
            {"usage": None, "choices": []},
        )
        assert reader.usage == {"total_tokens": 2}

    def test_a_usage_chunk_may_lack_choices(self):
        assert read(chunk({"content": "a"}), {"usage": {"total_tokens": 2}})[0].usage == {"total_tokens": 2}

    def test_the_text_delta_is_that_of_choice_0_and_of_this_chunk(self):
        reader = ChatReader()
        told = []
        for raw in (chunk({"content": "a"}), chunk({"content": "x"}, index=1), chunk({"content": "b"}), chunk()):
            reader.feed(raw)
            told.append(reader.text_delta)
        assert told == ["a", "", "b", ""]


SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}


class TestParsed:
    def test_content_is_decoded_where_json_was_asked_for(self):
        chunks = [chunk({"content": '{"a":'}), chunk({"content": " 1}"}), chunk(finish="stop")]
        reader, events = read(*chunks, wanted={Names.ContentDone.value}, response_format=SCHEMA)
        assert events[0][1] == {"content": '{"a": 1}', "parsed": {"a": 1}}
        assert reader.parsed == {"a": 1}
        assert read(*chunks)[0].parsed is None

    def test_content_that_is_no_json_is_none(self):
        reader, events = read(
            chunk({"content": "{"}, finish="length"),
            wanted={Names.ContentDone.value},
            response_format={"type": "json_object"},
        )
        assert reader.parsed is events[0][1]["parsed"] is None

    def test_arguments_that_are_no_json_are_none(self):
        _, events = read(
            chunk({"tool_calls": [call(0, "a", "f", "{x}")]}, finish="stop"),
            wanted={Names.FunctionToolCallArgumentsDone.value},
        )
        assert events[0][1]["parsed_arguments"] is None


BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hi",
                "refusal": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x": 1}'}},
                ],
            },
            "logprobs": {"content": [{"token": "Hi"}], "refusal": None},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"total_tokens": 5},
}


class TestUnstreamed:
    def test_an_answer_in_one_piece_reads_like_a_stream(self):
        reader = ChatReader(wanted=ALL)
        events = reader.feed_completion(json.loads(json.dumps(BODY)))
        assert names(events) == [
            "Chunk",
            "Content",
            "ContentDelta",
            "LogProbsContentDelta",
            "ContentDone",
            "LogProbsContentDone",
            "FunctionToolCallArgumentsDelta",
            "FunctionToolCallArgumentsDone",
            "FunctionToolCallArgumentsDelta",
            "FunctionToolCallArgumentsDone",
        ]
        message = {k: v for k, v in BODY["choices"][0]["message"].items() if v is not None}
        assert reader.message == message
        assert (reader.text_delta, reader.complete, reader.usage) == ("Hi", True, {"total_tokens": 5})
        assert reader.finish() == []

    def test_a_missing_finish_reason_is_no_break(self):
        reader = ChatReader(wanted={Names.ContentDone.value})
        events = reader.feed_completion({"choices": [{"message": {"content": "Hi"}}]})
        assert [p["content"] for _, p in events] == ["Hi"]
        assert reader.complete

    def test_an_error_with_status_200_is_an_error(self):
        reader = ChatReader()
        assert reader.feed_completion({"error": {"message": "no"}}) == []
        assert (reader.error, reader.complete) == ({"message": "no"}, False)

    @pytest.mark.parametrize("body", [None, [], {}, {"choices": None}, {"choices": [1]}, {"choices": [{"text": "x"}]}])
    def test_another_body_is_refused(self, body):
        with pytest.raises(ValueError, match="should be"):
            ChatReader().feed_completion(body)


KEYS = (
    *("choices", "index", "delta", "content", "refusal", "tool_calls", "function", "custom", "name", "arguments"),
    *("id", "type", "logprobs", "usage", "finish_reason", "error", "message", "role", "text", "thinking", "audio"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
GARBAGE = JSON | st.builds(lambda d: {"choices": [{"index": 0, "delta": d}]}, JSON)
GARBAGE |= st.builds(lambda c: {"choices": [{"index": 0, "delta": {"tool_calls": [c]}}]}, JSON)


class TestWhatNoAnswerNeeds:
    """Usage and token probabilities of the wrong form: the answer is whole without them, and it is said once."""

    @pytest.mark.parametrize("usage", [[1], "12", 3, [], True], ids=repr)
    def test_usage_that_is_none(self, usage):
        reader, _ = read(chunk({"content": "a"}, usage=usage), chunk({"content": "b"}, finish="stop", usage=usage))
        assert (reader.message["content"], reader.complete, reader.usage) == ("ab", True, None)
        assert reader.remarks == [f"the server sent usage that is none and was passed over: {usage!r}"]

    @pytest.mark.parametrize("logprobs", [3, [1], {"content": 3}, {"refusal": "x", "content": []}], ids=repr)
    def test_logprobs_that_are_none(self, logprobs):
        good = {"content": [{"token": "a"}], "refusal": None}
        reader, events = read(
            chunk({"content": "a"}, logprobs=good),
            chunk({"content": "b"}, finish="stop", logprobs=logprobs),
            wanted=ALL,
        )
        assert reader.choices[0]["logprobs"] == good
        assert (reader.message["content"], len(reader.remarks)) == ("ab", 1)
        assert names(events).count("LogProbsContentDelta") == 1

    def test_a_usage_that_can_be_read_later_counts(self):
        reader, _ = read(chunk({"content": "a"}, usage=[1]), chunk(finish="stop", usage={"prompt_tokens": 3}))
        assert reader.usage == {"prompt_tokens": 3}


class TestGarbage:
    @given(st.lists(GARBAGE, max_size=4))
    def test_is_read_or_refused_and_never_breaks_the_reader(self, chunks):
        reader = ChatReader(wanted=ALL)
        reader.feed(chunk({"content": "safe"}))
        for raw in chunks:
            with contextlib.suppress(ValueError):
                reader.feed(raw)
            json.dumps([reader.choices, reader.message, reader.usage, reader.error])
            assert reader.message["content"].startswith("safe")
        reader.done()
        reader.finish()

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (None, "the whole of a chat chunk should be dict, not NoneType: None"),
            ("x", "the whole of a chat chunk should be dict, not str: 'x'"),
            ({"choices": {}}, "choices of a chat chunk should be list, not dict"),
            ({"choices": [{"delta": "x"}]}, "delta of a chat chunk should be dict, not str: 'x'"),
            ({"choices": [{"index": "0", "delta": {}}]}, "the index of a choice"),
            ({"choices": [{"delta": {"content": 5}}]}, "content of a chat chunk should be list, not int: 5"),
            ({"choices": [{"delta": {"tool_calls": {}}}]}, "tool_calls"),
            ({"choices": [{"delta": {"tool_calls": [7]}}]}, "a tool call"),
            ({"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]}, "the index of a tool call"),
            ({"choices": [{"index": -1, "delta": {}}]}, "the index of a choice of a chat chunk is -1"),
            ({"choices": [{"delta": {}, "finish_reason": {"a": 1}}]}, "finish_reason"),
        ],
    )
    def test_is_named(self, raw, words):
        with pytest.raises(ValueError) as caught:
            ChatReader().feed(raw)
        assert words in str(caught.value)

    def test_is_quoted_briefly(self):
        with pytest.raises(ValueError) as caught:
            ChatReader().feed("x" * 10_000)
        assert len(str(caught.value)) < 200

    def test_nested_beyond_reason_is_refused(self):
        deep: dict = {}
        for _ in range(sys.getrecursionlimit() + 100):
            deep = {"a": deep}
        with pytest.raises(ValueError, match="nested too deeply"):
            ChatReader(wanted=ALL).feed({"choices": [], "x": deep})
