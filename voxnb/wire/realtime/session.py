"""`RealtimeSession`: one session of the Realtime API from its client's side.

Rule 1: an event is taken in whole or not at all. What is out of order or shape raises `RemoteProtocolError` and leaves
the session as it was; the caller may go on.
Rule 2: where servers are known to be sloppy (a null ``previous_item_id``, a part that was not announced) the event is
taken in and what was odd is noted in `Received.problems`.
Rule 3: what is not known is passed on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.wire.realtime import field as read
from voxnb.wire.realtime.command import check_command
from voxnb.wire.realtime.item import G711_BYTES_PER_MS, PCM_BYTES_PER_MS, Item
from voxnb.wire.realtime.ledger import ItemLedger
from voxnb.wire.realtime.names import SERVER_EVENTS, events_of, session_of
from voxnb.wire.realtime.refusal import Severity, real_length_ms, severity
from voxnb.wire.realtime.response import Responses
from voxnb.wire.realtime.sequence import Sequence
from voxnb.wire.realtime.settings import Settings

Event = dict[str, Any]


@dataclass(slots=True)
class Received:
    """What an event came to.

    Attributes:
        events: the event under today's names (of the beta's, sometimes two).
        send: commands that may go out now.
        audio: sound of the model that it brings, as the session's output format.
        item_id, content_index, response_id: whose sound.
        known: it is an event of the interface.
        severity: of an ``error``; else None.
        refused: the command that was refused, where it is known.
        problems: what was odd about it.
    """

    events: tuple[Event, ...] = ()
    send: tuple[Event, ...] = ()
    audio: bytes = b""
    item_id: str = ""
    content_index: int = 0
    response_id: str = ""
    known: bool = True
    severity: Severity | None = None
    refused: Event | None = None
    problems: list[str] = field(default_factory=list)


SOUND: Final = "response.output_audio.delta"
CREATE: Final = "conversation.item.create"


class RealtimeSession:
    """The state of one session.

    Args:
        numbered: where the ids of its commands begin: after those of a session whose commands may be put here, too.

    Attributes:
        id: the server's id of it, or None before it is there.
        config: the session object as the server last told it.
        output_bytes_per_ms: of the model's sound: 48 as PCM, 8 as G.711.
        expires_at: UNIX seconds when the server will end it, or None where it does not say.
        context_tokens: tokens of the conversation as the last response reported them.
        settings: what was asked for.
        items: the conversation's items.
        responses: its responses.
        speech_item: id of the item that the user is speaking, or None while nobody speaks.
        problems: how many oddities were seen.
        numbered: how many commands got their id here or before.
        refusal: what the server said where no session will be had any more (a key, a quota), or None.
        open_calls: id → call that a session before this one was not given a result for: it is told with its result.
    """

    def __init__(self, *, numbered: int = 0) -> None:
        self.id: str | None = None
        self.config: Mapping[str, Any] = {}
        self.output_bytes_per_ms = PCM_BYTES_PER_MS
        self.expires_at: float | None = None
        self.context_tokens = 0
        self.settings = Settings()
        self.items = ItemLedger()
        self.responses = Responses(self.items)
        self.speech_item: str | None = None
        self.problems = 0
        self.refusal: str | None = None
        self.open_calls: dict[str, Event] = {}
        self._sequence = Sequence()
        self.numbered = numbered

    # -- out ----------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the session is there, so that commands go out."""
        return self._sequence.ready

    @property
    def active_response(self) -> str | None:
        """Id of the conversation's response under way, or None."""
        return self._sequence.active

    @property
    def waiting(self) -> int:
        """Commands that wait: for the session, or for a response to end."""
        return self._sequence.early + self._sequence.held

    @property
    def is_quiet(self) -> bool:
        """Whether nobody speaks, and no answer is being made or was asked for."""
        return not (self.active_response or self.requested or self.waiting or self.speech_item)

    @property
    def is_between_turns(self) -> bool:
        """Whether nobody speaks and nothing that was said waits for an answer."""
        if not self.is_quiet:
            return False
        last = self.items.last
        if self.config.get("type") == "transcription":  # nobody answers: what was said is over when it is written down
            return last is None or last.transcription in ("completed", "failed")
        return last is None or (last.type == "message" and last.role in ("assistant", "system"))

    @property
    def unanswered(self) -> tuple[Event, ...]:
        """The `response.create` that no response has answered; what a new session is to be asked again."""
        return self._sequence.unanswered

    @property
    def unsent(self) -> tuple[Event, ...]:
        """Commands that wait for the session to be there."""
        return self._sequence.unsent

    @property
    def requested(self) -> str | None:
        """Event id of a `response.create` that was sent and not answered yet."""
        return self._sequence.requested

    def command(self, kind: str, parameters: Mapping[str, Any] | None = None, /) -> tuple[Event, ...]:
        """Ask for something.

        Args:
            kind: the type of a client event.
            parameters: its fields without ``type``; an ``event_id`` is added where there is none.

        Returns:
            What is to be sent now, in order: mostly this command; nothing where it has to wait.

        Raises:
            ParameterError: no such command, or a field that it must have is missing.
        """
        return self.put(check_command(kind, parameters))

    def put(self, command: Event) -> tuple[Event, ...]:
        """`command` for one that `check_command` has made."""
        kind, event = command["type"], dict(command)
        call = self.open_calls.pop(str(event["item"].get("call_id")), None) if kind == CREATE else None
        before = () if call is None else self.command(CREATE, {"item": call})
        if event.get("event_id") is None:
            self.numbered += 1
            event["event_id"] = f"event_voxnb_{self.numbered}"
        if kind == "session.update":
            event["session"] = session_of(event["session"])
            self.settings.asked(event["event_id"], event["session"])
        elif kind == CREATE:
            self.items.offered(event)
        return (*before, *self._sequence.put(event))

    def give_up_requested(self) -> tuple[Event, ...]:
        """Wait no longer for a response that was asked for and never came; what may go out now."""
        return self._sequence.forget_requested()

    # -- in -----------------------------------------------------------------------------------

    def receive(self, event: Any) -> Received:
        """Take in what the server sent.

        Args:
            event: the decoded message.

        Returns:
            What it came to.

        Raises:
            RemoteProtocolError: it is out of order or shape; nothing has changed.
        """
        if type(event) is dict and event.get("type") == SOUND and self._sequence.ready:
            found = Received(events=(event,))  # most of what comes: nothing of it is renamed
            self._sound(event, found)
            self.problems += len(found.problems)
            return found
        if not isinstance(event, Mapping):
            raise read.wrong(event, f"({type(event).__name__})")
        kind = read.text(event, "type")
        found = Received(events=tuple(events_of(event)))
        if kind == "conversation.item.created" and self._is_known_item(event):
            # Some servers send the beta's event beside today's two.
            found.known = False
            found.events = (dict(event),)
            return found
        found.known = found.events[0]["type"] in SERVER_EVENTS
        if not self.ready and found.events[0]["type"] not in ("session.created", "error"):
            raise read.wrong(event, "before session.created")
        for said in found.events:
            self._take(said, found)
        self.problems += len(found.problems)
        return found

    def _is_known_item(self, event: Mapping[str, Any]) -> bool:
        item = event.get("item")
        known = self.items.get(item.get("id")) if isinstance(item, Mapping) else None
        return known is not None and known.added

    def _take(self, event: Event, found: Received) -> None:
        kind: str = event["type"]
        if kind in self.SINGLE:
            self.SINGLE[kind](self, event, found)
        elif kind.startswith("conversation.item."):
            self.items.take(event, found.problems)
        elif kind.startswith("response."):
            self._take_response(event, found)

    def _take_response(self, event: Event, found: Received) -> None:
        kind = event["type"]
        if kind == "response.created":
            response = self.responses.create(event, active=self._sequence.active)
            if response.in_conversation:
                self._sequence.begun(response.id)
        elif kind == "response.done":
            response = self.responses.end(event, found.problems)
            if response.in_conversation and response.total_tokens:
                self.context_tokens = response.total_tokens
            found.send += self._sequence.ended(response.id)
        elif kind == SOUND:
            self._sound(event, found)
        else:
            self.responses.take(event, found.problems)

    def _sound(self, event: Event, found: Received) -> None:
        found.audio = self.responses.sound(event, self.output_bytes_per_ms, found.problems)
        found.item_id, found.content_index = event["item_id"], event.get("content_index", 0)
        found.response_id = event["response_id"]

    def _bytes_per_ms(self) -> int:
        audio = self.config.get("audio")
        output = audio.get("output") if isinstance(audio, Mapping) else None
        asked = output.get("format") if isinstance(output, Mapping) else None
        kind = asked.get("type") if isinstance(asked, Mapping) else None
        return G711_BYTES_PER_MS if kind in ("audio/pcmu", "audio/pcma") else PCM_BYTES_PER_MS

    def _session(self, event: Event, found: Received) -> None:
        session = read.mapping(event, "session")
        if event["type"] == "session.created":
            if self.ready:
                raise read.wrong(event, "a second time")
            session_id = session.get("id")
            self.id = session_id if isinstance(session_id, str) else None
            self._configure(session)
            found.send += self._sequence.opened()
        else:
            self._configure(session)
            self.settings.accepted()

    def _configure(self, session: Mapping[str, Any]) -> None:
        self.config = copy.deepcopy(dict(session))  # the event is the listeners'
        self.output_bytes_per_ms = self._bytes_per_ms()
        expires = session.get("expires_at")
        if isinstance(expires, int | float) and not isinstance(expires, bool) and 0 < expires < 1e12:
            self.expires_at = float(expires)

    def _error(self, event: Event, found: Received) -> None:
        error = event.get("error")
        facts: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
        found.severity = severity(facts)
        if found.severity == "fatal":
            said = facts.get("message") or facts.get("code")
            self.refusal = self.refusal or str(said)
        command, send = self._sequence.refused(facts)
        found.refused, found.send = command, found.send + send
        if command is None:
            return
        if command["type"] == "session.update":
            self.settings.refused(command["event_id"])
        elif command["type"] == "conversation.item.create":
            self.items.withdrawn(command)
        elif command["type"] == "conversation.item.truncate":
            self.items.not_cut(command["item_id"], real_length_ms(facts))

    def _speech(self, event: Event, found: Received) -> None:  # noqa: ARG002 - all are called alike
        item_id = read.text(event, "item_id")
        if event["type"] == "input_audio_buffer.speech_started":
            read.whole(event, "audio_start_ms")
            if self.speech_item is not None:
                raise read.wrong(event, f"while {self.speech_item!r} is being spoken")
            self.items.reserve(event, item_id)
            self.speech_item = item_id
            return
        read.whole(event, "audio_end_ms")
        if self.speech_item is None:
            raise read.wrong(event, "without speech_started")
        if self.speech_item != item_id:
            raise read.wrong(event, f"for {item_id!r} while {self.speech_item!r} is being spoken")
        self.speech_item = None

    def _committed(self, event: Event, found: Received) -> None:
        self.items.commit(event, found.problems)
        if self.speech_item == event["item_id"]:
            self.speech_item = None  # committed by hand in the middle of speech

    def _cleared(self, event: Event, found: Received) -> None:  # noqa: ARG002 - all are called alike
        self.speech_item = None

    SINGLE: Final = {
        "session.created": _session,
        "session.updated": _session,
        "error": _error,
        "input_audio_buffer.speech_started": _speech,
        "input_audio_buffer.speech_stopped": _speech,
        "input_audio_buffer.committed": _committed,
        "input_audio_buffer.cleared": _cleared,
    }

    # -- what is asked of it ------------------------------------------------------------------

    def item(self, item_id: str) -> Item | None:
        """An item that is or was in the conversation."""
        return self.items.get(item_id)
