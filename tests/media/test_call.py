"""A stream of a media socket is a call: it is heard whole and in order, and what it heard is known to a frame."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.ear import Ear, Source, noise
from tests.media.phone import VirtualPhone, media_of, start_of, stop_of
from voxnb.audio.formats import PCM_8K, PCM_16K, PCM_24K, ULAW_8K
from voxnb.audio.playout import Delete, Nothing, Truncate
from voxnb.errors import ClientClosedError, ParameterError
from voxnb.media import Recorder, send_media_between
from voxnb.media.line import MOST_BROKEN, MOST_TAGS
from voxnb.media.socket_call import FILL_MS
from voxnb.testing.clock import VirtualClock

SHAPES = ["twilio", "voximplant"]


def called(clock, shape="twilio", **options):
    phone = VirtualPhone(clock, shape=shape, **options)
    phone.say(start_of(shape))
    return phone, phone.calls[0]


def speech(number, form=ULAW_8K):
    """20 ms that are loud, and different for each number."""
    return bytes([number % 100 + 1]) * form.frame_bytes


# -- in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_caller_says_is_heard_untouched_and_at_once(clock, shape):
    phone, call = called(clock, shape)
    ear = Ear(clock)
    call.send_media_to(ear)
    for n in range(1, 50):
        phone.say(media_of(shape, speech(n), chunk=n))
        assert len(ear.heard) == n
    assert ear.data == b"".join(speech(n) for n in range(1, 50))
    assert call.form == ear.heard[0][1].format == ULAW_8K


def test_parameters_come_as_an_object_or_as_text(clock):
    for number, custom in enumerate([{"test": "123"}, '{"test":"123"}']):
        phone = VirtualPhone(clock, shape="voximplant")
        phone.say(start_of("voximplant", encoding="PCM16", rate_hz=16_000, tag=f"t{number}", custom=custom))
        assert phone.calls[0].custom_parameters == {"test": "123"}
        assert (phone.calls[0].tag, phone.calls[0].form) == (f"t{number}", PCM_16K)


def test_streams_of_a_socket_are_calls_of_their_own(clock):
    phone = VirtualPhone(clock, shape="voximplant")
    ears = []
    for tag in ("a", "b"):
        phone.say(start_of("voximplant", tag=tag))
        ears.append(Ear(clock))
        phone.calls[-1].send_media_to(ears[-1])
    for n in range(1, 10):
        phone.say(media_of("voximplant", speech(n), chunk=n, tag="b" if n % 3 else "a"))
    assert (len(ears[0].heard), len(ears[1].heard)) == (1, 5)
    phone.say(media_of("voximplant", speech(1), chunk=1, tag="c"))
    phone.say(media_of("voximplant", speech(1), chunk=1))
    assert phone.line.counters.homeless == 2
    phone.say(stop_of("voximplant", tag="a"))
    assert [call.closed for call in phone.calls] == [True, False]


def test_a_new_stream_may_follow_and_a_forgotten_stop_does_no_harm(clock):
    phone = VirtualPhone(clock, shape="voximplant")
    phone.say(start_of("voximplant"))
    phone.say(stop_of("voximplant"))
    phone.say(stop_of("voximplant"))
    phone.say(start_of("voximplant", encoding="PCM16", rate_hz=16_000))
    phone.say(start_of("voximplant"))
    assert [(c.closed, c.form) for c in phone.calls] == [(True, ULAW_8K), (True, PCM_16K), (False, ULAW_8K)]


def test_a_lost_packet_is_silence_of_its_length_and_no_more(clock):
    phone, call = called(clock)
    ear = Ear(clock)
    call.send_media_to(ear)
    for n in (1, 2, 4, 5, 6, 7, 200, 201, 202):
        phone.say(media_of("twilio", speech(n), chunk=n))
    expected = [speech(1), speech(2), ULAW_8K.silence * 160, *(speech(n) for n in (4, 5, 6, 7, 200, 201, 202))]
    assert ear.data == b"".join(expected)
    assert call.statistics()["lost"] == 1 + 192
    assert call.statistics()["filled_ms"] == 20 <= FILL_MS


@given(seed=st.integers(0, 10_000), loss=st.floats(0, 0.3), shape=st.sampled_from(SHAPES))
@settings(max_examples=40)
def test_whatever_a_network_does_nothing_is_heard_twice_or_out_of_order(seed, loss, shape):
    chance, clock = random.Random(seed), VirtualClock()
    phone, call = called(clock, shape)
    ear = Ear(clock)
    call.send_media_to(ear)
    waiting = []
    for n in range(1, 80):
        waiting.append(n)
        if chance.random() < 0.7:
            chance.shuffle(waiting)
        while waiting:
            number = waiting.pop()
            for _ in range(1 + (chance.random() < 0.1)):
                if chance.random() >= loss:
                    phone.say(media_of(shape, speech(number), chunk=number))
            if chance.random() < 0.3:
                break
    phone.say(stop_of(shape))
    heard = [frame.data[0] - 1 for _, frame in ear.heard if frame.data[:1] != ULAW_8K.silence]
    assert heard == sorted(set(heard))
    counts = call.statistics()
    assert counts["received"] == len(heard) + counts["late"] + counts["duplicated"]


def test_odd_bytes_and_broken_base64_are_counted_and_the_rest_is_heard(clock):
    phone = VirtualPhone(clock, shape="voximplant")
    phone.say(start_of("voximplant", encoding="PCM16", rate_hz=16_000))
    ear = Ear(clock)
    phone.calls[0].send_media_to(ear)
    phone.say(media_of("voximplant", b"abc", chunk=1))
    phone.say('{"event":"media","media":{"chunk":2,"payload":"%%%"}}')
    phone.say(media_of("voximplant", b"de", chunk=3))
    phone.say(media_of("voximplant", b"x", chunk=2))
    assert ear.data == b"abde"
    assert phone.calls[0].statistics()["odd_bytes"] == 2
    assert phone.line.statistics()["broken"] == 1


def test_opus_is_decoded_and_spoken(clock):
    from voxnb.media.opus import OpusEncoder

    phone = VirtualPhone(clock, shape="voximplant")
    phone.say(start_of("voximplant", encoding="OPUS", rate_hz=48_000))
    call, ear, source = phone.calls[0], Ear(clock, form=PCM_24K), Source(clock)
    call.send_media_to(ear)
    source.send_media_to(call)
    encoder = OpusEncoder()
    tone = (9000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype("<i2").tobytes()
    for n in range(50):
        phone.say(media_of("voximplant", encoder.feed(tone[n * 1920 : (n + 1) * 1920]), chunk=n))
    heard = np.frombuffer(ear.data, "<i2")
    assert len(heard) == 24_000
    assert np.abs(np.fft.rfft(heard)).argmax() == pytest.approx(440, abs=2)
    source.stream.push(noise(200))
    clock.advance(1)
    assert phone.sent[0]["start"]["mediaFormat"] == {"encoding": "OPUS", "sampleRate": 48_000}
    assert [m["event"] for m in phone.sent[1:]] == ["media"] * 10
    assert phone.sent[3]["media"]["timestamp"] == 2 * 960


def test_a_stream_that_cannot_be_taken_is_refused_and_the_others_go_on(clock, monkeypatch):
    phone = VirtualPhone(clock, shape="voximplant")
    phone.say(start_of("voximplant", encoding="PCM16", rate_hz=11_025, tag="a"))
    monkeypatch.setitem(sys.modules, "av", None)
    phone.say(start_of("voximplant", encoding="OPUS", rate_hz=48_000, tag="b"))
    assert "voxnb[opus]" in phone.line.last_broken
    phone.say(start_of("voximplant", tag="c"))
    assert [call.tag for call in phone.calls] == ["c"]
    assert phone.line.counters.broken == 2


# -- events -----------------------------------------------------------------------------------------


def events_of(call):
    told = []
    call._tell = lambda event, facts: told.append((event.name, facts))
    return told


def test_sound_begins_and_ends_as_the_caller_speaks_and_is_silent(clock):
    phone = VirtualPhone(clock, shape="voximplant")
    phone.say(start_of("voximplant", tag="a", custom={"k": "v"}))
    call = phone.calls[0]
    told = events_of(call)
    chunk = 0
    for data, count in ((speech(1), 100), (ULAW_8K.silence * 160, 75), (speech(1), 10)):
        for _ in range(count):
            chunk += 1
            phone.say(media_of("voximplant", data, chunk=chunk, tag="a"))
            clock.advance(0.02)
    phone.say(stop_of("voximplant", tag="a"))
    started = ("MediaStarted", {"encoding": "ULAW", "tag": "a", "customParameters": {"k": "v"}})
    assert [name for name, _ in told] == ["MediaStarted", "MediaEnded", "MediaStarted", "MediaEnded", "Close"]
    assert told[0] == told[2] == started
    assert told[1][1] == {"tag": "a", "mediaInfo": {"duration": 2}, "utterance_s": pytest.approx(2.0)}
    assert told[3][1]["mediaInfo"] == {"duration": 2}
    assert told[4][1] == {"code": 1000, "reason": "Normal connection close", "wasClean": True}


def test_keys_marks_and_the_applications_own_messages_are_told(clock):
    phone, call = called(clock)
    told = events_of(call)
    texts = [
        '{"event": "dtmf", "dtmf": {"digit": "7"}}',
        '{"event": "mark", "mark": {"name": "mine"}}',
        '{"event": "mark", "mark": {"name": "voxnb:9:9"}}',
        '{"customEvent": "hello"}',
    ]
    for text in texts:
        phone.say(text)
    assert told == [
        ("Message", {"text": texts[0], "dtmf": "7"}),
        ("Message", {"text": texts[1], "mark": "mine"}),
        ("Message", {"text": texts[3]}),
    ]


def test_a_message_of_ones_own_is_sent_and_the_systems_word_is_refused(clock):
    phone, call = called(clock)
    call.send({"customEvent": "hello", "n": 1})
    assert phone.sent == [{"customEvent": "hello", "n": 1}]
    for bad in ({"event": "media"}, "text", {"customEvent": object()}):
        with pytest.raises(ParameterError):
            call.send(bad)


def test_a_message_to_a_call_that_has_ended_is_an_error(clock):
    phone, call = called(clock)
    call.close()
    with pytest.raises(ClientClosedError, match="has ended"):
        call.send({"n": 1})
    call._send('{"n": 1}')  # it was said before, and comes too late
    assert call.statistics()["unsent_frames"] == 1
    assert phone.sent == []


# -- out ------------------------------------------------------------------------------------------


def test_a_voximplant_stream_has_its_start_its_packets_and_its_stop(clock):
    phone, call = called(clock, "voximplant")
    source = Source(clock)
    source.send_media_to(call, tag="agent", encoding="PCM16", custom_parameters={"k": "v"})
    source.stream.push(noise(500))
    clock.advance(2)
    source.stop_media_to(call)
    start, *media, stop = phone.sent
    assert start["start"] == {
        "mediaFormat": {"encoding": "PCM16", "sampleRate": 16_000}, "tag": "agent", "customParameters": {"k": "v"},
    }  # fmt: skip
    assert [m["media"]["chunk"] for m in media] == list(range(1, 26))
    assert [m["media"]["timestamp"] for m in media] == [320 * n for n in range(25)]
    assert {m["media"]["tag"] for m in media} == {"agent"}
    assert stop["stop"] == {"tag": "agent", "mediaInfo": {"bytesSent": 16_000, "duration": 0}}
    assert [m["sequenceNumber"] for m in phone.sent] == list(range(27))
    assert len(phone.heard("agent")) == 16_000


def test_what_is_not_asked_for_is_written_as_the_caller_writes(clock):
    for shape, encoding, form in (("twilio", None, ULAW_8K), ("voximplant", "PCM8", PCM_8K)):
        phone = VirtualPhone(clock, shape=shape)
        phone.say(start_of(shape, encoding=encoding or "ULAW"))
        source = Source(clock)
        source.send_media_to(phone.calls[0])
        assert source.stream.form == form


def test_twilio_hears_mu_law_whatever_is_asked_for(clock):
    _, call = called(clock)
    source = Source(clock)
    source.send_media_to(call, encoding="PCM16")
    assert source.stream.form == ULAW_8K


def test_who_is_connected_last_is_heard(clock):
    phone, call = called(clock)
    one, other = Source(clock, form=ULAW_8K), Source(clock, form=ULAW_8K)
    one.send_media_to(call)
    other.send_media_to(call)
    assert one.feeding == []
    other.stream.push(speech(1))
    clock.advance(0.1)
    assert phone.heard() == speech(1)


def test_a_peer_that_takes_nothing_costs_frames_and_no_memory(clock):
    phone, call = called(clock)
    source = Source(clock, form=ULAW_8K)
    source.send_media_to(call)
    phone.full = True
    source.stream.push(noise(1000, ULAW_8K))
    clock.advance(2)
    phone.full = False
    source.stream.push(speech(1))
    clock.advance(1)
    assert call.statistics()["unsent_frames"] == 50
    assert phone.heard() == speech(1)


def test_two_calls_can_be_connected_with_each_other(clock):
    one, other = called(clock, "twilio"), called(clock, "voximplant")
    send_media_between(one[1], other[1])
    one[0].say(media_of("twilio", speech(1), chunk=1))
    other[0].say(media_of("voximplant", speech(2), chunk=1))
    clock.advance(0.1)
    assert one[0].heard() == speech(2)
    assert other[0].heard() == speech(1)


def test_hanging_up_ends_the_stream_and_the_socket_with_the_last(clock):
    phone = VirtualPhone(clock, shape="voximplant")
    for tag in ("a", "b"):
        phone.say(start_of("voximplant", tag=tag))
    source = Source(clock)
    source.send_media_to(phone.calls[0])
    phone.calls[0].close()
    assert (phone.calls[0].closed, phone.closed) == (True, None)
    assert [m["event"] for m in phone.sent] == ["start", "stop"]
    assert source.streams == ()
    phone.calls[1].close()
    phone.calls[1].close()
    assert phone.closed == (1000, "Normal connection close")
    assert clock.waiting == 0


# -- what was heard -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "latency_s"), [("twilio", 0.0), ("twilio", 0.004), ("voximplant", 0.0), ("voximplant", 0.004)]
)
def test_over_many_interruptions_the_cut_is_where_the_caller_stopped_hearing(clock, shape, latency_s, tmp_path):
    chance = random.Random(shape + str(latency_s))
    phone, call = called(clock, shape, latency_s=latency_s)
    voice, recorder = Source(clock, form=ULAW_8K), Recorder(tmp_path / "a.wav", rate_hz=8000, clock=clock)
    voice.send_media_to(call)
    voice.send_media_to(recorder)
    to_call = next(s for s in voice.feeding if s.target is call)
    worst_ms, truncated, deleted = 0.0, 0, 0
    for round_ in range(200):
        items = [(f"i{round_}-{n}", bytes([1 + (2 * round_ + n) % 100])) for n in range(2)]
        lengths = [chance.randrange(40, 900) for _ in items]
        before = phone.heard()
        for (item, byte), ms in zip(items, lengths):
            for stream in voice.feeding:
                for _ in range(ms // 20):
                    stream.push(byte * 160, item_id=item, response_id=f"r{round_}")
                stream.push(byte * (ms % 20 * 8), item_id=item, response_id=f"r{round_}")
                if chance.random() < 0.8:
                    stream.finish(item)
        clock.advance(chance.uniform(0.0, sum(lengths) / 1000 + 0.3))
        decisions = to_call.interrupt()
        for stream in voice.feeding:
            if stream is not to_call:
                stream.interrupt()
        clock.advance(1.0)
        heard = phone.heard()[len(before) :]
        for decision in decisions:
            byte = dict(items)[decision.item_id]
            truth_ms = heard.count(byte) / 8
            ms = lengths[[item for item, _ in items].index(decision.item_id)]
            if isinstance(decision, Truncate):
                truncated += 1
                said_ms = decision.audio_end_ms
                assert said_ms <= ms
            elif isinstance(decision, Delete):
                deleted += 1
                said_ms = 0
            else:
                assert isinstance(decision, Nothing)
                assert truth_ms >= ms - 120
                continue
            worst_ms = max(worst_ms, abs(said_ms - truth_ms))
    assert worst_ms <= 20
    assert truncated > 100
    assert deleted > 20
    recorder.close()


# -- nonsense -------------------------------------------------------------------------------------


def test_a_peer_that_speaks_another_protocol_is_refused(clock):
    phone = VirtualPhone(clock)
    for _ in range(MOST_BROKEN + 1):
        phone.say("GET / HTTP/1.1")
    assert phone.closed == (1003, "not a media stream")


def test_binary_messages_are_no_media(clock):
    phone, call = called(clock)
    phone.say(b"\x00" * 320)
    assert phone.line.statistics()["binary"] == 1
    assert not call.closed


def test_a_socket_has_so_many_streams_and_no_more(clock):
    phone = VirtualPhone(clock, shape="voximplant")
    for n in range(MOST_TAGS + 5):
        phone.say(start_of("voximplant", tag=f"t{n}"))
    assert len(phone.calls) == MOST_TAGS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
INNER = st.dictionaries(
    st.sampled_from(["tag", "mediaFormat", "payload", "chunk", "customParameters", "name", "digit", "streamSid"]),
    JSON | st.sampled_from(["a", "AAAA", "1", {"encoding": "PCM16", "sampleRate": 16_000}, {"encoding": "ULAW"}]),
)
MESSAGES = st.one_of(
    st.builds(lambda e, i: json.dumps({"event": e, e: i}), st.sampled_from(["start", "media", "stop", "mark", "dtmf"]), INNER),
    st.sampled_from([start_of("twilio"), start_of("voximplant", tag="a"), stop_of("voximplant", tag="a")]),
    st.builds(lambda d, c: media_of("voximplant", d, chunk=c, tag="a"), st.binary(min_size=1, max_size=700), st.integers(0, 9)),
    st.text(),
    st.binary(),
    JSON.map(json.dumps),
)  # fmt: skip


@given(st.lists(MESSAGES, max_size=60))
@settings(max_examples=60)
def test_any_messages_are_survived(messages):
    clock = VirtualClock()
    phone = VirtualPhone(clock)
    source, ear = Source(clock), Ear(clock, form=PCM_24K)
    for message in messages:
        before = len(phone.calls)
        phone.say(message)
        for call in phone.calls[before:]:
            call.send_media_to(ear)
            source.send_media_to(call)
            source.stream.push(noise(100))
        clock.advance(0.02)
    phone.line.ended(code=1006, reason="", was_clean=False)
    assert all(call.closed for call in phone.calls)
    assert (source.streams, ear.streams) == ((), ())
