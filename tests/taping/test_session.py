"""A realtime session is on the tape, sound included, and is played to a client that says the same."""

from __future__ import annotations

import contextlib
import threading
import wave

import pytest

import voxnb
from voxnb import testing
from voxnb.errors import TapeError, TapeMissError
from voxnb.media.file import AudioFile
from voxnb.voxengine import OpenAI

Events = OpenAI.RealtimeAPIEvents
NOWHERE = "http://127.0.0.1:9/v1"
WAIT_S = 10.0


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("VOXNB_TAPE", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "call.tape"


def message(text):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@contextlib.contextmanager
def client(base_url, **more):
    with voxnb.RealtimeAPIClient(base_url=base_url, **more) as one:
        yield one


def talk(base_url, *texts, **more):
    """Ask in writing; what was said and answered, as the store has it."""
    with voxnb.ContextStore(":memory:") as store:
        with client(base_url, store_context=True, store=store, **more) as one:
            for text in texts:
                done = one.wait_for(Events.ResponseDone)
                one.conversation_item_create(item=message(text))
                one.response_create()
                done.result(WAIT_S)
        turns = store.turns()
        return list(turns["user_text"]), list(turns["reply_text"])


def test_a_session_is_played_without_a_server(path):
    with testing.server(["Good morning.", "Good night."], realtime=True) as server, voxnb.tape(path) as tape:
        then = talk(server.base_url, "Hello", "Bye", instructions="Be kind.")
    assert tape.recorded == 1
    with voxnb.tape(path, mode="replay") as tape:
        assert talk(NOWHERE, "Hello", "Bye", instructions="Be kind.") == then
    assert (tape.replayed, tape.unused) == (1, ())
    assert then[1] == ["Good morning.", "Good night."]


def test_a_session_needs_no_key_to_be_played(path):
    def answers(**more):
        with voxnb.RealtimeAPIClient(**more) as one:
            done = one.wait_for(Events.ResponseDone)
            one.response_create()
            return done.result(WAIT_S).payload["response"]["output"][0]["content"][0]["transcript"]

    with testing.server(["Good morning."], realtime=True) as server, voxnb.tape(path):
        answers(base_url=server.base_url)
    with voxnb.tape(path, mode="replay"):
        assert answers() == "Good morning."


def test_what_the_session_does_not_have_is_an_error_event_that_shows_the_difference(path, capfd):
    with testing.server(["Good morning."], realtime=True) as server, voxnb.tape(path):
        talk(server.base_url, "Hello")
    with voxnb.tape(path, mode="replay"), client(NOWHERE) as one:
        error = one.wait_for(Events.Error)
        one.conversation_item_create(item=message("Hallo"))
        told = error.result(WAIT_S).payload["error"]
    assert told["code"] == "not_on_the_tape"
    assert "item.content.0.text: 'Hello' on the tape, 'Hallo' asked" in told["message"]
    assert "'Hallo' asked" in capfd.readouterr().err


def test_one_session_too_many_is_an_error_of_connect(path):
    with testing.server(["Good morning."], realtime=True) as server, voxnb.tape(path):
        talk(server.base_url, "Hello")
    with voxnb.tape(path, mode="replay"):
        talk(NOWHERE, "Hello")
        with pytest.raises(TapeMissError, match="asked once more"):
            talk(NOWHERE, "Hello")


@pytest.mark.parametrize("speaks", [True, False], ids=["as then", "nobody speaks this time"])
def test_speech_is_answered_when_it_has_been_said_again(path, tmp_path, speaks):
    spoken = tmp_path / "hello.wav"
    tone = (b"\x00\x20" * 12 + b"\x00\xe0" * 12) * 1200  # 1.2 s at 24 kHz
    with wave.open(str(spoken), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(tone + bytes(48_000))

    def call(base_url, *, speaks=True):
        with voxnb.ContextStore(":memory:") as store:
            with client(base_url, store_context=True, store=store) as one:
                done = one.wait_for(Events.ResponseDone)
                file = AudioFile(spoken)
                if speaks:
                    file.send_media_to(one)
                done.result(WAIT_S)
                file.close()
            turns = store.turns()
            return list(turns["user_text"]), list(turns["reply_text"])

    with testing.server(["I heard you."], realtime=testing.Realtime(hears="Hello.")) as server, voxnb.tape(path):
        then = call(server.base_url)
    assert ">> sound " in path.read_text()
    with voxnb.tape(path, mode="replay"):
        assert call(NOWHERE, speaks=speaks) == then


def test_commands_may_come_in_another_order_than_they_did(path):
    def call(base_url, items):
        with client(base_url) as one:
            added = threading.Semaphore(0)
            one.add_event_listener(Events.ConversationItemAdded, lambda _: added.release())
            for text in items:
                one.conversation_item_create(item=message(text))
            assert all(added.acquire(timeout=WAIT_S) for _ in items)

    with testing.server(["x"], realtime=True) as server, voxnb.tape(path):
        call(server.base_url, ["one", "two"])
    with voxnb.tape(path, mode="replay"):
        call(NOWHERE, ["two", "one"])


def test_a_session_that_still_goes_on_is_kept_when_the_tape_stops(path):
    with testing.server(["Good morning."], realtime=True) as server:
        tape = voxnb.tape(path)
        with client(server.base_url) as one:
            done = one.wait_for(Events.ResponseDone)
            one.response_create()
            done.result(WAIT_S)
            tape.stop()
            assert "Good morning." in path.read_text()
    assert tape.recorded == 1


def test_the_sound_is_the_same_to_the_byte(path):
    sound = bytes(range(256)) * 20

    def heard(base_url):
        got = []
        with voxnb.RealtimeAPIClient(base_url=base_url, model="r") as one:
            one.watch_sound(lambda _side, _name, data, _form: got.append(data))
            done = one.wait_for(Events.ResponseDone)
            one.response_create()
            done.result(WAIT_S)
        return b"".join(got)

    script = [{"transcript": "Hm.", "audio": sound}]
    with testing.server(script, realtime=True) as server, voxnb.tape(path):
        then = heard(server.base_url)
    with voxnb.tape(path, mode="replay"):
        assert heard(NOWHERE) == then == sound


def test_a_private_session_is_not_recorded(path):
    with testing.server(["x"], realtime=True) as server, voxnb.tape(path), pytest.raises(TapeError, match="private"):
        talk(server.base_url, privacy=True)
    assert not path.exists()
