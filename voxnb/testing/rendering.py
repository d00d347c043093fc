"""From a scripted reply to the bytes of an HTTP answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.testing import completion as making
from voxnb.testing import service
from voxnb.testing.replies import Chunks, Drop, Hang, Paced, Reply, Status
from voxnb.testing.request import Request

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
DONE: Final = b"data: [DONE]\n\n"


@dataclass
class Answer:
    """What goes over the socket, and how.

    Attributes:
        status: HTTP status.
        headers: response headers, the length left out.
        frames: the body; each frame of a stream is one server-sent event.
        streamed: whether it goes out in HTTP chunks; otherwise its length is told first.
        cut: the `Drop` or `Hang` that ends it early, or None.
        delay_s: pause before the status line.
        chunk_delay_s: pause between frames.
    """

    status: int
    headers: dict[str, str]
    frames: Iterable[bytes]
    streamed: bool = False
    cut: Drop | Hang | None = None
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0


@dataclass(frozen=True)
class Manner:
    """How the server answers where the reply does not say otherwise."""

    usage: making.Usage = True
    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


Body = Callable[[Reply, Request, Manner], Answer]


def render(reply: Reply, request: Request, manner: Manner, *, body: Body | None = None) -> Answer:
    """The answer to a request.

    Args:
        reply: as scripted.
        request: what it answers.
        manner: how the server answers.
        body: makes the answer of a reply without pauses and cuts; default that of a chat completion.

    Raises:
        TypeError: the reply is none of those that `voxnb.testing` names.
    """
    delay_s, chunk_delay_s = manner.delay_s, manner.chunk_delay_s
    cut: Drop | Hang | None = None
    while isinstance(reply, Paced | Drop | Hang):
        if isinstance(reply, Paced):
            delay_s, chunk_delay_s = reply.delay_s, reply.chunk_delay_s
        else:
            cut = reply
        reply = reply.reply
    answer = (body or _body)(reply, request, manner)
    answer.cut, answer.delay_s, answer.chunk_delay_s = cut, delay_s, chunk_delay_s
    answer.headers = {**answer.headers, **manner.headers}
    return answer


def _body(reply: Reply, request: Request, manner: Manner) -> Answer:
    if isinstance(reply, bool) or reply is None or inspect.isawaitable(reply):
        raise TypeError(f"a scripted reply cannot be {reply!r}; see voxnb.testing for what it can be")
    if isinstance(reply, int):
        reply = Status(reply)
    if isinstance(reply, Status):
        return status_answer(reply)
    if isinstance(reply, bytes):
        return raw_answer(reply, request)
    if isinstance(reply, str | Mapping):
        whole = making.completion(reply, request, manner.usage)
        if not request.stream:
            return json_answer({k: v for k, v in whole.items() if k != "usage" or v is not None})
        return stream_answer([*(_event(c) for c in making.chunks(whole, request)), DONE])
    if isinstance(reply, Iterable):
        reply = Chunks(reply)
    if not isinstance(reply, Chunks):
        raise TypeError(f"a scripted reply cannot be {reply!r}; see voxnb.testing for what it can be")
    if not request.stream:
        return json_answer(_folded(reply, request, manner))
    frames = _frames(reply, request, manner)
    return stream_answer(list(frames) if isinstance(reply.chunks, list | tuple) else frames)


def status_answer(reply: Status) -> Answer:
    """A status with its headers and body."""
    body = service.default_body(reply.status_code) if reply.body is None else reply.body
    if isinstance(body, Mapping):
        frame, kind = service.as_json(body), JSON
    else:
        frame = body.encode() if isinstance(body, str) else body
        kind = "text/html; charset=utf-8" if frame.lstrip()[:1] == b"<" else "text/plain; charset=utf-8"
    given = {k.lower(): v for k, v in reply.headers.items()}
    return Answer(reply.status_code, {"content-type": kind, **given}, [frame])


def raw_answer(body: bytes, request: Request) -> Answer:
    """Bytes as they are, with status 200."""
    return Answer(200, {"content-type": _guess(body, request)}, [body])


def json_answer(body: Mapping[str, Any]) -> Answer:
    """JSON with status 200."""
    return Answer(200, {"content-type": JSON}, [service.as_json(body)])


def stream_answer(frames: Iterable[bytes]) -> Answer:
    """A stream of server-sent events."""
    return Answer(200, {"content-type": EVENT_STREAM, "cache-control": "no-cache"}, frames, streamed=True)


def _guess(body: bytes, request: Request) -> str:
    start = body.lstrip()[:1]
    if start == b"<":
        return "text/html; charset=utf-8"
    if start in (b"{", b"["):
        return JSON
    return EVENT_STREAM if request.stream and body else "text/plain; charset=utf-8"


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + service.as_json(chunk) + b"\n\n"


def _frames(reply: Chunks, request: Request, manner: Manner) -> Iterator[bytes]:
    """Server-sent events of a chunk list."""
    try:
        for item in _chunks(reply.chunks, request, manner):
            yield item if isinstance(item, bytes) else _event(item)
        if reply.done:
            yield DONE
    finally:
        close: Callable[[], None] | None = getattr(reply.chunks, "close", None)
        if close is not None:
            close()


def _chunks(
    items: Iterable[Mapping[str, Any] | str | bytes], request: Request, manner: Manner
) -> Iterator[dict[str, Any] | bytes]:
    """The chunks of a list; texts get the role with the first, a finish reason and the usage after the last."""
    base = making.head(request)
    texts: list[str] = []
    finished = False
    for item in items:
        if isinstance(item, str):
            delta = {"content": item} if texts else {"role": "assistant", "content": item}
            texts.append(item)
            yield {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
        elif isinstance(item, bytes):
            yield item
        else:
            choices = item.get("choices")
            finished = finished or any(c.get("finish_reason") for c in choices or () if isinstance(c, Mapping))
            yield dict(item)
    if not texts or finished:
        return
    yield {**base, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
    usage = making.count([{"message": {"content": "".join(texts)}}], request, manner.usage)
    if usage is not None and making.usage_wanted(request):
        yield {**base, "choices": [], "usage": usage}


def _folded(reply: Chunks, request: Request, manner: Manner) -> dict[str, Any]:
    """What an unstreamed request gets of a chunk list: the completion that the chunks add up to."""
    from voxnb.wire.chat import ChatReader

    reader = ChatReader()
    for item in _chunks(reply.chunks, request, manner):
        if not isinstance(item, bytes):
            reader.feed(item)
    choices = [{"finish_reason": "stop", **c} for c in reader.choices]
    usage = reader.usage or making.count(choices, request, manner.usage)
    whole = {**making.head(request), "object": "chat.completion", "choices": choices}
    return whole if usage is None else {**whole, "usage": usage}
