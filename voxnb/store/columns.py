"""What the DataFrames are in SQL: the columns of each table, and where its rows come from.

Rule 1: a table is one set-based statement; a column costs its subquery only where it was asked for.
Rule 2: without a conversation every row comes once, and ``pinned`` and ``covered_by`` are seen from the conversation
that owns the turn. With one, the rows are those of its path (a fork's inherited turns included), seen from it.
Rule 3: ``coverage`` and ``media`` are named with their schema: `tables.view` makes temporary views of these very names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from voxnb.store.frames import PURPOSES, ROLE, SUMMARY_STATES, TURN_STATES, Kind


class Column(NamedTuple):
    """A column of a DataFrame.

    Attributes:
        sql: expression; ``{whose}`` is the conversation from which the row is seen.
        kind: see `frames.Kind`.
        path: expression where one conversation was asked for, if another.
        joins: names of `Table.joins` that the expression needs.
    """

    sql: str
    kind: Kind = "str"
    path: str | None = None
    joins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One DataFrame's query.

    Attributes:
        columns: name → column, in the DataFrame's order.
        every: FROM for every row once.
        path: FROM for one conversation, if another.
        where: condition for one conversation, with ``:conversation``.
        order: sort keys.
        path_order: sort keys for one conversation, if others.
        time: what ``since`` and ``until`` compare.
        joins: name → JOIN of single columns.
    """

    columns: Mapping[str, Column]
    every: str
    where: str
    order: tuple[str, ...]
    path: str | None = None
    path_order: tuple[str, ...] | None = None
    time: str
    joins: Mapping[str, str] = field(default_factory=dict)


TEXT: Final[Kind] = "str"
COUNT: Final[Kind] = "Int64"
MEASURE: Final[Kind] = "Float64"
TIME: Final[Kind] = "time"
FLAG: Final[Kind] = "bool"

# -- what the statements share ----------------------------------------------------------------

CHAIN: Final = (
    "chain(conversation, id, previous) AS (SELECT k.id, s.id, s.previous FROM conversation k JOIN summary s ON s.id = k.head{only} "
    "UNION ALL SELECT chain.conversation, s.id, s.previous FROM chain JOIN summary s ON s.id = chain.previous)"
)
"""The summaries behind each conversation's head."""

REACH: Final = (
    "reach(branch, last_seq) AS MATERIALIZED (SELECT l.source, max(l.last_seq) FROM conversation k "
    "JOIN lineage l ON l.branch = k.branch GROUP BY l.source)"
)
"""How far each branch is on the current path of some conversation: paths share a branch from its start on."""

INHERITED: Final = (
    "inherited(turn, owner) AS (SELECT t.id, b.conversation FROM conversation p JOIN lineage l ON l.branch = p.branch "
    "JOIN branch b ON b.id = l.source AND b.conversation != p.id "
    "JOIN turn t ON t.branch = l.source AND t.seq BETWEEN l.first_seq AND l.last_seq WHERE p.id = :conversation)"
)
"""A fork's turns that another conversation owns."""

PATH: Final = (
    "FROM conversation p CROSS JOIN lineage l ON l.branch = p.branch "
    "CROSS JOIN turn t ON t.branch = l.source AND t.seq BETWEEN l.first_seq AND l.last_seq"
)
OWNER: Final = " CROSS JOIN branch b ON b.id = t.branch CROSS JOIN conversation k ON k.id = b.conversation"
SUMMARIES: Final = "(SELECT id FROM summary WHERE conversation = :conversation UNION SELECT id FROM chain)"


def rows_of(table: str, conversation: str, *, column: str = "id") -> str:
    """SELECT a column of the calls or events of a conversation: of its turns, and the loose ones, which belong to none.

    An index on their conversation would cost every turn two pages more.

    Args:
        table: ``call`` or ``event``.
        conversation: SQL expression of its row.
        column: of the table.
    """
    return (
        f"SELECT {column} FROM {table} WHERE conversation = {conversation} AND turn IS NULL UNION ALL "
        f"SELECT y.{column} FROM branch w CROSS JOIN turn z ON z.branch = w.id CROSS JOIN {table} y ON y.turn = z.id "
        f"WHERE w.conversation = {conversation}"
    )


