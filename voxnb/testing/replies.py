"""What a test may have the server answer, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from voxnb.testing.request import Request

Reply: TypeAlias = Any
"""A text, a message, a completion, chunks, a status, raw bytes, or one of the values of this module."""

Replies: TypeAlias = Reply | Iterable[Reply] | Callable[[Request], Reply]
"""One reply for all requests, several in order, or a function of the request."""


@dataclass(frozen=True)
class Status:
    """An HTTP status with headers and a body.

    Attributes:
        status_code: HTTP status, such as 429.
        headers: response headers, such as ``{"Retry-After": "0"}``.
        body: a dict (sent as JSON), text or bytes; None is the service's error body for this status, or
            nothing below 400.
    """

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | str | bytes | None = None


@dataclass(frozen=True)
class Drop:
    """The connection is closed in the middle of the answer, or before it.

    Attributes:
        after_bytes: bytes of the body that go out first; 0 closes before even the status line.
        after_events: instead of it, server-sent events that go out first; 0 sends the headers only.
        reply: the answer that is cut.
        reset: end with a TCP reset, which may also destroy what the other side has not read yet.
    """

    after_bytes: int = 0
    after_events: int | None = None
    reply: Reply = "This answer never ends."
    reset: bool = False


@dataclass(frozen=True)
class Hang:
    """The answer stops and the connection stays open, silent, until one side closes it.

    Attributes:
        after_bytes: bytes of the body that go out first; 0 sends not even the status line.
        after_events: instead of it, server-sent events that go out first; 0 sends the headers only.
        reply: the answer that stops.
    """

    after_bytes: int = 0
    after_events: int | None = None
    reply: Reply = "This answer never ends."


@dataclass(frozen=True)
class Paced:
    """A reply with pauses of its own.

    Attributes:
        reply: the answer.
        delay_s: pause before the status line, in seconds.
        chunk_delay_s: pause before every server-sent event but the first, in seconds.
    """

    reply: Reply
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0


@dataclass(frozen=True)
class Chunks:
    """A list of chunks where it matters whether ``[DONE]`` follows.

    Attributes:
        chunks: dicts go out as they are, ``str`` as pieces of text, ``bytes`` verbatim.
        done: send ``data: [DONE]`` at the end.
    """

    chunks: Iterable[Mapping[str, Any] | str | bytes]
    done: bool = True
