"""How much is sent and when it is folded: the numbers of a conversation's memory.

`ContextPolicy` is what a user says; `Limits` is what follows from it once the model's
window is known. Both are checked where they are made: a budget that cannot hold
together fails before the first call.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from voxnb.errors import BudgetError, ParameterError
from voxnb.params import did_you_mean, nearest

DEFAULT_WINDOW_TOKENS: Final = 8_192
"""Where neither the server nor the table of known models tells."""

DEFAULT_FOLD_AT_TOKENS: Final = 16_000
"""Beyond this a long context costs more than it helps, whatever the window."""

DEFAULT_RESERVE_TOKENS: Final = 4_096
MIN_SUMMARY_TOKENS: Final = 128
"""A shorter summary holds no more than names."""

LEAST_REQUEST_TOKENS: Final = 5
"""A request with less room holds no message; every other number follows from it and stays above 0."""

MOST_COUNT_TOKENS: Final = 1 << 40
"""No text has more."""

MIN_GAIN: Final = 8
"""A fold must save at least 1/8 of `fold_at_tokens`: less is a call paid for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPolicy:
    """What a conversation may cost, and when its oldest turns become a summary.

    Give what you care about; the rest follows. The instance is a value: pass the same one to many clients.

    Args:
        window_tokens: hard limit of a whole request, reply included; default: asked of the server, else known of
            the model, else 8,192 with a warning.
        reserve_output_tokens: kept free for the reply; default: the request's own limit, else min(4,096, window/8).
        fold_at_tokens: fold when summary and unfolded turns exceed this; default: min(16,000, 0.8 × window).
        fold_at_turns: fold when there are more unfolded turns than this; whichever comes first.
        fold_to_tokens: fold down to this; default: half of `fold_at_tokens`.
        keep_last_turns: newest turns that stay verbatim (they give way only at the hard limit).
        summary_max_tokens: longest summary; default: an eighth of `fold_at_tokens`, at least 128.
        summary_role: role of the message that carries the summary; default ``system``, or ``user`` for model
            families whose template takes one system message.
        background: fold after the reply, while you read it; False folds before the next request.
        count: your own ``count(text) -> int`` instead of the model's encoding.

    Raises:
        BudgetError: numbers that contradict each other.
        ParameterError: a name that it does not have.

    >>> ContextPolicy(window_tokens=4096).limits(4096).fold_at_tokens
    3276
    """

    window_tokens: int | None = None
    reserve_output_tokens: int | None = None
    fold_at_tokens: int | None = None
    fold_at_turns: int | None = None
    fold_to_tokens: int | None = None
    keep_last_turns: int = 4
    summary_max_tokens: int | None = None
    summary_role: str | None = None
    background: bool = True
    count: Callable[[str], int] | None = None

    def __new__(cls, **given: Any) -> Self:
        """Refuse a misspelt name as client parameters do."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise ParameterError(
                    f"ContextPolicy has no {name!r}{did_you_mean(name, known)}", name=name, nearest=nearest(name, known)
                )
        return object.__new__(cls)  # a dataclass with slots is made twice: super() would name the first

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            optional = field.name != "keep_last_turns"
            if field.name in ("summary_role", "background", "count") or (optional and value is None):
                continue
            least = 0 if field.name in ("keep_last_turns", "reserve_output_tokens") else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BudgetError(f"{field.name} is {value!r}, expected a whole number of at least {least}")
        if not isinstance(self.background, bool):
            raise BudgetError(f"background is {self.background!r}, expected True or False")
        if self.count is not None and not callable(self.count):
            raise BudgetError(f"count is {self.count!r}, expected a function of a text that returns its tokens")
        if self.summary_role not in (None, "system", "developer", "user", "assistant"):
            raise BudgetError(f"summary_role is {self.summary_role!r}, expected system, developer, user or assistant")
        if self.fold_at_turns is not None and self.fold_at_turns < self.keep_last_turns:
            raise BudgetError(
                f"fold_at_turns is {self.fold_at_turns} and keep_last_turns is {self.keep_last_turns}: "
                "there would be nothing to fold; set keep_last_turns below fold_at_turns"
            )
        # What can be known now is checked now; the window itself may only be known later.
        self.limits(self.window_tokens or max(self._smallest_window(), 1_000_000))

    def counted(self, text: str) -> int:
        """A text's tokens by the policy's own ``count``, looked at before anything is stored: others read the store, too.

        Raises:
            BudgetError: it gave no number of tokens, or raised.
        """
        assert self.count is not None
        try:
            found: Any = self.count(text)
        except Exception as error:
            raise BudgetError(
                f"the policy's count raised {type(error).__name__} ({error}); it is asked of every text, '' too"
            ) from error
        try:
            tokens = operator.index(found)
        except TypeError:
            tokens = -1
        if not 0 <= tokens <= MOST_COUNT_TOKENS:
            raise BudgetError(
                f"the policy's count gave {found!r} ({type(found).__name__}) for {len(text):,} characters, expected a whole "
                "number of at least 0"
            )
        return tokens

    def _smallest_window(self) -> int:
        return 2 * ((self.fold_at_tokens or 0) + (self.reserve_output_tokens or 0))

    def limits(self, window_tokens: int, *, reserve_output_tokens: int | None = None, margin: float = 0.0) -> Limits:
        """The numbers for a window.

        Args:
            window_tokens: the model's window; ours, if given, is the smaller of the two.
            reserve_output_tokens: the request's own ``max_tokens``, if it has one.
            margin: share of a request's room that stays free where counts are estimates.

        Raises:
            BudgetError: they do not fit into that window.
        """
        window = min(window_tokens, self.window_tokens or window_tokens)
        reserve = self.reserve_output_tokens
        if reserve is None:
            reserve = reserve_output_tokens
        if reserve is None:
            reserve = min(DEFAULT_RESERVE_TOKENS, window // 8)
        hard = window - reserve
        if hard < LEAST_REQUEST_TOKENS:
            raise BudgetError(
                f"reserve_output_tokens is {reserve:,} and the window has {window:,} tokens: nothing is left for the "
                "request; ask for a shorter reply (max_tokens, reserve_output_tokens) or set a larger window_tokens"
            )
        fold_at = self.fold_at_tokens or min(DEFAULT_FOLD_AT_TOKENS, window * 8 // 10, hard)
        if fold_at > hard:
            raise BudgetError(
                f"fold_at_tokens is {fold_at:,}, but a request has room for {hard:,} tokens (window {window:,} less "
                f"{reserve:,} reserved for the reply); set it below that, or reserve_output_tokens lower"
            )
        fold_to = self.fold_to_tokens or fold_at // 2
        if fold_to >= fold_at:
            raise BudgetError(
                f"fold_to_tokens is {fold_to:,}, expected less than fold_at_tokens ({fold_at:,}"
                f"{'' if self.fold_at_tokens else ' by default'}); set it lower, or fold_at_tokens higher"
            )
        summary_max = self.summary_max_tokens
        if summary_max is None:
            summary_max = min(max(MIN_SUMMARY_TOKENS, fold_at // 8), max(1, fold_to - 1))
        if summary_max >= fold_to:
            raise BudgetError(
                f"summary_max_tokens is {summary_max:,}, expected less than fold_to_tokens ({fold_to:,}"
                f"{'' if self.fold_to_tokens else ' by default'}): a summary that fills the target would be folded "
                "again at once; set it lower, or fold_at_tokens and fold_to_tokens higher"
            )
        hard = max(1, int(hard * (1 - margin)))
        fold_at = min(fold_at, hard)
        fold_to = min(fold_to, max(1, fold_at - 1))
        summary_max = min(summary_max, max(1, fold_to - 1))
        return Limits(
            window_tokens=window,
            reserve_output_tokens=reserve,
            hard_tokens=hard,
            fold_at_tokens=fold_at,
            fold_at_turns=self.fold_at_turns,
            fold_to_tokens=fold_to,
            keep_last_turns=self.keep_last_turns,
            summary_max_tokens=summary_max,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A policy's numbers for one window; every one is set. All but two are tokens."""

    window_tokens: int
    reserve_output_tokens: int
    hard_tokens: int
    fold_at_tokens: int
    fold_at_turns: int | None
    fold_to_tokens: int
    keep_last_turns: int
    summary_max_tokens: int

    @property
    def min_gain_tokens(self) -> int:
        """What a fold must save."""
        return self.fold_at_tokens // MIN_GAIN


_ANY = 1 << 40
NO_LIMITS = Limits(
    window_tokens=_ANY,
    reserve_output_tokens=0,
    hard_tokens=_ANY,
    fold_at_tokens=_ANY,
    fold_at_turns=None,
    fold_to_tokens=_ANY,
    keep_last_turns=0,
    summary_max_tokens=_ANY,
)
"""A request that was sent did fit; its limits are not looked at again."""


# Its `__new__` takes any name, to refuse it with the nearest: tooltips and completion read the names here.
_OWN = list(inspect.signature(ContextPolicy.__init__).parameters.values())[1:]
ContextPolicy.__signature__ = inspect.Signature(_OWN)  # type: ignore[attr-defined]  # what inspect reads
