"""Sound from a program and sound for one: a player and a listener."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.media.ear import Ear, Source, noise
from voxnb.audio.formats import PCM_8K, PCM_16K
from voxnb.errors import AudioError, ParameterError
from voxnb.media import Listener, Player

WAIT_S = 30


def test_what_a_player_is_given_is_heard_in_order_and_in_real_time(clock):
    player, ear = Player(clock=clock), Ear(clock)
    player.send_media_to(ear)
    player.play(noise(400))
    player.play(noise(600))
    assert 960 <= player.waiting_ms <= 1000
    clock.advance(0.5)
    assert 480 <= len(ear.data) / 48 <= 520
    clock.advance(1)
    assert ear.data == noise(400) + noise(600)
    assert player.waiting_ms == 0


def test_clearing_drops_what_has_not_sounded(clock):
    player, ear = Player(rate_hz=16_000, clock=clock), Ear(clock, form=PCM_16K)
    player.send_media_to(ear)
    player.play(noise(1000, PCM_16K))
    clock.advance(0.4)
    player.clear_media_buffer()
    clock.advance(2)
    assert len(ear.data) / 32 <= 420
    player.play(noise(100, PCM_16K))
    clock.advance(1)
    assert ear.data.endswith(noise(100, PCM_16K))


def test_where_nobody_hears_it_is_dropped_and_counted(clock):
    player = Player(clock=clock)
    player.play(noise(200))
    assert (player.dropped_ms, player.waiting_ms) == (200, 0)
    player.close()


@pytest.mark.parametrize("make", [lambda: Player(rate_hz=11), lambda: Listener(print, rate_hz=11)])
def test_a_rate_that_is_none_is_refused(make):
    with pytest.raises(AudioError, match="sample rate of 11 Hz"):
        make()


def test_half_a_sample_is_refused(clock):
    with pytest.raises(AudioError):
        Player(clock=clock).play(b"abc")


def test_samples_in_an_array_are_played_as_they_are(clock):
    player, ear = Player(clock=clock), Ear(clock)
    player.send_media_to(ear)
    player.play(np.frombuffer(noise(1000), "<i2")[:23_999])
    clock.advance(2)
    assert ear.data[:47_998] == noise(1000)[:47_998]


@pytest.mark.parametrize("sound", [np.zeros(480, "f4"), "sound", None, 5, [0.5]])
def test_what_is_no_16_bit_sound_is_refused_rather_than_played_as_noise(clock, sound):
    with pytest.raises(AudioError, match=r"takes 16-bit PCM as bytes, not .*astype"):
        Player(clock=clock).play(sound)


def test_two_channels_are_refused_rather_than_played_one_after_the_other(clock):
    with pytest.raises(AudioError, match=r"takes mono, not an array of \(480, 2\)"):
        Player(clock=clock).play(np.zeros((480, 2), "<i2"))
    Player(clock=clock).play(np.zeros((480, 1), "<i2"))


def test_a_listener_without_a_function_is_refused():
    with pytest.raises(ParameterError, match="cannot be called"):
        Listener(None)


def listening(clock, function, **options):
    source, listener = Source(clock), Listener(function, clock=clock, **options)
    source.send_media_to(listener)
    return source, listener


def test_a_listener_gets_every_frame_in_a_thread_of_its_own(clock):
    heard, threads, whole = [], set(), threading.Event()

    def hear(data):
        heard.append(data)
        threads.add(threading.current_thread().name)
        if len(heard) == 25:
            whole.set()

    source, listener = listening(clock, hear)
    source.stream.push(noise(500))
    clock.advance(1)
    assert whole.wait(WAIT_S)
    assert (b"".join(heard), {len(data) for data in heard}) == (noise(500), {960})
    assert threads == {"voxnb-listener"}
    listener.close()
    clock.advance(0.1)
    listener._thread.join(WAIT_S)
    assert not listener._thread.is_alive()


def test_a_listener_hears_at_the_rate_that_it_asked_for(clock):
    sizes, some = [], threading.Event()
    source, listener = listening(clock, lambda data: (sizes.append(len(data)), some.set()), rate_hz=PCM_8K.rate_hz)
    source.stream.push(noise(500))
    clock.advance(1)
    assert some.wait(WAIT_S)
    listener.close()
    assert set(sizes) == {320}


def test_a_function_that_raises_is_reported_once_and_called_again(clock, capsys):
    calls, enough = [], threading.Event()

    def fail(data):
        calls.append(data)
        if len(calls) == 5:
            enough.set()
        raise ValueError("no words")

    source, listener = listening(clock, fail)
    source.stream.push(noise(100))
    clock.advance(1)
    assert enough.wait(WAIT_S)
    listener.close()
    listener._thread.join(WAIT_S)
    assert capsys.readouterr().err == "voxnb: the function of a Listener raised ValueError: no words\n"


def test_a_function_that_is_slow_loses_the_oldest(clock):
    go_on, first = threading.Event(), threading.Event()

    def slow(data):
        first.set()
        go_on.wait(WAIT_S)

    source, listener = listening(clock, slow)
    source.stream.push(noise(20))
    clock.advance(0.1)
    assert first.wait(WAIT_S)
    for _ in range(12):
        source.stream.push(noise(1000))
        clock.advance(1)
    assert 1_900 <= listener.dropped_ms <= 2_000
    go_on.set()
    listener.close()
