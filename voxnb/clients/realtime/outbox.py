"""What is on its way to the server: commands and audio in the order in which they were given.

Commands are never dropped, so there is a limit to how many may wait. Audio is worth nothing when it is late: beyond
`MOST_AUDIO_MS` the oldest of it is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from voxnb.runtime.lateness import Lateness

MOST_COMMANDS: Final = 10_000
MOST_AUDIO_MS: Final = 5_000.0


class Outbox:
    """The messages of one session that wait to be sent; lives on the background loop.

    Args:
        most_audio_ms: of sound that waits.
        send_now: sends a message without waiting where nothing else waits; says whether it did.

    Attributes:
        dropped_ms: audio that was dropped, milliseconds.
        deepest: most messages that ever waited.
        sent: messages sent.
        late: how long each took from here to the system.
    """

    def __init__(self, *, most_audio_ms: float = MOST_AUDIO_MS, send_now: Callable[[str], bool] | None = None) -> None:
        self._send_now = send_now
        self._is_idle = False
        self._waiting: deque[tuple[str, float, float]] = deque()
        self._now = time.monotonic
        self.late = Lateness()
        self._audio_ms = 0.0
        self._most_audio_ms = most_audio_ms
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.dropped_ms = 0.0
        self.deepest = 0
        self.sent = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, text: str, *, audio_ms: float = 0.0) -> None:
        """Add a message.

        Args:
            text: the message.
            audio_ms: length of the audio in it; 0 for a command.
        """
        if self._is_idle and self._send_now is not None and self._send_now(text):
            self.sent += 1
            self.late.add(0.0)
            return
        self._waiting.append((text, audio_ms, self._now()))
        self._audio_ms += audio_ms
        if self._audio_ms > self._most_audio_ms:
            self._drop_oldest_audio()
        self.deepest = max(self.deepest, len(self._waiting))
        self._is_idle = False
        self._emptied.clear()
        self._filled.set()

    def _drop_oldest_audio(self) -> None:
        kept: list[tuple[str, float, float]] = []
        for text, audio_ms, put_s in self._waiting:
            if audio_ms and self._audio_ms > self._most_audio_ms:
                self._audio_ms -= audio_ms
                self.dropped_ms += audio_ms
            else:
                kept.append((text, audio_ms, put_s))
        self._waiting = deque(kept)

    def facts(self) -> dict[str, Any]:
        """A row of `RealtimeStatistics.queues`."""
        own = {"queue": "to the server", "depth": len(self), "deepest": self.deepest, "dropped_ms": self.dropped_ms}
        return {**own, **self.late.facts()}

    def commands(self) -> list[str]:
        """The commands that wait, in order."""
        return [text for text, audio_ms, _ in self._waiting if not audio_ms]

    async def run(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what comes, in order, until cancelled."""
        while True:
            self._is_idle = False
            while self._waiting:
                text, audio_ms, put_s = self._waiting.popleft()
                self._audio_ms -= audio_ms
                await send(text)
                self.sent += 1
                self.late.add((self._now() - put_s) * 1000)
            self._emptied.set()
            self._filled.clear()
            self._is_idle = True
            await self._filled.wait()

    async def emptied(self) -> None:
        """Wait until all is sent."""
        await self._emptied.wait()
