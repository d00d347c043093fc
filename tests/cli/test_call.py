"""`voxnb call`: a file in the caller's place, the microphone, what is printed, and every way in which it cannot be done."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import wave

import pytest

from tests.cli.conftest import command, environment
from voxnb import ContextStore, testing
from voxnb.local.realtime import tone

pytestmark = pytest.mark.slow

HEARD = testing.Realtime(hears=["Tell me of iris.", "Stop."])
LONG = "This answer takes a long time to be spoken to its very end, " * 8

DEVICE = '''
"""A sound device in real time: what is said comes from a file, what is heard goes to one."""
import os, threading, time, wave

class PortAudioError(Exception):
    pass

class _Stream:
    latency = 0.0

    def __init__(self, *, callback, samplerate, blocksize, **options):
        self.callback, self.rate_hz, self.frames = callback, samplerate, blocksize
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()

    def run(self):
        due = time.monotonic()
        while not self.over.wait(max(0.0, due - time.monotonic())):
            due += self.frames / self.rate_hz
            self.turn()

    def close(self):
        self.over.set()
        self.thread.join()

class RawInputStream(_Stream):
    def start(self):
        self.file = wave.open(os.environ["SPOKEN"])
        super().start()

    def turn(self):
        data = self.file.readframes(self.frames)
        self.callback(data.ljust(self.frames * 2, b"\\0"), self.frames, None, None)

    def close(self):
        super().close()
        self.file.close()

class RawOutputStream(_Stream):
    def turn(self):
        out = bytearray(self.frames * 2)
        self.callback(out, self.frames, None, None)
        with open(os.environ["PLAYED"], "ab") as file:
            file.write(out)
'''


def save(path, *pieces):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(b"".join(pieces))
    return path


@pytest.fixture
def spoken(tmp_path):
    return save(tmp_path / "spoken.wav", bytes(9_600), tone("Tell me of iris"))


@pytest.fixture
def calling(tmp_path, piped):
    """Call a server with a file."""

    def run(server, *arguments, **more):
        return piped(
            "call", *arguments, "--base-url", server.base_url, "--store", tmp_path / "s.db",
            **{"OPENAI_API_KEY": "", "OPENAI_BASE_URL": server.base_url, **more},
        )  # fmt: skip

    return run


def channels(path):
    with wave.open(str(path)) as file:
        data = file.readframes(file.getnframes())
    return [any(b"".join(data[i : i + 2] for i in range(at, len(data), 4))) for at in (0, 2)]


def test_a_file_is_answered_printed_recorded_and_kept(calling, spoken, tmp_path):
    with testing.server("Iris has 150 rows.", realtime=HEARD) as server:
        done = calling(server, spoken, "--record", tmp_path / "out" / "call.wav", "--instructions", "Be brief.")
        (session,) = server.sessions
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("call · gpt-realtime at 127.0.0.1:")
    assert lines[1:3] == ["you    Tell me of iris.", "model  Iris has 150 rows."]
    assert lines[3].startswith("milliseconds from the end of your speech")
    assert lines[4].split()[:3] == ["noticed", "committed", "begun"]
    times = [int(text.replace(",", "")) for text in lines[5].split()]
    assert times == sorted(times)
    assert len(times) == 6
    assert lines[6:] == [f"recorded  {tmp_path / 'out' / 'call.wav'}"]
    assert channels(tmp_path / "out" / "call.wav") == [True, True]
    assert session.problems == []
    with ContextStore(tmp_path / "s.db") as store:
        (turn,) = store.turns().to_dict("records")
        assert (turn["user_text"], turn["reply_text"], turn["state"]) == ("Tell me of iris.", "Iris has 150 rows.", "complete")  # fmt: skip
        assert store.verify()


def test_a_call_in_the_bridge_process_is_the_same(calling, spoken, tmp_path):
    with testing.server("Iris has 150 rows.", realtime=HEARD) as server:
        done = calling(server, spoken, "--bridge", "process", "--record", tmp_path / "call.wav")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:3] == ["you    Tell me of iris.", "model  Iris has 150 rows."]
    assert channels(tmp_path / "call.wav") == [True, True]


def test_for_machines_every_event_is_a_document(calling, spoken):
    with testing.server("Iris has 150 rows.", realtime=HEARD) as server:
        done = calling(server, spoken, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["event"] for one in told] == ["began", "user", "model", "ended"]
    assert told[2]["text"] == "Iris has 150 rows."
    assert told[3]["reason"] == "the file was answered"
    (fall,) = told[3]["latencies"]
    assert fall["response_id"] == told[2]["response_id"]
    assert 0 < fall["stopped_ms"] <= fall["first_heard_ms"]


def test_who_speaks_into_an_answer_is_seen_to_interrupt_it(calling, tmp_path):
    file = save(tmp_path / "two.wav", tone("Tell me of iris"), bytes(48 * 3_000), tone("Stop now please"))
    with testing.server([LONG, "I stop."], realtime=HEARD) as server:
        done = calling(server, file)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\(interrupted; heard \d\.\d s of \d+\.\d s\)", done.stdout)
    assert "you    Stop.\nmodel  I stop.\n" in done.stdout


def test_a_conversation_goes_on_in_the_next_call(calling, spoken):
    with testing.server(["One.", "Two."], realtime=HEARD) as server:
        assert calling(server, spoken, "--conversation", "lab").returncode == 0
        refused = calling(server, spoken, "--conversation", "lab", "--new")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "the conversation 'lab' exists" in refused.stderr
        assert calling(server, spoken, "--conversation", "lab").returncode == 0
        told = [
            e["item"]["content"][0] for e in server.sessions[-1].received if e["type"] == "conversation.item.create"
        ]
    assert "One." in [content.get("text") for content in told]


@pytest.mark.parametrize(
    ("make", "status", "told"),
    [
        (lambda at: at / "none.wav", 1, "there is no file"),
        (lambda at: (at / "text.wav").write_text("no sound") and at / "text.wav", 1, "is no audio that can be read"),
        (lambda at: save(at / "empty.wav"), 1, "holds no sound"),
        (lambda at: at, 1, "is a folder"),
    ],
)
def test_what_is_no_audio_is_told_before_anybody_is_called(make, status, told, calling, tmp_path):
    with testing.server("Hi.", realtime=True) as server:
        done = calling(server, make(tmp_path))
        assert server.requests == []
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recording_that_cannot_be_is_told_first(calling, spoken, tmp_path):
    (tmp_path / "file").write_text("")
    before = spoken.read_bytes()
    with testing.server("Hi.", realtime=True) as server:
        over = calling(server, spoken, "--record", spoken)
        nowhere = calling(server, spoken, "--record", tmp_path / "file" / "x.wav")
        assert server.requests == []
    assert (over.returncode, nowhere.returncode) == (2, 1)
    assert "is the file that speaks" in over.stderr
    assert "cannot be written" in nowhere.stderr
    assert spoken.read_bytes() == before


def test_a_refused_key_is_told_and_never_quoted(calling, spoken):
    with testing.server("Hi.", realtime=True, require_key=True) as server:
        done = calling(server, spoken, OPENAI_API_KEY="sk-wrong-0123456789")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("voxnb: AuthenticationError: ")
    assert "sk-wrong" not in done.stderr


def test_without_a_device_or_its_package_it_says_so(calling):
    with testing.server("Hi.", realtime=True) as server:
        done = calling(server)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search("sound device", done.stderr)


def test_an_answer_that_fails_is_told(calling, spoken):
    with testing.server(500, realtime=HEARD) as server:
        done = calling(server, spoken)
    assert done.returncode == 1
    assert "(no answer: The response failed with status 500.)" in done.stdout
    assert done.stderr == "voxnb: APIError: The response failed with status 500.\n"


def test_an_answer_of_nothing_is_told(calling, spoken):
    with testing.server([{"output": []}], realtime=HEARD) as server:
        done = calling(server, spoken)
    assert (done.returncode, done.stderr) == (0, "")
    assert "model  (nothing)\n" in done.stdout


def started(tmp_path, server, *arguments, **more):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "sounddevice.py").write_text(DEVICE)
    return subprocess.Popen(
        command("call", *arguments, "--base-url", server.base_url, "--json", "--store", tmp_path / "s.db"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(tmp_path / "home"), **more),
    )


def until(process, event):
    for line in process.stdout:
        found = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(process.stderr.read())


def test_ctrl_c_hangs_up_and_what_was_said_is_kept(spoken, tmp_path):
    with testing.server(LONG, realtime=HEARD) as server:
        with started(tmp_path, server, spoken, "--record", tmp_path / "call.wav") as process:
            assert LONG.startswith(until(process, "model")["text"][:20])
            process.send_signal(signal.SIGINT)
            ended = until(process, "ended")
            _, err = process.communicate(timeout=60)
    assert (process.returncode, err, ended["reason"]) == (130, "", "hung up")
    assert channels(ended["recording"])[0]
    with ContextStore(tmp_path / "s.db") as store:
        (turn,) = store.turns().to_dict("records")
        assert turn["user_text"] == "Tell me of iris."
        assert store.verify()


def test_the_microphone_speaks_and_the_loudspeaker_answers_until_ctrl_c(tmp_path):
    said = save(tmp_path / "said.wav", bytes(48_000), tone("Tell me of iris"))
    played = tmp_path / "played.raw"
    with testing.server("Iris has 150 rows.", realtime=HEARD) as server:
        with started(tmp_path, server, SPOKEN=str(said), PLAYED=str(played)) as process:
            until(process, "model")
            while not played.exists() or not any(played.read_bytes()):
                assert process.poll() is None
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGTERM)
            ended = until(process, "ended")
            _, err = process.communicate(timeout=60)
    assert (process.returncode, err, ended["reason"]) == (0, "voxnb: speak; Ctrl-C hangs up\n", "hung up")
