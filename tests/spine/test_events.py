"""Event constants are VoxEngine's to the letter, their wire types the provider's, and payloads read like objects."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import _events as chat_events
from openai.types.beta import realtime as beta_realtime
from openai.types.realtime import RealtimeServerEvent
from openai.types.responses import ResponseStreamEvent

from voxnb import events
from voxnb.events import (
    NAMESPACES,
    WIRE_TYPES,
    BetaEvents,
    BetaRealtimeAPIEvents,
    ChatCompletionsAPIEvents,
    ContextEvents,
    Event,
    EventData,
    EventNamespace,
    Events,
    Payload,
    RealtimeAPIEvents,
    ResponsesAPIEvents,
    WebSocketEvents,
)

MADE_BY_THE_CONNECTOR = {
    "ChatCompletionsAPIError",
    "ResponsesAPIError",
    "ConnectorInformation",
    "HTTPResponse",
    "WebSocketError",
    "Unknown",
}


# What the SDK types and the reference has no constant for: it arrives as ``Unknown`` with its raw payload.
WITHOUT_A_CONSTANT = {
    ResponsesAPIEvents: {
        # speech, which no model of this interface produces
        "response.audio.delta",
        "response.audio.done",
        "response.audio.transcript.delta",
        "response.audio.transcript.done",
        # younger than the reference: compaction in the middle of a response, and the hosted shell
        "response.compaction.compacting",
        "response.shell_call_command.added",
        "response.shell_call_command.delta",
        "response.shell_call_command.done",
        "response.shell_call_output_content.delta",
        "response.shell_call_output_content.done",
    },
    RealtimeAPIEvents: {
        # names of the beta, which ``conversation.item.added`` and ``session.created`` took the place of
        "conversation.created",
        "conversation.item.created",
        # of WebRTC and SIP connections only
        "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        # the model's audio goes to the media bridge
        "response.output_audio.delta",
    },
    BetaRealtimeAPIEvents: {
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "response.audio.delta",
        # of transcription sessions, which the beta client has none of
        "transcription_session.updated",
    },
}


def sdk_types(union):
    """Class name → wire type of an SDK's union of events."""
    classes = typing.get_args(typing.get_args(union)[0])
    return {c.__name__: typing.get_args(c.model_fields["type"].annotation)[0] for c in classes}


def constant_of(wire_type):
    """``response.mcp_call.in_progress`` → ``ResponseMCPCallInProgress``."""
    words = re.split(r"[._]", wire_type)
    return "".join("MCP" if word == "mcp" else word.capitalize() for word in words)


# -- the constants ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "count"),
    [
        (Events, 2),
        (ChatCompletionsAPIEvents, 15),
        (ResponsesAPIEvents, 52),
        (RealtimeAPIEvents, 43),
        (BetaEvents, 2),
        (BetaRealtimeAPIEvents, 30),
        (ContextEvents, 5),
    ],
)
def test_a_namespace_has_as_many_constants_as_the_reference(namespace, count):
    assert len(namespace) == count
    assert len({event.value for event in namespace}) == count, "two names for one value"


@pytest.mark.parametrize("name", [name for name in NAMESPACES if name.startswith("OpenAI.")])
def test_a_value_is_the_constant_without_the_word_events(name):
    prefix = name if name.endswith(".Events") else name.removesuffix("Events")
    for event in NAMESPACES[name]:
        assert event.value == f"{prefix}.{event.name}"


def test_every_namespace_is_listed_once_and_values_are_unique_across_them():
    assert len(set(NAMESPACES.values())) == len(NAMESPACES)
    ours = [namespace for namespace in EventNamespace.__subclasses__() if namespace.__module__ == events.__name__]
    assert {*ours} == {*NAMESPACES.values(), WebSocketEvents}
    values = [event.value for namespace in ours for event in namespace]
    assert len(values) == len(set(values))


def test_the_example_of_the_reference():
    assert ChatCompletionsAPIEvents.ContentDelta == "OpenAI.ChatCompletionsAPI.ContentDelta"
    assert ChatCompletionsAPIEvents("OpenAI.ChatCompletionsAPI.ContentDelta") is ChatCompletionsAPIEvents.ContentDelta
    assert f"{RealtimeAPIEvents.RateLimitsUpdated}" == "OpenAI.RealtimeAPI.RateLimitsUpdated"


def test_socket_events_have_the_values_of_the_reference():
    assert [e.value for e in WebSocketEvents] == [
        "WebSocket.Created", "WebSocket.Open", "WebSocket.Message", "WebSocket.Close", "WebSocket.Error",
        "WebSocket.MediaEventStarted", "WebSocket.MediaEventEnded",
    ]  # fmt: skip


# -- wire types, compared with the SDK's ------------------------------------------------------


@pytest.mark.parametrize("namespace", list(WIRE_TYPES), ids=lambda n: n.__name__)
def test_exactly_what_the_connector_makes_has_no_wire_type(namespace):
    assert {e.name for e in namespace if e.wire_type is None} == MADE_BY_THE_CONNECTOR & {e.name for e in namespace}
    named = [e.wire_type for e in namespace if e.wire_type]
    assert len(named) == len(set(named))
    assert set(WIRE_TYPES[namespace]) <= set(namespace)


def test_wire_types_of_responses_are_those_of_the_sdk():
    theirs = {
        name.removesuffix("Event").replace("Mcp", "MCP"): wire for name, wire in sdk_types(ResponseStreamEvent).items()
    }
    ours = {e.name: e.wire_type for e in ResponsesAPIEvents if e.wire_type}
    assert {name: theirs.get(name) for name in ours} == ours


