"""A session in the bridge process: the same client, which a busy cell, a killed process or a killed kernel cannot spoil."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import voxnb
from tests.clients.realtime.peer import KEY, WAIT_S, Peer, greet
from tests.clients.realtime.test_memory import (  # noqa: F401 - a fixture
    assert_cut_as_heard,
    call,
    heard,
    long_answer,
    speaking,
    spoken,
    store,
    turns,
    user,
)
from tests.clients.realtime.test_voice import Ear
from voxnb import errors
from voxnb.events import RealtimeAPIEvents, WebSocketEvents
from voxnb.media.clock import LOOP
from voxnb.runtime import bridge

pytestmark = pytest.mark.slow


def distant(peer, **given):
    return voxnb.RealtimeAPIClient(base_url=peer.base_url, api_key=KEY, max_retries=0, bridge="process", **given)


def is_running(pid):
    """Whether a process runs; one that has ended and nobody has asked for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(holds):
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_session_is_in_a_process_of_its_own_that_ends_with_its_last_client():
    with Peer(greet) as peer:
        one, other = distant(peer), distant(peer)
        for client in (one, other):
            client.connect().result(WAIT_S)
        pid = bridge._shared.pid
        assert pid != os.getpid()
        assert one.connected
        assert one.session["id"]
        one.close()
        assert is_running(pid), "the other one lives there"
        other.response_create()
        eventually(lambda: [e["type"] for e in peer.connections[1].received] == ["response.create"])
        other.close()
        assert not is_running(pid)
        assert bridge._shared is None


def test_closing_takes_no_longer_where_the_peer_never_answers():
    with Peer(greet) as peer:
        one = distant(peer)
        one.connect().result(WAIT_S)
        peer.connections[0].socket.transport.pause_reading()
        began = time.monotonic()
        one.close()
        assert time.monotonic() - began < 0.5
        assert bridge._shared is None


def test_a_client_that_never_connected_leaves_no_process():
    with Peer(greet) as peer:
        one = distant(peer)
        pid = bridge._shared.pid
        one.close()
        assert not is_running(pid)


def test_a_key_that_is_refused_is_the_same_error_at_connect():
    with Peer(greet, refuse=lambda request, n: (401, '{"error": {"message": "Incorrect API key"}}')) as peer:
        one = distant(peer)
        told = one.wait_for(RealtimeAPIEvents.WebSocketError)
        with pytest.raises(errors.AuthenticationError, match="Incorrect API key") as caught:
            one.connect().result(WAIT_S)
        assert caught.value.status_code == 401
        assert caught.value.__cause__ is not None
        assert KEY not in repr(pickle.dumps(caught.value))
        assert told.result(WAIT_S).payload["type"] == "AuthenticationError"
        one.close()


def test_a_key_may_be_what_a_function_here_returns():
    with Peer(greet) as peer:
        one = voxnb.RealtimeAPIClient(base_url=peer.base_url, api_key=lambda: KEY, bridge="process")
        one.connect().result(WAIT_S)
        assert peer.handshakes[0].headers["Authorization"] == f"Bearer {KEY}"
        one.close()


def test_another_word_for_where_it_lives_is_refused():
    with pytest.raises(errors.ParameterError, match="'loop' or 'process'"):
        voxnb.RealtimeAPIClient(api_key=KEY, bridge="thread")


@pytest.mark.parametrize(
    "wrong",
    [{"session": {"a": object()}}, {"tools": [5]}, {"store_context": True, "store": "\0"}],
    ids=lambda w: "".join(w),
)
def test_a_client_that_cannot_be_made_begins_no_process(wrong):
    with pytest.raises(errors.VoxnbError):
        voxnb.RealtimeAPIClient(**{"api_key": KEY, "bridge": "process", **wrong})
    assert bridge._shared is None


