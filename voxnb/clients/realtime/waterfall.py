"""Where the time of an answer goes: from the end of the user's speech to the first sound that the user hears."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voxnb.runtime.marked import marked
from voxnb.runtime.packages import import_apart

KEPT_TURNS: Final = 1_000
KEPT_APPENDS: Final = 3_000
"""A minute of frames: how far back the end of speech is looked for."""

STEPS: Final = ("speech_end", "stopped", "committed", "created", "first_delta", "first_frame", "first_heard")
"""In order: speech ended; the server noticed; it made an item; a response began; its first sound came; the first frame
went out; it sounded."""

SPEECH: Final = STEPS[:3]
"""The steps before an answer, which are those of the next one, too, where this one only called tools."""


@dataclass(slots=True)
class Fall:
    """One answer.

    Attributes:
        item_id: what the user said, or None where nobody spoke before.
        response_id: the answer, or None while there is none.
        at: when each of `STEPS` was reached, seconds of a monotonic clock.
        interrupted: the user spoke before its end.
        calls: it called tools and did not sound: the next one answers the same speech.
    """

    item_id: str | None
    response_id: str | None
    at: dict[str, float]
    interrupted: bool = False
    calls: bool = False


class Waterfall:
    """The answers of a session, newest last."""

    def __init__(self) -> None:
        self.falls: deque[Fall] = deque(maxlen=KEPT_TURNS)
        self._appended: deque[tuple[float, float]] = deque(maxlen=KEPT_APPENDS)
        self._appended_ms = 0.0

    def restart(self) -> None:
        """A new session: its input begins at 0."""
        self._appended.clear()
        self._appended_ms = 0.0

    def appended(self, audio_ms: float, *, now: float) -> None:
        """Sound of the user went out.

        Args:
            audio_ms: its length.
            now: monotonic seconds.
        """
        self._appended_ms += audio_ms
        self._appended.append((self._appended_ms, now))

    def stopped(self, item_id: str, *, audio_end_ms: float, silence_ms: float, now: float) -> None:
        """The server noticed that the user stopped.

        Args:
            item_id: what was said.
            audio_end_ms: where, on the session's input; the silence by which it was noticed is part of it.
            silence_ms: how long that is.
            now: monotonic seconds.
        """
        fall = Fall(item_id, None, {"stopped": now})
        end_s = self._when(audio_end_ms - silence_ms)
        if end_s is not None:
            fall.at["speech_end"] = end_s
        self.falls.append(fall)

    def committed(self, item_id: str, *, now: float) -> None:
        """What the user said became an item."""
        found = next((fall for fall in reversed(self.falls) if fall.item_id == item_id), None)
        if found is None:
            found = Fall(item_id, None, {})
            self.falls.append(found)
        found.at.setdefault("committed", now)

    def created(self, response_id: str, *, now: float) -> None:
        """A response began."""
        fall = self.falls[-1] if self.falls else None
        if fall is None or fall.response_id is not None:
            known = fall if fall is not None and fall.calls else Fall(None, None, {})
            fall = Fall(known.item_id, None, {step: known.at[step] for step in SPEECH if step in known.at})
            self.falls.append(fall)
        fall.response_id = response_id
        fall.at["created"] = now

    def reached(self, step: str, response_id: str | None, *, now: float) -> None:
        """A response reached one of `STEPS`, for the first time or again."""
        fall = self._of(response_id)
        if fall is not None:
            fall.at.setdefault(step, now)

    def called(self, response_id: str) -> None:
        """A response has called tools."""
        fall = self._of(response_id)
        if fall is not None:
            fall.calls = "first_delta" not in fall.at

    def interrupted(self, response_id: str | None) -> None:
        """The user spoke before the end of an answer."""
        fall = self._of(response_id)
        if fall is not None:
            fall.interrupted = True

    def _of(self, response_id: str | None) -> Fall | None:
        if response_id is None:
            return None
        return next((fall for fall in reversed(self.falls) if fall.response_id == response_id), None)

    def _when(self, position_ms: float) -> float | None:
        """When the sound at a place of the session's input went out."""
        found = None
        for end_ms, now in reversed(self._appended):
            if end_ms < position_ms:
                break
            found = now
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A dict per answer: ids, ``<step>_ms`` counted from its first known step, ``interrupted``."""
        out = []
        for fall in list(self.falls):
            if fall.response_id is None:
                continue
            zero = min(fall.at.values())
            times = {f"{step}_ms": (fall.at[step] - zero) * 1000 if step in fall.at else None for step in STEPS}
            out.append({"item_id": fall.item_id, "response_id": fall.response_id, **times, "interrupted": fall.interrupted})  # fmt: skip
        return out


def table_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """`Waterfall.rows` as a DataFrame; times are Float64, NA where a step was not reached or not seen."""
    import_apart("pandas")
    import pandas as pd

    names = ["item_id", "response_id", *(f"{step}_ms" for step in STEPS), "interrupted"]
    kinds: dict[str, Any] = {"item_id": "str", "response_id": "str", "interrupted": "bool"}
    kinds |= {f"{step}_ms": "Float64" for step in STEPS}
    return marked(pd.DataFrame(list(rows), columns=names).astype(kinds))
