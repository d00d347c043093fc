"""How a session begins and ends: keys, refusals, silence, a peer that never answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading

import pytest

from tests.clients.realtime.peer import KEY, WAIT_S, Peer, greet
from voxnb import errors
from voxnb.clients.realtime import client as realtime
from voxnb.clients.realtime.client import RealtimeAPIClient
from voxnb.clients.realtime.hearing import Hearing, Sound
from voxnb.clients.realtime.outbox import MOST_AUDIO_MS
from voxnb.clients.realtime.socket import CLOSE_S
from voxnb.events import RealtimeAPIEvents, WebSocketEvents
from voxnb.media.clock import LOOP
from voxnb.media.unit import MediaUnit
from voxnb.params import RealtimeAPIClientType


class Mouth(MediaUnit):
    """Says things at once."""

    def say(self, frames):
        LOOP.call_soon(lambda: [stream.frame(frame) for frame in frames for stream in self._outgoing.values()])


def client(peer, **given):
    return RealtimeAPIClient(**{"api_key": KEY, "base_url": peer.base_url, "max_retries": 0, **given})


def test_connecting_may_be_blocked_for_awaited_or_written_with_with():
    with Peer(greet) as peer:
        one = client(peer)
        assert not one.connected
        assert one.connect().result(WAIT_S) is one
        assert one.connected
        assert one.connect().done(), "a second call is the same"
        one.close()
        with client(peer) as two:
            assert two.session["id"] == "sess_1"

        async def awaited():
            async with client(peer) as three:
                assert await three.connect() is three

        asyncio.run(awaited())
    assert len(peer.handshakes) == 3


@pytest.mark.parametrize("bridge", ["loop", pytest.param("process", marks=pytest.mark.slow)])
def test_what_is_said_while_the_session_is_begun_waits_for_it(bridge):
    asked, may, came, said = threading.Event(), threading.Event(), threading.Event(), []

    async def slow(connection):
        asked.set()
        await asyncio.to_thread(may.wait, WAIT_S)
        await connection.begin()
        while len(said) < 200:
            event = await connection.next("input_audio_buffer.append")
            said.append(base64.b64decode(event["audio"]))
        came.set()
        await connection.until_closed()

    def frame(n):
        return n.to_bytes(2, "little") * 480

    with Peer(slow) as peer:
        one, mouth = client(peer, bridge=bridge), Mouth()
        mouth.send_media_to(one)
        mouth.say([frame(0)] * 5)  # nobody has asked for a session yet
        connecting = one.connect()
        assert asked.wait(WAIT_S)
        mouth.say([frame(n) for n in range(200)])
        may.set()
        connecting.result(WAIT_S)
        assert came.wait(WAIT_S)
        assert one.statistics().audio_dropped_ms == 100
        one.close()
    assert said == [frame(n) for n in range(200)]


def test_what_is_asked_for_at_the_very_moment_the_session_is_there_goes_out():
    """A listener of the session's first event may run before `connect()` has gone on."""

    async def behave(connection):
        await connection.begin()
        asked.append(await connection.next("conversation.item.create"))
        asked.append(await connection.next("response.create"))
        came.set()
        await connection.until_closed()

    def begun(name, _payload, _turn):
        if name == RealtimeAPIEvents.SessionCreated.value:
            one.conversation_item_create(item={"type": "message", "role": "user", "content": []})
            one.response_create()

    asked, came = [], threading.Event()
    with Peer(behave) as peer:
        one = client(peer)
        one.watch_events(begun)
        one.connect().result(WAIT_S)
        assert came.wait(WAIT_S)
        one.close()


def test_of_what_is_said_meanwhile_the_newest_is_kept_and_the_rest_counted():
    class Link:
        def append(self, data, *, audio_ms):
            sent.append(data)

    sent, told = [], []
    hearing = Hearing(goes_out=told.append)
    hearing.awaits = True
    sounds = [Sound(str(n).encode(), 20.0, n / 50) for n in range(260)]
    for sound in sounds:
        hearing.add(sound, link=None)
    assert (hearing.dropped_ms, sent) == (200.0, [])
    hearing.begin(Link())
    assert sent == [sound.data for sound in sounds[10:]]
    assert told == sounds[10:], "with the time at which it was said"
    assert MOST_AUDIO_MS == 250 * 20
    hearing.lost()
    hearing.add(sounds[0], link=None)
    assert (hearing.dropped_ms, len(sent)) == (220.0, 250)
    hearing.awaits = True
    hearing.add(sounds[0], link=None)
    hearing.lost()
    assert (hearing.dropped_ms, len(sent)) == (240.0, 250)


