"""`Captions`: what is said in a call, line by line as it comes, with the shape of its sound and how much was heard."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.audio.formats import AudioFormat
from voxnb.audio.transcode import Transcoder
from voxnb.clients.reply import plain
from voxnb.events import RealtimeAPIEvents, SessionEvents

KEPT: Final = 40
"""Lines; the conversation's turns have the rest."""

MOST_TEXT: Final = 4_000
COLUMN_MS: Final = 50
"""How much sound is one column of its shape."""

MOST_COLUMNS: Final = 12_000
"""Of one line: ten minutes."""

MOST_SHOWN: Final = 400
"""Columns that a page gets: of a longer line, each is the loudest of several."""

STEPS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
"""Loudness as a letter, silent to full, on a scale on which speech is seen: 36 steps of its square root."""

_E = RealtimeAPIEvents
USER: Final = {
    _E.ConversationItemInputAudioTranscriptionDelta.value: "delta",
    _E.ConversationItemInputAudioTranscriptionCompleted.value: "transcript",
}
MODEL: Final = {
    _E.ResponseOutputAudioTranscriptDelta.value: "delta",
    _E.ResponseOutputTextDelta.value: "delta",
    _E.ResponseOutputAudioTranscriptDone.value: "transcript",
    _E.ResponseOutputTextDone.value: "text",
}


def columns(sound: bytes, *, rate_hz: int) -> list[int]:
    """The loudness of 16-bit PCM, a number of 0 to 35 for every `COLUMN_MS`; what is left over counts as one.

    >>> columns(bytes(4800), rate_hz=24_000)
    [0, 0]
    """
    import numpy as np

    samples = np.abs(np.frombuffer(sound[: len(sound) // 2 * 2], "<i2").astype(np.int32))
    step = rate_hz * COLUMN_MS // 1000
    peaks = [int(samples[n : n + step].max()) for n in range(0, len(samples), step)]
    return [round((peak / 32_768) ** 0.5 * (len(STEPS) - 1)) for peak in peaks]


@dataclass(slots=True)
class Line:
    """One thing that was said.

    Attributes:
        who: ``user`` or ``model``.
        text: so far.
        shape: its loudness, see `columns`.
        received_ms: sound that came of it.
        heard_ms: of that, what was heard; None while nothing is known.
        state: ``speaking``, ``spoken`` (and not written down yet), ``said``, ``interrupted``.
    """

    who: str
    text: str = ""
    shape: list[int] = field(default_factory=list)
    received_ms: float = 0.0
    heard_ms: float | None = None
    state: str = "speaking"


class Captions:
    """The newest lines of a call, by item id; events and sound come on the background loop, a page's on another thread."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._lock = threading.Lock()
        self._ways: dict[AudioFormat, Transcoder] = {}

    def note(self, name: str, payload: Mapping[str, Any]) -> bool:
        """An event; whether it changed a line."""
        with self._lock:
            if name in USER or name in MODEL:
                key = (USER.get(name) or MODEL[name], payload.get("item_id"))
                self._write(str(key[1]), "user" if name in USER else "model", key[0], payload.get(key[0]))
            elif name == _E.InputAudioBufferSpeechStarted.value:
                self._line(str(payload.get("item_id")), "user")
            elif name == _E.InputAudioBufferSpeechStopped.value:
                line = self._line(str(payload.get("item_id")), "user")
                line.state = "said" if line.text else "spoken"
            elif name == SessionEvents.Interrupted.value:
                for item in payload.get("items") or ():
                    line = self._line(str(item.get("item_id")), "model")
                    line.heard_ms, line.state = float(item.get("heard_ms") or 0), "interrupted"
                    line.received_ms = max(line.received_ms, float(item.get("received_ms") or 0))
            else:
                return False
        return True

    def sound(self, item_id: str, data: bytes, form: AudioFormat) -> int:
        """Sound of the model came; how loud it is, 0 to 35."""
        found = self.loudness(data, form)
        with self._lock:
            line = self._line(item_id, "model")
            line.shape.extend(found[: MOST_COLUMNS - len(line.shape)])
            line.received_ms += form.duration_ms(len(data))
        return max(found, default=0)

    def loudness(self, data: bytes, form: AudioFormat) -> list[int]:
        """The loudness of a piece of sound."""
        if form.is_g711:
            way = self._ways.setdefault(form, Transcoder(form, AudioFormat("pcm", form.rate_hz)))
            data = way.feed(data)
        return columns(data, rate_hz=form.rate_hz)

    def heard(self, so_far: Mapping[str, float]) -> bool:
        """How much of what sounds was heard; what is no longer among it was heard to its end. Whether any still sounds."""
        with self._lock:
            for item_id, line in self._lines.items():
                if line.who != "model" or line.state != "speaking":
                    continue
                if item_id in so_far:
                    line.heard_ms = so_far[item_id]
                    line.received_ms = max(line.received_ms, so_far[item_id])
                elif line.heard_ms is not None:
                    line.heard_ms, line.state = line.received_ms, "said"
        return bool(so_far)

    def shown(self) -> dict[str, dict[str, Any]]:
        """The lines as a page needs them, oldest first."""
        with self._lock:
            return {key: _shown(line) for key, line in self._lines.items()}

    def _line(self, item_id: str, who: str) -> Line:
        line = self._lines.get(item_id)
        if line is None:
            line = self._lines[item_id] = Line(who)
            while len(self._lines) > KEPT:
                self._lines.popitem(last=False)
        return line

    def _write(self, item_id: str, who: str, key: str, text: Any) -> None:
        line = self._line(item_id, who)
        said = text if isinstance(text, str) else ""
        line.text = (line.text + said if key == "delta" else said)[:MOST_TEXT]
        if key != "delta" and who == "user":
            line.state = "said"


def _shown(line: Line) -> dict[str, Any]:
    size = -(-len(line.shape) // MOST_SHOWN) or 1
    shape = [max(line.shape[n : n + size]) for n in range(0, len(line.shape), size)]
    return {
        "who": line.who,
        "text": plain(line.text),
        "shape": "".join(STEPS[step] for step in shape),
        "received_ms": round(line.received_ms),
        "heard_ms": None if line.heard_ms is None else round(line.heard_ms),
        "state": line.state,
    }
