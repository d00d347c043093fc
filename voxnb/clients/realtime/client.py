"""`RealtimeAPIClient`: VoxEngine's realtime client, over a WebSocket of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, Self

from voxnb.clients import base
from voxnb.clients.address import Endpoint
from voxnb.clients.base import Client
from voxnb.clients.ends import error_payload
from voxnb.clients.handle import Handle
from voxnb.clients.realtime.commands import RealtimeCommands
from voxnb.clients.realtime.counting import RealtimeStatistics, ResponseClocks, taken
from voxnb.clients.realtime.keeper import Keeper
from voxnb.clients.realtime.link import Ended, Link
from voxnb.clients.realtime.voice import VoiceUnit
from voxnb.errors import (
    APIError,
    APIStatusError,
    ClientClosedError,
    NotSupportedError,
    ParameterError,
    RemoteProtocolError,
)
from voxnb.events import WIRE_TYPES, Events, RealtimeAPIEvents, SessionEvents, WebSocketEvents
from voxnb.params import DEFAULT_REALTIME_URL, ChatParameters, RealtimeParameters, defaults, takes
from voxnb.runtime import loop
from voxnb.wire.realtime.item import Item
from voxnb.wire.realtime.names import session_of
from voxnb.wire.realtime.policy import SessionPolicy
from voxnb.wire.realtime.replay import items_of, messages_of
from voxnb.wire.realtime.session import RealtimeSession, Received

DRAIN_S: Final = 0.05
"""How long close() lets what waits go out; with the close itself it is at most a quarter of a second."""

NOT_HERE: Final = (
    "store_context", "conversation", "store", "policy", "summary_model", "summary_prompt", "summary_request",
    "summary_client", "openai_client", "tools", "run_tools",
)  # fmt: skip
"""Parameters of the text clients that a realtime client does not take."""

NAMES: Final[Mapping[str, str]] = {kind: str(event.value) for event, kind in WIRE_TYPES[RealtimeAPIEvents].items()}
UNTOLD: Final = frozenset({"response.output_audio.delta"})
"""Sound goes to the media units, not to listeners: VoxEngine has no constant for it."""

UNKNOWN: Final = RealtimeAPIEvents.Unknown.value


class RealtimeAPIClient(RealtimeCommands, VoiceUnit, Client):
    """A realtime session: speech or text in, speech or text out, every server event as an event here.

    Making one does nothing yet; `connect` (or ``with client:``) begins the session. It is a media unit: a call that
    sends its media here is heard by the model, and `send_media_to` lets a unit hear the answers. Parameters in
    VoxEngine's spelling or Python's, as keywords or one dict; see `RealtimeParameters`.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
    """

    EVENTS = RealtimeAPIEvents
    CONNECTOR = "/openai/realtime"
    STICKY = ("ConnectorInformation", "SessionCreated", "HTTPResponse", "WebSocketError")
    PUBLIC = (
        "clear_media_buffer",
        "connect",
        "connected",
        "conversation_item_create",
        "conversation_item_delete",
        "conversation_item_retrieve",
        "conversation_item_truncate",
        "input_audio_buffer_clear",
        "input_audio_buffer_commit",
        "response_cancel",
        "response_create",
        "rollover",
        "send_media_to",
        "session",
        "session_update",
        "stop_media_to",
        "streams",
        "waterfall",
    )

    @takes(RealtimeParameters)
    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **given: Any) -> None:
        p = RealtimeParameters.parse({**(parameters or {}), **given})
        usual = defaults(RealtimeParameters)
        for name in NOT_HERE:
            if getattr(p, name) != usual[name]:
                raise ParameterError(f"{name} is not for realtime clients; leave it out", name=name)
        policy = SessionPolicy.of(p.session_policy)
        Client.__init__(self, p)
        self._kind, self._model, self.connect_s = p.type, p.model, p.timeout_s
        self._keeper = Keeper(self, kind=p.type, model=p.model, policy=policy)
        self._connecting: Future[Self] | None = None
        self._connect_task: asyncio.Task[Any] | None = None
        self._clocks = ResponseClocks(self.counters, model=p.model)
        self._sums = {"messages_sent": 0, "messages_received": 0, "problems": 0, "refused_events": 0}
        self._begin_voice(barge_in=p.barge_in, session=session_of(p.session))
        first = {**({"instructions": p.instructions} if p.instructions else {}), **p.session}
        if first:
            self.session_update(session=first)
        self._open()

    def _resolve(self, parameters: ChatParameters) -> tuple[Endpoint, Any]:
        if parameters.base_url == "local":
            raise NotSupportedError(
                "there is no embedded realtime server in this version; voxnb.testing.server(…, realtime=True) is one "
                "with scripted replies",
                name='base_url="local"',
                instead="voxnb.testing.server",
            )
        if parameters.base_url == DEFAULT_REALTIME_URL:
            parameters = replace(parameters, base_url=None)
        return super()._resolve(parameters)

    def _open(self) -> None:
        self._tell_created()

    @property
    def _state(self) -> RealtimeSession:  # type: ignore[override]  # the keeper replaces it
        return self._keeper.state

    # -- the connection -----------------------------------------------------------------------

    def connect(self) -> Handle[Self]:
        """Begin the session; a handle that is done when the session is there.

        Block with ``.result()``, ``await`` it, or write ``with client:``. While it runs, and once it is done, a second
        call is the same; after a failure it tries again.

        Raises:
            ClientClosedError: after close().

        The handle raises:
            AuthenticationError: the key was refused.
            APIError: nothing listens there, no answer in time, or another refusal.
            NotSupportedError: the websockets package is missing.
        """
        with self._lock:
            self._check_open()
            found = self._connecting
            if found is None or (found.done() and found.exception() is not None):
                found = self._connecting = loop.submit(self._begin_session())
        return Handle(found, name="connect")

    @property
    def connected(self) -> bool:
        """Whether the session is there now."""
        return self._keeper.link is not None and not self._closing

    @property
    def session(self) -> Mapping[str, Any]:
        """The session as the server last told it; empty before it is there."""
        return dict(self._state.config)

    def rollover(self) -> Handle[bool]:
        """Replace the session by a new one with the same settings and conversation, at the next boundary of turns.

        It happens by itself before a session ends (see `SessionPolicy`); call it where a server seems to be stuck.

        Returns:
            A handle; its result is False where the session ended first.

        The handle raises:
            APIError: no new session could be begun; the old one goes on.
        """
        self._check_open()
        return Handle(loop.submit(self._keeper.replace("asked")), name="rollover")

    async def _begin_session(self) -> Self:
        self._connect_task = asyncio.current_task()
        try:
            await self._keeper.connect()
        except asyncio.CancelledError:
            if self._closing:
                raise ClientClosedError("the client was closed while it connected") from None
            raise
        except APIError as error:
            self.tell_failure(error)
            raise
        return self

    async def _stop(self) -> dict[str, Any] | None:
        connecting = self._connect_task
        if connecting is not None and not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
        self._end_media()
        await self._keeper.close(drain_s=DRAIN_S)
        return None if self._keeper.over is not None else dict(base.NORMAL_CLOSE)

    def __enter__(self) -> Self:
        try:
            return self.connect().result()
        except BaseException:
            self.close()
            raise

    async def __aenter__(self) -> Self:
        try:
            return await self.connect()
        except BaseException:
            await loop.wait_async(self._begin_close())
            raise

    # -- what goes out ------------------------------------------------------------------------

    def _command(self, command: dict[str, Any]) -> None:
        self._check_open()
        over = self._keeper.over
        if over is not None:
            raise ClientClosedError(f"the connection has ended (code {over.code}); make a new client")
        self._do(self._put, command)

    def _do(self, work: Callable[..., None], *args: Any) -> None:
        """Run something on the background loop: now, if this is it."""
        if loop.on_loop():
            work(*args)
        else:
            loop.call_soon(work, *args)

    def _put(self, command: dict[str, Any]) -> None:
        if command["type"] == "session.update":
            command["session"].setdefault("type", self._kind.value)
            self._note_formats(session_of(command["session"]))
        self._keeper.put(command)

    def _append(self, sound: bytes, audio_ms: float) -> None:
        self._keeper.append(sound, audio_ms)

    # -- what the keeper asks and tells -------------------------------------------------------

    shortens = False
    """Whether a conversation that has grown long can be made shorter."""

    def received(self, link: Link, received: Received, *, is_current: bool) -> None:
        """An event was taken in."""
        self._sums["problems"] += len(received.problems)
        for event in received.events:
            kind = event["type"]
            self._clocks.look(link, kind, event)
            if is_current:
                self._voice(kind, event, received)
            if kind not in UNTOLD:
                self.dispatcher.emit(NAMES.get(kind, UNKNOWN), event, context=None)

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

    def tell_failure(self, error: APIError) -> None:
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

    def session_followed(self, name: str, facts: Mapping[str, Any]) -> None:
        """A new session has taken the place of one."""
        self.emit(SessionEvents[name].value, facts, context=None)

    def session_over(self, ended: Ended) -> None:
        """The last session has ended, and not by us."""
        facts = {"type": "closed", "message": self._lost_text(ended), "code": ended.code}
        self._emit(RealtimeAPIEvents.WebSocketError, facts)
        self._end_media()
        told = {"code": ended.code, "reason": ended.reason, "wasClean": ended.was_clean}
        self.dispatcher.emit(WebSocketEvents.Close.value, {"websocket": self._socket_id, **told}, context=None)

    def _lost_text(self, ended: Ended) -> str:
        said = f": {ended.reason}" if ended.reason else ""
        return f"{self.endpoint.host} ended the connection (code {ended.code}{said})"

    def is_between_turns(self) -> bool:
        """Whether a session may be replaced now."""
        return self._state.is_between_turns and not self._is_playing

    def spoken_messages(self, old: RealtimeSession) -> list[dict[str, Any]]:
        """The conversation of a session that was lost, as far as it was heard."""
        messages = messages_of(old.items, heard_ms=self._heard_so_far())
        self._session_over(old)
        return messages

    async def conversation_messages(
        self, session: RealtimeSession, reason: str
    ) -> tuple[frozenset[str], list[dict[str, Any]], bool]:
        """What a new session is told of the conversation.

        Returns:
            The items that it covers, messages, and whether they are shorter than what was said.
        """
        del reason
        return frozenset(item.id for item in session.items), messages_of(session.items), False

    def messages_since(self, session: RealtimeSession, known: frozenset[str]) -> list[dict[str, Any]]:
        """What was said after `conversation_messages`, as items."""
        return items_of(messages_of(item for item in session.items if item.id not in known))

    def count(self, link: Link) -> None:
        """A link ends: its numbers stay."""
        self._sums["messages_sent"] += link.outbox.sent
        self._sums["messages_received"] += link.messages

    # -- what the voice tells -----------------------------------------------------------------

    def _told_interrupted(self, facts: dict[str, Any]) -> None:
        self.emit(SessionEvents.Interrupted.value, facts, context=None)

    def _spoken_settled(self, item: Item, heard_ms: float) -> None:
        del item, heard_ms
        self._keeper.moved()

    def _media_started(self, facts: dict[str, Any]) -> None:
        self.emit(Events.WebSocketMediaStarted.value, facts, context=None)

    def _media_ended(self, facts: dict[str, Any]) -> None:
        self._keeper.moved()
        self.emit(Events.WebSocketMediaEnded.value, facts, context=None)

    # -- numbers ------------------------------------------------------------------------------

    def waterfall(self) -> Any:
        """Where the time of each answer went, as a DataFrame, newest last.

        Milliseconds from the end of the user's speech until: the server noticed (``stopped_ms``), made an item of it
        (``committed_ms``), began a response (``created_ms``), sent its first sound (``first_delta_ms``), the first frame
        went out (``first_frame_ms``) and sounded (``first_heard_ms``). NA where a step was not seen.
        """
        return self._waterfall.table()

    def statistics(self) -> RealtimeStatistics:
        """What this client has done so far; each response is a call of ``.df``, each stream a row of ``.streams``."""
        keeper, link, sums = self._keeper, self._keeper.link, dict(self._sums)
        own: dict[str, Any] = {"waiting": self._state.waiting, "audio_dropped_ms": keeper.dropped_ms}
        own |= {"sessions": keeper.sessions, "reconnects": keeper.reconnects, "audio_unheard_ms": self._unheard_ms}
        if link is not None:
            sums["messages_sent"] += link.outbox.sent
            sums["messages_received"] += link.messages
            own["waiting"] += len(link.outbox)
            own["audio_dropped_ms"] += link.outbox.dropped_ms
            own["deepest"] = link.outbox.deepest
        return taken(self.counters, **sums, **own, streams=tuple(stream.statistics() for stream in self.streams))

    def _emit(self, event: RealtimeAPIEvents, payload: Mapping[str, Any]) -> None:
        self.emit(event.value, payload, context=None)

    def __repr__(self) -> str:
        what = self._model if self._kind == "realtime" else "transcription"
        keeper = self._keeper
        if self._closing:
            state = "closed"
        elif keeper.over is not None:
            state = f"ended by the server (code {keeper.over.code})"
        elif keeper.link is not None:
            state = f"session {keeper.state.id}" if keeper.state.id else "connected"
        else:
            state = "reconnecting" if keeper.sessions else "not connected"
        return f"<{type(self).__name__} {what} at {self.host}, {state}>"
