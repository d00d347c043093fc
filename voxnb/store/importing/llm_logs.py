"""The logs of the ``llm`` command (``logs.db``), in each of the three forms that its versions have written.

Newest first: ``threads`` of content-addressed ``messages`` (0.36; see `llm_threads`), ``conversations`` of ``responses``
(from 0.6 on), and one table ``logs`` or ``log`` before. One file may hold all three: llm keeps reading what older versions
wrote. The file is opened read-only, and columns that a version did not have yet are simply missing.
Source: llm 0.36, ``migrations.py``, ``logs.py``, ``models.py``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from voxnb.errors import StoreFormatError
from voxnb.store import schema
from voxnb.store.importing.clock import seconds_of
from voxnb.store.importing.draft import Draft, Reading
from voxnb.store.importing.llm_parts import Log, attached, call_of, open_log
from voxnb.store.importing.llm_threads import thread_drafts
from voxnb.store.trouble import mapped_sql

OLD_TABLES: Final = ("logs", "log")
STRAY: Final = "responses whose conversation has no row: put together by the id they name, or each alone"


def llm_drafts(path: Path, reading: Reading) -> Iterator[Draft]:
    """Every conversation of the file, oldest form first.

    Raises:
        StoreFormatError: not llm's, or damaged.
        StoreError: it cannot be read.
    """
    with mapped_sql(str(path)), closing(open_log(path)) as c:
        _check(c, path)
        log = Log(c, reading)
        threads = {row["id"] for row in log.rows("threads")}
        known = set(threads)
        for table in OLD_TABLES:
            yield from _old_drafts(log, table)
        for row in log.rows("conversations"):
            known.add(row["id"])
            # A conversation that went on in a newer version is a thread with all its history.
            if row["id"] not in threads:
                yield from _conversation(log, row)
        yield from _strays(log, known)
        yield from thread_drafts(log)
        log.unread()


def _check(c: sqlite3.Connection, path: Path) -> None:
    (application_id,) = c.execute("PRAGMA application_id").fetchone()
    if application_id == schema.APPLICATION_ID:
        raise StoreFormatError(f"{str(path)!r} is a voxnb store; unite it with store.merge(…)", path=str(path))
    tables = {name for (name,) in c.execute("SELECT name FROM sqlite_schema")}
    if not tables & {"responses", "threads", *OLD_TABLES}:
        raise StoreFormatError(f"{str(path)!r} is SQLite, but not a log of the llm command", path=str(path))


# -- conversations of responses ---------------------------------------------------------------


def _conversation(log: Log, row: dict[str, Any]) -> Iterator[Draft]:
    teller = _Teller(log, row["id"])
    for response in log.rows("responses", "conversation_id = ? ORDER BY rowid", row["id"]):
        teller.add(response)
    if teller.messages:
        yield teller.draft(name=row.get("name"), model=row.get("model"))
    else:
        log.reading.skipped.add("conversations without a response", f"conversation {row['id']}")


def _strays(log: Log, known: set[Any]) -> Iterator[Draft]:
    """Responses whose conversation has no row: together under the id they name, or each alone where they name none."""
    whose = "coalesce(conversation_id, id)" if "conversation_id" in log.columns("responses") else "id"
    held: Any = None
    teller: _Teller | None = None
    for response in log.rows("responses", f"1 ORDER BY {whose}, rowid"):
        named = response.get("conversation_id")
        if named in known:
            continue
        begun = (named, response["id"] if named is None else None)
        if teller is None or begun != held:
            yield from _told(teller)
            held, teller = begun, _Teller(log, str(response["id"] if named is None else named))
            log.reading.remarks.add(STRAY, f"conversation {teller.key}")
        teller.add(response)
    yield from _told(teller)


def _old_drafts(log: Log, table: str) -> Iterator[Draft]:
    """The one table of the first versions: a chat's rows name its first row."""
    chat: Any = None
    teller: _Teller | None = None
    for row in log.rows(
        table, "1 ORDER BY coalesce(chat_id, id), id" if "chat_id" in log.columns(table) else "1 ORDER BY id"
    ):
        begun = row.get("chat_id") or row.get("id")
        if teller is None or begun != chat:
            yield from _told(teller)
            chat, teller = begun, _Teller(log, f"{table} {begun}", key_is_global=False)
        teller.add(
            {**row, "id": f"{table} {row.get('id')}", "datetime_utc": row.get("datetime_utc") or row.get("timestamp")}
        )
    yield from _told(teller)


