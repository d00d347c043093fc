"""Messages, tools and requests cost what OpenAI's published recipe says; data is never counted as text."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.memory.tally import Features, text_features
from voxnb.memory.tokens import (
    MESSAGE_TOKENS,
    NAME_TOKENS,
    PRIMER_TOKENS,
    TOOL_CALL_TOKENS,
    count_message,
    count_text,
    message_tokens,
    request_tokens,
    response_format_tokens,
    tools_tokens,
)
from voxnb.runtime.encodings import counter

O200K = counter("o200k_base")
CL100K = counter("cl100k_base")

# The messages and tools of the published recipe, with the counts printed there (and returned by the service).
JARGON = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
WEATHER = [
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Get the current weather in a given location",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                    "unit": {
                        "type": "string",
                        "description": "The unit of temperature to return",
                        "enum": ["celsius", "fahrenheit"],
                    },
                },
                "required": ["location"],
            },
        },
    }
]
ASK = [
    {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]


@pytest.mark.parametrize(("count", "published"), [(CL100K, 129), (O200K, 124)], ids=["gpt-4", "gpt-4o"])
def test_the_published_messages_cost_what_was_published(count, published):
    assert request_tokens(JARGON, count) == published


@pytest.mark.parametrize(
    ("model", "count", "published"),
    [("gpt-4", CL100K, 105), ("gpt-3.5-turbo", CL100K, 105), ("gpt-4o", O200K, 101), ("gpt-4o-mini", O200K, 101)],
)
def test_the_published_tools_cost_what_was_published(model, count, published):
    assert request_tokens(ASK, count, tools=WEATHER, model=model) == published


def test_a_request_is_the_sum_of_its_parts():
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    whole = request_tokens(JARGON, O200K, tools=WEATHER, response_format=schema)
    parts = sum(message_tokens(m, O200K) for m in JARGON) + tools_tokens(WEATHER, O200K)
    assert whole == parts + response_format_tokens(schema, O200K) + PRIMER_TOKENS


class TestMessages:
    def test_a_name_costs_one_more_than_its_text(self):
        plain = {"role": "user", "content": "Hi"}
        assert (
            message_tokens({**plain, "name": "ann"}, O200K) == message_tokens(plain, O200K) + O200K("ann") + NAME_TOKENS
        )

    @given(texts=st.lists(st.text(max_size=40), max_size=4))
    def test_text_parts_cost_what_their_texts_cost(self, texts):
        message = {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}
        assert message_tokens(message, O200K) == MESSAGE_TOKENS + O200K("user") + sum(map(O200K, texts))

    def test_none_values_cost_nothing(self):
        assert message_tokens({"role": "assistant", "content": None, "refusal": None}, O200K) == MESSAGE_TOKENS + 1

    def test_tool_calls_cost_their_names_and_arguments(self):
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
        one = message_tokens({"role": "assistant", "content": None, "tool_calls": [call]}, O200K)
        two = message_tokens({"role": "assistant", "content": None, "tool_calls": [call, call]}, O200K)
        assert two - one == TOOL_CALL_TOKENS + O200K("weather") + O200K('{"city":"Oslo"}')

    def test_a_legacy_function_call_costs_the_same(self):
        function = {"name": "weather", "arguments": "{}"}
        new = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
        assert message_tokens({"role": "assistant", "function_call": function}, O200K) == message_tokens(new, O200K)

    def test_a_custom_tools_input_is_counted(self):
        call = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls -la /tmp | wc -l"}}
        cost = message_tokens({"role": "assistant", "tool_calls": [call]}, O200K)
        assert cost == MESSAGE_TOKENS + 1 + TOOL_CALL_TOKENS + O200K("shell") + O200K("ls -la /tmp | wc -l")

    def test_a_tool_result_costs_its_content_and_not_its_id(self):
        message = {"role": "tool", "tool_call_id": "call_abcdefghijklmnop", "content": "21 degrees"}
        assert message_tokens(message, O200K) == MESSAGE_TOKENS + O200K("tool") + O200K("21 degrees")

    def test_what_a_provider_added_for_itself_costs_nothing(self):
        plain = {"role": "assistant", "content": "Yes."}
        added = {**plain, "reasoning_content": "Let me think. " * 50, "annotations": [{"type": "url"}], "parsed": {}}
        assert message_tokens(added, O200K) == message_tokens(plain, O200K)

    def test_a_refusal_is_text(self):
        refusal = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        part = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot help with that."}]}
        expected = MESSAGE_TOKENS + 1 + O200K("I cannot help with that.")
        assert message_tokens(refusal, O200K) == message_tokens(part, O200K) == expected

    def test_special_token_text_never_raises(self):
        assert message_tokens({"role": "user", "content": "<|endoftext|>"}, O200K) == MESSAGE_TOKENS + 1 + 7

    def test_an_unknown_part_is_counted_by_its_json_text(self):
        part = {"type": "mood", "value": {"name": "glad", "level": 3}}
        text = json.dumps(part, separators=(",", ":"))
        assert message_tokens({"role": "user", "content": [part]}, O200K) == MESSAGE_TOKENS + 1 + O200K(text)

    def test_an_unknown_key_is_counted_by_its_json_text(self):
        extra = {"citations": [{"page": 3}]}
        cost = message_tokens({"role": "user", "content": "Hi", **extra}, O200K)
        assert cost == MESSAGE_TOKENS + 2 + O200K('{"citations":[{"page":3}]}')


class TestData:
    DATA = base64.b64encode(bytes(range(256)) * 800).decode()  # 273,068 characters

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
            {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"},
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{DATA}"}},
            {"type": "input_file", "filename": "a.bin", "file_data": DATA},
            {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{DATA}"}},
            {"type": "something_new", "payload": {"bytes": [DATA, DATA]}},
        ],
        ids=lambda part: part["type"],
    )
    def test_base64_is_never_counted_as_text(self, part):
        seen = []

        def count(text):
            seen.append(len(text))
            return O200K(text)

        counted = count_message({"role": "user", "content": [part]}, count)
        assert max(seen) < 200
        assert 0 < counted.features.media <= counted.tokens < 10_000

    def test_the_assistants_audio_costs_its_sound_not_its_characters(self):
        second = base64.b64encode(_wav(seconds=1.0)).decode()
        message = {"role": "assistant", "content": None, "audio": {"id": "audio_1", "data": second}}
        assert message_tokens(message, O200K) == MESSAGE_TOKENS + 1 + 21

    def test_the_assistants_audio_by_id_costs_a_multiple_of_its_transcript(self):
        message = {"role": "assistant", "content": None, "audio": {"id": "audio_1", "transcript": "Good morning."}}
        assert message_tokens(message, O200K) == MESSAGE_TOKENS + 1 + 6 * O200K("Good morning.")

    def test_a_text_file_is_counted_as_its_text(self):
        text = "name,age\nann,34\n" * 100
        data = f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"
        part = {"type": "file", "file": {"filename": "people.csv", "file_data": data}}
        expected = MESSAGE_TOKENS + 1 + O200K("people.csv") + O200K(text)
        assert message_tokens({"role": "user", "content": [part]}, O200K) == expected

    def test_base64_that_a_person_typed_is_text(self):
        assert message_tokens({"role": "user", "content": self.DATA[:4000]}, O200K) > 1000

    def test_images_are_priced_by_the_models_family(self):
        part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
        message = {"role": "user", "content": [part]}
        base = MESSAGE_TOKENS + 1
        assert message_tokens(message, O200K, model="gpt-4o") == base + 85
        assert message_tokens(message, O200K, model="gpt-4o-mini") == base + 2833


class TestTools:
    def test_no_tools_cost_nothing(self):
        assert tools_tokens(None, O200K) == tools_tokens([], O200K) == 0

    def test_a_function_without_description_or_parameters_is_counted(self):
        assert tools_tokens([{"type": "function", "function": {"name": "now"}}], O200K) == 12 + 7 + O200K("now:")

    def test_legacy_functions_cost_what_tools_cost(self):
        assert tools_tokens([WEATHER[0]["function"]], O200K) == tools_tokens(WEATHER, O200K)

    def test_nested_properties_cost_as_much_as_flat_ones_and_their_parent(self):
        def tool(properties):
            return [{"function": {"name": "f", "parameters": {"type": "object", "properties": properties}}}]

        inner = {"city": {"type": "string", "description": "Where"}}
        flat = tools_tokens(tool(inner), O200K)
        nested = tools_tokens(tool({"place": {"type": "object", "properties": inner}}), O200K)
        assert nested == flat + 3 + 3 + O200K("place:object:")

    def test_lists_optional_types_and_odd_enums_are_counted(self):
        properties = {
            "tags": {"type": "array", "items": {"type": "string", "description": "A tag."}},
            "size": {"type": ["integer", "null"], "minimum": 1, "maximum": 99},
            "mode": {"enum": [1, None, "auto"]},
            "free": True,
        }
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}]
        expected = 12 + 7 + O200K("f:") + 3 + 4 * 3
        expected += O200K("tags:array:") + O200K("string:A tag")
        expected += O200K("size:integer|null:") + O200K('{"minimum":1,"maximum":99}')
        expected += O200K("mode::") - 3 + 3 * 3 + O200K("1") + O200K("null") + O200K("auto")
        assert tools_tokens(tools, O200K) == expected + O200K("free:true")

    def test_a_tool_that_is_no_function_is_counted_by_its_json_text(self):
        assert tools_tokens([{"type": "web_search"}], O200K) == 12 + O200K('{"type":"web_search"}')

    def test_a_response_schema_is_counted_and_other_formats_cost_nothing(self):
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        given_schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
        assert response_format_tokens(given_schema, O200K) > O200K(json.dumps(schema, separators=(",", ":")))
        assert response_format_tokens({"type": "json_object"}, O200K) == 0
        assert response_format_tokens({"type": "text"}, O200K) == response_format_tokens(None, O200K) == 0


class TestFeatures:
    def test_digits_are_told_from_text(self):
        assert text_features("no numbers here") == Features()
        assert text_features("12345") == Features(numeric=2, split=3)
        assert text_features("-1.25,30") == Features(numeric=5, split=2)

    def test_bytes_beyond_ascii_are_counted(self):
        assert text_features("naïve") == Features(wide=2)
        assert text_features("中文") == Features(wide=6)

    @given(text=st.text(max_size=300))
    def test_features_never_exceed_what_the_text_has(self, text):
        counted = count_text(text, O200K)
        f = counted.features
        assert 0 <= f.numeric <= counted.tokens == O200K(text)
        assert f.split <= sum(c in "0123456789" for c in text)
        assert 0 <= f.wide <= 4 * len(text)
        assert f.media == 0

    def test_a_messages_features_are_those_of_all_its_texts_and_its_calls_stand_apart(self):
        call = {"id": "c", "function": {"name": "f", "arguments": '{"n":12345}'}}
        message = {"role": "assistant", "content": "2024", "tool_calls": [call]}
        with_call, without = (count_message(m, O200K) for m in (message, {**message, "tool_calls": None}))
        assert without.features == Features(numeric=2, split=2)
        assert with_call.features == Features(numeric=2, split=2, media=with_call.tokens - without.tokens)


def _wav(*, seconds: float, rate_hz: int = 24_000) -> bytes:
    body = bytes(int(rate_hz * seconds) * 2)
    form = (1).to_bytes(2, "little") * 2 + rate_hz.to_bytes(4, "little") + (rate_hz * 2).to_bytes(4, "little")
    form += (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    chunks = b"fmt " + len(form).to_bytes(4, "little") + form + b"data" + len(body).to_bytes(4, "little") + body
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks
