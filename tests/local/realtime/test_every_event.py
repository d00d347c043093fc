"""Every event that a client can get of the service, this server sends it: over a socket, to the client, in a legal order."""

from __future__ import annotations

import time

import openai
import pytest

import voxnb
from tests.clients.realtime.peer import WAIT_S
from tests.clients.realtime.test_conversation import Mouth
from voxnb import ContextStore, errors, testing
from voxnb.events import RealtimeAPIEvents as Events
from voxnb.local.realtime import Raw, RealtimeServer

VAD = {"type": "server_vad", "silence_duration_ms": 200}
NOTES = {"type": "mcp", "server_label": "notes", "server_url": "https://notes.example/mcp"}
LOST = {"type": "mcp", "server_label": "lost", "server_url": "https://lost.example/mcp"}
REMOTE = {"server_label": "notes", "name": "find", "arguments": {"text": "iris"}}
FOR_THE_MODEL = ("Response", "ConversationItemTruncated", "InputAudioBufferTimeout", "MCP", "RateLimits", "Unknown")
"""How events begin that a transcription session has no use for."""


@pytest.fixture
def refused():
    """Events of a client whose handshake is refused."""
    with testing.server("Hi.", realtime=testing.Realtime(handshakes=[429])) as server:
        one = voxnb.RealtimeAPIClient(base_url=server.base_url, api_key=server.api_key, max_retries=0)
        told = everything(one)
        with pytest.raises(errors.RateLimitError):
            one.connect().result(WAIT_S)
        until(told, Events.WebSocketError)
        one.close()
    return {event.name for event in told}


def everything(one):
    """A list of all that a client is told from now on, and before where it keeps it."""
    told = []
    for constant in Events:
        one.on(constant, told.append)
    return told


def until(told, *constants):
    """Wait until events of these names were told."""
    end = time.monotonic() + WAIT_S
    while not {constant.value for constant in constants} <= {event.name for event in told}:
        assert time.monotonic() < end, constants
        time.sleep(0.005)


def say(one, text):
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    one.conversation_item_create(item=item)


def answered(one, **response):
    done = one.wait_for(Events.ResponseDone)
    one.response_create(response=response)
    return done.result(WAIT_S).payload.response


def missing(told, *, of=Events):
    return {constant.value for constant in of} - {event.name for event in told}


@pytest.mark.parametrize("bridge", ["loop", "process"])
def test_a_conversation_has_every_event(refused, bridge):
    replies = [
        {"tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"tool_calls": [{**REMOTE, "output": "150 rows"}, {**REMOTE, "error": "no such note"}], "content": "150."},
        [Raw('{"type": "something.new", "event_id": "e"}'), "Written."],
        "Spoken.",
    ]
    realtime = testing.Realtime(hears=["Hello.", None, "Hello."], remote_tools={"notes": [{"name": "find"}]})
    session = {"tools": [NOTES, LOST], "audio": {"input": {"turn_detection": VAD, "transcription": {"model": "m"}}}}
    with testing.server(replies, realtime=realtime) as server, ContextStore(":memory:") as store:
        one = voxnb.RealtimeAPIClient(
            base_url=server.base_url, api_key=server.api_key, session=session, bridge=bridge,
            store_context=True, store=store, conversation="call",
        )  # fmt: skip
        told = everything(one)
        with one:
            say(one, "Add.")
            (add,) = answered(one).output
            output = {"type": "function_call_output", "call_id": add.call_id}
            one.conversation_item_create(item={**output, "output": "2"})
            assert [item.type for item in answered(one).output] == ["message", "mcp_call", "mcp_call"]
            say(one, "Write.")
            assert answered(one, output_modalities=["text"]).output[0].content[0].text == "Written."
            mouth, done = Mouth(), one.wait_for(Events.ResponseDone)
            mouth.send_media_to(one)
            mouth.say("Hello")
            (spoken,) = done.result(WAIT_S).payload.response.output
            until(told, Events.ConversationItemInputAudioTranscriptionCompleted)
            one.conversation_item_retrieve(item_id=spoken.id)
            one.conversation_item_truncate(item_id=spoken.id, content_index=0, audio_end_ms=100)
            one.conversation_item_delete(item_id=spoken.id)
            one.input_audio_buffer_clear()
            one.conversation_item_delete(item_id="nobody")
            until(told, Events.Error)
            mouth.say("Hello again")
            until(told, Events.ConversationItemInputAudioTranscriptionFailed)
            hearing = {"turn_detection": {**VAD, "idle_timeout_ms": 5_000}, "transcription": {"model": "gpt-4o-transcribe-diarize"}}  # fmt: skip
            one.session_update(session={"audio": {"input": hearing}})
            until(told, Events.SessionUpdated)
            mouth.say("Hello once more")
            until(told, Events.ConversationItemInputAudioTranscriptionSegment)
            until(told, Events.InputAudioBufferTimeoutTriggered)
        assert [e.server_label for e in items(told, "mcp_list_tools")] == ["notes", "lost"]
        assert server.sessions[0].problems == []
        assert store.verify(), store.verify()
    assert missing(told) <= refused
    assert {event.name for event in told} | refused == {constant.value for constant in Events}


@pytest.mark.parametrize("bridge", ["loop", "process"])
def test_a_transcription_session_has_every_event_that_is_not_of_a_model(bridge):
    realtime = testing.Realtime(hears=["Hello.", None, "Hello."])
    session = {"audio": {"input": {"turn_detection": VAD, "transcription": {"model": "gpt-4o-transcribe"}}}}
    with testing.server("unused", realtime=realtime) as server:
        kind = voxnb.OpenAI.RealtimeAPIClientType.TRANSCRIPTION
        one = voxnb.RealtimeAPIClient(
            base_url=server.base_url, api_key=server.api_key, type=kind, session=session, bridge=bridge
        )
        told = everything(one)
        with one:
            mouth = Mouth()
            mouth.send_media_to(one)
            mouth.say("Hello")
            until(told, Events.ConversationItemInputAudioTranscriptionCompleted)
            (item,) = items(told, "message")
            mouth.say("Hello again")
            until(told, Events.ConversationItemInputAudioTranscriptionFailed)
            one.session_update(session={"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe-diarize"}}}})
            until(told, Events.SessionUpdated)
            mouth.say("Hello once more")
            until(told, Events.ConversationItemInputAudioTranscriptionSegment)
            one.conversation_item_retrieve(item_id=item.id)
            one.conversation_item_delete(item_id=item.id)
            one.input_audio_buffer_clear()
            one.response_create()
            until(told, Events.Error)
        assert server.sessions[0].problems == []
    # What a refused handshake tells is the same for both.
    of_both = ("HTTPResponse", "WebSocketError", *FOR_THE_MODEL)
    assert {name for name in missing(told) if not name.rpartition(".")[2].startswith(of_both)} == set()


