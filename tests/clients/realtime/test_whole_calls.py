"""Whole calls: from files with everything that happens in one, an hour in a moment, and a thousand that leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest

import voxnb
from tests.clients.realtime.peer import WAIT_S
from tests.clients.realtime.test_memory import add
from voxnb import ContextStore, SessionEvents, testing
from voxnb.clients.realtime.client import RealtimeAPIClient
from voxnb.events import Events, RealtimeAPIEvents
from voxnb.local.realtime import Manner, RealtimeServer, Script, tone
from voxnb.media import AudioFile, Echo, Player, Recorder
from voxnb.runtime import loop
from voxnb.testing.clock import VirtualClock

DETECTION = {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}}}
LONG = "This answer takes a long time to be spoken to its very end, " * 6


@pytest.fixture
def store(tmp_path):
    with ContextStore(tmp_path / "s.db") as made:
        yield made


def save(path, sound):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(sound)
    return path


def channel(path, number):
    """One side of a recording: 16-bit samples."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples[number::2].tobytes()


def sounds_in(data, expected):
    """Check that a channel is these sounds in order, with silence around them and nothing else.

    Returns:
        Where each begins, in samples.
    """
    at, places = 0, []
    for sound in expected:
        found = data.find(sound, at)
        while found >= 0 and found % 2:
            found = data.find(sound, found + 1)
        assert found >= 0, f"sound {len(places)} of {len(expected)} is not there whole"
        assert not data[at:found].strip(b"\0"), f"something sounded before sound {len(places)}"
        places.append(found // 2)
        at = found + len(sound)
    assert not data[at:].strip(b"\0"), "something sounded after the last sound"
    return places


def same_beginning(data, sound):
    """How many bytes from the beginning are the same."""
    return next((n for n, (a, b) in enumerate(zip(data, sound, strict=False)) if a != b), min(len(data), len(sound)))


@pytest.mark.slow
def test_a_call_from_files_with_a_tool_an_interruption_a_new_session_and_a_loss(store, tmp_path):
    questions = ["What is two and three", "Talk to me", "Stop now please", "Are you there", "And who is it"]
    replies = [
        {"tool_calls": [{"name": "add", "arguments": {"a": 2, "b": 3}}]},
        "Five.",
        LONG,
        "I stop.",
        "Yes I am.",
        testing.Drop(after_events=2),
        "It is me.",
    ]
    told = [f"{text}." for text in questions]
    # Who interrupts lets the other one say something first.
    files = [
        save(tmp_path / f"{n}.wav", bytes(48_000 if n == 2 else 960) + tone(text)) for n, text in enumerate(questions)
    ]
    with testing.server(replies, realtime=testing.Realtime(hears=told, thinking_ms=100)) as server:
        call = RealtimeAPIClient(
            base_url=server.base_url, api_key=server.api_key, session=DETECTION, store_context=True, store=store,
            conversation="call", tools=[add], run_tools=True,
        )  # fmt: skip
        with call:
            recorder = Recorder(tmp_path / "call.wav")
            call.send_media_to(recorder, tag="right")

            def say(n, *waits):
                """Play a file into the call; what the events that are waited for say."""
                waiting = [call.wait_for(name) for name in waits]
                file = AudioFile(files[n], tail_ms=400)
                file.send_media_to(recorder, tag="left")
                file.send_media_to(call)
                file.wait(WAIT_S)
                file.close()
                return [event.result(WAIT_S).payload for event in waiting]

            say(0, Events.WebSocketMediaEnded)
            say(1, Events.WebSocketMediaStarted)
            (interrupted, truncated, _) = say(
                2, SessionEvents.Interrupted, RealtimeAPIEvents.ConversationItemTruncated, Events.WebSocketMediaEnded
            )
            while call._is_playing or call._state.active_response:  # the end that was told may be the interruption's
                call.wait_for(Events.WebSocketMediaEnded).result(WAIT_S)
            assert call.rollover().result(WAIT_S) is True
            say(3, Events.WebSocketMediaEnded)
            say(4, SessionEvents.SessionRestored, Events.WebSocketMediaEnded)
            path = recorder.close()
        assert len(server.sessions) == 3
        assert all(session.problems == [] for session in server.sessions)
        statistics = call.statistics()
        assert (statistics.refused_events, statistics.sessions) == (0, 3)
        assert statistics.audio_dropped_ms < 400, "of the silence while there was no session"

    (item,) = interrupted["items"]
    assert truncated["audio_end_ms"] == item["heard_ms"]
    left, right = channel(path, 0), channel(path, 1)
    sounds_in(left, [tone(text) for text in questions])
    # The answer has pauses, and after the cut there is silence: what is the same may end in zeros that nobody said.
    heard = tone(LONG)[: same_beginning(right[right.find(tone(LONG)[:960]) :], tone(LONG))]
    assert len(heard.rstrip(b"\0")) / 48 < item["heard_ms"] + 1 <= len(heard) / 48 + 1, (
        "it holds what was told was heard"
    )
    sounds_in(right, [tone("Five."), heard, tone("I stop."), tone("Yes I am."), tone("It is me.")])

    rows = store.turns().to_dict("records")
    assert [(r["state"], r["user_text"]) for r in rows] == [
        ("complete", told[0]), ("partial", told[1]), ("complete", told[2]), ("complete", told[3]), ("complete", told[4]),
    ]  # fmt: skip
    assert [r["reply_text"] for r in rows if r["state"] == "complete"] == ["Five.", "I stop.", "Yes I am.", "It is me."]
    assert LONG.startswith(rows[1]["reply_text"])
    assert [m["role"] for m in store.messages().to_dict("records")][:4] == ["user", "assistant", "tool", "assistant"]
    assert [run.result for run in call.tool_runs] == ["5"]
    assert store.verify(), store.verify()


class Timed(RealtimeAPIClient):
    """The client with its media on a clock that a test moves; everything else is as it is."""

    def __init__(self, clock, **given):
        self.moved = clock
        super().__init__(**given)

    def _begin_voice(self, **given):
        super()._begin_voice(**given, clock=self.moved)

    async def pass_time(self, seconds):
        """Let time pass as fast as the server takes the sound."""
        for _ in range(round(seconds / 0.2)):
            self.moved.advance(0.2)
            await self._keeper.link.outbox.emptied()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_hour_of_talk_is_recorded_and_remembered_to_the_last_sample(store, tmp_path):
    turns, turn_s = 60, 60.0
    clock = VirtualClock()
    answers = [f"Answer number {n}." for n in range(turns)]
    questions = [f"Question number {n}" for n in range(turns)]
    with testing.server(answers, realtime=testing.Realtime(hears=questions, speed=500)) as server:
        with Timed(
            clock, base_url=server.base_url, api_key=server.api_key, session=DETECTION, store_context=True, store=store,
            conversation="hour",
        ) as call:  # fmt: skip
            mouth, recorder = Player(clock=clock), Recorder(tmp_path / "hour.wav", clock=clock)

            async def begin():
                mouth.send_media_to(recorder, tag="left")
                mouth.send_media_to(call)
                call.send_media_to(recorder, tag="right")

            async def turn(text):
                done = call.wait_for(RealtimeAPIEvents.ResponseDone, timeout_s=WAIT_S)
                sound = tone(text)
                mouth.play(sound + bytes(round(turn_s * 48_000) - len(sound)))
                asked_s = (
                    len(sound) / 48_000 + 0.4
                )  # the answer comes with the clock standing, so that no part of it is late
                await call.pass_time(asked_s)
                await done
                await call.pass_time(turn_s - asked_s)

            async def end():
                recorder.close()

            loop.submit(begin()).result(WAIT_S)
            for text in questions:
                loop.submit(turn(text)).result(WAIT_S)
            loop.submit(end()).result(WAIT_S)
            statistics = call.statistics()
        (session,) = server.sessions
        assert session.problems == []
    assert (statistics.refused_events, statistics.audio_dropped_ms, statistics.sessions) == (0, 0.0, 1)
    rows = store.turns().to_dict("records")
    assert [(r["state"], r["user_text"], r["reply_text"]) for r in rows] == [
        ("complete", question, answer) for question, answer in zip(questions, answers, strict=True)
    ]
    assert store.verify(), store.verify()
    path = tmp_path / "hour.wav"
    assert abs(recorder.duration_ms - turns * turn_s * 1000) <= 200 * turns
    asked = sounds_in(channel(path, 0), [tone(text) for text in questions])
    answered = sounds_in(channel(path, 1), [tone(text) for text in answers])
    assert all(a < b for a, b in zip(asked, answered, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_calls_leave_nothing_behind():
    with RealtimeServer(Script(["Hello."]), manner=Manner(speed=100), keeps=False) as server:

        def rounds(count):
            for _ in range(count):
                with RealtimeAPIClient(base_url=server.base_url, api_key=server.api_key) as call:
                    mouth, ear = Player(), Echo()
                    mouth.send_media_to(call)
                    call.send_media_to(ear)
                    mouth.play(bytes(4_800))
                for unit in (mouth, ear):
                    unit.close()
            loop.submit(asyncio.sleep(0)).result(WAIT_S)
            gc.collect()

        def left():
            tasks = loop.submit(count_tasks()).result(WAIT_S)
            return tasks, threading.active_count(), len(os.listdir("/proc/self/fd")) if Path("/proc").is_dir() else 0

        async def count_tasks():
            return len(asyncio.all_tasks())

        rounds(50)
        before = left()
        tracemalloc.start()
        try:
            rounds(50)
            base = tracemalloc.get_traced_memory()[0]
            rounds(900)
            grown = tracemalloc.get_traced_memory()[0] - base
        finally:
            tracemalloc.stop()
        assert grown < 900 * 200  # bytes; a client that stayed would be tens of kilobytes
        assert left() == before
    assert not [one for one in gc.get_objects() if type(one) is voxnb.RealtimeAPIClient and not one.closing]
