"""What makes two requests the same: method, path, and what of the body reaches the model.

Rule 1: nothing of a header and nothing of the address is looked at: a tape answers for whatever server.
Rule 2: what is hidden on the tape is hidden in a request before the two are compared.
Rule 3: attachments are known by their digest: the tape need not hold them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxnb.messages import canonical, digest
from voxnb.runtime.hiding import without_credentials

VOLATILE: Final = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "user"})
"""Fields that say who asks, not what: neither compared nor kept."""

COMMAND_VOLATILE: Final = frozenset({"event_id", "previous_item_id", "audio_end_ms"})
"""The same in a realtime command: numbers that a client makes up, and times."""

LONGEST_BLOB: Final = 1_024
_BLOB: Final = re.compile(r"(?:data:[\w.+-]+/[\w.+-]+;base64,)?[A-Za-z0-9+/_=-]+\Z")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a tape knows it.

    Attributes:
        method: ``GET``, ``POST``, or ``REALTIME`` for a session.
        path: below the base URL.
        body: what was sent, after `cleaned`.
    """

    method: str
    path: str
    body: Mapping[str, Any]

    @property
    def line(self) -> str:
        """``POST /chat/completions``."""
        return f"{self.method} {self.path}"

    @property
    def label(self) -> str:
        """Eight characters that two requests share only if they are the same."""
        return digest(f"{self.line}\n{canonical(self.body)}")[3:11]

    @property
    def repeats(self) -> bool:
        """Whether it asks about the server or counts, and so has the same answer however often it is asked."""
        settings = self.path.rpartition("/")[2] in ("models", "props", "ps", "show", "input_tokens")
        return settings and self.method != "REALTIME"


def cleaned(value: Any, *, hide: Callable[[str], str], without: frozenset[str] = frozenset()) -> Any:
    """A copy of a JSON value for the tape: secrets hidden, long base64 as its digest, some fields left out.

    Args:
        value: the value.
        hide: text → text without secrets.
        without: names of fields that are left out, at the top.
    """
    bare = without_credentials(value)
    if isinstance(bare, Mapping):
        bare = {k: v for k, v in bare.items() if k not in without}
    return _cleaned(bare, hide=hide)


def _cleaned(value: Any, *, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        if len(value) > LONGEST_BLOB and _BLOB.match(value):
            return f"[{len(value):,} characters of base64, {digest(value)}]"
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(str(k)): _cleaned(v, hide=hide) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(v, hide=hide) for v in value]
    return value


def command_key(command: Mapping[str, Any]) -> str:
    """What makes two realtime commands the same."""
    kept = {k: v for k, v in command.items() if k not in COMMAND_VOLATILE}
    if isinstance(item := kept.get("item"), Mapping):
        kept["item"] = {k: v for k, v in item.items() if k not in ("id", "object")}
    return canonical(kept)


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """``(path, leaf)`` of a JSON value, such as ``messages.0.content``; an empty list or dict is a leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple) and value:
        for n, inner in enumerate(value):
            yield from leaves(inner, f"{at}.{n}" if at else str(n))
    else:
        yield at, value


def nearest(asked: Asked, known: Sequence[Asked]) -> int | None:
    """Position of the most similar request among those of the same method and path; None where there is none."""
    wanted = set(_pairs(asked))
    best, most = None, -1.0
    for n, other in enumerate(known):
        if other.line != asked.line:
            continue
        found = set(_pairs(other))
        same = len(wanted & found) / max(1, len(wanted | found))
        if same > most:
            best, most = n, same
    return best


def differences(asked: Asked, on_tape: Asked) -> tuple[tuple[str, str, str], ...]:
    """``(field, on the tape, asked)`` of each leaf in which two requests differ, as short texts."""
    ours, theirs = dict(leaves(asked.body)), dict(leaves(on_tape.body))
    out = []
    for path in dict.fromkeys([*theirs, *ours]):
        a, b = theirs.get(path, ...), ours.get(path, ...)
        if a is ... or b is ... or canonical(a) != canonical(b):
            out.append((path, *_around(_text(a), _text(b))))
    return tuple(out)


def _pairs(asked: Asked) -> Iterator[tuple[str, str]]:
    return ((path, canonical(leaf)) for path, leaf in leaves(asked.body))


def _text(leaf: Any) -> str:
    return "(nothing)" if leaf is ... else leaf if isinstance(leaf, str) else canonical(leaf)


def _around(a: str, b: str) -> tuple[str, str]:
    """Two texts from shortly before their first difference on."""
    same = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, same - _SHOWN // 3) if max(len(a), len(b)) > _SHOWN else 0

    def part(text: str) -> str:
        shown = text[start : start + _SHOWN].replace("\n", "⏎")
        return f"{'…' if start else ''}{shown}{'…' if len(text) > start + _SHOWN else ''}"

    return part(a), part(b)
