"""The client as a media unit, in virtual time: what is played, what counts as heard, what an interruption says."""

from __future__ import annotations

import base64
import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.realtime.talk import Talk
from voxnb.audio.formats import PCM_8K, PCM_24K, ULAW_8K
from voxnb.clients.realtime.voice import VoiceUnit
from voxnb.clients.realtime.waterfall import table_of
from voxnb.media.stream import Sink
from voxnb.media.unit import MediaUnit
from voxnb.testing.clock import VirtualClock
from voxnb.wire.realtime.replay import said_of
from voxnb.wire.realtime.session import RealtimeSession


class Ear(MediaUnit):
    """Hears; may be a telephone that speaks one format only."""

    def __init__(self, clock, *, form=None, audible=True):
        super().__init__(clock=clock)
        self.sink = Sink(audible=audible)
        self.form = form
        self.frames = []

    def _takes(self, offered, wanted):
        return self.form or offered

    def _offers(self, wanted):
        return self.form or PCM_24K

    def _heard(self, stream, frame):
        self.frames.append(frame)

    @property
    def heard_ms(self):
        return sum(f.format.duration_ms(len(f.data)) for f in self.frames)


class Speaking(VoiceUnit):
    """A `VoiceUnit` on a session that a test speaks for."""

    def __init__(self, clock, *, barge_in=True, session=None):
        self._state = RealtimeSession()
        self.sent, self.appended, self.told, self.ended, self.settled = [], [], [], [], {}
        self.started = []
        self._begin_voice(barge_in=barge_in, session=session or {}, clock=clock)

    def _put(self, command):
        self.sent += self._state.put(command)

    def _append(self, sound):
        self.appended.append((sound.data, sound.audio_ms))
        self.goes_out(sound)

    def _told_interrupted(self, facts):
        self.told.append(facts)

    def _media_started(self, facts):
        self.started.append(facts)

    def _media_ended(self, facts):
        self.ended.append(facts)

    def _spoken_settled(self, item, heard_ms):
        self.settled[item.id] = heard_ms

    def hear(self, *events):
        for event in events:
            received = self._state.receive(event)
            for said in received.events:
                self._voice(said["type"], said, received)


def calling(*, ear=True, **given):
    clock, talk = VirtualClock(), Talk()
    unit = Speaking(clock, **given)
    unit.hear(talk.created())
    listener = Ear(clock)
    if ear:
        unit.send_media_to(listener)
    return clock, talk, unit, listener


def speech(talk, item_id="u9"):
    return talk.event("input_audio_buffer.speech_started", audio_start_ms=0, item_id=item_id)


def test_what_the_model_says_is_played_in_real_time_and_counts_as_heard():
    clock, talk, unit, ear = calling()
    unit.hear(*talk.spoken("r1", "a1", "Hello.", deltas=5))
    clock.advance(0.5)
    assert 480 <= ear.heard_ms <= 540
    assert unit.settled == {}
    clock.advance(3)
    assert ear.heard_ms == 1000
    assert unit.settled == {"a1": 1000}
    assert unit.started[0]["encoding"] == "PCM16"
    assert [e["mediaInfo"] for e in unit.ended] == [{"duration": 1}]
    assert unit.sent == []


def test_who_speaks_interrupts_and_the_server_is_told_what_was_heard():
    clock, talk, unit, ear = calling()
    unit.hear(*talk.begin("r1", "a1"), talk.words("r1", "a1", "one two three four"))
    unit.hear(*(talk.sound("r1", "a1") for _ in range(10)))
    clock.advance(0.7)
    unit.hear(speech(talk))
    heard = ear.heard_ms
    (cut,) = unit.sent
    assert (cut["type"], cut["item_id"], cut["content_index"]) == ("conversation.item.truncate", "a1", 0)
    assert abs(cut["audio_end_ms"] - heard) <= 20
    unit.hear(talk.sound("r1", "a1"))
    clock.advance(5)
    assert ear.heard_ms == heard, "nothing more of it is played"
    (told,) = unit.told
    assert (told["response_id"], told["items"][0]["decision"]) == ("r1", "truncate")
    assert told["items"][0]["text"] == "one two three four"
    assert (
        unit.settled["a1"] == told["items"][0]["heard_ms"] or abs(unit.settled["a1"] - told["items"][0]["heard_ms"]) < 1
    )
    unit.hear(talk.done("r1", "cancelled"), *talk.spoken("r2", "a2", "Yes?", deltas=2))
    clock.advance(2)
    assert ear.heard_ms == heard + 400, "the next answer is heard"


