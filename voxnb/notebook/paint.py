"""A turn painted while it comes: in a cell as safe HTML that is replaced in place, elsewhere as text."""

from __future__ import annotations

import asyncio
import contextlib
import html
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from voxnb.clients.follow import STORE_S
from voxnb.clients.reply import Reply, plain, reply_plain
from voxnb.clients.turn import Turn
from voxnb.errors import VoxnbError
from voxnb.notebook.render import excerpt_html, framed, markdown_html, reply_html

PAINTS_PER_S: Final = 20
"""Most paints per second; a flood of updates freezes the page."""

PAINT_SHARE: Final = 5
"""A paint that took t seconds is followed by at least t times this much without one."""

MOST_PAINTED: Final = 6_000
"""Characters of a reply under way that are painted again and again: its end; all of it comes at the end."""

WAIT_S: Final = 1.0
"""How often the time is told while nothing comes."""


class Canvas(Protocol):
    """Where a turn is painted."""

    def paint(self, text: str, status: str) -> None:
        """Show all text so far, and what is going on ("" where nothing needs saying)."""

    def finish(self, turn: Turn, reply: Reply | None, status: str) -> None:
        """Show the end."""


class CellCanvas:
    """One output of a notebook cell, replaced in place."""

    def __init__(self) -> None:
        self._display_id = f"voxnb-{uuid.uuid4().hex}"
        self._shown = False

    def paint(self, text: str, status: str) -> None:
        """Show the text as Markdown, the status below it; of a long one the end, since it is painted again and again."""
        self._publish(plain(text) or status, self.painted(text, status))

    @staticmethod
    def painted(text: str, status: str) -> str:
        """A reply under way as safe HTML."""
        note = f"<p><small>{html.escape(status)}</small></p>" if status else ""
        if len(text) <= MOST_PAINTED:
            return framed(markdown_html(text) + note)
        start = text.find("\n", len(text) - MOST_PAINTED) + 1 or len(text) - MOST_PAINTED
        before = f"<p><small>… {start:,} characters before this, shown at the end</small></p>"
        return framed(before + markdown_html(text[start:]) + note)

    def finish(self, turn: Turn, reply: Reply | None, status: str) -> None:
        """Show the whole reply; without one, what had come and why there is no more."""
        note = f"<p><small>{html.escape(status)}</small></p>" if status else ""
        if reply is None:
            self._publish(plain(turn.partial) or status, framed(excerpt_html(turn.partial) + note))
            return
        # A turn that ran tools said something before them too; the reply is what it said last.
        shown = replace(reply, text=turn.partial) if reply.tool_runs and turn.partial else reply
        self._publish(reply_plain(shown), reply_html(shown) + note)

    def _publish(self, text: str, markup: str, more: Mapping[str, Any] | None = None) -> None:
        from IPython.display import display

        bundle = {"text/plain": text, "text/html": markup, **(more or {})}
        display(bundle, raw=True, display_id=self._display_id, update=self._shown)
        self._shown = True


class StreamCanvas:
    """Standard output: the text is written as it comes."""

    def __init__(self) -> None:
        self._written = 0

    def paint(self, text: str, status: str) -> None:  # noqa: ARG002 - a terminal shows no status
        """Write what is new."""
        sys.stdout.write(plain(text[self._written :]))
        sys.stdout.flush()
        self._written = len(text)

    def finish(self, turn: Turn, reply: Reply | None, status: str) -> None:
        """Write what is left, and end the line."""
        self.paint(turn.partial, "")
        if reply is not None and not self._written:
            sys.stdout.write(reply_plain(reply))
        sys.stdout.write(f"{f' [{plain(status)}]' if status else ''}\n")
        sys.stdout.flush()


def paint_quietly(turn: Turn, canvas: Canvas) -> None:
    """Paint a turn in the background."""
    # The output may be closed by now, which is no fault of the turn's. What the turn raised is on the canvas.
    with contextlib.suppress(Exception):
        paint_until_end(turn, canvas)


def paint_until_end(turn: Turn, canvas: Canvas) -> None:
    """Paint a turn and its end; an interrupt stops it."""
    try:
        _paint(turn, canvas)
    except (KeyboardInterrupt, asyncio.CancelledError):
        turn.cancel(wait_s=STORE_S)
        canvas.finish(turn, None, "" if turn.state == "complete" else "interrupted")
        raise
    try:
        reply = turn.result()
    except VoxnbError as error:
        canvas.finish(turn, None, f"{type(error).__name__}: {error}")
    else:
        canvas.finish(turn, reply, "cancelled" if turn.state == "cancelled" else "")


def activity(turn: Turn, *, begun: bool) -> str:
    """What goes on in a turn that runs.

    Args:
        turn: the turn.
        begun: whether some of its text has come.
    """
    if tools := turn.tools_running:
        return plain(f"running {', '.join(dict.fromkeys(tools))}")
    return "writing" if begun else "waiting for the reply"


def _paint(turn: Turn, canvas: Canvas) -> None:
    follower = turn.follow()
    text: list[str] = []
    asked_s = time.monotonic()
    canvas.paint("", "waiting for the reply …")
    while True:
        while not follower.wait(timeout_s=WAIT_S):
            if turn.tools_running or not text:
                canvas.paint("".join(text), f"{activity(turn, begun=bool(text))}, {time.monotonic() - asked_s:.0f} s …")
        new = follower.take()
        if new is None:
            return
        text.append(new)
        began = time.monotonic()
        canvas.paint("".join(text), f"{activity(turn, begun=True)} …")
        took = time.monotonic() - began
        follower.rest(max(1 / PAINTS_PER_S, PAINT_SHARE * took))
