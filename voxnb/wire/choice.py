"""One choice of an answer, put together from deltas: its texts, tool calls and whatever else a provider sends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Final

REPLACED: Final = frozenset({"index", "type", "id", "role", "name", "format", "status"})
"""Keys inside nested values whose text is said again, not continued."""

_ID_CHARACTERS: Final = 24
_NOT_JSON: Final = object()


def copied(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if type(value) is dict:
        return {k: copied(v) if type(v) in (dict, list) else v for k, v in value.items()}
    if type(value) is list:
        return [copied(v) if type(v) in (dict, list) else v for v in value]
    return value


def decoded(text: str, *, default: Any = None) -> Any:
    """The value of a JSON text, or `default` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return default


def merged(known: Any, more: Any) -> Any:
    """A nested value continued by a delta: texts are joined, objects merged, lists continued by ``index``.

    Numbers and values of another type take the place of the old.
    """
    if isinstance(known, dict) and isinstance(more, dict):
        for key, value in more.items():
            if value is not None:
                known[key] = copied(value) if key in REPLACED else merged(known.get(key), value)
        return known
    if isinstance(known, list) and isinstance(more, list):
        for entry in more:
            index = entry.get("index") if isinstance(entry, dict) else None
            same = [k for k in known if isinstance(k, dict) and k.get("index") == index] if index is not None else []
            if same:
                merged(same[0], entry)
            else:
                known.append(copied(entry))
        return known
    if isinstance(known, str) and isinstance(more, str):
        return known + more
    return copied(more)


def expect(value: Any, kind: type, where: str, *, of: str = "a chat chunk") -> None:
    """Refuse a value of the wrong type.

    Raises:
        ValueError: naming the place, the type that was expected and what was found.
    """
    if type(value) is not kind:
        raise ValueError(f"{where} of {of} should be {kind.__name__}, not {type(value).__name__}: {shown(value)}")


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def pass_over(remarks: list[str], what: str, value: Any) -> None:
    """Note a part of an answer that cannot be read and is not needed; the same is noted once.

    >>> remarks = []
    >>> pass_over(remarks, "usage", [1])
    >>> remarks
    ['the server sent usage that is none and was passed over: [1]']
    """
    remark = f"the server sent {what} that is none and was passed over: {shown(value)}"
    if remark not in remarks:
        remarks.append(remark)


