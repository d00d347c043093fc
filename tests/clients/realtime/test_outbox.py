"""Messages wait in order; of audio that nobody takes the oldest is dropped, and counted."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from voxnb.clients.realtime.outbox import Outbox

MESSAGES = st.lists(st.tuples(st.text(min_size=1), st.just(0.0) | st.floats(1, 500)), max_size=40)


@given(MESSAGES)
def test_commands_stay_in_order_and_waiting_audio_has_a_bound(messages):
    outbox = Outbox(most_audio_ms=1_000)
    for text, audio_ms in messages:
        outbox.put(text, audio_ms=audio_ms)
    waiting = [message[:2] for message in outbox._waiting]
    assert [m for m in waiting if not m[1]] == [m for m in messages if not m[1]]
    audio = [m for m in messages if m[1]]
    kept = [m for m in waiting if m[1]]
    assert kept == audio[len(audio) - len(kept) :], "the newest are kept"
    assert sum(ms for _, ms in kept) <= 1_000 + 1e-6
    assert abs(outbox.dropped_ms + sum(ms for _, ms in kept) - sum(ms for _, ms in audio)) < 1e-6


def test_everything_is_sent_in_order():
    sent = []

    async def send(text):
        await asyncio.sleep(0)
        sent.append(text)

    async def run():
        outbox = Outbox()
        task = asyncio.ensure_future(outbox.run(send))
        for n in range(5):
            outbox.put(str(n), audio_ms=20.0 * (n % 2))
        await outbox.emptied()
        outbox.put("last")
        await outbox.emptied()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return outbox

    outbox = asyncio.run(run())
    assert sent == ["0", "1", "2", "3", "4", "last"]
    assert (outbox.sent, len(outbox), outbox.dropped_ms, outbox.deepest) == (6, 0, 0.0, 5)


def test_what_finds_nothing_waiting_is_sent_at_once_and_nothing_overtakes():
    async def scene():
        sent, room = [], [True, False, True]
        outbox = Outbox(send_now=lambda text: room.pop(0) and not sent.append(text))

        async def send(text):
            await asyncio.sleep(0)
            sent.append(text)

        outbox.put("early")
        running = asyncio.ensure_future(outbox.run(send))
        await outbox.emptied()
        await asyncio.sleep(0)
        outbox.put("at once")
        assert sent == ["early", "at once"]
        outbox.put("no room")
        outbox.put("behind it")
        assert len(outbox) == 2
        await outbox.emptied()
        assert sent == ["early", "at once", "no room", "behind it"]
        outbox.put("at once again")
        assert sent[-1] == "at once again"
        assert outbox.sent == outbox.late.count == 5
        running.cancel()

    asyncio.run(scene())
