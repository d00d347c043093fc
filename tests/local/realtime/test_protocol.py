"""The session machine in virtual time: what it answers, what it refuses, what it forgets."""

from __future__ import annotations

import base64

import pytest

from voxnb.audio.formats import ULAW_8K
from voxnb.local.realtime import Call, Echo, Manner, NextItem, Rehearsal, Script, Speech, tone
from voxnb.local.realtime.sound import converted

MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}


def silence(duration_ms):
    return bytes(48 * duration_ms)


def spoken(text="Hello there", before_ms=500, after_ms=400):
    return silence(before_ms) + tone(text) + silence(after_ms)


def update(talk, **session):
    (event,) = talk.send("session.update", session={"type": "realtime", **session})
    return event


def refused(events):
    (event,) = events
    assert event["type"] == "error", event
    return event["error"]


@pytest.fixture
def talk():
    """A session whose events must have been legal by the end of the test."""
    made = []

    def new(replies=None, **kw):
        brain = Echo(kw.pop("hears", None)) if replies is None else Script(replies, hears=kw.pop("hears", None))
        made.append(Rehearsal(brain, **kw))
        return made[-1]

    yield new
    assert [t.order.problems for t in made] == [[]] * len(made)


# -- configuration ----------------------------------------------------------------------------------


def test_a_session_begins_with_its_configuration(talk):
    (event,) = talk().events
    assert event["type"] == "session.created"
    session = event["session"]
    assert session["type"] == "realtime"
    assert session["output_modalities"] == ["audio"]
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert session["expires_at"] == 1_800_000_000 + 3_600


def test_an_absent_field_keeps_its_value_and_an_empty_one_clears_it(talk):
    t = talk()
    update(t, instructions="Be brief.", tools=[{"type": "function", "name": "f"}])
    kept = update(t, audio={"output": {"voice": "cedar"}})["session"]
    assert (kept["instructions"], len(kept["tools"]), kept["audio"]["output"]["voice"]) == ("Be brief.", 1, "cedar")
    assert kept["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    cleared = update(t, instructions="", tools=[], audio={"input": {"turn_detection": None}})["session"]
    assert (cleared["instructions"], cleared["tools"], cleared["audio"]["input"]["turn_detection"]) == ("", [], None)


def test_turn_detection_merges_field_by_field_and_begins_anew_with_another_type(talk):
    t = talk()
    hearing = {"turn_detection": {"type": "server_vad", "threshold": 0.7}}
    found = update(t, audio={"input": hearing})["session"]["audio"]["input"]["turn_detection"]
    assert (found["threshold"], found["prefix_padding_ms"]) == (0.7, 300)
    hearing = {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}
    found = update(t, audio={"input": hearing})["session"]["audio"]["input"]["turn_detection"]
    assert found == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": True,
        "interrupt_response": True,
    }


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "chat"}, "invalid_value", "session.type"),
        ({"type": "transcription"}, "invalid_session_type", "session.type"),
        ({"type": "realtime", "modalities": ["text"]}, "unknown_parameter", "session.modalities"),
        ({"type": "realtime", "output_modalities": ["text", "audio"]}, "invalid_value", "session.output_modalities"),
        ({"type": "realtime", "instructions": 3}, "invalid_type", "session.instructions"),
        ({"type": "realtime", "model": "gpt-other"}, "cannot_update_model", "session.model"),
        ({"type": "realtime", "audio": {"input": {"format": {"type": "audio/mp3"}}}}, "invalid_value", None),
        ({"type": "realtime", "audio": {"output": {"speed": 3.0}}}, "decimal_above_max_value", None),
        ({"type": "realtime", "max_output_tokens": 5_000}, "integer_above_max_value", None),
        ({"type": "realtime", "tools": [{"type": "function"}]}, "missing_required_parameter", "session.tools[0].name"),
    ],
)
def test_an_update_that_the_service_refuses_changes_nothing(talk, session, code, param):
    t = talk()
    before = t.events[0]["session"]
    error = refused(
        t.send("session.update", session={**session, "instructions": session.get("instructions", "No.")}, event_id="e1")
    )
    assert (error["code"], error["event_id"]) == (code, "e1")
    assert param in (None, error["param"])
    assert update(t)["session"] == before


def test_the_voice_is_fixed_once_the_model_has_spoken(talk):
    t = talk(["Hello."])
    t.send("response.create")
    t.until("response.done")
    error = refused([update(t, audio={"output": {"voice": "cedar"}})])
    assert error["code"] == "cannot_update_voice"


