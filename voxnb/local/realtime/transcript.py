"""Transcripts of what users said: they come when they come, also after the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from voxnb.local.realtime import usage
from voxnb.local.realtime.items import Item

_KIND: Final = "conversation.item.input_audio_transcription"


@dataclass(frozen=True)
class _Ready:
    due_s: float
    item_id: str
    item: Item | None
    text: str | None
    failure: str


class Transcripts:
    """What was understood and is not told yet.

    Args:
        send: sends an event.
        delay_ms: how long after the commit a transcript is told at the soonest.
    """

    def __init__(self, send: Callable[..., None], *, delay_ms: float) -> None:
        self._send = send
        self._delay_ms = delay_ms
        self._expected: dict[str, float] = {}
        self._ready: list[_Ready] = []

    def expect(self, item_id: str, /, *, now_s: float) -> None:
        """Speech was committed.

        Args:
            item_id: of the user message.
            now_s: the clock.
        """
        self._expected[item_id] = now_s + self._delay_ms / 1_000

    def add(self, item_id: str, item: Item | None, text: str | None, *, failure: str, now_s: float) -> None:
        """It was understood, or not.

        Args:
            item_id: of the user message.
            item: the message, or None where it was deleted meanwhile.
            text: the transcript; None where there is none.
            failure: why there is none.
            now_s: the clock.
        """
        due_s = max(now_s, self._expected.pop(item_id, now_s))
        self._ready.append(_Ready(due_s, item_id, item, text, failure))
        self._ready.sort(key=lambda ready: ready.due_s)

    @property
    def due_s(self) -> float | None:
        """When the next is to be told, or None."""
        return self._ready[0].due_s if self._ready else None

    def tell(self) -> None:
        """Tell the next."""
        ready = self._ready.pop(0)
        where = {"item_id": ready.item_id, "content_index": 0}
        if ready.text is None:
            error = {
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": ready.failure,
                "param": None,
            }
            self._send(f"{_KIND}.failed", **where, error=error)
            return
        for word in usage.words(ready.text):
            self._send(f"{_KIND}.delta", **where, delta=word)
        if ready.item is not None:
            ready.item.data["content"][0]["transcript"] = ready.text
        audio_ms = ready.item.audio_ms() if ready.item is not None else 0.0
        self._send(
            f"{_KIND}.completed", **where, transcript=ready.text, usage=usage.transcription(ready.text, audio_ms)
        )
