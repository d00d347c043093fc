"""Units of the kernel and of the bridge process hear each other; what can move there does."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest

from tests.clients.realtime.test_voice import Ear
from tests.media.phone import Phone
from voxnb.audio.formats import PCM_24K, ULAW_8K
from voxnb.errors import AudioError, BridgeError, ParameterError
from voxnb.media import (
    AudioFile,
    Echo,
    MediaServer,
    MediaUnit,
    Microphone,
    Player,
    Recorder,
    Speaker,
    WidgetUnit,
    send_media_between,
)
from voxnb.media.clock import LOOP
from voxnb.media.file import soundfile
from voxnb.runtime import bridge, config, loop

pytestmark = pytest.mark.slow

WAIT_S = 30
LOUD = bytes((n * 37) % 128 for n in range(160))


def eventually(holds):
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def called():
    """A telephone, and its call in the bridge process."""
    with MediaServer(bridge="process") as server:
        phone = Phone(server.url)
        phone.start()
        yield phone, next(iter(server))
        phone.close()
    assert bridge._shared is None, "nothing is left"


class Mouth(MediaUnit):
    """Says what it is given, in real time."""

    def __init__(self, form=ULAW_8K):
        super().__init__()
        self._form = form

    def _offers(self, wanted):
        return self._form

    def say(self, data):
        self._clock.call_soon(lambda: [stream.push(data) for stream in self._outgoing.values()])


def test_what_a_call_says_is_heard_here_and_what_is_said_here_is_heard_there(called):
    phone, call = called
    ear, mouth = Ear(LOOP), Mouth()
    call.send_media_to(ear)
    mouth.send_media_to(call)
    eventually(lambda: ear.streams and mouth.streams)
    phone.say(LOUD, chunk=1)
    eventually(lambda: ear.frames)
    assert ear.frames[0].data == LOUD
    mouth.say(LOUD * 3)
    phone.until(lambda messages: sum(m["event"] == "media" for m in messages) == 3)
    assert phone.heard() == LOUD * 3


def test_what_is_stopped_on_either_side_flows_no_more(called):
    phone, call = called
    ear, mouth = Ear(LOOP), Mouth()
    call.send_media_to(ear)
    mouth.send_media_to(call)
    eventually(lambda: ear.streams and mouth.streams)
    call.stop_media_to(ear)
    mouth.stop_media_to(call)
    eventually(lambda: not ear.streams and not mouth.streams)
    call.send_media_to(ear)
    call.stop_media_to(ear)
    call.send_media_to(ear, tag="again")
    eventually(lambda: [s.tag for s in ear.streams] == ["again"])
    phone.say(LOUD, chunk=1)
    eventually(lambda: ear.frames)
    phone.close()
    eventually(lambda: not ear.streams)
    eventually(lambda: call.closed)
    with pytest.raises(AudioError, match="closed"):
        call.send_media_to(ear)


def test_a_unit_that_is_closed_here_is_heard_there_no_more(called):
    phone, call = called
    messages = []
    widget = WidgetUnit(lambda message, parts: messages.append(message))
    send_media_between(call, widget)
    eventually(lambda: len(widget.streams) == 2)
    widget.close()
    eventually(lambda: not widget.streams)
    number = call._far.number
    statistics = call.statistics()
    assert statistics["lost"] == 0
    assert number < 0


def test_a_widget_that_counts_what_it_plays_is_believed_over_there():
    """The ledger is the source's: what a browser reports crosses to it."""
    from tests.clients.realtime.peer import Peer
    from tests.clients.realtime.test_distant import distant
    from tests.clients.realtime.test_memory import heard, speaking, spoken, user
    from voxnb import SessionEvents

    said = threading.Event()

    async def interrupt(connection):
        while not said.is_set():  # what came before is of no interest
            await connection.next()
        event = connection.talk.event("input_audio_buffer.speech_started", audio_start_ms=0, item_id="u9")
        await connection.send(event)

    scenes = (user("u1"), heard("u1", "Count."), spoken(1, "one two three four five six seven eight", deltas=15))
    with Peer(speaking(*scenes, interrupt)) as peer:
        one = distant(peer)
        posted = []
        widget = WidgetUnit(lambda message, parts: posted.append((message, sum(map(len, parts)))))
        one.send_media_to(widget)
        interrupted = one.wait_for(SessionEvents.Interrupted)
        one.connect().result(WAIT_S)
        one.response_create()
        eventually(lambda: sum(size for _, size in posted) >= 48 * 600)
        sounds = next(message for message, size in posted if size)
        where = {"lane": sounds["lane"], "generation": sounds["generation"]}
        widget.receive({"kind": "played", **where, "samples": 24 * 321})
        said.set()
        one.input_audio_buffer_clear()
        (cut,) = interrupted.result(WAIT_S).payload["items"]
        assert cut["heard_ms"] == 321
        eventually(lambda: posted[-1][0]["kind"] == "clear")
        assert {"kind": "clear", **where, "generation": where["generation"] + 1} in [message for message, _ in posted]
        one.close()


