"""Drafts checked, hashed, counted and cut into turns: the rows that a transaction will write, without their keys.

Rule 1: most messages are a role and a text. They are checked and hashed here without the detours of `parse_message`,
with the same result; every other message goes through it.
Rule 2: what cannot be kept as it stands is left out or repaired, and said in the remarks; a conversation that is no
message list is left out whole.
"""

from __future__ import annotations

import hashlib
import json
import json.encoder
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, NamedTuple

from voxnb.errors import MessageError
from voxnb.memory import tokens
from voxnb.memory.tally import text_features
from voxnb.messages import ANSWER_ROLES, INSTRUCTION_ROLES, Message, group_turns, parse_message, unpaired
from voxnb.runtime import encodings
from voxnb.store.importing.clock import goes_back
from voxnb.store.importing.draft import Draft, Reading
from voxnb.store.journal import UNANSWERED
from voxnb.store.planner import Measure, measure_for
from voxnb.store.rows import Counted, dump, split_message, turn_hash

_PLAIN_KEYS: Final = frozenset({"role", "content"})
_PLAIN_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
MAX_MEASURE: Final = 1e15
NO_FEATURES: Final = "[0,0,0,0]"
_digit = re.compile("[0-9]").search
_quoted = json.encoder.encode_basestring  # JSON's text without escapes for other scripts, as `canonical` writes it


class Said(NamedTuple):
    """A message as its row, but for keys and counts."""

    role: str
    text: str
    extra: str | None
    hash: str
    message: Message | None


Kept = tuple[str, str, str | None, int, str, str, str, float | None]
"""A message's row, but for its keys: role, text, extra, tokens, features, encoding, hash, created_at.

A bare tuple: of texts and numbers it is nothing to the garbage collector, which otherwise takes half of an import's time.
"""


@dataclass(slots=True)
class ReadyTurn:
    """A turn's row, but for its keys."""

    messages: list[Kept]
    hash: str
    tokens: int
    created_at: float | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Ready:
    """A conversation that can be written.

    Attributes:
        draft: what it was made of.
        instructions: the leading system messages, counted.
        turns: in order.
        content: hash of all it says.
    """

    draft: Draft
    instructions: list[Counted]
    turns: list[ReadyTurn]
    content: str


def make_ready(drafts: Iterable[Draft], reading: Reading) -> list[Ready]:
    """Check, hash and count some conversations; what is none is noted in ``reading.skipped``."""
    checked = [found for draft in drafts if (found := _checked(draft, reading)) is not None]
    counts = _count(checked)
    return [_cut(draft, said, counts, reading) for draft, said in checked]


# -- checking ---------------------------------------------------------------------------------


def _checked(draft: Draft, reading: Reading) -> tuple[Draft, list[Said]] | None:
    said: list[Said] = []
    plain = True
    try:
        for index, item in enumerate(draft.messages):
            found = _plain(item)
            if found is None:
                plain = False
                found = _parsed(item, index, draft, reading)
            said.append(found)
    except MessageError as error:
        reading.skipped.add(_kind(error), f"{draft.place}: {error}"[:300])
        return None
    if all(m.role in INSTRUCTION_ROLES for m in said):
        reading.skipped.add("nothing said in it" if said else "no message in it", draft.place)
        return None
    if not plain:
        said = _paired(draft, said, reading)
    _clean(draft)
    if draft.times and goes_back(draft.times):
        reading.remarks.add("the clock goes backwards; messages stay in the order they stand in", draft.place)
    return draft, said


def _plain(item: Any) -> Said | None:
    """A message that is a role and a text and nothing else; None for any other."""
    if type(item) is not dict or item.keys() != _PLAIN_KEYS:
        return None
    role, text = item["role"], item["content"]
    if type(text) is not str or type(role) is not str or role not in _PLAIN_ROLES:
        return None
    try:
        said = f'["{role}",{_quoted(text)},{{}}]'.encode()
    except UnicodeEncodeError:
        return None
    return Said(role, text, None, "b2:" + hashlib.blake2b(said, digest_size=16).hexdigest(), None)


