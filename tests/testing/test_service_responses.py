"""The scripted server's Responses API, met by the OpenAI SDK and by bare requests."""

from __future__ import annotations

import http.client
import json
import typing

import openai
import pytest
from openai.types.responses import Response, response_create_params, response_input_item_param

from voxnb import testing
from voxnb.testing import Drop, Paced
from voxnb.testing.input import ITEMS, PARAMETERS

WAIT_S = 10
ASKED = [{"role": "user", "content": "Hello"}]
ENCRYPTED = ["reasoning.encrypted_content"]


def client_of(server):
    return openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=WAIT_S)


def ask(server, given="Hello there", **request):
    with client_of(server) as client:
        return client.responses.create(model="gpt-5-mini", input=given, **request)


def stream(server, given="Hello there", **request):
    with client_of(server) as client:
        return list(client.responses.create(model="gpt-5-mini", input=given, stream=True, **request))


def call(server, method, path, body=None):
    """One bare request: (status, decoded body)."""
    connection = http.client.HTTPConnection(server.origin.removeprefix("http://"), timeout=WAIT_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode())
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None
    finally:
        connection.close()


def refusal(server, given=ASKED, **request):
    """(status, message) of a refused request."""
    status, body = call(server, "POST", "/v1/responses", {"model": "gpt-5-mini", "input": given, **request})
    return status, (body.get("error") or {}).get("message", "it was taken")