def _belonging(table: str) -> str:
    """Rows of a conversation, and those of the turns it inherited."""
    own = rows_of(table, ":conversation")
    return f"x.id IN ({own} UNION ALL SELECT id FROM {table} WHERE turn IN (SELECT turn FROM inherited))"


def _said(key: str) -> str:
    """A text in a message's extra; where it has NULs, at which `json_extract` ends, characters that are none stand for them."""
    escaped = "replace(replace(m.extra, '\\\\', char(64977)), '\\u0000', char(64976))"
    whole = f"replace(replace(json_extract({escaped}, '$.{key}'), char(64977), '\\'), char(64976), char(0))"
    return f"CASE WHEN instr(m.extra, '\\u0000') THEN {whole} ELSE json_extract(m.extra, '$.{key}') END"


def _joined(table: str, *names: str) -> str:
    """A row with the public ids of what it names."""
    return f"FROM {table} x" + "".join(f" LEFT JOIN {name} {name[0]} ON {name[0]}.id = x.{name}" for name in names)


# -- the tables -------------------------------------------------------------------------------

CONVERSATIONS: Final = Table(
    columns={
        "conversation_id": Column("k.uid"),
        "name": Column("k.name"),
        "title": Column("k.title"),
        "api": Column("k.api"),
        "model": Column("k.model"),
        "parent_id": Column("(SELECT uid FROM conversation WHERE id = k.parent)"),
        "fork_seq": Column("k.fork_seq", COUNT),
        "turn_count": Column("k.last_seq", COUNT),
        "token_count": Column(
            "(SELECT coalesce(sum(t.tokens), 0) FROM lineage l JOIN turn t ON t.branch = l.source "
            "AND t.seq BETWEEN l.first_seq AND l.last_seq WHERE l.branch = k.branch)",
            COUNT,
        ),
        "folds": Column("coalesce((SELECT round FROM summary WHERE id = k.head), 0)", COUNT),
        "cost_usd": Column(f"(SELECT sum(cost_usd) FROM ({rows_of('call', 'k.id', column='cost_usd')}))", MEASURE),
        "metadata": Column("k.metadata"),
        "created_at": Column("k.created_at", TIME),
        "last_turn_at": Column("k.last_turn_at", TIME),
    },
    every="FROM conversation k",
    where="k.id = :conversation",
    order=("k.id",),
    time="k.last_turn_at",
)

TURNS: Final = Table(
    columns={
        "turn_id": Column("t.uid"),
        "conversation_id": Column("k.uid"),
        "seq": Column("t.seq", COUNT),
        "state": Column("t.state", TURN_STATES),
        "user_text": Column(
            "(SELECT group_concat(text, char(10, 10)) FROM "
            "(SELECT text FROM message WHERE turn = t.id AND role = 'user' ORDER BY position))"
        ),
        "reply_text": Column(
            "(SELECT text FROM message WHERE turn = t.id AND role = 'assistant' ORDER BY position DESC LIMIT 1)"
        ),
        "tokens": Column("t.tokens", COUNT),
        "model": Column("t.model"),
        "finish_reason": Column("t.finish_reason"),
        "pinned": Column(
            "(t.id, {whose}) IN (SELECT turn, conversation FROM pin WHERE position IS NULL AND removed IS NULL)", FLAG
        ),
        "covered_by": Column(
            "(SELECT s.uid FROM main.coverage v JOIN summary s ON s.id = v.summary "
            "WHERE v.turn = t.id AND ({whose}, +v.summary) IN (SELECT conversation, id FROM chain))"
        ),
        "cost_usd": Column("t.cost_usd", MEASURE),
        "first_token_ms": Column("t.first_token_ms", MEASURE),
        "duration_ms": Column("t.duration_ms", MEASURE),
        "error": Column("t.error"),
        "created_at": Column("t.created_at", TIME),
        "live": Column("t.seq <= coalesce(reach.last_seq, 0)", FLAG, path="1", joins=("reach",)),
        "redacted_at": Column("t.redacted_at", TIME),
    },
    every="FROM turn t" + OWNER,
    path=PATH + OWNER,
    where="p.id = :conversation",
    order=("t.id",),
    path_order=("l.first_seq", "t.seq"),
    time="t.created_at",
    joins={"reach": "LEFT JOIN reach ON reach.branch = t.branch"},
)

