"""An encoding is understood in every spelling that peers use, or refused with what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.formats import (
    ALAW_8K,
    ENCODINGS,
    OPUS_48K,
    PCM_8K,
    PCM_16K,
    PCM_24K,
    ULAW_8K,
    AudioFormat,
    audio_format,
    check_whole,
)
from voxnb.errors import AudioError
from voxnb.voxengine import WebSocketAudioEncoding


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("PCM8", PCM_8K), ("PCM16_8KHZ", PCM_8K), ("PCM16", PCM_16K), ("PCM16_16KHZ", PCM_16K), ("ULAW", ULAW_8K),
        ("ALAW", ALAW_8K), ("OPUS", OPUS_48K), ("audio/x-mulaw", ULAW_8K), ("audio/x-alaw", ALAW_8K),
        ("audio/l16", PCM_16K), ("audio/x-l16", PCM_16K), ("audio/L16;rate=24000;channels=1", PCM_24K),
        ("audio/pcm", PCM_24K), ("audio/pcmu", ULAW_8K), ("audio/pcma", ALAW_8K), ("g711_ulaw", ULAW_8K),
        ("audio/basic", ULAW_8K), ("audio/opus", OPUS_48K), ("audio/ogg", OPUS_48K),
        ({"encoding": "PCM16", "sampleRate": 16000}, PCM_16K), ({"encoding": "PCM16", "sampleRate": "8000"}, PCM_8K),
        ({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}, ULAW_8K),
        ({"type": "audio/pcm", "rate": 24000}, PCM_24K), ({"type": "audio/pcmu"}, ULAW_8K), (PCM_24K, PCM_24K),
        (WebSocketAudioEncoding.PCM16_8KHZ, PCM_8K),
    ],
)  # fmt: skip
def test_a_spelling_means_its_format(said, meant):
    assert audio_format(said) == meant


@pytest.mark.parametrize("encoding", list(WebSocketAudioEncoding))
def test_every_documented_encoding_has_a_format(encoding):
    assert ENCODINGS[encoding].encoding == encoding.value


@pytest.mark.parametrize(
    "said",
    [
        None, 7, "", "PCM", "PCM17", "audio/mp3", {"encoding": "ULAW", "sampleRate": 16000}, {"sampleRate": 8000},
        {"encoding": "PCM16", "sampleRate": 0}, {"encoding": "PCM16", "sampleRate": True},
        {"encoding": "PCM16", "sampleRate": 1.5}, {"encoding": "PCM16", "sampleRate": "8k"},
        {"encoding": "PCM16", "sampleRate": 16000, "channels": 2}, {"encoding": "PCM16", "sampleRate": "٨٠٠٠"},
        "audio/l16;rate=999999999",
    ],
)  # fmt: skip
def test_what_is_no_encoding_is_refused(said):
    if said == "PCM":
        assert audio_format(said) == PCM_24K  # OpenAI's name without its prefix
        return
    with pytest.raises(AudioError):
        audio_format(said)


def test_a_slip_names_what_was_meant():
    with pytest.raises(AudioError, match="did you mean 'PCM16'"):
        audio_format("PCM61")


@given(st.text() | st.dictionaries(st.sampled_from(["encoding", "sampleRate", "channels", "type", "rate"]), st.text()))
def test_any_text_is_a_format_or_an_audio_error(said):
    try:
        assert isinstance(audio_format(said), AudioFormat)
    except AudioError as error:
        assert str(error)


@pytest.mark.parametrize("form", [PCM_8K, PCM_16K, PCM_24K, ULAW_8K, ALAW_8K])
def test_a_frame_lasts_twenty_milliseconds(form):
    assert form.duration_ms(form.frame_bytes) == 20.0


def test_half_a_sample_is_refused():
    with pytest.raises(AudioError, match="3 bytes end within a sample") as caught:
        check_whole(b"abc", PCM_16K)
    assert caught.value.size_bytes == 3
    check_whole(b"abc", ULAW_8K)


def test_opus_has_no_bytes_per_sample():
    with pytest.raises(AudioError, match="decode it first"):
        _ = OPUS_48K.sample_bytes
