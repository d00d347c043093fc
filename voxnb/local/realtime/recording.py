"""What went over a connection, for whoever looks at it afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Final

from voxnb.local.realtime.order import Order

MOST_EVENTS: Final = 20_000
"""Events kept in each direction; later ones are counted and checked, not kept."""


class Recording:
    """One connection's events.

    Sound is kept as its length: ``audio`` of an append and ``delta`` of audio become ``"<n base64 characters>"``.

    Attributes:
        kind: ``realtime`` or ``transcription``.
        query: of the address, ``{"model": …}``.
        received: events of the client, in order.
        sent: events of the server, in order.
        problems: where the server's own events break the order of the protocol; always empty, or the server is wrong.
        received_count: how many came, kept or not.
        close_code: what the client closed with; None while it is open, and where the connection just broke.
        is_open: whether the connection stands.
    """

    def __init__(self, kind: str, query: Mapping[str, str], *, most_events: int = MOST_EVENTS) -> None:
        self._most_events = most_events
        self.kind, self.query = kind, query
        self.received: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.received_count = 0
        self.close_code: int | None = None
        self.is_open = True
        self._order = Order()
        self._changed = threading.Condition()

    @property
    def problems(self) -> list[str]:
        """See the class."""
        return self._order.problems

    def took(self, message: bytes, /) -> None:
        """Note a message of the client."""
        if not self._most_events:
            return
        try:
            event = json.loads(message)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            event = {"type": None, "message": message[:200].decode(errors="replace")}
        if event.get("type") == "input_audio_buffer.append" and isinstance(event.get("audio"), str):
            event["audio"] = f"<{len(event['audio'])} base64 characters>"
        with self._changed:
            self.received_count += 1
            if len(self.received) < self._most_events:
                self.received.append(event)
            self._changed.notify_all()

    def sent_event(self, event: Mapping[str, Any], /) -> None:
        """Note and check an event of the server."""
        if not self._most_events:
            return
        self._order.feed(event)
        kept = dict(event)
        if kept["type"] == "response.output_audio.delta":
            kept["delta"] = f"<{len(kept['delta'])} base64 characters>"
        with self._changed:
            if len(self.sent) < self._most_events:
                self.sent.append(kept)
            self._changed.notify_all()

    def end(self, close_code: int | None, /) -> None:
        """The connection is over."""
        with self._changed:
            self.close_code, self.is_open = close_code, False
            self._changed.notify_all()

    def types(self) -> list[str]:
        """The types of the server's events, in order."""
        return [event["type"] for event in self.sent]

    def wait_for(self, kind: str, /, *, count: int = 1, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """Wait until the client has sent so many events of a type.

        Args:
            kind: such as ``response.create``.
            count: how many.
            timeout_s: the longest wait, in seconds.

        Returns:
            Those events.

        Raises:
            TimeoutError: fewer came.
        """

        def found() -> list[dict[str, Any]]:
            return [e for e in self.received if e.get("type") == kind]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= count, timeout_s):
                raise TimeoutError(f"{len(found())} of {count} {kind!r} came in {timeout_s} s")
            return found()

    def wait_until_closed(self, *, timeout_s: float = 10.0) -> int | None:
        """Wait until the connection is over.

        Returns:
            `close_code`.

        Raises:
            TimeoutError: it still stands.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self.is_open, timeout_s):
                raise TimeoutError(f"the connection still stands after {timeout_s} s")
            return self.close_code

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Recording {self.kind} {state}, {self.received_count} received, {len(self.sent)} sent>"
