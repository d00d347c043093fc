"""What requests cost, where a price is known: from the client's own `prices`, else from the genai-prices package.

The package (extra ``[cost]``) brings its list of prices along and asks nobody. A price belongs to a provider, which is
told by the address that is asked; a server of one's own has none.

Rule: unknown is None, never 0. So is the price of a part that a model is not known to charge for, of a service tier that
is in no list, and of a reply for which the service ran something that is charged by other measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from voxnb.errors import ParameterError
from voxnb.params import did_you_mean, nearest
from voxnb.runtime.packages import import_apart
from voxnb.usage import Usage

PARTS: Final = {
    "prompt": "prompt_tokens",
    "completion": "completion_tokens",
    "cached": "cached_tokens",
    "audio_prompt": "audio_prompt_tokens",
    "audio_cached": "audio_cached_tokens",
    "audio_completion": "audio_completion_tokens",
}
"""A part that a price can be given for → what is counted of it."""

_INSTEAD: Final = {"cached": "prompt", "audio_cached": "audio_prompt"}
"""Parts that cost as much as another where they have no price of their own."""

_THEIRS: Final = {
    "prompt_tokens": ("input_tokens", "input_mtok"),
    "completion_tokens": ("output_tokens", "output_mtok"),
    "cached_tokens": ("cache_read_tokens", None),
    "cache_write_tokens": ("cache_write_tokens", "cache_write_mtok"),
    "audio_prompt_tokens": ("input_audio_tokens", "input_audio_mtok"),
    "audio_cached_tokens": ("cache_audio_read_tokens", None),
    "audio_completion_tokens": ("output_audio_tokens", "output_audio_mtok"),
    "image_prompt_tokens": ("input_image_tokens", None),
}
"""What is counted → the package's name of it, and of the price without which the package would take it for free."""

_SEARCHES: Final = {
    "web_search_call": ("web_searches", "web_searches_kcount"),
    "file_search_call": ("storage_searches", "storage_searches_kcount"),
}
_OTHER_MEASURES: Final = frozenset({"code_interpreter_call", "image_generation_call"})
_PLAIN_TIERS: Final = frozenset({None, "auto", "default", "standard"})
_MTOK: Final = 1_000_000


class Prices:
    """The prices of one endpoint.

    Args:
        given: a client's ``prices``: model → USD per million tokens of each part, see `PARTS`.
        base_url: who is asked.

    Raises:
        ParameterError: `given` is no such table.
    """

    def __init__(self, given: Any, *, base_url: str) -> None:
        self._given = _checked(given)
        self._base_url = base_url

    async def prepare(self) -> None:
        """Read the list of prices, in a thread beside the loop (it takes a sixth of a second, once)."""
        if not _package.cache_info().currsize:
            await asyncio.to_thread(_package)

    def cost_usd(
        self,
        usage: Usage,
        *,
        models: Iterable[str | None],
        at: float,
        tier: str | None = None,
        items: Sequence[Mapping[str, Any]] = (),
    ) -> float | None:
        """What a request cost, in USD, or None where it is not known.

        Args:
            usage: what it took.
            models: its model's names: as the server says it, as it was asked for.
            at: when it was made, UNIX seconds; prices change.
            tier: the service tier that answered.
            items: of the answer, in the Responses API.
        """
        names = [name for name in models if name]
        own = next((self._given[name] for name in names if name in self._given), None)
        if own is not None:
            return _own_cost(usage, own)
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None  # before the list, which takes long to read: who interrupts the first request waits for this
        package, when = _package(), datetime.fromtimestamp(at, UTC)
        if package is None:
            return None
        for name in names:
            cost = self._listed(package, usage, name, when=when, tier=tier, items=items)
            if cost is not None:
                return cost
        return None

    def _listed(
        self, package: Any, usage: Usage, model: str, *, when: datetime, tier: str | None,
        items: Sequence[Mapping[str, Any]],
    ) -> float | None:  # fmt: skip
        counts = {theirs: n for ours, (theirs, _) in _THEIRS.items() if (n := getattr(usage, ours))}
        needed = [price for ours, (_, price) in _THEIRS.items() if price and getattr(usage, ours)]
        kinds = [item.get("type") for item in items]
        for kind, (theirs, price) in _SEARCHES.items():
            if kind in kinds:
                counts[theirs] = kinds.count(kind)
                needed.append(price)
        plain = tier in _PLAIN_TIERS
        try:
            found = package.calc_price(
                package.Usage(**counts),
                model,
                provider_api_url=self._base_url,
                genai_request_timestamp=when,
                price_context=None if plain else {"service_tier": tier},
            )
        except Exception:  # noqa: BLE001 - no such provider or model, say; a list of prices must not cost the reply
            return None
        if not plain and not any(v.when.get("service_tier") == tier for v in found.model.price_variants or ()):
            return None
        if _OTHER_MEASURES.intersection(kinds) or any(getattr(found.model_price, name) is None for name in needed):
            return None
        return float(found.total_price)


@functools.cache
def _package() -> Any:
    """The list of prices; None where the extra is not installed."""
    try:
        import_apart("genai_prices")
        import genai_prices as package
    except ImportError:
        return None
    with contextlib.suppress(LookupError):  # reads the whole list
        package.calc_price(package.Usage(input_tokens=1), "gpt-4o-mini", provider_id="openai")
    return package


def _own_cost(usage: Usage, price: Mapping[str, float]) -> float | None:
    """What a usage costs by a price of one's own."""
    counts = {part: getattr(usage, name) for part, name in PARTS.items()}
    if counts["prompt"] is None or counts["completion"] is None:
        return None
    told = {part: n or 0 for part, n in counts.items()}
    told["prompt"] -= told["cached"] + told["audio_prompt"] - told["audio_cached"]
    told["audio_prompt"] -= told["audio_cached"]
    told["cached"] -= told["audio_cached"]
    told["completion"] -= told["audio_completion"]
    if min(told.values()) < 0:  # the parts are more than the whole
        return None
    total = 0.0
    for part, n in told.items():
        known = price.get(part)
        while known is None and part in _INSTEAD:
            part = _INSTEAD[part]  # noqa: PLW2901 - the next best
            known = price.get(part)
        if known is None and n:
            return None
        total += n * (known or 0.0)
    return total / _MTOK


def _checked(given: Any) -> dict[str, dict[str, float]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ParameterError(
            f'prices is {type(given).__name__}, expected a dict such as {{"my-model": {{"prompt": 0.15, "completion": 0.6}}}}, '
            "in USD per million tokens",
            name="prices",
        )
    return {str(model): _checked_price(str(model), price) for model, price in given.items()}


def _checked_price(model: str, price: Any) -> dict[str, float]:
    where = f"prices[{model!r}]"
    if not isinstance(price, Mapping):
        raise ParameterError(f"{where} is {price!r}, expected a dict of {', '.join(PARTS)}", name="prices")
    for part, value in price.items():
        if part not in PARTS:
            raise ParameterError(
                f"{where} has an unknown part {part!r}{did_you_mean(str(part), PARTS)}",
                name="prices",
                nearest=nearest(str(part), PARTS),
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ParameterError(f"{where}[{part!r}] is {value!r}, expected USD per million tokens", name="prices")
    if missing := [part for part in ("prompt", "completion") if part not in price]:
        raise ParameterError(f"{where} has no {' and no '.join(missing)}", name="prices")
    return {str(part): float(value) for part, value in price.items()}
