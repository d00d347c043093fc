"""Calls across the bridge: in order, answered, bounded, and ended with the other end."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from voxnb.errors import AudioError, BridgeError, VoxnbError
from voxnb.runtime.channel import Channel

WAIT_S = 30


class Far:
    """What lives at the other end."""

    def __init__(self):
        self.heard = []

    def hear(self, *words):
        self.heard.append(words)

    def double(self, number):
        return 2 * number

    async def slow(self, gate, value):
        self.heard.append(("slow",))
        await asyncio.sleep(0)
        return value

    def refuse(self):
        try:
            raise OSError("the cause")
        except OSError as error:
            raise AudioError("no", size_bytes=3) from error

    def fail(self):
        raise ZeroDivisionError("by zero")

    async def give_up(self):
        raise asyncio.CancelledError

    def fail_darkly(self):
        class LocalError(Exception):
            pass

        raise VoxnbError("dark") from LocalError("cannot be pickled")


@contextlib.asynccontextmanager
async def joined():
    """Two ends, with a `Far` of number 7 at the other one."""
    one, other = socket.socketpair()
    ended = []
    channels = [Channel(on_end=lambda: ended.append("near")), Channel(on_end=lambda: ended.append("far"))]
    far = channels[1].objects[7] = Far()
    for end, channel in zip((one, other), channels, strict=True):
        end.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda c=channel: c, sock=end)
    try:
        yield channels[0], channels[1], far, ended
    finally:
        for channel in channels:
            channel.end()
        await asyncio.sleep(0)


def run(scene):
    async def whole():
        async with asyncio.timeout(WAIT_S), joined() as parts:
            await scene(*parts)

    asyncio.run(whole())


def test_calls_come_in_order_and_what_is_asked_is_answered():
    async def scene(near, _, far, __):
        for n in range(1000):
            near.do(7, "hear", n)
        assert await near.ask(7, "double", 21) == 42
        assert far.heard == [(n,) for n in range(1000)]
        big = bytes(3_000_000)
        assert await near.ask(7, "slow", None, big) == big
        assert near.facts()["depth_bytes"] == 0

    run(scene)


def test_what_is_asked_for_before_there_is_a_way_goes_first():
    async def scene():
        one, other = socket.socketpair()
        near, far = Channel(on_end=lambda: None), Channel(on_end=lambda: None)
        far.objects[7] = Far()
        near.do(7, "hear", 1)
        asked = asyncio.ensure_future(near.ask(7, "double", 1))
        await asyncio.sleep(0)
        assert near.waiting_bytes > 0
        for end, channel in ((one, near), (other, far)):
            end.setblocking(False)
            await asyncio.get_running_loop().create_connection(lambda c=channel: c, sock=end)
        near.do(7, "hear", 2)
        assert await asked == 2
        assert await near.ask(7, "double", 2) == 4
        assert far.objects[7].heard == [(1,), (2,)]
        near.end()
        far.end()

    asyncio.run(scene())


def test_errors_come_back_as_they_are_with_their_cause(capsys):
    async def scene(near, *_):
        with pytest.raises(AudioError, match="no") as caught:
            await near.ask(7, "refuse")
        assert caught.value.size_bytes == 3
        assert isinstance(caught.value.__cause__, OSError)
        with pytest.raises(BridgeError, match="ZeroDivisionError: by zero"):
            await near.ask(7, "fail")
        with pytest.raises(VoxnbError, match="dark") as caught:
            await near.ask(7, "fail_darkly")
        assert "LocalError: cannot be pickled" in str(caught.value.__cause__)
        near.do(7, "fail")
        near.do(8, "hear")  # it is gone already: nobody needs to know
        assert await near.ask(7, "double", 1) == 2, "the others go on"
        with pytest.raises(BridgeError, match="KeyError"):
            await near.ask(8, "double", 1)

    run(scene)
    assert capsys.readouterr().err.count("across the bridge failed: ZeroDivisionError") == 1


def test_what_is_cancelled_at_the_other_end_is_answered():
    async def scene(near, _other, _far, _ended):
        with pytest.raises(BridgeError, match="give_up was cancelled"):
            await near.ask(7, "give_up")

    run(scene)


def test_what_may_be_lost_is_dropped_where_too_much_waits_and_counted():
    async def scene(near, far_end, far, _):
        far_end._transport.pause_reading()
        while near.waiting_bytes < 1 << 20:
            near.do(7, "hear", bytes(100_000))
        taken = near.sent
        assert not near.do(7, "hear", b"late", most_bytes=1 << 19)
        assert near.do(7, "hear", "a note")
        assert (near.dropped, near.sent) == (1, taken + 1)
        assert near.facts()["deepest_bytes"] >= 1 << 20
        far_end._transport.resume_reading()
        await near.ask(7, "double", 1)
        assert far.heard[-1] == ("a note",)
        assert len(far.heard) == taken + 1

    run(scene)


def test_the_end_of_the_other_side_is_told_to_everybody_who_waits():
    async def scene(near, far_end, _, ended):
        never = asyncio.get_running_loop().create_future()
        far_end.objects[9] = type("Never", (), {"answer": lambda self: asyncio.wait_for(never, None)})()
        asked = asyncio.ensure_future(near.ask(9, "answer"))
        await near.ask(7, "double", 1)
        far_end.end()
        with pytest.raises(BridgeError, match="before it answered"):
            await asked
        assert sorted(ended) == ["far", "near"]
        assert not near.do(7, "hear", 1)
        with pytest.raises(BridgeError, match="gone"):
            await near.ask(7, "double", 1)

    run(scene)
