"""`RealtimeAPIClient(base_url="local")`: a spoken conversation with no key, from its processes' start to their end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import wave
from pathlib import Path

import pytest

from tests.local.tiny import until
from voxnb import ContextStore, OpenAI, RealtimeAPIClient, SessionEvents, testing
from voxnb.errors import LocalModelError
from voxnb.local import speech, voice
from voxnb.local.voice import Voice
from voxnb.media import AudioFile, Recorder

# The engines stand back behind everything else that a busy machine does.
pytestmark = pytest.mark.timeout(600)
WAIT_S = 200
QUESTION = "please turn the light on in the house"
"""Understood wherever the recogniser's frames begin in it; of some sentences a word is lost where they begin badly."""
EVENTS = OpenAI.RealtimeAPIEvents

linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")


def save(path, pcm):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(pcm)
    return path


@pytest.fixture
def question(engines, tmp_path):
    """A WAV in which the voice itself asks something."""
    return save(tmp_path / "question.wav", bytes(48 * 300) + engines.speak(QUESTION) + bytes(48 * 900))


def children(pid=None):
    """The processes that one has started, and those that they have."""
    found = Path(f"/proc/{pid or os.getpid()}/task").glob("*/children")
    own = [int(child) for path in found for child in path.read_text().split()]
    return own + [one for child in own for one in children(child)]


def voices():
    """The processes of the embedded voice."""
    names = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children()}
    servers = [pid for pid, name in names.items() if name.rstrip("\0").endswith("child.py")]
    return {*servers, *(pid for pid, name in names.items() if "speech_child" in name)}


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sound_of(path, channel):
    with wave.open(str(path)) as file:
        data = file.readframes(file.getnframes())
    return b"".join(data[i : i + 2] for i in range(channel * 2, len(data), 4))


bridges = pytest.mark.parametrize("bridge", ["loop", "process"])


def hold(call, file, folder, *, is_busy=False):
    """Say what is in a file, and record both until the answer has sounded; with a cell that computes meanwhile."""
    recorder, player = Recorder(folder / "call.wav"), AudioFile(file)
    ended = call.wait_for(OpenAI.Events.WebSocketMediaEnded)
    call.send_media_to(recorder, tag="right")
    player.send_media_to(call)
    player.send_media_to(recorder, tag="left")
    while is_busy and not ended.done():
        pass
    ended.result(WAIT_S)
    player.close()
    return recorder.close()


@pytest.mark.local
@bridges
def test_a_question_is_heard_answered_spoken_recorded_and_remembered(question, engines, tmp_path, bridge):
    settings = {"base_url": "local", "bridge": bridge, "store_context": True, "conversation": "call"}
    with ContextStore(tmp_path / "s.db") as store:
        with RealtimeAPIClient(settings, store=store) as call:
            assert "SmolLM2" in repr(call)
            path = hold(call, question, tmp_path, is_busy=bridge == "process")
            (turn,) = call.conversation.turns().to_dict("records")
            fall = call.waterfall().iloc[-1]
        assert turn["user_text"] == QUESTION
        assert turn["reply_text"].strip()
        assert (turn["state"], turn["model"]) == ("complete", "SmolLM2-135M-Instruct")
        assert store.verify()
        assert set(store.media()["direction"]) == {"in", "out"}
    assert engines.hear(sound_of(path, 0)) == QUESTION
    assert engines.hear(sound_of(path, 1)), "the answer is in the recording"
    steps = [fall[f"{step}_ms"] for step in ("stopped", "committed", "created", "first_delta", "first_frame")]
    assert steps == sorted(steps)


ANSWERS = {
    QUESTION: "Thank you very much. Open the door please.",
    "my name is john and i live in london": "One two three four five six seven.",
}


