"""Whole conversations over sound with the local Realtime server, which refuses what the service refuses and checks orders."""

from __future__ import annotations

import sys
import threading

import pytest

import voxnb
from tests.clients.realtime.peer import WAIT_S
from tests.clients.realtime.test_memory import Attentive, add, done_after, sounded, turns
from tests.clients.realtime.test_voice import Ear
from voxnb import ContextStore, SessionEvents, testing
from voxnb.events import Events, RealtimeAPIEvents
from voxnb.local.realtime import tone
from voxnb.media.clock import LOOP
from voxnb.media.unit import MediaUnit
from voxnb.usage import Usage

TRANSCRIBED = RealtimeAPIEvents.ConversationItemInputAudioTranscriptionCompleted


@pytest.fixture
def store():
    with ContextStore(":memory:") as made:
        yield made


class Mouth(MediaUnit):
    """Says things in the artificial voice, in real time, each followed by silence."""

    def say(self, text, *, silence_s=0.8):
        self._clock.call_soon(self._say, tone(text) + bytes(int(48_000 * silence_s)))

    def _say(self, sound):
        for stream in self._outgoing.values():
            stream.push(sound)


@pytest.fixture(params=["loop", pytest.param("process", marks=pytest.mark.slow)], autouse=True)
def bridge(request, monkeypatch):
    """Every conversation is held on the loop and in the bridge process."""
    monkeypatch.setattr(sys.modules[__name__], "BRIDGE", request.param)


BRIDGE = "loop"


def call(server, **given):
    session = {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}}}
    return voxnb.RealtimeAPIClient(
        **{"base_url": server.base_url, "api_key": server.api_key, "session": session, "bridge": BRIDGE, **given}
    )


def clean(one):
    statistics = one.statistics()
    return statistics.refused_events, statistics.audio_dropped_ms


def test_a_spoken_conversation_is_heard_answered_and_remembered(store):
    with testing.server(
        ["Hi Ann.", "Yes."], realtime=testing.Realtime(hears=["I am Ann.", "Are you there?"])
    ) as server:
        with call(server, store_context=True, store=store, conversation="call") as one:
            mouth, ear = Mouth(), Ear(LOOP)
            mouth.send_media_to(one)
            one.send_media_to(ear)
            both = done_after(one, 2)
            ended = one.wait_for(Events.WebSocketMediaEnded)
            mouth.say("I am Ann")
            ended.result(WAIT_S)
            mouth.say("Are you there")
            assert both.wait(WAIT_S)
            sounded(one)
            falls = one.waterfall()
            assert clean(one) == (0, 0.0)
            taken = one.statistics()
            streams, queues = taken.streams, {row["queue"]: row for row in taken.queues}
            across = {"to the kernel", "to the bridge process"} if BRIDGE == "process" else set()
            assert set(queues) == {"to the server", "media loop", "to listeners", *across}
            assert 0 <= queues["media loop"]["late_p50_ms"] <= queues["media loop"]["late_max_ms"]
            assert 0 <= queues["to the server"]["late_p50_ms"] <= queues["to the server"]["late_max_ms"]
            assert all(row["wake_p50_ms"] <= row["wake_p99_ms"] <= row["wake_max_ms"] for row in streams)
            assert taken.bytes_sent > 48_000, "a second of speech, at least"
            assert taken.bytes_received > taken.messages_received > 20
            labels = [line[:26].strip() for line in repr(taken).splitlines()]
            assert len(set(labels)) == len(labels)
            assert all(f"<td>{label}</td>" in taken._repr_html_() for label in labels[1:-1])
        assert one.streams == ()
        after = one.statistics()
        assert {row["queue"] for row in after.queues} == set(queues)
        assert [s["frames"] >= was["frames"] > 0 for s, was in zip(after.streams, streams, strict=True)] == [True, True]
    assert turns(store) == [
        (1, "complete", "I am Ann.", "Hi Ann.", "stop"),
        (2, "complete", "Are you there?", "Yes.", "stop"),
    ]
    assert store.verify(), store.verify()
    assert sum(f.data.count(b"\0") for f in ear.frames) < sum(len(f.data) for f in ear.frames), "something sounded"
    first = falls.to_dict("records")[0]
    steps = [first[f"{s}_ms"] for s in ("speech_end", "stopped", "committed", "created", "first_delta", "first_frame")]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert {s["source"] for s in streams} == {"Mouth", "RealtimeAPIClient"}
    media = store.media().to_dict("records")
    assert [(m["direction"], m["encoding"], m["sample_rate_hz"]) for m in media] == [("out", "PCM16", 24_000), ("in", "PCM16", 24_000)]  # fmt: skip
    assert all(m["duration_ms"] > 100 for m in media)
    (session,) = server.sessions
    assert session.problems == []