class TestReplies:
    def test_a_text_is_answered_whole_and_streamed(self):
        with testing.server("Hello, Ann.") as server:
            assert ask(server).output_text == "Hello, Ann."
            events = stream(server)
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Hello, Ann."
        assert [e.type for e in events if not e.type.endswith("delta")] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [e.sequence_number for e in events] == list(range(len(events)))
        assert events[-1].response.output_text == "Hello, Ann."

    def test_an_answer_is_what_the_sdk_knows_as_a_response(self):
        with testing.server({"content": "Hi", "reasoning_content": "hm", "tool_calls": [{"name": "f"}]}) as server:
            _, raw = call(server, "POST", "/v1/responses", {"model": "gpt-5-mini", "input": "x"})
        assert Response.model_validate(raw, strict=True).status == "completed"
        assert [i["type"] for i in raw["output"]] == ["reasoning", "message", "function_call"]

    def test_calls_stream_their_arguments(self):
        with testing.server({"tool_calls": [{"name": "f", "arguments": {"city": "Zürich"}}]}) as server:
            events = stream(server)
        pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
        assert "".join(pieces) == done.arguments == '{"city": "Zürich"}'
        assert events[-1].response.output[0].call_id == "call_1_0"

    def test_reasoning_is_encrypted_where_the_request_asks_for_it(self):
        with testing.server({"content": "Hi", "reasoning_content": ""}) as server:
            assert ask(server).output[0].encrypted_content is None
            assert ask(server, include=ENCRYPTED).output[0].encrypted_content

    def test_a_refusal_is_streamed(self):
        with testing.server({"refusal": "No, sorry."}) as server:
            events = stream(server)
        assert [e.refusal for e in events if e.type == "response.refusal.done"] == ["No, sorry."]

    @pytest.mark.parametrize(
        ("reply", "status", "last"),
        [
            ({"content": "Hi", "finish_reason": "length"}, "incomplete", "response.incomplete"),
            ({"output": [], "error": {"code": "server_error", "message": "x"}}, "failed", "response.failed"),
            ({"output": ["Hi"], "status": "cancelled"}, "cancelled", "response.cancelled"),
        ],
    )
    def test_a_response_may_end_badly(self, reply, status, last):
        with testing.server(reply) as server:
            assert ask(server).status == status
            assert stream(server)[-1].type == last

    def test_a_text_is_cut_at_the_limit(self):
        with testing.server("word " * 40) as server:
            answer = ask(server, max_output_tokens=16)
        assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert 0 < len(answer.output_text) < 100

    def test_pieces_go_out_as_scripted_in_the_documented_order(self):
        with testing.server(["one", ["a", "b", "c"]]) as server:
            one, events = ask(server), stream(server)
        assert one.output_text == "one"
        assert [e.delta for e in events if e.type == "response.output_text.delta"] == ["a", "b", "c"]
        assert [e.sequence_number for e in events] == list(range(len(events)))
        assert events[-1].response.output_text == "abc"

    def test_events_go_out_as_they_are(self):
        events = [{"type": "response.audio.delta", "delta": "AA=="}, {"type": "error", "message": "m", "code": None}]
        with testing.server([events, b"unused"]) as server:
            _, lines = self.raw(server)
        assert lines == [b"event: response.audio.delta", b"event: error"]

    @staticmethod
    def raw(server):
        connection = http.client.HTTPConnection(server.origin.removeprefix("http://"), timeout=WAIT_S)
        connection.request("POST", "/v1/responses", json.dumps({"model": "m", "input": "x", "stream": True}))
        body = connection.getresponse().read()
        connection.close()
        return body, [line for line in body.splitlines() if line.startswith(b"event: ")]

    def test_a_stream_ends_without_done_as_the_services_does(self):
        with testing.server("Hi") as server:
            body, _ = self.raw(server)
        assert body.endswith(b"\n\n")
        assert b"[DONE]" not in body

    def test_events_answer_an_unstreamed_request_with_what_they_add_up_to(self):
        with testing.server("Hi") as server:
            events = [e.to_dict() for e in stream(server)]
        with testing.server([events]) as server:
            assert ask(server).output_text == "Hi"
        with testing.server([events[:5]]) as server:
            assert ask(server).output_text == "Hi"

    def test_a_status_and_a_pace_and_a_function_work_as_for_a_chat(self):
        script = [429, Paced("slow", delay_s=0.01), lambda request: request.text.upper(), Drop(after_events=3)]
        with testing.server(script) as server:
            with pytest.raises(openai.RateLimitError):
                ask(server)
            assert ask(server).output_text == "slow"
            assert ask(server).output_text == "HELLO THERE"
            with pytest.raises(openai.APIConnectionError):
                stream(server)
            assert [r.wait() for r in server.requests] == ["answered"] * 3 + ["dropped"]

    def test_what_is_no_reply_is_told_to_the_test(self):
        with pytest.raises(TypeError, match="a scripted reply cannot be True"):
            with testing.server(lambda _: True) as server, pytest.raises(openai.InternalServerError):
                ask(server)

    def test_usage_is_counted_as_for_the_same_chat(self):
        with testing.server("Hi") as server, client_of(server) as client:
            spoken = ask(server, "Hello there", instructions="Be terse.").usage
            chat = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hello there"}]
            written = client.chat.completions.create(model="gpt-5-mini", messages=chat).usage
        assert (spoken.input_tokens, spoken.output_tokens) == (written.prompt_tokens, written.completion_tokens)

    @pytest.mark.parametrize(("usage", "expected"), [(False, None), ({"input_tokens": 5}, {"input_tokens": 5})])
    def test_usage_is_reported_as_told(self, usage, expected):
        with testing.server("Hi", usage=usage) as server:
            _, body = call(server, "POST", "/v1/responses", {"model": "m", "input": "x"})
        assert body["usage"] == expected


class TestRequest:
    def test_shows_its_input_and_instructions(self):
        with testing.server() as server:
            ask(server, "Hello", instructions="Be terse.")
            ask(server, ASKED)
        one, two = server.requests
        assert (one.input, one.instructions, one.text) == ("Hello", "Be terse.", "Hello")
        assert (two.input, two.instructions, two.messages) == (ASKED, None, ASKED)


