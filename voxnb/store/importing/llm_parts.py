"""What all forms of llm's logs share: rows of tables that may lack columns, fragments, attachments, tool calls."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.store.importing.draft import Reading
from voxnb.store.lately import Connection

AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
UNTAKEN: Final = (
    "prompt_json", "options_json", "response_json", "token_details", "schema_id", "input_tokens", "output_tokens",
)  # fmt: skip
"""Columns of an answer that a conversation has no place for."""

_ANSWER: Final = frozenset({"id", "model", "resolved_model", "duration_ms", "datetime_utc", *UNTAKEN})
_SAID: Final = frozenset({"prompt", "system", "response", "reasoning"})
_TOOL: Final = frozenset({"id", "response_id", "tool_id", "name", "tool_call_id"})
READ: Final[Mapping[str, frozenset[str]]] = {
    "log": frozenset({*_ANSWER, *_SAID, "chat_id", "reply_to_id", "timestamp"}),
    "logs": frozenset({*_ANSWER, *_SAID, "chat_id", "reply_to_id", "timestamp"}),
    "conversations": frozenset({"id", "name", "model"}),
    "responses": frozenset({*_ANSWER, *_SAID, "conversation_id"}),
    "attachments": frozenset({"id", "type", "path", "url", "content"}),
    "prompt_attachments": frozenset({"response_id", "attachment_id", "order"}),
    "fragments": frozenset({"id", "hash", "content", "datetime_utc", "source"}),
    "prompt_fragments": frozenset({"response_id", "fragment_id", "order"}),
    "system_fragments": frozenset({"response_id", "fragment_id", "order"}),
    "tool_calls": frozenset({*_TOOL, "arguments"}),
    "tool_results": frozenset({*_TOOL, "output", "exception"}),
    "threads": frozenset({"id", "name", "tip_message_hash", "forked_from", "datetime_utc"}),
    "messages": frozenset({"hash", "parent_hash", "role"}),
    "parts": frozenset({"id", "message_hash", "position", "type", "tool_name", "text", "payload"}),
    "part_attachments": frozenset({"part_id", "attachment_id", "order"}),
    "part_fragments": frozenset({"part_id", "fragment_id", "order"}),
    "turns": frozenset({*_ANSWER, "thread_id", "parent_message_hash", "tip_message_hash"}),
}
"""Tables that are read, with the columns that are, or only tie rows together, or are told of by `Log.untaken`."""

_LLMS_OWN: Final = re.compile(r"sqlite_.*|_llm_migrations|turn_search|.*_fts(_\w+)?")
"""Tables in which nobody said anything, or nothing that is not said elsewhere."""


def open_log(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; where even a log beside the file cannot be made, one to the file as it is."""
    uri = path.absolute().as_uri()
    c = _connect(f"{uri}?mode=ro")
    try:
        c.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        c.close()
        c = _connect(f"{uri}?mode=ro&immutable=1")
    # Older rows may hold what is no UTF-8.
    c.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return c


def _connect(uri: str) -> sqlite3.Connection:
    # The reading of a damaged log may be dropped half way, on any thread.
    return sqlite3.connect(uri, uri=True, check_same_thread=False, factory=Connection)


