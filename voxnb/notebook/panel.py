"""`Panel`: an anywidget over a `Channel`, with a static text that stands in for it, and takes its place at the end."""

from __future__ import annotations

import functools
import sys
import uuid
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, ClassVar, Final

import anywidget

from voxnb.notebook.channel import POLL_S, Channel

WIDGET: Final = "application/vnd.jupyter.widget-view+json"

PRIVATE: Final = "<p>A private conversation: nothing of it is kept in the notebook.</p>"


@functools.cache
def module(*names: str) -> str:
    """Files of the folder ``static`` one after another: one module, since a notebook loads a widget's as one text."""
    return "\n".join((files(__package__) / "static" / name).read_text(encoding="utf-8") for name in names)


class Panel(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]  # anywidget comes without types here
    """What the widgets have in common.

    Nothing of what it shows is in its traits, so a notebook that saves widget state saves no conversation. Where it is
    displayed there is also ``text/html``: what it shows, as it stood then, or of a private client that it is one.
    `freeze` puts the newest in its place.
    """

    _css = module("voxnb.css")
    TITLE: ClassVar[str]
    """What it is, in two words."""
    POLL_S: ClassVar[float] = POLL_S
    """How often `_look` is asked, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._displays: list[str] = []
        self._channel = Channel(
            send=self.send,
            compose=self._compose,
            perform=self._perform,
            look=self._look,
            poll_s=self.POLL_S,
            name="voxnb-widget",
        )
        self.on_msg(self._on_message)
        let_pages_choose(self)

    def _on_message(self, _widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        self._channel.receive(content, buffers)

    # -- what each widget says of itself ------------------------------------------------------

    def _compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """The next patch."""
        raise NotImplementedError

    def _perform(self, message: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        """Do what a page asked for."""
        raise NotImplementedError

    def _look(self) -> bool:
        """Whether something changed that nobody told."""
        return False

    def static_html(self) -> str:
        """What it shows, without script or style."""
        raise NotImplementedError

    @property
    def is_private(self) -> bool:
        """Whether nothing of what it shows may stay in the notebook."""
        return False

    # -- where it is shown --------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = dict(self._bundle())
        if not self._channel.closed:
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        display_id = f"voxnb-{uuid.uuid4().hex}"
        self._displays.append(display_id)
        display(bundle, raw=True, display_id=display_id)

    def _bundle(self) -> Mapping[str, Any]:
        return {"text/plain": repr(self), "text/html": PRIVATE if self.is_private else self.static_html()}

    def freeze(self) -> None:
        """Put the static text in the place of every view; the widget itself goes on."""
        shown, self._displays = self._displays, []
        if not shown or sys.is_finalizing():
            return
        from IPython.display import display

        bundle = self._bundle()
        for display_id in shown:
            display(bundle, raw=True, display_id=display_id, update=True)

    def close(self) -> None:
        """Leave the static text where it was shown, and end; a second call does nothing."""
        channel = getattr(self, "_channel", None)  # ipywidgets also closes what was never made whole
        if channel is not None and not channel.closed:
            self.freeze()
            channel.close()
        super().close()

    def __repr__(self) -> str:
        return f"<{self.TITLE}>"


def let_pages_choose(widget: Any) -> None:
    """Let the page say which of the kernel's shells takes its messages.

    A page asks for a shell that is free while cells run, as soon as it has one; what it says before, its hello among
    it, comes on the cells' own. ipykernel 7.4 sends a comm's messages to the shell that last published on it, whatever
    the page asks: one answer to such a hello, and all that followed waited for the cell that ran. An ipykernel that has
    no such rule needs nothing.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _as_asked  # noqa: SLF001 - there is no public way to say it


def _as_asked(_data: Any, asked: Any) -> Any:
    return asked
