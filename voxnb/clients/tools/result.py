"""What a tool returned, as text for the model: text as it is, tables as CSV, everything else as JSON, or a clear error.

Rule 1: nothing is turned into something it is not. What JSON has a form for, or a usual text (a date, a path, an enum's
value), is written; ``NaN`` and the infinities are the texts ``"NaN"``, ``"Infinity"``, ``"-Infinity"``; a set is a
list. Anything else is an error that says what it was.
Rule 2: a result has a limit in tokens, and a cut says what was left out.

numpy, pandas and pydantic objects are recognised by what they offer, and never imported.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from voxnb.clients.table import render_table
from voxnb.errors import ParameterError
from voxnb.wire.unicode import whole_unicode

MOST_DEPTH: Final = 64
"""How deep lists and dicts may stand in each other; what is deeper holds itself."""

LIMIT_TOKENS: Final = 8_000
"""Of one result, where nothing else is said."""

CHARACTERS_PER_TOKEN: Final = 16
"""No more of a text than this per token of the limit is looked at."""

_AS_TEXT: Final = (uuid.UUID, decimal.Decimal, fractions.Fraction, os.PathLike, complex)


class ResultError(Exception):
    """A value that cannot be shown to a model; the text is for the model."""


def roughly(text: str) -> int:
    """Tokens of a text without an encoding: more than there are, for most texts."""
    return -(-len(text.encode("utf-8", "replace")) // 3)


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """How long a result may be.

    Attributes:
        tokens: at most.
        count: tokens of a text.
    """

    tokens: int = LIMIT_TOKENS
    count: Callable[[str], int] = roughly

    def shared(self, among: int) -> Limit:
        """The limit of each of several results that come together."""
        return dataclasses.replace(self, tokens=max(64, self.tokens // max(1, among)))


def render_result(value: Any, *, limit: Limit) -> str:
    r"""The text that a model gets for a tool's result.

    Raises:
        ResultError: JSON has no form for it.

    >>> render_result({"at": dt.date(2026, 1, 2), "n": {3, 1}, "x": float("nan")}, limit=Limit())
    '{"at": "2026-01-02", "n": [1, 3], "x": "NaN"}'
    >>> print(render_result("word " * 5000, limit=Limit(tokens=11, count=lambda text: len(text.split()))))
    word word word word...
    [cut here: 20 of 25,000 characters shown]
    """
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return cut(whole_unicode(str(value)), limit=limit)
    if isinstance(value, bytes | bytearray | memoryview):
        return cut(_text_of(bytes(value)), limit=limit)
    if _is_table(value):
        try:
            return str(whole_unicode(render_table(value, count=limit.count, limit_tokens=limit.tokens, where="it")))
        except ParameterError as error:
            raise ResultError(f"the tool returned too much: {error}") from error
    plain = _plain(value, depth=0)
    return cut(whole_unicode(json.dumps(plain, ensure_ascii=False, allow_nan=False)), limit=limit)


def cut(text: str, *, limit: Limit) -> str:
    """The text, or as much of its start as the limit allows, saying so."""
    whole = len(text)
    start = text[: limit.tokens * CHARACTERS_PER_TOKEN]
    if len(start) == whole and limit.count(start) <= limit.tokens:
        return text

    def shown(characters: int) -> str:
        return f"{start[:characters]}\n[cut here: {characters:,} of {whole:,} characters shown]"

    low, high = 0, len(start)
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if limit.count(shown(middle)) <= limit.tokens else (low, middle)
    return shown(low)


def _text_of(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ResultError(
            f"the tool returned {len(data):,} bytes that are no text; let it return text (base64, or a description)"
        ) from error


def _is_table(value: Any) -> bool:
    return any(
        c.__name__ in ("DataFrame", "Series") and c.__module__.partition(".")[0] == "pandas"
        for c in type(value).__mro__
    )


def _plain(value: Any, *, depth: int) -> Any:  # noqa: C901, PLR0912 - one case per kind of value
    """The value as JSON knows it.

    Raises:
        ResultError: there is no form for it.
    """
    if depth > MOST_DEPTH:
        raise ResultError(f"the tool returned a value that holds itself, or is more than {MOST_DEPTH} levels deep")
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth=depth + 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(float(value))
    if (found := _of_a_library(value, depth=depth)) is not None:
        return found[0]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, (dt.timedelta, *_AS_TEXT)):
        return os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(data).decode("ascii")}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = [f.name for f in dataclasses.fields(value) if f.repr]  # what a repr hides (a key) stays hidden
        return {name: _plain(getattr(value, name), depth=depth + 1) for name in shown}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {str(k): _plain(v, depth=depth + 1) for k, v in value._asdict().items()}
    if isinstance(value, Mapping):
        return {_key(k): _plain(v, depth=depth + 1) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [_plain(v, depth=depth + 1) for v in value]
    if isinstance(value, AbstractSet):
        return [_plain(v, depth=depth + 1) for v in _in_order(value)]
    raise ResultError(
        f"the tool returned {_named(value)}, which JSON has no form for; let it return text, numbers, lists or dicts"
    )


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _of_a_library(value: Any, *, depth: int) -> tuple[Any] | None:
    """What numpy, pandas and pydantic objects stand for, in a tuple; None for anything else."""
    home = type(value).__module__.partition(".")[0]
    if home == "pandas":
        if type(value).__name__ in ("NaTType", "NAType"):
            return (None,)
        if _is_table(value):
            inner = value.to_dict("records") if value.ndim == 2 else value.to_dict()
            return (_plain(inner, depth=depth + 1),)
        if hasattr(value, "isoformat"):  # a Timestamp is a datetime, a Timedelta and a Period are not all
            return (value.isoformat(),)
        if hasattr(value, "tolist"):
            return (_plain(value.tolist(), depth=depth + 1),)
    if home == "numpy" and hasattr(value, "tolist"):
        if value.dtype.kind in "mM":  # of nanoseconds tolist() makes bare numbers, and nobody knows what they count
            value = value.astype(str)
        return (_plain(value.tolist(), depth=depth + 1),)
    if hasattr(type(value), "__pydantic_validator__") and hasattr(value, "model_dump"):
        return (_plain(value.model_dump(), depth=depth + 1),)
    return None


def _key(key: Any) -> str:
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return str(key)
    if isinstance(key, enum.Enum):
        return _key(key.value)
    plain = _plain(key, depth=0)
    if isinstance(plain, dict | list):
        raise ResultError(f"the tool returned a dict with the key {key!r:.80}; let its keys be text")
    return plain if isinstance(plain, str) else json.dumps(plain)


def _in_order(value: AbstractSet[Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=lambda one: (type(one).__name__, repr(one)))


def _named(value: Any) -> str:
    kind = type(value)
    home = kind.__module__.partition(".")[0]
    if hasattr(value, "__next__") or hasattr(value, "__anext__"):
        return f"a {kind.__name__} (return a list instead)"
    return f"a {kind.__qualname__}" if home == "builtins" else f"a {home}.{kind.__qualname__}"