@pytest.mark.slow
def test_every_word_survives_voice_bridge_ears_and_back(engines, tmp_path):
    """Word errors through speech, file, bridge, server and recognition, in both directions: none."""
    with (
        testing.server(lambda request: ANSWERS[request.text]) as language,
        Voice(language.base_url, language_model="gpt-4o") as served,
    ):
        for text, answer in ANSWERS.items():
            file = save(tmp_path / "said.wav", bytes(48 * 300) + engines.speak(text) + bytes(48 * 900))
            with RealtimeAPIClient(api_key=served.api_key, base_url=served.base_url) as call:
                heard = call.wait_for(EVENTS.ConversationItemInputAudioTranscriptionCompleted)
                call.session_update(session={"audio": {"input": {"transcription": {"model": "any"}}}})
                path = hold(call, file, tmp_path)
                assert heard.result(WAIT_S).payload["transcript"] == text
            words = answer.lower().replace(".", "").split()
            assert engines.hear(sound_of(path, 1)).split() == words


@linux
@pytest.mark.local
@bridges
def test_a_voice_that_dies_is_started_again_and_the_call_goes_on(question, tmp_path, bridge):
    settings = {"base_url": "local", "bridge": bridge, "store_context": True, "conversation": "call"}
    with RealtimeAPIClient(settings, store=":memory:") as call:
        restored = call.wait_for(SessionEvents.SessionRestored)
        os.kill(call.served.pid, signal.SIGKILL)
        assert restored.result(WAIT_S).payload["attempt"] <= 3, "it waits for the engines rather than knock in vain"
        hold(call, question, tmp_path)
        assert list(call.conversation.turns()["user_text"]) == [QUESTION]


@linux
@pytest.mark.local
def test_closing_the_last_call_leaves_no_process_task_or_thread():
    before = voices()
    threads = {thread.name for thread in threading.enumerate()}
    one = RealtimeAPIClient(base_url="local")
    two = RealtimeAPIClient(base_url="local")
    one.connect().result(WAIT_S)
    own = voices() - before
    with two:
        one.close()
        assert two.connected
        assert own <= voices(), "another call still needs it"
    until(lambda: not own & voices() - {*language_pids()})
    until(lambda: {t.name for t in threading.enumerate()} <= threads | {"voxnb-loop", "voxnb-local"})

    async def scenario():
        client = await OpenAI.createRealtimeAPIClient({"baseUrl": "local"})
        client.close()
        return client.statistics().sessions

    assert asyncio.run(scenario()) == 1, "it starts again, for VoxEngine's factory too"


def language_pids():
    from voxnb.local import serve_default

    return [serve_default().pid]


PARENT = """
import sys
from voxnb import RealtimeAPIClient
call = RealtimeAPIClient(base_url="local", bridge=sys.argv[1])
call.connect().result()
print("ready", flush=True)
sys.stdin.read()
"""


@linux
@pytest.mark.local
@bridges
def test_everything_dies_with_a_parent_that_is_killed(engines, bridge):
    program = [sys.executable, "-c", PARENT, bridge]
    parent = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout.readline() == "ready\n"
        started = children(parent.pid)
        more = ["bridge process"] if bridge == "process" else []
        assert len(started) == len(["language model", "realtime server", "speech engines", *more])
        assert all(map(is_there, started))
    finally:
        parent.kill()
        parent.communicate()
    assert parent.returncode == -signal.SIGKILL
    until(lambda: not any(map(is_there, started)))


@linux
def test_the_engines_stand_back_behind_a_call(engines):
    """In a session of its own a process competes with the niceness of its group, where the system has groups."""
    assert os.getpriority(os.PRIO_PROCESS, engines.pid) == os.getpriority(os.PRIO_PROCESS, 0) + speech.NICENESS
    group = Path(f"/proc/{engines.pid}/autogroup")
    if group.exists():
        assert group.read_text().split()[-1] == str(speech.NICENESS)


def test_without_a_package_the_error_names_the_command_and_nothing_was_started(monkeypatch):
    monkeypatch.setattr(speech, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(voice, "_default", [])
    with pytest.raises(LocalModelError, match=r"no_such_package: pip install 'voxnb\[voice\]'"):
        RealtimeAPIClient(base_url="local")
    assert not voice._default[0].is_running
