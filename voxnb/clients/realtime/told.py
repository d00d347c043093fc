"""What a realtime client is told by its sessions, its voice and its tools, and what it makes of that: events, turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from voxnb.clients.base import Client
from voxnb.clients.ends import error_payload
from voxnb.clients.realtime.counting import ResponseClocks
from voxnb.clients.realtime.hearing import Sound
from voxnb.clients.realtime.keeper import Keeper
from voxnb.clients.realtime.link import Ended, Link
from voxnb.clients.realtime.memory import CallMemory
from voxnb.clients.realtime.scribe import Scribe
from voxnb.clients.realtime.tooling import CallTools
from voxnb.clients.realtime.voice import VoiceUnit
from voxnb.errors import (
    APIStatusError,
    BridgeError,
    ClientClosedError,
    RemoteProtocolError,
    StoreError,
    VoxnbError,
)
from voxnb.events import WIRE_TYPES, Events, RealtimeAPIEvents, SessionEvents, WebSocketEvents
from voxnb.media.clock import GAUGE
from voxnb.media.stream import Stream
from voxnb.media.unit import MediaUnit
from voxnb.params import RealtimeAPIClientType
from voxnb.runtime.stats import CallFacts
from voxnb.store.media import MediaRow
from voxnb.wire.realtime.heir import RESTORED, begin_with
from voxnb.wire.realtime.item import Item
from voxnb.wire.realtime.names import session_of
from voxnb.wire.realtime.replay import items_of, messages_of
from voxnb.wire.realtime.response import Response
from voxnb.wire.realtime.session import RealtimeSession, Received

NAMES: Final[Mapping[str, str]] = {kind: str(event.value) for event, kind in WIRE_TYPES[RealtimeAPIEvents].items()}
UNTOLD: Final = frozenset({"response.output_audio.delta"})
"""Sound goes to the media units, not to listeners: VoxEngine has no constant for it."""

UNKNOWN: Final = RealtimeAPIEvents.Unknown.value

WRITTEN_S: Final = 3.0
"""How long a new session waits for what was said in the old one to be written."""

WRITTEN_SOME_TIME_S: Final = 30.0
"""Where the old one is only long: without its summary the new one would be as long."""

TRANSCRIBER: Final = "gpt-4o-mini-transcribe"
"""Writes down what the user says, where a call is remembered and its settings name nobody."""

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


class Told(VoiceUnit, Client):
    """The side of a realtime client that its parts know."""

    _kind: RealtimeAPIClientType
    _keeper: Keeper
    _clocks: ResponseClocks
    _tools: CallTools
    _sums: Counter[str]
    _memory: CallMemory | None
    _scribe: Scribe | None
    _lost_session: RealtimeSession | None = None  # until something is said in the one that takes its place
    _last_numbers: Mapping[str, Any] = MappingProxyType({})
    connect_s: float | None

    # -- what goes out ------------------------------------------------------------------------

    def _put(self, command: dict[str, Any]) -> None:
        if command["type"] == "session.update":
            command["session"].setdefault("type", self._kind.value)
            self._note_formats(session_of(command["session"]))
            told = command["session"].get("instructions")
            if self._memory is not None and isinstance(told, str):
                self._memory.instruct(told)
        self._keeper.put(command)

    def _append(self, sound: Sound) -> None:
        self._keeper.append(sound)

    def _go_on(self, response_id: str, command: dict[str, Any]) -> None:
        """Ask for the next response, unless the model has spoken since this one."""
        if self._state.responses.newest in (response_id, None):
            self._put(command)

    # -- numbers ------------------------------------------------------------------------------

    def _numbers(self) -> dict[str, Any]:
        """What `RealtimeStatistics` has beyond what every client counts."""
        keeper, link, sums = self._keeper, self._keeper.link, Counter(self._sums)
        own: dict[str, Any] = {"waiting": self._state.waiting, "audio_dropped_ms": keeper.hearing.dropped_ms}
        own |= {"sessions": keeper.sessions, "reconnects": keeper.reconnects, "audio_unheard_ms": self._unheard_ms}
        if link is not None:
            sums.update(link.counts())
            own["waiting"] += len(link.outbox)
            own["audio_dropped_ms"] += link.outbox.dropped_ms
            own["deepest"] = link.outbox.deepest
        queues = [] if link is None else [link.outbox.facts()]
        queues.append({"queue": "media loop", **GAUGE.late.facts()})
        own["queues"] = queues
        ways = (("out", self._outgoing), ("in", self._incoming))
        streams = tuple({"direction": way, **one.statistics()} for way, found in ways for one in list(found.values()))
        return {**sums, **own, "streams": streams, **self._last_numbers}

    def _keep_numbers(self) -> None:
        """Before the end: what streams and queues did is still told when they are gone."""
        numbers = self._numbers()
        self._last_numbers = {name: numbers[name] for name in ("streams", "queues")}

    # -- what the keeper asks and tells -------------------------------------------------------

    async def prepare(self) -> None:
        """Before the first session: what its numbers need."""
        await self._clocks.prepare()

    async def far_end_is_up(self) -> None:
        """Before a lost session is begun again: wait for a far end that is known to be starting."""

    @property
    def memory(self) -> CallMemory | None:
        """Where what is said is written, or None."""
        return self._memory

    @property
    def scribe(self) -> Scribe | None:
        """Who writes it, or None."""
        return self._scribe

    @property
    def tools_here(self) -> CallTools:
        """Who runs tools."""
        return self._tools

    @property
    def shortens(self) -> bool:
        """Whether a conversation that has grown long can be made shorter."""
        return self._memory is not None

    def received(self, link: Link, received: Received, *, is_current: bool) -> None:
        """An event was taken in."""
        self._sums["problems"] += len(received.problems)
        if received.audio and is_current:  # most of what comes: only the ear wants it
            self._clocks.sounded(received.response_id)
            self._speak(received)
            return
        for event in received.events:
            kind = event["type"]
            facts = self._clocks.look(link, kind, event)
            if is_current:
                self._voice(kind, event, received)
            if kind in UNTOLD:
                continue
            if is_current:
                self._note(link.session, kind, event=event, facts=facts)
            self.dispatcher.emit(NAMES.get(kind, UNKNOWN), event, context=None)

    def _note(self, session: RealtimeSession, kind: str, *, event: Mapping[str, Any], facts: CallFacts | None) -> None:
        """What an event means for tools and memory."""
        scribe = self._scribe
        if kind == "input_audio_buffer.committed":
            self._keeper.hearing.committed()
        elif kind == "conversation.item.added":
            item = session.item(event["item"]["id"])
            if item is None or item.id.startswith(RESTORED):
                return
            if item.role == "user":
                self._lost_session = None
                self._tools.heard_user()
            told = item.role in ("user", "system") or item.type == "function_call_output"
            if scribe is not None and told:
                scribe.said(item, is_heard=_is_transcribed(session.config))
        elif kind == "response.created":
            self._lost_session = None
        elif kind == "response.done":
            response = session.responses.get(event["response"]["id"])
            if response is None or not response.in_conversation:
                return
            items = session.responses.items_of(response)
            if scribe is not None:
                scribe.answered(response, items, facts)
            if response.status == "completed":
                self._tools.answer(response.id, [item for item in items if item.type == "function_call"])
        elif scribe is not None and kind == f"{_TRANSCRIPTION}.completed":
            scribe.understood(event["item_id"], event["transcript"])
        elif scribe is not None and kind == f"{_TRANSCRIPTION}.failed":
            scribe.understood(event["item_id"], None)

    def wrong(self, error: RemoteProtocolError, event: Any) -> None:
        """What came out of order or shape is told and passed on; the session goes on."""
        self._sums["refused_events"] += 1
        payload = dict(event) if isinstance(event, Mapping) else {"message": str(event)[:1000]}
        self.dispatcher.emit(NAMES.get(error.event_type, UNKNOWN), payload, context=None)
        facts = {"type": "RemoteProtocolError", "message": str(error), "event_type": error.event_type}
        self._emit(RealtimeAPIEvents.WebSocketError, facts)

    def tell_open(self) -> None:
        """The first connection is there."""
        self._tell_open()

    def tell_failure(self, error: VoxnbError) -> None:
        """No session could be begun."""
        payload = error_payload(error)
        if isinstance(error, APIStatusError):
            self._emit(RealtimeAPIEvents.HTTPResponse, {**payload, "body": error.body})
        self._emit(RealtimeAPIEvents.WebSocketError, payload)

    def session_lost(self, ended: Ended) -> None:
        """A session is lost and will be begun again."""
        facts = {"code": ended.code, "reason": ended.reason, "message": self._lost_text(ended)}
        self.emit(SessionEvents.SessionLost.value, facts, context=None)

    def session_leaves(self, session: RealtimeSession) -> None:
        """A session is no longer the current one."""
        self._session_over(session)

    def _last_session_over(self, session: RealtimeSession) -> None:
        """There will be no other: what it was saying is kept as far as it was heard."""
        self._session_over(session)
        under_way = self._under_way(session)
        if under_way is not None and self._scribe is not None:
            self._scribe.answered(*under_way, None)

    def _under_way(self, session: RealtimeSession) -> tuple[Response, list[Item]] | None:
        """The answer that is being made, and what of it has come; that of a lost session until something is said in the next."""
        session = self._lost_session or session
        response = session.responses.get(session.active_response)
        said = [] if response is None else session.responses.items_of(response)
        said = [item for item in said if item.type == "message"]
        return (response, said) if response is not None and said else None

    def session_followed(self, name: str, facts: Mapping[str, Any]) -> None:
        """A new session has taken the place of one."""
        self.emit(SessionEvents[name].value, facts, context=None)

    def session_over(self, ended: Ended) -> None:
        """The last session has ended, and not by us."""
        self._keep_numbers()
        self._over({"type": "closed", "message": self._lost_text(ended), "code": ended.code}, ended)

    def bridge_lost(self, error: BridgeError, ended: Ended) -> None:
        """The process in which the session was has ended."""
        self._over({"type": "BridgeError", "message": str(error), "exit_code": error.exit_code}, ended)

    def media_over(self) -> None:
        """The last session has ended over there: nothing sounds here either."""
        self._end_media()

    def _over(self, facts: Mapping[str, Any], ended: Ended) -> None:
        self._emit(RealtimeAPIEvents.WebSocketError, facts)
        self._end_media()
        told = {"code": ended.code, "reason": ended.reason, "wasClean": ended.was_clean}
        self.dispatcher.emit(WebSocketEvents.Close.value, {"websocket": self._socket_id, **told}, context=None)
        self.nothing_more_comes()

    @property
    def _end(self) -> VoxnbError | None:
        """Why nothing can be said any more, though the client is open."""
        keeper, over = self._keeper, self._keeper.over
        if keeper.error is not None or over is None:
            return keeper.error
        return ClientClosedError(f"the connection has ended ({self._how(over)}); make a new client")

    def nothing_more_comes(self) -> None:
        """The last session has ended: who waits for an event of it is told."""
        if (error := self._end) is not None:
            self.dispatcher.give_up(("RealtimeAPIEvents", "SessionEvents"), error)

    def _lost_text(self, ended: Ended) -> str:
        return f"{self.endpoint.host} ended the connection ({self._how(ended)})"

    def _how(self, ended: Ended) -> str:
        said = self.transport.hide(ended.refusal or ended.reason)
        return f"code {ended.code}{': ' if said else ''}{said}"

    def is_quiet(self) -> bool:
        """Whether nothing happens: nobody speaks, answers or is asked, nothing sounds and no tool runs."""
        return self._state.is_quiet and not self._is_playing and not self._tools.is_busy

    def is_between_turns(self) -> bool:
        """Whether a session may be replaced now."""
        return self._state.is_between_turns and self.is_quiet()

    def spoken_messages(self, old: RealtimeSession) -> list[dict[str, Any]]:
        """The conversation of a session that was lost, as far as it was heard."""
        messages = messages_of(old.items, heard_ms=self._heard_so_far())
        self._session_over(old)
        # Lost again before anything was said: it is what the first one was saying.
        self._lost_session = self._lost_session or old
        return messages

    async def first_session(self, early: RealtimeSession) -> RealtimeSession:
        """The first session, told what its conversation had said before."""
        if self._memory is None:
            return early
        instructions, messages, _ = await self._memory.so_far(shorten=False)
        settings: dict[str, Any] = {"instructions": instructions} if instructions else {}
        if self._kind is RealtimeAPIClientType.REALTIME:
            settings["audio"] = {"input": {"transcription": {"model": TRANSCRIBER}}}
        return begin_with(early, messages=messages, settings=settings, kind=self._kind.value)

    async def conversation_messages(
        self, session: RealtimeSession, reason: str
    ) -> tuple[frozenset[str], list[dict[str, Any]], bool]:
        """What a new session is told of the conversation.

        Returns:
            The items that it covers, messages, and whether a summary stands for some of what was said.
        """
        memory, scribe, shorten = self._memory, self._scribe, reason in ("long", "expiring")
        while memory is not None and scribe is not None:
            known = frozenset(item.id for item in session.items)
            if not await scribe.written(timeout_s=WRITTEN_SOME_TIME_S if reason == "long" else WRITTEN_S):
                break
            try:
                _, messages, shortened = await memory.so_far(shorten=shorten)
            except StoreError:  # whoever writes there tells of it; the call goes on with what its session knows
                break
            if known == frozenset(item.id for item in session.items):
                return known, messages, shortened
            # Somebody spoke meanwhile: whether the store told of that cannot be known. It is shorter already.
            shorten = False
            await self._keeper.boundary(session)
        return frozenset(item.id for item in session.items), messages_of(session.items), False

    def items_since(self, session: RealtimeSession, known: frozenset[str]) -> list[dict[str, Any]]:
        """What was said after `conversation_messages`; who only writes down needs to know of none."""
        if self._kind is RealtimeAPIClientType.TRANSCRIPTION:
            return []
        return items_of(messages_of(item for item in session.items if item.id not in known))

    def count(self, link: Link) -> None:
        """A link ends: its numbers stay."""
        self._sums.update(link.counts())

    # -- what the voice tells -----------------------------------------------------------------

    def _told_interrupted(self, facts: dict[str, Any]) -> None:
        self.emit(SessionEvents.Interrupted.value, facts, context=None)

    def _spoken_settled(self, item: Item, heard_ms: float) -> None:
        if self._scribe is not None:
            self._scribe.heard(item, heard_ms)
        self._keeper.moved()

    def _fed(self, stream: Stream) -> None:
        super()._fed(stream)
        self._keep_stream(stream, direction="out", unit=stream.target)

    def _closed(self, stream: Stream) -> None:
        super()._closed(stream)
        self._keep_stream(stream, direction="in", unit=stream.source)

    def _keep_stream(self, stream: Stream, *, direction: str, unit: MediaUnit) -> None:
        """A stream has ended: it becomes a row of the store's media table."""
        if self._memory is not None and stream.traffic.frames:
            self._memory.keep_media(_row_of(stream, direction=direction, unit=unit))

    def _open_rows(self) -> list[MediaRow]:
        """The rows that its streams would become if they ended now."""
        ways = (("out", self._outgoing), ("in", self._incoming))
        open_now = [(way, one) for way, found in ways for one in found.values() if one.traffic.frames]
        return [_row_of(one, direction=way, unit=one.target if way == "out" else one.source) for way, one in open_now]

    def _media_started(self, facts: dict[str, Any]) -> None:
        self.emit(Events.WebSocketMediaStarted.value, facts, context=None)

    def _media_ended(self, facts: dict[str, Any]) -> None:
        self._keeper.moved()
        self.emit(Events.WebSocketMediaEnded.value, facts, context=None)

    def _emit(self, event: RealtimeAPIEvents, payload: Mapping[str, Any]) -> None:
        self.emit(event.value, payload, context=None)


def _row_of(stream: Stream, *, direction: str, unit: MediaUnit) -> MediaRow:
    path = getattr(unit, "path", None)
    return stream.row(direction=direction, path=None if path is None else str(path))


def _is_transcribed(config: Mapping[str, Any]) -> bool:
    """Whether a session writes down what the user says."""
    audio = config.get("audio")
    told = audio.get("input") if isinstance(audio, Mapping) else None
    return isinstance(told, Mapping) and bool(told.get("transcription"))
