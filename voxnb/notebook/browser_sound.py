"""`BrowserSound`: one page's microphone and loudspeaker as a part of a call, and the lease by which it is one page's.

A page asks for the *lease* once its microphone is open; another page that asks gets it, and the first is told. While a
page holds it, its frames of sound go to the model, and the model's go to it; the page says what it has played. Each
side is a dead man's switch to the other: a page whose frames stay away for `GONE_S` loses the lease, and a page that
hears nothing of the kernel for as long lets go of the microphone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voxnb.errors import TurnError
from voxnb.media import WidgetUnit
from voxnb.runtime import loop

TAG: Final = "browser"
"""Of its two streams."""

GONE_S: Final = 3.0
"""A page that is silent for so long is gone: one that listens sends frames of silence, too."""

FRAME_MS: Final = 40
"""Sound in one of a page's messages."""

CONFIRM: Final = 5
"""Every how many frames the page is told that they come."""


class BrowserSound:
    """A browser in a call.

    Args:
        client: the realtime client.
        tell: sends a message with buffers to the pages.
        changed: called, from any thread, when there is something to show.

    Attributes:
        unit: the browser as a media unit.
        owner: the page that holds the lease, or None.
        frames: that came from it.
        lost: that did not come, by their numbers.
        reordered: that came after a later one.
        why: why nobody holds the lease, where somebody did.
    """

    def __init__(
        self, client: Any, *, tell: Callable[[Mapping[str, Any], list[bytes]], object], changed: Callable[[], object]
    ) -> None:
        self._client, self._tell, self._changed = client, tell, changed
        self.unit = WidgetUnit(self._post)
        self.owner: str | None = None
        self.why = ""
        self._lease = threading.RLock()  # pages take and leave it in one thread, it is looked after in another
        self._reset()

    def _reset(self) -> None:
        self.frames = self.lost = self.reordered = 0
        self._last = -1
        self._at_s = time.monotonic()

    def take(self, page: str) -> None:
        """Give the lease to a page."""
        with self._lease:
            had, self.owner, self.why = self.owner, page, ""
            self._reset()
            if had is None:
                self.unit.send_media_to(self._client, tag=TAG)
                self._client.send_media_to(self.unit, tag=TAG)
                loop.call_later(1.0, self._watch)
        self._changed()

    def leave(self, page: str | None, why: str = "") -> None:
        """Take the lease back from a page; where another has it, nothing happens.

        Args:
            page: which; None for whoever has it.
            why: to be shown.
        """
        with self._lease:
            if self.owner is None or page not in (None, self.owner):
                return
            self.owner, self.why = None, why
            self.unit.stop_media_to(self._client)
            self._client.stop_media_to(self.unit)
        self._changed()

    def close(self) -> None:
        """End for good."""
        self.owner = None
        with contextlib.suppress(TurnError):  # the interpreter ends, and with it all streams
            self.unit.close()

    def receive(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        """A frame of the page's microphone, or what it has played; from any thread, at once."""
        if content.get("page") != self.owner or self.owner is None:
            return
        self._at_s = time.monotonic()
        if content.get("t") == "played":
            self.unit.receive({**content, "kind": "played"})
            return
        number = content.get("seq")
        if not isinstance(number, int) or not buffers:
            self.leave(None, "this front end carries no binary data: use voxnb.Microphone(), an AudioFile, or write")
            return
        if not self.frames:
            self._last = number - 1  # what it sent while it asked was not taken
        if number <= self._last:
            self.reordered += 1
        else:
            self.lost += number - self._last - 1
            self._last = number
        self.frames += 1
        self.unit.receive({"kind": "audio", "rate_hz": content.get("rate_hz")}, buffers)
        if self.frames % CONFIRM == 0:
            self._tell({"t": "heard", "page": self.owner, "seq": number, "at": content.get("at")}, [])

    def facts(self) -> dict[str, Any]:
        """What is shown of it."""
        names = ("owner", "why", "frames", "lost", "reordered")
        return {name: getattr(self, name) for name in names}

    def _post(self, message: Mapping[str, Any], buffers: list[bytes]) -> None:
        self._tell({"t": "sound", "page": self.owner, **message}, buffers)

    def _watch(self) -> None:
        with self._lease:
            if self.owner is None:
                return
            if time.monotonic() - self._at_s > GONE_S:
                self.leave(None, "the page that listened is gone")
                return
        loop.call_later(1.0, self._watch)
