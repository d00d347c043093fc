"""Gives up answers that never begin, so that what waits for them does not wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from voxnb.clients.realtime.link import Link
from voxnb.errors import APITimeoutError

REQUEST_S: Final = 30.0
"""How long the answer to a `response.create` may take to begin."""


class Watchdog:
    """Looks after the `response.create` that the current session has sent and the server has neither answered nor refused.

    Args:
        current: the current session's link, or None.
        tell: called with what to say of an answer that was given up.
        host: of the server, for that.
    """

    def __init__(
        self, *, current: Callable[[], Link | None], tell: Callable[[APITimeoutError], None], host: str
    ) -> None:
        self._current = current
        self._tell = tell
        self._host = host
        self._watched: str | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def look(self, link: Link) -> None:
        """Something went out or came in."""
        asked = link.session.requested
        if asked is not None and asked != self._watched:
            self.rest()
            self._watched = asked
            self._alarm = asyncio.get_running_loop().call_later(REQUEST_S, self._give_up, link, asked)

    def rest(self) -> None:
        """Nothing is watched any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _give_up(self, link: Link, asked: str) -> None:
        if link is not self._current() or link.session.requested != asked:
            return
        self._tell(
            APITimeoutError(
                f"{self._host} began no answer to response.create within {REQUEST_S:g} s; it is waited for no longer",
                host=self._host,
            )
        )
        link.send(link.session.give_up_requested())
        self.look(link)
