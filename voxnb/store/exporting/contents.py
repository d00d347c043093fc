"""What a conversation holds, as plain dicts in the order of the JSON Lines form: every text form is made of these.

The JSON Lines form, version 1: one object per line, told apart by ``type``. Times are UNIX seconds, ids are
public ids. First a ``conversation`` line, then the turns of its current path with their messages, then the
summaries behind its head with their coverage, oldest first, then calls, events, media and notes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from voxnb.store import ledger, paths, tables
from voxnb.store.columns import CHAIN, TABLES, rows_of
from voxnb.store.rows import load_extra
from voxnb.store.schema import MAX_SEQ

FORMAT_VERSION: Final = 1

Row = dict[str, Any]


def lines(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    """The objects of the JSON Lines form, in order; one turn in memory at a time."""
    yield header(c, conversation)
    yield from turns(c, conversation)
    yield from summaries(c, conversation)
    yield from _rows(
        c,
        "call",
        "SELECT x.uid AS id, t.uid AS turn_id, s.uid AS summary_id, x.purpose, x.model, x.base_url_host, x.request_id, "
        "x.estimated_prompt_tokens, x.prompt_tokens, x.completion_tokens, x.cached_tokens, x.cost_usd, x.retries, "
        "x.first_token_ms, x.duration_ms, x.status, x.error, x.created_at FROM call x LEFT JOIN turn t ON t.id = x.turn "
        f"LEFT JOIN summary s ON s.id = x.summary WHERE x.id IN ({rows_of('call', ':conversation')}) ORDER BY x.id",
        {"conversation": conversation},
    )
    yield from _rows(
        c,
        "event",
        "SELECT x.uid AS id, t.uid AS turn_id, x.seq, x.name, x.payload, x.created_at FROM event x "
        f"LEFT JOIN turn t ON t.id = x.turn WHERE x.id IN ({rows_of('event', ':conversation')}) ORDER BY x.id",
        {"conversation": conversation},
    )
    yield from _rows(
        c,
        "media",
        "SELECT x.uid AS id, t.uid AS turn_id, x.direction, x.tag, x.encoding, x.sample_rate_hz, x.duration_ms, x.bytes, "
        "x.path, x.created_at FROM media x LEFT JOIN turn t ON t.id = x.turn WHERE x.conversation = :conversation ORDER BY x.id",
        {"conversation": conversation},
    )
    yield from notes(c, conversation)


def notes(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    """Notes on the conversation, its turns and its summaries."""
    names = ("note_id", "target_id", "label", "text", "created_at")
    sql = tables.statement(TABLES["notes"], names, conversation=True)
    for row in c.execute(sql, {"conversation": conversation}).fetchall():
        yield {"type": "note", "id": row[0], **dict(zip(names[1:], row[1:], strict=True))}


def _rows(c: sqlite3.Connection, kind: str, sql: str, params: Mapping[str, Any]) -> Iterator[Row]:
    with closing(c.execute(sql, params)) as cursor:
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield {"type": kind, **dict(zip(names, row, strict=True))}


def header(c: sqlite3.Connection, conversation: int) -> Row:
    """The conversation itself: names, ids, times, instructions.

    Raises:
        UnknownConversationError: it was deleted.
    """
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


def turns(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    """Turns of the current path, inherited ones included, each with its messages."""
    branch = ledger.by_id(c, conversation).branch
    pins: dict[int, list[int | None]] = {}
    for turn, position in c.execute(
        "SELECT turn, position FROM pin WHERE conversation = ? AND removed IS NULL ORDER BY id", (conversation,)
    ):
        pins.setdefault(turn, []).append(position)
    columns = (
        "t.uid AS id, k.uid AS conversation_id, t.seq, t.state, t.tokens, t.hash AS content_hash, t.model, "
        "t.finish_reason, t.error, t.cost_usd, t.first_token_ms, t.duration_ms, t.redacted_at, t.created_at"
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


def summaries(c: sqlite3.Connection, conversation: int) -> Iterator[Row]:
    """Summaries behind the conversation's head, oldest first, with what each was made from."""
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


# -- what there is ----------------------------------------------------------------------------

HOLDINGS: Final = {
    "instructions": "SELECT count(*) FROM conversation WHERE id = :k AND instructions IS NOT NULL",
    "summaries": f"WITH RECURSIVE {CHAIN.format(only=' WHERE k.id = :k')} SELECT count(*) FROM chain",
    "older and trial summaries": f"WITH RECURSIVE {CHAIN.format(only=' WHERE k.id = :k')} "
    "SELECT count(*) FROM summary WHERE conversation = :k AND id NOT IN (SELECT id FROM chain)",
    "undone turns": "SELECT count(*) FROM branch b JOIN turn t ON t.branch = b.id WHERE b.conversation = :k AND NOT EXISTS "
    "(SELECT 1 FROM conversation p JOIN lineage l ON l.branch = p.branch WHERE p.id = :k AND l.source = t.branch "
    "AND t.seq BETWEEN l.first_seq AND l.last_seq)",
    "pins": "SELECT count(*) FROM pin WHERE conversation = :k AND removed IS NULL",
    "records of calls": f"SELECT count(*) FROM ({rows_of('call', ':k')})",
    "plans of requests (explain() needs them)": f"SELECT count(plan) FROM ({rows_of('call', ':k', column='plan')})",
    "events": f"SELECT count(*) FROM ({rows_of('event', ':k')})",
    "records of media": "SELECT count(*) FROM media WHERE conversation = :k",
    "notes": "SELECT count(*) FROM note WHERE target IN (SELECT uid FROM conversation WHERE id = :k UNION "
    "SELECT uid FROM summary WHERE conversation = :k UNION SELECT t.uid FROM branch b JOIN turn t ON t.branch = b.id "
    "WHERE b.conversation = :k)",
}
"""What a conversation may hold beside its messages → SQL that counts it, with the conversation's row as ``:k``."""


def holdings(c: sqlite3.Connection, conversation: int) -> dict[str, int]:
    """How much of each of `HOLDINGS` a conversation has."""
    return {name: int(c.execute(sql, {"k": conversation}).fetchone()[0]) for name, sql in HOLDINGS.items()}
