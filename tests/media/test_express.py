"""The express lane: nothing that comes or goes on a WebSocket is different for it but the time that it takes."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from voxnb.media.express import ExpressClient, ExpressServer

MOST_BYTES = 70_000

texts = st.one_of(st.text(max_size=200), st.sampled_from([125, 126, 65_535, 65_536, MOST_BYTES + 1]).map("x".__mul__))
frames = st.one_of(
    texts.map(lambda text: [Frame(Opcode.TEXT, text.encode())]),
    st.lists(st.text(max_size=9), min_size=2, max_size=3).map(
        lambda parts: [
            Frame(Opcode.CONT if n else Opcode.TEXT, part.encode(), fin=n == len(parts) - 1)
            for n, part in enumerate(parts)
        ]
    ),
    st.binary(max_size=9).map(lambda data: [Frame(Opcode.BINARY, data)]),
    st.binary(max_size=9).map(lambda data: [Frame(Opcode.PING, data)]),
    st.just([Frame(Opcode.PONG, b"")]),
    st.just([Frame(Opcode.TEXT, b"no \xff text")]),
    st.just([Frame(Opcode.CLOSE, b"\x03\xe8bye")]),
    st.just([Frame(Opcode.CONT, b"of nothing")]),
)
talks = st.lists(frames, max_size=8).map(lambda several: [frame for group in several for frame in group])


class Transport:
    """Keeps what is written."""

    def __init__(self):
        self.written = []
        self.write = self.written.append

    def set_write_buffer_limits(self, *_):
        pass

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.written.append(b"")

    pause_reading = resume_reading = is_closing = close = abort = lambda self: False


def opened(kind):
    """An open connection of a class, and its transport."""
    settings = {"state": State.OPEN, "max_size": MOST_BYTES}
    if issubclass(kind, ServerConnection):
        connection = kind(ServerProtocol(**settings), None, ping_interval=None, close_timeout=0)
        connection.request = object()
    else:
        connection = kind(ClientProtocol(parse_uri("ws://peer/"), **settings), ping_interval=None, close_timeout=0)
        connection.response = object()
    transport = Transport()
    Connection.connection_made(connection, transport)  # a server's own would begin to serve it
    return connection, transport


async def heard(kind, pieces, *, first_read, pauses):
    """What a connection makes of bytes, cut in pieces: messages, what it writes, and how it ends."""
    connection, transport = opened(kind)
    messages = []

    async def read():
        with contextlib.suppress(ConnectionClosed):
            if hasattr(connection, "each"):
                await connection.each(messages.append)
            while True:
                messages.append(await connection.recv())

    reading = None
    for n, piece in enumerate(pieces):
        if n == min(first_read, len(pieces) - 1):
            reading = asyncio.create_task(read())
            await asyncio.sleep(0)
        connection.data_received(piece)
        if n in pauses:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    connection.connection_lost(None)
    await reading
    return messages, transport.written, connection.close_code, connection.close_reason


def pieces_of(data, cuts):
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("ends", [(ExpressServer, ServerConnection), (ExpressClient, ClientConnection)])
@given(
    talk=talks,
    wrong=st.just(False) | st.booleans(),
    cuts=st.lists(st.integers(0, 1 << 17), max_size=9),
    first_read=st.integers(0, 3),
    pauses=st.sets(st.integers(0, 10)),
)
def test_it_hears_what_the_library_hears_however_it_is_cut(ends, talk, wrong, cuts, first_read, pauses):
    lane, plain = ends
    masked = (lane is ExpressServer) != wrong
    pieces = pieces_of(b"".join(frame.serialize(mask=masked) for frame in talk), cuts)
    mine = asyncio.run(heard(lane, pieces, first_read=first_read, pauses=pauses))
    theirs = asyncio.run(heard(plain, pieces, first_read=first_read, pauses=pauses))
    assert mine[0] == theirs[0]
    assert mine[2:] == theirs[2:]
    if lane is ExpressServer:  # a client's frames are masked at random
        assert b"".join(mine[1]) == b"".join(theirs[1])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_what_is_said_is_a_message_at_the_other_end(size):
    async def talk():
        came = asyncio.Queue()

        async def answer(connection):
            with contextlib.suppress(ConnectionClosed):
                await connection.each(connection.say)

        async with (
            serve(answer, "127.0.0.1", 0, create_connection=ExpressServer, compression=None) as server,
            connect(
                f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                create_connection=ExpressClient,
                compression=None,
            ) as client,
        ):
            reading = asyncio.create_task(client.each(came.put_nowait))
            client.say("é" + "x" * size)
            client.say("after it")
            messages = [await came.get(), await came.get()]
            await client.close()
            client.say("too late")
            with contextlib.suppress(ConnectionClosed):
                await reading
        return messages

    assert asyncio.run(talk()) == ["é" + "x" * size, "after it"]


@pytest.mark.parametrize("lane", [ExpressServer, ExpressClient])
def test_a_fault_of_who_takes_a_message_is_raised_where_it_is_read(lane):
    async def talk():
        connection, _ = opened(lane)
        reading = asyncio.create_task(connection.each(lambda message: {}[message]))
        await asyncio.sleep(0)
        connection.data_received(Frame(Opcode.TEXT, b"nothing").serialize(mask=lane is ExpressServer))
        with pytest.raises(KeyError):
            await reading
        assert connection.state is State.OPEN

    asyncio.run(talk())


def test_text_passes_without_a_turn_of_the_loop():
    async def talk():
        connection, _ = opened(ExpressServer)
        messages = []
        reading = asyncio.create_task(connection.each(messages.append))
        await asyncio.sleep(0)
        connection.data_received(Frame(Opcode.TEXT, b"now").serialize(mask=True))
        assert messages == ["now"]
        reading.cancel()
        await asyncio.wait({reading})
        connection.data_received(Frame(Opcode.TEXT, b"nobody").serialize(mask=True))
        assert messages == ["now"]

    asyncio.run(talk())
