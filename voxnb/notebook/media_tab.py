"""The Media tab: a call's media sessions, captions, what was heard of it, and where its time goes."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from voxnb.audio.formats import AudioFormat
from voxnb.clients.reply import plain
from voxnb.errors import AudioError, ParameterError, VoxnbError
from voxnb.events import Events, RealtimeAPIEvents
from voxnb.media import AudioFile
from voxnb.notebook.browser_sound import FRAME_MS, TAG, BrowserSound
from voxnb.notebook.captions import Captions
from voxnb.notebook.tab import Sent, Tab
from voxnb.runtime import loop

MOST_FALLS: Final = 8
"""Answers whose latency is shown."""

NUMBERS_S: Final = 0.25
"""How often the numbers of streams are asked for."""

SAMPLE_S: Final = 0.1
"""How often is asked how much was heard."""

FILE_TAIL_MS: Final = 1_500
"""Silence after a file: a server notices by it that nobody speaks any more."""

FAINT: Final = 3
"""Less loud than this (of 35) counts as silence."""

QUIET_S: Final = 0.4
"""After so long without sound a meter is at rest."""


class MediaTab(Tab):
    """A call.

    Args:
        client: the realtime client.
        tell: sends a message with buffers to the pages.
        poke: called, from any thread, when there is something new.

    Attributes:
        call: the client.
    """

    name = "media"

    def __init__(
        self, client: Any, *, tell: Callable[[Mapping[str, Any], list[bytes]], object], poke: Callable[[], None]
    ) -> None:
        self.call, self._poke = client, poke
        self.browser = BrowserSound(client, tell=tell, changed=poke)
        self.captions = Captions()
        self._lines = Sent()
        self._known: Any = None
        self._levels: dict[str, tuple[int, float]] = {}  # tag of what the model hears → loudness, when
        self._sounding: set[str] = set()
        self._numbers: tuple[float, Any] = (0.0, None)
        self._samples = False
        self._shown_s = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="voxnb-")
        self._note = ""
        self._ends = [client.watch_events(self._on_event), client.watch_sound(self._on_sound)]
        self.verbs = {
            "take": self._take,
            "leave": lambda message, _buffers: self.browser.leave(str(message.get("page")), "you stopped"),
            "say": self._say,
            "play": self._play,
            "mute": self._mute,
            "hang_up": lambda _message, _buffers: threading.Thread(target=client.close, daemon=True).start(),
        }

    def close(self) -> None:
        """Watch no more, and let go of the browser; a second call does nothing."""
        for end in self._ends:
            end()
        self.browser.leave(None)
        self.browser.close()
        self._folder.cleanup()

    # -- what happens, on the background loop -------------------------------------------------

    def _on_event(self, name: str, payload: Mapping[str, Any], _turn: Any) -> None:
        if name == Events.WebSocketMediaStarted.value:
            self._sounding.add(str(payload.get("tag") or ""))
            self._begin_sampling()
        elif name == Events.WebSocketMediaEnded.value:
            self._sounding.discard(str(payload.get("tag") or ""))
        elif self.captions.note(name, payload):
            self._begin_sampling()
        elif name == RealtimeAPIEvents.ResponseCreated.value:
            self._note = ""
        elif (trouble := _trouble(name, payload)) is not None:
            self._note = trouble
        else:
            return
        self._poke()

    def _on_sound(self, direction: str, key: str, data: bytes, form: AudioFormat) -> None:
        if form.coding == "opus":
            return
        if direction == "out":
            self.captions.sound(key, data, form)
            self._begin_sampling()
        else:
            self._levels[key] = (max(self.captions.loudness(data, form), default=0), time.monotonic())
        if time.monotonic() - self._shown_s >= SAMPLE_S:  # a meter that moves ten times a second is quick enough
            self._shown_s = time.monotonic()
            self._poke()

    def _begin_sampling(self) -> None:
        if not self._samples:
            self._samples = True
            loop.call_later(SAMPLE_S, self._sample)

    def _sample(self) -> None:
        """How much of what sounds was heard by now; again until nothing sounds."""
        self._samples = self.captions.heard(self.call.heard_so_far()) or bool(self._sounding)
        if self._samples:
            loop.call_later(SAMPLE_S, self._sample)
        self._poke()

    # -- what is shown ------------------------------------------------------------------------

    def is_live(self) -> bool:
        """While the call is there: how long sessions last, and what waits."""
        return bool(self.call.connected)

    def compose(self, *, full: bool) -> Mapping[str, Any] | None:
        """What changed."""
        lines = self.captions.shown()
        now = {
            "order": list(lines),
            "level": max(map(self._level, tuple(self._levels)), default=0),
            "browser": self.browser.facts(),
            "call": self._call(),
            "note": self._note,
            **self._slow(full=full),
        }
        news = self._lines.news(lines, full=full)
        if not full and not news and now == self._known:
            return None
        self._known = now
        return {**now, "put": news}

    def _level(self, tag: str) -> int:
        level, at_s = self._levels.get(tag, (0, 0.0))
        return level if time.monotonic() - at_s < QUIET_S else 0

    def _call(self) -> dict[str, Any]:
        client = self.call
        state = repr(client).rpartition(", ")[2].rstrip(">")
        return {"connected": bool(client.connected), "closed": bool(client.closing), "state": plain(state)}

    def _slow(self, *, full: bool) -> Mapping[str, Any]:
        """Streams, drops and latencies: asked for now and then."""
        at_s, known = self._numbers
        if known is None or full or time.monotonic() - at_s >= NUMBERS_S:
            numbers = self.call.statistics()
            known = {
                "streams": [*map(self._row, numbers.streams)],
                "dropped_ms": round(numbers.audio_dropped_ms) + FRAME_MS * self.browser.lost,
                "unheard_ms": round(numbers.audio_unheard_ms),
                "falls": [_fall(row) for row in self.call.falls()[-MOST_FALLS:]],
            }
            self._numbers = (time.monotonic(), known)
        result: Mapping[str, Any] = known
        return result

    def _row(self, told: Mapping[str, Any]) -> dict[str, Any]:
        is_in = told["direction"] == "in"
        tag = str(told["tag"])
        sounding = self._level(tag) >= FAINT if is_in else tag in self._sounding
        unit = told["source"] if is_in else told["target"]
        return {
            "key": f"{told['direction']} {tag} {unit}",
            "way": told["direction"],
            "tag": plain(tag),
            "unit": "browser" if tag == TAG else unit,
            "encoding": f"{told['encoding']} {told['rate_hz'] / 1000:g} kHz",
            "state": "muted" if told["muted"] else "sounding" if sounding else "silent",
            "duration_ms": round(told["duration_ms"]),
            "depth_ms": round(told["depth_ms"]),
            "dropped_ms": round(told["dropped_ms"]),
            "cleared_ms": round(told["cleared_ms"]),
            "late": told["late_frames"],
            "starved": told["starved"],
        }

    # -- what can be done ---------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin the session where there is none yet; what goes wrong is shown when it has."""
        if self.call.connected:
            return
        handle = self.call.connect()
        self._note = "connecting …"

        def wait() -> None:
            try:
                handle.result()
                self._note = ""
            except VoxnbError as error:
                self._note = f"{type(error).__name__}: {error}"
                self.browser.leave(None, "the call could not begin")
            self._poke()

        threading.Thread(target=wait, name="voxnb-widget-call", daemon=True).start()

    def _take(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        page = message.get("page")
        if not isinstance(page, str) or not page:
            raise ParameterError("a page has a name", name="page")
        self._begin()
        self.browser.take(page)

    def _say(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """Write instead of speaking."""
        text = message.get("text")
        if not isinstance(text, str) or not text.strip():
            raise ParameterError("there is nothing to say; write something", name="text")
        self._begin()
        content = [{"type": "input_text", "text": text}]
        self.call.conversation_item_create(item={"type": "message", "role": "user", "content": content})
        self.call.response_create()

    def _play(self, message: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        """Let the model hear a file, as if somebody spoke."""
        if not buffers or not buffers[0]:
            raise ParameterError("there is no sound in it; choose an audio file", name="file")
        ending = Path(str(message.get("name") or "")).suffix
        path = Path(self._folder.name) / f"{uuid.uuid4().hex}{ending if ending[1:].isalnum() else ''}"
        path.write_bytes(buffers[0])
        file = AudioFile(path, tail_ms=FILE_TAIL_MS)
        self._begin()
        file.send_media_to(self.call, tag="file")

    def _mute(self, message: Mapping[str, Any], _buffers: Sequence[bytes]) -> None:
        """Let the model not hear a session for a while, and hear it again."""
        key = message.get("key")
        for told in self.call.statistics().streams:
            row = self._row(told)
            if row["key"] == key and row["way"] == "in":
                self.call.mute(told["source"], told["tag"], muted=not told["muted"])
                self._numbers = (0.0, None)
                return
        raise AudioError(f"there is no session {key!r} that could be muted; it has ended")


def _trouble(name: str, payload: Mapping[str, Any]) -> str | None:
    """What an event says has gone wrong, or None where it is of another kind."""
    told: Any = payload
    if name == RealtimeAPIEvents.Error.value:
        told = payload.get("error")
    elif name == RealtimeAPIEvents.ResponseDone.value:
        response = payload["response"]
        told = (response.get("status_details") or {}).get("error") if response.get("status") == "failed" else None
    elif name != RealtimeAPIEvents.WebSocketError.value:
        return None
    if not isinstance(told, Mapping):
        return None
    return plain(f"{told.get('type') or 'error'}: {told.get('message') or told.get('code') or 'no reason was given'}")


def _fall(row: Mapping[str, Any]) -> dict[str, Any]:
    steps = {name.removesuffix("_ms"): value for name, value in row.items() if name.endswith("_ms")}
    known = {name: round(value) for name, value in steps.items() if value is not None}
    return {"at": known, "interrupted": bool(row["interrupted"])}