def test_the_address_names_the_model_and_the_key_travels_in_the_header():
    with Peer(greet) as peer, client(peer, model="gpt-realtime-mini", project="proj_1"):
        (request,) = peer.handshakes
    assert request.path == "/v1/realtime?model=gpt-realtime-mini"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["OpenAI-Project"] == "proj_1"
    assert "Sec-WebSocket-Extensions" not in request.headers, "compression is off"


def test_a_transcription_session_names_its_intent_and_no_model():
    async def behave(connection):
        await connection.begin(type="transcription")
        await connection.until_closed()

    kind = RealtimeAPIClientType.TRANSCRIPTION
    with Peer(behave) as peer, client(peer, type=kind, session={"audio": {"input": {}}}):
        (request,) = peer.handshakes
        assert request.path == "/v1/realtime?intent=transcription"
    assert peer.connections[0].received[0]["session"]["type"] == "transcription"


def test_a_key_that_is_refused_is_an_error_at_connect_and_is_in_none_of_its_words():
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}})
    with Peer(greet, refuse=lambda *_: (401, body)) as peer:
        bad = client(peer)
        with pytest.raises(errors.AuthenticationError, match="refused the key from api_key") as caught:
            bad.connect().result(WAIT_S)
        refused = bad.wait_for(RealtimeAPIEvents.HTTPResponse).result(WAIT_S)
        failed = bad.wait_for(RealtimeAPIEvents.WebSocketError).result(WAIT_S)
        bad.close()
    assert (refused.late, refused.payload.status_code, failed.payload.type) == (True, 401, "AuthenticationError")
    error = caught.value
    said = [str(error), repr(error), repr(error.__cause__), repr(error.body), repr(refused), repr(failed)]
    assert not any(KEY in text for text in said)


def test_a_key_may_be_refused_after_the_handshake():
    async def behave(connection):
        await connection.send(connection.talk.error("invalid_api_key", message="Incorrect API key"))
        await connection.socket.close(3000, "invalid_request_error.invalid_api_key")

    with Peer(behave) as peer:
        bad = client(peer)
        with pytest.raises(errors.AuthenticationError, match="refused the key from api_key"):
            bad.connect().result(WAIT_S)
        assert repr(bad).endswith("not connected>")
        bad.close()


def test_a_server_that_answers_well_but_speaks_no_websocket_is_no_refusal():
    with Peer(greet, refuse=lambda request, n: (200, "<html>hello</html>")) as peer:
        one = client(peer)
        with pytest.raises(errors.APIResponseValidationError, match=r"answered no WebSocket at .* \(HTTP 200\); check"):
            one.connect().result(WAIT_S)
        one.close()


def test_a_refusal_that_passes_is_asked_again():
    refuse = lambda _, n: (503, "{}") if n == 1 else None  # noqa: E731
    with Peer(greet, refuse=refuse) as peer, client(peer, max_retries=1):
        assert len(peer.handshakes) == 2


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        (lambda c: c.socket.close(1008, "not you"), errors.APIConnectionError, r"before a session began \(code 1008: not you"),
        (lambda c: c.until_closed(), errors.APITimeoutError, "longer than 0.2 s to begin a session"),
        (lambda c: c.send("hello"), errors.APIConnectionError, "before a session began"),
    ],
)  # fmt: skip
def test_a_server_that_begins_no_session_is_an_error_at_connect(behave, error, words):
    with Peer(behave) as peer:
        bad = client(peer, timeout_s=0.2 if error is errors.APITimeoutError else WAIT_S)
        with pytest.raises(error, match=words):
            bad.connect().result(WAIT_S)
        bad.close()


def test_after_a_failure_connect_tries_again():
    with Peer(greet, refuse=lambda _, n: (503, "{}") if n == 1 else None) as peer:
        one = client(peer)
        with pytest.raises(errors.InternalServerError):
            one.connect().result(WAIT_S)
        assert one.connect().result(WAIT_S).connected
        one.close()


def test_where_nothing_listens_it_says_so():
    with Peer(greet) as peer:
        gone = peer.base_url
    bad = RealtimeAPIClient(api_key=KEY, base_url=gone, max_retries=0)
    with pytest.raises(errors.APIConnectionError, match="nothing listens"):
        bad.connect().result(WAIT_S)
    bad.close()


def test_a_web_server_that_is_none_is_an_error(tmp_path):
    from voxnb import testing

    with testing.server("Hi.") as server:
        bad = RealtimeAPIClient(api_key=KEY, base_url=server.base_url, max_retries=0)
        with pytest.raises(errors.APIError):
            bad.connect().result(WAIT_S)
        bad.close()


