"""`SessionPolicy`: how long to try when a session is lost, and when to replace one before it ends."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Self

from voxnb.errors import ParameterError

SHORT_LIFE_S: Final = 10.0
"""Sessions that are lost sooner, one after the other, are one loss: the waits between them grow."""

SHARE_OF_LIFE: Final = 0.1
"""A session that lives shortly is replaced this share of its life before its end, not `expiry_margin_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """What happens when a session is lost or nears its end.

    A lost session is begun again with its settings, its conversation and what waited to be sent; a session that nears
    its end is replaced between two turns by one that was prepared beside it.

    Args:
        attempts: tries to reconnect after a loss; 0: the first loss is the end.
        most_reconnects: reconnections of one client, whatever the reason.
        first_wait_s: before the second try of a loss; doubled from try to try, and from session to session where they are
            lost within 10 s.
        longest_wait_s: the longest of these waits.
        expiry_margin_s: how long before the session's end it is replaced; 0: never for that.
        most_tokens: replaced when the conversation has more tokens than this, with a summary where there is a memory;
            None: never for that.

    Raises:
        ParameterError: a number out of range.

    >>> [SessionPolicy().wait_s(attempt, spread=0.0) for attempt in (1, 2, 3, 4, 9)]
    [0.0, 0.5, 1.0, 2.0, 8.0]
    """

    attempts: int = 5
    most_reconnects: int = 100
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    expiry_margin_s: float = 120.0
    most_tokens: int | None = 20_000

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "most_tokens" and value is None:
                continue
            whole = f.name in ("attempts", "most_reconnects", "most_tokens")
            kinds: Any = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < 1e9:
                what = "a whole number of 0 or more" if whole else "seconds, 0 or more"
                raise ParameterError(f"{f.name} is {value!r}, expected {what}", name=f.name)

    @classmethod
    def of(cls, given: Any) -> Self:
        """A policy from a parameter: one, or None for the default."""
        if given is None:
            return cls()
        if isinstance(given, cls):
            return given
        raise ParameterError(f"session_policy is {type(given).__name__}, expected SessionPolicy", name="session_policy")

    def wait_s(self, attempt: int, *, spread: float) -> float:
        """How long to wait before a try.

        Args:
            attempt: 1 for the first, which does not wait.
            spread: 0 to 1, at random: up to a quarter is taken off, so that many clients do not come back together.
        """
        if attempt <= 1:
            return 0.0
        wait_s: float = min(self.first_wait_s * 2.0 ** min(attempt - 2, 30), self.longest_wait_s)
        return wait_s * (1 - 0.25 * spread)

    def expires(self, *, now: float, began_at: float, expires_at: float | None) -> bool:
        """Whether a session is near its end.

        Args:
            now: UNIX seconds.
            began_at: when the session began.
            expires_at: when it ends, or None where that is not known.
        """
        if expires_at is None or self.expiry_margin_s == 0:
            return False
        return now >= expires_at - self.margin_s(began_at=began_at, expires_at=expires_at)

    def margin_s(self, *, began_at: float, expires_at: float) -> float:
        """How long before its end a session is replaced."""
        return min(self.expiry_margin_s, SHARE_OF_LIFE * max(0.0, expires_at - began_at))

    def is_long(self, context_tokens: int) -> bool:
        """Whether a conversation has grown too long for its session."""
        return self.most_tokens is not None and context_tokens > self.most_tokens
