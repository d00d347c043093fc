"""`RealtimeAPIClient`: VoxEngine's realtime client, over a WebSocket of its own."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, Self

from voxnb.clients import base
from voxnb.clients.base import Client, caller_context
from voxnb.clients.body import check_json
from voxnb.clients.endpoint import Resolved, embedded, resolve
from voxnb.clients.handle import Handle
from voxnb.clients.price import Prices
from voxnb.clients.realtime.commands import RealtimeCommands
from voxnb.clients.realtime.counting import RealtimeStatistics, ResponseClocks, taken
from voxnb.clients.realtime.distant import Distant
from voxnb.clients.realtime.keeper import Keeper
from voxnb.clients.realtime.memory import CallMemory
from voxnb.clients.realtime.scribe import Scribe
from voxnb.clients.realtime.told import Told
from voxnb.clients.realtime.tooling import CallTools
from voxnb.clients.realtime.waterfall import table_of
from voxnb.clients.tools.running import ToolRun
from voxnb.clients.tools.toolbox import Toolbox
from voxnb.errors import APIError, ClientClosedError, ConversationError, ParameterError
from voxnb.events import RealtimeAPIEvents
from voxnb.memory.policy import ContextPolicy
from voxnb.params import DEFAULT_REALTIME_URL, ChatParameters, RealtimeParameters, defaults, takes
from voxnb.runtime import bridge, config, loop
from voxnb.runtime.packages import import_apart
from voxnb.store.context_store import ContextStore
from voxnb.store.conversation import Conversation
from voxnb.taping.tape import running
from voxnb.wire.realtime.names import session_of
from voxnb.wire.realtime.policy import SessionPolicy
from voxnb.wire.realtime.session import RealtimeSession

DRAIN_S: Final = 0.05
"""How long close() lets what waits go out; with the close itself it is at most a quarter of a second."""

LOOK_S: Final = 0.1

NEEDS_MEMORY: Final = (
    "conversation", "store", "policy", "summary_model", "summary_prompt", "summary_request", "summary_client",
    "metadata", "if_exists",
)  # fmt: skip
"""Parameters that say how a call is remembered."""


class RealtimeAPIClient(RealtimeCommands, Told):
    """A realtime session: speech or text in, speech or text out, every server event as an event here.

    Making one does nothing yet; `connect` (or ``with client:``) begins the session. It is a media unit: a call that
    sends its media here is heard by the model, and `send_media_to` lets a unit hear the answers. With ``store_context``
    what is said becomes turns of a conversation, as in a chat. Parameters in VoxEngine's spelling or Python's, as
    keywords or one dict; see `RealtimeParameters`.

    ``base_url="local"`` is a spoken conversation without a key, in English (extra ``[voice]``): recognition, the embedded
    language model and a voice, in processes that start with the client, in about 4 s, and end when the last such client is
    closed. The language model stays, as for chats.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
        LocalModelError: the embedded voice cannot be started; for a missing package it names the command.
    """

    EVENTS = RealtimeAPIEvents
    CONNECTOR = "/openai/realtime"
    STICKY = ("ConnectorInformation", "SessionCreated", "HTTPResponse", "WebSocketError")
    PUBLIC = (
        "clear_media_buffer", "connect", "connected", "conversation", "conversation_item_create",
        "conversation_item_delete", "conversation_item_retrieve", "conversation_item_truncate",
        "input_audio_buffer_clear", "input_audio_buffer_commit", "model", "policy", "response_cancel",
        "response_create", "rollover", "send_media_to", "session", "session_update", "stop_media_to", "store",
        "streams", "tool_runs", "waterfall", "widget",
    )  # fmt: skip

    @takes(RealtimeParameters)
    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **given: Any) -> None:
        p = RealtimeParameters.parse({**(parameters or {}), **given})
        _check(p)
        policy = SessionPolicy.of(p.session_policy)
        Client.__init__(self, p)
        self._kind, self.connect_s = p.type, p.timeout_s
        # Of the embedded voice the tables shall name who really answers.
        self._model = self.served.name if self.served else p.model
        self._connecting: Future[Self] | None = None
        self._connect_task: asyncio.Task[Any] | None = None
        self.prices = Prices(p.prices, base_url=self.endpoint.base_url)
        self._clocks = ResponseClocks(self.counters, model=self._model, prices=self.prices)
        self._sums = Counter()
        self._begin_voice(barge_in=p.barge_in, session=session_of(p.session))
        self._tools = CallTools(
            Toolbox(p.tools),
            run=p.run_tools,
            max_rounds=p.max_tool_rounds,
            timeout_s=p.tool_timeout_s,
            start=self.dispatcher.run,
            hide=self.transport.hide,
            put=self._put,
            go_on=self._go_on,
        )
        self._tools.belong_to(caller_context())
        own = {"instructions": p.instructions, "tools": self._tools.schemas}
        first = {**{name: value for name, value in own.items() if value}, **p.session}
        check_json(first)
        self._memory: CallMemory | None = CallMemory(self, p) if p.store_context else None
        # The keeper of a session in the bridge process is a `Distant`: the same verbs, across. A tape hears those here.
        # It begins a process, so it comes after all that may fail.
        across = bridge.is_asked(p.bridge) and running() is None
        self._distant = Distant.started(self, p, policy) if across else None
        self._keeper: Any = self._distant or Keeper(self, kind=p.type, model=self._model, policy=policy)
        self._scribe: Scribe | None = None
        if self._memory is not None:
            self._scribe = Scribe(
                self._memory, model=self._model, host=self.host, tools=self._tools_now, moved=self._keeper.moved
            )
        if first:
            self.session_update(session=first)
        self._open()

    def _resolve(self, parameters: ChatParameters) -> Resolved:
        if parameters.base_url == DEFAULT_REALTIME_URL:
            parameters = replace(parameters, base_url=None)
        if parameters.base_url == "local" and parameters.openai_client is None and running() is None:
            voice = config.load("local_voice")(self)
            return embedded(voice), voice, None
        return resolve(parameters, os.environ, embedded_later=lambda: embedded(config.load("local_voice")(self)))

    def _open(self) -> None:
        self._tell_created()

    @property
    def _state(self) -> RealtimeSession:  # type: ignore[override]  # the keeper replaces it
        state: RealtimeSession = self._keeper.state
        return state

    @property
    def streams(self) -> tuple[Any, ...]:
        """The streams that it gives and hears, as they are now; of a session in the bridge process what they tell."""
        return super().streams if self._distant is None else self._distant.streams()

    def heard_so_far(self) -> Mapping[str, float]:
        """Item → milliseconds heard, of the answers that have not wholly sounded; on the media loop."""
        return super().heard_so_far() if self._distant is None else self._distant.heard

    def widget(self) -> Any:
        """A panel of the call for notebooks: as a cell's last line, or ``display(client.widget())``.

        Talk and listen through the page's own microphone and loudspeaker, also where the kernel is far away; see and
        mute the media sessions, read along, see what was heard of each answer and where its time went, hang up.

        Returns:
            An anywidget; it can be shown several times, and ends with ``close()``.
        """
        import_apart("anywidget")
        return config.load("call_widget")(self)

    # -- the conversation ---------------------------------------------------------------------

    @property
    def model(self) -> str | None:
        """Who answers: the model that was named, of the embedded voice the one that it has."""
        return self._model

    @property
    def conversation(self) -> Conversation:
        """The conversation whose turns are what is said here.

        Raises:
            ConversationError: the client was made without store_context.
        """
        return self._remembered().conversation

    @property
    def store(self) -> ContextStore:
        """The store of its conversation."""
        return self._remembered().store

    @property
    def policy(self) -> ContextPolicy:
        """The budget of its conversation."""
        return self._remembered().policy

    @property
    def tool_runs(self) -> tuple[ToolRun, ...]:
        """The tools that ran in this call, in order."""
        return tuple(self._tools.runs)

    def _remembered(self) -> CallMemory:
        if self._memory is None:
            raise ConversationError("this client keeps no conversation; make it with store_context=True")
        return self._memory

    def _tools_now(self) -> Any:
        return self._state.settings.wanted.get("tools") if self._distant is None else self._distant.tools

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

        It happens by itself before a session ends (see `SessionPolicy`); call it for what a session does not change any
        more, such as a voice that has spoken. An answer that is owed is waited for, 30 s where nobody asks for it.

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

    async def far_end_is_up(self) -> None:
        """The embedded voice loads its engines for some seconds when it is started again."""
        while self.served is not None and self.served.is_starting:  # noqa: ASYNC110 - a process tells a thread
            await asyncio.sleep(LOOK_S)

    async def _stop(self) -> dict[str, Any] | None:
        connecting = self._connect_task
        if connecting is not None and not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
        if self._distant is None:
            self._keep_numbers()
        self._end_media()
        await self._tools.end()
        state = self._state
        await self._keeper.close(drain_s=DRAIN_S)
        self._last_session_over(state)
        if self._scribe is not None and self._memory is not None:
            await self._scribe.end()
            await self._memory.end()
        return None if self._keeper.over is not None else dict(base.NORMAL_CLOSE)

    def close(self) -> None:
        """Stop what plays, store what was said, close the connection; in a quarter of a second where nothing runs.

        A second call does nothing.
        """
        super().close()
        self._leave()

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        self._leave()

    def _leave(self) -> None:
        if self.served is not None and not loop.on_loop():
            self.served.leave(self)

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
            await self.__aexit__()
            raise

    # -- what goes out ------------------------------------------------------------------------

    def _command(self, command: dict[str, Any]) -> None:
        self._check_open()
        if (error := self._end) is not None:
            raise error
        self._do(self._put, command)

    def _do(self, work: Callable[..., None], *args: Any) -> None:
        """Run something on the background loop: now, if this is it."""
        if loop.on_loop():
            work(*args)
        else:
            loop.call_soon(work, *args)

    def _go_on(self, response_id: str, command: dict[str, Any]) -> None:
        if self._distant is None:
            super()._go_on(response_id, command)
        else:
            self._distant.go_on(response_id, command)

    # -- numbers ------------------------------------------------------------------------------

    def waterfall(self) -> Any:
        """Where the time of each answer went, as a DataFrame, newest last.

        Milliseconds from the end of the user's speech, also after calls of tools, until: the server noticed (``stopped_ms``),
        made an item of it (``committed_ms``), began a response (``created_ms``), sent its first sound (``first_delta_ms``), the
        first frame went out (``first_frame_ms``) and sounded (``first_heard_ms``). NA where a step was not seen.
        """
        return table_of(self.falls())

    def falls(self) -> Sequence[Mapping[str, Any]]:
        """The rows of `waterfall`, for those who need no table."""
        return self._waterfall.rows() if self._distant is None else self._distant.rows()

    def statistics(self) -> RealtimeStatistics:
        """What this client has done so far; each response is a call of ``.df``, each stream a row of ``.streams``."""
        numbers = self._numbers() if self._distant is None else self._distant.numbers()
        heard = {"queue": "to listeners", "depth": self.dispatcher.queued, "dropped": self.dispatcher.discarded}
        return taken(self.counters, **{**numbers, "queues": (*numbers["queues"], heard)})

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
            begun = self._connecting
            was_there = begun is not None and begun.done() and not begun.cancelled() and begun.exception() is None
            state = "reconnecting" if was_there else "not connected"
        return f"<{type(self).__name__} {what} at {self.host}, {state}>"


def _check(p: RealtimeParameters) -> None:
    """What realtime clients do not take, or not together."""
    usual = defaults(RealtimeParameters)
    if p.openai_client is not None:
        raise ParameterError(
            "openai_client is not for realtime clients; pass api_key and base_url", name="openai_client"
        )
    if p.if_exists == "reuse":
        raise ParameterError('if_exists="reuse" is not for calls: nothing spoken is said twice', name="if_exists")
    for name in NEEDS_MEMORY:
        if not p.store_context and getattr(p, name) != usual[name]:
            raise ParameterError(f"{name} needs store_context=True", name=name)
