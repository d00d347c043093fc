"""One media socket: its messages in, its calls, its messages out; without the socket itself.

Rule 1: a stream is a call from its start to its stop; another start of its tag ends the one before.
Rule 2: what is no message, or of no stream, is counted and dropped; a peer that says nothing else is refused.
Rule 3: what the peer does not take is dropped and counted, never kept without bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from voxnb.audio.media import (
    Broken,
    Custom,
    Dtmf,
    Mark,
    Media,
    Start,
    Stop,
    TwilioWriter,
    VoximplantWriter,
    Writer,
    read,
)
from voxnb.events import WebSocketEvents
from voxnb.media.clock import Clock
from voxnb.media.socket_call import MARK, SocketCall, refused

MOST_BROKEN: Final = 50
"""Messages that are none, more than those that are: then the peer speaks another protocol."""

MOST_TAGS: Final = 16
"""Streams at once on one socket."""

NORMAL: Final = (1000, "Normal connection close", True)


class Wire(Protocol):
    """What a line needs of a socket."""

    def send(self, *texts: str) -> bool:
        """Send text messages without waiting; whether there was room for them."""

    def close(self, code: int, reason: str, /) -> None:
        """Close it soon."""


@dataclass(slots=True)
class LineCounters:
    """What came on a socket."""

    messages: int = 0
    broken: int = 0
    homeless: int = 0
    binary: int = 0


class Line:
    """A media socket without its socket.

    Args:
        wire: where messages go.
        clock: time and the media loop.
        remote: who is connected.
        admit: asked whether one more call may begin, and told of it; makes the `Call`'s id.
    """

    def __init__(
        self, wire: Wire, /, *, clock: Clock, remote: str, admit: Callable[[Line, Start], SocketCall | None]
    ) -> None:
        self.clock = clock
        self.remote = remote
        self.counters = LineCounters()
        self.writer: Writer = VoximplantWriter()
        self.calls: dict[str, SocketCall] = {}
        self.unsent = 0
        self.last_broken = ""
        self._wire = wire
        self._admit = admit
        self._settled = False
        self._over = False

    # -- in -----------------------------------------------------------------------------------

    def receive(self, text: str | bytes, /) -> None:
        """A message came."""
        self.counters.messages += 1
        if isinstance(text, bytes):
            self.counters.binary += 1
            self._broken("a binary message; this protocol is JSON in text messages")
            return
        message = read(text)
        if type(message) is Media:
            call = self.calls.get(message.tag)
            if call is None:
                self.counters.homeless += 1
            else:
                call._packet(message.payload, message.chunk)
        elif isinstance(message, Start):
            self._start(message)
        elif isinstance(message, Stop):
            self._stop(message)
        elif isinstance(message, Mark):
            self._mark(message, text)
        elif isinstance(message, Custom | Dtmf):
            extra = {"dtmf": message.digit} if isinstance(message, Dtmf) else {}
            for call in self.calls.values():
                call._tell(WebSocketEvents.Message, {"text": text, **extra})
        elif isinstance(message, Broken):
            self._broken(message.reason)

    def _broken(self, reason: str) -> None:
        counters = self.counters
        counters.broken += 1
        self.last_broken = reason
        if counters.broken > MOST_BROKEN and counters.broken * 2 > counters.messages:
            self._close(1003, "not a media stream")

    def _start(self, start: Start) -> None:
        problem = refused(start)
        if problem is None and len(self.calls) >= MOST_TAGS and start.tag not in self.calls:
            problem = Broken(f"more than {MOST_TAGS} streams on one socket")
        if problem is not None:
            self._broken(problem.reason)
            return
        if not self._settled:
            self._settled = True
            if start.stream_id is not None:
                self.writer = TwilioWriter(start.stream_id)
        known = self.calls.pop(start.tag, None)
        if known is not None:
            known._ended(code=NORMAL[0], reason="a new stream of its name began", was_clean=True)
        call = self._admit(self, start)
        if call is None:
            self._close(1013, "no room for another call")
        else:
            self.calls[start.tag] = call

    def _stop(self, stop: Stop) -> None:
        call = self.calls.pop(stop.tag, None)
        if call is None:
            self.counters.homeless += 1
            return
        code, reason, clean = NORMAL
        call._ended(code=code, reason=reason, was_clean=clean)

    def _mark(self, mark: Mark, text: str) -> None:
        if any(call._marked(mark.name) for call in self.calls.values()) or mark.name.startswith(MARK):
            return
        for call in self.calls.values():
            call._tell(WebSocketEvents.Message, {"text": text, "mark": mark.name})

    # -- out ----------------------------------------------------------------------------------

    def send(self, *texts: str) -> bool:
        """Send messages, all or none; whether there was room for them."""
        if self._over:
            return False
        if self._wire.send(*texts):
            return True
        self.unsent += 1
        return False

    def hang_up(self, call: SocketCall, /) -> None:
        """End a call from our side, and the socket with the last one."""
        if self.calls.get(call.tag) is call:
            del self.calls[call.tag]
        code, reason, clean = NORMAL
        call._ended(code=code, reason=reason, was_clean=clean)
        if not self.calls:
            self._close(code, reason)

    def _close(self, code: int, reason: str) -> None:
        if not self._over:
            self._wire.close(code, reason)
            self.ended(code=code, reason=reason, was_clean=code == NORMAL[0])

    def ended(self, *, code: int, reason: str, was_clean: bool) -> None:
        """The socket is closed."""
        self._over = True
        while self.calls:
            _, call = self.calls.popitem()
            call._ended(code=code, reason=reason, was_clean=was_clean)

    def statistics(self) -> dict[str, Any]:
        """What came and went, in counts; see `MediaServer.statistics`."""
        return {
            "messages": self.counters.messages,
            "broken": self.counters.broken,
            "homeless": self.counters.homeless,
            "binary": self.counters.binary,
            "unsent": self.unsent,
        }
