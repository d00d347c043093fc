"""A session without sockets, in virtual time: an hour of it passes in a second, the same way every time."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from voxnb.local.realtime.brain import Brain, Echo
from voxnb.local.realtime.config import REALTIME
from voxnb.local.realtime.effect import Effect, Hear, Send, SendRaw, Think
from voxnb.local.realtime.manner import Manner
from voxnb.local.realtime.order import Order
from voxnb.local.realtime.session import Session


class Rehearsal:
    """A `Session`, its brain and a clock that moves when it is told to.

    Args:
        brain: who answers, at once.
        kind: ``realtime`` or ``transcription``.
        manner: how fast it speaks, how long a session lasts.

    Attributes:
        session: the session.
        now_s: the clock, from 0.
        events: what the server sent, in order.
        raw: messages of the server that were no events.
        order: the grammar of what it sent.
        ended: how the server ended the connection: `Close`, `Abort`, or None while it stands.

    >>> talk = Rehearsal()
    >>> talk.send("response.cancel", event_id="mine")[-1]["error"]["code"]
    'response_cancel_not_active'
    """

    def __init__(self, brain: Brain | None = None, *, kind: str = REALTIME, manner: Manner | None = None) -> None:
        self.brain: Brain = brain or Echo()
        self.now_s = 0.0
        self.events: list[dict[str, Any]] = []
        self.raw: list[str | bytes] = []
        self.order = Order()
        self.ended: Effect | None = None
        self._ids = 0
        self._read = 0  # of the events, by `until`
        self.session = Session(kind=kind, new_id=self._new_id, now_s=0.0, epoch_s=1_800_000_000.0, manner=manner)
        self._run()

    def _new_id(self, prefix: str, /) -> str:
        self._ids += 1
        return f"{prefix}_{self._ids:06d}"

    def send(self, kind: str, /, **fields: Any) -> list[dict[str, Any]]:
        """Send a client event now.

        Args:
            kind: its type.
            **fields: the rest of it.

        Returns:
            What the server sent at once.
        """
        return self.receive({"type": kind, **fields})

    def receive(self, message: str | bytes | Mapping[str, Any], /) -> list[dict[str, Any]]:
        """Send anything.

        Returns:
            What the server sent at once.
        """
        before = len(self.events)
        self.session.receive(message, now_s=self.now_s)
        self._run()
        return self.events[before:]

    def append(self, audio: bytes, /, *, chunk_ms: int | None = None) -> list[dict[str, Any]]:
        """Send audio.

        Args:
            audio: samples of the session's input format.
            chunk_ms: in real time and pieces so long; None: at once and whole.

        Returns:
            What the server sent meanwhile.
        """
        before = len(self.events)
        form = self.session.hearing.form
        size = len(audio) if chunk_ms is None else form.rate_hz * chunk_ms // 1_000 * form.sample_bytes
        for start in range(0, len(audio), size or 1):
            piece = audio[start : start + size]
            self.send("input_audio_buffer.append", audio=base64.b64encode(piece).decode())
            if chunk_ms is not None:
                self.wait(form.duration_ms(len(piece)) / 1_000)
        return self.events[before:]

    def wait(self, seconds: float, /) -> list[dict[str, Any]]:
        """Let time pass.

        Args:
            seconds: how much.

        Returns:
            What the server sent meanwhile.
        """
        before = len(self.events)
        until_s = self.now_s + seconds
        while (due_s := self.session.due_s()) is not None and due_s <= until_s:
            self.now_s = max(self.now_s, due_s)
            self.session.tick(self.now_s)
            self._run()
        self.now_s = until_s
        self.session.tick(until_s)
        self._run()
        return self.events[before:]

    def until(self, kind: str, /, *, limit_s: float = 60.0) -> dict[str, Any]:
        """Let time pass until the server has sent an event of a type, after the one that was waited for last.

        Args:
            kind: the type.
            limit_s: the most time that may pass.

        Returns:
            The event.

        Raises:
            TimeoutError: it did not come.
        """
        end_s = self.now_s + limit_s
        while True:
            for place in range(self._read, len(self.events)):
                if self.events[place]["type"] == kind:
                    self._read = place + 1
                    return self.events[place]
            due_s = self.session.due_s()
            if due_s is None or due_s > end_s:
                raise TimeoutError(f"no {kind!r} came in {limit_s} s of virtual time")
            self.wait(max(0.0, due_s - self.now_s))

    def types(self) -> list[str]:
        """The types of what the server sent."""
        return [event["type"] for event in self.events]

    def _run(self) -> None:
        while effects := self.session.take():
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.events.append(effect.event)
            self.order.feed(effect.event)
        elif isinstance(effect, SendRaw):
            self.raw.append(effect.message)
        elif isinstance(effect, Think):
            self.session.supply(effect.response_id, list(self.brain.answer(effect.view)), now_s=self.now_s)
        elif isinstance(effect, Hear):
            text = self.brain.transcribe(effect.heard)
            self.session.transcribed(effect.heard.item_id, text, now_s=self.now_s, failure="unintelligible")
        else:
            self.ended = self.ended or effect