# -- events that are none -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        ("{}", "missing_required_parameter"),
        ('{"type": "session.upgrade"}', "invalid_value"),
        ('{"type": ["a"]}', "invalid_value"),
        ('{"type": "response.create", "event_id": 7}', "invalid_type"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value"),
    ],
)
def test_what_is_no_event_is_refused_and_the_session_goes_on(talk, message, code):
    t = talk(["Fine."])
    assert refused(t.receive(message))["code"] == code
    t.send("response.create")
    assert t.until("response.done")["response"]["status"] == "completed"


# -- input audio --------------------------------------------------------------------------------------


def test_a_spoken_turn_has_the_order_of_the_service(talk):
    t = talk(["Good morning to you."], hears="Hello there")
    update(t, audio={"input": {"transcription": {"model": "gpt-4o-transcribe"}}})
    t.append(spoken(), chunk_ms=20)
    t.until("response.done")
    seen = list(dict.fromkeys(t.types()))
    assert seen == [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "rate_limits.updated",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]


def test_speech_is_found_where_it_is_on_the_timeline(talk):
    t = talk()
    t.append(spoken("Hello", before_ms=1_000, after_ms=1_000), chunk_ms=20)
    started = next(e for e in t.events if e["type"].endswith("speech_started"))
    stopped = next(e for e in t.events if e["type"].endswith("speech_stopped"))
    assert started["audio_start_ms"] == pytest.approx(1_000 - 300, abs=40)
    assert stopped["audio_end_ms"] == pytest.approx(1_000 + 300 + 200, abs=40)
    t.append(spoken("Again", before_ms=0), chunk_ms=20)
    again = [e for e in t.events if e["type"].endswith("speech_started")][-1]
    assert again["audio_start_ms"] == pytest.approx(1_000 + 300 + 1_000 - 300, abs=40)


@pytest.mark.parametrize("chunk_ms", [10, 20, 33, 250, None])
def test_speech_is_found_however_the_audio_is_cut(talk, chunk_ms):
    whole, cut = talk(), talk()
    whole.append(spoken())
    cut.append(spoken(), chunk_ms=chunk_ms)
    where = [
        (e["type"], e.get("audio_start_ms", e.get("audio_end_ms"))) for e in whole.events if "speech_s" in e["type"]
    ]
    assert len(where) == 2
    assert where == [
        (e["type"], e.get("audio_start_ms", e.get("audio_end_ms"))) for e in cut.events if "speech_s" in e["type"]
    ]


def test_silence_and_a_click_are_no_speech(talk):
    t = talk()
    click = (b"\x00\x40" * 24).ljust(960, b"\0")
    t.append(silence(30_000) + click + silence(30_000))
    assert t.types() == ["session.created"]
    assert t.session.hearing.buffered_ms < 1_000
    assert t.session.hearing.written_ms == 60_020


def test_nothing_ends_while_no_audio_is_written(talk):
    t = talk()
    t.append(spoken(after_ms=0), chunk_ms=20)
    assert t.wait(30) == []
    t.append(silence(200))
    assert "input_audio_buffer.speech_stopped" in t.types()


def test_what_was_spoken_comes_back_whole(talk):
    t = talk()
    update(t, audio={"input": {"turn_detection": None}})
    t.append(tone("Hello"))
    item = t.send("input_audio_buffer.commit")[0]["item_id"]
    got = t.send("conversation.item.retrieve", item_id=item)[0]["item"]
    assert base64.b64decode(got["content"][0]["audio"]) == tone("Hello")