def test_wire_types_of_realtime_are_those_of_the_sdk():
    theirs = set(sdk_types(RealtimeServerEvent).values())
    for event in RealtimeAPIEvents:
        if event.wire_type:
            assert event.wire_type in theirs
            assert event.name == constant_of(event.wire_type)


def test_wire_types_of_the_beta_are_those_of_the_sdk():
    theirs = set(sdk_types(beta_realtime.RealtimeServerEvent).values())
    for event in BetaRealtimeAPIEvents:
        if event.wire_type:
            assert event.wire_type in theirs
            assert event.name == constant_of(event.wire_type)


@pytest.mark.parametrize(
    ("namespace", "union"),
    [
        (ResponsesAPIEvents, ResponseStreamEvent),
        (RealtimeAPIEvents, RealtimeServerEvent),
        (BetaRealtimeAPIEvents, beta_realtime.RealtimeServerEvent),
    ],
    ids=lambda n: n.__name__ if isinstance(n, type) else "",
)
def test_every_event_of_the_sdk_has_a_constant_or_is_known_to_have_none(namespace, union):
    theirs = set(sdk_types(union).values())
    known = {e.wire_type for e in namespace if e.wire_type} | WITHOUT_A_CONSTANT[namespace]
    new = {wire: constant_of(wire) for wire in sorted(theirs - known)}
    assert new == {}, "events to add to the namespace, or to WITHOUT_A_CONSTANT with the reason"
    assert WITHOUT_A_CONSTANT[namespace] <= theirs, "gone from the SDK: take it out of WITHOUT_A_CONSTANT"


def test_wire_types_of_chat_completions_are_those_of_the_stream_helper():
    classes = [c for name, c in vars(chat_events).items() if name.endswith("Event") and hasattr(c, "model_fields")]
    theirs = {
        c.__name__.removesuffix("Event").replace("Logprobs", "LogProbs"): typing.get_args(
            c.model_fields["type"].annotation
        )[0]
        for c in classes
    }
    ours = {e.name: e.wire_type for e in ChatCompletionsAPIEvents if e.wire_type}
    assert ours.pop("Content") == "content"  # only the TypeScript helper has it
    assert ours == theirs


def test_rows_list_constant_value_and_wire_type_in_order():
    rows = ChatCompletionsAPIEvents.rows()
    assert [r["constant"] for r in rows] == [e.name for e in ChatCompletionsAPIEvents]
    assert rows[0] == {"constant": "Chunk", "value": "OpenAI.ChatCompletionsAPI.Chunk", "wire_type": "chunk"}
    assert rows[-1]["wire_type"] is None
    assert all(row["wire_type"] is None for row in Events.rows())


# -- payloads and events ----------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_a_payload_is_the_dict_it_was_made_of(data):
    payload = Payload(data)
    assert payload == data
    assert json.loads(json.dumps(payload)) == data
    assert copy.deepcopy(payload) == data
    again = pickle.loads(pickle.dumps(payload))
    assert (type(again), again) == (Payload, data)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_every_key_that_is_not_a_dict_method_is_an_attribute(data):
    payload = Payload(data)
    for key, value in data.items():
        if not hasattr(dict, key):
            assert getattr(payload, key) == value


def test_attributes_go_down_through_dicts_and_lists():
    payload = Payload({"response": {"output": [{"id": "x"}, 3]}, "delta": None})
    assert payload.response.output[0].id == "x"
    assert payload.response.output[1] == 3
    assert payload.delta is None


def test_a_missing_attribute_names_what_is_there():
    with pytest.raises(AttributeError, match="no 'detla'; it has delta, snapshot"):
        _ = Payload(delta="x", snapshot="y").detla
    with pytest.raises(AttributeError, match="no keys"):
        _ = Payload().delta
    assert not hasattr(Payload(), "_repr_html_")


def test_a_key_called_like_a_dict_method_is_read_with_brackets():
    payload = Payload({"items": [1], "keys": 2})
    assert payload["items"] == [1]
    assert list(payload.items()) == [("items", [1]), ("keys", 2)]


def test_keys_show_in_dir_for_completion():
    names = dir(Payload({"delta": 1, "not a name": 2}))
    assert "delta" in names
    assert "not a name" not in names
    assert "get" in names


def make_event(payload, **more):
    data = EventData("ContentDelta", Payload(payload))
    return Event("OpenAI.ChatCompletionsAPI.ContentDelta", "client_1", object(), data, **more)


def test_an_event_reads_as_in_voxengine():
    event = make_event({"delta": "Hi"})
    assert event.data.payload.delta == "Hi"
    assert event.payload is event.data.payload
    assert (event.data.customEvent, event.late, event.turn) == ("ContentDelta", False, None)


def test_an_event_cannot_be_changed_and_is_itself_only():
    event, other = make_event({}), make_event({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.late = True
    assert event != other
    assert len({event, other}) == 2


def test_the_repr_of_an_event_stays_short():
    event = make_event({"delta": "x" * 1000})
    assert len(repr(event)) < 200
    assert repr(make_event({"delta": "Hi"})) == "<Event OpenAI.ChatCompletionsAPI.ContentDelta {'delta': 'Hi'}>"


def test_a_wrong_name_is_told_the_nearest():
    for namespace, name, meant in (
        (events.RealtimeAPIEvents, "ResponseAudioTranscriptDone", "ResponseOutputAudioTranscriptDone"),
        (events.ChatCompletionsAPIEvents, "ContentDeltas", "ContentDelta"),
    ):
        with pytest.raises(AttributeError, match=f"did you mean '{meant}'"):
            getattr(namespace, name)
    assert not hasattr(events.Events, "anything_else")
