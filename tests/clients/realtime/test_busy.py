"""Calls in the bridge process go on while a cell holds the interpreter: sound both ways, and who speaks still interrupts."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import subprocess
import sys
import textwrap
import time

import pytest

from tests.clients.realtime.peer import WAIT_S, Peer
from tests.media.phone import Phone
from tests.media.test_crossing import DEVICE
from tests.wire.realtime.talk import Talk
from voxnb import testing

HOLD = """
import ctypes, time

def hold(how, seconds):
    if how == "loop":  # a cell in pure Python
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    else:  # an extension that does not let go of the interpreter
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
"""

KERNEL = """
    import sys
    import voxnb
    from voxnb.media import MediaServer, send_media_between

    exec(sys.argv[3])
    with voxnb.RealtimeAPIClient(base_url=sys.argv[1], api_key="sk-test-0123456789", bridge="process") as client:
        with MediaServer(bridge="process") as server:
            print(server.url, flush=True)
            call = next(iter(server))
            send_media_between(call, client)
            call.statistics()  # answered after what was asked before
            print("connected", flush=True)
            for line in sys.stdin:
                hold(sys.argv[2], float(line))
                print("free", flush=True)
                break
            call.wait_closed(30)
    print(client.statistics().audio_dropped_ms, flush=True)
"""

BUSY_S = 6
"""How long the cell holds the interpreter: three times as long as the test needs on a machine that is free."""

LONGEST_GAP_MS = 1_500
"""A sound that waited for the cell would have gaps of seconds."""

LOUD = bytes((n * 37) % 128 for n in range(160))


class Model:
    """Says back what it hears while it is spoken to; takes a word from the test for an interruption."""

    def __init__(self):
        self.heard_at, self.cuts = [], []

    async def __call__(self, connection):
        self.connection, self.talk = connection, Talk()
        g711 = {"type": "audio/pcmu"}
        await connection.begin(audio={"input": {"format": g711}, "output": {"format": g711}})
        while True:
            event = await connection.next()
            if event["type"] == "session.update":
                await connection.send(self.talk.event("session.updated", session={"id": "sess_1", **event["session"]}))
            elif event["type"] == "input_audio_buffer.append":
                self.heard_at.append(time.monotonic())
            elif event["type"].startswith("conversation.item"):
                self.cuts.append((time.monotonic(), event))

    async def speak(self, seconds):
        """An answer that comes all at once."""
        await self.connection.send(*self.talk.begin("r1", "a1"))
        place = {"response_id": "r1", "item_id": "a1", "output_index": 0, "content_index": 0}
        delta = base64.b64encode(LOUD * 10).decode()
        for _ in range(int(seconds * 5)):
            await self.connection.send(self.talk.event("response.output_audio.delta", **place, delta=delta))

    async def interrupt(self):
        event = self.talk.event("input_audio_buffer.speech_started", audio_start_ms=0, item_id="u1")
        await self.connection.send(event)


@contextlib.contextmanager
def kernel(how):
    """A kernel with a call in the bridge process; the call, and a way to make the kernel busy."""
    model = Model()
    with Peer(model) as peer:
        program = [sys.executable, "-c", textwrap.dedent(KERNEL), peer.base_url, how, HOLD]
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            phone = Phone(process.stdout.readline().strip())
            phone.start()
            assert process.stdout.readline() == "connected\n"
            yield peer, model, phone, process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def until(found, *, at_least, within_s=BUSY_S):
    """What is found, as soon as there is enough of it; at the latest when the cell must have ended."""
    end = time.monotonic() + within_s
    while len(found()) < at_least and time.monotonic() < end:
        time.sleep(0.005)
    assert len(found()) >= at_least
    return found()


def gaps_ms(times):
    return [(b - a) * 1000 for a, b in zip(times, times[1:])]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["loop", "extension"])
def test_a_cell_that_holds_the_interpreter_does_not_hold_up_a_call(how):
    with kernel(how) as (peer, model, phone, process):
        peer.do(model.speak(12))
        process.stdin.write(f"{BUSY_S}\n")
        process.stdin.flush()
        began = time.monotonic()
        for n in range(100):  # two seconds of speech, in real time
            phone.say(LOUD, chunk=n + 1)
            time.sleep(max(0.0, began + (n + 1) * 0.02 - time.monotonic()))
        heard = until(lambda: [at for at in model.heard_at if at >= began], at_least=95)
        assert max(gaps_ms(heard)) < LONGEST_GAP_MS, "what the phone says reaches the model"
        during = until(
            lambda: [at for at, m in zip(phone.came_at, phone.messages) if m["event"] == "media" and at >= began],
            at_least=90,
        )
        assert max(gaps_ms(during)) < LONGEST_GAP_MS, "what the model says reaches the phone"
        peer.do(model.interrupt())
        until(lambda: model.cuts, at_least=1)
        ((_, cut),) = model.cuts
        assert cut["type"] == "conversation.item.truncate"
        phone.until(lambda messages: any(m["event"] == "clear" for m in messages))
        assert not select.select([process.stdout], [], [], 0)[0], "the cell still runs"
        assert process.stdout.readline() == "free\n"
        phone.close()
        assert float(process.stdout.readline()) == 0
        process.wait(WAIT_S)


EXPIRING = """
    import sys
    import voxnb
    from tests.clients.realtime.test_going_on import ask
    from voxnb import SessionEvents

    exec(sys.argv[2])
    with voxnb.ContextStore(":memory:") as store:
        with voxnb.RealtimeAPIClient(
            base_url=sys.argv[1], api_key="sk-test-0123456789", bridge="process", store_context=True, store=store
        ) as one:
            replaced = one.wait_for(SessionEvents.SessionReplaced)
            ask(one, "One?")
            print("asked", flush=True)
            hold("extension", float(sys.stdin.readline()))
            print("free", flush=True)
            print(replaced.result(30).payload.reason, flush=True)
            ask(one, "Two?")
        print([tuple(row) for row in store.turns()[["user_text", "reply_text"]].values], store.verify(), flush=True)