class Log:
    """An open log.

    Attributes:
        reading: of the import.
    """

    def __init__(self, c: sqlite3.Connection, reading: Reading) -> None:
        self._c = c
        self.reading = reading
        self._columns: dict[str, list[str]] = {}

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns; none where there is no such table."""
        if table not in self._columns:
            self._columns[table] = [
                name for (name,) in self._c.execute("SELECT name FROM pragma_table_info(?)", (table,))
            ]
        return self._columns[table]

    def rows(self, table: str, where: str = "1", *params: Any) -> Iterator[dict[str, Any]]:
        """Rows of a table as dicts; none where there is no such table."""
        names = self.columns(table)
        if not names:
            return
        chosen = ", ".join(f'"{name}"' for name in names)
        for row in self._c.execute(f'SELECT {chosen} FROM "{table}" WHERE {where}', params):
            yield dict(zip(names, row, strict=True))

    def untaken(self, row: Mapping[str, Any], place: str) -> None:
        """Note what an answer's row holds and a conversation has no place for."""
        for name in UNTAKEN:
            if row.get(name) not in (None, "", "{}", "null"):
                self.reading.skipped.add(f"{name} of answers: a conversation has no place for it", place)

    def unread(self) -> None:
        """Note the tables and columns that hold something and are not read: newer versions of llm may add some."""
        skipped = self.reading.skipped
        for (table,) in self._c.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"
        ).fetchall():
            if table in READ:
                for name in (name for name in self.columns(table) if name not in READ[table]):
                    held = f'"{_quoted(name)}" NOT NULL AND "{_quoted(name)}" != \'\''
                    skipped.add(
                        f"{name} of {table}: a conversation has no place for it", count=self._count(table, held)
                    )
            elif table == "turn_fragments":
                # Most are in a message's text as well; llm leaves the system fragments of later turns out of it.
                unsaid = "fragment_id NOT IN (SELECT fragment_id FROM part_fragments)"
                skipped.add("fragments of turns that are in no message", count=self._count(table, unsaid))
            elif not _LLMS_OWN.fullmatch(table):
                skipped.add(
                    f"rows of the table {table!r}: a conversation has no place for them", count=self._count(table)
                )

    def _count(self, table: str, where: str = "1") -> int:
        (count,) = self._c.execute(f'SELECT count(*) FROM "{_quoted(table)}" WHERE {where}').fetchone()
        return int(count)

    def fragment(self, key: Any) -> str:
        """The text of a fragment."""
        return next((str(row["content"] or "") for row in self.rows("fragments", "id = ?", key)), "")

    def with_fragments(self, table: str, response: Any, text: Any) -> str:
        """A prompt as the model saw it: its fragments, then what was typed."""
        found = self.rows(table, 'response_id = ? ORDER BY "order"', response)
        return "\n".join([*(self.fragment(row["fragment_id"]) for row in found), *([str(text)] if text else [])])

    def attachments_of(self, response: Any) -> Iterator[dict[str, Any]]:
        """What was attached to a prompt."""
        for row in self.rows("prompt_attachments", 'response_id = ? ORDER BY "order"', response):
            yield from self.rows("attachments", "id = ?", row["attachment_id"])


def _quoted(name: str) -> str:
    return name.replace('"', '""')


def attached(row: Mapping[str, Any], reading: Reading, place: str) -> dict[str, Any]:
    """An attachment as the API's part; what cannot travel is named in a text."""
    kind, content, url = str(row.get("type") or ""), row.get("content"), row.get("url")
    if isinstance(content, bytes) and len(content) <= reading.max_item_bytes:
        data = base64.b64encode(content).decode()
        if kind.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        if kind in AUDIO:
            return {"type": "input_audio", "input_audio": {"data": data, "format": AUDIO[kind]}}
        return {
            "type": "file",
            "file": {"filename": str(row.get("id") or "file"), "file_data": f"data:{kind};base64,{data}"},
        }
    if url and kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    where = url or row.get("path") or row.get("id")
    reading.remarks.add(
        "attachments that are not in the log: their place is marked in the text", f"{place}: {where}"[:200]
    )
    return {"type": "text", "text": f"[{kind or 'attachment'}: {where}]"}


def call_of(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A tool call as the API's dict."""
    arguments = row.get("arguments")
    if isinstance(arguments, bytes):  # SQLite keeps whatever it is given
        arguments = arguments.decode("utf-8", "replace")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {
        "id": row.get("tool_call_id") or key,
        "type": "function",
        "function": {"name": str(row.get("name") or row.get("tool_name") or ""), "arguments": text},
    }
