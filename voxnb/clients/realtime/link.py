"""One session: its socket, its state, and the two tasks that write and read.

A link is bound to its socket and never gets another: a session that begins anew is a new link.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voxnb.audio.media import parsed
from voxnb.clients.realtime.outbox import Outbox
from voxnb.clients.realtime.socket import Socket
from voxnb.errors import APIConnectionError, RemoteProtocolError
from voxnb.runtime.trace import Trace
from voxnb.wire.realtime.refusal import may_reconnect
from voxnb.wire.realtime.session import RealtimeSession, Received
from voxnb.wire.unicode import whole_unicode

PATH: Final = "/realtime"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection ended.

    Attributes:
        code: the close code; 1006 where none was said.
        reason: what came with it.
        was_clean: the peer said a close.
        refusal: what the server had said before, where no session will be had any more.
    """

    code: int
    reason: str
    was_clean: bool
    refusal: str | None = None

    def too_soon(self, host: str, event: str) -> APIConnectionError:
        """The error where it ended before something was to happen."""
        said = f": {self.reason}" if self.reason else ""
        text = f"{host} closed the connection before {event} (code {self.code}{said})"
        return APIConnectionError(text, host=host, passing=may_reconnect(self.code))


class Link:
    """A session that runs.

    Args:
        socket: open.
        session: its state.
        on_received: called with each event that was taken in.
        on_wrong: called with each that was not, and the message as it came.
        trace: notes everything, or None.

    Attributes:
        session: its state.
        outbox: what waits to be sent.
        messages: how many came.
        ready: done when the session is there.
    """

    def __init__(
        self,
        socket: Socket,
        *,
        session: RealtimeSession,
        on_received: Callable[[Link, Received], None],
        on_wrong: Callable[[RemoteProtocolError, Any], None],
        trace: Trace | None,
    ) -> None:
        self.socket = socket
        self.session = session
        self.outbox = Outbox(send_now=socket.send_now if trace is None else None)
        self.messages = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_received = on_received
        self._on_wrong = on_wrong
        self._trace = trace
        self._numbered = 0

    async def run(self) -> Ended:
        """Write and read until the connection ends."""
        writing = asyncio.ensure_future(self.outbox.run(self._send))
        try:
            await self.socket.each(self._receive)
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
        return Ended(self.socket.close_code, self.socket.close_reason, self.socket.was_clean)

    def put(self, command: dict[str, Any]) -> None:
        """Ask for something; it goes out when its turn comes."""
        self.send(self.session.put(command))

    def send(self, commands: Iterable[Mapping[str, Any]]) -> None:
        """Send commands that the session has let go."""
        for command in commands:
            self.outbox.put(json.dumps(command, ensure_ascii=False, separators=(",", ":")))

    def append(self, sound: bytes, *, audio_ms: float) -> None:
        """Send what the user says.

        Args:
            sound: in the session's input format.
            audio_ms: its length.
        """
        coded = base64.b64encode(sound).decode("ascii")
        self.outbox.put(f'{{"type":"input_audio_buffer.append","audio":"{coded}"}}', audio_ms=audio_ms)

    def counts(self) -> dict[str, int]:
        """What went and came, for `RealtimeStatistics`."""
        socket = self.socket
        sizes = {"bytes_sent": socket.bytes_sent, "bytes_received": socket.bytes_received}
        return {"messages_sent": self.outbox.sent, "messages_received": self.messages, **sizes}

    def unsent(self) -> list[dict[str, Any]]:
        """Commands that never went out."""
        return [json.loads(text) for text in self.outbox.commands()]

    async def close(self, *, drain_s: float, within_s: float) -> None:
        """Let what waits go out, then close; both in bounded time."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self.outbox.emptied()
        finally:
            await self.socket.close(within_s=within_s)

    async def _send(self, text: str) -> None:
        if self._trace is not None:
            self._numbered += 1
            self._trace.sent(self._numbered, json.loads(text), method="SEND", path=PATH)
        await self.socket.send(text)

    def _receive(self, message: str | bytes) -> None:
        self.messages += 1
        self.socket.bytes_received += len(message)
        if self._trace is not None:
            self._trace.received(self._numbered, message)
        try:
            event = parsed(message) if isinstance(message, str) else json.loads(message)
            # Half a surrogate pair can neither be stored nor said to the next session.
            if not isinstance(message, str) or "\\u" in message:
                event = whole_unicode(event)
        except (ValueError, RecursionError):
            event = message
        try:
            received = self.session.receive(event)
        except RemoteProtocolError as error:
            self._on_wrong(error, event)
            return
        self.send(received.send)
        self._on_received(self, received)
