"""Turns as safe HTML: what a widget shows of a conversation, and what stands in for it where no widget is."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from voxnb.clients.reply import plain
from voxnb.notebook.render import excerpt_html, framed
from voxnb.store.pages import Page, ShownTurn
from voxnb.usage import money

MOST_SAID: Final = 20_000
"""Characters shown of what a user or a tool said."""

PICTURE: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
MOST_PICTURE: Final = 400_000
"""Characters of a picture that is shown; a larger one is named."""

Message = Mapping[str, Any]


def said_text(message: Message) -> str:
    """The text of a message, at most `MOST_SAID` characters."""
    content = message.get("content")
    if not isinstance(content, str):
        parts = content if isinstance(content, list | tuple) else ()
        content = "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    text = plain(content)
    return text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]} … ({len(text):,} characters)"


def parts_html(message: Message) -> str:
    """Pictures of a message as themselves where their bytes are in it; any other part by name."""
    content = message.get("content")
    found = []
    for part in content if isinstance(content, list | tuple) else ():
        if part.get("type") == "text":
            continue
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if isinstance(url, str) and len(url) <= MOST_PICTURE and PICTURE.fullmatch(url):
            found.append(f'<p><img src="{url}" alt="picture in the message"></p>')
        else:
            found.append(f"<p><small>[{html.escape(plain(str(part.get('type'))))}]</small></p>")
    return "".join(found)


def answer_html(messages: Sequence[Message]) -> str:
    """What was answered to the user: texts, refusals, and the tools between them (folded)."""
    results = {message.get("tool_call_id"): message for message in messages if message.get("role") == "tool"}
    out = []
    for message in messages:
        if message.get("role") != "assistant":
            continue
        text = said_text(message) if not isinstance(message.get("content"), str) else plain(message["content"])
        if text:
            out.append(excerpt_html(text))
        out.append(parts_html(message))
        if message.get("refusal"):
            out.append(f"<p><strong>Refused:</strong> {html.escape(plain(str(message['refusal'])))}</p>")
        calls = message.get("tool_calls") or ()
        if calls:
            out.append(_calls_html(calls, results))
    return "".join(out)


def _calls_html(calls: Sequence[Message], results: Mapping[Any, Message]) -> str:
    names, items = [], []
    for call in calls:
        called = call.get("function") or call.get("custom") or {}
        name = plain(str(called.get("name", call.get("type", "tool"))))
        names.append(name)
        given = called.get("arguments", called.get("input", ""))
        given = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        result = results.get(call.get("id"))
        came = f"<pre>{html.escape(said_text(result))}</pre>" if result else "<p><em>no result yet</em></p>"
        items.append(f"<li><code>{html.escape(name)}({html.escape(plain(given)[:MOST_SAID])})</code>{came}</li>")
    title = f"{len(calls)} tool {'call' if len(calls) == 1 else 'calls'}: {', '.join(dict.fromkeys(names))}"
    return f"<details><summary>{html.escape(title)}</summary><ol>{''.join(items)}</ol></details>"


def user_messages(turn: ShownTurn) -> list[Message]:
    """What was said to the model in a turn."""
    return [m for m in turn.messages if m.get("role") not in ("assistant", "tool", "function")]


def marks(turn: ShownTurn) -> list[str]:
    """What there is to say of a turn beside its words."""
    stopped = turn.state in ("partial", "failed") and turn.error == "cancelled"
    out = ["stopped" if stopped else turn.state] if turn.state != "complete" else []
    if turn.pinned:
        out.append("pinned")
    if turn.summary_round is not None:
        out.append(f"in summary {turn.summary_round}")
    return out


def facts(turn: ShownTurn, *, dated: bool = False) -> str:
    """A turn's numbers in one line; ``dated`` for what is read on another day."""
    found = [clock(turn.created_at, dated=dated), f"{turn.tokens:,} tokens"]
    found += [turn.model] if turn.model else []
    found += [f"{turn.duration_ms / 1000:.1f} s"] if turn.duration_ms is not None else []
    found += [money(turn.cost_usd)] if turn.cost_usd is not None else []
    return " · ".join(found)


def clock(at: float, *, dated: bool = False) -> str:
    """A moment in local time: as people of one day say it, or with its day."""
    return time.strftime(
        "%H:%M" if not dated and time.time() - at < 12 * 3600 else "%Y-%m-%d %H:%M", time.localtime(at)
    )


def page_html(title: str, page: Page, *, headed: bool = True) -> str:
    """A page of a conversation to read: headings, quotes, lists; nothing that needs a style or a script.

    Args:
        title: what it is called.
        page: its turns.
        headed: begin with the title and what is left out, and tell the day of each turn: it is read later.
    """
    left_out = page.turn_count - len(page.turns)
    head = (
        f"<p><strong>{html.escape(title)}</strong>, {page.turn_count:,} {'turn' if page.turn_count == 1 else 'turns'}"
    )
    head += f", the first {left_out:,} not shown here" if left_out else ""
    out = [f"{head}</p>"] if headed else []
    for turn in page.turns:
        told = "".join(f" ({html.escape(mark)})" for mark in marks(turn))
        out.append(
            f"<p><strong>Turn {turn.seq}</strong>{told} <small>{html.escape(facts(turn, dated=headed))}</small></p>"
        )
        for message in user_messages(turn):
            text = html.escape(said_text(message)).replace("\n", "<br>")
            out.append(f"<blockquote><p>{text}</p>{parts_html(message)}</blockquote>")
        out.append(answer_html(turn.messages))
        if turn.error and turn.error != "cancelled":
            out.append(f"<p><em>{html.escape(plain(turn.error))}</em></p>")
    return framed("".join(out))