class ToolCall:
    """One tool call so far.

    Attributes:
        position: its place among the tool calls of the message.
        id: the provider's id, or ``""``.
        kind: ``"function"`` or ``"custom"``.
        name: the function's name so far.
        extra: other keys of the call (some providers need them sent back).
    """

    __slots__ = ("_parts", "extra", "id", "kind", "name", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id = ""
        self.kind = "function"
        self.name = ""
        self.extra: dict[str, Any] = {}
        self._parts: list[str] = []

    @property
    def arguments(self) -> str:
        """The argument text so far."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def is_whole(self) -> bool:
        """Whether the arguments so far are a JSON text (a custom tool's input is free text: always)."""
        return self.kind == "custom" or decoded(self.arguments, default=_NOT_JSON) is not _NOT_JSON

    def add(self, raw: Mapping[str, Any], *, name: str, arguments: str) -> None:
        """Continue the call by a delta."""
        self.id = self.id or raw.get("id") or ""
        if "custom" in raw or raw.get("type") == "custom":
            self.kind = "custom"
        if name != self.name:  # some providers say the whole name with every delta
            self.name += name
        if arguments:
            self._parts.append(arguments)
        for key, value in raw.items():
            if key not in ("index", "id", "type", "function", "custom") and value is not None:
                self.extra[key] = merged(self.extra.get(key), value)

    def to_dict(self, identity: str) -> dict[str, Any]:
        """The call as a message holds it, under this id."""
        field = "input" if self.kind == "custom" else "arguments"
        inner = {"name": self.name, field: self.arguments}
        return {"id": identity, "type": self.kind, self.kind: inner, **copied(self.extra)}


class Choice:
    """One choice so far.

    Attributes:
        index: its number in the answer.
        texts: pieces of every text the message holds (``content``, ``refusal``, ``reasoning_content`` …).
        fields: what else the deltas held, merged.
        calls: tool calls in order.
        logprobs: token lists under ``content`` and ``refusal``, or None.
        finish_reason: the provider's word, or None.
        open_call: the tool call that is being written, or None.
        told: what has had its closing event: ``content``, ``refusal``, ``logprobs.content``,
            ``logprobs.refusal``, and positions of tool calls.
    """

    __slots__ = (
        "_by_index", "calls", "fields", "finish_reason", "index", "logprobs", "open_call", "texts", "told",
    )  # fmt: skip

    def __init__(self, index: int) -> None:
        self.index = index
        self.texts: dict[str, list[str]] = {}
        self.fields: dict[str, Any] = {}
        self.calls: list[ToolCall] = []
        self.logprobs: dict[str, list[Any] | None] | None = None
        self.finish_reason: str | None = None
        self.open_call: ToolCall | None = None
        self.told: set[str | int] = set()
        self._by_index: dict[int, ToolCall] = {}

    def text(self, key: str) -> str | None:
        """A text of the message so far, or None where none of it came."""
        parts = self.texts.get(key)
        if parts is None:
            return None
        if len(parts) > 1:
            parts[:] = ["".join(parts)]
        return parts[0]

    def add_text(self, key: str, value: str) -> None:
        """Continue a text."""
        self.texts.setdefault(key, []).append(value)

    def add_field(self, key: str, value: Any) -> None:
        """Continue anything else."""
        if type(value) is str and key not in self.fields:
            self.add_text(key, value)
        else:
            self.fields[key] = merged(self.fields.get(key), value)

    def add_content(self, content: Any) -> str:
        """Continue the content by a text or by parts, thinking parts as ``reasoning_content``.

        Returns:
            The text that is new.

        Raises:
            ValueError: it is neither.
        """
        if type(content) is str:
            text = content
        else:
            expect(content, list, "content")
            text = "".join([self._part(part) for part in content])
        self.add_text("content", text)
        return text

    def _part(self, part: Any) -> str:
        expect(part, dict, "a part of the content")
        if part.get("type") != "thinking":
            return text if type(text := part.get("text")) is str else ""
        inner = part.get("thinking")
        for thought in inner if type(inner) is list else [{"text": inner}]:
            expect(thought, dict, "a thinking part")
            self.add_text("reasoning_content", str(thought.get("text") or ""))
        return ""

    def add_logprobs(self, raw: Any) -> bool:
        """Continue the token lists; False, and nothing is changed, where they are none."""
        if type(raw) is not dict or any(type(raw.get(k)) not in (list, NoneType) for k in ("content", "refusal")):
            return False
        begins = self.logprobs is None
        if self.logprobs is None:
            self.logprobs = {"content": None, "refusal": None}
        for key, known in self.logprobs.items():
            tokens = raw.get(key)
            if tokens is None:
                continue
            if known is None:
                # An empty list later on says nothing; at first it says that there will be one (as in the SDK).
                if tokens or begins:
                    self.logprobs[key] = list(tokens)
            else:
                known.extend(tokens)
        return True

    def add_call(self, raw: Any) -> tuple[ToolCall, str | None]:
        """Continue a tool call, or begin one.

        Returns:
            The call, and the argument text of this delta (None where the delta brought no function).

        Raises:
            ValueError: the delta is no tool call.
        """
        expect(raw, dict, "a tool call")
        inner = raw.get("function") if raw.get("function") is not None else raw.get("custom")
        name = arguments = ""
        if inner is not None:
            expect(inner, dict, "the function of a tool call")
            name = inner.get("name") or ""
            expect(name, str, "the name of a tool call")
            given = inner.get("arguments", inner.get("input"))
            # Ready-made arguments, as some servers send them, become the text that they stand for.
            arguments = given if type(given) is str else "" if given is None else json.dumps(given, ensure_ascii=False)
        identity, index = raw.get("id") or "", raw.get("index")
        expect(identity, str, "the id of a tool call")
        if index is not None:
            expect(index, int, "the index of a tool call")
        call = self._find(identity, name=name, arguments=arguments, index=index) or self._begin()
        if index is not None:
            self._by_index[index] = call
        call.add(raw, name=name, arguments=arguments)
        return call, None if inner is None else arguments

    def _find(self, identity: str, *, name: str, arguments: str, index: int | None) -> ToolCall | None:
        """The call that a delta continues.

        The index decides, but providers repeat index 0 for whole calls (with new ids, or with empty ones) or leave
        it out; a new id alone does not begin a call (there are servers that make one up for every delta).
        """
        if index is None and identity:
            return next((c for c in self.calls if c.id == identity), None)
        call = self._by_index.get(index) if index is not None else self.calls[-1] if self.calls else None
        if call is None or not name or not call.name:
            return call
        if identity and call.id:
            return call if identity == call.id else None
        another = not identity and not call.id and arguments and call.is_whole()
        return None if another else call

    def _begin(self) -> ToolCall:
        call = ToolCall(len(self.calls))
        self.calls.append(call)
        return call

    def message(self, answer_id: str | None) -> dict[str, Any]:
        """The assistant message so far, shared with nobody.

        Args:
            answer_id: the completion's id; ids that a provider left out are made from it.
        """
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {k: copied(v) for k, v in self.fields.items()}
        message |= {k: self.text(k) for k in self.texts}
        if self.calls:
            message["tool_calls"] = [c.to_dict(i) for c, i in zip(self.calls, self._ids(answer_id), strict=True)]
        return message

    def _ids(self, answer_id: str | None) -> Iterable[str]:
        stem = (answer_id or "answer").removeprefix("chatcmpl-")[-_ID_CHARACTERS:]
        used: set[str] = set()
        for call in self.calls:
            identity = call.id or f"call_{stem}_{self.index}_{call.position}"
            while identity in used:  # a result must say which call it answers
                identity += f"_{call.position}"
            used.add(identity)
            yield identity

    def to_dict(self, answer_id: str | None) -> dict[str, Any]:
        """The choice as an unstreamed answer holds it."""
        message = self.message(answer_id)
        logprobs = copied(self.logprobs)
        return {"index": self.index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}


def is_other(chunk: Mapping[str, Any]) -> bool:
    """Whether a payload without an answer in it names itself something else than a chat completion."""
    kind = chunk.get("object")
    other = isinstance(kind, str) and kind != "" and not kind.startswith("chat.completion")
    return other and not ("choices" in chunk or "usage" in chunk)