def test_a_client_secret_begins_a_session_with_its_settings_for_a_while(monkeypatch):
    def secret(**asked):
        return openai.OpenAI(base_url=server.base_url, api_key=server.api_key).realtime.client_secrets.create(**asked)

    with testing.server("Hi.", realtime=True, require_key=True) as server:
        made = secret(
            session={"type": "realtime", "model": "gpt-realtime", "instructions": "Be brief.", "tools": [NOTES]}
        )
        assert made.value.startswith("ek_")
        assert (made.session.model, made.session.instructions) == ("gpt-realtime", "Be brief.")
        assert 590 < made.expires_at - time.time() <= 600
        with voxnb.RealtimeAPIClient(base_url=server.base_url, api_key=made.value) as one:
            assert one.session["instructions"] == "Be brief."
            assert one.session["id"] != made.session.id
        written = secret(session={"type": "transcription"}, expires_after={"anchor": "created_at", "seconds": 10})
        kind = voxnb.OpenAI.RealtimeAPIClientType.TRANSCRIPTION
        with voxnb.RealtimeAPIClient(base_url=server.base_url, api_key=written.value, type=kind) as one:
            assert one.session["type"] == "transcription"
        later = time.time() + 700
        monkeypatch.setattr("voxnb.local.realtime.server.time.time", lambda: later)
        with pytest.raises(errors.AuthenticationError) as caught:
            voxnb.RealtimeAPIClient(base_url=server.base_url, api_key=made.value, max_retries=0).connect().result(
                WAIT_S
            )
        assert made.value not in str(caught.value)
        assert [(r.method, r.path) for r in server.requests][:2] == [("POST", "/v1/realtime/client_secrets"), ("GET", "/v1/realtime")]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"session": {"type": "song"}}, "'realtime' and 'transcription'"),
        ({"session": {"type": "realtime", "voice": 3}}, "voice"),
        ({"expires_after": {"seconds": 5}}, "from 10 to 7200"),
        ({"expires_after": {"seconds": "5"}}, "an integer"),
        ({"expires_after": {"anchor": "now"}}, "created_at"),
        ({"extra_body": {"nothing": 1}}, "nothing"),
    ],
)
def test_a_client_secret_that_cannot_be_is_refused(asked, told):
    with testing.server("Hi.", realtime=True) as server:
        sdk = openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)
        with pytest.raises(openai.BadRequestError, match=told):
            sdk.realtime.client_secrets.create(**asked)


def test_a_client_secret_needs_the_key_and_no_other_path_takes_a_post():
    with RealtimeServer(require_key=True) as server:
        sdk = openai.OpenAI(base_url=server.base_url, api_key="sk-wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            sdk.realtime.client_secrets.create()
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(model="m", messages=[])


def named(told, name):
    return [event.payload for event in told if event.name == Events[name].value]


def test_a_remote_tool_may_ask_for_leave_first():
    asks = {**REMOTE, "type": "mcp_approval_request"}
    replies = [{"content": "May I?", "tool_calls": [asks]}, {"tool_calls": [{**REMOTE, "output": "150 rows"}]}]
    realtime = testing.Realtime(remote_tools={"notes": [{"name": "find"}]})
    with testing.server(replies, realtime=realtime) as server, ContextStore(":memory:") as store:
        given = {"session": {"tools": [NOTES]}, "store_context": True, "store": store, "conversation": "call"}
        one = voxnb.RealtimeAPIClient(base_url=server.base_url, api_key=server.api_key, **given)
        told = everything(one)
        with one:
            say(one, "Find it.")
            said, asked = answered(one).output
            assert (said.type, asked.type, asked.name, asked.server_label) == ("message", asks["type"], "find", "notes")
            assert asked.arguments == '{"text": "iris"}'
            leave = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": True}
            one.conversation_item_create(item=leave)
            assert [item.type for item in answered(one).output] == ["mcp_call"]
        assert [event.name for event in told if "MCPCallInProgress" in event.name] == [Events.ResponseMCPCallInProgress]
        assert server.sessions[0].problems == []
        assert store.verify(), store.verify()


def items(told, kind):
    return [e.item for e in named(told, "ConversationItemDone") if e.item.type == kind]
