"""`TextClient`: what both text clients are: requests as turns, a conversation that is remembered, folds beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any, ClassVar, Final, TypeVar

from voxnb.clients.base import Client
from voxnb.clients.body import SummaryPrompt, as_body, check_body, check_json, question
from voxnb.clients.dialect import Dialect
from voxnb.clients.ends import error_payload, leave_store
from voxnb.clients.exchange import Exchange
from voxnb.clients.folding import Folder
from voxnb.clients.knowledge import Knowledge
from voxnb.clients.passing import Passing
from voxnb.clients.price import Prices
from voxnb.clients.rounds import Rounds
from voxnb.clients.streaming import Answer, Streaming
from voxnb.clients.tools.loop import check_not_inside
from voxnb.clients.tools.request import ExtrasDesk
from voxnb.clients.turn import Turn
from voxnb.clients.writer import SummaryWriter
from voxnb.errors import ConversationError, ConversationExistsError, ParameterError, StoreError, VoxnbError
from voxnb.memory.policy import ContextPolicy
from voxnb.messages import Message, parse_messages, split_instructions
from voxnb.params import DEFAULT_SUMMARY_MODEL, ChatParameters
from voxnb.runtime import config
from voxnb.runtime.stats import Counters
from voxnb.store import journal, ledger
from voxnb.store.context_store import ContextStore
from voxnb.store.conversation import Conversation
from voxnb.store.ids import new_id
from voxnb.store.journal import Ask, Begun, Reused
from voxnb.store.planner import Measure, Planner, measure_for
from voxnb.store.report import counted
from voxnb.store.rows import CallRecord, ConversationRow
from voxnb.taping.tape import running

T = TypeVar("T")

NO_MEMORY: Final = "this client keeps no conversation; make it with store_context=True or voxnb.chat()"

_locks: weakref.WeakValueDictionary[tuple[int, str, str], asyncio.Lock] = weakref.WeakValueDictionary()
"""One turn at a time per conversation of this process, whatever client asks."""


class TextClient(Client):
    """A client that sends requests and streams replies; with ``store_context`` it remembers."""

    DIALECT: ClassVar[Dialect]
    """The interface it speaks."""

    FOLDS: ClassVar[bool] = True
    """Whether it folds where no ``summary_model`` is given."""

    PUBLIC: ClassVar[tuple[str, ...]] = ("ask", "conversation", "metadata", "policy", "store")

    def __init__(self, parameters: ChatParameters) -> None:
        p = parameters
        check_json({"metadata": dict(p.metadata), "summary_request": as_body(p.summary_request)})
        self.summary_prompt = SummaryPrompt(p.summary_prompt)
        self.policy: ContextPolicy = ContextPolicy() if p.policy is None else p.policy
        if not isinstance(self.policy, ContextPolicy):
            raise ParameterError(f"policy is {type(p.policy).__name__}, expected ContextPolicy", name="policy")
        if not isinstance(p.summary_client, TextClient | None):
            raise ParameterError(
                f"summary_client is {type(p.summary_client).__name__}, expected a client of voxnb",
                name="summary_client",
            )
        if p.privacy and p.summary_client is not None and not p.summary_client.private:
            raise ParameterError(
                "privacy=True, and the summary_client logs and traces what it is told; make it with privacy=True too",
                name="summary_client",
            )
        super().__init__(p)
        self._watchers: list[Callable[[Turn], object]] = []
        self.default_model: str | None = self.served.name if self.served else self.endpoint.deployment
        self._summary_sampling: Mapping[str, Any] = self.served.summary_sampling if self.served else {}
        self.prices = Prices(p.prices, base_url=self.endpoint.base_url)
        self.metadata = p.metadata
        # Said with the first request; what a later one says instead stays said.
        self.instructions = parse_messages([{"role": "system", "content": p.instructions}] if p.instructions else [])
        self.instructions_said = False
        self.knowledge = Knowledge(self)
        self._fold_due: ConversationRow | None = None
        self.folder = Folder(self)
        self.extras = ExtrasDesk(p, api=self.DIALECT.api)
        self._open_memory(p)
        self._open()

    def _open_memory(self, p: ChatParameters) -> None:
        """The store and the conversation, if there is a memory."""
        self._store: ContextStore | None = None
        self.reuse_cursor = (0, 0) if p.store_context and p.if_exists == "reuse" else None
        self.reuse_path: ConversationRow | None = None
        self._retries_replayed: dict[int, int] = {}
        self.must_be_new = p.if_exists == "fail"
        self.unwritten: list[tuple[int, Callable[[Any], object]]] = []
        if not p.store_context:
            for name in ("conversation", "store"):
                if getattr(p, name) is not None:
                    raise ParameterError(f"{name} needs store_context=True (voxnb.chat() has it on)", name=name)
            return
        file = ":memory:" if p.privacy and p.store is None else p.store
        self._store = file if isinstance(file, ContextStore) else ContextStore.shared(file)
        self.unwritten = self._store.unwritten
        with self._store.database.reader() as c:
            row = ledger.find(c, p.conversation) if p.conversation else None
        if row is not None and self.must_be_new:
            raise ConversationExistsError(
                f'the conversation {row.name!r} exists and if_exists="fail"; choose another name or "append"'
            )
        uid = row.uid if row else new_id("k")
        self.resumed = self._is_there = row is not None
        self.conversation_ref = p.conversation
        self.conversation_name = row.name if row else p.conversation or time.strftime("chat-%Y%m%d-") + uid[-6:]
        self._conversation = Conversation(self._store, uid=uid, name=self.conversation_name, client=self)

    # -- requests ------------------------------------------------------------------------------

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
            if not any(body.get(name) for name in self.DIALECT.prompts):
                raise ParameterError('no model: give model="…" to the client or to the request', name="model")
            del body["model"]
        body.pop("stream", None)
        if self._store is not None and not messages and not self.DIALECT.is_whole(body):
            name = self.DIALECT.says
            chat = " (it was given as messages, the name of chat completions)" if body.get("messages") else ""
            raise ParameterError(f"{name} is empty; add what the user says{chat}", name=name)
        extras = self.extras.take(body, again=again is not None)
        check_body(body)
        if self.endpoint.is_local and self.transport.later is None and running() is None:
            config.load("local")()  # started again if it has crashed; costs next to nothing while it runs
        turn = Turn(client=self)
        if self._store is not None:
            # Loads the encoding in the caller's thread: it takes a moment the first time, and the loop must not.
            self.measure_of(body.get("model"))
            talk = conversation or self._conversation
            check_not_inside(talk)
            kind = Rounds if extras.run else Exchange
            exchange = kind(self, turn, body, messages, conversation=talk, again=again, extras=extras)
            work: Coroutine[Any, Any, None] = exchange.run()
        else:
            leading, _ = split_instructions(messages)
            said = messages if leading else [*self.instructions, *messages]
            work = Passing(self, turn, body, said, leading=len(leading or self.instructions), extras=extras).run()
        return self._start(turn, work)

    def _question(self, text: str | None, attach: Any, given: Mapping[str, Any]) -> Message:
        """What the user says, with what goes with it, as a message."""

        def render(attached: Any) -> list[dict[str, Any]]:
            from voxnb.clients.attach import render_attachments

            count = self.measure_of(given.get("model")).count
            return render_attachments(attached, count=count, limit_tokens=self.knowledge.attachment_tokens())

        return question(text, attach, given, render=render, call=self.DIALECT.call)

    def _start(self, turn: Turn, work: Coroutine[Any, Any, None]) -> Turn:
        super()._start(turn, work)
        for watcher in tuple(self._watchers):
            watcher(turn)
        return turn

    def watch_turns(self, watcher: Callable[[Turn], object]) -> Callable[[], None]:
        """Hand every turn that starts from now on to a function, in the caller's thread; returns what ends it."""
        self._watchers.append(watcher)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._watchers.remove(watcher)

        return end

    # -- the conversation ---------------------------------------------------------------------

    @property
    def conversation(self) -> Conversation:
        """The conversation that this client speaks in.

        Raises:
            ConversationError: the client was made without store_context.
        """
        if self._store is None:
            raise ConversationError(NO_MEMORY)
        if self.conversation_ref and not (self._is_there or self.must_be_new or self._store.database.unusable()):
            with self._store.database.reader() as c:
                if (row := ledger.find(c, self.conversation_ref)) is not None:  # begun since, maybe by another client
                    self._conversation.id, self._is_there = row.uid, True
        return self._conversation

    @property
    def remembers(self) -> bool:
        """Whether it has a store."""
        return self._store is not None

    @property
    def store(self) -> ContextStore:
        """The store of its conversation."""
        if self._store is None:
            raise ConversationError(NO_MEMORY)
        return self._store

    def renamed(self, conversation: Conversation) -> None:
        """Told by a conversation of this client: its turns keep their order under the new name."""
        if conversation.id == self._conversation.id:
            self.conversation_name = conversation.name

    # -- what exchanges and folds ask of their client -----------------------------------------

    async def _leave_store(self) -> None:
        with contextlib.suppress(StoreError):  # said when it happened; the draft is in the store
            await leave_store(self)

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
            self.must_be_new, self.instructions_said, self.reuse_path = False, True, None
            if isinstance(begun, Begun):
                self.reuse_cursor = None
        return begun

    def measure_of(self, model: str | None) -> Measure:
        """How messages are counted for a model."""
        return measure_for(model or self._model(), count=self.policy.count and self.policy.counted)

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
        return SummaryWriter(client, owner=self, model=model, window_tokens=window, request=as_body(p.summary_request))

    @property
    def fold_sampling(self) -> Mapping[str, Any]:
        """Sampling that the backend needs to write a summary that ends."""
        return self._summary_sampling

    async def complete(
        self, body: Mapping[str, Any], *, purpose: str, estimated_tokens: int | None, calls: list[CallRecord],
        counters: Counters,
    ) -> Answer:  # fmt: skip
        """One call outside a turn, without events; what is known of it is added to ``calls``, however it ends.

        Args:
            body: of the request, with its messages.
            purpose: ``fold`` …
            estimated_tokens: of the prompt.
            calls: where it is noted.
            counters: of the client for whom it is made; it is counted there and here.
        """
        streaming = Streaming(self, None, model=body.get("model"))
        if counters is not self.counters:
            streaming.counted_by.append(counters)
        status, told = "failed", None
        rest = {k: v for k, v in body.items() if k != "messages"}
        try:
            await streaming.run(self.DIALECT.write(rest, body["messages"], 1), purpose=purpose)
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

    def take_fold_warnings(self) -> list[str]:
        """Failures of folds since the last reply, and what else a user should know once."""
        out = {**{text: text for text in self.knowledge.take_warnings()}, **self.folder.take_warnings()}
        return [text for key, text in out.items() if self.warn_once(key)]

    def tell_error(self, error: VoxnbError, turn: Turn) -> None:
        """The dialect's own error event."""
        self.dispatcher.emit(self.DIALECT.error, error_payload(error), context=turn.context, turn=turn)

    @property
    def folds(self) -> bool:
        """Whether turns may become a summary here."""
        p = self._parameters
        return self.FOLDS or p.summary_model is not None or p.summary_client is not None

    def after_turn(self, begun: Begun, planner: Planner, *, context: Context) -> None:
        """Fold while the user reads."""
        if not self.folds:
            return
        if not self.policy.background:
            self._fold_due = begun.conversation
            return
        task = asyncio.ensure_future(self.folder.in_background(begun.conversation, planner, context=context))
        self._folds.add(task)
        task.add_done_callback(self._folds.discard)

    async def settle_folds(self) -> None:
        """Where a tape runs, wait for the folds that do: what is asked next must not depend on who was quicker."""
        while self._folds and running() is not None:
            await asyncio.wait(self._folds)

    def __repr__(self) -> str:
        model = self._model() or "no model"
        if self._store is None:
            memory = "no memory"
        elif state := self._store.database.unusable():
            memory = f"conversation {self.conversation_name!r}, store {state}"
        elif self._conversation.exists:
            state = "resumed" if self.resumed else "new"
            memory = f"conversation {self._conversation.name!r}, {state}, {counted(len(self._conversation), 'turn')}"
        else:
            memory = f"conversation {self.conversation_name!r}, new"
        return f"<{type(self).__name__} {model} at {self.host}, {memory}{', closed' if self._closing else ''}>"
