"""`ChatCompletionsAPIClient`: VoxEngine's chat completions client, and `chat()`, the same with a memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextvars import Context
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from voxnb.clients.endpoint import Endpoint, resolve_endpoint
from voxnb.clients.ends import error_payload
from voxnb.clients.exchange import Exchange
from voxnb.clients.folding import Folder
from voxnb.clients.handle import Handle
from voxnb.clients.knowledge import Knowledge
from voxnb.clients.passing import Passing
from voxnb.clients.streaming import Answer, Streaming
from voxnb.clients.turn import Turn
from voxnb.clients.writer import SummaryWriter
from voxnb.errors import (
    APIError,
    ClientClosedError,
    ConversationError,
    ConversationExistsError,
    ParameterError,
    VoxnbError,
)
from voxnb.events import ChatCompletionsAPIEvents, ContextEvents, Event, Events, WebSocketEvents
from voxnb.memory.plan import Layout
from voxnb.memory.policy import ContextPolicy
from voxnb.memory.summary import prompt_warnings
from voxnb.messages import Message, canonical, parse_messages, split_instructions
from voxnb.params import DEFAULT_SUMMARY_MODEL, DEFAULT_SUMMARY_PROMPT, ChatParameters
from voxnb.runtime import config, loop
from voxnb.runtime.dispatch import Dispatcher, EventWait
from voxnb.store import explain, journal, ledger, paths
from voxnb.store import folding as fold_ledger
from voxnb.store.context_store import ContextStore
from voxnb.store.conversation import Conversation
from voxnb.store.ids import new_id
from voxnb.store.journal import Ask, Begun, Reused
from voxnb.store.planner import Measure, Planner, measure_for, summary_role_for
from voxnb.store.rows import CallRecord, ConversationRow, Counted
from voxnb.store.views import Summary, load_summary

T = TypeVar("T")

FOLD_WAIT_S: Final = 10.0
"""How long close() lets running folds end: they are paid for."""

STOP_WAIT_S: Final = 5.0
"""How long close() waits until stopped turns are stored."""

STICKY: Final = frozenset(
    {ChatCompletionsAPIEvents.ConnectorInformation.value, WebSocketEvents.Open.value, WebSocketEvents.Close.value}
)

_locks: weakref.WeakValueDictionary[tuple[int, str, str], asyncio.Lock] = weakref.WeakValueDictionary()
"""One turn at a time per conversation of this process, whatever client asks."""


class SummaryPrompt:
    """The instruction for summaries: literal text, or a saved prompt with its name and version."""

    def __init__(self, given: Any) -> None:
        self.text: str = DEFAULT_SUMMARY_PROMPT if given is None else str(getattr(given, "text", given))
        self.name: str | None = getattr(given, "name", None)
        self.version: int | None = getattr(given, "version", None)
        if not self.text.strip():
            raise ParameterError(
                "summary_prompt is empty; leave it out for the documented default", name="summary_prompt"
            )
        for text in prompt_warnings(self.text):
            warnings.warn(text, stacklevel=4)


class ChatCompletionsAPIClient:
    """Chat completions, streamed, with every event, and with ``store_context`` a memory that loses nothing.

    Parameters in VoxEngine's spelling or Python's, as keywords or one dict; see `ChatParameters`. Methods return at
    once; a `Turn` is waited for by ``.result()``, ``await`` or iteration.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
        ConversationExistsError: ``if_exists="fail"`` and it exists.
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None, /, **given: Any) -> None:
        p = self._parameters = ChatParameters.parse({**(parameters or {}), **given})
        _check_json({"metadata": dict(p.metadata), "summary_request": dict(p.summary_request)})
        self._id = new_id("client")
        self._socket_id = new_id("socket")
        self.summary_prompt = SummaryPrompt(p.summary_prompt)
        self.policy: ContextPolicy = p.policy or ContextPolicy()
        if not isinstance(self.policy, ContextPolicy):
            raise ParameterError(f"policy is {type(p.policy).__name__}, expected ContextPolicy", name="policy")
        if not isinstance(p.summary_client, ChatCompletionsAPIClient | None):
            raise ParameterError(
                f"summary_client is {type(p.summary_client).__name__}, expected a chat completions client",
                name="summary_client",
            )
        self.endpoint: Endpoint = resolve_endpoint(p, os.environ)
        # The embedded model's port changes from start to start; what is learned of it stays.
        self.host = "local" if self.endpoint.is_local else self.endpoint.host
        served = config.load("local")() if self.endpoint.is_local else None
        self.default_model: str | None = served.name if served else None
        self._summary_sampling: Mapping[str, Any] = served.summary_sampling if served else {}
        from voxnb.clients.sdk import Transport

        self.transport = Transport(
            self.endpoint, timeout_s=p.timeout_s, max_retries=p.max_retries, openai_client=p.openai_client
        )
        self.max_retries = p.max_retries
        self.metadata = p.metadata
        self.slots = asyncio.Semaphore(p.max_parallel)
        # Said with the first request; what a later one says instead stays said.
        self.instructions = parse_messages([{"role": "system", "content": p.instructions}] if p.instructions else [])
        self.instructions_said = False
        self.dispatcher = Dispatcher(
            client=self,
            client_id=self._id,
            known=(ChatCompletionsAPIEvents, Events, ContextEvents, WebSocketEvents),
            sticky=STICKY,
        )
        self.wanted = _Wanted(self.dispatcher)
        self.knowledge = Knowledge(self)
        self._warned: set[str] = set()
        self._running: set[Turn] = set()
        self._served: set[asyncio.Task[Any]] = set()
        self._folds: set[asyncio.Task[Any]] = set()
        self._fold_due: ConversationRow | None = None
        self.unwritten: list[tuple[int, Callable[[Any], object]]] = []
        """Ends of turns that the store had no room for when they came."""
        self._closing = False
        self._closed: Future[None] | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.folder = Folder(self)
        self._open_memory(p)
        self._exit = loop.at_exit(_Closer(self))
        self._announce(p)

    def _open_memory(self, p: ChatParameters) -> None:
        """The store and the conversation, if there is a memory."""
        self._store: ContextStore | None = None
        self.reuse_cursor: tuple[int, int] | None = None
        self.must_be_new = p.if_exists == "fail"
        if not p.store_context:
            for name in ("conversation", "store"):
                if getattr(p, name) is not None:
                    raise ParameterError(f"{name} needs store_context=True (voxnb.chat() has it on)", name=name)
            return
        if isinstance(p.store, ContextStore):
            self._store = p.store
        else:
            self._store = ContextStore.shared(":memory:" if p.privacy and p.store is None else p.store)
        with self._store.database.reader() as c:
            row = ledger.find(c, p.conversation) if p.conversation else None
        if row is not None and self.must_be_new:
            raise ConversationExistsError(
                f'the conversation {row.name!r} exists and if_exists="fail"; choose another name or "append"'
            )
        uid = row.uid if row else new_id("k")
        self.resumed = row is not None
        self.conversation_ref = p.conversation
        self.conversation_name = row.name if row else p.conversation or time.strftime("chat-%Y%m%d-") + uid[-6:]
        self._conversation = Conversation(self._store, uid=uid, name=self.conversation_name, client=self)
        if p.if_exists == "reuse":
            self.reuse_cursor = (0, 0)

    def _announce(self, p: ChatParameters) -> None:
        """VoxEngine's first events, for listeners that come at once or later."""
        if p.on_web_socket_close is not None:
            callback = p.on_web_socket_close
            self.dispatcher.add(WebSocketEvents.Close, lambda event: callback(event.payload))
        from voxnb import __version__

        information = {"applicationVersion": __version__, "id": self._socket_id, "endpoint": "/openai/chat_completions"}
        self.dispatcher.emit(ChatCompletionsAPIEvents.ConnectorInformation.value, information, context=None)

    # -- VoxEngine's methods ------------------------------------------------------------------

    def id(self) -> str:
        """Id of this client."""
        return self._id

    def web_socket_id(self) -> str:
        """Id of its connection."""
        return self._socket_id

    def add_event_listener(self, event: str, callback: Callable[[Event], Any]) -> None:
        """Call ``callback(event)`` for every event of that name.

        Listeners run in registration order in the client's listener thread; ``async def`` ones are started there.
        In a notebook the listeners of a cell are replaced when the cell is run again.

        Args:
            event: a constant of `ChatCompletionsAPIEvents`, `Events` or `ContextEvents`, or its string.
            callback: takes one `Event`.

        Raises:
            TypeError: it cannot be called.
        """
        self.dispatcher.add(event, callback)

    def remove_event_listener(self, event: str, callback: Callable[[Event], Any] | None = None) -> None:
        """Remove a listener; without one, all of that event."""
        self.dispatcher.remove(event, callback)

    def on(self, event: str, callback: Callable[[Event], Any] | None = None) -> Any:
        """`add_event_listener` as a decorator: ``@client.on(OpenAI.ChatCompletionsAPIEvents.ContentDelta)``."""
        return self.dispatcher.on(event) if callback is None else self.dispatcher.on(event, callback)

    def wait_for(self, event: str, *, timeout_s: float | None = None) -> EventWait:
        """The next event of a name: block with ``.result()`` or ``await`` it."""
        return self.dispatcher.wait_for(event, timeout_s=timeout_s)

    def create_chat_completions(self, parameters: Mapping[str, Any] | None = None, /, **request: Any) -> Turn:
        """Send a Chat Completions request, streamed; returns its `Turn` at once.

        With ``store_context`` send only what is new; what fits of the conversation goes with it. A list that begins
        with the stored conversation adds only its rest.

        Args:
            parameters: the request's body (``model``, ``messages``, ``tools`` …); unknown keys pass through.
            **request: the same as keywords.

        Raises:
            MessageError: ``messages`` is not a message list.
            ParameterError: no model.
            ClientClosedError: after close().
        """
        body = {**(parameters or {}), **request}
        messages = parse_messages(body.pop("messages", None))
        return self._ask(messages, body)

    def ask(self, text: str | None = None, /, *, attach: Any = (), **request: Any) -> Turn:
        """Say something; returns the `Turn` at once. As a cell's last line it streams the reply.

        Args:
            text: what the user says.
            attach: what goes with it: paths, bytes, DataFrames (as CSV, cut to a stated number of tokens), PIL images,
                matplotlib figures; one or a list.
            **request: more of the request's body (``temperature``, ``tools`` …).

        Raises:
            MessageError: neither text nor attachment.
            ClientClosedError: after close().
        """
        content: Any = text
        if attach is not None and not (isinstance(attach, list | tuple) and not attach):
            from voxnb.clients.attach import render_attachments

            measure = self._measure(request.get("model"))
            parts = render_attachments(attach, count=measure.count, limit_tokens=self.knowledge.attachment_tokens())
            content = [*([{"type": "text", "text": text}] if text is not None else []), *parts]
        messages = parse_messages([{"role": "user", "content": content}])
        return self._ask(messages, dict(request))

    # One line each, so that editors see them; `voxengine.NAMES` is the table.
    webSocketId = web_socket_id  # noqa: N815 - VoxEngine's spelling
    addEventListener = add_event_listener  # noqa: N815 - VoxEngine's spelling
    removeEventListener = remove_event_listener  # noqa: N815 - VoxEngine's spelling
    createChatCompletions = create_chat_completions  # noqa: N815 - VoxEngine's spelling

    def _ask(
        self,
        messages: list[Message],
        body: dict[str, Any],
        *,
        conversation: Conversation | None = None,
        again: int | None = None,
    ) -> Turn:
        """Start a request in the caller's context, in its own conversation or in the one a verb was given."""
        self._check_open()
        body["model"] = body.get("model") or self._parameters.model or self.default_model
        if not body["model"]:
            raise ParameterError('no model: give model="…" to the client or to the request', name="model")
        body.pop("stream", None)
        if self._store is not None and not messages:
            raise ParameterError("messages is empty; add what the user says", name="messages")
        _check_json(body)
        if self.endpoint.is_local:
            config.load("local")()  # started again if it has crashed; costs next to nothing while it runs
        turn = Turn(client=self)
        if self._store is not None:
            # Loads the encoding in the caller's thread: it takes a moment the first time, and the loop must not.
            self._measure(body["model"])
            talk = conversation or self._conversation
            work: Coroutine[Any, Any, None] = Exchange(self, turn, body, messages, conversation=talk, again=again).run()
        else:
            leading, _ = split_instructions(messages)
            said = messages if leading else [*self.instructions, *messages]
            work = Passing(self, turn, self.request_body({**body, "messages": [m.to_dict() for m in said]})).run()
        with self._lock:
            self._check_open()
            self._running.add(turn)
        try:
            loop.submit(self._serve(turn, work))
        except BaseException:
            self._running.discard(turn)
            work.close()
            raise
        return turn

    async def _serve(self, turn: Turn, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._served.add(task)
        turn._attach(task)  # noqa: SLF001 - the client drives its turns
        try:
            await asyncio.wait({task})
        finally:
            self._served.discard(task)
            self._running.discard(turn)

    # -- the conversation ---------------------------------------------------------------------

    @property
    def conversation(self) -> Conversation:
        """The conversation that this client speaks in.

        Raises:
            ConversationError: the client was made without store_context.
        """
        if self._store is None:
            raise ConversationError(
                "this client keeps no conversation; make it with store_context=True or voxnb.chat()"
            )
        return self._conversation

    @property
    def store(self) -> ContextStore:
        """The store of its conversation."""
        if self._store is None:
            raise ConversationError(
                "this client keeps no conversation; make it with store_context=True or voxnb.chat()"
            )
        return self._store

    def idle(self) -> Handle[None]:
        """A handle that is done when no turn runs and no fold does."""
        return Handle(loop.submit(self._idle()), name="idle")

    async def _idle(self) -> None:
        while busy := self._served | self._folds:
            await asyncio.wait(busy)

    def fold_conversation(self, conversation: Conversation, *, through: Any = None) -> Handle[Summary | None]:
        """`Conversation.fold` with this client's summary model."""
        self._check_open()
        self._check_store(conversation)
        seq = None if through is None else conversation.number_of(through)
        model = self._model() or conversation.row().model
        self._measure(model)
        context = Context() if loop.on_loop() else _caller_context()

        async def work() -> Summary | None:
            row = conversation.row()
            planner = await self.current_planner({"model": model}, None, conversation=row.uid)
            choose = fold_ledger.choose_through(
                seq, keep_last_turns=planner.limits.keep_last_turns, weigh=planner.weigh
            )
            uid = await self.folder.fold(row, planner, choose=choose, forced=True, context=context)
            if uid is None:
                return None
            (row_id,) = self.store.database.read("SELECT id FROM summary WHERE uid = ?", (uid,))[0]
            return load_summary(self.store, row_id)

        return Handle(loop.submit(work()), name="fold")

    def retry_turn(self, conversation: Conversation) -> Turn:
        """`Conversation.retry` with this client."""
        self._check_open()
        self._check_store(conversation)
        row = conversation.row()
        with conversation.store.database.snapshot() as c:
            last = paths.turn_at(c, row.branch, row.last_seq) if row.last_seq else None
            if last is None:
                raise ConversationError(f"{row.name!r} has no turn to ask again")
            said = list(paths.whole_turn(c, last.id).messages)
            body = explain.last_body(c, last.id)
        while said and said[-1].role == "assistant":
            said.pop()
        if not said:
            raise ConversationError(f"turn {last.seq} of {row.name!r} is an answer to nothing; there is nothing to ask")
        if conversation.client is not self:
            body["model"] = self._model() or body.get("model")
        messages = parse_messages([m.to_dict() for m in said])
        return self._ask(messages, body, conversation=conversation, again=last.id)

    def _check_store(self, conversation: Conversation) -> None:
        """A client writes into its own store alone."""
        if conversation.store.database is not self.store.database and (
            conversation.store.path == ":memory:" or conversation.store.path != self.store.path
        ):
            raise ConversationError(
                f"the conversation is in {conversation.store.path!r}, this client's store is {self.store.path!r}; "
                "make a client with store=… for it"
            )

    # -- what exchanges and folds ask of their client -----------------------------------------

    async def write(self, work: Callable[[Any], T], *, durable: bool = False) -> T:
        """A transaction of the store, awaited."""
        return await asyncio.wrap_future(self.store.database.write(work, durable=durable))

    async def fold_due(self, planner: Planner, *, context: Context) -> None:
        """With ``background=False``: the fold that the last turn left for this one."""
        if self._fold_due is not None:
            row, self._fold_due = self._fold_due, None
            await self.folder.in_background(row, planner, context=context)

    async def begin(self, ask: Ask, *, own: bool = True) -> Begun | Reused:
        """Begin a turn; messages are counted on the writer thread before its transaction."""
        now = time.time()
        database = self.store.database
        fresh = [m for n, m in enumerate(ask.messages) if not any(x.role == "assistant" for x in ask.messages[n:])]

        def job(c: Any) -> Begun | Reused:
            for message in fresh:
                ask.measure(message)
            return database.transaction(c, lambda connection: journal.begin(connection, ask, now=now), durable=False)

        begun = await asyncio.wrap_future(database.perform(job))
        if own:
            self.conversation.id = begun.conversation.uid
            self.must_be_new, self.instructions_said = False, True
            if isinstance(begun, Begun):
                self.reuse_cursor = None
        return begun

    def measured(self, measure: Measure) -> Callable[[Message], Counted]:
        """``measure`` with a memory: a message is counted once per request."""
        counts: dict[int, Counted] = {}

        def counted(message: Message) -> Counted:
            found = counts.get(id(message))
            if found is None or found.message is not message:
                found = counts[id(message)] = measure(message)
            return found

        return counted

    def _measure(self, model: str | None) -> Measure:
        return measure_for(model or self._model(), count=self.policy.count)

    def planner_model(self) -> str | None:
        """Model of a request that names none."""
        return self._model()

    def _model(self) -> str | None:
        return self._parameters.model or self.default_model

    @contextlib.asynccontextmanager
    async def conversation_lock(self, conversation: Conversation) -> AsyncIterator[None]:
        """The conversation's turn order within this process.

        By name, which a conversation has before it is made, and by id, which it keeps when it is renamed.
        """
        own = conversation.id == self._conversation.id
        name = self.conversation_name if own else conversation.name
        async with self._lock_of(name), self._lock_of(conversation.id):
            yield

    def _lock_of(self, name: str) -> asyncio.Lock:
        path = self.store.path if self.store.path != ":memory:" else f":memory:{id(self.store)}"
        key = (os.getpid(), path, name)
        lock = _locks.get(key)
        if lock is None:
            lock = _locks[key] = asyncio.Lock()
        return lock

    def planner(self) -> Planner:
        """How the next request would be laid out, with what is known now."""
        return self.knowledge.planner({"model": self._model() or self.knowledge.last_model}, None)

    async def current_planner(
        self, parameters: Mapping[str, Any], tools: Mapping[str, Any] | None, *, conversation: str | None = None
    ) -> Planner:
        """The same for a request; asks the server for its window the first time."""
        model = parameters.get("model")
        await self.knowledge.discover(model)
        self.knowledge.last_model = model or self.knowledge.last_model
        return self.knowledge.planner(parameters, tools, conversation=conversation)

    def summary_role(self, model: str | None) -> str:
        """Role of the message that carries the summary."""
        return summary_role_for(model, self.policy)

    async def summary_writer(self) -> SummaryWriter:
        """Who writes the summaries; asks its server for the window the first time."""
        p = self._parameters
        client = p.summary_client or self
        model = p.summary_model
        if model is None and client is self:
            model = DEFAULT_SUMMARY_MODEL if self.endpoint.is_openai else self._model() or self.knowledge.last_model
        model = str(p.summary_request.get("model") or model or client.planner_model() or DEFAULT_SUMMARY_MODEL)
        await client.knowledge.discover(model)
        window = client.knowledge.window_tokens(model)
        if client.policy.window_tokens and (client is not self or model == self._model()):
            window = min(window, client.policy.window_tokens)
        return SummaryWriter(client, model=model, window_tokens=window, request=p.summary_request)

    @property
    def fold_sampling(self) -> Mapping[str, Any]:
        """Sampling that the backend needs to write a summary that ends."""
        return self._summary_sampling

    async def complete(
        self, body: Mapping[str, Any], *, purpose: str, estimated_tokens: int | None, calls: list[CallRecord]
    ) -> Answer:
        """One call outside a turn, without events; what is known of it is added to ``calls``, however it ends."""
        streaming = Streaming(self, None, model=body.get("model"))
        status, told = "failed", None
        try:
            await streaming.run(self.request_body(body))
            status = "complete"
        except BaseException as error:
            told = str(error) or type(error).__name__
            raise
        finally:
            calls.append(
                streaming.record(purpose=purpose, estimated_tokens=estimated_tokens, status=status, error=told)
            )
        reply = streaming.reply(turn_id=None)
        return Answer(reply.text, dict(reply.message), reply.finish_reason, reply.usage, calls[-1])

    def request_body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A body as it is sent: streamed, with usage at the end."""
        options = {"include_usage": True, **(body.get("stream_options") or {})}
        return {**body, "stream": True, "stream_options": options}

    def stream_error(self, error: Any, *, model: str | None) -> APIError:
        """An error object that came inside a stream."""
        known = self.transport.payload_error({"error": error}, model=model) if isinstance(error, Mapping) else None
        if known is not None:
            return known
        facts = error if isinstance(error, Mapping) else {"message": str(error)}
        return APIError(f"{self.host} reported an error: {facts.get('message') or facts!r}", host=self.host)

    def learn_overflow(self, error: APIError, layout: Layout, *, model: str | None) -> int | None:
        """See `Knowledge.learn_overflow`."""
        return self.knowledge.learn_overflow(error, layout, model=model)

    def learned(
        self, layout: Layout, record: CallRecord, *, model: str | None, conversation: str
    ) -> Callable[[Any], None] | None:
        """See `Knowledge.learn`."""
        reported = record.usage.get("prompt_tokens")
        return self.knowledge.learn(layout, model=model, reported_tokens=reported, conversation=conversation)

    def warn_once(self, key: str) -> bool:
        """Whether this is the first time."""
        first = key not in self._warned
        self._warned.add(key)
        return first

    def take_fold_warnings(self) -> list[str]:
        """Failures of folds since the last reply, and what else a user should know once."""
        out = {**{text: text for text in self.knowledge.take_warnings()}, **self.folder.take_warnings()}
        return [text for key, text in out.items() if self.warn_once(key)]

    def tell_error(self, error: VoxnbError, turn: Turn) -> None:
        """`ChatCompletionsAPIError`."""
        name = ChatCompletionsAPIEvents.ChatCompletionsAPIError.value
        self.dispatcher.emit(name, error_payload(error), context=turn.context, turn=turn)

    def tell_plan(self, begun: Begun, turn: Turn) -> None:
        """`ContextPlanned`."""
        layout = begun.layout
        payload = {
            "conversation": begun.conversation.uid,
            "turn": begun.turn.seq,
            "tokens": dict(layout.tokens),
            "total_tokens": layout.total_tokens,
            "window_tokens": layout.limits.window_tokens,
            "reserve_tokens": layout.limits.reserve_output_tokens,
            "fold_at_tokens": layout.limits.fold_at_tokens,
            "dropped": [{"turn": d.seq, "reason": d.reason} for d in layout.drops],
        }
        self.dispatcher.emit(ContextEvents.ContextPlanned.value, payload, context=turn.context, turn=turn)

    def deliver(self, turn: Turn) -> None:
        """Let the turn be *delivered* once its listeners have run."""
        self.dispatcher.barrier(turn._deliver, turn=turn)  # noqa: SLF001 - the client drives its turns

    def after_turn(self, begun: Begun, exchange: Exchange) -> None:
        """Fold while the user reads."""
        if not self.policy.background:
            self._fold_due = begun.conversation
            return
        planner = exchange.planner
        assert planner is not None
        task = asyncio.ensure_future(
            self.folder.in_background(begun.conversation, planner, context=exchange.turn.context)
        )
        self._folds.add(task)
        task.add_done_callback(self._folds.discard)

    # -- its end ------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closing:
            raise ClientClosedError("this client was closed; make a new one")
        if self._pid != os.getpid():
            raise ClientClosedError("this client belongs to the process before the fork; make a new one in the child")

    def close(self) -> None:
        """Let running folds end, stop what streams (the partial replies are kept), close the connection.

        Ctrl-C skips the wait for folds. A second call does nothing.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed is None:
                self._closing = True
                self._closed = loop.submit(self._close())
        if not loop.on_loop():
            loop.wait(self._closed, on_interrupt=self._skip_folds)
        self._exit()

    def _skip_folds(self) -> None:
        loop.call_soon(self._cancel_folds)

    def _cancel_folds(self) -> None:
        for task in list(self._folds):
            task.cancel()

    async def _close(self) -> None:
        self._closing = True
        if self._folds:
            await asyncio.wait(self._folds, timeout=0.5)
            if self._folds:
                print("voxnb: waiting for a running summary, Ctrl-C skips it", file=sys.stderr)  # noqa: T201 - the one line
                await asyncio.wait(self._folds, timeout=FOLD_WAIT_S)
            self._cancel_folds()
        turns = list(self._running)
        for turn in turns:
            turn.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                await self._idle()
        await self.transport.aclose()
        payload = {"websocket": self._socket_id, "code": 1000, "reason": "Normal connection close", "wasClean": True}
        self.dispatcher.emit(WebSocketEvents.Close.value, payload, context=None)
        self.dispatcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        with self._lock:
            if self._closed is None:
                self._closing = True
                self._closed = loop.submit(self._close())
        await loop.wait_async(self._closed)
        self._exit()

    def __dir__(self) -> Iterable[str]:
        # Completion shows one spelling.
        return [name for name in super().__dir__() if name.startswith("_") or name == name.lower()]

    def __repr__(self) -> str:
        model = self._model() or "no model"
        if self._store is None:
            memory = "no memory"
        elif self._conversation.exists:
            state = "resumed" if self.resumed else "new"
            memory = f"conversation {self._conversation.name!r}, {state}, {len(self._conversation)} turns"
        else:
            memory = f"conversation {self.conversation_name!r}, new"
        closed = ", closed" if self._closing else ""
        return f"<{type(self).__name__} {model} at {self.host}, {memory}{closed}>"


class _Wanted:
    """The events that have a listener now, for a reader that runs."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __contains__(self, name: object) -> bool:
        return name in self._dispatcher.wanted

    def __bool__(self) -> bool:
        return bool(self._dispatcher.wanted)


class _Closer:
    """Closes a client at exit without keeping it alive until then."""

    def __init__(self, client: ChatCompletionsAPIClient) -> None:
        self._client = weakref.ref(client)

    def __call__(self) -> None:
        client = self._client()
        if client is not None:
            client.close()


def _check_json(body: Mapping[str, Any]) -> None:
    """A request that JSON has no form for fails before anything is stored.

    Raises:
        ParameterError: NaN, bytes, an object of some class.
    """
    for name, value in body.items():
        try:
            canonical(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(
                f"{name} cannot be written as JSON ({error}); give text, finite numbers, lists and dicts", name=name
            ) from error


def _caller_context() -> Context:
    from contextvars import copy_context

    return copy_context()


def chat(
    model: str | None = None, /, *, conversation: str | None = None, store: ContextStore | str | Path | None = None, **parameters: Any
) -> ChatCompletionsAPIClient:  # fmt: skip
    """A chat with a memory: a `ChatCompletionsAPIClient` with ``store_context=True``.

    Args:
        model: default model of its requests.
        conversation: name or id; resumed if it exists, else made with the first turn. None makes a new one.
        store: a `ContextStore` or a path; default the project's.
        **parameters: any other client parameter; ``base_url="local"`` is the embedded model and needs no key.

    >>> import voxnb
    >>> with voxnb.testing.server(["It is a data set."]) as server:
    ...     with voxnb.chat("gpt-4o-mini", base_url=server.base_url, store=":memory:") as talk:
    ...         print(talk.ask("What is iris?").result())
    It is a data set.
    """
    given = {"model": model, "conversation": conversation, "store": store}
    return ChatCompletionsAPIClient(
        {"store_context": True, **{k: v for k, v in given.items() if v is not None}, **parameters}
    )
