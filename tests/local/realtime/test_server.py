"""The server over real sockets, by itself and on the test server's port."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
import websockets

from tests.local.realtime.line import LIMIT_S, one_turn, talk
from voxnb import testing
from voxnb.local.realtime import Manner, RealtimeServer, Script


def test_it_answers_over_a_socket_and_records():
    with RealtimeServer(Script(["Good morning."])) as server:
        assert talk(server, one_turn) == "Good morning."
        (session,) = server.sessions
        assert session.wait_until_closed(timeout_s=LIMIT_S) == 1000
        assert session.query == {"model": "gpt-realtime"}
        assert {e["type"] for e in session.received} == {"input_audio_buffer.append"}
        assert session.types()[-1] == "response.done"
        assert session.problems == []


def test_the_same_port_answers_texts_and_speech_from_one_script():
    with testing.server(["First.", "Second.", "Third."], realtime=True) as server:
        body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}).encode()

        def ask():
            with urllib.request.urlopen(f"{server.base_url}/chat/completions", data=body) as answer:
                return json.load(answer)["choices"][0]["message"]["content"]

        assert [ask(), talk(server, one_turn), ask()] == ["First.", "Second.", "Third."]
        assert [(r.method, r.path) for r in server.requests] == [
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/realtime"),
            ("POST", "/v1/chat/completions"),
        ]
        assert server.requests[1].query == {"model": "gpt-realtime"}
        assert len(server.sessions) == 1


def test_without_realtime_the_path_is_not_there():
    with testing.server("Hello.") as server:
        with pytest.raises(websockets.InvalidStatus):
            talk(server, one_turn)


@pytest.mark.parametrize(
    ("query", "settings", "status", "code"),
    [
        ("?model=gpt-realtime", {"require_key": True}, 401, "invalid_api_key"),
        ("", {}, 400, "missing_model"),
        ("?model=gpt-none", {"models": ["gpt-realtime"]}, 404, "model_not_found"),
        ("?model=gpt-realtime", {"realtime": testing.Realtime(handshakes=[429])}, 429, "rate_limit_exceeded"),
    ],
)
def test_a_handshake_that_is_refused_says_why(query, settings, status, code):
    with testing.server("Hello.", **{"realtime": True, **settings}) as server:
        with pytest.raises(websockets.InvalidStatus) as caught:
            talk(server, one_turn, query=query, key="wrong")
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body)["error"]["code"] == code
        if status == 429:
            assert talk(server, one_turn) == "Hello."


def test_the_right_key_is_let_in():
    with testing.server("Hello.", realtime=True, require_key=True) as server:
        assert talk(server, one_turn) == "Hello."


def test_a_transcription_session_needs_no_model():
    async def scene(line):
        created = await line.until("session.created")
        transcription = {"model": "gpt-4o-transcribe"}
        await line.send(
            "session.update", session={"type": "transcription", "audio": {"input": {"transcription": transcription}}}
        )
        await line.say("Hello there")
        done = await line.until("conversation.item.input_audio_transcription.completed")
        return created["session"]["type"], done["transcript"]

    with testing.server("Hello.", realtime=testing.Realtime(hears="Hello there")) as server:
        assert talk(server, scene, query="?intent=transcription") == ("transcription", "Hello there")


def test_a_function_of_the_script_sees_the_session_and_may_wait():
    seen = []

    def reply(view):
        seen.append(view)
        return f"You said: {view.text}"

    async def scene(line):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Ann"}]}
        await line.send("conversation.item.create", item=item)
        await line.send("response.create", response={"output_modalities": ["text"], "instructions": "Be brief."})
        done = await line.until("response.done")
        return done["response"]["output"][0]["content"][0]["text"]

    with testing.server(reply, realtime=True) as server:
        assert talk(server, scene) == "You said: Ann"
    (view,) = seen
    assert view.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ann"}]


def test_a_failing_function_fails_the_response_and_the_test():
    async def scene(line):
        await line.send("response.create")
        return (await line.until("response.done"))["response"]["status"]

    def reply(_view):
        raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        with testing.server(reply, realtime=True) as server:
            assert talk(server, scene) == "failed"


def test_a_drop_breaks_the_connection_within_the_answer():
    async def scene(line):
        await line.send("response.create")
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await line.until("response.done")
        assert caught.value.rcvd is None
        return [e["type"] for e in line.events]

    with testing.server([testing.Drop(after_events=3), "Better."], realtime=True) as server:
        assert talk(server, scene)[1:] == [
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
        ]
        assert talk(server, one_turn) == "Better."


def test_a_hang_says_no_more_and_holds_the_line():
    async def scene(line):
        await line.send("response.create")
        await line.until("response.output_item.added")
        await line.send("input_audio_buffer.clear")
        await line.until("input_audio_buffer.cleared")
        return [e["type"] for e in line.events if e["type"].startswith("response.")]

    with testing.server(testing.Hang(after_events=1), realtime=True) as server:
        assert talk(server, scene) == ["response.created", "response.output_item.added"]


def test_a_session_that_is_over_is_closed_with_1001():
    async def scene(line):
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await line.until("response.done")
        return caught.value.rcvd.code, line.events[-1]["error"]["code"]

    with RealtimeServer(manner=Manner(session_s=0.05)) as server:
        assert talk(server, scene) == (1001, "session_expired")


def test_closing_the_server_ends_its_sessions():
    async def scene(line):
        await line.until("session.created")
        await asyncio.to_thread(server.close)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await line.until("response.done")
        return caught.value.rcvd.code

    server = RealtimeServer()
    assert talk(server, scene) == 1001
    server.close()
    assert not any(t.name.startswith("voxnb-realtime") for t in __import__("threading").enumerate())


def test_messages_in_pieces_and_in_bytes_are_taken():
    async def scene(line):
        await line.websocket.send(['{"type": "response', '.cancel", "event_id"', ': "pieces"}'])
        first = await line.until("error")
        await line.websocket.send(b'{"type": "response.cancel", "event_id": "bytes"}')
        return first["error"]["event_id"], (await line.until("error"))["error"]["event_id"]

    with RealtimeServer() as server:
        assert talk(server, scene) == ("pieces", "bytes")


def test_two_servers_with_one_seed_give_the_same_ids():
    async def scene(line):
        return (await line.until("session.created"))["session"]["id"]

    ids = []
    for _ in range(2):
        with RealtimeServer(seed=7) as server:
            ids.append(talk(server, scene))
    assert ids[0] == ids[1]