def test_an_answer_has_its_price_sound_and_text_apart(store):
    prices = {"gpt-realtime": {"prompt": 4.0, "completion": 16.0, "audio_prompt": 32.0, "audio_completion": 64.0}}
    with testing.server(["Hi Ann."], realtime=True) as server:
        with call(server, store_context=True, store=store, conversation="call", prices=prices) as one:
            done = one.wait_for(RealtimeAPIEvents.ResponseDone)
            one.conversation_item_create(
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "I am Ann."}]}
            )
            one.response_create()
            usage = Usage.from_dict(done.result(WAIT_S).payload["response"]["usage"])
            taken = one.statistics()
    assert usage.audio_completion_tokens
    spoken = usage.audio_completion_tokens
    cost = (usage.prompt_tokens * 4.0 + (usage.completion_tokens - spoken) * 16.0 + spoken * 64.0) / 1e6
    assert taken.cost_usd == pytest.approx(cost)
    assert store.calls()["cost_usd"].item() == pytest.approx(cost)
    assert store.turns()["cost_usd"].item() == pytest.approx(cost)


def test_who_speaks_into_an_answer_stops_it_and_the_server_knows_what_was_heard(store):
    long = "This answer takes a long time to be spoken to its very end, " * 8
    with testing.server([long, "I stop."], realtime=testing.Realtime(hears=["Talk.", "Stop."])) as server:
        with call(server, store_context=True, store=store, conversation="call") as one:
            mouth, ear = Mouth(), Attentive(LOOP)
            mouth.send_media_to(one)
            one.send_media_to(ear)
            both = done_after(one, 2)
            interrupted = one.wait_for(SessionEvents.Interrupted)
            truncated = one.wait_for(RealtimeAPIEvents.ConversationItemTruncated)
            mouth.say("Talk")
            assert ear.attentive.wait(WAIT_S)
            mouth.say("Stop now please")
            (item,) = interrupted.result(WAIT_S).payload["items"]
            assert truncated.result(WAIT_S).payload.audio_end_ms == item["heard_ms"]
            assert both.wait(WAIT_S)
            sounded(one)
            assert clean(one) == (0, 0.0)
    rows = turns(store)
    assert (rows[0][1], rows[0][2], rows[0][4]) == ("partial", "Talk.", "interrupted")
    assert long.startswith(rows[0][3])
    assert len(rows[0][3]) < len(long)
    assert rows[1][2:4] == ("Stop.", "I stop.")
    assert store.verify(), store.verify()


def test_a_tool_is_run_in_a_call(store):
    replies = [{"tool_calls": [{"name": "add", "arguments": {"a": 2, "b": 3}}]}, "Five."]
    with testing.server(replies, realtime=True) as server:
        with call(server, store_context=True, store=store, tools=[add], run_tools=True) as one:
            said = one.wait_for(RealtimeAPIEvents.ResponseOutputAudioTranscriptDone)
            both = done_after(one, 2)
            one.conversation_item_create(
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "2 + 3?"}]}
            )
            one.response_create()
            assert said.result(WAIT_S).payload.transcript == "Five."
            assert both.wait(WAIT_S)
            assert [run.result for run in one.tool_runs] == ["5"]
            assert clean(one) == (0, 0.0)
    roles = [m["role"] for m in store.messages().to_dict("records")]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert store.verify(), store.verify()


def ask(one, text):
    said = one.wait_for(RealtimeAPIEvents.ResponseDone)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    one.conversation_item_create(item=item)
    one.response_create()
    return said.result(WAIT_S).payload.response


def test_a_connection_that_breaks_in_an_answer_is_restored_and_the_answer_given(store):
    views = []

    def reply(view):
        views.append(view)
        return testing.Drop(after_events=2) if len(views) == 2 else f"Answer {len(views)}."

    with testing.server(reply, realtime=True) as server:
        with call(server, store_context=True, store=store, conversation="call") as one:
            ask(one, "First?")
            restored = one.wait_for(SessionEvents.SessionRestored)
            assert ask(one, "Second?").status == "completed"
            assert restored.result(WAIT_S).payload.reason == "lost"
            assert clean(one)[0] == 0
    assert [m["content"] for m in views[2].messages if m["role"] == "user"] == ["First?", "Second?"]
    assert [t[1:4] for t in turns(store)] == [("complete", "First?", "Answer 1."), ("complete", "Second?", "Answer 3.")]
    assert store.verify(), store.verify()


