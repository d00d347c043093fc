"""Media messages of both shapes are understood in every spelling, and anything else is told apart from them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.audio import media
from voxnb.audio.formats import PCM_8K, PCM_16K, ULAW_8K
from voxnb.audio.media import (
    Broken,
    Connected,
    Custom,
    Dtmf,
    Mark,
    Media,
    Start,
    Stop,
    TwilioWriter,
    VoximplantWriter,
    read,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            {"event": "start", "sequenceNumber": 0, "start": {"tag": "call", "mediaFormat": {"encoding": "PCM16", "sampleRate": 16000}, "customParameters": {"key": "value"}}},
            Start("call", PCM_16K, {"key": "value"}),
        ),
        (
            {"event": "start", "start": {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}, "customParameters": '{"test":"123"}'}},
            Start("", ULAW_8K, {"test": "123"}),
        ),
        ({"event": "start", "start": {"mediaFormat": {"encoding": "ULAW", "sampleRate": 8000}}}, Start("", ULAW_8K, {})),
        ({"event": "start", "start": {}}, Start("", PCM_8K, {})),
        (
            {"event": "start", "sequenceNumber": "1", "streamSid": "MZ", "start": {"streamSid": "MZ", "callSid": "CA", "tracks": ["inbound"], "customParameters": {}, "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}}},
            Start("", ULAW_8K, {}, "MZ", {"callSid": "CA", "tracks": ["inbound"]}),
        ),
        ({"event": "media", "sequenceNumber": 2, "media": {"tag": "call", "chunk": 1, "timestamp": 320, "payload": "AAE="}}, Media("call", b"\0\1", 1)),
        ({"event": "media", "sequenceNumber": "4", "media": {"track": "inbound", "chunk": "2", "timestamp": "5", "payload": "AAE="}, "streamSid": "MZ"}, Media("", b"\0\1", 2)),
        ({"event": "media", "media": {"payload": "AAE="}}, Media("", b"\0\1", None)),
        ({"event": "stop", "sequenceNumber": 51, "stop": {"tag": "call", "mediaInfo": {"bytesSent": 21100, "duration": 124}}}, Stop("call")),
        ({"event": "stop", "sequenceNumber": 3}, Stop("")),
        ({"event": "mark", "sequenceNumber": "4", "streamSid": "MZ", "mark": {"name": "my label"}}, Mark("my label")),
        ({"event": "dtmf", "streamSid": "MZ", "sequenceNumber": "5", "dtmf": {"track": "inbound_track", "digit": "1"}}, Dtmf("1")),
        ({"event": "connected", "protocol": "Call", "version": "1.0.0"}, Connected()),
        ({"customEvent": "hello", "value": 1}, Custom({"customEvent": "hello", "value": 1})),
    ],
)  # fmt: skip
def test_a_message_is_understood(said, meant):
    assert read(json.dumps(said)) == meant


@pytest.mark.parametrize(
    "said",
    [
        "", "nonsense", "[]", "1", "null", "{}", '{"event": 5}', '{"event": "init"}', '{"event": "media"}',
        '{"event": "media", "media": []}', '{"event": "media", "media": {"payload": ""}}',
        '{"event": "media", "media": {"payload": "!!!"}}', '{"event": "media", "media": {"payload": "AAE"}}',
        '{"event": "media", "media": {"payload": "AAE=", "chunk": -1}}',
        '{"event": "media", "media": {"payload": "AAE=", "chunk": true}}',
        '{"event": "media", "media": {"payload": "AAE=", "chunk": "1.5"}}',
        '{"event": "media", "media": {"payload": "AAE=", "tag": 7}}',
        '{"event": "start", "start": {"tag": "two\\nlines"}}',
        '{"event": "start", "start": {"tag": "half of a pair \\ud800"}}',
        '{"event": "start", "start": {"mediaFormat": {"encoding": "MP3"}}}',
        '{"event": "start", "start": {"mediaFormat": 5}}', '{"event": "start", "start": "now"}',
        '{"event": "start", "start": {"mediaFormat": {"encoding": "PCM16", "channels": 2}}}',
        '{"event": "start", "streamSid": 5, "start": {}}', '{"event": "mark", "mark": {}}', '{"event": "dtmf"}',
        "[" * 100_000, '{"event": "media", "media": {"payload": "AAE=", "chunk": ' + "9" * 5000 + "}}",
        '{"event": "media", "media": {"payload": "AAE=", "tag": "' + "x" * 999 + '"}}',
    ],
)  # fmt: skip
def test_what_is_no_message_says_why(said):
    assert isinstance(read(said), Broken)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_read(text):
    assert isinstance(read(text), media.Message)


@given(
    st.sampled_from(["start", "media", "stop", "mark", "dtmf", "connected"]),
    st.dictionaries(
        st.sampled_from(["tag", "mediaFormat", "payload", "chunk", "customParameters", "name", "digit", "streamSid"]),
        JSON,
    ),
)
def test_any_content_of_an_event_is_read(event, inner):
    message = read(json.dumps({"event": event, event: inner}))
    assert isinstance(message, media.Message)
    if isinstance(message, Start):
        assert isinstance(message.custom_parameters, dict)


@given(
    tag=st.text(max_size=20).filter(media.is_tag),
    payload=st.binary(min_size=1, max_size=400),
    parameters=st.dictionaries(st.text(), JSON),
)
def test_what_voximplant_is_sent_is_what_it_sends(tag, payload, parameters):
    writer = VoximplantWriter()
    (start,) = writer.start(tag, PCM_16K, parameters=parameters)
    assert read(start).form == PCM_16K
    for number in range(1, 4):
        text = writer.media(tag, payload, samples=160)
        assert read(text) == Media(tag, payload, number)
        assert json.loads(text)["sequenceNumber"] == number
        assert json.loads(text)["media"]["timestamp"] == 160 * (number - 1)
    (stop,) = writer.stop(tag, duration_s=2.9)
    assert read(stop) == Stop(tag)
    assert json.loads(stop)["stop"]["mediaInfo"] == {"bytesSent": 3 * len(payload), "duration": 2}


def test_what_is_not_said_is_absent():
    writer = VoximplantWriter()
    assert json.loads(writer.start("", PCM_16K, parameters={})[0]) == {
        "event": "start", "sequenceNumber": 0, "start": {"mediaFormat": {"encoding": "PCM16", "sampleRate": 16000}},
    }  # fmt: skip
    assert "tag" not in json.loads(writer.media("", b"ab", samples=1))["media"]


def test_twilio_is_sent_its_own_messages():
    writer = TwilioWriter('M"Z')
    assert writer.start("", ULAW_8K, parameters={}) == writer.stop("", duration_s=1) == []
    assert json.loads(writer.media("", b"ab", samples=2)) == {
        "event": "media", "streamSid": 'M"Z', "media": {"payload": "YWI="},
    }  # fmt: skip
    assert json.loads(writer.mark("one")[0]) == {"event": "mark", "streamSid": 'M"Z', "mark": {"name": "one"}}
    assert json.loads(writer.clear()[0]) == {"event": "clear", "streamSid": 'M"Z'}