MESSAGES: Final = Table(
    columns={
        "message_id": Column("t.uid || '.' || m.position"),
        "turn_id": Column("t.uid"),
        "conversation_id": Column("k.uid"),
        "turn_seq": Column("t.seq", COUNT),
        "position": Column("m.position", COUNT),
        "role": Column("m.role", ROLE),
        "content": Column("m.text"),
        "parts": Column(
            "CASE json_type(m.extra, '$.content') WHEN 'array' THEN json_extract(m.extra, '$.content') END"
        ),
        "tool_name": Column(
            "CASE WHEN m.role IN ('tool', 'function') THEN coalesce(json_extract(m.extra, '$.name'), "
            "(SELECT json_extract(called.value, '$.function.name') FROM message a, json_each(a.extra, '$.tool_calls') called "
            "WHERE a.turn = m.turn AND a.role = 'assistant' "
            "AND json_extract(called.value, '$.id') = json_extract(m.extra, '$.tool_call_id'))) END"
        ),
        "tool_call_id": Column("json_extract(m.extra, '$.tool_call_id')"),
        "tokens": Column("m.tokens", COUNT),
        "encoding": Column("m.encoding"),
        "content_hash": Column("m.hash"),
        "created_at": Column("m.created_at", TIME),
        "tool_calls": Column("json_extract(m.extra, '$.tool_calls')"),
        "refusal": Column(_said("refusal")),
        "reasoning": Column(_said("reasoning_content")),
    },
    every="FROM message m CROSS JOIN turn t ON t.id = m.turn" + OWNER,
    path=PATH + OWNER + " CROSS JOIN message m ON m.turn = t.id",
    where="p.id = :conversation",
    order=("m.id",),
    path_order=("l.first_seq", "t.seq", "m.position"),
    time="m.created_at",
)

SUMMARY_STATE: Final = (
    "CASE WHEN s.id IN (SELECT head FROM conversation WHERE head IS NOT NULL{only}) THEN 'live' "
    "ELSE coalesce(s.kind, 'superseded') END"
)

SUMMARIES_TABLE: Final = Table(
    columns={
        "summary_id": Column("s.uid"),
        "conversation_id": Column("k.uid"),
        "round": Column("s.round", COUNT),
        "previous_id": Column("(SELECT uid FROM summary WHERE id = s.previous)"),
        "state": Column(
            SUMMARY_STATE.format(only=""), SUMMARY_STATES, path=SUMMARY_STATE.format(only=" AND id = :conversation")
        ),
        "text": Column("s.text"),
        "tokens": Column("s.tokens", COUNT),
        "first_seq": Column("s.first_seq", COUNT),
        "last_seq": Column("s.last_seq", COUNT),
        "turn_count": Column("s.turn_count", COUNT),
        "prompt_id": Column("(SELECT hash FROM value WHERE id = s.prompt)"),
        "prompt_name": Column("s.prompt_name"),
        "prompt_version": Column("s.prompt_version", COUNT),
        "model": Column("s.model"),
        "reason": Column("s.reason"),
        "tokens_before": Column("s.tokens_before", COUNT),
        "tokens_after": Column("s.tokens_after", COUNT),
        "cost_usd": Column("s.cost_usd", MEASURE),
        "duration_ms": Column("s.duration_ms", MEASURE),
        "created_at": Column("s.created_at", TIME),
        "quality": Column("s.quality"),
        "flags": Column("s.flags"),
    },
    every="FROM summary s CROSS JOIN conversation k ON k.id = s.conversation",
    where=f"s.id IN {SUMMARIES}",
    order=("s.id",),
    time="s.created_at",
)

COVERAGE: Final = Table(
    columns={
        "summary_id": Column("s.uid"),
        "conversation_id": Column("k.uid"),
        "turn_id": Column("(SELECT uid FROM turn WHERE id = v.turn)"),
        "seq": Column("v.seq", COUNT),
        "content_hash": Column("v.hash"),
    },
    every="FROM summary s CROSS JOIN main.coverage v ON v.summary = s.id CROSS JOIN conversation k ON k.id = s.conversation",
    where=f"s.id IN {SUMMARIES}",
    order=("s.id", "v.seq"),
    time="s.created_at",
)