def test_a_session_is_replaced_without_anybody_noticing(store):
    with testing.server(lambda view: f"Answer to {view.text}", realtime=True) as server:
        with call(server, store_context=True, store=store, instructions="Be brief.") as one:
            ask(one, "one")
            assert one.rollover().result(WAIT_S) is True
            ask(one, "two")
            assert clean(one) == (0, 0.0)
        second = server.sessions[1]
        created = [e["item"] for e in second.received if e["type"] == "conversation.item.create"]
    assert [i["content"][0]["text"] for i in created[:2]] == ["one", "Answer to one"]
    assert second.problems == []
    assert [t[2:4] for t in turns(store)] == [("one", "Answer to one"), ("two", "Answer to two")]
    assert store.verify(), store.verify()


def test_a_transcription_session_writes_down_what_is_said():
    session = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}, "turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}}}  # fmt: skip
    with testing.server("unused", realtime=testing.Realtime(hears="Hello there.")) as server:
        kind = voxnb.OpenAI.RealtimeAPIClientType.TRANSCRIPTION
        with voxnb.RealtimeAPIClient(
            base_url=server.base_url, api_key=server.api_key, type=kind, session=session
        ) as one:
            mouth = Mouth()
            mouth.send_media_to(one)
            understood = one.wait_for(TRANSCRIBED)
            mouth.say("Hello there")
            assert understood.result(WAIT_S).payload.transcript == "Hello there."


def test_what_a_transcription_session_writes_down_is_kept_as_turns_that_a_chat_goes_on_from(store):
    told = {"transcription": {"model": "m"}, "turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}
    known = {"store": store, "store_context": True, "conversation": "notes"}
    kind = voxnb.OpenAI.RealtimeAPIClientType.TRANSCRIPTION
    with testing.server("So you said.", realtime=testing.Realtime(hears=["I am Ann.", "I like tea."])) as server:
        known |= {"base_url": server.base_url, "api_key": server.api_key}
        with voxnb.RealtimeAPIClient(**known, type=kind, session={"audio": {"input": told}}, bridge=BRIDGE) as one:
            mouth = Mouth()
            mouth.send_media_to(one)
            for words in ("I am Ann", "I like tea"):
                understood = one.wait_for(TRANSCRIBED)
                mouth.say(words)
                understood.result(WAIT_S)
                assert one.rollover().result(WAIT_S) is True, "nobody will answer, so nobody is waited for"
            assert clean(one) == (0, 0.0)
        assert [[e["type"] for e in s.received if "item" in e["type"]] for s in server.sessions] == [[], [], []]
        assert [t[1:3] for t in turns(store)] == [("complete", "I am Ann."), ("complete", "I like tea.")]
        assert store.verify(), store.verify()
        with voxnb.chat("m", **known) as chat:
            chat.ask("Who am I?").result(WAIT_S)
        sent = [message["content"] for message in server.requests[-1].json["messages"]]
    assert sent == ["I am Ann.", "I like tea.", "Who am I?"]


def test_with_turn_detection_off_what_is_said_is_committed_by_hand():
    with testing.server("Yes.", realtime=testing.Realtime(hears="Is it on?")) as server:
        with call(server, session={"audio": {"input": {"turn_detection": None}}}) as one:
            mouth = Mouth()
            mouth.send_media_to(one)
            mouth.say("Is it on", silence_s=0.1)
            heard = threading.Event()
            one._clock.call_soon(lambda: _when_appended(one, 500, heard))
            assert heard.wait(WAIT_S)
            said = one.wait_for(RealtimeAPIEvents.ResponseOutputAudioTranscriptDone)
            committed = one.wait_for(RealtimeAPIEvents.InputAudioBufferCommitted)
            one.input_audio_buffer_commit()
            one.response_create()
            committed.result(WAIT_S)
            assert said.result(WAIT_S).payload.transcript == "Yes."


def _when_appended(one, audio_ms, event):
    """Set an event once so much of the user's sound went out."""
    if one.streams and one.streams[0].statistics()["duration_ms"] >= audio_ms:
        event.set()
    else:
        one._clock.call_at(one._clock.now() + 0.01, _when_appended, one, audio_ms, event)