def test_a_redirect_is_not_followed():
    def refuse(request, n):
        return (302, "{}")

    with Peer(greet, refuse=refuse) as peer:
        bad = client(peer)
        with pytest.raises(errors.APIStatusError, match="sent the request elsewhere"):
            bad.connect().result(WAIT_S)
        bad.close()
    assert len(peer.handshakes) == 1


def test_a_peer_that_never_answers_the_close_is_left_in_a_quarter_of_a_second():
    assert realtime.DRAIN_S + CLOSE_S <= 0.25
    release = threading.Event()

    async def behave(connection):
        await connection.begin()
        connection.socket.transport.pause_reading()  # it hears nothing any more
        await asyncio.to_thread(release.wait, WAIT_S)

    with Peer(behave) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        one.close()
        ended = one.wait_for(WebSocketEvents.Close)
        release.set()
        assert ended.result(WAIT_S).payload.code == 1000


def test_close_tells_listeners_once_also_late_ones_and_the_callback():
    told, heard = [], []
    done = threading.Event()

    def note(facts):
        told.append(dict(facts))
        done.set()

    with Peer(greet) as peer:
        one = client(peer, on_web_socket_close=note)
        one.connect().result(WAIT_S)
        one.add_event_listener(WebSocketEvents.Close, heard.append)
        one.close()
        one.close()
        assert done.wait(WAIT_S)
        late = one.wait_for(WebSocketEvents.Close).result(WAIT_S)
    assert [(t["code"], t["wasClean"], t["websocket"]) for t in told] == [(1000, True, one.web_socket_id())]
    assert (late.late, late.payload.reason) == (True, "Normal connection close")


def test_a_connection_that_the_server_ends_is_told_and_takes_no_more_commands():
    async def behave(connection):
        await connection.begin()
        await connection.next("response.create")
        await connection.socket.close(1009, "too big")

    with Peer(behave) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        closed = one.wait_for(WebSocketEvents.Close)
        one.response_create()
        assert closed.result(WAIT_S).payload.code == 1009
        assert one.wait_for(RealtimeAPIEvents.WebSocketError).result(WAIT_S).payload.code == 1009
        assert not one.connected
        with pytest.raises(errors.ClientClosedError, match="code 1009"):
            one.response_create()
        assert "ended by the server" in repr(one)
        one.close()


def test_a_client_may_be_closed_while_it_connects():
    reached = threading.Event()

    async def behave(connection):
        reached.set()
        await connection.until_closed()

    with Peer(behave) as peer:
        one = client(peer)
        handle = one.connect()
        assert reached.wait(WAIT_S)
        one.close()
        with pytest.raises(errors.ClientClosedError, match="while it connected"):
            handle.result(WAIT_S)
        with pytest.raises(errors.ClientClosedError):
            one.connect()


def test_a_client_that_never_connected_closes_too():
    one = RealtimeAPIClient(api_key=KEY, base_url="http://127.0.0.1:9/v1")
    one.session_update(session={"instructions": "Be kind."})
    assert "not connected" in repr(one)
    one.close()
    with pytest.raises(errors.ClientClosedError):
        one.response_create()


def test_voxengines_first_events_come_in_their_order_and_stay():
    with Peer(greet) as peer:
        heard = []
        one = client(peer)
        names = [WebSocketEvents.Created, WebSocketEvents.Open, RealtimeAPIEvents.ConnectorInformation, RealtimeAPIEvents.SessionCreated]  # fmt: skip
        for name in names:
            one.on(name, lambda event: heard.append(event.name))
        one.connect().result(WAIT_S)
        one.wait_for(RealtimeAPIEvents.SessionCreated).result(WAIT_S)
        late = [one.wait_for(name).result(WAIT_S) for name in names]
        one.close()
    assert heard == [str(name) for name in names]
    assert all(event.late for event in late)
    assert late[2].payload.endpoint == "/openai/realtime"


def test_a_text_clients_parameter_is_refused_and_a_misspelt_one_named():
    with pytest.raises(errors.ParameterError, match="not for realtime"):
        RealtimeAPIClient(api_key=KEY, openai_client=object())
    with pytest.raises(errors.ParameterError, match="did you mean 'session'"):
        RealtimeAPIClient(api_key=KEY, sesion={})
    with pytest.raises(errors.ParameterError, match="type is 'talk'"):
        RealtimeAPIClient(api_key=KEY, type="talk")
    with pytest.raises(errors.CredentialsError):
        RealtimeAPIClient()


def test_the_documented_address_gives_way_to_the_environments(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with contextlib.closing(RealtimeAPIClient()) as usual:
        assert usual.endpoint.base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example.com/v1")
    with contextlib.closing(RealtimeAPIClient()) as moved:
        assert moved.host == "gateway.example.com"
