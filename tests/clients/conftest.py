"""A server for tests of the wire: it answers with the very bytes it is given, and keeps what was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


def http(
    status: str = "200 OK", body: bytes | str | dict | list = b"", *, kind: str = "application/json", **headers: str
) -> bytes:
    """A whole answer; a dict goes as JSON, a list as events of a stream; ``_`` in a header's name is ``-``."""
    if isinstance(body, list):
        kind, body = "text/event-stream", "".join(f"data: {json.dumps(e)}\n\n" for e in body)
    if isinstance(body, dict):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass
class RawServer:
    """Answers in order, the last one repeats: bytes, ``drop``, or a coroutine function of (request, writer)."""

    answers: list[Any]
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.asked.append(Asked(method, target, headers, body))
                self.arrived.set()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    answer = await answer(self.asked[-1], writer)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()


async def drop(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    """Close the connection without an answer."""


@contextlib.asynccontextmanager
async def raw_server(*answers: Any) -> AsyncIterator[RawServer]:
    server = RawServer(list(answers))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        current = asyncio.current_task()
        for task in asyncio.all_tasks() - {current}:
            if "RawServer.serve" in repr(task.get_coro()):
                task.cancel()
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Wire:
    """What a test of the wire needs."""

    server: Callable[..., Any] = raw_server
    http: Callable[..., bytes] = http
    drop: Callable[..., Any] = drop


@pytest.fixture
def wire() -> Wire:
    return Wire()
