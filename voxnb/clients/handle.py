"""`Handle`: something that takes time, returned at once."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from voxnb.runtime import loop

T = TypeVar("T")


class Handle(Generic[T]):
    """A result that is still being made: block with `result`, or ``await`` it.

    Args:
        future: of the work on the background loop.
        name: what it is, for the repr.
    """

    def __init__(self, future: concurrent.futures.Future[T], *, name: str) -> None:
        self._future = future
        self._name = name

    def result(self, timeout_s: float | None = None) -> T:
        """Block until it is done.

        Args:
            timeout_s: longest wait; None for no limit.

        Raises:
            TimeoutError: not done yet; it goes on.
        """
        return loop.wait(self._future, timeout_s=timeout_s)

    def __await__(self) -> Generator[Any, None, T]:
        return loop.wait_async(self._future).__await__()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def __repr__(self) -> str:
        return f"<{self._name} {'done' if self.done() else 'running'}>"
