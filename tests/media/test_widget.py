"""A browser hears in batches, says what it has played, and is heard; nonsense from it is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.ear import Ear, Source, noise
from voxnb.audio.formats import PCM_24K
from voxnb.audio.playout import Truncate
from voxnb.media import WidgetUnit
from voxnb.media.widget import BATCH_MS, LEAD_MS
from voxnb.testing.clock import VirtualClock


class Browser:
    """What a page does with the messages: it plays, and counts."""

    def __init__(self):
        self.messages = []
        self.heard = b""

    def post(self, message, buffers):
        self.messages.append(message)
        self.heard += b"".join(buffers)

    def kinds(self):
        return [m["kind"] for m in self.messages]


@pytest.fixture
def browser():
    return Browser()


def test_a_burst_is_one_message_and_then_one_per_batch(clock, browser):
    source, unit = Source(clock), WidgetUnit(browser.post, clock=clock)
    source.send_media_to(unit)
    source.stream.push(noise(3000))
    clock.advance(0)
    assert len(browser.heard) / 48 >= LEAD_MS
    burst = len(browser.messages)
    assert burst <= LEAD_MS / BATCH_MS + 2
    clock.advance(4)
    assert browser.heard == noise(3000)
    assert len(browser.messages) - burst <= (3000 - LEAD_MS) / BATCH_MS + 2
    assert {(m["lane"], m["generation"], m["rate_hz"]) for m in browser.messages} == {(1, 0, 24_000)}


def test_the_browser_always_has_audio_in_hand(clock, browser):
    source, unit = Source(clock), WidgetUnit(browser.post, clock=clock)
    source.send_media_to(unit)
    source.stream.push(noise(3000))
    for step in range(1, 260):
        clock.advance(0.01)
        assert len(browser.heard) / 48 - step * 10 >= LEAD_MS - BATCH_MS - 40


def test_what_the_browser_has_played_is_what_was_heard(clock, browser):
    source, unit = Source(clock), WidgetUnit(browser.post, clock=clock)
    source.send_media_to(unit)
    source.stream.push(noise(1000), item_id="a", response_id="r")
    clock.advance(0.5)
    unit.receive({"kind": "played", "lane": 1, "generation": 0, "samples": 6000.0})
    assert source.stream.interrupt() == [Truncate("a", 0, 250)]
    assert browser.messages[-1] == {"kind": "clear", "lane": 1, "generation": 1}
    unit.receive({"kind": "played", "lane": 1, "generation": 0, "samples": 9000})
    source.stream.push(noise(100), item_id="b", response_id="s")
    assert source.stream.heard_ms("b") == 0
    unit.receive({"kind": "played", "lane": 1, "generation": 1, "samples": 1200})
    assert source.stream.heard_ms("b") == 50


def test_the_browser_is_heard_at_the_rate_it_says(clock, browser):
    unit, ear = WidgetUnit(browser.post, clock=clock), Ear(clock, form=PCM_24K)
    unit.send_media_to(ear)
    unit.receive({"kind": "audio", "rate_hz": 48_000}, [memoryview(bytes(960)), bytes(960)])
    assert len(ear.data) == 960
    unit.receive({"kind": "audio"}, [noise(20)])
    assert ear.data[960:] == noise(20)


def test_the_end_of_a_stream_is_told_after_its_last_audio(clock, browser):
    source, unit = Source(clock), WidgetUnit(browser.post, clock=clock)
    source.send_media_to(unit)
    source.stream.push(noise(20))
    unit.close()
    assert browser.kinds() == ["audio", "end"]
    unit.receive({"kind": "played", "lane": 1, "generation": 0, "samples": 1})
    assert unit.ignored == 1
    assert clock.waiting == 0


def test_a_widget_that_is_gone_is_reported_once_and_harms_nobody(clock, capsys):
    def post(message, buffers):
        raise RuntimeError("comm closed")

    source, unit, ear = Source(clock), WidgetUnit(post, clock=clock), Ear(clock)
    source.send_media_to(unit)
    source.send_media_to(ear)
    for stream in source.feeding:
        stream.push(noise(1000))
    clock.advance(2)
    assert ear.data == noise(1000)
    assert capsys.readouterr().err.count("comm closed") == 1


@pytest.mark.parametrize(
    ("message", "buffers"),
    [
        ({}, []), ({"kind": "audio"}, [b"abc"]), ({"kind": "audio", "rate_hz": "fast"}, [b"ab"]), (None, []),
        ({"kind": "audio"}, [bytes(2_000_000)]), ({"kind": "audio"}, ["text"]), ({"kind": "played"}, []),
        ({"kind": "played", "lane": 9, "generation": 0, "samples": 1}, []),
        ({"kind": "played", "lane": 1, "generation": 0, "samples": -1}, []),
        ({"kind": "played", "lane": 1, "generation": True, "samples": 1}, []),
        ({"kind": "played", "lane": 1, "generation": 0, "samples": float("inf")}, []),
        ({"kind": "played", "lane": 1, "generation": 0, "samples": float("nan")}, []),
    ],
)  # fmt: skip
def test_nonsense_is_counted_and_ignored(clock, browser, message, buffers):
    source, unit = Source(clock), WidgetUnit(browser.post, clock=clock)
    source.send_media_to(unit)
    unit.receive(message, buffers)
    assert unit.ignored == 1


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["kind", "lane", "generation", "samples", "rate_hz"]), json)
    | st.fixed_dictionaries(
        {"kind": st.sampled_from(["audio", "played"]), "lane": json, "generation": json, "samples": json}
    ),
    st.lists(st.binary(max_size=20), max_size=3),
)
def test_any_message_is_survived(message, buffers):
    clock = VirtualClock()
    unit, ear = WidgetUnit(lambda *_: None, clock=clock), Ear(clock)
    unit.send_media_to(ear)
    unit.receive(message, buffers)
