"""A conversation as a file: everything (JSON Lines), a table of messages (CSV, Parquet), or a text to read (Markdown).

The JSON Lines form, version 1: one object per line, told apart by ``type``. Times are UNIX seconds, ids are
public ids. First a ``conversation`` line, then the turns of its current path with their messages, then the
summaries behind its head with their coverage, oldest first, then calls and notes.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from voxnb.errors import ParameterError, StoreError, StoreFullError
from voxnb.params import did_you_mean, nearest
from voxnb.store import ledger, paths, tables
from voxnb.store.columns import CHAIN, TABLES
from voxnb.store.database import Database
from voxnb.store.rows import load_extra
from voxnb.store.schema import MAX_SEQ

FORMAT_VERSION: Final = 1

Row = dict[str, Any]
T = TypeVar("T")


def export_conversation(
    db: Database, conversation: int, path: str | Path, /, *, format: str | None = None, overwrite: bool = False  # noqa: A002 - the word users know from pandas
) -> Path:  # fmt: skip
    """Write a conversation's current path to a file.

    The file appears whole or not at all, readable by its owner only.

    Args:
        db: the store.
        conversation: row id.
        path: where to; the suffix says the format.
        format: ``jsonl`` (everything), ``csv`` or ``parquet`` (a row per message), ``md``; whatever the suffix.
        overwrite: replace a file that is there.

    Returns:
        The path.

    Raises:
        ParameterError: an unknown format.
        StoreError: the file is there, or cannot be written; for Parquet also that pyarrow is missing.
        StoreFullError: the disk is full.
    """
    target = Path(path).expanduser()
    write = _writer(target, format)
    # In a block of its own: what goes wrong with this file is not the store's doing.
    try:
        _check_free(target, overwrite=overwrite)
        handle, name = tempfile.mkstemp(prefix=".voxnb-export-", dir=target.parent)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                write(db, conversation, file)
                file.flush()
                os.fsync(file.fileno())
            _check_free(target, overwrite=overwrite)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (StoreFullError if full else StoreError)(
            f"cannot write {str(target)!r}: {error.strerror or error}; choose another place", path=str(target)
        ) from error
    return target


def _check_free(target: Path, *, overwrite: bool) -> None:
    if target.is_dir() or (target.exists() and not overwrite):
        hint = "choose a file's name" if target.is_dir() else "choose another name or pass overwrite=True"
        raise StoreError(f"{str(target)!r} exists; {hint}", path=str(target))


def _writer(target: Path, given: str | None) -> Callable[[Database, int, IO[bytes]], None]:
    name = (target.suffix if given is None else str(given)).lower().removeprefix(".")
    if name not in WRITERS:
        where = f"the suffix of {target.name!r}" if given is None else f"format={given!r}"
        raise ParameterError(
            f"{where} names no format{did_you_mean(name, WRITERS)}; known are {', '.join(f'.{n}' for n in WRITERS)}",
            name="format",
            nearest=nearest(name, WRITERS),
        )
    return WRITERS[name]


# -- everything -------------------------------------------------------------------------------


def _write_jsonl(db: Database, conversation: int, file: IO[bytes]) -> None:
    with closing(_read(db, conversation, lines)) as rows:
        for line in rows:
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            file.write(text.encode() + b"\n")


def _read(
    db: Database, conversation: int, what: Callable[[sqlite3.Connection, int], Iterator[T]]
) -> Generator[T, None, None]:
    """What comes out of one state of the store; errors of whoever consumes it stay outside, they are not the store's."""
    with db.snapshot() as c:
        yield from what(c, conversation)


