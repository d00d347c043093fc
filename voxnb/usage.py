"""What a request took in tokens, as the server reported it: a value that adds up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

_PROMPT: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")

MOST_TOKENS: Final = 2**53
"""More is no count: no request has so many, and sums of it fit no column of a table."""


@dataclass(frozen=True, slots=True, repr=False)
class Usage:
    """Tokens as the server reported them; None where it said nothing. Usages add up.

    >>> Usage(prompt_tokens=10, completion_tokens=2) + Usage(prompt_tokens=14, completion_tokens=3)
    Usage(prompt_tokens=24, completion_tokens=5)

    Attributes:
        prompt_tokens: read, cached ones and sound included.
        completion_tokens: written, reasoning and sound included.
        cached_tokens: of the prompt, read from the service's cache.
        reasoning_tokens: of the completion, thought.
        cache_write_tokens: of the prompt, put into the cache, where the service charges for it.
        audio_prompt_tokens: of the prompt, sound.
        audio_cached_tokens: of the cached ones, sound.
        audio_completion_tokens: of the completion, sound.
        image_prompt_tokens: of the prompt, images (as the Realtime API tells them apart).
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_prompt_tokens: int | None = None
    audio_cached_tokens: int | None = None
    audio_completion_tokens: int | None = None
    image_prompt_tokens: int | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Usage:
        """Read the ``usage`` of a chat completion, of a response or of a realtime response."""
        prompt, completion = _details(data, _PROMPT), _details(data, _COMPLETION)
        return cls(
            prompt_tokens=_count(data, "prompt_tokens", "input_tokens"),
            completion_tokens=_count(data, "completion_tokens", "output_tokens"),
            cached_tokens=_count(prompt, "cached_tokens"),
            reasoning_tokens=_count(completion, "reasoning_tokens"),
            cache_write_tokens=_count(prompt, "cache_write_tokens"),
            audio_prompt_tokens=_count(prompt, "audio_tokens"),
            audio_cached_tokens=_count(_details(prompt, ("cached_tokens_details",)), "audio_tokens"),
            audio_completion_tokens=_count(completion, "audio_tokens"),
            image_prompt_tokens=_count(prompt, "image_tokens"),
        )

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion together, or None where neither is known."""
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)

    def __add__(self, other: Usage) -> Usage:
        """Both together: prompt and completion are unknown where one of them is, of their parts what is known counts."""
        if not isinstance(other, Usage):
            return NotImplemented
        sums: dict[str, int | None] = {}
        for name in (f.name for f in fields(Usage)):
            known = [n for n in (getattr(self, name), getattr(other, name)) if n is not None]
            whole = len(known) == 2 or name not in ("prompt_tokens", "completion_tokens")
            sums[name] = sum(known) if known and whole else None
        return Usage(**sums)

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None for f in fields(self))

    def __repr__(self) -> str:
        known = ((f.name, getattr(self, f.name)) for f in fields(self))
        return f"Usage({', '.join(f'{name}={n}' for name, n in known if n is not None)})"


@dataclass(frozen=True, slots=True)
class Spent:
    """What requests took together.

    >>> Spent(Usage(prompt_tokens=10, completion_tokens=2), 0.5) + Spent(Usage(prompt_tokens=5), None)
    Spent(usage=Usage(prompt_tokens=15), cost_usd=None)

    Attributes:
        usage: tokens.
        cost_usd: None where the price of one of them is not known.
    """

    usage: Usage
    cost_usd: float | None = None

    def __add__(self, other: Spent) -> Spent:
        """Both together."""
        if not isinstance(other, Spent):
            return NotImplemented
        known = self.cost_usd is not None and other.cost_usd is not None
        return Spent(self.usage + other.usage, (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None)


def money(cost_usd: float | None) -> str:
    """A price in words; unknown is never 0.

    >>> money(None), money(0.000012), money(0.05), money(1234.5), money(0.0)
    ('unknown', '$0.000012', '$0.050', '$1,234.50', '$0')
    """
    if cost_usd is None:
        return "unknown"
    if not cost_usd:
        return "$0"
    places = max(2, 1 - math.floor(math.log10(cost_usd)))  # two figures, however small it is
    return f"${cost_usd:,.{places}f}"


def _count(data: Any, *names: str) -> int | None:
    # Some servers report usage as floats or texts; what is not a whole number says nothing.
    for name in names:
        value = data.get(name) if isinstance(data, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
            return value
    return None


def _details(data: Any, names: tuple[str, ...]) -> Any:
    return next((data[n] for n in names if data.get(n)), None) if isinstance(data, Mapping) else None
