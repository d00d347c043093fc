"""Laws of the far end: whatever a client does, the server keeps its own grammar, and time is cheap."""

from __future__ import annotations

import base64
import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxnb.audio.formats import ALAW_8K, PCM_24K, ULAW_8K
from voxnb.local.realtime import Call, Ended, Manner, NextItem, Order, Rehearsal, Script, Speech, Wait, problems, tone
from voxnb.local.realtime.hearing import KEPT_MS, Hearing
from voxnb.local.realtime.sound import converted

FORMATS = {"audio/pcm": PCM_24K, "audio/pcmu": ULAW_8K, "audio/pcma": ALAW_8K}
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KINDS = (
    "session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear",
    "output_audio_buffer.clear", "conversation.item.create", "conversation.item.retrieve", "conversation.item.truncate",
    "conversation.item.delete", "response.create", "response.cancel",
)  # fmt: skip

speech = st.tuples(st.just("speech"), st.sampled_from(["Hi", "Hello there", "A long sentence of words"]))
quiet = st.tuples(st.just("quiet"), st.integers(0, 2_000))
wait = st.tuples(st.just("wait"), st.floats(0, 3))
detection = st.sampled_from(
    [
        None,
        {"type": "server_vad"},
        {"type": "server_vad", "interrupt_response": False},
        {"type": "server_vad", "create_response": False},
        {"type": "server_vad", "idle_timeout_ms": 1_000},
        {"type": "semantic_vad", "eagerness": "high"},
    ]
)
update = st.tuples(
    st.just("session.update"),
    st.fixed_dictionaries(
        {},
        optional={
            "output_modalities": st.sampled_from([["text"], ["audio"], ["text", "audio"]]),
            "audio": st.fixed_dictionaries(
                {},
                optional={
                    "input": st.fixed_dictionaries(
                        {},
                        optional={
                            "turn_detection": detection,
                            "format": st.sampled_from([{"type": name} for name in FORMATS]),
                            "transcription": st.sampled_from([None, {"model": "whisper-1"}]),
                        },
                    ),
                    "output": st.fixed_dictionaries({}, optional={"voice": st.sampled_from(["marin", "cedar"])}),
                },
            ),
        },
    ),
)
item = st.tuples(
    st.just("item"), st.sampled_from(["truncate", "delete", "retrieve"]), st.integers(0, 9), st.integers(0, 3_000)
)
plain = st.tuples(
    st.just("plain"), st.sampled_from(["input_audio_buffer.commit", "input_audio_buffer.clear", "response.cancel"])
)
create = st.tuples(st.just("create"), st.sampled_from([None, "root", "item_999999"]))
respond = st.tuples(
    st.just("respond"),
    st.sampled_from(
        [{}, {"conversation": "none"}, {"output_modalities": ["text"]}, {"max_output_tokens": 5}, {"input": []}]
    ),
)
steps = st.lists(speech | quiet | wait | update | item | plain | create | respond, max_size=25)
part = st.sampled_from(
    [
        Speech("Good morning to you.", tone("Good morning to you.")),
        Speech("Wordless", b""),
        Speech("Phone", converted(tone("Phone"), PCM_24K, to=ULAW_8K), ULAW_8K),
        NextItem(),
        Call("weather", '{"city": "Bern", "days": [1, 2, 3]}'),
        Wait(300),
        Ended(),
        Ended("incomplete", "content_filter"),
    ]
)
replies = st.lists(st.lists(part, max_size=4), min_size=1, max_size=4)


def play(talk, step):
    kind, *rest = step
    form = talk.session.hearing.form
    if kind == "speech":
        talk.append(converted(tone(rest[0]), PCM_24K, to=form), chunk_ms=50)
    elif kind == "quiet":
        talk.append(form.silence * (form.rate_hz * rest[0] // 1_000), chunk_ms=100)
    elif kind == "wait":
        talk.wait(rest[0])
    elif kind == "session.update":
        talk.send(kind, session={"type": "realtime", **rest[0]})
    elif kind == "item":
        names = [i.id for i in talk.session.conversation] or ["item_none"]
        verb, place, end_ms = rest
        talk.send(f"conversation.item.{verb}", item_id=names[place % len(names)], content_index=0, audio_end_ms=end_ms)
    elif kind == "plain":
        talk.send(rest[0])
    elif kind == "create":
        talk.send("conversation.item.create", item=USER, previous_item_id=rest[0])
    else:
        talk.send("response.create", response=rest[0])


@settings(max_examples=60, deadline=None)
@given(steps, replies)
def test_whatever_a_client_does_the_order_of_events_is_legal(steps, replies):
    talk = Rehearsal(Script(replies, hears=["Hello", None]))
    for step in steps:
        play(talk, step)
        active = [r for r in talk.session._responses.values() if r.in_conversation]
        assert len(active) <= 1
    talk.wait(60)
    assert talk.order.problems == []
    assert talk.order.finish() == []
    ids = [i.id for i in talk.session.conversation]
    assert len(set(ids)) == len(ids)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(
    ["session", "audio", "item", "item_id", "content_index", "audio_end_ms", "response", "response_id", "event_id", "previous_item_id"]
), ODD, max_size=4)), max_size=8))  # fmt: skip
def test_odd_values_are_answered_and_end_nothing(events):
    talk = Rehearsal()
    for kind, fields in events:
        told = talk.send(kind, **fields)
        assert told or kind == "input_audio_buffer.append"
        json_error = [e for e in told if e["type"] == "error"]
        assert all(e["error"]["message"] for e in json_error)
    talk.wait(30)
    talk.send("response.create")
    talk.until("response.done")
    assert talk.order.problems == []


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_message_is_answered(message):
    told = Rehearsal().receive(message)
    assert [e["type"] for e in told] == ["error"]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 4_000), st.integers(0, 4_000))
