"""Every event of the Responses namespace over real HTTP streaming: payload and order as the service sends them."""

from __future__ import annotations

import typing

import pytest
from openai.types.responses import ResponseStreamEvent

import voxnb
from tests.clients.responses_events import FIELDS, broken, everything, failed, refused, unmapped
from voxnb import OpenAI, errors, testing
from voxnb.wire.responses import ResponsesReader

WAIT_S = 20
EVENTS = OpenAI.ResponsesAPIEvents
STREAMS = {s.__name__: s for s in (everything, refused, failed, broken, unmapped)}
CONNECTOR = {EVENTS.ConnectorInformation, EVENTS.ResponsesAPIError}


def hear(events, **settings):
    """What listeners of every constant hear of a stream, the client's own events left out, and how it ended."""
    with testing.server([events]) as server:
        given = {"base_url": server.base_url, "api_key": server.api_key, "model": "gpt-5-mini", "max_retries": 0}
        with voxnb.ResponsesAPIClient({**given, **settings}) as client:
            heard = []
            for event in EVENTS:
                client.on(event, heard.append)
            turn = client.create_responses(input="Hi")
            try:
                ended = turn.result(WAIT_S)
            except errors.APIError as error:
                ended = error
            client.idle().result(WAIT_S)
    return heard, ended


def wire(event):
    return EVENTS(event.name).wire_type or event.payload["type"]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("memory", [False, True], ids=["stateless", "stateful"])
def test_every_event_is_heard_in_order_with_the_payload_that_was_sent(stream, memory):
    sent = stream()
    heard, _ = hear(sent, store_context=memory, store=":memory:") if memory else hear(sent)
    of_service = [e for e in heard if EVENTS(e.name) not in CONNECTOR]
    assert [wire(e) for e in of_service] == [e["type"] for e in sent]
    assert [dict(e.payload) for e in of_service] == sent
    assert all(e.data.customEvent == e.name.rpartition(".")[2] for e in heard)


def test_all_constants_are_heard():
    heard = {EVENTS(e.name) for stream in STREAMS.values() for e in hear(stream())[0]}
    assert heard == set(EVENTS)


def test_the_connector_says_where_it_is_before_all_else():
    heard, _ = hear(everything())
    assert heard[0].name == EVENTS.ConnectorInformation
    assert set(heard[0].payload) == {"applicationVersion", "id", "endpoint"}


def test_the_reply_is_what_the_events_said():
    _, reply = hear(everything())
    assert reply.text == "It is 3."
    assert [c["id"] for c in reply.tool_calls] == ["call_1", "call_2"]
    assert reply.message["reasoning_content"] == "Hm."
    assert (reply.finish_reason, reply.usage.prompt_tokens, reply.usage.reasoning_tokens) == ("tool_calls", 9, 2)


def test_a_refusal_that_is_cut_is_the_replys():
    _, reply = hear(refused())
    assert (reply.refusal, reply.finish_reason) == ("No.", "content_filter")


@pytest.mark.parametrize(("stream", "words"), [(failed, "The model broke."), (broken, "The server broke.")])
def test_an_error_is_heard_as_the_services_and_as_the_clients(stream, words):
    heard, error = hear(stream())
    assert isinstance(error, errors.APIError)
    assert words in str(error)
    last = [e.name for e in heard][-2:]
    assert last[0] in (EVENTS.ResponseFailed, EVENTS.ResponseError)
    assert last[1] == EVENTS.ResponsesAPIError


# -- the streams themselves -------------------------------------------------------------------


def test_the_streams_hold_every_wire_type():
    said = {e["type"] for stream in STREAMS.values() for e in stream()}
    mapped = {e.wire_type for e in EVENTS if e.wire_type}
    assert mapped <= said
    assert said - mapped == {"response.audio.delta", "response.shell_call_command.delta", "keepalive"}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_payloads_have_the_fields_of_the_reference(stream):
    for event in stream():
        if event["type"] in FIELDS:
            names = FIELDS[event["type"]].split()
            needed = {n for n in names if not n.endswith("?")} | {"type"}
            assert needed <= set(event) <= {n.removesuffix("?") for n in names} | {"type"}


def test_the_fields_of_the_reference_are_those_of_every_constant():
    assert set(FIELDS) == {e.wire_type for e in EVENTS if e.wire_type}


@pytest.mark.parametrize("stream", [everything, refused, failed, broken])
def test_payloads_are_the_sdks(stream):
    union = typing.get_args(typing.get_args(ResponseStreamEvent)[0])
    classes = {typing.get_args(c.model_fields["type"].annotation)[0]: c for c in union}
    for event in stream():
        classes[event["type"]].model_validate(event)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_reader_gives_each_out_as_it_was_sent(stream):
    reader = ResponsesReader(wanted=set(map(str, EVENTS)))
    sent = stream()
    assert [payload for event in sent for _, payload in reader.feed(event)] == sent