def test_a_process_that_is_killed_is_a_typed_error_and_what_was_said_stays(store):  # noqa: F811 - the fixture
    scenes = (user("u1"), heard("u1", "Count."), spoken(1, "one two three four five six seven eight", deltas=15))
    with Peer(speaking(*scenes)) as peer:
        one, ear = call(peer, store, bridge="process"), Ear(LOOP)
        error, closed = one.wait_for(RealtimeAPIEvents.WebSocketError), one.wait_for(WebSocketEvents.Close)
        done = one.wait_for(RealtimeAPIEvents.ResponseDone)
        one.send_media_to(ear)
        one.connect().result(WAIT_S)
        one.response_create()
        done.result(WAIT_S)
        eventually(lambda: ear.heard_ms >= 1500)
        os.kill(bridge._shared.pid, signal.SIGKILL)
        never = one.wait_for(RealtimeAPIEvents.ResponseDone)
        told = error.result(WAIT_S).payload
        assert (told["type"], told["exit_code"]) == ("BridgeError", -9)
        with pytest.raises(errors.BridgeError, match="signal 9"):
            never.result(WAIT_S)
        assert (closed.result(WAIT_S).payload["code"], closed.result().payload["wasClean"]) == (1006, False)
        with pytest.raises(errors.BridgeError, match="signal 9") as caught:
            one.response_create()
        assert caught.value.exit_code == -9
        assert not one.connected
        numbers = one.statistics()
        assert (numbers.sessions, len(numbers.streams), len(one.waterfall())) == (1, 1, 1)
        assert numbers.bytes_received > 0
        one.close()
        (row,) = store.media().to_dict("records")
        assert (row["direction"], row["bytes"]) == ("out", row["duration_ms"] * 48)
        assert row["duration_ms"] >= 1000
        ((_, state, said, answered, reason),) = turns(store)
        assert (state, said, reason) == ("partial", "Count.", "interrupted")
        assert answered.startswith("one two")
        assert "eight" not in answered
        assert store.verify()
    with Peer(greet) as peer:
        again = call(peer, store, bridge="process")
        again.connect().result(WAIT_S)
        eventually(lambda: sum(e["type"] == "conversation.item.create" for e in peer.connections[0].received) >= 2)
        again.close()


def test_a_process_that_is_killed_in_an_answer_leaves_what_was_heard_of_it(store):  # noqa: F811 - the fixture
    with Peer(speaking(user("u1"), heard("u1", "Count."), long_answer)) as peer:
        one, ear = call(peer, store, bridge="process"), Ear(LOOP)
        closed = one.wait_for(WebSocketEvents.Close)
        one.send_media_to(ear)
        one.connect().result(WAIT_S)
        one.response_create()
        eventually(lambda: ear.heard_ms >= 1500)
        os.kill(bridge._shared.pid, signal.SIGKILL)
        closed.result(WAIT_S)
        one.close()
    assert_cut_as_heard(store)


def test_a_process_that_is_killed_while_it_connects_fails_the_connect():
    gate = threading.Event()

    async def never(connection):
        gate.set()
        await connection.until_closed()

    with Peer(never) as peer:
        one = distant(peer)
        connecting = one.connect()
        assert gate.wait(WAIT_S)
        os.kill(bridge._shared.pid, signal.SIGKILL)
        with pytest.raises(errors.BridgeError):
            connecting.result(WAIT_S)
        one.close()
        assert bridge._shared is None


KERNEL = """
    import sys, time, voxnb
    from voxnb.runtime import bridge

    one = voxnb.RealtimeAPIClient(base_url=sys.argv[1], api_key="sk-test-0123456789", bridge="process")
    one.connect().result(30)
    print(bridge._shared.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_kernel(how):
    with Peer(greet) as peer:
        kernel = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KERNEL), peer.base_url], stdout=subprocess.PIPE, text=True
        )
        try:
            pid = int(kernel.stdout.readline())
            assert is_running(pid)
            kernel.send_signal(how)
            kernel.wait(WAIT_S)
            eventually(lambda: not is_running(pid))
        finally:
            kernel.kill()
            kernel.wait()
            kernel.stdout.close()
