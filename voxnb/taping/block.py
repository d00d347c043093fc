r"""One exchange as a block of text, and back.

::

    === 7c1f09aa POST /chat/completions
    > model: "gpt-4o-mini"
    > messages.0: {"role": "user", "content": "Load iris?"}
    < 200 text/event-stream
    +412 {"id": "c1", "choices": [{"index": 0, "delta": {"content": "Load"}}]}
    +31 ~ {"choices.0.delta.content": " it"}
    +0 [DONE]
    ---

``===`` begins a block with the request's label, ``>`` says what was asked, one field or one element of a list a line,
``<`` how the answer began, ``+`` what came, after how many milliseconds; ``~`` stands for "the last one of its type, but for". ``>> `` in a session is what the client said, ``---`` ends a block: one without it was not written to its end, and does
not count. ``= 7c1f09aa`` after a field's name says that it is the field of that block, ``messages.0-4: = 7c1f09aa`` that so are
these elements: a long conversation is on the tape once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.errors import TapeError
from voxnb.taping.asked import Asked, leaves

END: Final = "---"
LISTS: Final = ("messages", "input", "tools")
"""Fields that are written one element a line."""

LONG_CHARACTERS: Final = 160
"""A field this long is written once and referred to after that."""

_HEAD: Final = re.compile(r"=== (\S+) ([A-Z]+) (\S+)\Z")
_FIELD: Final = re.compile(r"> (\w+)(?:\.(\d+)(?:-(\d+))?)?: (= )?(.*)\Z")
_CAME: Final = re.compile(r"\+(\d+) (?:~(\S*) )?(.*)\Z")
_JSON: Final = ("{", "[{", '"')
"""How what came begins where it is JSON; everything else is a text."""

_ANSWER: Final = re.compile(r"< (\d+)(?: (.*))?\Z")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened in an exchange.

    Attributes:
        kind: ``came`` (from the server), ``said`` (by the client, in a session), ``sound`` (likewise, so much audio).
        wait_ms: since the step before; for ``sound`` how much audio.
        value: what came or was said; ``[DONE]`` as it is.
    """

    kind: str
    wait_ms: int
    value: Any = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came of it.

    Attributes:
        asked: the request.
        status: of HTTP; of a session the close code, 0 where it was still open.
        kind: content type, or the reason of the close.
        steps: what happened.
        line: where it begins in the file, 0 for one that is not in it yet.
    """

    asked: Asked
    status: int
    kind: str = ""
    steps: Sequence[Step] = field(default=())
    line: int = 0


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        text = json.dumps(value)
    return text


# -- writing ----------------------------------------------------------------------------------


def write(exchange: Exchange, earlier: Iterable[Asked] = ()) -> str:
    """An exchange as text that ends in a line break.

    Args:
        exchange: what is written.
        earlier: requests that stand on the tape; what they have said already is referred to.
    """
    asked = exchange.asked
    of_kind = [other for other in earlier if other.path == asked.path]
    lines = [f"=== {asked.label} {asked.method} {asked.path}"]
    for name, value in asked.body.items():
        lines += _field(name, value, of_kind)
    lines.append(f"< {exchange.status} {exchange.kind}".rstrip())
    last: dict[str, Any] = {}
    for step in exchange.steps:
        lines.append(_step(step, last))
    return "\n".join([*lines, END, ""])


def _field(name: str, value: Any, earlier: Sequence[Asked]) -> list[str]:
    whole = _dump(value)
    if len(whole) > LONG_CHARACTERS:
        same = next((o for o in reversed(earlier) if o.body.get(name) == value), None)
        if same is not None:
            return [f"> {name}: = {same.label}"]
    if name not in LISTS or not isinstance(value, list) or not value:
        return [f"> {name}: {whole}"]
    start, label = 0, ""
    for other in earlier:
        begun = other.body.get(name)
        n = _common(value, begun) if isinstance(begun, list) else 0
        if n >= start and n:
            start, label = n, other.label
    if len(_dump(value[:start])) <= LONG_CHARACTERS:
        start = 0
    head = [f"> {name}.0-{start - 1}: = {label}"] if start else []
    return [*head, *(f"> {name}.{n}: {_dump(value[n])}" for n in range(start, len(value)))]


def _common(a: list[Any], b: list[Any]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _step(step: Step, last: dict[str, Any]) -> str:
    if step.kind == "sound":
        return f">> sound {step.wait_ms} ms"
    if step.kind == "said":
        return f">> {_dump(step.value)}"
    if not isinstance(step.value, Mapping):
        # A text is written as it is, but for one that would not be read as that, such as a page with several lines.
        is_line = isinstance(step.value, str) and not step.value.startswith((*_JSON, "~")) and step.value.isprintable()
        return f"+{step.wait_ms} {step.value if is_line else _dump(step.value)}"
    kind = str(step.value.get("type", ""))
    before, last[kind] = last.get(kind), step.value
    changed = None if before is None else _changed(before, step.value)
    return f"+{step.wait_ms} {_dump(step.value) if changed is None else f'~{kind} {_dump(changed)}'}"


def _changed(before: Any, now: Any) -> dict[str, Any] | None:
    """The leaves in which two values of one shape differ; None where the shapes do, or where little is won."""
    a, b = dict(leaves(before)), dict(leaves(now))
    odd = any(not key or "." in key or key.isdigit() for value in (before, now) for key in _keys(value))
    if odd or list(a) != list(b):  # such a key could be read as another path
        return None
    out = {path: leaf for path, leaf in b.items() if a[path] != leaf or type(a[path]) is not type(leaf)}
    if any(isinstance(leaf, dict | list) or isinstance(a[path], dict | list) for path, leaf in out.items()):
        return None
    return out if len(_dump(out)) < len(_dump(now)) else None


def _keys(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


# -- reading ----------------------------------------------------------------------------------


@dataclass(eq=False)
class _Raw:
    line: int
    label: str
    method: str
    path: str
    fields: list[tuple[int, re.Match[str]]] = field(default_factory=list)
    status: int | None = None
    kind: str = ""
    steps: list[Step] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    bad: TapeError | None = None  # counts only if the block is whole: a write that was interrupted ends anywhere


def read(text: str, *, path: str) -> tuple[list[Exchange], int]:
    """The exchanges of a tape, and how many blocks were not written to their end.

    Raises:
        TapeError: a line that is none of a tape; it says which.
    """
    blocks: list[_Raw] = []
    open_block: _Raw | None = None
    torn = 0
    for number, line in enumerate(text.split("\n"), 1):
        head = _HEAD.match(line)
        if head is not None:
            torn += open_block is not None
            open_block = _Raw(number, head[1], head[2], head[3])
        elif line == END and open_block is not None:
            if open_block.bad is not None:
                raise open_block.bad
            blocks.append(open_block)
            open_block = None
        elif open_block is not None and line:
            try:
                _take(open_block, number, line)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                if open_block.bad is None:
                    open_block.bad = _bad(path, number, line)
                    open_block.bad.__cause__ = error
        elif line.strip() and not line.startswith("#"):
            raise _bad(path, number, line)
    by_label: dict[str, list[_Raw]] = {}
    for raw in blocks:
        by_label.setdefault(raw.label, []).append(raw)
    done: dict[int, Asked] = {}
    return [
        Exchange(_asked(block, by_label, done, path, ()), block.status or 0, block.kind, tuple(block.steps), block.line)
        for block in blocks
    ], torn + (open_block is not None)


def _bad(path: str, number: int, line: str) -> TapeError:
    hint = "; it is in a merge that was not resolved" if line.startswith(("<<<<", "====", ">>>>")) else ""
    return TapeError(
        f"line {number} of the tape {path!r} cannot be read{hint}: {line[:80]!r}; mend it, or take its block out (from '===' "
        f"to '{END}') and record that exchange again",
        path=path,
        line=number,
    )


def _take(block: _Raw, number: int, line: str) -> None:
    if line.startswith(">> "):
        rest = line[3:]
        sound = re.fullmatch(r"sound (\d+) ms", rest)
        block.steps.append(Step("sound", int(sound[1])) if sound else Step("said", 0, json.loads(rest)))
    elif (match := _FIELD.match(line)) is not None and block.status is None:
        block.fields.append((number, match))
    elif (match := _ANSWER.match(line)) is not None and block.status is None:
        block.status, block.kind = int(match[1]), match[2] or ""
    elif (match := _CAME.match(line)) is not None and block.status is not None:
        block.steps.append(Step("came", int(match[1]), _came(block, match)))
    else:
        raise ValueError(line)


def _came(block: _Raw, match: re.Match[str]) -> Any:
    if not match[3].startswith(_JSON):
        return match[3]
    value = json.loads(match[3])
    if match[2] is not None:
        value = _applied(block.last[match[2]], value)
    if isinstance(value, dict):
        block.last[str(value.get("type", ""))] = value
    return value


def _applied(before: Any, changed: Mapping[str, Any]) -> Any:
    value = json.loads(json.dumps(before))
    for path, leaf in changed.items():
        *inner, name = path.split(".")
        at = value
        for key in inner:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[int(name) if isinstance(at, list) else name] = leaf
    return value


def _referred(label: str, by_label: Mapping[str, Sequence[_Raw]], chain: tuple[_Raw, ...]) -> _Raw:
    """A block of that label, all of which say the same; not one that is itself about to be read.

    Raises:
        KeyError: there is no such block.
        StopIteration: there is none that does not refer to itself.
    """
    return next(other for other in by_label[label] if other not in chain)


def _asked(
    block: _Raw, by_label: Mapping[str, Sequence[_Raw]], done: dict[int, Asked], path: str, chain: tuple[_Raw, ...]
) -> Asked:
    if block.line in done:
        return done[block.line]
    body: dict[str, Any] = {}
    for number, match in block.fields:
        name, first, last, refers, rest = match.groups()
        try:
            if refers:
                other = _referred(rest, by_label, (*chain, block))
                value = _asked(other, by_label, done, path, (*chain, block)).body[name]
                value = value if first is None else value[int(first) : int(last) + 1]
            else:
                value = json.loads(rest)
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise _bad(path, number, match.string) from error
        if first is None:
            body[name] = value
        elif refers:
            body.setdefault(name, []).extend(value)
        else:
            body.setdefault(name, []).append(value)
    found = done[block.line] = Asked(block.method, block.path, body)
    return found
