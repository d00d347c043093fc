"""The speech engines: a fixed text comes back word for word, and no input or death of the child stops the next one."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from voxnb.audio.formats import ALAW_8K, PCM_16K, PCM_24K, ULAW_8K
from voxnb.errors import LocalModelError
from voxnb.local import speech
from voxnb.local.realtime.sound import converted
from voxnb.local.speech import SpeechEngines, sentences

pytestmark = pytest.mark.slow

SENTENCES = (
    "hello there how are you today",
    "please turn the light on in the house",
    "my name is john and i live in london",
    "one two three four five six seven",
    "thank you very much",
    "open the door please",
)


@pytest.mark.parametrize("text", SENTENCES)
def test_a_fixed_sentence_is_heard_word_for_word(text, engines):
    assert engines.hear(engines.speak(text)) == text


def test_the_same_text_sounds_the_same_every_time(engines):
    assert engines.speak("Good morning.") == engines.speak("Good morning.")


def test_what_was_heard_before_changes_nothing(engines):
    sound = engines.speak("thank you very much")
    noise = (np.random.default_rng(1).standard_normal(48_000) * 6_000).astype("<i2").tobytes()
    engines.hear(noise)
    assert engines.hear(sound) == "thank you very much"


@pytest.mark.parametrize("form", [PCM_16K, ULAW_8K, ALAW_8K], ids=str)
def test_other_formats_are_heard_too(form, engines):
    sound = converted(engines.speak("good morning"), PCM_24K, to=form)
    assert "morning" in engines.hear(sound, form)


@pytest.mark.parametrize("text", ["", "   ", "...", "\n"])
def test_nothing_to_say_is_silence(text, engines):
    assert engines.speak(text) == b""


@pytest.mark.parametrize("text", ["naïve café 你好 🎉", "a" * 300, "3.14 \x00 <b>&amp;</b>", "don't — won't"])
def test_odd_texts_are_survived(text, engines):
    engines.speak(text)
    assert engines.hear(engines.speak("open the door please")) == "open the door please"


@pytest.mark.parametrize("audio", [b"", bytes(2), bytes(480), bytes(48_000)])
def test_silence_has_no_words(audio, engines):
    assert engines.hear(audio) == ""


def test_a_dead_child_fails_one_request_and_the_next_starts_another(engines):
    os.kill(engines.pid, signal.SIGKILL)
    with (
        pytest.raises(LocalModelError, match="next use starts them again")
        if engines.pid
        else pytest.raises(LocalModelError)
    ):
        engines.speak("Good morning.")
        pytest.skip("it was noticed before the request")
    assert engines.speak("Good morning.")


def test_after_an_interrupt_the_next_request_gets_its_own_answer(engines, monkeypatch):
    class Interrupted:
        def __getattr__(self, name):
            return getattr(pipe, name)

        def read(self, size):
            raise KeyboardInterrupt

    said, process = engines.speak("Good morning."), engines._process
    with monkeypatch.context() as cell:
        pipe = process.stdout
        cell.setattr(process, "stdout", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            engines.speak("One two three four five six seven.")
    assert engines.speak("Good morning.") == said


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(speech, "PACKAGES", ("no_such_package",))
    with pytest.raises(LocalModelError, match=r"no_such_package: pip install 'voxnb\[voice\]'"):
        SpeechEngines().start()


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", []),
        ("One", ["One"]),
        ("It is 3.5 degrees. “Really?” Yes!", ["It is 3.5 degrees.", "“Really?", "Yes!"]),
    ],
)
def test_a_text_is_cut_after_its_sentences(text, cut):
    assert sentences(text) == cut
