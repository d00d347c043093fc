"""One request from begin to end: sent, streamed, stored.

`Exchange` is the stateful kind (the conversation is in the store); `Passing` sends
what it was given. Both stream the same way and end in the same `Turn`.

Rule 1: what the user said is committed before the call; whatever then happens, the
turn is closed with what had come.
Rule 2: requests are repeated before the first text, never after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from voxnb.clients.reply import Reply
from voxnb.clients.turn import Turn
from voxnb.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    ContextOverflowError,
    StreamBrokenError,
    TurnCancelledError,
    TurnError,
    VoxnbError,
)
from voxnb.events import ChatCompletionsAPIEvents, ContextEvents
from voxnb.memory.plan import Layout
from voxnb.messages import Message, Usage
from voxnb.store import folding as fold_ledger
from voxnb.store import journal, ledger, paths
from voxnb.store.ids import new_id
from voxnb.store.journal import Ask, Begun, Ending, Reused
from voxnb.store.owner import RENEW_S, this_process
from voxnb.store.planner import Planner
from voxnb.store.rows import CallRecord, Counted
from voxnb.wire.chat import ChatReader
from voxnb.wire.sse import SSEReader

if TYPE_CHECKING:
    from voxnb.clients.chat import ChatCompletionsAPIClient
    from voxnb.store.conversation import Conversation

T = TypeVar("T")

PATH: Final = "/chat/completions"

MAKE_ROOM_TRIES: Final = 6
"""Forced folds before a request is given up: each covers at least one turn more, several run only in chunks."""

CUT_RATIO: Final = 0.5
"""A server that reports less than this share of the estimate has cut the prompt."""

CUT_LEAST_TOKENS: Final = 500
"""Below this, estimates of foreign tokenizers say nothing."""


@dataclass
class Answer:
    """What came for one call."""

    text: str = ""
    message: dict[str, Any] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    call: CallRecord | None = None


class Streaming:
    """One HTTP exchange: the request's body out, chunks in, events and text on the way."""

    def __init__(self, client: ChatCompletionsAPIClient, turn: Turn | None, *, model: str | None) -> None:
        self.client = client
        self.turn = turn
        self.model = model
        self.began = time.monotonic()
        self.first_token_ms: float | None = None
        self.request_id: str | None = None
        self.retries = 0
        self.chunks = 0
        self.reader = ChatReader(wanted=())

    async def run(self, body: Mapping[str, Any]) -> None:
        """Send and read to the end.

        Raises:
            APIError: see `errors`; `StreamBrokenError` where text had come and the end did not.
        """
        tries = self.client.max_retries + 1
        for attempt in range(tries):
            try:
                await self._once(body)
            except APIConnectionError as error:
                again = error.unfinished or isinstance(error, StreamBrokenError)
                if self.has_reply or attempt + 1 == tries or not again:
                    error.retries = max(error.retries, self.retries)
                    raise
                self.retries += 1
                await asyncio.sleep(min(0.25 * 2**attempt, 4.0))
            else:
                return

    async def _once(self, body: Mapping[str, Any]) -> None:
        wanted = self.client.wanted if self.turn is not None else ()
        self.reader = ChatReader(wanted=wanted, response_format=body.get("response_format"))
        done = False
        async with self.client.transport.stream(PATH, dict(body), on_retry=self._on_retry) as stream:
            self.request_id = stream.request_id
            with self._as_chunks():
                if stream.is_streamed:
                    done = await self._read(stream)
                    if done:
                        self.reader.done()
                else:
                    self._emit(self.reader.feed_completion(await stream.read_json()))
                    self._text()
                    done = True
        if self.reader.error is not None:
            raise self.client.stream_error(self.reader.error, model=self.model)
        if not (done or self.reader.complete):
            error = APIConnectionError(
                f"{self.client.host} ended its answer before it was complete", host=self.client.host, unfinished=True
            )
            raise error
        self._emit(self.reader.finish())

    @contextlib.contextmanager
    def _as_chunks(self) -> Iterator[None]:
        """What cannot be read as the API's is an error of the server, not of voxnb."""
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise APIResponseValidationError(
                f"{self.client.host} sent something that is no chat completion ({error}); check base_url",
                host=self.client.host,
                first_line=str(error)[:200],
            ) from error

    async def _read(self, stream: Any) -> bool:
        sse = SSEReader()
        feed, loads = self.reader.feed, json.loads
        async for block in stream:
            for data in sse.feed(block):
                if data in (b"[DONE]", "[DONE]"):
                    return True
                events = feed(loads(data))
                self.chunks += 1
                if self.reader.text_delta:
                    self._text()
                if events:
                    self._emit(events)
                if self.reader.error is not None:
                    return False
        for data in sse.close():
            if data in (b"[DONE]", "[DONE]"):
                return True
            self._emit(feed(loads(data)))
            self._text()
        return False

    def _text(self) -> None:
        delta = self.reader.text_delta
        if delta:
            if self.first_token_ms is None:
                self.first_token_ms = (time.monotonic() - self.began) * 1000
            if self.turn is not None:
                self.turn._push(delta)  # noqa: SLF001 - the client drives its turns

    def _emit(self, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
        if self.turn is None:
            return
        for name, payload in events:
            self.client.dispatcher.emit(name, payload, context=self.turn.context, turn=self.turn)

    def _on_retry(self, *_: Any, **__: Any) -> None:
        self.retries += 1

    @property
    def has_reply(self) -> bool:
        """Whether anything of an answer came."""
        message = self.reader.message
        return bool(message.get("content") or message.get("tool_calls") or message.get("refusal"))

    def record(self, *, purpose: str, estimated_tokens: int | None, status: str, error: str | None) -> CallRecord:
        """The call, as it is stored."""
        usage = Usage.from_dict(self.reader.usage)
        return CallRecord(
            uid=new_id("c"),
            purpose=purpose,
            model=self.reader.model or self.model,
            host=self.client.host,
            request_id=self.request_id,
            estimated_prompt_tokens=estimated_tokens,
            usage={
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
            },
            cost_usd=None,
            retries=self.retries,
            first_token_ms=self.first_token_ms,
            duration_ms=(time.monotonic() - self.began) * 1000,
            status=status,
            error=error,
        )

    @property
    def kept(self) -> dict[str, Any] | None:
        """What can be kept of an answer that stopped half way: no tool call that may be incomplete; None for nothing."""
        message = dict(self.reader.message)
        if message.get("tool_calls") and self.reader.unfinished_tool_calls:
            del message["tool_calls"]
        return message if any(message.get(k) for k in ("content", "tool_calls", "refusal")) else None

    def reply(
        self,
        *,
        turn_id: str | None,
        warnings: Sequence[str] = (),
        finish_reason: str | None = None,
        message: Mapping[str, Any] | None = None,
    ) -> Reply:
        """What came so far (or what was kept of it) as a value."""
        message = dict(self.reader.message if message is None else message)
        return Reply(
            text=message.get("content") or "",
            message=message,
            tool_calls=tuple(message.get("tool_calls") or ()),
            refusal=message.get("refusal"),
            parsed=self.reader.parsed,
            usage=Usage.from_dict(self.reader.usage),
            finish_reason=finish_reason or self.reader.finish_reason,
            turn=turn_id,
            warnings=tuple(warnings),
        )


def error_payload(error: BaseException) -> dict[str, Any]:
    """What `ChatCompletionsAPIError` carries."""
    out: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    for name in ("status_code", "code", "request_id", "retry_after_s"):
        value = getattr(error, name, None)
        if value is not None:
            out[name] = value
    return out


class Passing:
    """A request without memory: the messages go as they are, nothing is stored."""

    def __init__(self, client: ChatCompletionsAPIClient, turn: Turn, body: Mapping[str, Any]) -> None:
        self.client = client
        self.turn = turn
        self.body = body

    async def run(self) -> None:
        """Send, stream, end the turn."""
        streaming = Streaming(self.client, self.turn, model=self.body.get("model"))
        try:
            async with self.client.slots:
                self.turn._start(_task())  # noqa: SLF001 - the client drives its turns
                await streaming.run(self.body)
        except asyncio.CancelledError:
            self._cancelled(streaming)
            raise
        except Exception as caught:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            error = as_voxnb_error(caught)
            self.client.tell_error(error, self.turn)
            kept = streaming.kept
            self.turn._store(  # noqa: SLF001
                error=broken(error, streaming.reply(turn_id=None, message=kept)) if kept else error
            )
        else:
            self.turn._store(streaming.reply(turn_id=None))  # noqa: SLF001
        self.client.deliver(self.turn)

    def _cancelled(self, streaming: Streaming) -> None:
        kept = streaming.kept
        if kept is not None:
            reply = streaming.reply(turn_id=None, finish_reason="cancelled", message=kept)
            self.turn._store(reply)  # noqa: SLF001
        else:
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001
        self.client.dispatcher.discard(self.turn)
        self.client.deliver(self.turn)


CANCELLED: Final = "the turn was cancelled before anything of the reply had come"


def as_voxnb_error(error: Exception) -> VoxnbError:
    """The error as users get it; one that is not voxnb's is a fault of voxnb, and says so."""
    if isinstance(error, VoxnbError):
        return error
    wrapped = TurnError(f"voxnb failed with {type(error).__name__}: {error}; the turn is closed, please report this")
    wrapped.__cause__ = error
    return wrapped


def broken(error: VoxnbError, reply: Reply) -> StreamBrokenError:
    """The error of a stream that stopped half way, with what had come."""
    out = StreamBrokenError(
        f"the answer stopped half way ({error}); what had come is in .reply, ask again with retry()",
        host=getattr(error, "host", ""),
        reply=reply,
    )
    out.__cause__ = error
    return out


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def settled(work: Coroutine[Any, Any, T]) -> T:
    """Await something that must not be left half done: a cancellation goes on only when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        raise


class Exchange:
    """A request with memory; see the module's rules."""

    def __init__(
        self,
        client: ChatCompletionsAPIClient,
        turn: Turn,
        body: Mapping[str, Any],
        messages: Sequence[Message],
        *,
        conversation: Conversation,
        again: int | None = None,
    ) -> None:
        self.client = client
        self.turn = turn
        self.messages = messages
        self.conversation = conversation
        self.again = again
        self.parameters, self.tools = split_body(body)
        self.model: str | None = body.get("model")
        self.streaming = Streaming(client, turn, model=self.model)
        self.begun: Begun | None = None
        self.warnings: list[str] = []
        self.planner: Planner | None = None
        self._stored = False

    async def run(self) -> None:
        """Wait for the conversation's turn, begin, stream, store; then let the listeners run."""
        try:
            async with self.client.conversation_lock(self.conversation):
                self.turn._start(_task())  # noqa: SLF001 - the client drives its turns
                await self._locked()
        except asyncio.CancelledError:
            if not self._stored:
                await settled(self._cancelled())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            failure = as_voxnb_error(error)
            if not self._stored:
                self.turn._store(error=failure)  # noqa: SLF001
            self.client.tell_error(failure, self.turn)
        finally:
            self.client.deliver(self.turn)

    async def _locked(self) -> None:
        planner = self.planner = await self._current_planner()
        await self.client.fold_due(planner, context=self.turn.context)
        ask = self._ask(planner)
        begun = await settled(self._begin(ask))
        if isinstance(begun, Reused):
            self._reuse(begun)
            return
        if begun.recognised and self.client.warn_once("resent"):
            self.warnings.append(
                f"{begun.recognised} of the messages were stored already and were not added again; "
                "with storeContext send only what is new"
            )
        keeping = asyncio.ensure_future(self._keep_alive(begun.turn.id))
        try:
            begun = self.begun = await self._fit(begun, ask, planner)
            self.client.tell_plan(begun, self.turn)
            await self._send(begun, ask)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await settled(self._failed(as_voxnb_error(error)))
            raise
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
        await settled(self._complete())

    async def _current_planner(self) -> Planner:
        return await self.client.current_planner(self.parameters, self.tools, conversation=self.conversation.id)

    async def _begin(self, ask: Ask) -> Begun | Reused:
        begun = await self.client.begin(ask, own=self.is_own)
        if isinstance(begun, Begun):
            self.begun = begun
            self.turn.id, self.turn.number = begun.turn.uid, begun.turn.seq
        return begun

    @property
    def is_own(self) -> bool:
        """Whether it is the client's own conversation, not one that a verb was given."""
        return self.conversation.id == self.client.conversation.id

    def _ask(self, planner: Planner) -> Ask:
        client, own = self.client, self.is_own
        return Ask(
            ref=client.conversation_ref if own else self.conversation.id,
            uid=self.conversation.id,
            name=client.conversation_name if own else self.conversation.name,
            must_be_new=client.must_be_new and own,
            model=self.model,
            metadata=client.metadata,
            messages=self.messages,
            measure=client.measured(planner.measure),
            instructions=client.instructions if own else (),
            parameters=self.parameters,
            tools=self.tools,
            lay_out=planner.lay_out,
            owner=this_process(),
            host=client.host,
            reuse_after=client.reuse_cursor if own and self.again is None else None,
            again=self.again,
        )

    # -- room ---------------------------------------------------------------------------------

    async def _fit(self, begun: Begun, ask: Ask, planner: Planner) -> Begun:
        """Fold until the request fits.

        Raises:
            ContextOverflowError: what cannot be folded does not fit.
        """
        since_s = time.monotonic()
        for _ in range(MAKE_ROOM_TRIES):
            if begun.call_id is not None:
                return begun
            if begun.layout.least_tokens > planner.limits.hard_tokens:
                break
            # A background fold may be about to make the room.
            before = (begun.conversation.head, begun.conversation.folded_to)
            await self.client.folder.make_room(
                begun.conversation, planner, begun.layout, context=self.turn.context, since_s=since_s
            )
            begun = await self._plan_again(begun, ask)
            if begun.call_id is None and (begun.conversation.head, begun.conversation.folded_to) == before:
                break
        if begun.call_id is not None:
            return begun
        raise overflow(begun.layout)

    async def _plan_again(self, begun: Begun, ask: Ask) -> Begun:
        now = time.time()

        def work(c: Any) -> Begun:
            row = ledger.by_id(c, begun.conversation.id)
            current = paths.whole_turn(c, begun.turn.id)
            layout, call_id = journal.plan_call(c, row, begun.turn, current, ask, now=now)
            return Begun(row, begun.turn, call_id, layout, begun.recognised, begun.created)

        return await self.client.write(work)

    async def _send(self, begun: Begun, ask: Ask) -> None:
        """Stream the reply; a server that says "too long" is believed, once."""
        for attempt in (1, 2):
            body = {**self.parameters, **(self.tools or {}), "messages": begun.layout.messages}
            try:
                async with self.client.slots:
                    await self.streaming.run(self.client.request_body(body))
            except APIError as error:
                limit = self.client.learn_overflow(error, begun.layout, model=self.model)
                if attempt == 2 or limit is None or self.streaming.chunks:
                    raise
                await self._close_call(begun, error)
                planner = self.planner = await self._current_planner()
                again = replace(ask, lay_out=planner.lay_out)
                begun = self.begun = await self._fit(await self._plan_again(begun, again), again, planner)
            else:
                return

    async def _close_call(self, begun: Begun, error: VoxnbError) -> None:
        record = self.streaming.record(
            purpose="turn", estimated_tokens=begun.layout.total_tokens, status="failed", error=str(error)
        )
        call_id = begun.call_id
        assert call_id is not None
        await self.client.write(lambda c: journal.end_call(c, call_id, record))

    async def _keep_alive(self, turn_id: int) -> None:
        """Renew the lease and write the draft, so that a killed process loses at most `RENEW_S` of text."""
        owner, written = this_process(), 0
        while True:
            await asyncio.sleep(RENEW_S)
            text = self.streaming.reader.message.get("content") or ""
            draft = {"role": "assistant", "content": text} if len(text) > written else None
            written, now = len(text), time.time()
            with contextlib.suppress(VoxnbError):  # the reply's own commit will tell what is wrong with the store
                await self.client.write(partial(journal.renew, turn_id=turn_id, owner=owner, draft=draft, now=now))

    # -- ends ---------------------------------------------------------------------------------

    async def _complete(self) -> None:
        begun = self.begun
        assert begun is not None
        self._look_at_usage(begun.layout)
        self.warnings += self.client.take_fold_warnings()
        said = await self._finish("complete", None, events=self._events())
        self.turn._store(self._reply())  # noqa: SLF001
        self._stored = True
        if self.planner is not None and fold_ledger.may_be_due(begun.layout, said, weigh=self.planner.weigh):
            self.client.after_turn(begun, self)

    async def _failed(self, error: VoxnbError) -> None:
        """Close the turn; what had come is kept."""
        message = self.streaming.kept
        kept = self._reply(message=message) if message else None
        earlier = any(said.role == "assistant" for said in await self._earlier())
        state = "partial" if kept or earlier else "failed"
        try:
            await self._finish(state, str(error), events=[(ERROR_EVENT, error_payload(error))])
        except VoxnbError as second:
            second.__context__ = error
            self.turn._store(error=second)  # noqa: SLF001
        else:
            self.turn._store(error=broken(error, kept) if kept else error)  # noqa: SLF001
        self._stored = True

    async def _earlier(self) -> Sequence[Any]:
        begun = self.begun
        assert begun is not None
        with self.client.store.database.reader() as c:
            return paths.whole_turn(c, begun.turn.id).messages

    async def _cancelled(self) -> None:
        """Close the turn as far as it had come."""
        if self.begun is None:
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001
        else:
            came = self.streaming.kept
            earlier = any(said.role == "assistant" for said in await self._earlier())
            await self._finish("partial" if came or earlier else "failed", "cancelled", events=[])
            if came:
                self.turn._store(self._reply(finish_reason="cancelled", message=came))  # noqa: SLF001
            else:
                self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001
        self._stored = True
        self.client.dispatcher.discard(self.turn)

    async def _finish(
        self, state: str, error: str | None, *, events: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Counted | None:
        """Store how it ended; the reply as it was counted, if there is one."""
        begun, planner = self.begun, self.planner
        assert begun is not None
        assert planner is not None
        message = None
        wire = self.streaming.kept if state != "complete" else self.streaming.reader.message
        if wire is not None:
            message = planner.measure(Message.from_dict({k: v for k, v in wire.items() if k != "parsed"}))
        estimated = begun.layout.total_tokens if begun.call_id is not None else None
        record = self.streaming.record(purpose="turn", estimated_tokens=estimated, status=state, error=error)
        ending = Ending(
            state=state,
            message=message,
            finish_reason="cancelled" if error == "cancelled" else self.streaming.reader.finish_reason,
            error=error,
            call=record,
            events=events,
        )
        now = time.time()
        learned = self.client.learned(begun.layout, record, model=self.model, conversation=begun.conversation.uid)

        def work(c: Any) -> None:
            journal.finish(c, begun.conversation, begun.turn.id, begun.call_id, ending=ending, now=now)
            if learned is not None:
                learned(c)

        await self.client.write(work, durable=True)
        return message

    def _events(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What is kept of the turn's events: deltas as a count, texts by where they are stored."""
        out: list[tuple[str, Mapping[str, Any]]] = []
        if self.streaming.chunks:
            out.append((ChatCompletionsAPIEvents.Chunk.value, {"count": self.streaming.chunks}))
        message = self.streaming.reader.message
        if message.get("content"):
            out.append((ChatCompletionsAPIEvents.ContentDone.value, {"characters": len(message["content"])}))
        if message.get("refusal"):
            out.append((ChatCompletionsAPIEvents.RefusalDone.value, {"characters": len(message["refusal"])}))
        out += [
            (ChatCompletionsAPIEvents.FunctionToolCallArgumentsDone.value, {"index": n, "id": call.get("id")})
            for n, call in enumerate(message.get("tool_calls") or ())
        ]
        if any(w.startswith("the server cut") for w in self.warnings):
            out.append((ContextEvents.PromptCut.value, {"warning": self.warnings[-1]}))
        return out

    def _reply(self, *, finish_reason: str | None = None, message: Mapping[str, Any] | None = None) -> Reply:
        begun = self.begun
        assert begun is not None
        reply = self.streaming.reply(
            turn_id=begun.turn.uid, warnings=self.warnings, finish_reason=finish_reason, message=message
        )
        conversation, uid = self.conversation, begun.turn.uid
        object.__setattr__(reply, "plan_source", lambda: conversation.explain(uid))
        return reply

    def _reuse(self, reused: Reused) -> None:
        """Answer from the store, with the events that a fresh answer would have raised."""
        self.turn.id, self.turn.number = reused.turn.uid, reused.turn.seq
        self.client.reuse_cursor = reused.cursor
        completion = {
            "id": reused.turn.uid,
            "object": "chat.completion",
            "model": reused.model,
            "choices": [{"index": 0, "message": reused.message, "finish_reason": reused.finish_reason or "stop"}],
        }
        self.streaming.reader = ChatReader(wanted=self.client.wanted)
        events = self.streaming.reader.feed_completion(completion)
        self.streaming._text()  # noqa: SLF001 - of this module
        self.streaming._emit([*events, *self.streaming.reader.finish()])  # noqa: SLF001
        reply = self.streaming.reply(turn_id=reused.turn.uid, warnings=self.warnings)
        conversation, uid = self.conversation, reused.turn.uid
        object.__setattr__(reply, "plan_source", lambda: conversation.explain(uid))
        object.__setattr__(reply, "reused", True)
        self._stored = True
        self.turn._store(reply)  # noqa: SLF001

    def _look_at_usage(self, layout: Layout) -> None:
        """Whether the server silently cut the prompt."""
        reported = Usage.from_dict(self.streaming.reader.usage).prompt_tokens
        estimate = layout.total_tokens
        if reported is None or estimate < CUT_LEAST_TOKENS or reported >= CUT_RATIO * estimate:
            return
        warning = (
            f"the server cut the prompt: {estimate:,} tokens were sent and it read {reported:,}; "
            f"set policy=ContextPolicy(window_tokens={reported:,}) or give the server a larger context (Ollama: num_ctx)"
        )
        self.warnings.append(warning)
        payload = {"estimated_tokens": estimate, "reported_tokens": reported, "warning": warning}
        self.client.dispatcher.emit(ContextEvents.PromptCut.value, payload, context=self.turn.context, turn=self.turn)


ERROR_EVENT: Final = ChatCompletionsAPIEvents.ChatCompletionsAPIError.value


def overflow(layout: Layout) -> ContextOverflowError:
    """The error of a request that no fold can make fit, with the tokens of each part."""
    limits = layout.limits
    parts = {name: layout.tokens[name] for name in ("instructions", "tools", "pinned", "current turn")}
    parts["reserve"] = limits.reserve_output_tokens
    if layout.least_tokens <= limits.hard_tokens:  # no summary is short enough, or turns still run elsewhere
        parts |= {"summary": layout.tokens["summary"], "earlier turns": layout.tokens["tail"]}
    listed = ", ".join(f"{name} {n:,}" for name, n in parts.items() if n)
    largest = max(parts, key=lambda name: parts[name])
    advice = {
        "current turn": "shorten the message (ask(attach=…) cuts tables and says so)",
        "pinned": "unpin turns",
        "instructions": "shorten the instructions",
        "tools": "send fewer tools",
        "reserve": "reserve less for the reply (max_tokens, reserve_output_tokens)",
        "summary": "shorten the message",
        "earlier turns": "wait for the turns that still run elsewhere",
    }[largest]
    return ContextOverflowError(
        f"the request cannot fit {limits.window_tokens:,} tokens: {listed}; {advice} or use a larger window_tokens",
        window_tokens=limits.window_tokens,
        parts=parts,
    )


TOOL_KEYS: Final = ("tools", "functions", "response_format")
"""Parts of a body that cost prompt tokens beside the messages."""


def split_body(body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A body without messages, as (parameters, tools and response format or None)."""
    tools = {k: body[k] for k in TOOL_KEYS if body.get(k) is not None}
    parameters = {k: v for k, v in body.items() if k not in TOOL_KEYS and k != "messages"}
    return parameters, tools or None
