"""What the user says, on its way to the session that there is.

Rule 1: what is said while the first session is begun waits for it: whoever has been answered speaks. The oldest of more
than `MOST_AUDIO_MS` is dropped.
Rule 2: what is said while a lost session is begun again is dropped: it would be heard too late.
Rule 3: a session that takes another's place hears the last `CARRIED_MS` again, a word may have begun; but nothing of what
is an item of the conversation already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from voxnb.clients.realtime.link import Link
from voxnb.clients.realtime.outbox import MOST_AUDIO_MS

CARRIED_MS: Final = 400.0


class Sound(NamedTuple):
    """A piece of what was said.

    Attributes:
        data: in the session's input format.
        audio_ms: its length.
        at_s: when it came, monotonic seconds.
    """

    data: bytes
    audio_ms: float
    at_s: float


class Hearing:
    """The way of what the user says.

    Args:
        goes_out: called with what is sent.

    Attributes:
        awaits: the first session is being begun.
        dropped_ms: how much was not sent.
    """

    def __init__(self, *, goes_out: Callable[[Sound], None]) -> None:
        self.awaits = False
        self.dropped_ms = 0.0
        self._goes_out = goes_out
        self._newest: deque[Sound] = deque()
        self._newest_ms = 0.0

    def add(self, sound: Sound, /, *, link: Link | None) -> None:
        """Something was said.

        Args:
            sound: it.
            link: the current session, or None.
        """
        if link is None and not self.awaits:
            self.dropped_ms += sound.audio_ms
            return
        self._newest.append(sound)
        self._newest_ms += sound.audio_ms
        while self._newest_ms > (MOST_AUDIO_MS if link is None else CARRIED_MS):
            oldest = self._newest.popleft()
            self._newest_ms -= oldest.audio_ms
            self.dropped_ms += oldest.audio_ms if link is None else 0.0
        if link is not None:
            self._send(link, sound)

    def begin(self, link: Link, /) -> None:
        """A session is the current one now; it hears the newest."""
        self.awaits = False
        for sound in self._newest:
            self._send(link, sound)

    def lost(self) -> None:
        """The session is lost, or was not to be had."""
        if self.awaits:
            self.dropped_ms += self._newest_ms
        self.awaits = False
        self.committed()

    def committed(self) -> None:
        """What was said so far became an item: no other session hears it."""
        self._newest.clear()
        self._newest_ms = 0.0

    def _send(self, link: Link, sound: Sound) -> None:
        self._goes_out(sound)
        link.append(sound.data, audio_ms=sound.audio_ms)