def test_of_two_items_each_is_told_for_itself():
    clock, talk, unit, ear = calling()
    unit.hear(*talk.begin("r1", "a1"), *(talk.sound("r1", "a1") for _ in range(5)))
    second = {"id": "a2", "type": "message", "role": "assistant", "content": []}
    unit.hear(
        talk.event("response.output_audio.done", response_id="r1", item_id="a1", output_index=0, content_index=0),
        talk.event("response.output_item.added", response_id="r1", output_index=1, item=second),
        talk.event("conversation.item.added", item=second, previous_item_id="a1"),
        *(talk.sound("r1", "a2") for _ in range(5)),
    )
    clock.advance(0.4)
    unit.hear(speech(talk))
    assert [(c["type"].rpartition(".")[2], c["item_id"]) for c in unit.sent] == [("truncate", "a1"), ("delete", "a2")]
    assert abs(unit.sent[0]["audio_end_ms"] - 400) <= 20


def test_an_answer_that_was_heard_to_its_end_is_left_alone():
    clock, talk, unit, ear = calling()
    unit.hear(*talk.spoken("r1", "a1", "Hello.", deltas=5))
    clock.advance(5)
    unit.hear(speech(talk))
    assert (unit.sent, unit.told) == ([], [])


def test_where_nobody_listens_nothing_is_cut():
    clock, talk, unit, _ = calling(ear=False)
    unit.hear(*talk.begin("r1", "a1"), talk.sound("r1", "a1"))
    unit.hear(speech(talk))
    assert [c["type"] for c in unit.sent] == ["conversation.item.truncate"], "what is still to come was heard by nobody"
    assert unit.sent[0]["audio_end_ms"] == 200
    unit.hear(talk.done("r1", "cancelled"), *talk.spoken("r2", "a2", "Hi."))
    assert unit.settled["a2"] == 1000


def test_a_session_that_is_not_to_be_interrupted_is_not():
    detection = {"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}}
    clock, talk, unit, ear = calling()
    unit.hear(talk.event("session.updated", session=detection))
    unit.hear(*talk.begin("r1", "a1"), talk.sound("r1", "a1"), speech(talk))
    clock.advance(1)
    assert (unit.sent, ear.heard_ms) == ([], 200)


def test_barge_in_may_be_turned_off():
    clock, talk, unit, ear = calling(barge_in=False)
    unit.hear(*talk.begin("r1", "a1"), talk.sound("r1", "a1"), speech(talk))
    clock.advance(1)
    assert (unit.sent, ear.heard_ms) == ([], 200)


def test_clear_media_buffer_drops_what_waits_and_sends_nothing():
    clock, talk, unit, ear = calling()
    unit.hear(*talk.begin("r1", "a1"), *(talk.sound("r1", "a1") for _ in range(10)))
    clock.advance(0.4)
    unit.clear_media_buffer()
    clock.advance(2)
    assert (unit.sent, ear.heard_ms <= 420) == ([], True)
    unit.hear(talk.sound("r1", "a1"))
    clock.advance(1)
    assert ear.heard_ms >= 580, "what comes later is played"


def test_a_recorder_does_not_count_as_an_ear_where_somebody_listens():
    clock, talk, unit, ear = calling()
    recorder = Ear(clock, audible=False)
    unit.send_media_to(recorder)
    unit.hear(*talk.begin("r1", "a1"), *(talk.sound("r1", "a1") for _ in range(5)))
    clock.advance(0.3)
    unit.stop_media_to(ear)  # hung up: what it has heard stays heard
    clock.advance(0.3)
    unit.hear(speech(talk))
    assert 280 <= unit.sent[0]["audio_end_ms"] <= 620


def test_what_a_unit_says_is_appended_in_the_sessions_format():
    clock, talk, unit, _ = calling()
    mouth = Ear(clock)
    mouth.send_media_to(unit)
    (stream,) = mouth._outgoing.values()
    stream.push(b"\x01\x00" * 480 * 3)
    clock.advance(0.2)
    assert [ms for _, ms in unit.appended] == [20.0, 20.0, 20.0]
    assert all(len(sound) == 960 for sound, _ in unit.appended)


def test_a_telephone_that_speaks_g711_is_heard_and_answered_in_it_untouched():
    clock, talk, unit, _ = calling(ear=False)
    phone = Ear(clock, form=ULAW_8K)
    phone.send_media_to(unit)
    unit.send_media_to(phone)
    formats = [(side, f["format"]) for c in unit.sent for side, f in c["session"]["audio"].items()]
    assert formats == [("input", {"type": "audio/pcmu"}), ("output", {"type": "audio/pcmu"})]
    (stream,) = phone._outgoing.values()
    stream.push(bytes(range(160)))
    clock.advance(0.1)
    assert unit.appended == [(bytes(range(160)), 20.0)]
    side = {"format": {"type": "audio/pcmu"}}
    unit.hear(talk.event("session.updated", session={"audio": {"input": side, "output": side}}))
    unit.hear(*talk.begin("r1", "a1"), talk.sound("r1", "a1", pcm=bytes(range(160))))
    clock.advance(0.1)
    assert [f.data for f in phone.frames] == [bytes(range(160))]


def test_the_users_own_format_wins():
    session = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}, "output": {"format": {"type": "audio/pcm"}}}}  # fmt: skip
    clock, talk, unit, _ = calling(ear=False, session=session)
    phone = Ear(clock, form=ULAW_8K)
    phone.send_media_to(unit)
    unit.send_media_to(phone)
    assert unit.sent == []
    (stream,) = phone._outgoing.values()
    assert (stream.form_in, stream.form) == (ULAW_8K, PCM_24K)