def test_a_commit_needs_a_tenth_of_a_second(talk):
    t = talk()
    update(t, audio={"input": {"turn_detection": None}})
    t.append(silence(99))
    error = refused(t.send("input_audio_buffer.commit", event_id="c1"))
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "c1")
    assert "only has 99.00ms" in error["message"]
    t.append(silence(1))
    assert t.send("input_audio_buffer.commit")[0]["type"] == "input_audio_buffer.committed"
    assert refused(t.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


def test_a_cleared_buffer_is_empty(talk):
    t = talk()
    t.append(spoken(after_ms=0))
    assert [e["type"] for e in t.send("input_audio_buffer.clear")] == ["input_audio_buffer.cleared"]
    assert refused(t.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"
    t.append(spoken())
    assert t.types().count("input_audio_buffer.speech_started") == 2


@pytest.mark.parametrize("audio", ["%%%", "AAA", "AA==", 3, None])
def test_audio_that_is_none_is_refused(talk, audio):
    error = refused(talk().send("input_audio_buffer.append", audio=audio, event_id="a1"))
    assert error["event_id"] == "a1"


def test_a_telephone_format_counts_its_own_milliseconds(talk):
    t = talk(["Hello."])
    g711 = {"type": "audio/pcmu"}
    update(t, audio={"input": {"format": g711}, "output": {"format": g711}})
    t.append(converted(spoken(), Speech("").form, to=ULAW_8K), chunk_ms=20)
    done = t.until("response.done")
    started = next(e for e in t.events if e["type"].endswith("speech_started"))
    assert started["audio_start_ms"] == pytest.approx(200, abs=40)
    deltas = [base64.b64decode(e["delta"]) for e in t.events if e["type"] == "response.output_audio.delta"]
    assert sum(map(len, deltas)) == len(tone("Hello.")) // 6
    assert done["response"]["audio"]["output"]["format"] == g711


def test_without_create_response_speech_is_only_told(talk):
    t = talk()
    update(t, audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    t.append(spoken())
    assert "input_audio_buffer.committed" in t.types()
    assert "response.created" not in t.types()


def test_a_transcript_may_fail(talk):
    t = talk(["Yes?"], hears=[None])
    update(t, audio={"input": {"transcription": {"model": "whisper-1"}}})
    t.append(spoken())
    t.wait(10)
    assert "conversation.item.input_audio_transcription.failed" in t.types()


def test_a_silent_user_is_prompted_after_the_idle_timeout(talk):
    t = talk(["Hello.", "Still there?"])
    update(t, audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}})
    t.send("response.create")
    t.until("response.done")
    t.append(silence(4_000), chunk_ms=20)
    assert t.types().count("response.created") == 1
    t.append(silence(3_000), chunk_ms=20)
    (timeout,) = [e for e in t.events if e["type"] == "input_audio_buffer.timeout_triggered"]
    assert timeout["audio_end_ms"] - timeout["audio_start_ms"] == pytest.approx(5_360, abs=300)
    assert t.types().count("response.created") == 2


# -- items --------------------------------------------------------------------------------------------


def test_items_form_a_chain(talk):
    t = talk()

    def create(name, **kw):
        return t.send("conversation.item.create", item={**MESSAGE, "id": name}, **kw)[0]["previous_item_id"]

    assert [create("a"), create("b"), create("first", previous_item_id="root"), create("mid", previous_item_id="a")] == [
        None, "a", None, "a",
    ]  # fmt: skip
    assert [i.id for i in t.session.conversation] == ["first", "a", "mid", "b"]
    assert t.send("conversation.item.delete", item_id="a")[0]["type"] == "conversation.item.deleted"
    assert [i.id for i in t.session.conversation] == ["first", "mid", "b"]


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (None, "missing_required_parameter"),
        ({"type": "thought"}, "invalid_value"),
        ({"type": "message", "role": "robot", "content": []}, "invalid_value"),
        ({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}]}, "invalid_value"),
        ({"type": "message", "role": "user", "content": [{"type": "output_text", "text": "Hi"}]}, "invalid_value"),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "missing_required_parameter"),
        ({"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "%"}]}, "invalid_value"),
        ({"type": "function_call_output", "call_id": "call_none", "output": "1"}, "invalid_tool_call_id"),
        ({"type": "function_call_output", "output": "1"}, "missing_required_parameter"),
        ({**MESSAGE, "id": "there"}, "item_create_duplicate_item_id"),
        ({**MESSAGE, "id": "x" * 33}, "string_above_max_length"),
    ],
)
def test_an_item_that_is_none_is_refused(talk, item, code):
    t = talk()
    t.send("conversation.item.create", item={**MESSAGE, "id": "there"})
    assert refused(t.send("conversation.item.create", item=item, event_id="i1"))["code"] == code
    assert [i.id for i in t.session.conversation] == ["there"]


@pytest.mark.parametrize("verb", ["retrieve", "truncate", "delete"])
def test_an_item_that_is_not_there_is_refused(talk, verb):
    error = refused(talk().send(f"conversation.item.{verb}", item_id="item_x", content_index=0, audio_end_ms=0))
    assert error["code"] == f"item_{verb}_invalid_item_id"


