"""A session of the Realtime API, seen from the server: what it answers to each event, and when it speaks.

No clock, no socket, no chance: it is told the time, it is given the ids, and what it has to say lies in `take`. Whatever a
client sends, the answer is events; nothing raises.

Source: OpenAI Realtime API reference (2026) and recorded traffic of ``gpt-realtime``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from voxnb.local.realtime import config, usage
from voxnb.local.realtime.answer import Gone, Part, Stuck, Wait
from voxnb.local.realtime.effect import Abort, Close, Effect, Send, SendRaw, Think
from voxnb.local.realtime.hearing import LEAST_COMMIT_MS, Hearing, Started, Stopped
from voxnb.local.realtime.items import Conversation, Item, decoded
from voxnb.local.realtime.manner import Manner
from voxnb.local.realtime.refusal import Refusal, already_active, expired, invalid, missing, mistyped, too_short
from voxnb.local.realtime.remote import RemoteServers
from voxnb.local.realtime.request import Wanted, event_of, wanted
from voxnb.local.realtime.speaking import Response
from voxnb.local.realtime.transcript import Transcripts

APPEND_BYTES: Final = 15 * 1024 * 1024
"""Longest ``audio`` of one `input_audio_buffer.append`."""

_ACTS: Final[Mapping[str, str]] = {
    "session.update": "_update",
    "input_audio_buffer.append": "_append",
    "input_audio_buffer.commit": "_commit",
    "input_audio_buffer.clear": "_clear",
    "output_audio_buffer.clear": "_clear_output",
    "conversation.item.create": "_create_item",
    "conversation.item.retrieve": "_retrieve_item",
    "conversation.item.truncate": "_truncate_item",
    "conversation.item.delete": "_delete_item",
    "response.create": "_create_response",
    "response.cancel": "_cancel_response",
}
"""Client event → the method that answers it."""

_NOT_FOR_TRANSCRIPTION: Final = ("response.create", "response.cancel", "output_audio_buffer.clear")


class Session:
    """One connection's session.

    Args:
        kind: ``realtime`` or ``transcription``.
        model: of the address.
        new_id: makes an id from a prefix.
        now_s: the clock, in seconds; only differences matter.
        epoch_s: the same moment as epoch seconds.
        manner: how the server behaves.
        settings: what is updated before it begins: a client secret's.
    """

    def __init__(
        self,
        *,
        kind: str = config.REALTIME,
        model: str = "gpt-realtime",
        new_id: Callable[[str], str],
        now_s: float,
        epoch_s: float,
        manner: Manner | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.manner = manner or Manner()
        self.new_id = new_id
        self.now_s, self.model = now_s, model
        self.ends_at_s = now_s + self.manner.session_s
        expires_at = int(epoch_s + self.manner.session_s)
        self.config = config.default(kind, session_id=new_id("sess"), model=model, expires_at=expires_at)
        if settings is not None:
            self.config = config.updated(self.config, settings, has_spoken=False, is_responding=False)
        self.conversation = Conversation(new_id)
        self.hearing = Hearing(self.manner.detector)
        self._configure_hearing()
        self._effects: list[Effect] = []
        self._responses: dict[str, Response] = {}
        self._speech_item: str | None = None
        self._has_spoken, self._asked = False, 0
        self._idle_at_s: float | None = None
        self._idle_from_ms = 0.0
        self._transcripts = Transcripts(self.send, delay_ms=self.manner.transcription_ms)
        self._remote_servers = RemoteServers(self, tell=self._told_item)
        self.is_over = False
        self.send("session.created", session=copy.deepcopy(self.config))
        self._remote_servers.list(self.config.get("tools"))

    # -- what the shell calls ---------------------------------------------------------------------

    def take(self) -> list[Effect]:
        """What is to be done since the last call, in order."""
        out, self._effects = self._effects, []
        return out

    def receive(self, message: str | bytes | Mapping[str, Any], /, *, now_s: float) -> None:
        """Answer a client event.

        Args:
            message: as it came: text, or what it decodes to.
            now_s: the clock.
        """
        self.tick(now_s)
        if self.is_over:
            return
        event_id = None
        try:
            event = event_of(message)
            event_id = event.get("event_id")
            if event_id is not None and not isinstance(event_id, str):
                wrong, event_id = event_id, None
                raise mistyped(wrong, "a string", param="event_id")
            self._act(event)
        except Refusal as refusal:
            self.send("error", error=refusal.body(event_id))

    def due_s(self) -> float | None:
        """When `tick` has something to do; None where only a client or a brain can move things."""
        if self.is_over:
            return None
        times = [r.due_s() for r in self._responses.values()]
        known = [t for t in (*times, self._transcripts.due_s, self._idle_at_s, self.ends_at_s) if t is not None]
        return min(known)

    def tick(self, now_s: float, /) -> None:
        """Do everything that is due.

        Args:
            now_s: the clock.
        """
        while not self.is_over:
            due_s = self.due_s()
            if due_s is None or due_s > now_s:
                break
            # Each thing happens at its own time, however late the shell looks.
            self.now_s = max(self.now_s, due_s)
            if due_s >= self.ends_at_s:
                self._expire()
            elif due_s == self._transcripts.due_s:
                self._transcripts.tell()
            elif due_s == self._idle_at_s:
                self._prompt_idle()
            else:
                for response in [r for r in self._responses.values() if r.due_s() == due_s]:
                    response.tick(due_s)
        self.now_s = max(self.now_s, now_s)

    def supply(self, response_id: str, parts: Iterable[Part], /, *, now_s: float, is_last: bool = True) -> None:
        """Take what the brain answers.

        Args:
            response_id: of the `Think` that asked; one that is over already is left alone.
            parts: in order.
            now_s: the clock.
            is_last: whether that is all.
        """
        self.tick(now_s)
        response = self._responses.get(response_id)
        if response is None:
            return
        response.feed(parts, now_s=self.now_s)
        if is_last:
            response.fed()
        self.tick(now_s)

    def is_open(self, response_id: str, /) -> bool:
        """Whether a response still takes parts."""
        return response_id in self._responses

    def transcribed(self, item_id: str, text: str | None, /, *, now_s: float, failure: str = "") -> None:
        """Take what was understood of a user's speech.

        Args:
            item_id: of the `Hear` that asked.
            text: the transcript; None where there is none.
            now_s: the clock.
            failure: why there is none.
        """
        self.tick(now_s)
        item = self.conversation.get(item_id)
        self._transcripts.add(item_id, item, text, failure=failure, now_s=self.now_s)
        self.tick(now_s)

    # -- what a response calls --------------------------------------------------------------------

    def send(self, kind: str, /, **fields: Any) -> None:
        """Send a server event."""
        self._effects.append(Send({"type": kind, "event_id": self.new_id("event"), **fields}))

    def send_raw(self, message: str | bytes, /) -> None:
        """Send a message that is no event."""
        self._effects.append(SendRaw(message))

    def place(self, item: Item, response: Response, /) -> None:
        """Put an item that begins into the conversation."""
        if response.in_conversation:
            self.conversation.add(item)
            self._told_item("conversation.item.added", item)

    def placed(self, item: Item, response: Response, /) -> None:
        """Say that an item is done."""
        if response.in_conversation and self.conversation.get(item.id) is item:
            self._told_item("conversation.item.done", item)

    def ended(self, response: Response, /) -> None:
        """The response is over."""
        response.done_at_s = self.now_s
        response.usage = usage.response(response, self.conversation)
        self._responses.pop(response.id, None)
        self._has_spoken = self._has_spoken or response.audio_ms > 0
        self.send("response.done", response=response.told())
        self._watch_idle(response)

    def broken(self, part: Gone | Stuck, /) -> None:
        """The connection is to break, or to hang."""
        if isinstance(part, Gone):
            self.is_over = True
            self._effects.append(Abort() if part.code is None else Close(part.code, ""))

    # -- events of the client ---------------------------------------------------------------------

    def _act(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        act = _ACTS.get(kind) if isinstance(kind, str) else None
        if act is None:
            raise missing("type") if kind is None else invalid(kind, tuple(_ACTS), param="type")
        if self.config["type"] == config.TRANSCRIPTION and kind in _NOT_FOR_TRANSCRIPTION:
            raise Refusal(f"'{kind}' is not supported in a transcription session.", code="invalid_value", param="type")
        getattr(self, act)(event)

    def _update(self, event: Mapping[str, Any]) -> None:
        self.config = config.updated(
            self.config, event.get("session"), has_spoken=self._has_spoken, is_responding=self._active is not None
        )
        self._configure_hearing()
        self.send("session.updated", session=copy.deepcopy(self.config))
        self._remote_servers.list(self.config.get("tools"))

    def _append(self, event: Mapping[str, Any]) -> None:
        text = event.get("audio")
        if isinstance(text, str) and len(text) > APPEND_BYTES * 4 // 3:
            raise Refusal("Invalid 'audio': larger than 15 MiB.", code="string_above_max_length", param="audio")
        for found in self.hearing.append(decoded(text, param="audio", form=self.hearing.form)):
            if isinstance(found, Started):
                self._speech_started(found)
            else:
                self._speech_stopped(found)

    def _commit(self, _event: Mapping[str, Any]) -> None:
        have_ms = self.hearing.buffered_ms
        if have_ms < LEAST_COMMIT_MS:
            raise too_short(have_ms)
        self._add_speech(self.hearing.take())

    def _clear(self, _event: Mapping[str, Any]) -> None:
        self.hearing.clear()
        self._speech_item = None
        self.send("input_audio_buffer.cleared")

    def _create_item(self, event: Mapping[str, Any]) -> None:
        item = self.conversation.create(event.get("item"), after=event.get("previous_item_id"))
        self._told_item("conversation.item.added", item)
        self._told_item("conversation.item.done", item)

    def _retrieve_item(self, event: Mapping[str, Any]) -> None:
        item = self.conversation.find(event.get("item_id"), verb="retriev")
        self.send(
            "conversation.item.retrieved",
            item=item.told(with_audio=True, least_bytes=self.manner.chaos.retrieved_bytes),
        )

    def _truncate_item(self, event: Mapping[str, Any]) -> None:
        item = self.conversation.find(event.get("item_id"), verb="truncat")
        index, end_ms = event.get("content_index"), event.get("audio_end_ms")
        skew_ms = self.manner.chaos.skew_ms
        self.conversation.truncate(item, content_index=index, audio_end_ms=end_ms, skew_ms=skew_ms)
        self.send("conversation.item.truncated", item_id=item.id, content_index=index, audio_end_ms=end_ms)

    def _delete_item(self, event: Mapping[str, Any]) -> None:
        item = self.conversation.find(event.get("item_id"), verb="delet")
        self.conversation.delete(item)
        self.send("conversation.item.deleted", item_id=item.id)

    def _create_response(self, event: Mapping[str, Any]) -> None:
        self._respond(wanted(event.get("response"), self.config, self.conversation, has_spoken=self._has_spoken))

    def _cancel_response(self, event: Mapping[str, Any]) -> None:
        name = event.get("response_id")
        response = self._active if name is None else self._responses.get(name) if isinstance(name, str) else None
        if response is None:
            raise Refusal("Cancellation failed: no active response found", code="response_cancel_not_active")
        response.end("cancelled", reason="client_cancelled")

    def _clear_output(self, _event: Mapping[str, Any]) -> None:
        raise Refusal(
            "'output_audio_buffer.clear' is only supported over WebRTC and SIP.", code="invalid_value", param="type"
        )

    # -- speech -----------------------------------------------------------------------------------

    def _speech_started(self, found: Started) -> None:
        self._speech_item = self.new_id("item")
        self._idle_at_s = None
        self.send("input_audio_buffer.speech_started", audio_start_ms=found.audio_start_ms, item_id=self._speech_item)
        detection = self.config["audio"]["input"]["turn_detection"]
        if self._active is not None and detection.get("interrupt_response", False):
            self._active.end("cancelled", reason="turn_detected")

    def _speech_stopped(self, found: Stopped) -> None:
        self._speech_item = self._speech_item or self.new_id("item")
        self.send("input_audio_buffer.speech_stopped", audio_end_ms=found.audio_end_ms, item_id=self._speech_item)
        self._add_speech(found.audio)
        if self.config["audio"]["input"]["turn_detection"].get("create_response", False):
            self._respond_unasked()

    def _add_speech(self, audio: bytes) -> Item:
        name, self._speech_item = self._speech_item or self.new_id("item"), None
        content = [{"type": "input_audio", "transcript": None}]
        data = {"id": name, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
        item = Item({**data, "content": content}, {0: audio}, form=self.hearing.form)
        self.send("input_audio_buffer.committed", item_id=name, previous_item_id=self.conversation.last_id)
        self.conversation.add(item)
        self._told_item("conversation.item.added", item)
        self._told_item("conversation.item.done", item)
        transcription = self.config["audio"]["input"]["transcription"]
        if transcription is not None and not self.manner.chaos.loses_transcripts:
            self._effects.append(self._transcripts.expect(item, transcription, now_s=self.now_s))
        return item

    def _respond_unasked(self) -> None:
        try:
            self._respond(wanted(None, self.config, self.conversation, has_spoken=self._has_spoken))
        except Refusal as refusal:
            self.send("error", error=refusal.body())

    # -- responses --------------------------------------------------------------------------------

    @property
    def _active(self) -> Response | None:
        """The response on the default conversation, or None."""
        return next((r for r in self._responses.values() if r.in_conversation), None)

    def _respond(self, asked: Wanted) -> None:
        if asked.in_conversation and self._active is not None:
            raise already_active(self._active.id)
        self._idle_at_s = None
        self._remote_servers.list(asked.params.get("tools"))
        conversation_id = self.conversation.id if asked.in_conversation else None
        response = asked.response(self.new_id("resp"), self, manner=self.manner, conversation_id=conversation_id)
        self._responses[response.id] = response
        self._asked += 1
        self.send("response.created", response=response.told())
        if self.manner.has_rate_limits:
            self.send("rate_limits.updated", rate_limits=usage.rate_limits(self._asked))
        if self.manner.thinking_ms:
            response.feed([Wait(self.manner.thinking_ms)], now_s=self.now_s)
        view = asked.view(number=self._asked, session=self.config, model=self.model)
        self._effects.append(Think(response.id, view))

    def _watch_idle(self, response: Response) -> None:
        """`idle_timeout_ms` counts from the end of the playing, which begins with the response."""
        timeout_ms = (self.config["audio"]["input"]["turn_detection"] or {}).get("idle_timeout_ms")
        if timeout_ms is None or response.status != "completed" or not response.in_conversation:
            return
        self._idle_at_s = self.now_s + (response.audio_ms + timeout_ms) / 1_000
        self._idle_from_ms = self.hearing.written_ms

    def _prompt_idle(self) -> None:
        self._idle_at_s = None
        if self.hearing.is_speech or self._active is not None:
            return
        self._speech_item = self.new_id("item")
        self.send(
            "input_audio_buffer.timeout_triggered",
            item_id=self._speech_item,
            audio_start_ms=round(self._idle_from_ms),
            audio_end_ms=round(self.hearing.written_ms),
        )
        self._add_speech(self.hearing.take())
        self._respond_unasked()

    def _expire(self) -> None:
        self.is_over = True
        self.send("error", error=expired(self.manner.session_s).body())
        self._effects.append(Close(1001, "session expired"))

    # -- telling ----------------------------------------------------------------------------------

    def _told_item(self, kind: str, item: Item) -> None:
        self.send(kind, previous_item_id=self.conversation.previous_id(item.id), item=item.told())

    def _configure_hearing(self) -> None:
        hearing = self.config["audio"]["input"]
        self.hearing.configure(config.FORMATS[hearing["format"]["type"]], hearing["turn_detection"])
