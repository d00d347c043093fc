"""What a client looks at again later: an answer that never begins or is never asked for, a session that nears its end.

The loop would hold a closed client until its last timer, an hour perhaps; so they are kept here, and taken back at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from voxnb.clients.realtime.link import Link
from voxnb.errors import APITimeoutError
from voxnb.wire.realtime.item import Item

REQUEST_S: Final = 30.0
"""How long the answer to a `response.create` may take to begin."""


OWED_S: Final = 30.0
"""How long a replacement waits for the answer to what was said, where nobody asks for one."""


class Moves:
    """Wakes who waits for something of the sessions whenever anything has happened: they look again."""

    def __init__(self) -> None:
        self._made = asyncio.Event()

    def made(self) -> None:
        """Something has."""
        self._made.set()

    async def next(self, timeout_s: float) -> None:
        """Wait until something does, or for so long."""
        self._made.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._made.wait()


class Patience:
    """For an answer that is owed and that nobody asks for."""

    def __init__(self) -> None:
        self._waits_for, self._since = "", 0.0

    def is_over(self, items: Iterable[Item], *, is_quiet: bool) -> bool:
        """Whether the answer is waited for no longer.

        Args:
            items: the session's; a call of the model's waits for its result, however long that takes.
            is_quiet: nothing happens now.
        """
        newest_first = list(items)[::-1]
        waits_for = newest_first[0].id if newest_first and is_quiet and not _is_asking(newest_first) else ""
        if waits_for != self._waits_for:
            self._waits_for, self._since = waits_for, time.monotonic()
        return bool(waits_for) and time.monotonic() - self._since > OWED_S


def _is_asking(newest_first: Iterable[Item]) -> bool:
    """Whether the model has asked for something last, and not everything of it was given."""
    given: set[str | None] = set()
    for item in newest_first:
        if item.type == "function_call_output":
            given.add(item.call_id)
        elif item.type == "function_call" and item.call_id in given:
            continue
        else:
            return item.type in ("function_call", "mcp_approval_request")
    return False


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
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def look(self, link: Link) -> None:
        """Something went out or came in."""
        asked = link.session.requested
        if asked is not None and asked != self._watched:
            self._watched = asked
            self._set("answer", REQUEST_S, self._give_up, link, asked)

    def wake(self, due_s: float, fn: Callable[[], None]) -> None:
        """Call a function once, in place of what was to be called before.

        Args:
            due_s: from now on.
            fn: it.
        """
        self._set("wake", due_s, fn)

    def rest(self) -> None:
        """Look after nothing any more."""
        for timer in self._timers.values():
            timer.cancel()

    def _set(self, name: str, due_s: float, fn: Callable[..., None], *args: Any) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(due_s, fn, *args)

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
