"""The body of an answer as bytes, with a limit on silence and typed errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from voxnb.clients.failure import silence
from voxnb.clients.refusal import first_line
from voxnb.errors import APIConnectionError, APIResponseValidationError
from voxnb.wire.unicode import whole_unicode

if TYPE_CHECKING:
    from voxnb.clients.sdk import Transport

MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""An unstreamed answer longer than this is not an answer."""

_SHOWN_BYTES: Final = 4_096
_TRACED_BYTES: Final = 65_536


class Recorder(Protocol):
    """Hears an answer as it is read."""

    def heard(self, data: bytes) -> None:
        """A piece came."""

    def ended(self) -> None:
        """The answer is whole."""

    def closed(self) -> None:
        """Nobody reads on."""


class ByteStream:
    """The body of one answer, as it comes in: ``async for data in stream``.

    Attributes:
        status: HTTP status, always of the 200s.
        headers: of the answer, lower case.
        content_type: ``text/event-stream`` or ``application/json``.
        request_id: the server's id of the request, or None.
        retries: how often the request was repeated before this answer.
        number: of the request, for the trace.
        sent_bytes: of the request's body.
        received_bytes: of the body so far, unpacked.
        silence_s: how long nothing may come once it has begun.
        url: what answered (not what was asked, if the server redirects), without its query.
        recorder: hears what comes, or None.
    """

    def __init__(self, response: Any, *, transport: Transport, retries: int, number: int = 0) -> None:
        self.status: int = response.status_code
        self.headers: dict[str, str] = {k.lower(): v for k, v in response.headers.items()}
        self.content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.request_id = self.headers.get("x-request-id") or self.headers.get("apim-request-id")
        self.retries = retries
        self.number = number
        self.sent_bytes = int(response.request.headers.get("content-length") or 0)
        self.received_bytes = 0
        self.url = str(response.url).partition("?")[0]  # a login page has its tokens in the query
        self.recorder: Recorder | None = None
        self._response = response
        self._transport = transport
        self.silence_s: float = transport.silence_s
        self._chunks: AsyncGenerator[bytes, None] = response.aiter_bytes()
        self._first = b""
        self._started = False

    @property
    def is_streamed(self) -> bool:
        """Server-sent events; otherwise the body is one JSON document."""
        return self.content_type == "text/event-stream"

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body.

        Raises:
            APITimeoutError: nothing came for too long.
            StreamBrokenError: the connection broke, or the body cannot be unpacked.
        """
        if self._first:
            data, self._first = self._first, b""
            return self._heard(data)
        try:
            async with asyncio.timeout(self.silence_s if self._started else None):
                data = await anext(self._chunks)
                self.received_bytes += len(data)
                return self._heard(data)
        except StopAsyncIteration:
            if self.recorder is not None:
                self.recorder.ended()
            raise
        except TimeoutError as error:
            raise silence(self._transport.endpoint, self.silence_s) from error
        except Exception as error:
            raise self._transport.broken(error, started=self._started) from error

    def _heard(self, data: bytes) -> bytes:
        if self.recorder is not None:
            self.recorder.heard(data)
        return data

    async def begin(self, *, streamed: bool = True) -> None:
        """Check what kind of answer it is, and wait until its first byte has come.

        Args:
            streamed: an event stream will do; otherwise only JSON.

        Raises:
            APIResponseValidationError: it is neither, or an empty document.
            APIConnectionError: the stream ended before its first byte.
        """
        is_json = self.content_type == "application/json" or self.content_type.endswith("+json")
        if not (is_json or (streamed and self.is_streamed)):
            raise self.unexpected(await self._read_other())
        try:
            while not self._first:
                self._first = await anext(self)
        except StopAsyncIteration:
            if self.is_streamed:
                host = self._transport.endpoint.host
                raise APIConnectionError(f"{host} ended the answer before its first byte", host=host) from None
            raise self.unexpected(b"") from None
        self._started = True

    async def _read_other(self) -> bytes:
        """The start of a body that is not the API's; more of it where there is a trace to read it in."""
        most_bytes = _SHOWN_BYTES if self._transport.trace is None else _TRACED_BYTES
        body = await self.read(most_bytes=most_bytes)
        if body:
            self.note(body[:most_bytes], **({"cut_to_bytes": most_bytes} if len(body) > most_bytes else {}))
        return body

    def unexpected(self, body: bytes) -> APIResponseValidationError:
        """The error for a body that is not the API's."""
        line = self._transport.hide(first_line(body.decode("utf-8", "replace")))
        kind = self.content_type or "no content type"
        what = f"{kind}, beginning {line!r}" if line else f"{kind} and nothing in it"
        return APIResponseValidationError(
            f"{self.url} answered HTTP {self.status} with {what}; that is not a model API: check base_url, which "
            "mostly ends in /v1, and whether a login page or a proxy stands before it",
            host=self._transport.endpoint.host,
            first_line=line,
        )

    async def read(self, *, most_bytes: int = MOST_ANSWER_BYTES) -> bytes:
        """The rest of the body, cut after about `most_bytes`."""
        parts: list[bytes] = []
        size = 0
        async for data in self:
            parts.append(data)
            size += len(data)
            if size > most_bytes:
                break
        return b"".join(parts)

    async def read_json(self) -> dict[str, Any]:
        """The rest of the body as a JSON object.

        Raises:
            APIResponseValidationError: it is none.
        """
        body = await self.read()
        self.note(body)
        try:
            found = json.loads(body)
            if b"\\u" in body or b"\xed" in body:  # an escape, or half a character as bytes
                found = whole_unicode(found)
        except (ValueError, RecursionError):
            raise self.unexpected(body) from None
        if not isinstance(found, dict):
            raise self.unexpected(body)
        return found

    def note(self, message: bytes | str, **facts: Any) -> None:
        """A message of this answer, for the trace, and what to know of it."""
        if self._transport.trace is not None:
            self._transport.trace.received(self.number, message, **facts)

    async def aclose(self) -> None:
        """Let go of the connection; idempotent."""
        if self.recorder is not None:
            self.recorder.closed()
        await self._chunks.aclose()
        await self._response.aclose()
