"""Units send each other audio in frames of 20 ms, in the format both ends want, and say when sound begins and ends."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.ear import Ear, Source, noise
from voxnb.audio.formats import ALAW_8K, PCM_8K, PCM_16K, PCM_24K, ULAW_8K
from voxnb.audio.playout import Delete, Truncate
from voxnb.errors import AudioError, ParameterError
from voxnb.media import send_media_between
from voxnb.media.clock import LIVE_SWITCH_S, LOOP
from voxnb.media.stream import Sink
from voxnb.testing.clock import VirtualClock

# -- pacing -------------------------------------------------------------------------------------


def test_a_burst_is_heard_in_real_time_to_the_sample(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    data = noise(1000)
    source.stream.push(data)
    assert [at for at, _ in ear.heard] == [1000.0]
    clock.advance(0.5)
    assert len(ear.heard) == 26
    clock.advance(10)
    assert ear.data == data
    assert [at for at, _ in ear.heard] == pytest.approx([1000 + 0.02 * i for i in range(50)])
    assert [frame.position_samples for _, frame in ear.heard] == [480 * i for i in range(50)]


@given(cuts=st.lists(st.integers(0, 3000), min_size=1, max_size=20))
def test_the_cut_of_what_is_pushed_changes_nothing_that_is_heard(cuts):
    clock = VirtualClock()
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    data = np.random.default_rng(0).integers(0, 256, 2 * sum(cuts)).astype(np.uint8).tobytes()
    at = 0
    for cut in cuts:
        source.stream.push(data[2 * at : 2 * (at + cut)])
        at += cut
    clock.advance(10)
    assert all(len(frame.data) == 960 for _, frame in ear.heard)
    assert ear.data[: len(data)] == data
    assert not any(ear.data[len(data) :])


def test_a_sink_with_a_lead_gets_frames_so_much_earlier_than_they_sound(clock):
    source, ear = Source(clock), Ear(clock, sink=Sink(lead_ms=60))
    source.send_media_to(ear)
    source.stream.push(noise(200))
    assert [frame.due_s for _, frame in ear.heard] == pytest.approx([1000, 1000.02, 1000.04, 1000.06])
    clock.advance(1)
    assert all(frame.due_s - at <= 0.06 + 1e-9 for at, frame in ear.heard)
    assert len(ear.heard) == 10


def test_a_sink_with_much_in_hand_gets_three_frames_at_a_time_and_never_runs_dry(clock):
    source, ear = Source(clock), Ear(clock, sink=Sink(lead_ms=200, elastic=True))
    source.send_media_to(ear)
    source.stream.push(noise(6000))
    clock.advance(7)
    early_ms = [(frame.due_s - at_s) * 1000 for at_s, frame in ear.heard]
    assert len(early_ms) == 300
    assert min(early_ms[10:]) >= 140 - 1
    assert max(early_ms) <= 200 + 1
    assert source.stream.woken.count <= 300 / 3 + 1
    assert source.stream.statistics()["late_frames"] == 0


def test_the_rest_of_an_utterance_is_held_for_a_frame_and_then_filled_up(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    data = noise(30)
    source.stream.push(data)
    clock.advance(0.039)
    assert len(ear.heard) == 1
    clock.advance(0.002)
    assert ear.data == data + bytes(480)


def test_the_rest_of_a_finished_utterance_is_not_held(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    source.stream.push(noise(30), item_id="a")
    source.stream.finish("a")
    clock.advance(0.0201)
    assert len(ear.heard) == 2


def test_an_unfinished_rest_goes_on_with_what_comes_next(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    data = noise(60)
    for at in range(0, len(data), 480):  # 10 ms at a time
        source.stream.push(data[at : at + 480])
        clock.advance(0.010)
    clock.advance(1)
    assert ear.data == data


def test_audio_in_real_time_passes_at_once(clock):
    source, ear = Source(clock, form=ULAW_8K), Ear(clock, form=PCM_24K)
    source.send_media_to(ear)
    source.stream.frame(noise(20, ULAW_8K))
    source.stream.frame(noise(20, ULAW_8K))
    assert [len(frame.data) for _, frame in ear.heard] == [960, 960]


def test_a_late_wake_up_is_counted_and_a_source_without_audio_is_another_thing(clock):
    source, ear = Source(clock), Ear(clock, sink=Sink(elastic=True))
    source.send_media_to(ear)
    source.stream.push(noise(40))
    clock._now_s += 0.05  # the process stood still
    clock.advance(0)
    statistics = source.stream.statistics()
    assert (statistics["late_frames"], statistics["starved"]) == (1, 0)
    assert statistics["late_max_ms"] == pytest.approx(30)
    clock.advance(0.045)
    source.stream.push(noise(20))
    assert source.stream.statistics()["starved"] == 1


# -- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [ULAW_8K, ALAW_8K, PCM_16K])
def test_what_both_ends_speak_passes_untouched(clock, form):
    source, ear = Source(clock, form=form), Ear(clock)
    source.send_media_to(ear)
    assert source.stream.is_passthrough
    data = noise(100, form)
    source.stream.push(data)
    clock.advance(1)
    assert ear.data == data


@pytest.mark.parametrize(
    ("encoding", "form"),
    [("PCM8", PCM_8K), ("PCM16_16KHZ", PCM_16K), ("ULAW", ULAW_8K), ("audio/x-alaw", ALAW_8K), (None, PCM_24K)],
)
def test_an_encoding_that_was_asked_for_is_what_is_heard(clock, encoding, form):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear, encoding=encoding)
    source.stream.push(noise(100))
    clock.advance(1)
    assert {frame.format for _, frame in ear.heard} == {form}
    assert {len(frame.data) for _, frame in ear.heard} == {form.frame_bytes}


def test_a_source_may_change_its_format_on_the_way(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    source.stream.push(ULAW_8K.silence * 160, form=ULAW_8K)
    clock.advance(1)
    assert ear.data == bytes(960)


# -- several streams ----------------------------------------------------------------------------


def test_tagged_streams_to_several_units_are_independent(clock):
    source, one, other = Source(clock), Ear(clock), Ear(clock)
    source.send_media_to(one, tag="a")
    source.send_media_to(one, tag="b", encoding="ULAW")
    source.send_media_to(other, tag="a")
    assert len(source.streams) == 3
    for stream in source.feeding:
        stream.push(noise(100))
    clock.advance(0.05)
    source.clear_media_buffer(tag="a")
    clock.advance(1)
    heard = {tag: sum(s.traffic.frames for s in source.feeding if s.tag == tag) for tag in "ab"}
    assert heard == {"a": 6, "b": 5}
    assert one.life == [("opened", "a"), ("opened", "b"), ("cleared", "a")]


def test_sending_twice_is_sending_once_and_another_encoding_starts_anew(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    source.send_media_to(ear)
    assert ear.life == [("opened", "")]
    source.send_media_to(ear, encoding="ULAW")
    assert ear.life == [("opened", ""), ("closed", ""), ("opened", "")]
    assert len(source.feeding) == 1


def test_a_stream_that_was_stopped_is_heard_no_more(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear, {"tag": "a"})
    stream = source.stream
    stream.push(noise(1000))
    source.stop_media_to(ear, tag="b")
    assert stream.is_open
    source.stop_media_to(ear)
    assert (source.feeding, ear.life) == ([], [("opened", "a"), ("closed", "a")])
    assert stream.push(noise(20)) == 0
    clock.advance(5)
    assert len(ear.heard) == 1
    source.stop_media_to(ear)


def test_a_closed_unit_ends_its_streams_and_takes_no_more(clock):
    source, ear = Source(clock), Ear(clock)
    send_media_between(source, ear)
    ear._end_media()
    assert (source.streams, ear.streams) == ((), ())
    with pytest.raises(AudioError, match="closed"):
        source.send_media_to(ear)
    with pytest.raises(AudioError, match="closed"):
        ear.send_media_to(source)


def test_nothing_waits_on_the_clock_after_the_end(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    source.stream.push(noise(1000))
    source._end_media()
    assert clock.waiting == 0


# -- sound and silence --------------------------------------------------------------------------


def test_sound_starts_and_ends_with_a_second_of_silence(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear, {"tag": "a", "encoding": "PCM16", "customParameters": {"key": "value"}})
    source.stream.push(noise(2500))
    clock.advance(10)
    source.stream.push(noise(600))
    clock.advance(10)
    assert source.told == [
        (1000.0, "started", {"tag": "a", "encoding": "PCM16", "customParameters": {"key": "value"}}),
        (pytest.approx(1003.5), "ended", {"tag": "a", "mediaInfo": {"duration": 2}, "utterance_s": pytest.approx(2.5)}),
        (1010.0, "started", {"tag": "a", "encoding": "PCM16", "customParameters": {"key": "value"}}),
        (pytest.approx(1011.6), "ended", {"tag": "a", "mediaInfo": {"duration": 3}, "utterance_s": pytest.approx(0.6)}),
    ]


def test_what_is_missing_is_absent(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    source.stream.push(noise(20))
    clock.advance(2)
    assert [facts for _, _, facts in source.told] == [
        {"encoding": "PCM16"},
        {"mediaInfo": {"duration": 0}, "utterance_s": pytest.approx(0.02)},
    ]


def test_a_stop_ends_the_sound_at_once(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    source.stream.push(noise(5000))
    clock.advance(1.5)
    source.stop_media_to(ear)
    assert source.told[-1][:2] == (1001.5, "ended")
    clock.advance(9)
    assert len(source.told) == 2


def test_one_tag_on_two_streams_is_one_sound(clock):
    source, one, other = Source(clock), Ear(clock), Ear(clock)
    source.send_media_to(one)
    source.send_media_to(other)
    for stream in source.feeding:
        stream.push(noise(2000))
    clock.advance(0.5)
    source.stop_media_to(one)
    clock.advance(9)
    assert [what for _, what, _ in source.told] == ["started", "ended"]
    assert source.told[-1][0] == pytest.approx(1003.0)


# -- interruptions ------------------------------------------------------------------------------


def test_an_interruption_stops_the_sound_and_tells_what_was_heard(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    stream = source.stream
    stream.push(noise(500), item_id="a", response_id="r1")
    stream.push(noise(500), item_id="b", response_id="r1")
    clock.advance(0.213)
    assert stream.is_playing
    assert stream.heard_ms("a") == pytest.approx(213, abs=0.1)
    assert stream.interrupt() == [Truncate("a", 0, 213), Delete("b")]
    assert not stream.is_playing
    assert ear.life[-1] == ("cleared", "")
    frames = len(ear.heard)
    stream.push(noise(500), item_id="b", response_id="r1")
    clock.advance(0.5)
    assert len(ear.heard) == frames
    stream.push(noise(20), item_id="c", response_id="r2")
    assert len(ear.heard) == frames + 1
    clock.advance(9)
    assert [what for _, what, _ in source.told] == ["started", "ended"]


def test_a_stream_without_audio_can_be_interrupted(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    assert source.stream.interrupt() == []
    assert source.stream.clear() == 0


# -- what is not meant --------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [None, "call", object()])
def test_what_is_no_unit_is_refused(clock, unit):
    with pytest.raises(ParameterError, match="is no media unit"):
        Source(clock).send_media_to(unit)
    with pytest.raises(ParameterError):
        Source(clock).stop_media_to(unit)
    with pytest.raises(ParameterError):
        send_media_between(Source(clock), unit)


def test_a_unit_does_not_hear_itself(clock):
    source = Source(clock)
    with pytest.raises(ParameterError, match="cannot send to itself"):
        source.send_media_to(source)


def test_a_parameter_that_is_not_known_names_the_nearest(clock):
    with pytest.raises(ParameterError, match="did you mean 'encoding'"):
        Source(clock).send_media_to(Ear(clock), {"encodng": "ULAW"})
    with pytest.raises(ParameterError, match="mapping"):
        Source(clock).clear_media_buffer("a")
    with pytest.raises(ParameterError, match="a tag is a line"):
        Source(clock).clear_media_buffer(tag=5)


@pytest.mark.parametrize(
    "bad",
    [
        {"tag": 5},
        {"tag": "a\nb"},
        {"tag": "\ud800"},
        {"tag": "x" * 999},
        {"encoding": "MP3"},
        {"custom_parameters": "x"},
    ],
)
def test_parameters_that_make_no_sense_are_refused_before_anything_happens(clock, bad):
    source, ear = Source(clock), Ear(clock)
    with pytest.raises((AudioError, ParameterError)):
        source.send_media_to(ear, **bad)
    assert source.streams == ()


def test_half_a_sample_is_refused_and_the_stream_goes_on(clock):
    source, ear = Source(clock), Ear(clock)
    source.send_media_to(ear)
    for give in (source.stream.push, source.stream.frame):
        with pytest.raises(AudioError, match="within a sample"):
            give(b"abc")
    source.stream.push(noise(20))
    assert len(ear.heard) == 1


# -- the real clock -----------------------------------------------------------------------------


def test_on_the_background_loop_audio_flows_while_a_cell_waits():
    class Listener(Ear):
        def _heard(self, stream, frame):
            super()._heard(stream, frame)
            if len(self.heard) == 10:
                done.set()

    done = threading.Event()
    before_s = sys.getswitchinterval()
    source, ear = Source(LOOP), Listener(LOOP)
    opened = threading.Event()
    source.send_media_to(ear)
    LOOP.call_soon(lambda: (source.stream.push(noise(200)), opened.set()))
    assert opened.wait(30)
    assert sys.getswitchinterval() == pytest.approx(LIVE_SWITCH_S)
    assert done.wait(30)
    over = threading.Event()
    LOOP.call_soon(lambda: (source._end_media(), over.set()))
    assert over.wait(30)
    assert sys.getswitchinterval() == before_s
    assert ear.data == noise(200)
    assert ear.heard[-1][0] - ear.heard[0][0] >= 0.178