def wav(path, *, seconds=0.4):
    samples = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(24_000 * seconds)) / 24_000)).astype("<i2")
    soundfile().write(str(path), samples, 24_000, subtype="PCM_16")
    return samples


def test_a_file_and_a_recorder_move_there(called, tmp_path):
    phone, call = called
    samples = wav(tmp_path / "said.wav")
    file, recorder = AudioFile(tmp_path / "said.wav"), Recorder(tmp_path / "kept.wav", rate_hz=8000)
    call.send_media_to(recorder, tag="left")
    file.send_media_to(recorder, tag="right")
    file.send_media_to(call)
    call.statistics()  # answered after what was asked before
    phone.say(LOUD, chunk=1)
    file.wait(WAIT_S)
    assert file.is_done
    assert not file.streams
    assert not recorder.streams, "nothing of it is here"
    phone.until(lambda messages: sum(m["event"] == "media" for m in messages) == 20)
    assert recorder.duration_ms >= 0
    assert recorder.close() == tmp_path / "kept.wav"
    kept, rate = soundfile().read(str(tmp_path / "kept.wav"), dtype="int16")
    assert rate == 8000
    assert recorder.duration_ms == pytest.approx(len(kept) / 8)
    assert np.abs(kept[:, 0]).max() > 0
    assert len(kept) >= len(samples) // 3
    file.rewind()
    assert not file.is_done
    file.wait(WAIT_S)
    file.close()
    recorder.close()


def test_a_file_that_is_gone_when_it_moves_fails_its_wait(called, tmp_path):
    _, call = called
    wav(tmp_path / "gone.wav")
    file = AudioFile(tmp_path / "gone.wav")
    (tmp_path / "gone.wav").unlink()
    file.send_media_to(call)
    with pytest.raises(BridgeError, match="there is no file"):
        file.wait(WAIT_S)


def test_a_unit_that_plays_here_already_stays(called, tmp_path):
    _, call = called
    wav(tmp_path / "said.wav")
    file, ear = AudioFile(tmp_path / "said.wav"), Ear(LOOP)
    file.send_media_to(ear)
    eventually(lambda: ear.frames)
    file.send_media_to(call)
    eventually(lambda: len(file.streams) == 2)
    file.wait(WAIT_S)
    file.close()


def test_an_echo_over_there_says_what_it_hears(called):
    phone, call = called
    echo = Echo()
    send_media_between(call, echo)
    call.statistics()  # answered after what was asked before
    phone.say(LOUD, chunk=1)
    phone.until(lambda messages: any(m["event"] == "media" for m in messages))
    assert phone.heard() == LOUD
    assert echo._far is not None
    echo.close()