def _told(teller: _Teller | None) -> Iterator[Draft]:
    """What was put together, if anything was said."""
    if teller is not None and teller.messages:
        yield teller.draft(name=None, model=None)


class _Teller:
    """Puts a conversation together response by response."""

    def __init__(self, log: Log, key: str, *, key_is_global: bool = True) -> None:
        self.log = log
        self.key = key
        self.key_is_global = key_is_global
        self.messages: list[dict[str, Any]] = []
        self.times: list[float | None] = []
        self.facts: dict[int, dict[str, Any]] = {}
        self._system: str | None = None
        self._open: list[tuple[str, str | None]] = []

    def add(self, row: dict[str, Any]) -> None:
        """What was sent, and what came back, if anything was."""
        log, key = self.log, row["id"]
        log.untaken(row, f"response {key}")
        at = seconds_of(row.get("datetime_utc"))
        system = log.with_fragments("system_fragments", key, row.get("system"))
        if system and system != self._system:
            self._say({"role": "system", "content": system}, at)
            self._system = system
        begun = len(self.messages)
        results = list(log.rows("tool_results", "response_id = ? ORDER BY id", key))
        for result in results:
            self._say({"role": "tool", "tool_call_id": self._answered(result), "content": _outcome(result)}, at)
        prompt = log.with_fragments("prompt_fragments", key, row.get("prompt"))
        parts = [part for held in log.attachments_of(key) if (part := attached(held, log.reading, f"response {key}"))]
        if parts:
            self._say(
                {"role": "user", "content": [*([{"type": "text", "text": prompt}] if prompt else []), *parts]}, at
            )
        elif prompt or not results:
            self._say({"role": "user", "content": prompt}, at)
        answer: dict[str, Any] = {"role": "assistant", "content": row.get("response") or ""}
        calls = [
            call_of(call, f"{key}.{n}")
            for n, call in enumerate(log.rows("tool_calls", "response_id = ? ORDER BY id", key))
        ]
        self._open = [(call["function"]["name"], call["id"]) for call in calls]
        if calls:
            answer |= {"tool_calls": calls, "content": answer["content"] or None}
        if row.get("reasoning"):
            answer["reasoning_content"] = row["reasoning"]
        known = {"model": row.get("resolved_model") or row.get("model"), "duration_ms": row.get("duration_ms")}
        self.facts[len(self.messages)] = {name: value for name, value in known.items() if value is not None}
        self._say(answer, at)
        if not any(value for said in self.messages[begun:] for name, value in said.items() if name != "role"):
            log.reading.skipped.add("responses that say nothing: no prompt, no answer", f"response {key}")
            del self.messages[begun:], self.times[begun:], self.facts[begun + 1]

    def _say(self, message: dict[str, Any], at: float | None) -> None:
        self.messages.append(message)
        self.times.append(at)

    def _answered(self, result: dict[str, Any]) -> str:
        """The call that a result answers: by its id, else the first open one of that name."""
        wanted, name = result.get("tool_call_id"), result.get("name")
        for n, (called, call_id) in enumerate(self._open):
            if call_id is not None and (call_id == wanted or (wanted is None and called == name)):
                del self._open[n]
                return call_id
        return str(wanted or name)

    def draft(self, *, name: str | None, model: str | None) -> Draft:
        """The conversation."""
        return Draft(
            f"conversation {self.key}",
            self.messages,
            key=self.key,
            key_is_global=self.key_is_global,
            name=name,
            title=name,
            model=model or next((facts["model"] for facts in self.facts.values() if "model" in facts), None),
            times=self.times,
            facts=self.facts,
            created_at=next((at for at in self.times if at is not None), None),
        )


def _outcome(result: dict[str, Any]) -> Any:
    """What a tool gave, or how it failed."""
    return result.get("output") or result.get("exception") or ""