def test_sound_that_comes_before_the_server_has_changed_its_format_is_read_as_what_it_is():
    clock, talk, unit, _ = calling(ear=False)
    phone = Ear(clock, form=ULAW_8K)
    unit.send_media_to(phone, encoding="ULAW")
    assert [c["type"] for c in unit.sent] == ["session.update"]
    unit.hear(*talk.begin("r1", "a1"), talk.sound("r1", "a1"))
    clock.advance(1)
    assert 180 <= phone.heard_ms <= 220


def test_a_phone_of_another_rate_hears_resampled_sound():
    clock, talk, unit, _ = calling(ear=False)
    phone = Ear(clock, form=PCM_8K)
    unit.send_media_to(phone)
    unit.hear(*talk.spoken("r1", "a1", "Hi.", deltas=5))
    clock.advance(3)
    assert unit.sent == []
    assert 980 <= phone.heard_ms <= 1000


def spoken_to(clock, talk, unit):
    """Half a second of speech, noticed 1.5 s after its sound began; what the server says of it next."""
    mouth = Ear(clock)
    mouth.send_media_to(unit)
    (stream,) = mouth._outgoing.values()
    stream.push(bytes(960 * 50))
    clock.advance(1.5)
    started, stopped, *rest = talk.user("u1")
    unit.hear(started, {**stopped, "audio_end_ms": 500})
    return rest


def test_the_time_of_an_answer_is_told_step_by_step():
    clock, talk, unit, _ = calling()
    rest = spoken_to(clock, talk, unit)
    clock.advance(0.01)
    unit.hear(*rest)
    clock.advance(0.02)
    first, *rest = talk.begin("r1", "a1")
    unit.hear(first, *rest)
    clock.advance(0.3)
    unit.hear(talk.sound("r1", "a1"), *talk.finish("r1", "a1", "Hi."))
    clock.advance(2)
    (row,) = unit._waterfall.rows()
    assert (row["item_id"], row["response_id"], row["interrupted"]) == ("u1", "r1", False)
    steps = [row[f"{s}_ms"] for s in ("speech_end", "stopped", "committed", "created", "first_delta", "first_frame", "first_heard")]  # fmt: skip
    assert steps == sorted(steps)
    assert [round(s) for s in steps[2:6]] == [round(steps[1] + d) for d in (10, 30, 330, 330)]
    assert steps[0] == 0
    assert 979 <= steps[1] <= 1021, "said 0.5 s into the sound, noticed 1.5 s after its start"
    table = table_of(unit._waterfall.rows())
    assert str(table["first_heard_ms"].dtype) == "Float64"
    assert list(table["response_id"]) == ["r1"]


