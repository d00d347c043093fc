"""`Channel`: the one place from which a widget speaks to its pages, and where what they say arrives.

A page says ``hello`` when it is shown and after every gap; until then nothing is sent. From then on numbered patches
go out, at most `SENDS_PER_S` a second and never more than `AHEAD` that no page has confirmed: a page that is slow, or
gone, is not flooded, and what it misses is not kept, since a patch is made of what there is when it is sent.

Rule 1: everything is sent in (a copy of) the context in which the page's last hello was handled. The kernel hands a
widget's messages to the shell that last published for it: sent from an ordinary cell's context, a click on Stop would
wait until that cell ends.
Rule 2: what arrives is only noted here; a thread of the channel's own acts on it, so a handler never blocks a shell.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any, Final

SENDS_PER_S: Final = 20
"""Most messages a second; at ten times as many the page no longer answers."""

AHEAD: Final = 2
"""Patches on their way that no page has confirmed."""

SHARE: Final = 5
"""A patch that took t seconds to make is followed by at least t times this much without one."""

POLL_S: Final = 1.0
"""How often a channel with a page looks whether something changed that nobody told it."""

Message = Mapping[str, Any]


class Channel:
    """Both directions between a widget and the pages that show it.

    Args:
        send: sends a message, and its buffers if it has some, to all pages; called in the page's context.
        compose: makes the next patch, or None where there is nothing to say; with ``full=True``, all there is to show.
        perform: does what a page asked for; called in the channel's thread.
        look: whether something changed, asked every `poll_s` seconds; None where all changes are told by `poke`.
        poll_s: see `look`.
        name: of the thread.
    """

    def __init__(
        self,
        *,
        send: Callable[..., object],
        compose: Callable[..., Message | None],
        perform: Callable[[Message, Sequence[bytes]], object],
        look: Callable[[], bool] | None = None,
        poll_s: float = POLL_S,
        name: str,
    ) -> None:
        self._poll_s = poll_s
        self._send, self._compose, self._perform, self._look, self._name = send, compose, perform, look, name
        self._news = threading.Condition()
        self._sending = threading.Lock()
        self._jobs: deque[tuple[Message, Sequence[bytes]]] = deque()
        self._context: Context | None = None
        self._thread: threading.Thread | None = None
        self._number = self._confirmed = 0
        self._full = self._dirty = self._broke = self.closed = False
        self._rest_until_s = 0.0

    @property
    def attached(self) -> bool:
        """Whether a page has said hello."""
        return self._context is not None

    def receive(self, content: Any, buffers: Sequence[Any] | None = None) -> None:
        """Note what a page said; returns at once, from any thread."""
        if not isinstance(content, Mapping):
            return
        kind = content.get("t")
        with self._news:
            if self.closed:
                return
            if kind == "hello":
                self._context = copy_context()
                self._full, self._confirmed = True, self._number
            elif kind == "ack":
                number = content.get("n")
                self._confirmed = max(self._confirmed, number) if isinstance(number, int) else self._confirmed
            else:
                self._jobs.append((content, [bytes(b) for b in buffers or ()]))
            self._begin()
            self._news.notify()

    def poke(self) -> None:
        """There is something new to show; returns at once, from any thread."""
        with self._news:
            self._dirty = True
            self._news.notify()

    def tell(self, message: Message, buffers: list[bytes] | None = None) -> None:
        """Send a message now: an answer or sound, not a patch. Nothing is sent where no page is."""
        context = self._context
        if context is not None and not self.closed:
            with self._sending:
                context.copy().run(self._send, message, *([buffers] if buffers else ()))

    def close(self) -> None:
        """Send nothing more and end the thread; a second call does nothing."""
        with self._news:
            self.closed = True
            self._jobs.clear()
            self._news.notify()

    # -- the channel's thread -----------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=Context().run, args=(self._run,), name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                if isinstance(job, tuple):
                    self._perform(*job)
                elif job:
                    self._patch()
                elif self._look is not None and self._look():
                    self.poke()
            except Exception as error:  # noqa: BLE001 - whatever breaks is shown, and the widget lives on
                self.tell({"t": "trouble", "text": f"{type(error).__name__}: {error}"})

    def _next(self) -> tuple[Message, Sequence[bytes]] | bool | None:
        """What to do: a page's wish, a patch (True), a look around (False), or the end (None)."""
        with self._news:
            while not self.closed:
                if self._jobs:
                    return self._jobs.popleft()
                free = self._number - self._confirmed < AHEAD
                rest_s = self._rest_until_s - time.monotonic()
                if (self._full or (self._dirty and free)) and rest_s <= 0:
                    return True
                waits = self._full or (self._dirty and free)
                pause_s = rest_s if waits else self._poll_s if free and self._look is not None else None
                if not self._news.wait(pause_s) and not waits:
                    return False
        return None

    def _patch(self) -> None:
        with self._news:
            full, self._full, self._dirty = self._full or self._broke, False, False
        self._broke = True  # until it is sent: of a patch that fails nothing is known to have come
        began_s = time.monotonic()
        patch = self._compose(full=full)
        if patch is not None:
            with self._news:
                self._number += 1
                number = self._number
            self.tell({**patch, "t": "patch", "n": number, "full": full})
        self._broke = False
        now_s = time.monotonic()
        self._rest_until_s = now_s + max(1 / SENDS_PER_S, SHARE * (now_s - began_s))
