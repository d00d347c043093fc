"""Points in time as other programs write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

LATEST_S: Final = 32_503_680_000.0
"""The year 3000: what is beyond is no time but a finer unit, or a mistake."""


def seconds_of(value: Any) -> float | None:
    """UNIX seconds of a number (seconds, or milli-, micro-, nanoseconds by its size), a datetime or ISO text.

    None for what is none of these, for NaN and NaT, and for times before 1970: those are how programs write that they
    do not know. Without a zone it is UTC.

    >>> seconds_of("2024-05-01T10:00:00Z"), seconds_of(1714557600123), seconds_of("soon")
    (1714557600.0, 1714557600.123, None)
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = _from_text(value.strip())
    if isinstance(value, datetime):
        if value != value:  # noqa: PLR0124 - pandas' NaT is a datetime that equals nothing
            return None
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(seconds):
        return None
    while seconds >= LATEST_S and seconds < LATEST_S * 1e9:
        seconds /= 1000
    return seconds if 0 < seconds < LATEST_S else None


def _from_text(text: str) -> datetime | float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None


def goes_back(times: Any) -> bool:
    """Whether a later message has an earlier time; unknown times do not count."""
    last = -math.inf
    for time in times:
        if time is not None:
            if time < last:
                return True
            last = time
    return False
