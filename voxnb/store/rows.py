"""Rows as values: what the transactions read and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import index
from typing import Any, Final, NamedTuple

from voxnb.errors import ConversationError
from voxnb.memory.plan import PastTurn, Said
from voxnb.messages import Message, digest

ENDED: Final = frozenset({"complete", "partial", "failed"})

CONVERSATION_COLUMNS: Final = (
    "id, uid, name, model, parent, fork_seq, branch, last_seq, instructions, head, folded_to, pin_version, "
    "fold_failures, fold_after_seq, fold_owner, fold_lease_until, metadata"
)


def checked_name(name: object) -> str:
    """A conversation's name as the user gave it.

    Raises:
        ConversationError: it is none.
    """
    if not isinstance(name, str):
        raise ConversationError(f"the name is {name!r} ({type(name).__name__}), expected a str")
    if not name.strip():
        raise ConversationError("a conversation's name cannot be empty")
    return name


class ConversationRow(NamedTuple):
    """A conversation as it stands; see the schema for each field."""

    id: int
    uid: str
    name: str
    model: str | None
    parent: int | None
    fork_seq: int | None
    branch: int
    last_seq: int
    instructions: int | None
    head: int | None
    folded_to: int
    pin_version: int
    fold_failures: int
    fold_after_seq: int
    fold_owner: str | None
    fold_lease_until: float | None
    metadata: str

    @classmethod
    def of(cls, values: Sequence[Any]) -> ConversationRow:
        """The row of what `CONVERSATION_COLUMNS` gave."""
        row = cls._make(values)
        index(row.last_seq)  # counted with at once: here the store is at hand to say which row has no number
        return row


class TurnRow(NamedTuple):
    """A turn without its messages."""

    id: int
    uid: str
    branch: int
    seq: int
    state: str
    owner: str | None
    lease_until: float | None


class Counted(NamedTuple):
    """A message with its counts, ready to be stored."""

    message: Message
    tokens: int
    features: tuple[int, ...] | None
    encoding: str
    hash: str

    def said(self, position: int) -> Said:
        """As the planner sees it."""
        text, extra = split_message(self.message)
        return Said(position, self.message.role, text, extra, self.tokens, self.features)


def split_message(message: Message) -> tuple[str, dict[str, Any] | None]:
    """A message as the text that is shown and searched, and what the text does not say."""
    extra, text = dict(message.extra), message.text
    if isinstance(message.content, tuple):
        extra["content"] = list(message.content)
    elif message.content is None:
        extra["content"] = None
    if not text and isinstance(audio := extra.get("audio"), Mapping) and audio.get("transcript"):
        extra.setdefault("content", message.content)
        text = str(audio["transcript"])  # an answer that was spoken
    return text, extra or None


def dump(value: Any) -> str:
    """JSON as it is stored."""
    return _encode(value)


# One encoder for all: making one costs more than most values.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def load_extra(text: str | None) -> dict[str, Any] | None:
    """The inverse of `dump` for a message's extra."""
    return None if text is None else json.loads(text)


@lru_cache(maxsize=4096)
def dump_features(features: tuple[int, ...] | None) -> str | None:
    """The inverse of `load_features`."""
    return None if features is None else dump(features)


@lru_cache(maxsize=4096)  # a few small numbers: most messages of a conversation have had the same before
def load_features(text: str | None) -> tuple[int, ...] | None:
    """Stored counts for calibration."""
    return None if text is None else tuple(json.loads(text))


def past_turns(rows: Iterable[tuple[Any, ...]], *, pinned: frozenset[int] = frozenset()) -> list[PastTurn]:
    """Group joined rows (turn columns, then message columns) into turns."""
    out: list[PastTurn] = []
    turn_id = None
    head: tuple[Any, ...] = ()
    messages: list[Said] = []
    for row in rows:
        if row[0] != turn_id:
            if turn_id is not None:
                out.append(_past_turn(head, messages, pinned))
            turn_id, head, messages = row[0], row, []
        _, _, _, _, _, position, role, text, extra, tokens, features = row
        if position is not None:
            said = None if extra is None else load_extra(extra)
            if not isinstance(role, str) or not isinstance(text, str):
                raise TypeError("a message without words")  # here the store is at hand to say which row has it
            messages.append(Said(position, role, text, said, index(tokens), load_features(features)))
    if turn_id is not None:
        out.append(_past_turn(head, messages, pinned))
    return out


def _past_turn(row: tuple[Any, ...], messages: list[Said], pinned: frozenset[int]) -> PastTurn:
    return PastTurn(row[0], row[1], index(row[2]), row[3], tuple(messages), row[0] in pinned, row[4] or "")


STATE: Final = "CASE WHEN t.redacted_at IS NULL THEN t.state ELSE 'redacted' END"
"""A turn's state as a planner sees it: one whose words were taken out has another than it ended with."""

TURN: Final = f"t.id, t.uid, t.seq, {STATE}, t.hash"
"""The columns that tell an ended turn: with other words it has another hash."""

TURN_AND_MESSAGES: Final = f"{TURN}, m.position, m.role, m.text, m.extra, m.tokens, m.features"
"""The columns that `past_turns` expects."""


def turn_hash(message_hashes: Iterable[str]) -> str:
    """The content hash of a turn."""
    return digest(*message_hashes)


class CallRecord(NamedTuple):
    """What is known of one request to a server, written when it ends."""

    uid: str
    purpose: str
    model: str | None
    host: str | None
    request_id: str | None
    estimated_prompt_tokens: int | None
    usage: Mapping[str, int | None]
    cost_usd: float | None
    retries: int
    first_token_ms: float | None
    duration_ms: float | None
    status: str
    error: str | None
    reply_id: str | None = None
