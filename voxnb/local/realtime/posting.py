"""A POST on a port of WebSockets: read to its end, answered, and the connection closed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from typing import Final, NamedTuple

MOST_BYTES: Final = 1 << 20


class Posted(NamedTuple):
    """A request.

    Attributes:
        path: with its query.
        headers: under lower-case names.
        body: as it came.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes


class Post:
    """The bytes of a POST."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes, /) -> Posted | None:
        """Take bytes; the request once it is whole.

        Raises:
            ValueError: it is none, or too long.
        """
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if len(self._data) > MOST_BYTES:
            raise ValueError("too long")
        if not found:
            return None
        line, _, rest = head.partition(b"\r\n")
        try:
            headers = {name.lower(): value for name, value in parse_headers(io.BytesIO(rest + b"\r\n\r\n")).items()}
        except HTTPException as error:
            raise ValueError(str(error)) from error
        words = line.decode("latin-1").split(" ")
        size = int(headers.get("content-length", 0))
        if len(words) != 3 or size < 0:
            raise ValueError("no request")
        return None if len(body) < size else Posted(words[1], headers, body[:size])


def answered(status: int, headers: Mapping[str, str], body: str, /) -> bytes:
    """The bytes of an answer after which the connection ends."""
    data = body.encode()
    told = {**headers, "Content-Length": str(len(data)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in told.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + data
