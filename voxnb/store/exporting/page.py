"""One HTML page to read and to send on: no script, nothing fetched, light and dark.

Rule 1: stored text reaches the page escaped, or through the same short list of tags that a notebook shows replies
with. The page's own policy forbids scripts, frames, forms and every address but ``data:`` for pictures.
Rule 2: of pictures only those that are in the message itself are shown; an address is written out, not followed.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from voxnb.store.exporting.contents import Row, header, notes, summaries, turns
from voxnb.store.exporting.markdown import clock
from voxnb.store.exporting.sink import Sink
from voxnb.store.report import counted
from voxnb.wire.produced import produced

NO_PLACE: Final = "costs, content hashes and metadata: the format has no place for them"

PICTURE: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
"""The only pictures that are shown: raster images that travel in the message."""

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5d6670; --paper: #fcfcfa; --card: #fff; --line: #dcdfe3;
  --user: #2f6fb0; --assistant: #2d7d5a; --other: #8a6d1f; --bad: #b3382c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa4ae; --paper: #16181b; --card: #1e2125;
  --line: #343a41; --user: #7db4ea; --assistant: #7cc9a4; --other: #d6b65c; --bad: #f0857a; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 3rem 0 .25rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.facts, .note, h2 small, summary { color: var(--soft); font-size: .875rem; font-weight: normal; }
.message { background: var(--card); border: 1px solid var(--line); border-left: 3px solid var(--other);
  border-radius: 6px; padding: .25rem .9rem; margin: .5rem 0; }
.user { border-left-color: var(--user); } .assistant { border-left-color: var(--assistant); }
.role { color: var(--soft); font-size: .75rem; letter-spacing: .04em; text-transform: uppercase; margin: .4rem 0 0; }
.bad { color: var(--bad); } .fold { border-left-style: dashed; }
pre { overflow-x: auto; white-space: pre-wrap; } code { font-size: .9em; } img { max-width: 100%; }
.message :is(h1, h2, h3, h4, h5, h6) { font-size: 1.05rem; margin: .8rem 0 .3rem; }
table { border-collapse: collapse; } td, th { border: 1px solid var(--line); padding: .2rem .5rem; }
a { color: var(--user); } @media print { .message { break-inside: avoid; } }
"""


class Page(Sink):
    """Conversations one after another, with a list of their names before them."""

    carries = frozenset({"instructions", "summaries", "pins", "notes"})

    def __init__(self, *args: Any, **options: Any) -> None:
        from voxnb.runtime import config

        super().__init__(*args, **options)
        self._markdown = config.load("safe_html")
        self._number = 0

    def begin(self, names: list[str]) -> None:
        """Write the head, and the list where there is more than one conversation."""
        title = _said(names[0]) if len(names) == 1 else f"{len(names):,} conversations"
        self.put(
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<meta name="referrer" content="no-referrer">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n"
        )
        if len(names) > 1:
            self.put("<nav><ul>\n")
            for number, name in enumerate(names, 1):
                self.put(f'<li><a href="#c{number}">{_said(name)}</a></li>\n')
            self.put("</ul></nav>\n")

    def add(self, c: sqlite3.Connection, conversation: int, name: str) -> None:  # noqa: ARG002 - the header says it
        """Write one conversation."""
        self.remarks.add(NO_PLACE)
        self._number += 1
        self.put("<article>\n")
        for block in self._blocks(c, conversation):
            self.put(block + "\n")
        self.put("</article>\n")

    def end(self) -> None:
        """Close the page."""
        self.put("</body>\n</html>\n")

    def _blocks(self, c: sqlite3.Connection, conversation: int) -> Iterator[str]:
        head = header(c, conversation)
        said_of: dict[str, list[Row]] = {}
        for note in notes(c, conversation):
            said_of.setdefault(note["target_id"], []).append(note)
        yield f'<h1 id="c{self._number}">{_said(head["name"])}</h1>'
        facts = [
            head["title"],
            head["model"],
            clock(head["created_at"]),
            counted(head["turn_count"], "turn"),
            head["id"],
        ]
        yield f'<p class="facts">{" · ".join(_said(fact) for fact in facts if fact)}</p>'
        yield from _notes(said_of.get(head["id"], ()))
        for instruction in head["instructions"]:
            yield from self._message(instruction["message"], "Instructions")
        for turn in turns(c, conversation):
            self.count(turn)
            marks = [clock(turn["created_at"]), f"{turn['tokens']:,} tokens"]
            marks += [turn["state"]] * (turn["state"] != "complete") + ["pinned"] * turn["pinned"]
            marks += ["redacted"] * (turn["redacted_at"] is not None)
            yield f"<h2>Turn {turn['seq']} <small>{' · '.join(map(_said, marks))}</small></h2>"
            for said in turn["messages"]:
                pinned = " (pinned)" if said["position"] in turn["pinned_positions"] else ""
                yield from self._message(said["message"], f"{said['message']['role']}{pinned}")
            if turn["error"]:
                yield f'<p class="bad">{_said(turn["error"])}</p>'
            yield from _notes(said_of.get(turn["id"], ()))
        for summary in summaries(c, conversation):
            title = f"Summary {summary['round']} of turns {summary['first_seq']} to {summary['last_seq']}"
            facts = [summary["model"], clock(summary["created_at"]), f"{summary['tokens']:,} tokens"]
            yield f"<h2>{title} <small>{' · '.join(_said(fact) for fact in facts if fact)}</small></h2>"
            yield f'<div class="message fold">{self._markdown(summary["text"])}</div>'
            yield from _notes(said_of.get(summary["id"], ()))

    def _message(self, message: Row, title: str) -> Iterator[str]:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
        yield f'<div class="message {_said(message["role"])}"><p class="role">{_said(title)}</p>'
        # What a person or a program said is shown as it is; only the model is taken to write Markdown.
        as_markdown = message["role"] == "assistant"
        for part in parts:
            text = part.get("text")
            if part.get("type") == "text" and isinstance(text, str):
                yield self._markdown(text) if as_markdown else f"<pre>{html.escape(text)}</pre>"
            else:
                yield _part(part)
        if refusal := message.get("refusal"):
            yield self._markdown(str(refusal))
        for thing in produced(message.get("items") or ()):
            yield f'<p class="note">{_said(thing.label)}</p>'
            if thing.data is not None:
                data = base64.b64encode(thing.data).decode()
                yield f'<p><img alt="{_said(thing.label)}" src="data:{thing.media_type};base64,{data}"></p>'
        rest = {key: value for key, value in message.items() if key not in ("role", "content", "refusal")}
        if rest:
            keys = ", ".join(rest)
            yield f"<details><summary>{_said(keys)}</summary><pre>{_json(rest)}</pre></details>"
        yield "</div>"


def _part(part: Row) -> str:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and PICTURE.fullmatch(url):
        return f'<p><img alt="picture in the message" src="{url}"></p>'
    return f"<details><summary>{_said(str(part.get('type')))}</summary><pre>{_json(part)}</pre></details>"


def _notes(found: Any) -> Iterator[str]:
    for note in found:
        label = f"{note['label']}: " if note["label"] else ""
        yield f'<p class="note">Note: {_said(label)}{_said(note["text"])}</p>'


def _said(text: str) -> str:
    return html.escape(" ".join(str(text).split()))


def _json(value: Any) -> str:
    return html.escape(json.dumps(value, ensure_ascii=False, indent=2))
