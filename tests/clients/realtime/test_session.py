"""A session that runs: commands go out in order, every server event reaches its listeners, oddities stop nothing."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import pytest

from tests.clients.realtime.peer import KEY, WAIT_S, Peer, greet
from tests.clients.realtime.test_connecting import client
from tests.wire.realtime.talk import Talk
from voxnb import errors
from voxnb.events import RealtimeAPIEvents
from voxnb.voxengine import METHODS

COMMANDS = {
    "session_update": {"session": {"instructions": "Be kind."}},
    "input_audio_buffer_clear": {},
    "input_audio_buffer_commit": {},
    "conversation_item_create": {"item": {"type": "message", "role": "user", "content": []}},
    "conversation_item_retrieve": {"item_id": "i"},
    "conversation_item_truncate": {"item_id": "i", "content_index": 0, "audio_end_ms": 300},
    "conversation_item_delete": {"item_id": "i"},
    "response_cancel": {},
    "response_create": {},
}
TYPES = {
    "session_update": "session.update",
    "input_audio_buffer_clear": "input_audio_buffer.clear",
    "input_audio_buffer_commit": "input_audio_buffer.commit",
    "conversation_item_create": "conversation.item.create",
    "conversation_item_retrieve": "conversation.item.retrieve",
    "conversation_item_truncate": "conversation.item.truncate",
    "conversation_item_delete": "conversation.item.delete",
    "response_cancel": "response.cancel",
    "response_create": "response.create",
}


def collect(n):
    """Behaviour: begin, then take n events; and the list they land in."""
    taken = []

    async def behave(connection):
        await connection.begin()
        for _ in range(n):
            taken.append(await connection.next())
        await connection.send(connection.talk.event("rate_limits.updated", rate_limits=[]))
        await connection.until_closed()

    return behave, taken


def said(talk, one, *, event=RealtimeAPIEvents.RateLimitsUpdated):
    return one.wait_for(event).result(WAIT_S)


@pytest.mark.parametrize("spelled", ["snake", "camel", "before"])
def test_every_command_goes_out_in_both_spellings_and_in_order(spelled):
    theirs = {m.voxnb: m.voxengine for m in METHODS["RealtimeAPIClient"]}
    behave, taken = collect(len(COMMANDS))
    with Peer(behave) as peer:
        one = client(peer)
        last = one.wait_for(RealtimeAPIEvents.RateLimitsUpdated)
        if spelled != "before":
            one.connect().result(WAIT_S)
        for name, fields in COMMANDS.items():
            if spelled == "camel":
                getattr(one, theirs[name])({**fields, "event_id": f"mine_{name}"})
            else:
                getattr(one, name)(**fields, event_id=f"mine_{name}")
        if spelled == "before":
            one.connect().result(WAIT_S)
        last.result(WAIT_S)
        one.close()
    expected = [{"type": TYPES[name], **fields, "event_id": f"mine_{name}"} for name, fields in COMMANDS.items()]
    expected[0]["session"] = {"instructions": "Be kind.", "type": "realtime"}
    assert taken == expected


def test_a_command_needs_no_argument_where_there_is_nothing_to_say():
    behave, taken = collect(2)
    with Peer(behave) as peer, client(peer) as one:
        last = one.wait_for(RealtimeAPIEvents.RateLimitsUpdated)
        one.inputAudioBufferCommit()
        one.responseCreate()
        last.result(WAIT_S)
    assert [t["type"] for t in taken] == ["input_audio_buffer.commit", "response.create"]
    assert all(t["event_id"] for t in taken)


def test_the_clients_own_settings_go_out_first():
    behave, taken = collect(2)
    with Peer(behave) as peer:
        one = client(peer, instructions="Be kind.", session={"output_modalities": ["text"]})
        last = one.wait_for(RealtimeAPIEvents.RateLimitsUpdated)
        one.response_create()
        one.connect().result(WAIT_S)
        last.result(WAIT_S)
        one.close()
    assert taken[0]["session"] == {"instructions": "Be kind.", "output_modalities": ["text"], "type": "realtime"}
    assert taken[1]["type"] == "response.create"


def test_a_bad_command_raises_where_it_is_given_and_the_callers_dicts_stay_his():
    behave, taken = collect(1)
    with Peer(behave) as peer, client(peer) as one:
        last = one.wait_for(RealtimeAPIEvents.RateLimitsUpdated)
        with pytest.raises(errors.ParameterError, match="needs 'item'"):
            one.conversation_item_create()
        with pytest.raises(errors.ParameterError, match="expected a dict"):
            one.responseCreate("hello")
        with pytest.raises(errors.ParameterError, match="cannot be written as JSON"):
            one.response_create(response={"metadata": {"x": float("nan")}})
        session = {"tools": []}
        one.session_update(session=session)
        session["tools"].append("changed afterwards")
        last.result(WAIT_S)
        assert session == {"tools": ["changed afterwards"]}
    assert taken[0]["session"]["tools"] == []


def every_event(talk):
    """An event of every wire type that has a constant, in a legal order where there is one."""
    user = talk.user("u1")
    at = {"item_id": "u1", "content_index": 0}
    call = {"response_id": "r2", "item_id": "f1", "output_index": 0}
    item = {"id": "f1", "type": "function_call", "name": "add", "call_id": "c1", "arguments": ""}
    text = {"response_id": "r3", "item_id": "t1", "output_index": 0, "content_index": 0}
    spoken = {"id": "t1", "type": "message", "role": "assistant", "content": []}
    transcription = "conversation.item.input_audio_transcription"
    return [
        talk.event("session.updated", session={"id": "sess_1"}),
        *user,
        talk.event(f"{transcription}.delta", delta="He", **at),
        talk.event(f"{transcription}.segment", id="s", text="Hello", start=0, end=1, speaker="a", **at),
        talk.event(f"{transcription}.completed", transcript="Hello", **at),
        *talk.user("u2"),
        talk.event(f"{transcription}.failed", error={"message": "?"}, item_id="u2", content_index=0),
        *talk.spoken("r1", "a1", "Hi."),
        talk.event("conversation.item.truncated", item_id="a1", content_index=0, audio_end_ms=100),
        talk.event("conversation.item.retrieved", item={"id": "a1"}),
        talk.event("conversation.item.deleted", item_id="a1"),
        talk.event("response.created", response={"id": "r2"}),
        talk.event("response.output_item.added", response_id="r2", output_index=0, item=item),
        talk.event("response.function_call_arguments.delta", delta="{}", **call),
        talk.event("response.function_call_arguments.done", arguments="{}", name="add", call_id="c1", **call),
        talk.done("r2"),
        talk.event("response.created", response={"id": "r3"}),
        talk.event("response.output_item.added", response_id="r3", output_index=0, item=spoken),
        talk.event("response.output_text.delta", delta="So", **text),
        talk.event("response.output_text.done", text="So", **text),
        talk.event("response.output_item.added", response_id="r3", output_index=1, item={"id": "m1", "type": "mcp_call"}),
        talk.event("response.mcp_call_arguments.delta", response_id="r3", item_id="m1", output_index=1, delta="{"),
        talk.event("response.mcp_call_arguments.done", response_id="r3", item_id="m1", output_index=1, arguments="{}"),
        *(talk.event(f"response.mcp_call.{s}", item_id="m1", output_index=1) for s in ("in_progress", "completed", "failed")),
        talk.done("r3"),
        *(talk.event(f"mcp_list_tools.{s}", item_id="l1") for s in ("in_progress", "completed", "failed")),
        talk.event("input_audio_buffer.cleared"),
        talk.event("input_audio_buffer.timeout_triggered", item_id="u3", audio_start_ms=0, audio_end_ms=1),
        talk.error("invalid_value"),
        talk.event("something.new", x=1),
        talk.event("rate_limits.updated", rate_limits=[{"name": "tokens"}]),
    ]  # fmt: skip


def test_every_server_event_is_an_event_here_with_its_payload_as_sent():
    sent = []

    async def behave(connection):
        await connection.next("response.create")
        return await play(connection)

    async def play(connection):
        events = every_event(connection.talk)
        sent.extend(events)
        await connection.send(*events)
        await connection.until_closed()

    async def whole(connection):
        await connection.begin()
        await behave(connection)

    heard = []
    with Peer(whole) as peer, client(peer) as one:
        for constant in RealtimeAPIEvents:
            one.on(constant, heard.append)
        ran = threading.Event()  # the listeners, which close() does not wait for
        one.on(RealtimeAPIEvents.RateLimitsUpdated, lambda _: ran.set())
        one.response_create()
        assert ran.wait(WAIT_S)
    told = [e for e in heard if not e.late and e.name not in ("OpenAI.RealtimeAPI.SessionCreated", "OpenAI.RealtimeAPI.WebSocketError")]  # fmt: skip
    by_type = {e.wire_type: e for e in RealtimeAPIEvents if e.wire_type}
    expected = [e for e in sent if e["type"] != "response.output_audio.delta"]
    assert [(e.name, dict(e.payload)) for e in told] == [(by_type.get(e["type"], RealtimeAPIEvents.Unknown), e) for e in expected]  # fmt: skip
    made_here = {"SessionCreated", "HTTPResponse", "WebSocketError", "ConnectorInformation"}
    assert {e.name.rpartition(".")[2] for e in told} | made_here == set(RealtimeAPIEvents.__members__)
    assert all((e.id, e.client) == (one.id(), one) for e in told)
    assert all(e.data.customEvent == e.name.rpartition(".")[2] for e in told)


def test_what_is_out_of_order_is_told_and_the_session_goes_on():
    async def behave(connection):
        await connection.begin()
        await connection.next("response.create")
        await connection.send(connection.talk.done("never"), "no json", b"\x00\xff", "[1]", "[" * 5000)
        await connection.send(*connection.talk.spoken("r1", "a1", "On it goes."))
        await connection.until_closed()

    with Peer(behave) as peer, client(peer) as one:
        wrong = []
        one.on(RealtimeAPIEvents.WebSocketError, wrong.append)
        done = []
        one.on(RealtimeAPIEvents.ResponseDone, done.append)
        end = one.wait_for(RealtimeAPIEvents.ResponseOutputAudioTranscriptDone)
        one.response_create()
        assert end.result(WAIT_S).payload.transcript == "On it goes."
        statistics = one.statistics()
    assert statistics.refused_events == 5
    assert [e.payload.type for e in wrong] == ["RemoteProtocolError"] * 5
    assert [e.payload.response.id for e in done] == ["never", "r1"], "listeners hear of it all the same"


def test_a_response_after_a_tools_result_is_sent_when_the_first_has_ended():
    order = []

    async def behave(connection):
        await connection.begin()
        order.append((await connection.next())["type"])
        await connection.send(*connection.talk.begin("r1", "a1"))
        order.append((await connection.next())["type"])
        order.append("response.done")
        await connection.send(*connection.talk.finish("r1", "a1", "Adding."))
        order.append((await connection.next())["type"])
        await connection.send(*connection.talk.spoken("r2", "a2", "Four."))
        await connection.until_closed()

    with Peer(behave) as peer, client(peer) as one:

        def answer(event):
            item = {"type": "function_call_output", "call_id": "c1", "output": "4"}
            one.conversationItemCreate({"item": item})
            one.responseCreate({})

        done = threading.Semaphore(0)
        one.on(RealtimeAPIEvents.ResponseContentPartAdded, answer)
        one.on(RealtimeAPIEvents.ResponseDone, lambda event: done.release())
        one.responseCreate({})
        assert done.acquire(timeout=WAIT_S)
        assert done.acquire(timeout=WAIT_S)
    assert order[:4] == ["response.create", "conversation.item.create", "response.done", "response.create"]


def test_a_beta_servers_events_come_under_todays_names():
    async def behave(connection):
        await connection.begin()
        await connection.next("response.create")
        talk = connection.talk
        for event in talk.spoken("r1", "a1", "Hi."):
            await connection.send({**event, "type": event["type"].replace("output_audio", "audio")})
        item = {"id": "u5", "type": "message", "role": "user", "content": []}
        await connection.send(talk.event("conversation.item.created", item=item, previous_item_id="a1"))
        await connection.until_closed()

    with Peer(behave) as peer, client(peer) as one:
        spoken = one.wait_for(RealtimeAPIEvents.ResponseOutputAudioTranscriptDone)
        one.response_create()
        assert spoken.result(WAIT_S).payload.type == "response.output_audio_transcript.done"
        heard = []
        one.on(RealtimeAPIEvents.ConversationItemDone, heard.append)


def test_listeners_own_their_payload():
    async def behave(connection):
        await connection.begin(instructions="Be kind.")
        await connection.until_closed()

    with Peer(behave) as peer, client(peer) as one:
        event = one.wait_for(RealtimeAPIEvents.SessionCreated).result(WAIT_S)
        event.payload["session"]["instructions"] = "changed"
        again = one.wait_for(RealtimeAPIEvents.SessionCreated).result(WAIT_S)
        assert again.payload.session.instructions == "Be kind."
        assert one.session["instructions"] == "Be kind."


def test_a_response_is_a_call_of_the_statistics():
    async def behave(connection):
        await connection.begin()
        await connection.next("response.create")
        await connection.send(*connection.talk.spoken("r1", "a1", "Hi.", deltas=3))
        await connection.until_closed()

    with Peer(behave) as peer, client(peer) as one:
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        one.response_create()
        done.result(WAIT_S)
        statistics = one.statistics()
        (row,) = statistics.df.to_dict("records")
    assert (statistics.requests, statistics.sessions, statistics.messages_sent) == (1, 1, 1)
    assert (row["purpose"], row["model"], row["prompt_tokens"], row["completion_tokens"]) == ("turn", "gpt-realtime", 100, 20)  # fmt: skip
    assert row["bytes_received"] > 3 * len(base64.b64encode(bytes(9_600)))
    assert statistics.messages_received == 1 + len(Talk().spoken("r1", "a1", "Hi.", deltas=3))
    assert "sessions" in repr(statistics)
    assert statistics.to_dict()["sessions"] == 1


def test_a_trace_has_every_message_in_both_directions_and_no_key(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with Peer(greet) as peer:
        one = client(peer, trace=True, statistics=True)
        one.connect().result(WAIT_S)
        one.session_update(session={"instructions": f"The key is {KEY}"})
        one.close()
        path = Path(one.trace)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["direction"], line["message"]["type"]) for line in lines] == [
        ("received", "session.created"),
        ("sent", "session.update"),
    ]
    assert KEY not in path.read_text()
    (statistics,) = (tmp_path / ".voxnb" / "statistics").iterdir()
    assert json.loads(statistics.read_text())["messages_sent"] == 1


def test_a_message_of_sixteen_megabytes_comes_through_and_a_larger_one_ends_the_connection():
    async def behave(connection):
        await connection.begin()
        await connection.next("conversation.item.retrieve")
        sound = "A" * (3 * 1024 * 1024)
        await connection.send(
            connection.talk.event("conversation.item.retrieved", item={"id": "i", "content": [sound]})
        )
        await connection.next("conversation.item.retrieve")
        await connection.send("x" * (17 * 1024 * 1024))
        await connection.until_closed()

    with Peer(behave) as peer, client(peer) as one:
        found = one.wait_for(RealtimeAPIEvents.ConversationItemRetrieved)
        one.conversation_item_retrieve(item_id="i")
        assert len(found.result(WAIT_S).payload.item.content[0]) == 3 * 1024 * 1024
        ended = one.wait_for(RealtimeAPIEvents.WebSocketError)
        one.conversation_item_retrieve(item_id="i")
        assert ended.result(WAIT_S).payload.code == 1009