CALLS: Final = Table(
    columns={
        "call_id": Column("x.uid"),
        "conversation_id": Column("c.uid"),
        "turn_id": Column("t.uid"),
        "summary_id": Column("s.uid"),
        "purpose": Column("x.purpose", PURPOSES),
        "model": Column("x.model"),
        "base_url_host": Column("x.base_url_host"),
        "request_id": Column("x.request_id"),
        "reply_id": Column("json_extract(x.plan, '$.reply')"),
        "estimated_prompt_tokens": Column("x.estimated_prompt_tokens", COUNT),
        "prompt_tokens": Column("x.prompt_tokens", COUNT),
        "completion_tokens": Column("x.completion_tokens", COUNT),
        "cached_tokens": Column("x.cached_tokens", COUNT),
        "token_error": Column("1.0 * x.prompt_tokens / nullif(x.estimated_prompt_tokens, 0) - 1", MEASURE),
        "cost_usd": Column("x.cost_usd", MEASURE),
        "retries": Column("x.retries", COUNT),
        "first_token_ms": Column("x.first_token_ms", MEASURE),
        "duration_ms": Column("x.duration_ms", MEASURE),
        "status": Column("x.status"),
        "error": Column("x.error"),
        "created_at": Column("x.created_at", TIME),
    },
    every=_joined("call", "conversation", "turn", "summary"),
    where=_belonging("call"),
    order=("x.id",),
    time="x.created_at",
)

EVENTS: Final = Table(
    columns={
        "event_id": Column("x.uid"),
        "conversation_id": Column("c.uid"),
        "turn_id": Column("t.uid"),
        "seq": Column("x.seq", COUNT),
        "name": Column("x.name"),
        "payload": Column("x.payload"),
        "created_at": Column("x.created_at", TIME),
    },
    every=_joined("event", "conversation", "turn"),
    where=_belonging("event"),
    order=("x.id",),
    time="x.created_at",
)

MEDIA: Final = Table(
    columns={
        "media_id": Column("x.uid"),
        "conversation_id": Column("c.uid"),
        "turn_id": Column("t.uid"),
        "direction": Column("x.direction"),
        "tag": Column("x.tag"),
        "encoding": Column("x.encoding"),
        "sample_rate_hz": Column("x.sample_rate_hz", COUNT),
        "duration_ms": Column("x.duration_ms", MEASURE),
        "bytes": Column("x.bytes", COUNT),
        "path": Column("x.path"),
        "created_at": Column("x.created_at", TIME),
    },
    every=_joined("main.media", "conversation", "turn"),
    where="x.id IN (SELECT id FROM main.media WHERE conversation = :conversation UNION SELECT id FROM main.media "
    "WHERE conversation IN (SELECT owner FROM inherited) AND turn IN (SELECT turn FROM inherited))",
    order=("x.id",),
    time="x.created_at",
)

PROMPTS: Final = Table(
    columns={
        "prompt_id": Column("v.hash"),
        "name": Column("q.name"),
        "version": Column("q.version", COUNT),
        "text": Column("v.text"),
        "created_at": Column("q.created_at", TIME),
    },
    every="FROM prompt q CROSS JOIN value v ON v.id = q.value",
    where=f"q.value IN (SELECT prompt FROM summary WHERE id IN {SUMMARIES})",
    order=("q.id",),
    time="q.created_at",
)

NOTES: Final = Table(
    columns={
        "note_id": Column("n.uid"),
        "target_id": Column("n.target"),
        "label": Column("n.label"),
        "text": Column("n.text"),
        "created_at": Column("n.created_at", TIME),
    },
    every="FROM note n",
    where="n.target IN (SELECT uid FROM conversation WHERE id = :conversation "
    f"UNION SELECT uid FROM summary WHERE id IN {SUMMARIES} UNION SELECT t.uid {PATH} WHERE p.id = :conversation)",
    order=("n.id",),
    time="n.created_at",
)

TABLES: Final[Mapping[str, Table]] = {
    "conversations": CONVERSATIONS,
    "turns": TURNS,
    "messages": MESSAGES,
    "summaries": SUMMARIES_TABLE,
    "coverage": COVERAGE,
    "calls": CALLS,
    "events": EVENTS,
    "media": MEDIA,
    "prompts": PROMPTS,
    "notes": NOTES,
}
