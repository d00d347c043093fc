"""A session that is lost is begun again, one that nears its end is replaced: with settings, conversation and what waited."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.clients.realtime.peer import KEY, WAIT_S, Peer, greet
from tests.clients.realtime.test_connecting import client
from voxnb import SessionEvents, SessionPolicy, errors
from voxnb.clients.realtime import watchdog
from voxnb.events import RealtimeAPIEvents, WebSocketEvents
from voxnb.runtime import loop
from voxnb.wire.realtime.item import Item
from voxnb.wire.realtime.replay import ANCHOR

QUICK = SessionPolicy(attempts=3, first_wait_s=0.001, longest_wait_s=0.002)
FAR = time.time() + 3_600


async def echo(connection):
    """Confirm what comes, as the service does."""
    talk = connection.talk
    while True:
        event = await connection.next()
        if event["type"] == "session.update":
            await connection.send(talk.event("session.updated", session={"id": "sess_1", **event["session"]}))
        elif event["type"] == "conversation.item.create":
            item = {"id": f"item_{len(connection.received)}", **event["item"]}
            previous, talk.last_item = talk.last_item, item["id"]
            await connection.send(
                talk.event("conversation.item.added", item=item, previous_item_id=previous),
                talk.event("conversation.item.done", item=item, previous_item_id=previous),
            )
        elif event["type"] == "response.create":
            n = sum(e["type"] == "response.create" for e in connection.received)
            await connection.send(*talk.spoken(f"r{id(connection)}_{n}", f"a{id(connection)}_{n}", f"Answer {n}."))


def session(n, *, expires_at=FAR):
    async def behave(connection):
        await connection.begin(id=f"sess_{n}", expires_at=expires_at)
        await echo(connection)

    return behave


def ask(one, text):
    done = one.wait_for(RealtimeAPIEvents.ResponseDone)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    one.conversation_item_create(item=item)
    one.response_create()
    done.result(WAIT_S)


def said(connection):
    """The texts of the items that a session was given, and its first settings."""
    items = [e["item"] for e in connection.received if e["type"] == "conversation.item.create"]
    return [(i.get("role"), i["content"][0]["text"]) for i in items if i["type"] == "message"]


def held(behave):
    """Behaviour that says when it is asked for, and waits to be let go: it and both events."""
    asked, go_on = threading.Event(), threading.Event()

    async def slow(connection):
        asked.set()
        await asyncio.to_thread(go_on.wait, WAIT_S)
        await behave(connection)

    return slow, asked, go_on


def test_a_lost_session_is_begun_again_with_settings_and_conversation():
    with Peer([session(1), session(2)]) as peer:
        one = client(peer, instructions="Be kind.", session_policy=QUICK)
        one.connect().result(WAIT_S)
        ask(one, "Hello?")
        lost = one.wait_for(SessionEvents.SessionLost)
        restored = one.wait_for(SessionEvents.SessionRestored)
        peer.do(peer.connections[0].socket.close(1001, "session limit"))
        assert (lost.result(WAIT_S).payload.code, lost.result().payload.reason) == (1001, "session limit")
        facts = restored.result(WAIT_S).payload
        assert (facts.reason, facts.attempt, facts.previous, facts.session, facts["items"]) == ("lost", 1, "sess_1", "sess_2", 3)  # fmt: skip
        ask(one, "Are you there?")
        again = peer.connections[1]
        assert said(again) == [
            ("user", "Hello?"),
            ("assistant", "Answer 1."),
            ("system", ANCHOR),
            ("user", "Are you there?"),
        ]
        first = again.received[0]["session"]
        assert (first["instructions"], first["output_modalities"], first["type"]) == ("Be kind.", ["audio"], "realtime")
        assert one.connected
        assert (one.statistics().sessions, one.statistics().reconnects) == (2, 1)
        one.close()


def test_what_is_asked_for_while_there_is_no_session_goes_to_the_next_one():
    late, _, gate = held(session(2))
    with Peer([session(1), late]) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        lost = one.wait_for(SessionEvents.SessionLost)
        peer.do(peer.connections[0].socket.close(1011, "oops"))
        lost.result(WAIT_S)
        assert "reconnecting" in repr(one)
        assert not one.connected
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        one.response_create()
        gate.set()
        done.result(WAIT_S)
        one.close()
    assert [e["type"] for e in peer.connections[1].received] == ["session.update", "response.create"]


def test_what_is_asked_for_at_the_very_moment_the_next_session_is_there_goes_to_it():
    def begun(name, payload, _turn):
        if name == RealtimeAPIEvents.SessionCreated.value and payload["session"]["id"] == "sess_2":
            one.response_create()

    with Peer([session(1), session(2)]) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        one.watch_events(begun)
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        peer.do(peer.connections[0].socket.close(1011, "oops"))
        done.result(WAIT_S)
        one.close()
    assert [e["type"] for e in peer.connections[1].received] == ["session.update", "response.create"]


def test_an_answer_that_was_lost_is_asked_for_again():
    async def half(connection):
        await connection.begin(expires_at=FAR)
        await connection.next("response.create")
        await connection.send(*connection.talk.begin("r1", "a1"), connection.talk.sound("r1", "a1"))
        connection.socket.transport.abort()

    with Peer([half, session(2)]) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        one.response_create()
        done.result(WAIT_S)
        assert [e["type"] for e in peer.connections[1].received] == ["session.update", "response.create"]
        one.close()


@pytest.mark.parametrize("bridge", ["loop", pytest.param("process", marks=pytest.mark.slow)])
@pytest.mark.parametrize("code", [1008, 1009])
def test_a_loss_that_would_come_again_is_the_end(code, bridge):
    with Peer([session(1), session(2)]) as peer:
        one = client(peer, session_policy=QUICK, bridge=bridge)
        one.connect().result(WAIT_S)
        closed, never = one.wait_for(WebSocketEvents.Close), one.wait_for(RealtimeAPIEvents.ResponseDone)
        peer.do(peer.connections[0].socket.close(code, "no"))
        assert closed.result(WAIT_S).payload.code == code
        with pytest.raises(errors.ClientClosedError, match=str(code)):
            never.result(WAIT_S)
        with pytest.raises(errors.ClientClosedError, match=str(code)):
            one.wait_for(RealtimeAPIEvents.ResponseDone).result(WAIT_S)
        one.close()
    assert len(peer.handshakes) == 1


def test_after_a_fatal_error_nothing_is_tried_again():
    async def broke(connection):
        await connection.begin(expires_at=FAR)
        await connection.send(connection.talk.error("insufficient_quota", message="You exceeded your quota."))
        await connection.socket.close(1001, "")

    with Peer([broke, session(2)]) as peer:
        one = client(peer, session_policy=QUICK)
        closed = one.wait_for(WebSocketEvents.Close)
        one.connect().result(WAIT_S)
        closed.result(WAIT_S)
        with pytest.raises(errors.ClientClosedError, match=r"code 1001: You exceeded your quota\."):
            one.response_create()
        one.close()
    assert len(peer.handshakes) == 1


def test_where_nobody_answers_any_more_it_ends_after_the_attempts():
    refuse = lambda _, n: (503, "{}") if n > 1 else None  # noqa: E731
    with Peer(session(1), refuse=refuse) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        closed = one.wait_for(WebSocketEvents.Close)
        peer.do(peer.connections[0].socket.close(1012, "restart"))
        assert closed.result(WAIT_S).payload.code == 1012
        assert len(peer.handshakes) == 1 + QUICK.attempts
        with pytest.raises(errors.ClientClosedError, match="code 1012"):
            one.response_create()
        one.close()


def test_sessions_that_are_lost_at_once_are_begun_again_more_and_more_slowly(monkeypatch):
    async def lost(connection):
        await connection.begin(expires_at=FAR)
        connection.socket.transport.abort()

    tried = []

    def wait_s(self, attempt, *, spread):
        tried.append(attempt)
        return 0.0

    monkeypatch.setattr(SessionPolicy, "wait_s", wait_s)
    with Peer([lost, lost, lost, session(4)]) as peer:
        one = client(peer, session_policy=QUICK)
        restored, all_there = [], threading.Event()

        @one.on(SessionEvents.SessionRestored)
        def note(event):
            restored.append(event)
            if len(restored) == 3:
                all_there.set()

        one.connect().result(WAIT_S)
        assert all_there.wait(WAIT_S)
        assert tried == [1, 2, 3]
        one._keeper.began_at -= 60
        again = one.wait_for(SessionEvents.SessionRestored)
        peer.do(peer.connections[3].socket.close(1012, "restart"))
        again.result(WAIT_S)
        assert tried == [1, 2, 3, 1], "a session that went on for a while begins anew"
        one.close()


def test_a_refused_key_is_not_tried_again():
    refuse = lambda _, n: (401, "{}") if n > 1 else None  # noqa: E731
    with Peer(session(1), refuse=refuse) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        closed = one.wait_for(WebSocketEvents.Close)
        peer.do(peer.connections[0].socket.close(1012, "restart"))
        closed.result(WAIT_S)
        assert len(peer.handshakes) == 2
        one.close()


def test_a_key_that_is_not_to_be_had_any_more_is_the_end_and_is_told():
    keys = [KEY]

    with Peer([session(1), session(2)]) as peer:
        one = client(peer, api_key=lambda: keys.pop(), session_policy=QUICK)
        one.connect().result(WAIT_S)
        told, never = one.wait_for(RealtimeAPIEvents.WebSocketError), one.wait_for(RealtimeAPIEvents.ResponseDone)
        peer.do(peer.connections[0].socket.close(1012, "restart"))
        assert told.result(WAIT_S).payload.type == "CredentialsError"
        with pytest.raises(errors.ClientClosedError, match="code 1012"):
            never.result(WAIT_S)
        one.close()
    assert len(peer.handshakes) == 1


def test_a_policy_without_attempts_takes_the_first_loss_for_the_end():
    with Peer([session(1), session(2)]) as peer:
        one = client(peer, session_policy=SessionPolicy(attempts=0))
        one.connect().result(WAIT_S)
        closed = one.wait_for(WebSocketEvents.Close)
        peer.do(peer.connections[0].socket.close(1001, ""))
        closed.result(WAIT_S)
        one.close()
    assert len(peer.handshakes) == 1


def test_rollover_replaces_the_session_with_all_it_knew():
    with Peer([session(1), session(2)]) as peer:
        one = client(peer, session={"output_modalities": ["text"]})
        one.connect().result(WAIT_S)
        ask(one, "Hello?")
        replaced = one.wait_for(SessionEvents.SessionReplaced)
        assert one.rollover().result(WAIT_S) is True
        facts = replaced.result(WAIT_S).payload
        assert (facts.reason, facts.previous, facts.session) == ("asked", "sess_1", "sess_2")
        ask(one, "And now?")
        assert said(peer.connections[0]) == [("user", "Hello?")]
        assert said(peer.connections[1]) == [("user", "Hello?"), ("assistant", "Answer 1."), ("system", ANCHOR), ("user", "And now?")]  # fmt: skip
        assert peer.connections[1].received[0]["session"]["output_modalities"] == ["text"]
        closed = one.wait_for(WebSocketEvents.Close)
        one.close()
        assert closed.result(WAIT_S).payload.code == 1000


def test_a_session_near_its_end_is_replaced_after_the_answer_and_not_before():
    with Peer([session(1, expires_at=time.time() + 0.001), session(2)]) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        replaced = one.wait_for(SessionEvents.SessionReplaced)
        ask(one, "Hello?")
        assert replaced.result(WAIT_S).payload.reason == "expiring"
        ask(one, "And now?")
        assert [e["type"] for e in peer.connections[0].received] == ["conversation.item.create", "response.create"]
        assert one.statistics().sessions == 2
        one.close()


def test_what_is_said_while_the_next_session_is_prepared_is_told_to_it():
    slow, prepared, go_on = held(session(2))
    with Peer([session(1), slow]) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        ask(one, "First.")
        handle = one.rollover()
        assert prepared.wait(WAIT_S)
        ask(one, "Second.")
        go_on.set()
        assert handle.result(WAIT_S) is True
        ask(one, "Third.")
        texts = [text for _, text in said(peer.connections[1]) if text != ANCHOR]
        assert texts == ["First.", "Answer 1.", "Second.", "Answer 2.", "Third."]
        one.close()


def test_settings_that_are_asked_for_while_the_next_session_is_prepared_are_its_own():
    slow, prepared, go_on = held(session(2))
    with Peer([session(1), slow]) as peer:
        one = client(peer, instructions="Be kind.")
        one.connect().result(WAIT_S)
        handle = one.rollover()
        assert prepared.wait(WAIT_S)
        updated = one.wait_for(RealtimeAPIEvents.SessionUpdated)
        one.session_update(session={"instructions": "Be brief."})
        updated.result(WAIT_S)
        go_on.set()
        assert handle.result(WAIT_S) is True
        ask(one, "And now?")
        told = [e["session"]["instructions"] for e in peer.connections[1].received if e["type"] == "session.update"]
        assert told == ["Be kind.", "Be brief."]
        one.close()


@pytest.mark.parametrize("how", ["lost", "replaced"])
def test_what_a_session_did_not_confirm_is_told_to_the_next_one(how):
    taken = threading.Event()

    async def deaf(connection):
        await connection.begin(id="sess_1", expires_at=FAR)
        await connection.next("conversation.item.create")
        taken.set()
        if how == "lost":
            await connection.socket.close(1011, "oops")
        await connection.until_closed()

    with Peer([deaf, session(2)]) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        restored = one.wait_for(SessionEvents.SessionRestored)
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Are you there?"}]}
        one.conversation_item_create(item=item)
        assert taken.wait(WAIT_S)
        if how == "lost":
            restored.result(WAIT_S)
        else:
            assert one.rollover().result(WAIT_S) is True
        ask(one, "Hello?")
        assert said(peer.connections[1]) == [("user", "Are you there?"), ("user", "Hello?")]
        one.close()


def test_a_session_that_ends_while_it_is_prepared_takes_nobodys_place():
    async def brief(connection):
        await connection.begin(id="sess_2", expires_at=FAR)
        await connection.next()
        await connection.socket.close(1011, "oops")

    with Peer([session(1), brief]) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        ask(one, "Hello?")
        with pytest.raises(errors.APIConnectionError, match=r"before its session took over \(code 1011: oops"):
            one.rollover().result(WAIT_S)
        ask(one, "Are you there?")
        assert said(peer.connections[0]) == [("user", "Hello?"), ("user", "Are you there?")]
        one.close()


def test_a_client_that_is_closed_begins_no_session_any_more():
    prepared = threading.Event()

    async def slow(connection):
        prepared.set()
        await connection.socket.wait_closed()

    with Peer([session(1), slow]) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        handle = one.rollover()
        assert prepared.wait(WAIT_S)
        one.close()
        assert handle.result(WAIT_S) is False
        peer.do(peer.connections[1].socket.wait_closed())


def test_a_session_that_was_left_is_closed_though_its_server_does_not_answer_and_the_client_is_closed():
    async def mute(connection):
        await connection.begin(id="sess_1", expires_at=FAR)
        connection.socket.transport.pause_reading()
        await asyncio.to_thread(over.wait, WAIT_S)

    over = threading.Event()
    with Peer([mute, session(2)]) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        left = one._keeper.link.socket.connection
        assert one.rollover().result(WAIT_S) is True
        one.close()
        loop.submit(left.wait_closed()).result(WAIT_S)
        over.set()


def test_a_tool_whose_session_is_lost_while_it_runs_is_heard_in_the_next_one():
    running, gate = threading.Event(), threading.Event()

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        running.set()
        gate.wait(WAIT_S)
        return a + b

    async def calls(connection):
        await connection.begin(id="sess_1", expires_at=FAR)
        await connection.next("response.create")
        await connection.send(*connection.talk.call_add())
        await connection.until_closed()

    with Peer([calls, session(2)]) as peer:
        one = client(peer, session_policy=QUICK, tools=[add], run_tools=True)
        one.connect().result(WAIT_S)
        one.response_create()
        assert running.wait(WAIT_S)
        restored, done = one.wait_for(SessionEvents.SessionRestored), one.wait_for(RealtimeAPIEvents.ResponseDone)
        peer.do(peer.connections[0].socket.close(1012, "restart"))
        restored.result(WAIT_S)
        gate.set()
        done.result(WAIT_S)
        items = [e["item"] for e in peer.connections[1].received if e["type"] == "conversation.item.create"]
        assert items == [
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 2, "b": 3}'},
            {"type": "function_call_output", "call_id": "c1", "output": "5"},
        ]
        one.close()


def test_a_session_is_not_replaced_while_somebody_speaks():
    gate = threading.Event()

    async def spoken(connection):
        await connection.begin(id="sess_1", expires_at=FAR)
        await connection.next("response.create")
        await connection.send(connection.talk.user("u1")[0])
        await asyncio.to_thread(gate.wait, WAIT_S)
        rest = connection.talk.user("u1")[1:]
        await connection.send(*rest, *connection.talk.spoken("r1", "a1", "Yes."))
        await connection.until_closed()

    with Peer([spoken, session(2)]) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        speaking = one.wait_for(RealtimeAPIEvents.InputAudioBufferSpeechStarted)
        one.response_create()
        speaking.result(WAIT_S)
        handle = one.rollover()
        assert not handle.done()
        assert len(peer.handshakes) == 1
        gate.set()
        # Its request is answered by the response that follows the speech.
        assert handle.result(WAIT_S) is True
        one.close()


HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "5"}


@pytest.mark.parametrize("items", [[HELLO], [HELLO, CALL, RESULT]], ids=["said", "a tool's result"])
def test_an_answer_that_nobody_asks_for_is_not_waited_for_without_end(monkeypatch, items):
    monkeypatch.setattr(watchdog, "OWED_S", 0.05)
    with Peer([session(1), session(2)]) as peer, client(peer) as one:
        for item in items:
            added = one.wait_for(RealtimeAPIEvents.ConversationItemDone)
            one.conversation_item_create(item=item)
            added.result(WAIT_S)
        assert one.rollover().result(WAIT_S) is True
        assert said(peer.connections[1])[0] == ("user", "Hello?")


@pytest.mark.parametrize("given", [(), ("c2",), ("c1",)])
def test_a_call_of_the_models_waits_for_all_its_results(monkeypatch, given):
    monkeypatch.setattr(watchdog, "OWED_S", -1.0)
    called = [Item(f"f_{call}", type="function_call", call_id=call) for call in ("c1", "c2")]
    results = [Item(f"o_{call}", type="function_call_output", call_id=call) for call in ("c1", "c2")]
    some = [result for result in results if result.call_id in given]
    assert not watchdog.Patience().is_over([*called, *some], is_quiet=True)
    assert watchdog.Patience().is_over([*called, *results], is_quiet=True)


def test_a_new_session_that_cannot_be_had_leaves_the_old_one():
    refuse = lambda _, n: (503, "{}") if n == 2 else None  # noqa: E731
    with Peer([session(1), session(2)], refuse=refuse) as peer:
        one = client(peer)
        one.connect().result(WAIT_S)
        with pytest.raises(errors.InternalServerError):
            one.rollover().result(WAIT_S)
        ask(one, "Still there?")
        assert one.session["id"] == "sess_1"
        one.close()


def test_a_long_conversation_without_a_memory_is_not_replaced():
    with Peer([session(1), session(2)]) as peer:
        one = client(peer, session_policy=SessionPolicy(most_tokens=50))
        one.connect().result(WAIT_S)
        ask(one, "Hello?")
        ask(one, "Again?")
        one.close()
    assert len(peer.handshakes) == 1


def test_closing_while_it_reconnects_ends_at_once():
    reached = threading.Event()

    async def never(connection):
        reached.set()
        await connection.until_closed()

    with Peer([session(1), never]) as peer:
        one = client(peer, session_policy=QUICK)
        one.connect().result(WAIT_S)
        peer.do(peer.connections[0].socket.close(1001, ""))
        assert reached.wait(WAIT_S)
        closed = one.wait_for(WebSocketEvents.Close)
        one.close()
        assert closed.result(WAIT_S).payload.code == 1000


def test_an_answer_that_never_begins_is_given_up_and_the_next_one_asked_for(monkeypatch):
    monkeypatch.setattr(watchdog, "REQUEST_S", 0.05)
    asked = []

    async def behave(connection):
        await connection.begin(id="sess_1", expires_at=FAR)
        while True:
            asked.append(await connection.next("response.create"))
            if len(asked) > 1:
                await connection.send(*connection.talk.spoken("r1", "a1", "Here I am."))

    with Peer(behave) as peer, client(peer) as one:
        told = one.wait_for(RealtimeAPIEvents.WebSocketError)
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        for name in ("first", "second"):
            one.response_create(event_id=name)
        assert "no answer to response.create within" in told.result(WAIT_S).payload["message"]
        assert done.result(WAIT_S).payload["response"]["id"] == "r1"
        assert one.connected
    assert [event["event_id"] for event in asked] == ["first", "second"]


def test_so_is_one_that_was_asked_for_before_the_session_was_there(monkeypatch):
    monkeypatch.setattr(watchdog, "REQUEST_S", 0.05)
    with Peer(greet) as peer:
        one = client(peer)
        told = one.wait_for(RealtimeAPIEvents.WebSocketError)
        one.response_create()
        one.connect().result(WAIT_S)
        assert "no answer to response.create within" in told.result(WAIT_S).payload["message"]
        one.close()