def test_an_answer_after_a_call_of_tools_is_counted_from_the_end_of_speech():
    clock, talk, unit, _ = calling()
    unit.hear(*spoken_to(clock, talk, unit), *talk.call_add())
    clock.advance(2)
    unit.hear(*talk.spoken("r2", "a2", "Five."))
    clock.advance(1)
    unit.hear(*talk.spoken("r3", "a3", "Anything else?"))
    called, answered, unasked = unit._waterfall.rows()
    assert [row["item_id"] for row in (called, answered, unasked)] == ["u1", "u1", None]
    assert (called["first_heard_ms"], unasked["speech_end_ms"]) == (None, None)
    assert answered["stopped_ms"] == called["stopped_ms"]
    assert round(answered["first_heard_ms"] - called["created_ms"]) == 2_000


def test_an_agent_that_speaks_first_has_a_row_too():
    clock, talk, unit, ear = calling()
    unit.hear(*talk.spoken("r1", "a1", "Hello."))
    clock.advance(0.1)
    unit.hear(speech(talk))
    (row,) = unit._waterfall.rows()
    assert (row["item_id"], row["created_ms"], row["stopped_ms"], row["interrupted"]) == (None, 0.0, None, True)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=6), min_size=1, max_size=3),
    st.floats(0.0, 3.0),
    st.booleans(),
    st.booleans(),
)
def test_over_random_interruptions_the_cut_is_what_was_played(items, when_s, whole, at_once):
    """Several items, deltas of any length, interrupted at any time: within a frame of what the ear had."""
    clock, talk, unit, ear = calling()
    lengths = {}
    for n, deltas in enumerate(items):
        item_id = f"a{n}"
        item = {"id": item_id, "type": "message", "role": "assistant", "content": []}
        if n == 0:
            unit.hear(*talk.begin("r1", item_id))
        else:
            unit.hear(
                talk.event("response.output_item.added", response_id="r1", output_index=n, item=item),
                talk.event("conversation.item.added", item=item, previous_item_id=f"a{n - 1}"),
            )
        for ms in deltas:
            unit.hear(talk.sound("r1", item_id, pcm=b"\x01\x00" * (24 * ms)))
            if not at_once:
                clock.advance(0.003)
        lengths[item_id] = sum(deltas)
        if whole:
            at = {"response_id": "r1", "item_id": item_id, "output_index": n, "content_index": 0}
            unit.hear(talk.event("response.output_audio.done", **at))
    clock.advance(when_s)
    played = sum(f.data.count(b"\x01\x00") for f in ear.frames) / 24
    unit.hear(speech(talk))
    cuts = {c["item_id"]: c.get("audio_end_ms", 0) for c in unit.sent}
    assert len(cuts) == len(unit.sent), "at most one command per item"
    before = 0.0
    for item_id, length in lengths.items():
        truth = min(max(played - before, 0.0), length)
        before += length
        if item_id in cuts:
            assert abs(cuts[item_id] - truth) <= 20 + 1, (cuts, played, lengths)
            assert cuts[item_id] <= length
        else:
            assert truth >= length - 120, (cuts, played, lengths)
    clock.advance(5)
    assert sum(f.data.count(b"\x01\x00") for f in ear.frames) / 24 == played
    assert set(unit.settled) == set(lengths)
    assert all(said_of(unit._state.item(i), heard_ms=h) is not None for i, h in unit.settled.items())


@pytest.mark.slow
def test_a_hundred_thousand_frames_leave_nothing_behind():
    clock, talk, unit, ear = calling(barge_in=False)
    ear._heard = lambda stream, frame: None
    sound = {"response_id": "r1", "item_id": "a1", "output_index": 0, "content_index": 0}
    delta = talk.event("response.output_audio.delta", **sound, delta=base64.b64encode(bytes(960)).decode())
    unit.hear(*talk.begin("r1", "a1"))

    def run(count):
        for n in range(count):
            unit.hear(delta)
            if n % 10 == 0:
                clock.advance(0.2)

    run(90_000)
    gc.collect()
    tracemalloc.start()
    try:
        run(2_000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        run(8_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    clock.advance(1)
    (stream,) = unit.streams
    assert stream.traffic.frames == 100_000
    assert grown < 4_000  # half a byte per frame
