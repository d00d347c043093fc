"""Markdown to read. Stored text stands in fences or is escaped: it is never structure."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

from voxnb.store.exporting.contents import Row, header, summaries, turns
from voxnb.store.exporting.sink import Sink

NO_PLACE = "ids of turns, token counts, costs and metadata: the format has no place for them"


class Markdown(Sink):
    """Conversations one after another, each under a heading of its own."""

    carries = frozenset({"instructions", "summaries"})

    def add(self, c: sqlite3.Connection, conversation: int, name: str) -> None:  # noqa: ARG002 - the header says it
        """Write one conversation's blocks."""
        self.remarks.add(NO_PLACE)
        for block in blocks(c, conversation, sink=self):
            self.put(block + "\n\n")


def blocks(c: sqlite3.Connection, conversation: int, *, sink: Sink | None = None) -> Iterator[str]:
    """The blocks of one conversation.

    Args:
        c: a reader in one read transaction.
        conversation: row id.
        sink: counts the turns.
    """
    head = header(c, conversation)
    facts = [("id", head["id"]), ("model", head["model"]), ("begun", clock(head["created_at"]))]
    yield f"# {inline(head['name'])}"
    yield "\n".join(f"- {name}: {inline(value)}" for name, value in facts if value and value.strip())
    for instruction in head["instructions"]:
        yield "## Instructions"
        yield from _message_blocks(instruction["message"])
    for turn in turns(c, conversation):
        if sink is not None:
            sink.count(turn)
        said_of = "redacted" if turn["redacted_at"] is not None else turn["state"]
        state = "" if said_of == "complete" else f" ({said_of})"
        yield f"## Turn {turn['seq']}{state}"
        for said in turn["messages"]:
            yield f"**{said['message']['role']}**"
            yield from _message_blocks(said["message"])
        if turn["error"]:
            yield f"Error: {inline(turn['error'])}"
    for summary in summaries(c, conversation):
        yield f"## Summary {summary['round']}, turns {summary['first_seq']} to {summary['last_seq']}"
        yield f"By {inline(summary['model'])}, {clock(summary['created_at'])}"
        yield fenced(summary["text"])


def _message_blocks(message: Row) -> Iterator[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
    for part in parts:
        is_text = part.get("type") == "text" and isinstance(part.get("text"), str)
        yield fenced(part["text"] if is_text else json.dumps(part, ensure_ascii=False))
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    if rest:
        yield fenced(json.dumps(rest, ensure_ascii=False, indent=2))


def fenced(text: str) -> str:
    """A text in a fence that nothing in it can close.

    >>> print(fenced("```"))
    ````
    ```
    ````
    """
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}\n{text}\n{ticks}"


def inline(text: str) -> str:
    r"""A text as part of a line in which no character means anything to Markdown or HTML.

    What means something only at the beginning of a line is left alone: put something before it.

    >>> print(inline("<b>\n# *hi*"))
    \<b\> \# \*hi\*
    """
    return re.sub(r"([\\`*_{}\[\]<>&!~|#$])", r"\\\1", " ".join(text.split()))


def clock(seconds: float) -> str:
    """A point in time to read; never an error, whatever a file said.

    >>> clock(0)
    '1970-01-01 00:00 UTC'
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s"
