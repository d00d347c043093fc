"""What can be made to go wrong, goes wrong in just that way."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest
import websockets

from tests.local.realtime.line import LIMIT_S, one_turn, talk
from voxnb import testing
from voxnb.local.realtime import Chaos, Manner, Raw, RealtimeServer, Rehearsal, Script, tone
from voxnb.local.realtime.chaos import Spoiler

WORDS = "One two three four five six seven eight nine ten."
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}


def rehearse(replies, **chaos):
    return Rehearsal(Script(replies, hears="Hello"), manner=Manner(chaos=Chaos(**chaos)))


def spoken(events):
    return [e["delta"] for e in events if e["type"] == "response.output_audio_transcript.delta"]


async def answer(line):
    await line.send("response.create")
    await line.until("response.done")
    return line.events


def test_no_chaos_changes_nothing():
    event = {"type": "response.output_audio_transcript.delta", "event_id": "e", "delta": "Hi"}
    assert Spoiler(Chaos(), lambda: 0.0).spoiled(event) == [event]


def test_words_come_twice_or_in_another_order_but_none_is_lost():
    with testing.server(WORDS, realtime=testing.Realtime(speed=50)) as server:
        plain = spoken(talk(server, answer))
    for chaos in (Chaos(duplicated=1.0), Chaos(reordered=1.0), Chaos(reordered=0.5, duplicated=0.3)):
        with testing.server(WORDS, realtime=testing.Realtime(chaos=chaos, seed=3, speed=50)) as server:
            events = talk(server, answer)
            told = spoken(events)
            assert set(told) == set(plain)
            assert told != plain
            last = [e["type"] for e in events].index("response.output_audio_transcript.done")
            assert spoken(events[last:]) == []


def test_unknown_events_and_padding_come_beside_the_known_ones():
    with testing.server(
        WORDS, realtime=testing.Realtime(chaos=Chaos(unknown=1.0, obfuscates=True), speed=50)
    ) as server:
        events = talk(server, answer)
    assert {e["type"] for e in events} >= {"response.telepathy.delta", "response.done"}
    assert all(e["obfuscation"] for e in events if e["type"] == "response.output_audio.delta")


def test_the_server_may_count_less_sound_than_it_sent():
    t = rehearse([WORDS], skew_ms=85)
    t.send("response.create")
    (item,) = t.until("response.done")["response"]["output"]
    sent_ms = len(tone(WORDS)) // 48
    cut = {"item_id": item["id"], "content_index": 0}
    (error,) = t.send("conversation.item.truncate", **cut, audio_end_ms=sent_ms)
    assert error["error"]["message"] == f"Audio content of {sent_ms - 85}ms is already shorter than {sent_ms}ms"
    assert t.send("conversation.item.truncate", **cut, audio_end_ms=sent_ms - 85)[0]["type"].endswith("truncated")


def test_what_is_retrieved_may_be_huge():
    t = rehearse([WORDS], retrieved_bytes=2 << 20)
    t.send("response.create")
    (item,) = t.until("response.done")["response"]["output"]
    (event,) = t.send("conversation.item.retrieve", item_id=item["id"])
    assert len(base64.b64decode(event["item"]["content"][0]["audio"])) == 2 << 20


def test_transcripts_may_get_lost():
    t = rehearse([WORDS], loses_transcripts=True)
    hearing = {"transcription": {"model": "whisper-1"}}
    t.send("session.update", session={"type": "realtime", "audio": {"input": hearing}})
    t.append(bytes(48 * 300) + tone("Hello") + bytes(48 * 300))
    t.wait(30)
    assert "response.done" in t.types()
    assert not any("transcription" in kind for kind in t.types())


def test_previous_items_may_be_forgotten():
    async def scene(line):
        for _ in range(2):
            await line.send("conversation.item.create", item=USER)
        for _ in range(2):
            event = await line.until("conversation.item.done")
        return event["previous_item_id"]

    with testing.server("Hi.", realtime=True) as server:
        assert talk(server, scene) is not None
    with testing.server("Hi.", realtime=testing.Realtime(chaos=Chaos(forgets_previous=True))) as server:
        assert talk(server, scene) is None


def test_a_close_may_stay_without_an_answer():
    async def scene(line):
        await line.until("session.created")
        closing = asyncio.create_task(line.websocket.close())
        await asyncio.wait([closing], timeout=0.2)
        is_waiting = not closing.done()
        line.websocket.transport.abort()
        await closing
        return is_waiting

    with testing.server("Hi.", realtime=testing.Realtime(chaos=Chaos(ignores_close=True))) as server:
        assert talk(server, scene)
        server.sessions[0].wait_until_closed(timeout_s=LIMIT_S)


def test_a_server_that_ignores_closes_still_closes_itself():
    async def scene(line):
        await line.until("session.created")
        closing = asyncio.create_task(line.websocket.close())
        await asyncio.wait([closing], timeout=0.05)
        await asyncio.to_thread(server.close)
        await asyncio.wait_for(closing, LIMIT_S)

    server = RealtimeServer(manner=Manner(chaos=Chaos(ignores_close=True)))
    talk(server, scene)


def test_late_events_keep_their_order():
    async def scene(line):
        await line.send("response.create")
        await line.until("response.done")
        return line.events

    with testing.server(WORDS, realtime=testing.Realtime(chaos=Chaos(lag_ms=5), seed=1, speed=50)) as server:
        events = talk(server, scene)
        assert [e["event_id"] for e in events] == [e["event_id"] for e in server.sessions[0].sent]


def test_a_peer_of_another_protocol_sends_what_it_likes():
    async def scene(line):
        await line.send("response.create")
        got = []
        while len(got) < 3:
            message = await asyncio.wait_for(line.websocket.recv(), LIMIT_S)
            if isinstance(message, bytes) or not message.startswith('{"type"'):
                got.append(message)
        return got

    script = [[Raw("<html>"), Raw(b"\x00\x01"), Raw('["a"]'), "Hello."]]
    with testing.server(script, realtime=True) as server:
        assert talk(server, scene) == ["<html>", b"\x00\x01", '["a"]']


def test_a_slow_reader_makes_the_client_wait():
    async def scene(line):
        await line.until("session.created")
        started_s = time.monotonic()
        message = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(960_000)).decode()})
        for _ in range(12):
            await line.websocket.send(message)
        await line.send("input_audio_buffer.clear")
        await line.until("input_audio_buffer.cleared")
        return time.monotonic() - started_s

    # 15 MB at 60 MB/s take a quarter of a second at least, however fast the machine is.
    with testing.server("Hi.", realtime=testing.Realtime(chaos=Chaos(read_bytes_s=60e6))) as server:
        assert talk(server, scene) > 0.2


@pytest.mark.slow
def test_a_client_that_does_not_read_stops_the_clock_of_its_session_alone():
    long = " ".join(["word"] * 1_000)

    async def scene(line):
        await line.until("session.created")
        line.websocket.transport.pause_reading()
        await line.send("response.create")
        assert await asyncio.to_thread(talk, server, one_turn) == "Hello."
        line.websocket.transport.resume_reading()
        done = await line.until("response.done")
        return done["response"]["status"]

    with RealtimeServer(Script([long, "Hello."]), manner=Manner(speed=1e6)) as server:
        assert talk(server, scene) == "completed"


def test_a_message_that_is_too_long_ends_the_connection_with_1009():
    async def scene(line):
        # The head of a text frame is enough: masked, with a length of eight bytes.
        line.websocket.transport.write(b"\x81\xff" + (25 << 20).to_bytes(8, "big") + bytes(4))
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await line.until("error")
        return caught.value.rcvd.code

    with testing.server("Hi.", realtime=True) as server:
        assert talk(server, scene) == 1009
        assert talk(server, one_turn) == "Hi."
