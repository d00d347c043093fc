"""Transcripts of what users said: they come when they come, also after the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voxnb.local.realtime import usage
from voxnb.local.realtime.effect import Hear
from voxnb.local.realtime.items import Item
from voxnb.local.realtime.view import Heard

_KIND: Final = "conversation.item.input_audio_transcription"

SEGMENTING: Final = "-diarize"
"""How the names of models end that say who spoke, segment by segment, where others send deltas."""


@dataclass(frozen=True)
class _Ready:
    due_s: float
    item_id: str
    item: Item | None
    text: str | None
    failure: str
    model: str


class Transcripts:
    """What was understood and is not told yet.

    Args:
        send: sends an event.
        delay_ms: how long after the commit a transcript is told at the soonest.
    """

    def __init__(self, send: Callable[..., None], *, delay_ms: float) -> None:
        self._send = send
        self._delay_ms = delay_ms
        self._expected: dict[str, tuple[float, str]] = {}
        self._count = 0
        self._ready: list[_Ready] = []

    def expect(self, item: Item, transcription: Mapping[str, Any], /, *, now_s: float) -> Hear:
        """Speech was committed.

        Args:
            item: the user message.
            transcription: the session's settings of it.
            now_s: the clock.

        Returns:
            What is to be done.
        """
        self._count += 1
        self._expected[item.id] = now_s + self._delay_ms / 1_000, str(transcription.get("model"))
        return Hear(Heard(self._count, item.id, item.audio[0], item.form, dict(transcription)))

    def add(self, item_id: str, item: Item | None, text: str | None, *, failure: str, now_s: float) -> None:
        """It was understood, or not.

        Args:
            item_id: of the user message.
            item: the message, or None where it was deleted meanwhile.
            text: the transcript; None where there is none.
            failure: why there is none.
            now_s: the clock.
        """
        soonest_s, model = self._expected.pop(item_id, (now_s, ""))
        self._ready.append(_Ready(max(now_s, soonest_s), item_id, item, text, failure, model))
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
        audio_ms = ready.item.audio_ms() if ready.item is not None else 0.0
        if ready.model.endswith(SEGMENTING):
            times = {"start": 0.0, "end": audio_ms / 1_000}
            self._send(f"{_KIND}.segment", **where, id=f"seg_{ready.item_id}", text=ready.text, speaker="A", **times)
        else:
            for word in usage.words(ready.text):
                self._send(f"{_KIND}.delta", **where, delta=word)
        if ready.item is not None:
            ready.item.data["content"][0]["transcript"] = ready.text
        self._send(
            f"{_KIND}.completed", **where, transcript=ready.text, usage=usage.transcription(ready.text, audio_ms)
        )
