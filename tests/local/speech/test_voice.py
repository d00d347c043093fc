"""A spoken conversation from sound to sound: microphone side, Realtime server, ears, a language model, a voice, and back."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.local.realtime.line import talk
from voxnb import testing
from voxnb.audio.formats import PCM_24K, ULAW_8K
from voxnb.errors import LocalModelError
from voxnb.local.realtime import Heard, Manner, RealtimeServer, Rehearsal, Script, View, tone
from voxnb.local.realtime.sound import converted
from voxnb.local.talker import INSTRUCTIONS, Language, Talker
from voxnb.local.vad import webrtc
from voxnb.local.voice import Voice

pytestmark = pytest.mark.slow

ANSWERS = {
    "please turn the light on in the house": "Thank you very much. Open the door please.",
    "my name is john and i live in london": "Good morning. How much does it cost?",
}


def answered(request):
    """What a very small language model would say."""
    return ANSWERS[request.text]


def said(events):
    """The sound and the words of the last answer."""
    sound = b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
    done = [e for e in events if e["type"] == "response.done"][-1]["response"]
    return sound, done["output"][0]["content"][0]["transcript"]


def conversation(engines):
    async def scene(line):
        hearing = {
            "transcription": {"model": "gpt-4o-transcribe"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
        }
        await line.until("session.created")
        await line.send("session.update", session={"type": "realtime", "audio": {"input": hearing}})
        out = []
        for question in ANSWERS:
            line.events.clear()
            sound = bytes(48 * 300) + engines.speak(question) + bytes(48 * 600)
            for start in range(0, len(sound), 4_800):
                piece = base64.b64encode(sound[start : start + 4_800]).decode()
                await line.send("input_audio_buffer.append", audio=piece)
            await line.until("response.done")
            heard = [e["transcript"] for e in line.events if e["type"].endswith("transcription.completed")]
            if not heard:
                heard = [(await line.until("conversation.item.input_audio_transcription.completed"))["transcript"]]
            out.append((heard, *said(line.events)))
        return out

    return scene


def test_words_survive_the_way_there_and_back(engines):
    with testing.server(answered) as language, Voice(language.base_url, language_model="gpt-4o") as voice:
        turns = talk(voice, conversation(engines))
        assert "Voice on port" in repr(voice)
    for (heard, sound, words), (question, answer) in zip(turns, ANSWERS.items(), strict=True):
        assert heard == [question]
        assert words == answer
        assert engines.hear(sound).split() == answer.lower().replace(".", "").replace("?", "").split()
    assert [m["role"] for m in language.requests[-1].messages] == ["system", "user", "assistant", "user"]
    assert not voice.is_running


def test_speech_is_understood_once_and_also_where_no_transcript_is_wanted(engines):
    with testing.server(answered) as language:
        talker = Talker(engines, language.base_url, model="gpt-4o")
        question = "my name is john and i live in london"
        item = {
            "id": "item_1",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        view = View(number=1, session={}, response={}, items=[item], audio=engines.speak(question))
        parts = list(talker.answer(view))
        assert [p.text for p in parts] == ["Good morning.", " How much does it cost?"]
        assert all(p.audio for p in parts)
        heard = Heard(1, "item_1", b"", PCM_24K, {})
        assert talker.transcribe(heard) == question  # from memory: the sound here is empty
        silence = Heard(2, "item_2", bytes(48_000), PCM_24K, {})
        assert talker.transcribe(silence) is None


def language_brain(server, **settings):
    return Language(server.base_url, api_key=server.api_key, model="gpt-4o", **settings)


def test_a_language_model_answers_in_the_artificial_voice():
    with testing.server("It is cold. Put on a coat!", require_key=True) as language:
        with RealtimeServer(language_brain(language, hears="How is the weather?"), manner=Manner(speed=50)) as server:

            async def scene(line):
                hearing = {"transcription": {"model": "whisper-1"}}
                await line.send("session.update", session={"type": "realtime", "audio": {"input": hearing}})
                await line.say("How is the weather?")
                await line.until("conversation.item.input_audio_transcription.completed")
                if not any(e["type"] == "response.done" for e in line.events):
                    await line.until("response.done")
                return said(line.events)

            sound, words = talk(server, scene)
    assert words == "It is cold. Put on a coat!"
    assert sound == tone("It is cold.") + tone("Put on a coat!")
    assert language.requests[0].messages[0] == {"role": "system", "content": INSTRUCTIONS}


def test_a_session_of_text_is_written_without_a_voice():
    with testing.server("It is cold. Put on a coat!") as language:
        view = View(number=1, session={"output_modalities": ["text"], "max_output_tokens": 7}, response={}, items=[])
        parts = list(language_brain(language, voice=lambda _text: 1 / 0).answer(view))
        assert "".join(p.text for p in parts).startswith("It is cold.")
        assert language.requests[0].json["max_tokens"] == 7


@pytest.mark.parametrize("reply", [500, testing.Drop(), b"<html>"])
def test_a_language_model_that_fails_fails_the_response(reply):
    with testing.server(reply) as language:
        brain = language_brain(language)
        view = View(number=1, session={}, response={}, items=[])
        with pytest.raises(LocalModelError, match="language model"):
            list(brain.answer(view))


def test_a_cancelled_answer_is_not_thought_to_its_end():
    spoken = []

    def voice(text):
        spoken.append(text)
        return tone(text)

    with testing.server(testing.Paced(" ".join(["It is cold."] * 200), chunk_delay_s=0.005)) as language:
        with RealtimeServer(language_brain(language, voice=voice)) as server:

            async def scene(line):
                await line.send("response.create")
                await line.until("response.output_audio.delta")
                await line.send("response.cancel")
                done = await line.until("response.done")
                return done["response"]["status"]

            assert talk(server, scene) == "cancelled"
            assert language.requests[0].wait() == "disconnected"
    assert len(spoken) < 200


# -- the detector --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [PCM_24K, ULAW_8K], ids=str)
def test_the_detector_finds_speech_and_not_noise(form, engines):
    speech = converted(engines.speak("please turn on the light in the kitchen"), PCM_24K, to=form)
    random = np.random.default_rng(1)
    hum = (np.sin(np.arange(24_000 * 3) * 2 * np.pi * 50 / 24_000) * 3_000).astype("<i2").tobytes()
    hiss = (random.standard_normal(24_000 * 3) * 12).astype("<i2").tobytes()
    frame = form.frame_bytes

    def share(sound):
        found = webrtc(0.5)(sound[: len(sound) // frame * frame], form)
        return sum(found) / len(found)

    assert share(speech) > 0.6
    assert share(converted(hiss, PCM_24K, to=form)) == 0
    assert share(converted(hum, PCM_24K, to=form)) < 0.1


def test_a_session_with_the_detector_hears_a_turn(engines):
    talk_ = Rehearsal(Script(["Yes."]), manner=Manner(detector=webrtc))
    talk_.append(bytes(48 * 500) + engines.speak("thank you very much") + bytes(48 * 500), chunk_ms=20)
    assert talk_.types().count("input_audio_buffer.speech_started") == 1
    assert talk_.until("response.done")["response"]["status"] == "completed"
    assert talk_.order.problems == []
