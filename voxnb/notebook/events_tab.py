"""The Events tab: what the client tells its listeners, as it happens."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from voxnb.clients.reply import plain
from voxnb.errors import ParameterError
from voxnb.notebook.tab import Tab

KEPT: Final = 5_000
"""Events that are kept; older ones are forgotten."""

KEPT_CHARACTERS: Final = 4_000_000
"""Of their payloads together."""

MOST_PAYLOAD: Final = 8_000
"""Characters of one payload."""

MOST_STRING: Final = 600
MOST_NODES: Final = 300
"""Values of one payload that are looked at: some carry the whole text so far, again and again."""

MOST_SENT: Final = 200
"""Events in one patch: the newest. What a page did not get it can count, since events are numbered."""

FIRST_SENT: Final = 500
"""Events that a page gets when it comes."""

NOT_KEPT: Final = {"privacy": "what it says is not kept"}
"""Stands for every payload of a private client."""

PREVIEW: Final = 110
"""Characters of a payload in the table."""


class Noted(NamedTuple):
    """One event.

    Attributes:
        number: from 1.
        at: Unix time, seconds.
        name: its string value.
        payload: JSON, cut.
        turn: id of its turn, or None.
        turn_number: the turn's number, or None.
    """

    number: int
    at: float
    name: str
    payload: str
    turn: str | None
    turn_number: int | None


class EventLog:
    """The newest events, in bounded memory; `note` may be called from any thread.

    >>> log = EventLog()
    >>> log.note("Some.Event", {"delta": "Hi"})
    >>> log.since(0)[0].payload
    '{"delta": "Hi"}'
    """

    def __init__(self, *, kept: int = KEPT, kept_characters: int = KEPT_CHARACTERS) -> None:
        self.count = 0
        self._kept, self._most = kept, kept_characters
        self._characters = 0
        self._events: deque[Noted] = deque()
        self._lock = threading.Lock()

    def note(self, name: str, payload: Mapping[str, Any], turn: Any = None) -> None:
        """An event happened."""
        text = json.dumps(cut(payload), ensure_ascii=False, default=str)[:MOST_PAYLOAD]
        with self._lock:
            self.count += 1
            number = getattr(turn, "number", None)
            self._events.append(Noted(self.count, time.time(), name, text, getattr(turn, "id", None), number))
            self._characters += len(text)
            while len(self._events) > self._kept or self._characters > self._most:
                self._characters -= len(self._events.popleft().payload)

    def since(self, number: int, *, most: int = MOST_SENT) -> list[Noted]:
        """The newest events after a number, oldest first."""
        out: list[Noted] = []
        with self._lock:
            for event in reversed(self._events):
                if event.number <= number or len(out) >= most:
                    break
                out.append(event)
        return out[::-1]

    def find(self, number: Any) -> Noted:
        """One event.

        Raises:
            ParameterError: it is not kept any more, or never was.
        """
        with self._lock:
            first = self._events[0].number if self._events else 0
            if isinstance(number, int) and first <= number <= self.count and self._events:
                return self._events[number - first]
        raise ParameterError(f"event {number!r} is not kept; the newest {self._kept:,} are", name="event")


class EventsTab(Tab):
    """A table of events that grows while they happen.

    Args:
        client: whose events.
        poke: called, from any thread, when there is something new.
    """

    name = "events"

    def __init__(self, client: Any, *, poke: Callable[[], None]) -> None:
        self.log = EventLog()
        self._client, self._poke = client, poke
        self._sent = 0
        self._end_watch = client.watch_events(self._on_event)
        self.verbs = {"payload": self._payload}

    def close(self) -> None:
        """Watch no more."""
        self._end_watch()

    def _on_event(self, name: str, payload: Mapping[str, Any], turn: Any) -> None:
        self.log.note(name, NOT_KEPT if self._client.private else payload, turn)
        self._poke()

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """The events that no page has; with ``full`` the newest."""
        found = self.log.since(0, most=FIRST_SENT) if full else self.log.since(self._sent)
        if not found and not full:
            return None
        self._sent = found[-1].number if found else self._sent
        rows = [
            [e.number, round(e.at * 1000), e.name, e.turn_number, e.turn, plain(e.payload[:PREVIEW])] for e in found
        ]
        return {"rows": rows, "kept": KEPT}

    def _payload(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> str:
        """The payload of an event, laid out to be read."""
        text = self.log.find(message.get("event")).payload
        try:
            return plain(json.dumps(json.loads(text), ensure_ascii=False, indent=2))
        except ValueError:
            return plain(f"{text} …")


def cut(value: Any) -> Any:
    """A payload of which nothing is long: long texts and lists by their beginning, with how much there is.

    >>> cut({"audio": b"1234", "text": "x" * 700})["text"][-18:]
    'xx… 700 characters'
    """
    left = MOST_NODES

    def shorter(part: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if isinstance(part, str):
            return part if len(part) <= MOST_STRING else f"{part[:MOST_STRING]}… {len(part):,} characters"
        if isinstance(part, bytes | bytearray | memoryview):
            return f"{len(part):,} bytes"
        if not isinstance(part, Mapping | list | tuple):
            return part
        if depth == 0 or left <= 0:
            return f"… {len(part):,} items"
        if isinstance(part, Mapping):
            return {str(key): shorter(part[key], depth - 1) for key in list(part)[: max(left, 0)]}
        return [shorter(item, depth - 1) for item in part[: max(left, 0)]]

    return shorter(value, 8)