def lines(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    """The objects of the JSON Lines form, in order; one turn in memory at a time."""
    yield _header(c, conversation)
    yield from _turns(c, conversation)
    yield from _summaries(c, conversation)
    yield from _rows(
        c,
        "call",
        "SELECT x.uid AS id, t.uid AS turn_id, s.uid AS summary_id, x.purpose, x.model, x.base_url_host, x.request_id, "
        "x.estimated_prompt_tokens, x.prompt_tokens, x.completion_tokens, x.cached_tokens, x.cost_usd, x.retries, "
        "x.first_token_ms, x.duration_ms, x.status, x.error, x.created_at FROM call x LEFT JOIN turn t ON t.id = x.turn "
        "LEFT JOIN summary s ON s.id = x.summary WHERE x.conversation = :conversation ORDER BY x.id",
        {"conversation": conversation},
    )
    names = ("note_id", "target_id", "label", "text", "created_at")
    sql = tables.statement(TABLES["notes"], names, conversation=True)
    for row in c.execute(sql, {"conversation": conversation}).fetchall():
        yield {"type": "note", "id": row[0], **dict(zip(names[1:], row[1:], strict=True))}


def _rows(c: sqlite3.Connection, kind: str, sql: str, params: Mapping[str, Any]) -> Iterator[Row]:
    with closing(c.execute(sql, params)) as cursor:
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield {"type": kind, **dict(zip(names, row, strict=True))}


def _header(c: sqlite3.Connection, conversation: int) -> Row:
    ledger.by_id(c, conversation)  # raises where it was deleted meanwhile
    (row,) = _rows(
        c,
        "conversation",
        "SELECT k.uid AS id, k.name, k.title, k.api, k.model, p.uid AS parent_id, k.fork_seq, k.last_seq AS turn_count, "
        "v.text AS instructions, s.uid AS head_id, k.folded_to, k.metadata, k.created_at, k.last_turn_at "
        "FROM conversation k LEFT JOIN conversation p ON p.id = k.parent LEFT JOIN value v ON v.id = k.instructions "
        "LEFT JOIN summary s ON s.id = k.head WHERE k.id = :conversation",
        {"conversation": conversation},
    )
    said = [
        {"message": message, "tokens": tokens, "features": features}
        for message, tokens, features in json.loads(row["instructions"] or "[]")
    ]
    return {
        "voxnb": FORMAT_VERSION, **row, "instructions": said, "metadata": json.loads(row["metadata"])
    }  # fmt: skip


def _turns(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    branch = ledger.by_id(c, conversation).branch
    pins: dict[int, list[int | None]] = {}
    for turn, position in c.execute(
        "SELECT turn, position FROM pin WHERE conversation = ? AND removed IS NULL ORDER BY id", (conversation,)
    ):
        pins.setdefault(turn, []).append(position)
    columns = (
        "t.uid AS id, k.uid AS conversation_id, t.seq, t.state, t.tokens, t.hash AS content_hash, t.model, "
        "t.finish_reason, t.error, t.cost_usd, t.first_token_ms, t.duration_ms, t.created_at"
    )
    path = paths.PATH.replace(
        " WHERE ", " JOIN branch b ON b.id = t.branch JOIN conversation k ON k.id = b.conversation WHERE "
    )
    sql = f"SELECT {columns}, t.id AS row {path} ORDER BY l.first_seq, t.seq"
    for turn in _rows(c, "turn", sql, {"branch": branch, "low": 1, "high": MAX_SEQ}):
        key = turn.pop("row")
        # A pin without a position keeps the whole turn.
        held = pins.get(key, [])
        pinned = {"pinned": None in held, "pinned_positions": [position for position in held if position is not None]}
        yield {**turn, **pinned, "messages": list(_messages(c, key))}


def _messages(c: sqlite3.Connection, turn: int) -> Iterator[Row]:
    rows = c.execute(
        "SELECT position, role, text, extra, tokens, features, encoding, hash, created_at FROM message "
        "WHERE turn = ? ORDER BY position",
        (turn,),
    )
    for position, role, text, extra, tokens, features, encoding, key, created_at in rows:
        yield {
            "position": position,
            "message": {"role": role, "content": text, **(load_extra(extra) or {})},
            "tokens": tokens,
            "features": json.loads(features or "null"),
            "encoding": encoding,
            "content_hash": key,
            "created_at": created_at,
        }


def _summaries(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    sql = (
        f"WITH RECURSIVE {CHAIN.format(only=' WHERE k.id = :conversation')} SELECT s.uid AS id, k.uid AS conversation_id, s.round, "
        "o.uid AS previous_id, s.mark, s.text, s.tokens, s.features, s.first_seq, s.last_seq, s.turn_count, p.text AS prompt, "
        "s.prompt_name, s.prompt_version, r.text AS request, s.model, s.reason, s.quality, s.flags, s.tokens_before, "
        "s.tokens_after, s.cost_usd, s.duration_ms, s.created_at, s.id AS row FROM chain JOIN summary s ON s.id = chain.id "
        "JOIN conversation k ON k.id = s.conversation LEFT JOIN summary o ON o.id = s.previous "
        "LEFT JOIN value p ON p.id = s.prompt LEFT JOIN value r ON r.id = s.request ORDER BY s.round"
    )
    for summary in _rows(c, "summary", sql, {"conversation": conversation}):
        covered = c.execute(
            "SELECT t.uid, v.seq, v.hash FROM coverage v JOIN turn t ON t.id = v.turn WHERE v.summary = ? ORDER BY v.seq",
            (summary.pop("row"),),
        )
        parsed = {name: json.loads(summary[name] or "null") for name in ("features", "request", "flags")}
        names = ("turn_id", "seq", "content_hash")
        yield {**summary, **parsed, "coverage": [dict(zip(names, row, strict=True)) for row in covered]}


# -- tables -----------------------------------------------------------------------------------


def _write_csv(db: Database, conversation: int, file: IO[bytes]) -> None:
    tables.messages(db, conversation=conversation).to_csv(
        file,
        index=False,
        encoding="utf-8",
        lineterminator="\n",
        # Every text in quotes: a lone carriage return would end the row for most readers.
        quoting=csv.QUOTE_NONNUMERIC,
    )


def _write_parquet(db: Database, conversation: int, file: IO[bytes]) -> None:
    frame = tables.messages(db, conversation=conversation)
    try:
        frame.to_parquet(file, engine="pyarrow", index=False)
    except ImportError as error:
        raise StoreError(
            "writing Parquet needs pyarrow; install it with pip install 'voxnb[parquet]', or export to .csv or .jsonl",
            path=db.path,
        ) from error


# -- a text to read ---------------------------------------------------------------------------


def _write_md(db: Database, conversation: int, file: IO[bytes]) -> None:
    with closing(_read(db, conversation, blocks)) as texts:
        for text in texts:
            file.write(text.encode() + b"\n\n")


def blocks(c: sqlite3.Connection, conversation: int) -> Iterator[str]:
    """The blocks of the Markdown form. Stored text stands in fences or is escaped: it is never structure."""
    header = _header(c, conversation)
    facts = [("id", header["id"]), ("model", header["model"]), ("begun", _clock(header["created_at"]))]
    yield f"# {inline(header['name'])}"
    yield "\n".join(f"- {name}: {inline(value)}" for name, value in facts if value and value.strip())
    for instruction in header["instructions"]:
        yield "## Instructions"
        yield from _message_blocks(instruction["message"])
    for turn in _turns(c, conversation):
        state = "" if turn["state"] == "complete" else f" ({turn['state']})"
        yield f"## Turn {turn['seq']}{state}"
        for said in turn["messages"]:
            yield f"**{said['message']['role']}**"
            yield from _message_blocks(said["message"])
        if turn["error"]:
            yield f"Error: {inline(turn['error'])}"
    for summary in _summaries(c, conversation):
        yield f"## Summary {summary['round']}, turns {summary['first_seq']} to {summary['last_seq']}"
        yield f"By {inline(summary['model'])}, {_clock(summary['created_at'])}"
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


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


WRITERS: Final = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet, "md": _write_md}
"""Format → what writes it."""
