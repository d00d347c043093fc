"""What a client's work has cost so far: requests, bytes, waiting, speed, folds."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart
from voxnb.usage import money

if TYPE_CHECKING:
    import pandas as pd

KEPT_CALLS: Final = 1_000
"""Calls that are kept one by one; the sums are of all."""

_LABELS: Final = (
    ("requests", "requests"),
    ("retries", "retries"),
    ("failures", "failed"),
    ("bytes_sent", "bytes sent"),
    ("bytes_received", "bytes received"),
    ("events", "events received"),
    ("prompt_tokens", "prompt tokens"),
    ("completion_tokens", "completion tokens"),
    ("first_event_ms", "first event, ms"),
    ("first_token_ms", "first token, ms"),
    ("tokens_per_s", "tokens per second"),
    ("folds", "folds"),
    ("folds_failed", "folds failed"),
    ("fold_tokens", "fold tokens"),
    ("saved_tokens", "tokens saved by folds"),
    ("cost_usd", "cost"),
    ("fold_cost_usd", "cost of folds"),
    ("unpriced", "calls of unknown cost"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """One call: a request with its repeats and its answer.

    Attributes:
        at: when it was made, UNIX seconds.
        purpose: ``turn``, ``fold`` …
        model: who answered.
        status: ``complete`` or ``failed``.
        retries: repeats.
        bytes_sent: of bodies.
        bytes_received: likewise, unpacked.
        events: messages of the stream.
        first_event_ms: until the first of them.
        first_token_ms: until the first text.
        duration_ms: all of it.
        prompt_tokens: as the server reported.
        completion_tokens: likewise.
        cost_usd: None where no price is known.
    """

    at: float
    purpose: str
    model: str | None
    status: str
    retries: int
    bytes_sent: int
    bytes_received: int
    events: int
    first_event_ms: float | None
    first_token_ms: float | None
    duration_ms: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Speed of writing, from the first token on; None where it cannot be told."""
        if not self.completion_tokens or self.completion_tokens < 2 or self.first_token_ms is None:
            return None
        writing_ms = self.duration_ms - self.first_token_ms
        return (self.completion_tokens - 1) * 1000 / writing_ms if writing_ms > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a client has done so far; a value, taken by ``client.statistics()``.

    Times and speed are medians over the newest calls; everything else is a sum over all of them. None is unknown.

    Attributes:
        requests: calls made, folds included.
        retries: repeats beyond them.
        failures: calls that ended in an error.
        bytes_sent: bodies of requests.
        bytes_received: bodies of answers, unpacked.
        events: messages of streams.
        prompt_tokens: as the server reported.
        completion_tokens: likewise.
        first_event_ms: from the request to the first message.
        first_token_ms: from the request to the first text.
        tokens_per_s: written per second, from the first token on.
        folds: summaries accepted.
        folds_failed: summaries refused or given up.
        fold_tokens: tokens read and written for folds.
        saved_tokens: by how much folds shortened what is sent.
        cost_usd: of all calls whose price is known; None if none is.
        fold_cost_usd: likewise, of folds; 0 where none was asked for.
        unpriced: calls whose price is not known.
        calls: the newest calls, one by one.
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    events: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_event_ms: float | None = None
    first_token_ms: float | None = None
    tokens_per_s: float | None = None
    folds: int = 0
    folds_failed: int = 0
    fold_tokens: int = 0
    saved_tokens: int = 0
    cost_usd: float | None = None
    fold_cost_usd: float | None = None
    unpriced: int = 0
    calls: Sequence[CallFacts] = ()

    @property
    def df(self) -> pd.DataFrame:
        """The newest calls, a row each."""
        import_apart("pandas")
        import pandas as pd

        names = [f.name for f in fields(CallFacts)]
        frame = pd.DataFrame(
            [(*asdict(call).values(), call.tokens_per_s) for call in self.calls], columns=[*names, "tokens_per_s"]
        )
        frame["at"] = pd.to_datetime(frame["at"].astype("float64"), unit="s", utc=True).astype("datetime64[us, UTC]")
        whole = ("retries", "bytes_sent", "bytes_received", "events", "prompt_tokens", "completion_tokens")
        real = ("first_event_ms", "first_token_ms", "duration_ms", "cost_usd", "tokens_per_s")
        kinds = dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "Float64")
        return marked(
            frame.astype({**kinds, "purpose": "str", "model": "str", "status": "str"}).rename(
                columns={"at": "created_at"}
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """The sums, for JSON."""
        return {name: getattr(self, name) for name, _ in _LABELS}

    def __repr__(self) -> str:
        return "\n".join(["<Statistics", *(f"  {label:<24}{said:>12}" for label, said in self._shown()), ">"])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{label}</td><td>{said}</td></tr>" for label, said in self._shown())
        return f"<table><tbody>{rows}</tbody></table>"

    def _shown(self) -> list[tuple[str, str]]:
        return [(label, _said(name, getattr(self, name))) for name, label in _LABELS]


def _said(name: str, value: float | None) -> str:
    if name.endswith("_usd"):
        return money(value)
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


@dataclass(slots=True)
class Counters:
    """The running sums of one client; written by the background loop alone."""

    sums: dict[str, int] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    calls: deque[CallFacts] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    folds_asked: int = 0

    def add(self, call: CallFacts) -> None:
        """Count a call that has ended."""
        self.calls.append(call)
        self.folds_asked += call.purpose == "fold"
        tokens = (call.prompt_tokens or 0, call.completion_tokens or 0)
        self._count(
            requests=1,
            retries=call.retries,
            failures=call.status != "complete",
            bytes_sent=call.bytes_sent,
            bytes_received=call.bytes_received,
            events=call.events,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            fold_tokens=sum(tokens) if call.purpose == "fold" else 0,
            unpriced=call.cost_usd is None,
        )
        if call.cost_usd is not None:
            for name in ("cost_usd", *(("fold_cost_usd",) if call.purpose == "fold" else ())):
                self.costs[name] = self.costs.get(name, 0.0) + call.cost_usd

    def folded(self, *, tokens_before: int, tokens_after: int) -> None:
        """Count a summary that was accepted."""
        self._count(folds=1, saved_tokens=tokens_before - tokens_after)

    def fold_failed(self) -> None:
        """Count one that was not."""
        self._count(folds_failed=1)

    def _count(self, **more: int) -> None:
        for name, n in more.items():
            self.sums[name] = self.sums.get(name, 0) + n

    def taken(self) -> Statistics:
        """The sums as they are now."""
        calls = tuple(self.calls)
        known: dict[str, Any] = {**self.sums, **self.costs}
        if not self.folds_asked:
            known.setdefault("fold_cost_usd", 0.0)
        for name in ("first_event_ms", "first_token_ms", "tokens_per_s"):
            known[name] = _median([getattr(call, name) for call in calls])
        return Statistics(**known, calls=calls)


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None
