"""Captions of a call: lines by item, the shape of their sound, and how much of it was heard."""

import numpy as np
import pytest

from voxnb.audio.formats import PCM_24K, ULAW_8K
from voxnb.events import RealtimeAPIEvents as E
from voxnb.events import SessionEvents
from voxnb.notebook.captions import KEPT, MOST_SHOWN, MOST_TEXT, STEPS, Captions, columns


def pcm(*peaks, ms=50, rate_hz=24_000):
    return b"".join(np.full(rate_hz * ms // 1000, peak, "<i2").tobytes() for peak in peaks)


@pytest.mark.parametrize(("peak", "step"), [(0, 0), (32_767, 35), (-32_768, 35), (327, 3)])
def test_loudness_is_a_step_on_a_scale_on_which_speech_is_seen(peak, step):
    assert columns(pcm(peak, peak), rate_hz=24_000) == [step, step]


def test_half_a_column_counts_and_half_a_sample_does_not():
    assert columns(pcm(32_767, ms=75) + b"\1", rate_hz=24_000) == [35, 35]
    assert columns(b"\1", rate_hz=24_000) == []


def test_deltas_grow_a_line_and_its_end_replaces_them():
    captions = Captions()
    for delta in ("I am", " Ann"):
        assert captions.note(E.ConversationItemInputAudioTranscriptionDelta.value, {"item_id": "a", "delta": delta})
    assert captions.shown()["a"]["text"] == "I am Ann"
    captions.note(E.ConversationItemInputAudioTranscriptionCompleted.value, {"item_id": "a", "transcript": "I am Ann."})
    captions.note(E.ResponseOutputAudioTranscriptDelta.value, {"item_id": "b", "delta": "Hi."})
    assert [(line["who"], line["text"], line["state"]) for line in captions.shown().values()] == [
        ("user", "I am Ann.", "said"),
        ("model", "Hi.", "speaking"),
    ]
    assert not captions.note(E.RateLimitsUpdated.value, {})


def test_what_was_heard_grows_and_what_no_longer_sounds_was_heard_to_its_end():
    captions = Captions()
    assert captions.sound("b", pcm(0, 8_000, 32_767, 0), PCM_24K) == 35
    assert captions.heard({"b": 60.0})
    line = captions.shown()["b"]
    assert (line["shape"], line["received_ms"], line["heard_ms"], line["state"]) == ("0hz0", 200, 60, "speaking")
    assert not captions.heard({})
    line = captions.shown()["b"]
    assert (line["heard_ms"], line["state"]) == (200, "said")


def test_an_interruption_says_how_much_was_heard_and_nothing_changes_it_later():
    captions = Captions()
    captions.sound("b", pcm(9_000, 9_000), PCM_24K)
    told = {"items": [{"item_id": "b", "heard_ms": 40, "received_ms": 100}]}
    captions.note(SessionEvents.Interrupted.value, told)
    captions.heard({})
    line = captions.shown()["b"]
    assert (line["heard_ms"], line["received_ms"], line["state"]) == (40, 100, "interrupted")


def test_telephone_sound_has_a_shape_too():
    captions = Captions()
    assert captions.sound("b", bytes([0xFF]) * 400 + bytes([0x80]) * 400, ULAW_8K) > 30
    assert captions.shown()["b"]["shape"] == "0" + STEPS[35]


def test_memory_and_patches_are_bounded():
    captions = Captions()
    for n in range(500):
        captions.note(E.ResponseOutputTextDelta.value, {"item_id": str(n), "delta": "x" * 10_000})
    shown = captions.shown()
    assert list(shown) == [str(n) for n in range(500 - KEPT, 500)]
    assert {len(line["text"]) for line in shown.values()} == {MOST_TEXT}
    captions.sound("long", pcm(*[9_000] * 2_000), PCM_24K)
    assert len(captions.shown()["long"]["shape"]) <= MOST_SHOWN


@pytest.mark.parametrize("payload", [{}, {"item_id": None, "delta": None}, {"item_id": 7, "delta": 7}, {"items": None}])
def test_nonsense_breaks_nothing(payload):
    captions = Captions()
    for name in (E.ResponseOutputTextDelta, E.InputAudioBufferSpeechStarted, SessionEvents.Interrupted):
        captions.note(name.value, payload)
    captions.shown()