def test_a_player_over_there_plays_what_it_is_given_here(called):
    phone, call = called
    player = Player(rate_hz=8000)
    player.send_media_to(call)
    player.play(b"\x10\x20" * 160 * 5)
    phone.until(lambda messages: sum(m["event"] == "media" for m in messages) == 5)
    assert player._far is not None
    player.play(b"\x10\x20" * 8000)
    eventually(lambda: 0 < player.waiting_ms < 1000)
    player.clear_media_buffer()
    eventually(lambda: player.waiting_ms == 0)
    assert player.dropped_ms == 0
    player.close()


@pytest.mark.parametrize("make", [Echo, Player])
def test_what_holds_nothing_lives_here_again_when_the_process_has_ended(make):
    unit = make()
    for _ in range(2):
        with MediaServer(bridge="process") as server:
            phone = Phone(server.url)
            phone.start()
            unit.send_media_to(next(iter(server)))
            eventually(lambda: unit._far is not None)
            phone.close()
        assert bridge._shared is None
        eventually(lambda: unit._far is None)
    ear = Ear(LOOP)
    unit.send_media_to(ear)
    eventually(lambda: unit.streams)
    unit.close()


def test_what_is_made_of_a_unit_here_stays_here(called):
    class Mine(Player):
        pass

    _, call = called
    mine = Mine()
    mine.send_media_to(call)
    eventually(lambda: mine.streams)
    assert mine._far is None
    mine.close()


def test_what_is_closed_here_is_forgotten_over_there(called, tmp_path):
    _, call = called
    wav(tmp_path / "said.wav")
    units = [Echo(), Player(), AudioFile(tmp_path / "said.wav"), Recorder(tmp_path / "kept.wav")]
    for unit in units:
        (call if isinstance(unit, Recorder) else unit).send_media_to(unit if isinstance(unit, Recorder) else call)
    eventually(lambda: all(unit._far is not None for unit in units))
    channel = bridge._shared.channel
    for unit in units:
        unit.close()
    for unit in units:
        with pytest.raises(BridgeError, match=str(unit._far.number)):
            loop.wait(loop.submit(channel.ask(unit._far.number, "lost")))
        assert unit._far.number not in channel.objects


