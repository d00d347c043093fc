"""What listeners raised: noted once per kind, told in the cell where it happened."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.errors import TurnError
from voxnb.runtime import config, loop

MOST_FAILURES: Final = 1000
"""Failures that are kept; the oldest go."""


@dataclass(slots=True, eq=False)
class Failure:
    """What a listener raised.

    Attributes:
        event: the event's string value.
        callback: the listener.
        error: the exception, with its traceback.
        turn: the turn the event belongs to, or None.
        context: where it happened, and is reported.
        count: how often the same listener raised the same for this turn.
    """

    event: str
    callback: Callable[..., Any]
    error: BaseException
    turn: Any
    context: Context = field(repr=False)
    count: int = 1

    def repeats(self, other: Failure) -> bool:
        """Whether it is the same listener, failing alike, for the same turn."""
        return (
            self.turn is other.turn
            and self.callback is other.callback
            and describe(self.error) == describe(other.error)
        )


class FailureLog:
    """The failures of one client's listeners; written by its listener thread.

    Attributes:
        failures: in order, repetitions counted in the first.
    """

    def __init__(self, *, on_failure: Callable[[Failure], object] | None = None, private: bool = False) -> None:
        self.failures: list[Failure] = []
        self._on_failure = on_failure
        self._private = private

    def note(self, failure: Failure) -> None:
        """Keep and report a failure; the same again for the same turn is only counted."""
        for known in reversed(self.failures):
            if known.turn is not failure.turn:
                break
            if known.repeats(failure):
                known.count += 1
                return
        self.failures.append(failure)
        del self.failures[:-MOST_FAILURES]
        # The callback and sys.stderr may be the user's own objects: nothing they raise may end the thread.
        with contextlib.suppress(Exception):
            what = getattr(failure.callback, "__qualname__", None) or type(failure.callback).__name__
            name = failure.event.rpartition(".")[2]
            _tell(failure, f"listener {what} of {name} raised {self._describe(failure.error)}{_where(failure.error)}")
        if self._on_failure is not None:
            with contextlib.suppress(TurnError):  # the loop is gone: the interpreter is closing
                loop.call_soon(self._on_failure, failure)

    def _describe(self, error: BaseException) -> str:
        return type(error).__name__ if self._private else describe(error)

    def sum_up(self, turn: Any) -> None:
        """At the end of a turn: tell how often its failures were repeated."""
        for failure in self.failures:
            if failure.turn is turn and failure.count > 1:
                with contextlib.suppress(Exception):  # see note()
                    text = f"the same listener failed {failure.count} times: {self._describe(failure.error)}"
                    _tell(failure, text)


def _tell(failure: Failure, text: str) -> None:
    failure.context.copy().run(config.report, text)  # a copy: an async listener is still inside its own


def describe(error: BaseException) -> str:
    """``ValueError: text``; survives an exception whose ``__str__`` raises."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
