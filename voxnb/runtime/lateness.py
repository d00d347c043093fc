"""How late things were: a histogram of fixed size, from which percentiles are read."""

from __future__ import annotations

import math
from typing import Final

_FINEST_MS: Final = 0.05
_PER_DOUBLING: Final = 4  # a percentile is told at most a fifth too high
_BUCKETS: Final = 96
"""From `_FINEST_MS` in steps of a fifth up to ten minutes; the last one holds what is beyond."""


class Lateness:
    """Delays, counted.

    Attributes:
        count: how many.
        max_ms: the worst.

    >>> late = Lateness()
    >>> for ms in [1.0] * 98 + [10.0, 20.0]: late.add(ms)
    >>> late.count, late.max_ms, 1.0 <= late.percentile(50) < 1.2, 10 <= late.percentile(99) < 12
    (100, 20.0, True, True)
    """

    __slots__ = ("_buckets", "count", "max_ms")

    def __init__(self) -> None:
        self.count = 0
        self.max_ms = 0.0
        self._buckets = [0] * _BUCKETS

    def add(self, late_ms: float) -> None:
        """One delay; a negative one is none."""
        self.count += 1
        if late_ms <= _FINEST_MS:
            self._buckets[0] += 1
            late_ms = max(0.0, late_ms)
        else:
            place = 1 + int(math.log2(late_ms / _FINEST_MS) * _PER_DOUBLING)
            self._buckets[min(place, _BUCKETS - 1)] += 1
        self.max_ms = max(self.max_ms, late_ms)

    def percentile(self, percent: float) -> float:
        """The delay that so many percent do not exceed, milliseconds; 0 where nothing was counted."""
        wanted, seen = self.count * percent / 100, 0
        for place, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                if place == _BUCKETS - 1:
                    return self.max_ms
                return min(self.max_ms, _FINEST_MS * 2 ** (place / _PER_DOUBLING))
        return 0.0

    def facts(self) -> dict[str, float]:
        """``late_p50_ms``, ``late_p99_ms`` and ``late_max_ms``."""
        return {"late_p50_ms": self.percentile(50), "late_p99_ms": self.percentile(99), "late_max_ms": self.max_ms}