def _parsed(item: Any, index: int, draft: Draft, reading: Reading) -> Said:
    try:
        message = parse_message(item, index=index)
    except MessageError as error:
        try:
            repaired = _repaired(item)
        except RecursionError:
            raise error from None
        if repaired == item:
            raise
        message = parse_message(repaired, index=index)
        reading.remarks.add(
            "text that is not Unicode (lone surrogates, NaN), repaired", f"{draft.place}, message {index}"
        )
    text, extra = split_message(message)
    return Said(message.role, text, None if extra is None else dump(extra), message.content_hash, message)


def _clean(draft: Draft) -> None:
    """Make what stands beside the messages fit for the tables: Unicode, and JSON."""
    for name in ("key", "name", "title", "model"):
        value = getattr(draft, name)
        setattr(draft, name, None if value is None else _repaired(str(value)))
    if draft.metadata:
        draft.metadata = _repaired(json.loads(json.dumps(dict(draft.metadata), default=str, skipkeys=True)))
    if draft.facts:
        draft.facts = {
            n: {name: held for name, value in facts.items() if (held := _fact(name, value)) is not None}
            for n, facts in draft.facts.items()
        }


def _fact(name: str, value: Any) -> Any:
    """A fact of a turn as its column takes it, or None."""
    if name in ("duration_ms", "first_token_ms", "cost_usd"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_MEASURE
        return float(value) if is_number else None
    return None if value is None else _repaired(str(value))


def _repaired(value: Any) -> Any:
    """The value with lone surrogates replaced and numbers that are none as None."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {_repaired(key): _repaired(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_repaired(held) for held in value]
    return value


def _kind(error: MessageError) -> str:
    if "has role" in error.message and "expected one of" in error.message:
        return "a role that is none (name what it means: roles={'agent': 'assistant'})"
    return "a message that the API would refuse"


def _paired(draft: Draft, said: list[Said], reading: Reading) -> list[Said]:
    """Without tool results that no call waits for: every request with one of them is refused."""
    if not any(m.message is not None and (m.role == "tool" or m.message.tool_calls) for m in said):
        return said
    messages = [_as_message(m) for m in said]
    orphans, _ = unpaired(messages)
    if not orphans:
        return said
    left_out = {index for index, _ in orphans}
    for index, call_id in orphans:
        reading.skipped.add("tool results that no call waits for", f"{draft.place}, message {index}: {call_id!r}"[:200])
    kept = [n for n in range(len(said)) if n not in left_out]
    if draft.times:
        draft.times = [draft.times[n] for n in kept]
    if draft.facts:
        draft.facts = {new: draft.facts[old] for new, old in enumerate(kept) if old in draft.facts}
    draft.begins = {new for new, old in enumerate(kept) if old in draft.begins}
    return [said[n] for n in kept]


def _as_message(said: Said) -> Message:
    return said.message or Message(said.role, said.text, {})


# -- counting ---------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _measure(model: str | None) -> Measure:
    return measure_for(model)


@lru_cache(maxsize=64)
def _role_tokens(encoding: str, role: str) -> int:
    return tokens.MESSAGE_TOKENS + encodings.counter(encoding)(role)


def _count(checked: Sequence[tuple[Draft, list[Said]]]) -> dict[str, Iterator[int]]:
    """Encoding → the counts of its plain texts, in order: one call for all of them."""
    texts: dict[str, list[str]] = {}
    for draft, said in checked:
        held = texts.setdefault(_measure(draft.model).encoding, [])
        held.extend(m.text for m in said if m.message is None)
    return {encoding: iter(encodings.count_each(encoding, held)) for encoding, held in texts.items()}


def _features(text: str, total: int) -> str:
    """The features of a plain message as they are stored; of most texts they are nothing."""
    if text.isascii() and _digit(text) is None:
        return NO_FEATURES
    numeric, split, wide, _ = text_features(text)
    return _written(min(numeric, total), split, wide, 0)


@lru_cache(maxsize=4096)
def _written(numeric: int, split: int, wide: int, media: int) -> str:
    return f"[{numeric},{split},{wide},{media}]"


# -- cutting ----------------------------------------------------------------------------------


def _cut(draft: Draft, said: list[Said], counts: Mapping[str, Iterator[int]], reading: Reading) -> Ready:
    measure = _measure(draft.model)
    encoding, of_text = measure.encoding, counts[measure.encoding]
    times = draft.times or repeat(None)
    kept: list[Kept] = []
    for m, at in zip(said, times):  # noqa: B905 - the second may be endless
        role, text, extra, key, message = m
        if message is None:
            total = _role_tokens(encoding, role) + next(of_text)
            kept.append((role, text, extra, total, _features(text, total), encoding, key, at))
        else:
            counted = measure(message)
            features = _written(*(counted.features or (0, 0, 0, 0)))
            kept.append((role, text, extra, counted.tokens, features, encoding, key, at))
    first = next((n for n, m in enumerate(said) if m.role not in INSTRUCTION_ROLES), len(said))
    instructions = [measure(_as_message(m)) for m in said[:first]]
    bounds = ((n, n + 1) for n in range(first, len(said))) if draft.each_is_a_turn else _bounds(said, first)
    if draft.begins:
        bounds = _parted(bounds, draft.begins, said)
    turns = [_turn(kept[low:high], draft, low, high) for low, high in bounds]
    if _mark_unanswered(turns, said[first:]):
        reading.remarks.add("tool calls without a result: their turns count as cut off", draft.place)
    content = turn_hash([*(m.hash for m in said[:first]), *(turn.hash for turn in turns)])
    return Ready(draft, instructions, turns, content)


def _bounds(said: Sequence[Said], first: int) -> Iterator[tuple[int, int]]:
    """(first, after last) of each turn, as `group_turns` cuts."""
    if any(m.message is not None and m.message.tool_calls for m in said):
        low = first
        for group in group_turns([_as_message(m) for m in said[first:]]):
            yield low, low + len(group)
            low += len(group)
        return
    low, answered = first, False
    for n in range(first, len(said)):
        is_answer = said[n].role in ANSWER_ROLES
        if answered and not is_answer:
            yield low, n
            low, answered = n, False
        answered = answered or is_answer
    if low < len(said):
        yield low, len(said)


def _parted(
    bounds: Iterable[tuple[int, int]], begins: Collection[int], said: Sequence[Said]
) -> Iterator[tuple[int, int]]:
    """The same, also cut where the source says that a turn begins; a tool's result stays with its call."""
    for low, high in bounds:
        start = low
        for n in range(low + 1, high):
            if n in begins and said[n].role != "tool":
                yield start, n
                start = n
        yield start, high


def _turn(messages: list[Kept], draft: Draft, low: int, high: int) -> ReadyTurn:
    facts: dict[str, Any] = {}
    if draft.facts:
        for n in range(low, high):
            facts.update(draft.facts.get(n, {}))
    at = next((m[7] for m in messages if m[7] is not None), None) if draft.times else None
    return ReadyTurn(messages, turn_hash([m[6] for m in messages]), sum([m[3] for m in messages]), at, facts)


def _mark_unanswered(turns: list[ReadyTurn], said: Sequence[Said]) -> bool:
    """A turn that went on without the results of its tool calls was cut off; only the last one may still get them."""
    if not any(m.message is not None and m.message.tool_calls for m in said):
        return False
    at, marked = 0, False
    for turn in turns[:-1]:
        group = said[at : at + len(turn.messages)]
        at += len(turn.messages)
        _, waiting = unpaired([_as_message(m) for m in group])
        if waiting and "state" not in turn.facts:
            turn.facts = {**turn.facts, "state": "partial", "error": UNANSWERED}
            marked = True
    return marked
