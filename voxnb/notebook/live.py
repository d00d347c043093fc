"""A turn that streams where it was asked for: a widget with Stop where the page speaks, HTML where it does not.

The output is shown once, with the widget and the text that stands in for it. At the end the text takes its place, so
that what is saved reads without a kernel. A page that has not said hello `HELLO_S` after something was there to
paint has no widgets: from then on the HTML itself is replaced, tail only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from voxnb.clients.reply import plain
from voxnb.notebook.growing import Growing
from voxnb.notebook.paint import CellCanvas, activity, paint_quietly
from voxnb.notebook.panel import WIDGET, Panel, module
from voxnb.notebook.render import markdown_html

if TYPE_CHECKING:
    from voxnb.clients.reply import Reply
    from voxnb.clients.turn import Turn

HELLO_S: Final = 2.0
"""How long a page may take to load the widget before it counts as one that cannot."""

MOST_AGAIN: Final = 60
"""Blocks that a page gets which comes late, or comes back."""


class LiveText:
    """A growing reply as the pages of a channel need it: to each patch what is new.

    Calls may come from two threads: one that feeds, one that takes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._growing = Growing(lambda text: markdown_html(plain(text)))
        self._text = ""
        self._sent = 0
        self._began_s = time.monotonic()
        self.status = "waiting for the reply,"

    def show(self, text: str, status: str) -> None:
        """All text so far."""
        with self._lock:
            self._text, self.status = text, status

    def take(self, *, full: bool) -> Mapping[str, Any]:
        """What a page does not have yet; with ``full``, as if it had nothing."""
        with self._lock:
            text, status = self._text, self.status
        self._growing.grow(text[self._growing.length :])
        blocks = self._growing.blocks
        first = self._sent
        if full:
            self._sent = first = max(0, len(blocks) - MOST_AGAIN)
        self._sent = len(blocks)
        return {
            # To a page that gets all of it the first block is block 0, whatever was before it.
            "from": 0 if full else first,
            "blocks": blocks[first:],
            "tail": self._growing.tail,
            "status": status,
            "elapsed_ms": int((time.monotonic() - self._began_s) * 1000),
        }


class LiveReply(Panel):
    """The view of one running turn."""

    _esm = module("parts.js", "live.js")
    TITLE: ClassVar[str] = "a reply that is being written"

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.text = LiveText()
        self._end: str | None = None
        super().__init__()

    @property
    def attached(self) -> bool:
        """Whether a page shows it."""
        return self._channel.attached

    def show(self, text: str, status: str) -> None:
        """All text so far, and what is going on."""
        self.text.show(text, status)
        self._channel.poke()

    def end(self, markup: str) -> None:
        """Show the end in place of the text."""
        self._end = markup
        self._channel.poke()

    def _on_message(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        if isinstance(content, Mapping) and content.get("t") == "stop":
            self._turn.cancel()  # returns at once: it must not wait for a patch under way
            return
        super()._on_message(widget, content, buffers)

    def _compose(self, *, full: bool) -> Mapping[str, Any]:
        return {"live": self.text.take(full=full)} if self._end is None else {"end": self._end}


class LiveCanvas(CellCanvas):
    """One output of a cell: the widget while the reply comes, then its text."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self._turn = turn
        self._panel: LiveReply | None = LiveReply(turn)
        self._since_s = time.monotonic()

    def paint(self, text: str, status: str) -> None:
        """Hand the text to the page; to one without widgets, as HTML."""
        panel = self._panel
        if panel is None:
            super().paint(text, status)
            return
        panel.show(text, f"{activity(self._turn, begun=bool(text))},")
        if not self._shown:
            view = {"version_major": 2, "version_minor": 0, "model_id": panel.model_id}
            self._publish(status, self.painted(text, status), {WIDGET: view})
        elif not panel.attached and time.monotonic() - self._since_s > HELLO_S:
            super().paint(text, status)
            self._end_panel()

    def finish(self, turn: Turn, reply: Reply | None, status: str) -> None:
        """Put the reply in the widget's place."""
        super().finish(turn, reply, status)
        self._end_panel()

    def _end_panel(self) -> None:
        panel, self._panel = self._panel, None
        if panel is not None:
            panel.close()


class PanelCanvas(CellCanvas):
    """A widget that also shows the end, for notebooks that show one value of a cell, and that when the cell has ended."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.panel = LiveReply(turn)
        self._turn = turn

    def paint(self, text: str, status: str) -> None:  # noqa: ARG002 - the page has a clock
        """Hand the text to the page."""
        self.panel.show(text, f"{activity(self._turn, begun=bool(text))},")

    def _publish(self, text: str, markup: str, more: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - see CellCanvas
        self.panel.end(markup)


def live_turn(turn: Turn) -> LiveReply:
    """A widget in which a turn streams, and that keeps its end; it is painted from another thread."""
    canvas = PanelCanvas(turn)
    threading.Thread(target=paint_quietly, args=(turn, canvas), name="voxnb-painter", daemon=True).start()
    return canvas.panel
