"""Keys taken out of texts that are kept or shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_KEPT_CHARACTERS: Final = 4_000
_KEY_SHAPES: Final = re.compile(r"\bsk-[A-Za-z0-9_*.-]{3,}|\b(?:Bearer|api-key:)\s+[^\s\"',]{4,}", re.IGNORECASE)


def hide(value: Any, secrets: Iterable[str]) -> Any:
    """A copy of a decoded body without keys: the given ones, and whatever looks like one; long texts are cut."""
    hidden = tuple(secrets)
    if isinstance(value, str):
        return hide_in_text(value, hidden)[:_KEPT_CHARACTERS]
    if isinstance(value, Mapping):
        return {k: hide(v, hidden) for k, v in value.items()}
    if isinstance(value, list):
        return [hide(v, hidden) for v in value]
    return value


def hide_in_text(text: str, secrets: Iterable[str]) -> str:
    """The text with every key in it replaced by dots.

    >>> hide_in_text("Incorrect API key provided: sk-ab***yz.", ())
    'Incorrect API key provided: …'
    """
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "…")
    return _KEY_SHAPES.sub("…", text)