def test_what_is_left_of_a_truncated_item_is_its_beginning(words, first_ms, second_ms):
    text = " ".join(["word"] * words)
    talk = Rehearsal(Script([text]))
    talk.send("response.create")
    (said,) = talk.until("response.done")["response"]["output"]
    kept = tone(text)
    for end_ms in (first_ms, second_ms):
        (told,) = talk.send("conversation.item.truncate", item_id=said["id"], content_index=0, audio_end_ms=end_ms)
        if end_ms * 48 <= len(kept):
            assert told["type"] == "conversation.item.truncated"
            kept = kept[: end_ms * 48]
        else:
            assert told["error"]["message"].startswith("Audio content of")
    (got,) = talk.send("conversation.item.retrieve", item_id=said["id"])
    assert base64.b64decode(got["item"]["content"][0]["audio"]) == kept


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.booleans(), st.lists(st.integers(0, 1_000), max_size=20))
def test_the_input_buffer_keeps_its_timeline_and_its_bound(name, has_detection, lengths):
    form = FORMATS[name]
    hearing = Hearing()
    vad = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
    hearing.configure(form, vad if has_detection else None)
    written_ms = 0
    for number, length_ms in enumerate(lengths):
        sound = converted(tone("word" * 4), PCM_24K, to=form) if number % 3 == 2 else form.silence * 24_000
        data = sound[: length_ms * form.rate_hz // 1_000 * form.sample_bytes]
        written_ms += form.duration_ms(len(data))
        hearing.append(data)
        assert hearing.written_ms == pytest.approx(written_ms)
        if has_detection and not hearing.is_speech:
            assert hearing.buffered_ms <= 300 + 20 + 20
    assert hearing.buffered_ms <= KEPT_MS


def test_without_turn_detection_the_oldest_audio_is_dropped_and_counted():
    hearing = Hearing()
    hearing.configure(ULAW_8K, None)
    for _ in range(20):
        hearing.append(b"\xff" * 8_000 * 60)
    assert (hearing.buffered_ms, hearing.dropped_ms, hearing.written_ms) == (KEPT_MS, 300_000, 1_200_000)


def test_an_hour_of_talk_passes_in_a_moment_and_ends_by_itself():
    talk = Rehearsal(Script(["Good morning to you.", "And a good day."], hears="Hello"))
    turn = bytes(48 * 400) + tone("Hello there") + bytes(48 * 600)
    while talk.ended is None:
        talk.append(turn, chunk_ms=400)
        talk.wait(8.0)
    turns = talk.types().count("input_audio_buffer.committed")
    assert turns > 350
    assert talk.types().count("response.done") == turns
    assert talk.now_s >= 3_600
    assert talk.ended.code == 1001
    assert talk.order.problems == []
    assert len(talk.session.conversation) == 2 * turns


def test_two_rehearsals_of_one_script_are_equal():
    def run():
        talk = Rehearsal(Script(["Good morning."], hears="Hello"), manner=Manner(speed=2.0))
        talk.append(bytes(48 * 400) + tone("Hello there") + bytes(48 * 600), chunk_ms=20)
        talk.wait(5)
        return talk.events

    assert run() == run()


# -- the grammar ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def legal():
    """The events of a session in which everything happens."""
    call = {"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}
    talk = Rehearsal(Script([["One.", NextItem(), "Two."], call, "Three."], hears="Hello"))
    hearing = {"transcription": {"model": "whisper-1"}}
    talk.send("session.update", session={"type": "realtime", "audio": {"input": hearing}})
    for _ in range(2):
        talk.append(bytes(48 * 400) + tone("Hello there") + bytes(48 * 600), chunk_ms=20)
        talk.wait(5)
    talk.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    talk.send("response.create")
    talk.wait(5)
    assert problems(talk.events) == []
    return talk.events


NOT_MISSED = {
    # May be missing, or cannot be told from events that never were.
    "error", "session.updated", "rate_limits.updated", "response.output_audio.delta",
    "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.delta", "conversation.item.input_audio_transcription.completed",
}  # fmt: skip


def test_every_event_that_is_missing_is_missed(legal):
    unnoticed = set()
    for place, event in enumerate(legal):
        order = Order()
        for other in legal[:place] + legal[place + 1 :]:
            order.feed(other)
        if not order.problems and not order.finish():
            unnoticed.add(event["type"])
    assert unnoticed <= NOT_MISSED, unnoticed - NOT_MISSED


def test_every_event_that_comes_twice_is_noticed(legal):
    unnoticed = set()
    for place, event in enumerate(legal):
        again = {**copy.deepcopy(event), "event_id": "event_again"}
        if not problems([*legal[: place + 1], again, *legal[place + 1 :]]):
            unnoticed.add(event["type"])
    assert unnoticed <= {
        "session.updated",
        "rate_limits.updated",
        "response.output_audio.delta",
        "conversation.item.input_audio_transcription.delta",
    }


def test_an_event_of_no_name_is_noticed(legal):
    assert problems([legal[0], {"type": "response.audio.delta", "event_id": "e"}]) == [
        "event 2: response.audio.delta is no event of the API"
    ]
    assert "repeats the event_id" in problems([legal[0], {**legal[1], "event_id": legal[0]["event_id"]}])[0]
