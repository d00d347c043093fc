"""Requests that go through a tape: answered from it, or sent and put on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.bytestream import ByteStream
from voxnb.clients.refusal import refusal
from voxnb.errors import APIStatusError, CredentialsError, LocalModelError, TapeError
from voxnb.runtime import config
from voxnb.taping.asked import VOLATILE, Asked, cleaned
from voxnb.taping.block import Exchange, Step
from voxnb.taping.tape import Tape, refused, running
from voxnb.wire.sse import SSEReader

if TYPE_CHECKING:
    from voxnb.clients.sdk import Transport

JSON: Final = "application/json"
STREAM: Final = "text/event-stream"
_ENDINGS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


async def through_tape(
    transport: Transport,
    path: str,
    body: Mapping[str, Any] | None,
    *,
    streamed: bool,
    live: Callable[[], Awaitable[ByteStream]],
) -> ByteStream:
    """The answer to a request: from the tape that runs, else from the server.

    Args:
        transport: of the request.
        path: below the base URL.
        body: of a POST; None for a GET.
        streamed: see `ByteStream.begin`.
        live: asks the server.

    Raises:
        TapeMissError: it is not on the tape and cannot be asked.
        TapeError: the client is private.
        APIError: the server's refusal, then or now.
    """
    tape = running()
    if tape is None:
        return await live()
    check_may_be_taped(tape, private=transport.private)
    tape.hide.learn(transport.secrets)
    asked = Asked(
        "GET" if body is None else "POST",
        f"/{path.lstrip('/')}",
        cleaned(body or {}, hide=tape.hide, without=VOLATILE),
    )
    found = tape.take(asked)
    if found is not None:
        return await _replayed(transport, found, tape=tape, streamed=streamed)
    try:
        opened = await live()
    except (CredentialsError, LocalModelError) as error:
        raise tape.miss(asked, because=str(error)) from error
    except APIStatusError as error:
        if refused(error.status_code):
            came = [] if error.body is None else [Step("came", 0, cleaned(error.body, hide=tape.hide))]
            tape.record(Exchange(asked, error.status_code, JSON, came))
        raise
    tape.hide.learn(transport.secrets)  # also what this request brought
    opened.recorder = _Recorder(tape, asked, opened)
    return opened


def check_may_be_taped(tape: Tape, *, private: bool) -> None:
    """Nothing of a private client goes on a tape.

    Raises:
        TapeError: it would.
    """
    if private:
        raise TapeError(
            f"this client is private, and the tape {str(tape.path)!r} would keep what it says; stop the tape first "
            "(its .stop()), or make the client without privacy=True",
            path=str(tape.path),
        )


class _Recorder:
    """Listens to an answer and puts it on the tape once it is whole."""

    def __init__(self, tape: Tape, asked: Asked, opened: ByteStream) -> None:
        self._tape, self._asked, self._opened = tape, asked, opened
        self._sse = SSEReader()
        self._body = bytearray()
        self._steps: list[Step] = []
        self._at = time.monotonic()
        self._is_whole = self._is_done = False

    def heard(self, data: bytes) -> None:
        """A piece of the answer came."""
        if self._opened.is_streamed:
            self._take(self._sse.feed(data))
        else:
            self._body += data

    def ended(self) -> None:
        """The server said all it had to say."""
        if not self._opened.is_streamed:
            self._take([self._body.decode("utf-8", "replace")])
            self._is_whole = isinstance(self._steps[-1].value, dict)
        else:
            self._take(self._sse.close())

    def closed(self) -> None:
        """Nobody reads on: keep what is whole; what was cut off is asked again another time."""
        if self._is_done or not self._is_whole:
            return
        self._is_done = True
        values = self._tape.hide.events(step.value for step in self._steps)
        steps = [Step(step.kind, step.wait_ms, value) for step, value in zip(self._steps, values, strict=True)]
        try:
            self._tape.record(Exchange(self._asked, self._opened.status, self._opened.content_type, steps))
        except TapeError as error:  # the answer is there; only the tape is not
            config.report(str(error))

    def _take(self, payloads: list[str]) -> None:
        now = time.monotonic()
        for text in payloads:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = " ".join(text.split())
            if isinstance(value, dict):
                value.pop("obfuscation", None)  # random padding of the service
                self._is_whole = self._is_whole or _is_last(value)
            self._is_whole = self._is_whole or value == "[DONE]"
            self._steps.append(Step("came", round((now - self._at) * 1000), value))
            self._at = now


def _is_last(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    finished = isinstance(choices, list) and any(isinstance(c, dict) and c.get("finish_reason") for c in choices)
    return finished or event.get("type") in _ENDINGS or (event.get("object") == "response" and "status" in event)


async def _replayed(transport: Transport, found: Exchange, *, tape: Tape, streamed: bool) -> ByteStream:
    if found.status >= 400:
        raise refusal(
            found.status,
            body=found.steps[0].value if found.steps else None,
            headers={},
            endpoint=transport.endpoint,
            url=f"{transport.endpoint.base_url}{found.asked.path}",
            model=found.asked.body.get("model"),
        )
    response = SimpleNamespace(
        status_code=found.status,
        headers={"content-type": found.kind},
        request=SimpleNamespace(headers={}),
        url=f"{transport.endpoint.base_url}{found.asked.path}",
        aiter_bytes=lambda: _pieces(found, tape),
        aclose=_nothing,
    )
    opened = ByteStream(response, transport=transport, retries=0)
    await opened.begin(streamed=streamed)
    return opened


async def _pieces(found: Exchange, tape: Tape) -> AsyncGenerator[bytes, None]:
    for step in found.steps:
        await asyncio.sleep(step.wait_ms / 1000 if tape.pace == "real" else 0)
        text = step.value if isinstance(step.value, str) else json.dumps(step.value)
        yield (f"data: {text}\n\n" if found.kind == STREAM else text).encode()


async def _nothing() -> None:
    return None
