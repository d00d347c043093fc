"""Messages and turns as values: equality by content, a content hash, and the checks of a message list.

Identity (ids, order, storage) is the store's concern; two messages that say the
same are equal here. A message is met as the plain dict of the Chat Completions API
and given back as one, unknown keys included.

Rule 1: what the API would treat alike hashes alike. ``None`` values, a text given as one text part, and
what a provider adds for its own bookkeeping (``annotations``, ``reasoning_content``) do not count; the ``items`` of the
Responses API only where nothing else is said.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxnb.errors import MessageError

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
INSTRUCTION_ROLES: Final = frozenset({"system", "developer"})
ANSWER_ROLES: Final = frozenset({"assistant", "tool", "function"})

MAX_DEPTH: Final = 64
"""How deep lists and dicts may stand in each other; what is deeper is a mistake (or holds itself)."""

HASHED_KEYS: Final = ("name", "tool_calls", "tool_call_id", "refusal", "function_call")
"""What counts for equality beside role and content (of ``audio``, its id)."""

_SORTED: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the text that hashes are taken of.

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value holds something JSON has no form for.
    """
    return _SORTED.encode(value)


def digest(*lines: str) -> str:
    r"""BLAKE2b of the UTF-8 text of the lines, 16 bytes, as hex behind the tag ``b2:``.

    >>> digest("")
    'b2:cae66941d9efbd404e4d88758ea67670'
    >>> digest("one", "two") == digest("one\ntwo")
    True
    """
    # Each by itself: with one letter beyond Latin-1 in it, a long text takes many times as long to encode.
    said = b"\n".join([line.encode("utf-8", "surrogatepass") for line in lines])
    return "b2:" + hashlib.blake2b(said, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Message:
    """One message: role, content, and whatever else the API's dict held.

    Attributes:
        role: one of `ROLES`.
        content: text, a tuple of part dicts, or None (an answer of tool calls only).
        extra: every other key (``name``, ``tool_calls``, ``tool_call_id``, ``refusal`` …).
    """

    role: str
    content: str | tuple[Mapping[str, Any], ...] | None
    extra: Mapping[str, Any]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        """Take a checked dict apart; None values are left out. `parse_messages` checks."""
        content = data.get("content")
        extra = {k: v for k, v in data.items() if k not in ("role", "content") and v is not None}
        return cls(data["role"], tuple(content) if isinstance(content, list | tuple) else content, extra)

    def to_dict(self) -> dict[str, Any]:
        """The API's dict."""
        content = list(self.content) if isinstance(self.content, tuple) else self.content
        return {"role": self.role, "content": content, **self.extra}

    @property
    def text(self) -> str:
        """The text of the content; parts that are not text are left out."""
        return content_text(self.content)

    @property
    def parts(self) -> tuple[Mapping[str, Any], ...]:
        """The parts that are not plain text."""
        return () if not isinstance(self.content, tuple) else tuple(p for p in self.content if p.get("type") != "text")

    @property
    def tool_calls(self) -> tuple[Mapping[str, Any], ...]:
        """Tool calls of an assistant message, in order."""
        return tuple(self.extra.get("tool_calls") or ())

    @property
    def tool_call_id(self) -> str | None:
        """Which call a tool message answers."""
        return self.extra.get("tool_call_id")

    @property
    def content_hash(self) -> str:
        """Equal for messages that say the same (rule 1)."""
        return digest(self._canonical())

    def _canonical(self) -> str:
        content = self.content
        if isinstance(content, str) and not self.extra:  # most messages: the text that `canonical` would write
            return f"[{canonical(self.role)},{canonical(content)},{{}}]"
        if isinstance(content, tuple):
            if len(content) == 1 and content[0].get("type") == "text":
                content = content[0].get("text")
            else:
                content = tuple(without_none(p) for p in content)
        kept = {k: without_none(self.extra[k]) for k in HASHED_KEYS if self.extra.get(k)}
        if "tool_calls" in kept:
            kept["tool_calls"] = [_said_of_call(call) for call in kept["tool_calls"]]
        if isinstance(audio := self.extra.get("audio"), Mapping) and audio.get("id"):
            kept["audio"] = audio["id"]
        if not (content or kept) and (items := self.extra.get("items")):
            kept["items"] = without_none(items)
        return canonical([self.role, content or "", kept])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._canonical() == other._canonical()

    def __hash__(self) -> int:
        return hash(self._canonical())


def _said_of_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool call without what its provider added; one of an unknown kind stays as it is."""
    for kind, keys in (("function", ("name", "arguments")), ("custom", ("name", "input"))):
        if isinstance(called := call.get(kind), Mapping):
            return {"id": call.get("id"), "type": kind, kind: {k: called[k] for k in keys if k in called}}
    return call


def content_text(content: Any) -> str:
    """The text in a message's content: the string itself, or its text parts, one per line."""
    if isinstance(content, str):
        return content
    if not content:
        return ""
    return "\n".join(str(p["text"]) for p in content if isinstance(p.get("text"), str))


def without_none(value: Any) -> Any:
    """The value with None entries of every dict left out."""
    if isinstance(value, Mapping):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [without_none(v) for v in value]
    return value


def parse_messages(value: Any) -> list[Message]:
    """Check a message list and take it apart; nothing is changed on the way.

    Accepts dicts and SDK message objects (anything with ``model_dump``), whole or inside a dict. Whether tool
    results answer calls depends on what is stored already: see `unpaired`.

    Raises:
        MessageError: not a list, or a message that the API would refuse; names the index.
    """
    if (
        isinstance(value, str | bytes | bytearray | Mapping)
        or hasattr(value, "model_dump")
        or not isinstance(value, Iterable)
    ):
        raise MessageError(
            f'messages is {type(value).__name__}, expected a list of dicts like {{"role": "user", "content": "Hi"}}',
            index=None,
        )
    return [parse_message(item, index=i) for i, item in enumerate(value)]


def parse_message(item: Any, *, index: int = 0) -> Message:
    """Check one message; see `parse_messages`."""
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping) and not hasattr(item, "model_dump"):
        raise _bad(index, f"is {type(item).__name__}, expected a dict with role and content")
    copy = json_value(item, index=index)
    if not isinstance(copy, dict):
        raise _bad(index, f"is {type(item).__name__}, expected a dict with role and content")
    role = copy.get("role")
    if role not in ROLES:
        raise _bad(index, f"has role {role!r}, expected one of {', '.join(ROLES)}")
    _check_content(copy, index)
    if role == "tool" and not isinstance(copy.get("tool_call_id"), str):
        raise _bad(index, "has role 'tool' and no tool_call_id; name the call it answers")
    if copy.get("tool_calls") is not None:
        _check_tool_calls(role, copy["tool_calls"], index)
    if not copy.get("tool_calls"):
        copy.pop("tool_calls", None)  # an empty list is refused by the API and says nothing
    return Message.from_dict(copy)