def test_an_unknown_previous_item_is_refused(talk):
    error = refused(talk().send("conversation.item.create", item=MESSAGE, previous_item_id="item_x"))
    assert error["code"] == "item_create_invalid_previous_item_id"


def test_truncating_forgets_sound_and_words(talk):
    t = talk(["Hello there my friend."])
    t.send("response.create")
    (item,) = t.until("response.done")["response"]["output"]
    assert item["content"][0]["transcript"] == "Hello there my friend."
    assert t.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=501)[0] == {
        "type": "conversation.item.truncated",
        "event_id": t.events[-1]["event_id"],
        "item_id": item["id"],
        "content_index": 0,
        "audio_end_ms": 501,
    }
    left = t.send("conversation.item.retrieve", item_id=item["id"])[0]["item"]["content"][0]
    assert base64.b64decode(left["audio"]) == tone("Hello there my friend.")[: 501 * 48]
    assert left["transcript"] is None
    error = refused(t.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=502))
    assert error["message"] == "Audio content of 501ms is already shorter than 502ms"


def test_what_has_no_sound_of_the_model_cannot_be_truncated(talk):
    t = talk(["Hi."])
    update(t, output_modalities=["text"])
    t.send("conversation.item.create", item={**MESSAGE, "id": "user"})
    t.send("response.create")
    (written,) = t.until("response.done")["response"]["output"]

    def cut(name, **kw):
        fields = {"content_index": 0, "audio_end_ms": 0, **kw}
        return refused(t.send("conversation.item.truncate", item_id=name, **fields))["code"]

    assert cut("user") == "invalid_item_type"
    assert cut(written["id"]) == "unsupported_content_type"
    restored = {
        "type": "message",
        "role": "assistant",
        "id": "old",
        "content": [{"type": "output_text", "text": "Hm."}],
    }
    t.send("conversation.item.create", item=restored)
    assert cut("old") == "unsupported_content_type"
    assert cut("old", audio_end_ms=-1) == "integer_below_min_value"
    assert cut("old", audio_end_ms=None) == "missing_required_parameter"


# -- responses ----------------------------------------------------------------------------------------


def test_only_one_response_is_active(talk):
    t = talk(["A rather long answer of many words."])
    first = t.send("response.create")[0]["response"]["id"]
    error = refused(t.send("response.create", event_id="r2"))
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "r2")
    assert first in error["message"]
    t.until("response.done")
    assert t.send("response.create")[0]["type"] == "response.created"