DEVICE = '''
"""A sound device that has and wants a block every 10 ms: a file says who has it open, another what it played."""
import os, pathlib, threading, time

class PortAudioError(Exception):
    pass

class _Stream:
    latency = 0.0
    process = os.getpid()

    def __init__(self, *, callback, device, samplerate, blocksize, **options):
        if device == "none":
            raise PortAudioError("Invalid device")
        if device == "one" and pathlib.Path(os.environ["OPENED"]).exists():
            raise PortAudioError("Device unavailable")
        pathlib.Path(os.environ["OPENED"]).write_text(str(os.getpid()))
        self.callback, self.frames, self.over = callback, blocksize, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()

    def run(self):
        while not self.over.wait(0.01):
            self.turn()

    def close(self):
        self.over.set()
        self.thread.join()
        pathlib.Path(os.environ["OPENED"]).unlink(missing_ok=True)

class RawInputStream(_Stream):
    def turn(self):
        self.callback(b"\\x10\\x20" * self.frames, self.frames, None, None)

class RawOutputStream(_Stream):
    def turn(self):
        out = bytearray(self.frames * 2)
        self.callback(out, self.frames, None, None)
        with open(os.environ["PLAYED"], "ab") as file:
            file.write(out)
'''


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A sound device that this process and the bridge process open, one at a time; where it says who has it open."""
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "sounddevice.py").write_text(DEVICE)
    monkeypatch.syspath_prepend(tmp_path / "device")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setenv("OPENED", str(tmp_path / "opened"))
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    yield tmp_path / "opened"
    sys.modules.pop("sounddevice", None)


def test_a_loudspeaker_and_a_microphone_open_the_device_over_there(device, tmp_path):
    with MediaServer(bridge="process") as server:
        phone = Phone(server.url)
        phone.start()
        call = next(iter(server))
        speaker = Speaker(device="one", rate_hz=8000)
        assert device.read_text() == str(os.getpid())
        call.send_media_to(speaker)
        eventually(lambda: device.exists() and device.read_text() == str(bridge._shared.pid))
        phone.say(LOUD, chunk=1)
        eventually(lambda: (tmp_path / "played").exists() and any((tmp_path / "played").read_bytes()))
        assert speaker.dropped_ms == 0
        speaker.close()
        eventually(lambda: not device.exists())
        microphone = Microphone(rate_hz=8000)
        microphone.send_media_to(call)
        phone.until(lambda messages: sum(m["event"] == "media" for m in messages) >= 3)
        assert microphone.overflows == 0
        assert not microphone.streams
        phone.close()
    assert bridge._shared is not None, "the microphone is open until it is closed"
    microphone.close()
    eventually(lambda: not device.exists() and bridge._shared is None)


def test_a_device_that_cannot_be_opened_over_there_is_told(device, called, monkeypatch):
    _, call = called
    told = []
    monkeypatch.setattr(config, "report", told.append)
    speaker = Speaker(device="one", rate_hz=8000)
    monkeypatch.setattr(speaker, "_name", "none")
    call.send_media_to(speaker)
    eventually(lambda: told)
    assert "Invalid device" in told[0]
    with pytest.raises(AudioError, match="is closed; make a new one"):
        call.send_media_to(speaker)
    speaker.close()


def test_an_open_recorder_keeps_the_process_until_it_is_closed(tmp_path):
    with MediaServer(bridge="process") as server:
        phone = Phone(server.url)
        phone.start()
        call = next(iter(server))
        recorder = Recorder(tmp_path / "kept.wav", rate_hz=8000)
        call.send_media_to(recorder)
        call.statistics()  # answered after what was asked before
        phone.say(LOUD * 5, chunk=1)
        eventually(lambda: call.statistics()["received"] == 1)
        received_at_ms = recorder.duration_ms
        eventually(lambda: recorder.duration_ms >= received_at_ms + 300)  # it was played, too
    phone.close()
    assert bridge._shared is not None
    recorder.close()
    eventually(lambda: bridge._shared is None)
    kept, _ = soundfile().read(str(tmp_path / "kept.wav"), dtype="int16")
    assert np.abs(kept).max() > 0


@pytest.mark.parametrize("kind", [Recorder, Player])
def test_what_is_closed_while_it_is_about_to_move_is_closed_over_there(called, tmp_path, monkeypatch, kind):
    def block(event, **options):
        gate.set()  # it was asked to close
        return wait(event, **options)

    gate, wait = threading.Event(), loop.block
    monkeypatch.setattr(loop, "block", block)
    unit = kind(tmp_path / "kept.wav") if kind is Recorder else kind()
    loop.call_soon(gate.wait, WAIT_S)
    called[1].send_media_to(unit) if kind is Recorder else unit.send_media_to(called[1])
    unit.close()
    gate.set()
    eventually(lambda: unit._far is not None)
    eventually(lambda: unit._far.number not in unit._far.side.bridge.channel.objects)


def test_a_file_that_is_wound_back_while_it_is_about_to_move_plays_over_there(called, tmp_path, caplog):
    phone, call = called
    wav(tmp_path / "said.wav")
    file, gate = AudioFile(tmp_path / "said.wav"), threading.Event()
    loop.call_soon(gate.wait, WAIT_S)
    file.send_media_to(call)
    file.rewind()
    gate.set()
    file.wait(WAIT_S)
    phone.until(lambda messages: sum(m["event"] == "media" for m in messages) == 20)
    file.close()
    assert caplog.text == ""


def test_the_form_of_a_far_call_is_known_here(called):
    _, call = called
    assert call.form == ULAW_8K
    assert PCM_24K != call.form


def test_what_cannot_cross_is_refused_where_it_is_given(called):
    _, call = called
    with pytest.raises(ParameterError, match="cannot cross"):
        call.send_media_to(Ear(LOOP), custom_parameters={"lock": threading.Lock()})
