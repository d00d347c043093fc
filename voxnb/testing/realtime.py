"""Realtime sessions on the test server's port: the same script, spoken by the local Realtime server."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voxnb.testing.replies import Drop, Hang, Paced, Reply, Status
from voxnb.testing.request import Request

if TYPE_CHECKING:
    from voxnb.local.realtime.recording import Recording

_LINE_BYTES: Final = 8_192
_WAIT_S: Final = 10.0
_REALTIME: Final = re.compile(rb"(?:GET \S*/realtime(?:\?\S*)?|POST \S*/realtime/client_secrets) HTTP/")


@dataclass(frozen=True, kw_only=True)
class Realtime:
    """How Realtime sessions go on the test server.

    Attributes:
        hears: what users are said to have said: a text, texts in order (the last repeats, None is a failed transcript), or
            a function of the `voxnb.local.realtime.Heard` speech; None says how long the speech was.
        speed: how much faster than it sounds audio is sent.
        delta_ms: length of an audio delta, in milliseconds.
        session_s: length of a session, in seconds; then it is closed with 1001.
        transcription_ms: how long a user's words take to be written down.
        thinking_ms: how long the model thinks before every answer.
        chaos: what goes wrong, a `voxnb.local.realtime.Chaos`; None for nothing.
        handshakes: what the first connections get: a status, ``(status, headers, body)``, or None to be let in.
        seed: of the ids and of chance.
        remote_tools: label of a remote (MCP) server → the tools that it lists; others are out of reach.
    """

    hears: Any = None
    speed: float = 4.0
    delta_ms: int = 250
    session_s: float = 3_600
    transcription_ms: float = 40.0
    thinking_ms: float = 0.0
    chaos: Any = None
    handshakes: Iterable[Any] = ()
    seed: int | None = None
    remote_tools: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


class FarEnd:
    """The Realtime half of a test server.

    Args:
        next_reply: takes the next reply from the script.
        settings: see `Realtime`.
        record: takes a request down.
        api_key: as the server's.
        require_key: likewise.
        models: likewise.
        errors: where exceptions of reply functions go.
        is_quick: whether no reply has to be waited for.
    """

    def __init__(
        self,
        next_reply: Callable[[], Reply],
        settings: Realtime,
        *,
        record: Callable[..., Request],
        api_key: str,
        require_key: bool,
        models: Sequence[str] | None,
        errors: list[BaseException],
        is_quick: bool,
    ) -> None:
        # Numbers and sockets are only loaded for those who speak.
        from voxnb.local.realtime import Chaos, Manner, RealtimeServer, Script

        def replies() -> Iterator[Reply]:
            while True:
                yield next_reply()

        class Recorded(RealtimeServer):
            def objection(
                self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
            ) -> tuple[int, Mapping[str, str], str] | None:
                target = path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
                request = record("GET", target, headers=headers, body=b"")
                request._end("answered")  # noqa: SLF001 - the request's other half
                return super().objection(path, query=query, headers=headers)

            def posted(
                self, path: str, *, headers: Mapping[str, str], body: bytes
            ) -> tuple[int, Mapping[str, str], str]:
                request = record("POST", path, headers=headers, body=body)
                request._end("answered")  # noqa: SLF001 - as above
                return super().posted(path, headers=headers, body=body)

        self._server = Recorded(
            Script(replies(), hears=settings.hears, read=_read, is_quick=is_quick),
            manner=Manner(
                speed=settings.speed,
                delta_ms=settings.delta_ms,
                session_s=settings.session_s,
                transcription_ms=settings.transcription_ms,
                thinking_ms=settings.thinking_ms,
                chaos=settings.chaos or Chaos(),
                remote_tools=settings.remote_tools,
            ),
            api_key=api_key,
            require_key=require_key,
            models=models,
            handshakes=settings.handshakes,
            seed=settings.seed,
            listen=False,
        )
        self._server.errors = errors

    @property
    def sessions(self) -> list[Recording]:
        """Recordings of the sessions, in order."""
        return self._server.sessions

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that `is_upgrade`."""
        self._server.adopt(connection)

    def close(self) -> None:
        """End the sessions."""
        self._server.close()


def is_upgrade(connection: socket.socket) -> bool:
    """Whether a new connection asks for ``/realtime``, or for a key to it; nothing of it is taken.

    Args:
        connection: just accepted.
    """
    seen = b""
    while b"\r\n" not in seen and len(seen) < _LINE_BYTES:
        readable, _, _ = select.select([connection], [], [], _WAIT_S)
        try:
            now = connection.recv(_LINE_BYTES, socket.MSG_PEEK) if readable else b""
        except OSError:
            return False
        if len(now) == len(seen):  # the end, or a line that stops in the middle: not one of ours
            return False
        seen = now
    return _REALTIME.match(seen) is not None


def _read(reply: Reply) -> Any:
    """A reply of the test server as one of the local Realtime server's."""
    from voxnb.local.realtime import Ended, Gone, Stuck, Wait

    if isinstance(reply, bool):
        return reply
    if isinstance(reply, int | Status):
        status = reply if isinstance(reply, int) else reply.status_code
        code = {429: "inference_rate_limit_exceeded"}.get(status, "server_error")
        kind = "invalid_request_error" if status == 429 else "server_error"
        return Ended(code=code, kind=kind, message=f"The response failed with status {status}.")
    if isinstance(reply, Drop | Hang):
        part = Gone if isinstance(reply, Drop) else Stuck
        return [part(after_events=reply.after_events or 0), reply.reply]
    if isinstance(reply, Paced):
        return [Wait(reply.delay_s * 1_000), reply.reply]
    return reply
