"""Secrets kept out of tapes: key shapes, what the environment calls a key, and what the user names.

A stream says a secret in pieces, so the pieces of one text are looked at together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from voxnb.errors import ParameterError
from voxnb.runtime.hiding import HIDDEN, hide_in_text, without_credentials
from voxnb.taping.asked import leaves

_SHAPES: Final = re.compile(
    r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bA(?:KIA|SIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abeprs]-[\w-]{10,}|"
    r"\bhf_[A-Za-z0-9]{20,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_SECRET_NAME: Final = re.compile(
    # PWD and OLDPWD are folders.
    r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|_PWD|_PASS|_PW)(?:_?[0-9]+)?\Z"
)
_LEAST: Final = 8

Redact = Callable[[str], str] | Sequence[str] | None


class Redactor:
    """Text → text without secrets; safe to apply twice.

    Args:
        redact: a function that takes and returns a text, or texts that are hidden wherever they stand, or None.

    Raises:
        ParameterError: it is neither.

    >>> Redactor(["Ada Lovelace"])("Ada Lovelace has the key ghp_abcdefghijklmnopqrstu")
    '… has the key …'
    """

    def __init__(self, redact: Redact = None) -> None:
        named = [redact] if isinstance(redact, str) else redact
        is_list = isinstance(named, list | tuple | set | frozenset) and all(isinstance(t, str) and t for t in named)
        if not (named is None or callable(named) or is_list):
            raise ParameterError(
                "redact is a function that takes and returns a text, or a list of texts to hide", name="redact"
            )
        self._own = named if callable(named) else None
        texts = set() if named is None or callable(named) else set(named)
        texts |= {
            v.strip() for n, v in os.environ.items() if _SECRET_NAME.search(n.upper()) and len(v.strip()) >= _LEAST
        }
        self._texts = sorted(texts, key=len, reverse=True)

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these too: keys and credentials that a client sends."""
        new = {secret for secret in secrets if len(secret) >= _LEAST} - set(self._texts)
        if new:
            self._texts = sorted({*self._texts, *new}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without secrets.

        Raises:
            ParameterError: the user's function returned no text.
        """
        if self._own is not None:
            found = self._own(text)
            if not isinstance(found, str):
                raise ParameterError(f"redact returned {type(found).__name__}, expected a text", name="redact")
            text = found
        for secret in self._texts:
            text = text.replace(secret, HIDDEN)
        return _SHAPES.sub(HIDDEN, hide_in_text(text, ()))

    def events(self, events: Iterable[Any]) -> list[Any]:
        """The events of a stream without secrets, also where one is said in pieces."""
        out = [without_credentials(event) for event in events]
        pieces: dict[str, list[tuple[int, str]]] = {}
        for n, event in enumerate(out):
            for path, leaf in leaves(event):
                if isinstance(leaf, str) and leaf:
                    pieces.setdefault(f"{_kind(event)} {path}", []).append((n, leaf))
        for where, said in pieces.items():
            path = where.partition(" ")[2]
            whole, apart = self("".join(text for _, text in said)), [self(text) for _, text in said]
            if whole != "".join(apart):  # the first piece says it all, so that none says a part of the secret
                apart = [whole, *("" for _ in apart[1:])]
            for (n, text), instead in zip(said, apart, strict=True):
                if text != instead:
                    out[n] = _with(out[n], path, instead)
        return out


def _kind(event: Any) -> str:
    return str(event.get("type", "")) if isinstance(event, Mapping) else ""


def _with(value: Any, path: str, leaf: Any) -> Any:
    """A copy of a JSON value with another leaf at a path of `leaves`."""
    if not path:
        return leaf
    if isinstance(value, list):
        name, _, rest = path.partition(".")
        return [_with(inner, rest, leaf) if str(n) == name else inner for n, inner in enumerate(value)]
    # A key may hold a dot itself.
    key = next(k for k in value if path == k or path.startswith(f"{k}."))
    return {k: _with(v, path[len(k) + 1 :], leaf) if k == key else v for k, v in value.items()}