def json_value(item: Any, *, index: int) -> Any:
    """A deep copy as JSON knows it, SDK objects included; raises `MessageError` where there is none."""
    try:
        return _plain(item, where="", depth=0)
    except _NotJsonError as error:
        raise _bad(index, str(error)) from error


class _NotJsonError(ValueError):
    """A value that JSON has no form for, and where it stands."""


def _plain(value: Any, *, where: str, depth: int) -> Any:
    """A deep copy of a value as JSON knows it: dict, list, str, int, float, bool, None.

    Raises:
        _NotJsonError: another type, NaN, text that is not Unicode, or nested too deeply (a value that holds itself).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, where=where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NotJsonError(f"cannot be written as JSON: {where} is {value!r}; give a finite number or a text")
        return float(value)
    if depth > MAX_DEPTH:
        raise _NotJsonError(
            f"is nested more than {MAX_DEPTH} levels deep (or holds itself) at {where[:60]}…; flatten it"
        )
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json", exclude_none=True), where=where, depth=depth + 1)
    if isinstance(value, Mapping):
        out = {}
        for key, held in value.items():
            if not isinstance(key, str):
                raise _NotJsonError(f"cannot be written as JSON: {where or 'it'} has the key {key!r}, expected a str")
            name = _plain_text(key, where=f"the key {key!a}")
            out[name] = _plain(held, where=f"{where}.{name}" if where else name, depth=depth + 1)
        return out
    if isinstance(value, list | tuple):
        return [_plain(held, where=f"{where}[{n}]", depth=depth + 1) for n, held in enumerate(value)]
    hint = "; use ask(text, attach=…) for data" if isinstance(value, bytes | bytearray | memoryview) else ""
    raise _NotJsonError(
        f"cannot be written as JSON: {where} is {type(value).__name__}, expected text, numbers, lists and dicts{hint}"
    )


def _plain_text(text: str, *, where: str) -> str:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _NotJsonError(
                f"has text that is not Unicode in {where} at character {error.start} (a lone surrogate); "
                "repair it with text.encode('utf-8', 'replace').decode()"
            ) from error
    return str.__str__(text)  # of a str subclass (an enum's constant) only the text


def _check_content(item: Mapping[str, Any], index: int) -> None:
    role, content = item["role"], item.get("content")
    if content is None and role != "assistant":
        raise _bad(index, f"has role {role!r} and no content; give a text, '' if it is empty")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise _bad(index, f"has content of type {type(content).__name__}, expected str or a list of parts")
    for n, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise _bad(index, f"has part {n} without a type; expected a dict like {{'type': 'text', 'text': …}}")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise _bad(index, f"has text part {n} whose text is {type(part.get('text')).__name__}, expected str")


def _check_tool_calls(role: str, calls: Any, index: int) -> None:
    if not isinstance(calls, list):
        raise _bad(index, f"has tool_calls of type {type(calls).__name__}, expected a list")
    if calls and role != "assistant":
        raise _bad(index, f"has role {role!r} and tool_calls; only the assistant calls tools")
    for n, call in enumerate(calls):
        if not isinstance(call, dict) or not isinstance(call.get("id"), str):
            raise _bad(index, f"has tool call {n} without an id")
        for kind in ("function", "custom"):
            if not isinstance(call.get(kind, {}), dict):
                raise _bad(index, f"has tool call {n} whose {kind} is {type(call[kind]).__name__}, expected a dict")


def _bad(index: int, what: str) -> MessageError:
    return MessageError(f"message {index} {what}", index=index)


def unpaired(messages: Iterable[Message], *, open_ids: Iterable[str] = ()) -> tuple[list[tuple[int, str]], list[str]]:
    """Tool results without a call, and calls without a result.

    Args:
        messages: in order.
        open_ids: calls made earlier that still wait for their result.

    Returns:
        ``(orphans, waiting)``: orphan results as (index, tool_call_id), and ids still unanswered at the end.
    """
    waiting = dict.fromkeys(open_ids)
    orphans = []
    for index, message in enumerate(messages):
        for call in message.tool_calls:
            waiting[call["id"]] = None
        call_id = message.tool_call_id
        if message.role == "tool" and call_id is not None:
            if call_id in waiting:
                del waiting[call_id]
            else:
                orphans.append((index, call_id))
    return orphans, list(waiting)


def goes_on(messages: Sequence[Message], *, open_ids: Container[str]) -> bool:
    """Whether messages belong to a turn with these open calls: they begin with a result, or bring one of theirs."""
    if messages and messages[0].role in ("tool", "function"):
        return True
    return any(call_id in open_ids for _, call_id in unpaired(messages)[0])


def split_instructions(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The leading system and developer messages, and the rest."""
    n = 0
    while n < len(messages) and messages[n].role in INSTRUCTION_ROLES:
        n += 1
    return list(messages[:n]), list(messages[n:])


def group_turns(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Cut a message list into turns: what was asked, and everything that answers it.

    A turn ends where a user, system or developer message follows an answer, but never between a tool call and its
    result.
    """
    messages = list(messages)
    result_at = _results(messages)
    group: list[Message] = []
    answered, open_to = False, -1
    for index, message in enumerate(messages):
        is_answer = message.role in ANSWER_ROLES
        if answered and not is_answer and index > open_to:
            yield group
            group, answered = [], False
        group.append(message)
        answered = answered or is_answer
        open_to = max(open_to, result_at.get(index, -1))
    if group:
        yield group


def _results(messages: Sequence[Message]) -> dict[int, int]:
    """Index of a message with tool calls → index of the last result that answers one of them."""
    calls: dict[str, int] = {}
    out: dict[int, int] = {}
    for index, message in enumerate(messages):
        calls.update((call["id"], index) for call in message.tool_calls)
        if message.role == "tool" and message.tool_call_id in calls:
            out[calls.pop(message.tool_call_id)] = index
    return out
