r"""Model text on screen, as safe HTML.

Model text is Markdown with HTML switched off, then cleaned to a short list of tags: no images (fetching
one tells its address to a stranger; those that the service has made come with the answer, as bytes), no styles, no ids, links only to absolute http, https and mailto
addresses. TeX typesetting is switched off for it, because ``\href`` would bring other schemes back. It
is never published as ``text/markdown``, which JupyterLab renders with scripts.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from voxnb.clients.reply import Reply, call_line, plain
from voxnb.clients.tools.running import ToolRun
from voxnb.errors import VoxnbError
from voxnb.notebook.receipt import receipt_html
from voxnb.runtime.packages import import_apart
from voxnb.wire.produced import Produced

TAGS: Final = frozenset(
    (
        *("a", "blockquote", "br", "code", "del", "em", "hr", "li", "ol", "p", "pre", "s", "strong", "ul"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
        *("table", "tbody", "td", "th", "thead", "tr"),
    )
)
ATTRIBUTES: Final = {"a": {"href", "title"}, "ol": {"start"}}
BLOCKS: Final = ("blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "li", "ol", "p", "td", "th", "ul")
RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
"""Letters of Hebrew, Arabic and their neighbours: a text with them runs from the right where a paragraph begins so."""

MOST_SHOWN: Final = 2_000
"""Characters shown of a tool's arguments and of its result; all of it is in the reply."""

MOST_RENDERED: Final = 100_000
"""Characters of a text that are laid out: some 30 pages, a third of a second. All of it is in the reply."""

MOST_NESTED: Final = 100
"""Levels of lists and quotations, of which a list is two; the parser leaves out what lies deeper."""

SCHEMES: Final = frozenset(("http", "https", "mailto"))


@functools.cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    options = {"html": False, "maxNesting": MOST_NESTED}
    return MarkdownIt("commonmark", options).enable(["table", "strikethrough"])


def markdown_html(text: str) -> str:
    """Model text as HTML that can neither run nor fetch anything.

    Args:
        text: Markdown; HTML in it is shown as it is written, and so is all of it where it is nested too deeply.
    """
    import_apart("markdown_it", "nh3")
    import nh3

    parser = _markdown()
    links: dict[str, Any] = {}
    tokens = parser.parse(text, links)
    if any(token.level >= MOST_NESTED - 1 for token in tokens):
        return f"<pre>{html.escape(text)}</pre>"  # something was left out: as it is written nothing is
    return nh3.clean(
        parser.renderer.render(tokens, parser.options, links),
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        url_schemes=set(SCHEMES),
        attribute_filter=_absolute,
        set_tag_attribute_values={tag: {"dir": "auto"} for tag in BLOCKS} if RIGHT_TO_LEFT.search(text) else None,
        link_rel="noopener noreferrer nofollow",
    )


def _absolute(_tag: str, attribute: str, value: str) -> str | None:
    # A relative link would lead into the notebook server.
    if attribute == "href" and not value.lower().startswith(("http://", "https://", "mailto:")):
        return None
    return value


def excerpt_html(text: str) -> str:
    """The same, of a very long text its beginning, and how long it is: a page must stay readable and quick."""
    if len(text) <= MOST_RENDERED:
        return markdown_html(text)
    more = f"<p><em>… the beginning of {len(text):,} characters; all of it is in the reply and in the store.</em></p>"
    return markdown_html(text[:MOST_RENDERED]) + more


def reply_html(reply: Reply) -> str:
    """A reply as safe HTML: tools that ran (folded), text, refusal, tool calls, warnings, and what it took."""
    parts = [_runs_html(reply.tool_runs)] if reply.tool_runs else []
    if reply.text:
        parts.append(excerpt_html(reply.text))
    if reply.refusal:
        parts.append(f"<p><strong>Refused:</strong> {html.escape(reply.refusal)}</p>")
    parts.extend(_call_html(call) for call in reply.tool_calls)
    parts.extend(_produced_html(thing) for thing in reply.produced)
    parts.extend(f"<p><strong>Note:</strong> {html.escape(text)}</p>" for text in reply.warnings)
    return framed(("".join(parts) or "<p><em>An empty reply.</em></p>") + _receipt_html(reply))


def _receipt_html(reply: Reply) -> str:
    if reply.reused:
        return "<p><small>answered from the store: nothing was sent, nothing was spent</small></p>"
    if reply.receipt_source is None and not reply.usage:
        return ""
    try:
        return receipt_html(reply.receipt)
    except VoxnbError:  # its store is closed, or the turn was deleted: the reply is shown all the same
        return ""


def _call_html(call: Mapping[str, Any]) -> str:
    """A call that waits for its result, folded: who, and on a click with what."""
    line = call_line(call)
    name = html.escape(plain(line.partition("(")[0]))
    return f"<details><summary>Tool call: {name}</summary><pre>{html.escape(_start(line))}</pre></details>"


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
        took = "" if run.duration_ms is None else f", {run.duration_ms:,.0f} ms"
        result = f"<pre>{html.escape(_start(run.result))}</pre>"
        items.append(f"<li>{call}{mark}{took}{result}</li>")
    summary = html.escape(plain(title + names))
    return f"<details><summary>{summary}</summary><ol>{''.join(items)}</ol></details>"


def _start(text: str) -> str:
    text = plain(text)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + f" … ({len(text):,} characters)"


def framed(body: str) -> str:
    """Safe HTML as a block of its own, in which no TeX is typeset."""
    return f'<div class="voxnb-reply tex2jax_ignore mathjax_ignore">{body}</div>'
