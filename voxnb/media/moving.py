"""Media units that move into the bridge process when they are first connected with what lives there."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Final, TypeVar, cast

from voxnb.errors import BridgeError
from voxnb.media.clock import Clock
from voxnb.media.crossing import Shell
from voxnb.media.unit import MediaUnit, Recipe
from voxnb.runtime import loop

T = TypeVar("T")

ASK_S: Final = 10.0
"""How long the bridge process may take to answer; it is never held up by what cells do."""


class MovingUnit(MediaUnit):
    """A unit that is made again over there, from what it is made of; the one here is the shell of that.

    Args:
        clock: time and the media loop; tests bring their own.
    """

    KEEPS: ClassVar[bool] = False
    """Whether the process lives as long as the unit; else the unit lives here again when the process has ended."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._last: dict[str, Any] = {}

    def _made_of(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of its class."""
        return (), {}

    def _may_move(self) -> bool:
        """Whether nothing is lost by making it again."""
        return True

    def _recipe(self) -> Recipe | None:
        kind = type(self)
        # What a program has made of it does not exist over there.
        if not self._is_fresh or not kind.__module__.startswith("voxnb.") or not self._may_move():
            return None
        shell = Shell(done=self._done_far, lost=self._lost)
        return Recipe(f"{kind.__module__}:{kind.__name__}", *self._made_of(), keeps=self.KEEPS, shell=shell)

    def _done_far(self, error: Exception | None) -> None:
        """It has played to its end over there."""

    def _lost(self, error: Exception | None) -> None:
        """The process is gone."""
        del error
        self._far = None

    def _leave_far(self) -> None:
        """It is closed: over there, too, where it may be about to move."""

        def leave() -> None:
            if self._far is not None:
                self._far.leave()

        self._clock.call_soon(leave)

    def _known(self, name: str, here: T) -> T:
        """A property, as the unit over there has it where it lives there; after the end the last of it."""
        far = self._far
        if far is not None and not self._media_over and not loop.on_loop():
            with contextlib.suppress(BridgeError):
                self._last[name] = loop.wait(loop.submit(far.ask("__getattribute__", name)), timeout_s=ASK_S)
        return cast("T", self._last.get(name, here))

    def lost(self) -> None:
        """In the bridge process: the kernel is gone."""
        self._end_media()
