"""Resampling does not depend on how the audio was cut, holds 2 ms back, and keeps what is in the band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio.formats import ALAW_8K, OPUS_48K, PCM_8K, PCM_16K, PCM_24K, ULAW_8K
from voxnb.audio.resample import DELAY_MS, Resampler
from voxnb.audio.transcode import Transcoder
from voxnb.errors import AudioError

RATES = (8_000, 16_000, 24_000, 48_000)
PAIRS = [(a, b) for a in RATES for b in RATES if a != b] + [(44_100, 24_000), (24_000, 44_100), (22_050, 24_000)]


def tone(rate_hz, *, frequency_hz, seconds=0.5, amplitude=10_000, delay_s=0.0):
    return amplitude * np.sin(2 * np.pi * frequency_hz * (np.arange(int(rate_hz * seconds)) / rate_hz - delay_s))


def pcm(samples):
    return np.rint(samples).astype("<i2").tobytes()


def samples(data):
    return np.frombuffer(data, "<i2").astype(float)


def power(x):
    return float((x**2).mean())


@given(
    rates=st.sampled_from(PAIRS),
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 1500), min_size=1, max_size=12),
)
def test_the_cut_of_the_input_changes_no_bit(rates, seed, cuts):
    noise = np.random.default_rng(seed).integers(-32_768, 32_768, sum(cuts)).astype("<i2").tobytes()
    whole = Resampler(*rates)
    expected = whole.feed(noise) + whole.flush()
    piecewise = Resampler(*rates)
    got, at = b"", 0
    for cut in cuts:
        got += piecewise.feed(noise[at : at + 2 * cut])
        at += 2 * cut
    assert got + piecewise.flush() == expected


@given(rates=st.sampled_from(PAIRS), count=st.integers(1, 5000))
def test_all_that_goes_in_comes_out_with_the_delay(rates, count):
    resampler = Resampler(*rates)
    got = resampler.feed(bytes(2 * count)) + resampler.flush()
    assert len(got) // 2 == round(count * rates[1] / rates[0] + DELAY_MS / 1000 * rates[1])


@pytest.mark.parametrize("rates", PAIRS)
def test_a_second_use_starts_from_nothing(rates):
    resampler = Resampler(*rates)
    noise = np.random.default_rng(1).integers(-9999, 9999, 3000).astype("<i2").tobytes()
    first = resampler.feed(noise) + resampler.flush()
    assert resampler.feed(noise) + resampler.flush() == first


@pytest.mark.parametrize("rates", [(a, b) for a in RATES for b in RATES if a != b])
def test_a_frame_of_twenty_milliseconds_comes_out_whole(rates):
    resampler = Resampler(*rates)
    sizes = {len(resampler.feed(bytes(rates[0] // 50 * 2))) for _ in range(10)}
    assert sizes == {rates[1] // 50 * 2}


@pytest.mark.parametrize("frequency_hz", [300, 1000, 3000])
@pytest.mark.parametrize("rates", PAIRS)
def test_a_tone_in_the_band_is_the_same_tone_two_milliseconds_later(rates, frequency_hz):
    got = samples(Resampler(*rates).feed(pcm(tone(rates[0], frequency_hz=frequency_hz))))
    expected = tone(rates[1], frequency_hz=frequency_hz, delay_s=DELAY_MS / 1000)[: len(got)]
    settled = slice(rates[1] // 50, None)
    snr_db = 10 * np.log10(power(expected[settled]) / power(got[settled] - expected[settled]))
    assert snr_db > 80


@pytest.mark.parametrize("rates", [(24_000, 8_000), (48_000, 8_000), (16_000, 8_000), (24_000, 16_000)])
def test_a_tone_above_the_band_is_gone(rates):
    beyond_hz = rates[1] / 2 * 1.25
    got = samples(Resampler(*rates).feed(pcm(tone(rates[0], frequency_hz=beyond_hz, amplitude=20_000))))
    assert power(got[rates[1] // 50 :]) <= 1  # the rounding of the input


@pytest.mark.parametrize("value", [-32_768, -1, 0, 1, 12_345, 32_767])
@pytest.mark.parametrize("rates", PAIRS)
def test_a_constant_stays_that_constant(rates, value):
    got = samples(Resampler(*rates).feed(np.full(rates[0] // 10, value, "<i2").tobytes()))
    assert set(got[rates[1] // 100 :].tolist()) == {value}


@given(st.lists(st.integers(1, 240), max_size=40))
def test_the_loudest_input_is_cut_off_and_never_turns_over(lengths):
    lengths = [*lengths, 480]  # more than the delay
    values = np.repeat(np.resize([-32_768, 32_767], len(lengths)), lengths)
    low = samples(Resampler(8_000, 24_000).feed(np.array(values, "<i2").tobytes()))
    assert low.min() >= -32_768
    assert low.max() <= 32_767
    reference = np.repeat(np.array(values, float), 3)[: len(low)]
    # A wrapped sample would be on the other side of a long run of equal ones.
    run = np.convolve(np.sign(reference), np.ones(99), "valid")
    settled = np.abs(run) == 99
    delayed = low[96 : 96 + len(run)]
    assert (np.sign(delayed[settled[: len(delayed)]]) == np.sign(run[: len(delayed)])[settled[: len(delayed)]]).all()


def test_equal_rates_pass_through():
    assert Resampler(16_000, 16_000).feed(b"ab") == b"ab"
    assert Resampler(16_000, 16_000).flush() == b""


@pytest.mark.parametrize("rates", [(0, 8000), (8000, -1), (8000, 10**9), (24_000, 24_001)])
def test_rates_that_make_no_sense_are_refused(rates):
    with pytest.raises(AudioError):
        Resampler(*rates)


def test_half_a_sample_is_refused():
    with pytest.raises(AudioError):
        Resampler(8000, 24_000).feed(b"abc")


# -- formats ------------------------------------------------------------------------------------

FORMS = [PCM_8K, PCM_16K, PCM_24K, ULAW_8K, ALAW_8K]


@pytest.mark.parametrize("form_in", FORMS)
@pytest.mark.parametrize("form_out", FORMS)
def test_a_frame_of_any_format_becomes_a_frame_of_any_other(form_in, form_out):
    transcoder = Transcoder(form_in, form_out)
    assert transcoder.is_passthrough == (form_in == form_out)
    for _ in range(3):
        assert len(transcoder.feed(form_in.silence * form_in.frame_samples)) == form_out.frame_bytes
    rest = transcoder.flush()
    assert len(rest) == (0 if form_in.rate_hz == form_out.rate_hz else form_out.rate_hz // 500 * form_out.sample_bytes)


@pytest.mark.parametrize("form_in", FORMS)
@pytest.mark.parametrize("form_out", FORMS)
def test_silence_stays_silence(form_in, form_out):
    heard = Transcoder(form_in, form_out).feed(form_in.silence * form_in.frame_samples)
    back = Transcoder(form_out, PCM_8K).feed(heard) if form_out != PCM_8K else heard
    assert max(abs(samples(back))) <= 10  # A-law has no zero: its least value is 8


def test_opus_is_packets_and_no_samples():
    with pytest.raises(AudioError, match="decode it"):
        Transcoder(OPUS_48K, PCM_8K)
