"""A WebSocket server whose behaviour a test writes: what no faithful server does, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from tests.wire.realtime.talk import Talk

WAIT_S = 30
KEY = "sk-test-0123456789"


@dataclass
class Connection:
    """One connection: what came, and ways to answer."""

    socket: object
    talk: Talk = field(default_factory=Talk)
    received: list = field(default_factory=list)

    @property
    def request(self):
        return self.socket.request

    async def send(self, *events):
        for event in events:
            text = event if isinstance(event, str | bytes) else json.dumps(event)
            await self.socket.send(text)

    async def begin(self, **session):
        await self.send(self.talk.created(**session))

    async def next(self, kind=None):
        """The next event of the client, of a type."""
        while True:
            event = json.loads(await self.socket.recv())
            self.received.append(event)
            if kind is None or event["type"] == kind:
                return event

    async def until_closed(self):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.next()


class Peer:
    """Serves in a thread of its own; ``behave(connection)`` is what it does with each connection.

    Args:
        behave: a coroutine function, or a list of them, one per connection; the last one repeats.
        refuse: ``(path, headers) -> None`` or a status with a body: refuses the handshake.
    """

    def __init__(self, behave, *, refuse=None):
        self._behave = list(behave) if isinstance(behave, list) else [behave]
        self._refuse = refuse
        self.connections = []
        self.handshakes = []
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-peer", daemon=True)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self):
        self._over = asyncio.Event()
        settings = {"compression": None, "max_size": None, "ping_interval": None, "close_timeout": 0.1}
        async with serve(self._handle, "127.0.0.1", 0, process_request=self._handshake, **settings) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await self._over.wait()
            server.close(close_connections=False)
            for connection in self.connections:
                connection.socket.transport.abort()

    def _handshake(self, connection, request):
        self.handshakes.append(request)
        refused = self._refuse(request, len(self.handshakes)) if self._refuse else None
        if refused is None:
            return None
        status, body = refused
        response = connection.respond(status, body)
        response.headers["Content-Type"] = "application/json"
        return response

    async def _handle(self, socket):
        connection = Connection(socket)
        self.connections.append(connection)
        behave = self._behave.pop(0) if len(self._behave) > 1 else self._behave[0]
        with contextlib.suppress(ConnectionClosed):
            await behave(connection)

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def do(self, work):
        """Run a coroutine on the peer's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(WAIT_S)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(WAIT_S)


async def greet(connection):
    """Begin a session and listen."""
    await connection.begin()
    await connection.until_closed()
