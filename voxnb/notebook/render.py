r"""Model text on screen: safe HTML, and a turn that streams where it is shown.

Model text is Markdown with HTML switched off, then cleaned to a short list of tags: no images (fetching
one tells its address to a stranger; those that the service has made come with the answer, as bytes), no styles, no ids, links only to absolute http, https and mailto
addresses. TeX typesetting is switched off for it, because ``\href`` would bring other schemes back. It
is never published as ``text/markdown``, which JupyterLab renders with scripts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import html
import json
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any, Final, Protocol

from voxnb.clients.follow import STORE_S
from voxnb.clients.produced import Produced
from voxnb.clients.reply import Reply, call_line, plain, reply_plain
from voxnb.clients.tools.running import ToolRun
from voxnb.clients.turn import Turn
from voxnb.errors import VoxnbError
from voxnb.runtime import cells

PAINTS_PER_S: Final = 20
"""Most paints per second; a flood of updates freezes the page."""

PAINT_SHARE: Final = 5
"""A paint that took t seconds is followed by at least t times this much without one."""

TAGS: Final = frozenset(
    (
        *("a", "blockquote", "br", "code", "del", "em", "hr", "li", "ol", "p", "pre", "s", "strong", "ul"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
        *("table", "tbody", "td", "th", "thead", "tr"),
    )
)
ATTRIBUTES: Final = {"a": {"href", "title"}, "ol": {"start"}}
MOST_SHOWN: Final = 2_000
"""Characters shown of a tool's arguments and of its result; all of it is in the reply."""

SCHEMES: Final = frozenset(("http", "https", "mailto"))


@functools.cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def markdown_html(text: str) -> str:
    """Model text as HTML that can neither run nor fetch anything.

    Args:
        text: Markdown; HTML in it is shown as it is written.
    """
    import nh3

    return nh3.clean(
        _markdown().render(text),
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        url_schemes=set(SCHEMES),
        attribute_filter=_absolute,
        link_rel="noopener noreferrer nofollow",
    )


def _absolute(_tag: str, attribute: str, value: str) -> str | None:
    # A relative link would lead into the notebook server.
    if attribute == "href" and not value.lower().startswith(("http://", "https://", "mailto:")):
        return None
    return value


def reply_html(reply: Reply) -> str:
    """A reply as safe HTML: tools that ran (folded), text, refusal, tool calls, warnings."""
    parts = [_runs_html(reply.tool_runs)] if reply.tool_runs else []
    if reply.text:
        parts.append(markdown_html(reply.text))
    if reply.refusal:
        parts.append(f"<p><strong>Refused:</strong> {html.escape(reply.refusal)}</p>")
    parts.extend(f"<p>Tool call: <code>{html.escape(call_line(call))}</code></p>" for call in reply.tool_calls)
    parts.extend(_produced_html(thing) for thing in reply.produced)
    parts.extend(f"<p><strong>Note:</strong> {html.escape(text)}</p>" for text in reply.warnings)
    return _framed("".join(parts) or "<p><em>An empty reply.</em></p>")


def _produced_html(thing: Produced) -> str:
    """An image as itself (its bytes are in the page, nothing is fetched), everything else as a line."""
    label = html.escape(thing.label)
    if thing.data is None:
        return f"<p><small>[{label}]</small></p>"
    data = base64.b64encode(thing.data).decode()
    return f'<p><img src="data:{thing.media_type};base64,{data}" alt="{label}"></p>'


def _runs_html(runs: Sequence[ToolRun]) -> str:
    """What ran, folded: who, how long, and on a click with what and what came of it."""
    failed = sum(run.error is not None for run in runs)
    title = f"{len(runs)} tool {'call' if len(runs) == 1 else 'calls'}{f', {failed} failed' if failed else ''}: "
    names = ", ".join(dict.fromkeys(run.name for run in runs))
    items = []
    for run in runs:
        mark = " failed" if run.error is not None else ""
        given = run.arguments if isinstance(run.arguments, str) else json.dumps(run.arguments, ensure_ascii=False)
        call = f"<code>{html.escape(plain(run.name))}({html.escape(_start(given))})</code>"
        result = f"<pre>{html.escape(_start(run.result))}</pre>"
        items.append(f"<li>{call}{mark}, {run.duration_ms:,.0f} ms{result}</li>")
    summary = html.escape(plain(title + names))
    return f"<details><summary>{summary}</summary><ol>{''.join(items)}</ol></details>"


def _start(text: str) -> str:
    text = plain(text)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + f" … ({len(text):,} characters)"


def _framed(body: str) -> str:
    return f'<div class="voxnb-reply tex2jax_ignore mathjax_ignore">{body}</div>'


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
        """Show the text as Markdown, the status below it."""
        note = f"<p><small>{html.escape(status)}</small></p>" if status else ""
        self._publish(plain(text) or status, _framed(markdown_html(text) + note))

    def finish(self, turn: Turn, reply: Reply | None, status: str) -> None:
        """Show the whole reply; without one, what had come and why there is no more."""
        if reply is None or status:
            self.paint(turn.partial, status)
        else:
            # A turn that ran tools said something before them too; the reply is what it said last.
            shown = replace(reply, text=turn.partial) if reply.tool_runs and turn.partial else reply
            self._publish(reply_plain(shown), reply_html(shown))

    def _publish(self, text: str, markup: str) -> None:
        from IPython.display import display

        bundle = {"text/plain": text, "text/html": markup}
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


def show_turn(turn: Turn, *, wait: bool) -> None:
    """Paint a turn where this is called, until its listeners have run.

    Args:
        turn: running or ended.
        wait: paint here and raise what `Turn.result` raises; else in a daemon thread, returning at once.

    Raises:
        KeyboardInterrupt: the turn was cancelled and its partial stored and shown.
        VoxnbError: see `Turn.result`.
    """
    canvas: Canvas = CellCanvas() if cells.in_kernel() else StreamCanvas()
    if wait:
        _paint_until_end(turn, canvas)
        turn.result()
        return
    context = copy_context()
    thread = threading.Thread(
        target=context.run, args=(_paint_quietly, turn, canvas), name="voxnb-painter", daemon=True
    )
    thread.start()


def _paint_quietly(turn: Turn, canvas: Canvas) -> None:
    # The output may be closed by now, which is no fault of the turn's. What the turn raised is on the canvas.
    with contextlib.suppress(Exception):
        _paint_until_end(turn, canvas)


def _paint_until_end(turn: Turn, canvas: Canvas) -> None:
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


def _paint(turn: Turn, canvas: Canvas) -> None:
    follower = turn.follow()
    text: list[str] = []
    canvas.paint("", "waiting for the reply …")
    while True:
        follower.wait()
        new = follower.take()
        if new is None:
            return
        text.append(new)
        began = time.monotonic()
        canvas.paint("".join(text), "streaming …")
        took = time.monotonic() - began
        follower.rest(max(1 / PAINTS_PER_S, PAINT_SHARE * took))