"""

LIFE_S = 20
"""Of a session; it is replaced in the last tenth."""


@pytest.mark.slow
def test_a_session_that_ends_while_a_cell_holds_the_interpreter_is_replaced():
    settings = testing.Realtime(session_s=LIFE_S)
    with testing.server(lambda view: f"To {view.text}", realtime=settings) as server:
        program = [sys.executable, "-c", textwrap.dedent(EXPIRING), server.base_url, HOLD]
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "asked\n"
            process.stdin.write(f"{LIFE_S + 2}\n")
            process.stdin.flush()
            until(lambda: server.sessions, at_least=2, within_s=LIFE_S)
            assert not select.select([process.stdout], [], [], 0)[0], "the cell still runs"
            out, _ = process.communicate(timeout=WAIT_S + LIFE_S)
        told = [e["item"] for e in server.sessions[1].received if e["type"] == "conversation.item.create"]
    said = "[('One?', 'To One?'), ('Two?', 'To Two?')]"
    assert out.splitlines()[:3] == [
        "free",
        "expiring",
        f"{said} all holds: 1 conversation, 2 turns, 0 summaries, 2 requests rebuilt",
    ]
    assert [item["content"][0]["text"] for item in told[:2]] == ["One?", "To One?"]


ON_DEVICE = """
    import sys
    import voxnb
    from voxnb.media import Microphone, Speaker

    exec(sys.argv[2])
    with voxnb.RealtimeAPIClient(base_url=sys.argv[1], api_key="sk-test-0123456789", bridge="process") as client:
        speaker, microphone = Speaker(rate_hz=8000), Microphone(rate_hz=8000)
        client.send_media_to(speaker)
        microphone.send_media_to(client)
        print("connected", flush=True)
        hold("extension", float(sys.stdin.readline()))
        print("free", flush=True)
        speaker.close()
        microphone.close()
"""


@pytest.mark.slow
def test_a_cell_that_holds_the_interpreter_does_not_hold_up_loudspeaker_and_microphone(tmp_path):
    (tmp_path / "sounddevice.py").write_text(DEVICE)
    played = tmp_path / "played"
    played.touch()
    model = Model()
    with Peer(model) as peer:
        program = [sys.executable, "-c", textwrap.dedent(ON_DEVICE), peer.base_url, HOLD]
        places = {"PYTHONPATH": str(tmp_path), "OPENED": str(tmp_path / "opened"), "PLAYED": str(played)}
        with subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **places}
        ) as process:
            assert process.stdout.readline() == "connected\n"
            until(lambda: model.heard_at, at_least=1)
            peer.do(model.speak(12))
            process.stdin.write(f"{BUSY_S}\n")
            process.stdin.flush()
            began = time.monotonic()
            until(lambda: [at for at in model.heard_at if at >= began], at_least=95)
            until(lambda: played.read_bytes().replace(b"\0", b""), at_least=2 * 8_000)
            assert not select.select([process.stdout], [], [], 0)[0], "the cell still runs"
            assert process.communicate(timeout=WAIT_S)[0] == "free\n"