class TestShelf:
    def test_a_previous_response_is_gone_on_from(self):
        with testing.server({"content": "Hi", "tool_calls": [{"name": "f"}]}) as server:
            first = ask(server)
            answer = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "1"}
            second = ask(server, [answer], previous_response_id=first.id)
            assert second.usage.input_tokens > first.usage.input_tokens
            assert refusal(server, [answer])[1].startswith("No tool call found for function call output")
            assert refusal(server, ASKED, previous_response_id=first.id)[1] == (
                f"No tool output found for function call {first.output[-1].call_id}."
            )

    def test_an_unknown_response_is_refused(self):
        with testing.server() as server:
            kept, lost = ask(server), ask(server, store=False)
            assert ask(server, previous_response_id=kept.id).previous_response_id == kept.id
            with pytest.raises(openai.BadRequestError) as caught:
                ask(server, previous_response_id=lost.id)
        assert caught.value.code == "previous_response_not_found"

    def test_a_conversation_grows(self):
        with testing.server() as server, client_of(server) as client:
            name = client.conversations.create().id
            first, second = (ask(server, conversation=name).usage.input_tokens for _ in range(2))
            assert second > first
            assert refusal(server, conversation="conv_other")[0] == 404
            assert "Mutually exclusive" in refusal(server, conversation=name, previous_response_id="resp_1")[1]

    @pytest.mark.parametrize("reply", ["Done.", ["Do", "ne."]])
    def test_a_response_in_the_background_is_done_after_some_looks(self, reply):
        with testing.server([reply]) as server, client_of(server) as client:
            began = ask(server, background=True)
            looks = [client.responses.retrieve(began.id) for _ in range(3)]
        assert [began.status, *(r.status for r in looks)] == ["queued", "in_progress", "completed", "completed"]
        assert [began.output_text, *(r.output_text for r in looks)] == ["", "", "Done.", "Done."]

    def test_a_response_in_the_background_may_be_cancelled_and_deleted(self):
        with testing.server() as server, client_of(server) as client:
            began, front = ask(server, background=True), ask(server)
            assert client.responses.cancel(began.id).status == "cancelled"
            assert client.responses.retrieve(began.id).status == "cancelled"
            with pytest.raises(openai.BadRequestError, match="background"):
                client.responses.cancel(front.id)
            client.responses.delete(front.id)
            for verb in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    verb(front.id)

    def test_a_background_stream_that_breaks_leaves_the_response_at_work(self):
        with testing.server([Drop(after_events=5, reply="Done."), "Done."]) as server, client_of(server) as client:
            with pytest.raises(openai.APIConnectionError):
                stream(server, background=True)
            assert [client.responses.retrieve("resp_00000001").status for _ in range(2)] == ["in_progress", "completed"]
            whole = stream(server, background=True)[-1].response
            assert client.responses.retrieve(whole.id).status == "completed"

    def test_a_background_stream_says_that_it_is_queued(self):
        with testing.server() as server:
            events = stream(server, background=True)
        assert [e.type for e in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
        assert [e.sequence_number for e in events] == list(range(len(events)))

    def test_another_method_is_refused(self):
        with testing.server() as server:
            assert call(server, "GET", "/v1/responses")[0] == 405
            assert call(server, "POST", "/v1/responses/resp_1", {})[0] == 405


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "1"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
SAID = {"role": "assistant", "content": "Hi"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (None, "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."),
            ([], 'One of "input"'),
            (5, "Invalid type for 'input': expected one of a string or array of input items, but got an integer"),
            (["Hi"], "Invalid type for 'input[0]': expected an input item, but got a string instead."),
            ([{}], "Missing required parameter: 'input[0].type'."),
            ([{"type": "what"}], "Invalid value: 'what'. Supported values are: 'additional_tools', "),
            ([{"role": "user"}], "Missing required parameter: 'input[0].content'."),
            ([{"role": "tool", "content": "x"}], "Invalid value: 'tool'. Supported values are: 'assistant', 'system'"),
            ([{**SAID, "tool_calls": []}], "Unknown parameter: 'input[0].tool_calls'."),
            ([{**SAID, "items": []}], "Unknown parameter: 'input[0].items'."),
            ([{"role": "user", "content": 5}], "Invalid type for 'input[0].content'"),
            ([{"role": "user", "content": ["x"]}], "Invalid type for 'input[0].content[0]': expected an object"),
            ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "Invalid value: 'text'. Supported values"),
            ([{**SAID, "content": [{"type": "input_text", "text": "x"}]}], "are: 'output_text' and 'refusal'."),
            ([{**CALL, "arguments": {}}, OUTPUT], "Invalid type for 'input[0].arguments': expected a string"),
            ([CALL, {**OUTPUT, "output": 1}], "Invalid type for 'input[1].output'"),
            ([{k: CALL[k] for k in ("type", "call_id")}], "Missing required parameter: 'input[0].arguments'."),
            ([{**REASONING, "status": None}, SAID], "Invalid type for 'input[0].status'"),
            ([OUTPUT], "No tool call found for function call output with call_id c1."),
            ([CALL], "No tool output found for function call c1."),
            ([{**CALL, "type": "custom_tool_call"}], "Unknown parameter: 'input[0].arguments'."),
            ([REASONING], "Item 'rs_1' of type 'reasoning' was provided without its required following item."),
            ([REASONING, *ASKED], "provided without its required following item."),
            ([REASONING, SAID, REASONING, SAID], "Duplicate item found with id rs_1."),
            ([{k: v for k, v in REASONING.items() if "enc" not in k}, SAID], "Item with id 'rs_1' not found."),
            ([{"type": "item_reference", "id": "msg_7"}], "Item with id 'msg_7' not found."),
            ([{"id": "msg_7"}], "Item with id 'msg_7' not found."),
        ],
    )  # fmt: skip
    def test_of_an_input_are_the_services(self, given, words):
        with testing.server() as server:
            status, message = refusal(server, given)
        assert words in message
        assert status in (400, 404)

    @pytest.mark.parametrize(
        ("request_", "words"),
        [
            ({"messages": []}, "this parameter has moved to 'input'"),
            ({"response_format": {}}, "moved to 'text.format'"),
            ({"max_tokens": 5}, "moved to 'max_output_tokens'"),
            ({"chat_template_kwargs": {}}, "Unknown parameter: 'chat_template_kwargs'."),
            ({"stream_options": {"include_usage": True}}, "Unknown parameter: 'stream_options.include_usage'."),
            ({"max_output_tokens": 5}, "Expected a value >= 16, but got 5 instead."),
            ({"background": True, "store": False}, "Background mode requires store=true."),
            ({"model": ""}, "you must provide a model parameter"),
        ],
    )
    def test_of_a_request_are_the_services(self, request_, words):
        with testing.server() as server:
            assert words in refusal(server, **request_)[1]

    def test_what_came_of_reasoning_is_not_taken_without_it(self):
        with testing.server({"content": "Hi", "reasoning_content": ""}) as server:
            made = ask(server, include=ENCRYPTED).to_dict()["output"]
            assert refusal(server, [*ASKED, made[1], *ASKED])[1] == (
                "Item 'msg_1_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1_0'."
            )
            assert refusal(server, [*ASKED, *made, *ASKED])[1] == "it was taken"
            assert refusal(server, [*ASKED, SAID, *ASKED])[1] == "it was taken"

    def test_kept_items_may_be_named(self):
        with testing.server({"content": "Hi", "reasoning_content": ""}) as server:
            made = ask(server).output
            references = [{"type": "item_reference", "id": i.id} for i in made]
            assert refusal(server, [*references, *ASKED])[1] == "it was taken"

    def test_a_request_that_is_too_long_is_refused(self):
        with testing.server(window_tokens=50) as server:
            assert "exceeds the context window" in refusal(server, "word " * 100)[1]
            assert refusal(server, "word")[1] == "it was taken"

    def test_use_up_no_reply(self):
        with testing.server(["one", "two"]) as server:
            refusal(server, [])
            assert ask(server).output_text == "one"

    def test_of_keys_and_models_are_those_of_a_chat(self):
        with testing.server(models=["gpt-5"], require_key=True) as server:
            assert refusal(server)[0] == 401
            with pytest.raises(openai.NotFoundError):
                ask(server)


def _classes(kind):
    found = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return _classes(found[0])
    return [c for k in found for c in _classes(k)] if found and not isinstance(kind, type) else [kind]


def _types(kind):
    return {kind} if isinstance(kind, str) else {t for k in typing.get_args(kind) for t in _types(k)}


def _is_required(kind):
    return str(kind).startswith(("typing_extensions.Required", "typing.Required"))


class TestTables:
    def test_the_parameters_are_the_sdks(self):
        assert typing.get_type_hints(response_create_params.ResponseCreateParamsStreaming).keys() == PARAMETERS

    def test_the_keys_of_items_are_the_sdks(self):
        found: dict[str, tuple[set, set]] = {}
        for kind in _classes(response_input_item_param.ResponseInputItemParam):
            hints = typing.get_type_hints(kind, include_extras=True)
            needed = {k for k, v in hints.items() if _is_required(v)} - {"type"}
            for name in _types(typing.get_type_hints(kind)["type"]):
                known, keys = found.get(name, (needed, set()))
                found[name] = (known & needed, keys | (set(hints) - {"type"}))
        ours = {k: (set(a.split()), set(a.split()) | set(b.split())) for k, (a, b) in ITEMS.items()}
        assert ours == found