def test_audio_leaves_faster_than_it_sounds_in_quarter_seconds(talk):
    t = talk(["A rather long answer of many words."], manner=Manner(speed=4.0))
    t.send("response.create")
    t.until("response.done")
    sizes = [len(base64.b64decode(e["delta"])) // 48 for e in t.events if e["type"] == "response.output_audio.delta"]
    assert set(sizes[:-1]) == {250}
    assert t.now_s == pytest.approx(sum(sizes) / 1_000 / 4)


def test_a_cancelled_response_closes_what_is_open(talk):
    t = talk(["A rather long answer of many words."])
    assert refused(t.send("response.cancel", event_id="none"))["code"] == "response_cancel_not_active"
    t.send("response.create")
    t.wait(0.2)
    told = t.send("response.cancel")
    assert [e["type"] for e in told] == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    assert told[-2]["item"]["status"] == "incomplete"
    response = told[-1]["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert t.wait(10) == []
    kept = t.session.conversation.get(told[-2]["item"]["id"])
    assert 0 < kept.audio_ms() < len(tone("A rather long answer of many words.")) / 48


def test_speech_interrupts_unless_it_is_told_not_to(talk):
    t = talk(["A rather long answer of many words.", "Yes?"])
    t.send("response.create")
    t.append(spoken(before_ms=100, after_ms=0), chunk_ms=20)
    done = next(e for e in t.events if e["type"] == "response.done")
    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    other = talk(["A rather long answer of many words." * 3, "Yes?"])
    update(other, audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    other.send("response.create")
    other.append(spoken(before_ms=100), chunk_ms=20)
    codes = [e["error"]["code"] for e in other.events if e["type"] == "error"]
    assert codes == ["conversation_already_has_active_response"]  # the turn's own could not begin
    assert other.until("response.done")["response"]["status"] == "completed"


def test_a_session_of_text_writes(talk):
    t = talk(["Hello there."])
    update(t, output_modalities=["text"])
    t.send("response.create")
    done = t.until("response.done")["response"]
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "Hello there."}]
    assert "".join(e["delta"] for e in t.events if e["type"] == "response.output_text.delta") == "Hello there."
    assert "response.output_audio.delta" not in t.types()


def test_a_tool_turn(talk):
    t = talk([{"tool_calls": [{"name": "weather", "arguments": {"city": "Bern"}}]}, lambda v: v.items[-1]["output"]])
    t.send("response.create")
    (call,) = t.until("response.done")["response"]["output"]
    assert (call["name"], call["arguments"]) == ("weather", '{"city": "Bern"}')
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Rain."}
    assert t.send("conversation.item.create", item=output)[0]["type"] == "conversation.item.added"
    t.send("response.create")
    assert t.until("response.done")["response"]["output"][0]["content"][0]["transcript"] == "Rain."


def test_two_items_and_a_call_in_one_response(talk):
    t = talk([[Speech("One.", tone("One.")), NextItem(), Speech("Two.", tone("Two.")), Call("f")]])
    t.send("response.create")
    kinds = [
        (i["type"], i.get("content", [{}])[0].get("transcript")) for i in t.until("response.done")["response"]["output"]
    ]
    assert kinds == [("message", "One."), ("message", "Two."), ("function_call", None)]


def test_an_out_of_band_response_leaves_the_conversation_alone(talk):
    t = talk(["A rather long answer of many words.", lambda v: f"{len(v.items)} {v.text} {v.instructions}"])
    t.send("conversation.item.create", item={**MESSAGE, "id": "user"})
    t.send("response.create")
    aside = {
        "conversation": "none",
        "input": [{"type": "item_reference", "id": "user"}],
        "instructions": "Sum up.",
        "output_modalities": ["text"],
        "metadata": {"topic": "sum"},
    }
    t.send("response.create", response=aside)
    done = t.until("response.done")["response"]
    assert (done["conversation_id"], done["metadata"]) == (None, {"topic": "sum"})
    assert done["output"][0]["content"][0]["text"] == "1 Hi. Sum up."
    t.until("response.done")
    assert len(t.session.conversation) == 2
    assert refused(t.send("response.create", response={"conversation": "other"}))["code"] == "invalid_value"
    assert refused(t.send("response.create", response={"modalities": ["text"]}))["code"] == "unknown_parameter"
    assert (
        refused(t.send("response.create", response={"metadata": {"k" * 65: "v"}}))["code"] == "string_above_max_length"
    )


def test_a_response_stops_at_its_most_tokens(talk):
    t = talk(["A rather long answer of many words."])
    t.send("response.create", response={"max_output_tokens": 10})
    done = t.until("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("incomplete", "max_output_tokens")


def test_a_response_may_fail(talk):
    error = {"type": "invalid_request_error", "code": "inference_rate_limit_exceeded", "message": "Slow down."}
    t = talk([{"status": "failed", "error": error}, "Better."])
    t.send("response.create")
    done = t.until("response.done")["response"]
    assert (done["status"], done["status_details"]) == ("failed", {"type": "failed", "error": error})
    t.send("response.create")
    assert t.until("response.done")["response"]["status"] == "completed"


def test_usage_counts_sound_by_its_length(talk):
    t = talk(["Hello."])
    update(t, audio={"input": {"turn_detection": None}})
    t.append(silence(2_800))
    t.send("input_audio_buffer.commit")
    t.send("response.create")
    usage = t.until("response.done")["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 28
    assert usage["output_token_details"]["audio_tokens"] == 8  # 360 ms
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


# -- transcription sessions ---------------------------------------------------------------------------


def test_a_transcription_session_writes_down_and_never_answers(talk):
    t = talk(kind="transcription", hears="Hello there")
    settings = {"input": {"transcription": {"model": "gpt-4o-transcribe", "language": "en"}}}
    (event,) = t.send("session.update", session={"type": "transcription", "audio": settings})
    assert event["session"]["object"] == "realtime.transcription_session"
    t.append(spoken())
    assert t.until("conversation.item.input_audio_transcription.completed")["transcript"] == "Hello there"
    assert refused(t.send("response.create"))["code"] == "invalid_value"
    assert "response.created" not in t.types()


# -- the end ------------------------------------------------------------------------------------------


def test_a_session_ends_after_its_hour(talk):
    t = talk()
    t.wait(3_599)
    assert t.ended is None
    t.wait(1)
    assert (t.ended.code, t.events[-1]["error"]["code"]) == (1001, "session_expired")
    assert t.send("response.create") == []
