"""The scripted server's Responses API, met by the OpenAI SDK."""

from __future__ import annotations

import openai
import pytest

from voxnb import testing
from voxnb.testing import Drop

WAIT_S = 10
MODEL = "gpt-5"
CALL = {"tool_calls": [{"id": "c1", "name": "weather", "arguments": {"city": "Ulm"}}]}


def sdk(server):
    return openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=WAIT_S)


def ask(server, given="Hello", **more):
    with sdk(server) as client:
        return client.responses.create(model=MODEL, input=given, **more)


def test_a_text_is_answered_whole_and_streamed():
    with testing.server("Hello there, Ann.") as server, sdk(server) as client:
        whole = client.responses.create(model=MODEL, input="Hi", instructions="Be brief.")
        with client.responses.stream(model=MODEL, input="Hi") as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_response()
    assert whole.output_text == streamed.output_text == "Hello there, Ann."
    assert (whole.status, whole.usage.input_tokens > 0, whole.usage.output_tokens > 0) == ("completed", True, True)
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert kinds.count("response.output_text.delta") == 3
    assert (server.requests[0].input, server.requests[0].instructions, server.requests[0].text) == (
        "Hi",
        "Be brief.",
        "Hi",
    )


def test_calls_refusals_and_reasoning_are_items():
    with testing.server([CALL, {"refusal": "No."}, {"content": "Four.", "reasoning_content": "2 + 2"}]) as server:
        (call,) = ask(server).output
        assert (call.type, call.call_id, call.arguments) == ("function_call", "c1", '{"city": "Ulm"}')
        assert ask(server).output[0].content[0].refusal == "No."
        thought, said = ask(server).output
        assert (thought.summary[0].text, said.content[0].text) == ("2 + 2", "Four.")


def test_the_requests_own_limit_makes_it_incomplete():
    with testing.server("word " * 40) as server:
        cut = ask(server, max_output_tokens=16)
    assert (cut.status, cut.incomplete_details.reason, cut.output_text) == (
        "incomplete",
        "max_output_tokens",
        "word" + " word" * 15,
    )


def test_events_go_out_as_they_are_and_texts_are_pieces():
    raw = [
        {"type": "response.shell_call_command.delta", "delta": "ls"},
        {"type": "error", "message": "it broke", "code": "x"},
    ]
    with testing.server([raw, ["One ", "two."]]) as server, sdk(server) as client:
        given = list(client.responses.create(model=MODEL, input="a", stream=True))
        events = list(client.responses.create(model=MODEL, input="a", stream=True))
    assert [e.type for e in given] == ["response.shell_call_command.delta", "error"]
    assert [e.delta for e in events if e.type == "response.output_text.delta"] == ["One ", "two."]


def test_the_service_has_the_history_of_a_previous_response():
    with testing.server([CALL, "Sunny."]) as server:
        first = ask(server)
        output = {"type": "function_call_output", "call_id": "c1", "output": "sun"}
        assert ask(server, [output], previous_response_id=first.id).output_text == "Sunny."
        with pytest.raises(openai.BadRequestError, match="No tool output found for function call c1"):
            ask(server, "And?", previous_response_id=first.id)
        with pytest.raises(openai.BadRequestError, match="Previous response with id 'resp_x' not found"):
            ask(server, "And?", previous_response_id="resp_x")


def test_a_background_response_is_fetched_and_stopped():
    with testing.server("Done.") as server, sdk(server) as client:
        queued = client.responses.create(model=MODEL, input="a", background=True)
        assert (queued.status, queued.output) == ("queued", [])
        assert [client.responses.retrieve(queued.id).status for _ in range(2)] == ["in_progress", "completed"]
        other = client.responses.create(model=MODEL, input="a", background=True)
        assert client.responses.cancel(other.id).status == "cancelled"
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_x")


def test_a_stream_is_dropped_where_the_script_says():
    with testing.server(Drop(after_events=2, reply="One two.")) as server, sdk(server) as client:
        events = client.responses.create(model=MODEL, input="a", stream=True)
        seen = []
        with pytest.raises(Exception, match=r"Connection|closed|peer"):
            seen.extend(event.type for event in events)
    assert server.requests[0].wait() == "dropped"


REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            [{"type": "function_call_output", "call_id": "x", "output": "1"}],
            "No tool call found for function call output with call_id x",
        ),
        (
            [{"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"}],
            "No tool output found for function call x",
        ),
        ([REASONING], "'reasoning' was provided without its required following item"),
        ([REASONING, {"role": "user", "content": "Hi"}], "without its required following item"),
        ([{"role": "robot", "content": "Hi"}], "Invalid value: 'robot'"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "Invalid value: 'text'"),
        ([{"role": "user"}], "Missing required parameter: 'input"),
        (5, "Invalid type for 'input'"),
    ],
)
def test_a_broken_input_is_refused_as_the_service_does(given, words):
    with testing.server("Hi") as server, pytest.raises(openai.BadRequestError, match=words):
        ask(server, given)


def test_parameters_of_chat_completions_are_said_to_have_moved():
    with testing.server("Hi") as server, sdk(server) as client:
        for name in ("messages", "response_format", "max_tokens"):
            with pytest.raises(openai.BadRequestError, match=f"Unsupported parameter: '{name}'"):
                client.responses.create(model=MODEL, input="a", extra_body={name: 5})
        with pytest.raises(openai.BadRequestError, match='One of "input"'):
            client.responses.create(model=MODEL)
