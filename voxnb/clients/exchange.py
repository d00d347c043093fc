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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.ends import (
    CANCELLED,
    as_voxnb_error,
    current_task,
    ended,
    error_payload,
    settled,
    write_late,
)
from voxnb.clients.reply import Reply
from voxnb.clients.room import Room
from voxnb.clients.streaming import Streaming
from voxnb.clients.tools.loop import ToolLoop
from voxnb.clients.tools.request import Extras
from voxnb.clients.tools.structured import read_form
from voxnb.clients.turn import Turn
from voxnb.errors import (
    APIError,
    StoreError,
    TurnCancelledError,
    UnknownConversationError,
    VoxnbError,
)
from voxnb.events import ContextEvents
from voxnb.memory.calibration import RequestCounts
from voxnb.memory.plan import Layout
from voxnb.messages import Message
from voxnb.runtime.hiding import without_credentials
from voxnb.store import ending, ledger, paths
from voxnb.store import folding as fold_ledger
from voxnb.store.ending import Ending
from voxnb.store.journal import Ask, Begun, Reused
from voxnb.store.owner import RENEW_S, this_process
from voxnb.store.planner import Measure, Planner
from voxnb.store.rows import ConversationRow, Counted
from voxnb.usage import Usage
from voxnb.wire.unicode import whole_unicode

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient
    from voxnb.store.conversation import Conversation


CUT_RATIO: Final = 0.5
"""A server that reports less than this share of the estimate has cut the prompt."""

CUT_LEAST_TOKENS: Final = 500
"""Below this, estimates of foreign tokenizers say nothing."""


class Exchange:
    """A request with memory; see the module's rules."""

    def __init__(
        self,
        client: TextClient,
        turn: Turn,
        body: Mapping[str, Any],
        messages: Sequence[Message],
        *,
        conversation: Conversation,
        again: int | None = None,
        extras: Extras,
    ) -> None:
        self.client = client
        self.turn = turn
        self.messages = messages
        self.conversation = conversation
        self.again = again
        self.dialect = client.DIALECT
        self.parameters, self.tools = self.dialect.split(body)
        self.model: str | None = body.get("model")
        self.held_by = next((name for name in self.dialect.held if body.get(name) is not None), None)
        self.streaming = Streaming(client, turn, model=self.model)
        self.extras = extras
        self.tools_run: ToolLoop | None = None
        self.parsed: Any = None
        self.begun: Begun | None = None
        self._said_before = True  # whether the client's own instructions were
        self.warnings: list[str] = []
        self.room = Room(client, turn, conversation=conversation, model=self.model, tools=self.tools)
        self._stored = False
        self._repeated: tuple[tuple[int, int], ConversationRow] | None = None

    async def run(self) -> None:
        """Wait for the conversation's turn, begin, stream, store; then let the listeners run."""
        try:
            async with self.client.conversation_lock(self.conversation):
                self.turn._start(current_task())  # noqa: SLF001 - the client drives its turns
                await self._locked()
        except asyncio.CancelledError:
            if not self._stored:
                await settled(self._cancelled())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            failure = as_voxnb_error(error)
            if not self._stored:
                self.turn._store(error=failure)  # noqa: SLF001 - the client drives its turns
            self.client.tell_error(failure, self.turn)
        finally:
            self.client.deliver(self.turn)

    async def _locked(self) -> None:
        await self.client.settle_folds()
        with contextlib.suppress(StoreError):  # the turn that begins now will tell
            await write_late(self.client)
        if self.client.knowledge.is_known(self.model):
            await self.client.fold_due(await self.room.learn(self.parameters), context=self.turn.context)
        # Asking the server for its window may take long: what was said is stored before (rule 1).
        begun = await settled(self._begin(self._ask(self.room.planner)))
        if isinstance(begun, Reused):
            going_on = await self._reuse(begun)
            if going_on is None:
                return
            begun = going_on
        if begun.recognised and self.client.warn_once("resent"):
            self.warnings.append(
                f"{begun.recognised} of the messages were stored already and were not added again; "
                "with storeContext send only what is new"
            )
        keeping = asyncio.ensure_future(self._keep_alive(begun.turn.id))
        try:
            begun, ask = await self._planned(begun)
            begun = self.begun = await self.room.fit(begun, ask)
            self._tell_plan(begun)
            await self._converse(begun, ask)
            await self._read_form(self.streaming.reader.message)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await settled(self._failed(as_voxnb_error(error)))
            raise
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
        try:
            await settled(self._complete())
        except VoxnbError:
            raise
        except Exception as error:
            await settled(self._failed(as_voxnb_error(error)))
            raise

    async def _converse(self, begun: Begun, ask: Ask) -> None:
        """What is sent and received in the turn: here one request and its reply."""
        await self._send(begun, ask)

    async def _read_form(self, message: Mapping[str, Any]) -> None:
        self.parsed, warnings = await read_form(
            self.extras.form,
            message,
            finish_reason=self.streaming.reader.finish_reason,
            context=self.turn.context,
            timeout_s=self.extras.timeout_s,
        )
        self.warnings += warnings

    async def _planned(self, begun: Begun) -> tuple[Begun, Ask]:
        """The turn with its plan, which it has already where the window was known when it began."""
        if self.room.planner is not None:
            return begun, self._ask(self.room.planner)
        ask = self._ask(await self.room.learn(self.parameters))
        return await self.room.plan_again(begun, ask), ask

    async def _begin(self, ask: Ask) -> Begun | Reused:
        cursor, path = self.client.reuse_cursor, self.client.reuse_path
        self._said_before = self.client.instructions_said
        begun = await self.client.begin(ask, own=self.is_own)
        if isinstance(begun, Begun):
            self.begun = begun
            if self.is_own and cursor is not None and (path := begun.left or path) is not None:
                self._repeated = (cursor, path)
            self.turn.id, self.turn.number = begun.turn.uid, begun.turn.seq
        return begun

    @property
    def is_own(self) -> bool:
        """Whether it is the client's own conversation, not one that a verb was given."""
        return self.conversation.id == self.client.conversation.id

    def _ask(self, planner: Planner | None) -> Ask:
        """What the store is asked; without a planner the turn is stored and not planned yet."""
        client, own = self.client, self.is_own
        return Ask(
            ref=client.conversation_ref if own else self.conversation.id,
            uid=self.conversation.id,
            name=client.conversation_name if own else self.conversation.name,
            must_be_new=client.must_be_new and own,
            model=self.model,
            metadata=client.metadata,
            messages=self.messages,
            measure=Once(planner.measure if planner else client.measure_of(self.model)),
            instructions=client.instructions if own else (),
            instructions_said=client.instructions_said,
            parameters=self.parameters,
            tools=without_credentials(self.tools),
            lay_out=planner.lay_out if planner else None,
            owner=this_process(),
            host=client.host,
            api=self.dialect.api,
            held_by=self.held_by,
            whole=self.dialect.is_whole(self.parameters),
            reuse_after=client.reuse_cursor if own and self.again is None else None,
            reuse_path=client.reuse_path if own and self.again is None else None,
            again=self.again,
        )

    def _tell_plan(self, begun: Begun) -> None:
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
        self._emit(ContextEvents.ContextPlanned, payload)

    async def _send(self, begun: Begun, ask: Ask) -> None:
        """Stream the reply; a server that says "too long" is believed, once."""
        begun = self.begun = await self.room.counted(begun, ask)
        for attempt in (1, 2):
            layout = begun.layout
            body = self.dialect.write({**self.parameters, **(self.tools or {})}, layout.messages, layout.leading)
            try:
                async with self.client.slots:
                    await self.streaming.run(body)
            except APIError as error:
                limit = self.client.knowledge.learn_overflow(error, begun.layout, model=self.model)
                if attempt == 2 or limit is None or self.streaming.chunks:
                    raise
                await self._close_call(begun, error)
                begun = self.begun = await self.room.fit_again(begun, ask)
            else:
                return

    async def _close_call(self, begun: Begun, error: VoxnbError) -> None:
        record = self.streaming.record(
            purpose="turn", estimated_tokens=begun.layout.total_tokens, status="failed", error=str(error)
        )
        call_id = begun.call_id
        assert call_id is not None
        await self.client.write(lambda c: ending.end_call(c, call_id, record))

    async def _keep_alive(self, turn_id: int) -> None:
        """Renew the lease and write the draft, so that a killed process loses at most `RENEW_S` of text."""
        owner, written = this_process(), 0
        while True:
            await asyncio.sleep(RENEW_S)
            reader, now = self.streaming.reader, time.time()
            text = reader.message.get("content") or ""
            written = written if len(text) >= written else 0  # the next reply of a tool loop
            is_new = len(text) > written and not reader.complete  # one that is whole is stored as it is
            draft = {"role": "assistant", "content": text} if is_new else None
            written = len(text)
            with contextlib.suppress(VoxnbError):  # the reply's own commit will tell what is wrong with the store
                await self.client.write(partial(ending.renew, turn_id=turn_id, owner=owner, draft=draft, now=now))

    # -- ends ---------------------------------------------------------------------------------

    async def _complete(self) -> None:
        begun = self.begun
        assert begun is not None
        self._look_at_answer(begun.layout)
        self.warnings += self.client.take_fold_warnings()
        said = await self._finish("complete", None, events=self._events())
        self.turn._store(self._reply())  # noqa: SLF001 - the client drives its turns
        self._stored = True
        planner = self.room.planner
        if (
            planner is not None
            and self.held_by is None
            and fold_ledger.may_be_due(begun.layout, said, weigh=planner.weigh)
        ):
            self.client.after_turn(begun, planner, context=self.turn.context)

    async def _failed(self, error: VoxnbError) -> None:
        """Close the turn; what had come is kept."""
        kept = self.streaming.kept
        state = "partial" if kept or await self._has_answered() else "failed"
        try:
            await self._finish(
                state, whole_unicode(str(error)), events=[(self.dialect.error, whole_unicode(error_payload(error)))]
            )
        except VoxnbError as second:
            second.__context__ = error
            self.turn._store(error=second)  # noqa: SLF001 - the client drives its turns
        else:
            self.turn._store(error=ended(error, kept, self._reply))  # noqa: SLF001 - the client drives its turns
        self._stored = True

    async def _has_answered(self) -> bool:
        """Whether the turn has a stored reply already, of an earlier round; what the request put into its mouth is none."""
        begun = self.begun
        assert begun is not None
        with self.client.store.database.reader() as c:
            said = paths.whole_turn(c, begun.turn.id).messages
        return any(message.role == "assistant" for message in said[begun.given :])

    async def _cancelled(self) -> None:
        """Close the turn as far as it had come."""
        if self.begun is None:
            await self._keep_unasked()
            self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001 - the client drives its turns
        else:
            came = self.streaming.kept
            state = "partial" if came or await self._has_answered() else "failed"
            await self._finish(state, "cancelled", events=[])
            said = came or (None if self.tools_run is None else self.tools_run.said)
            if said is not None:
                self.turn._store(self._reply(finish_reason="cancelled", message=said))  # noqa: SLF001 - the client drives its turns
            else:
                self.turn._store(error=TurnCancelledError(CANCELLED))  # noqa: SLF001 - the client drives its turns
        self._stored = True
        self.client.dispatcher.discard(self.turn)

    async def _keep_unasked(self) -> None:
        """Keep what the user said where the client was closed while the turn still waited for its place.

        A person who cancels a turn that waits takes it back; one whose script ends does not.
        """
        if not self.client.closing or self.again is not None or (self.is_own and self.client.reuse_cursor is not None):
            return
        with contextlib.suppress(VoxnbError):  # it answers, or contradicts, what is not stored: nothing to add it to
            if isinstance(await self._begin(self._ask(None)), Begun):
                await self._finish("failed", "cancelled", events=[])

    async def _finish(
        self, state: str, error: str | None, *, events: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Counted | None:
        """Store how it ended; the reply as it was counted, if there is one."""
        begun = self.begun
        assert begun is not None
        outcome, learned = self._outcome(state, error, events=events)
        if state == "failed" and self._repeated is not None:
            # It is in no context: what the stored conversation said after it is what would be said now.
            self.client.reuse_cursor, self.client.reuse_path = self._repeated
        now = time.time()
        call_id, owner = begun.call_id, this_process()

        def work(c: Any) -> tuple[bool, bool]:
            row, turn_id = begun.conversation, begun.turn.id
            here = ending.finish(c, row, turn_id, call_id, ending=outcome, now=now, owner=owner)
            back = call_id is None and ledger.take_back_instructions(c, row, turn_id, before=begun.instructions_before)
            if learned is not None:
                learned(c)
            return here, back

        try:
            here, back = await self.client.write(work, durable=True)
            if not here:
                self.warnings.append(CLOSED_ELSEWHERE)
            if back and self.is_own:  # nobody has heard the client's own instructions either
                self.client.instructions_said = self._said_before
        except (StoreError, UnknownConversationError) as failure:  # the reply is here all the same
            if isinstance(failure, StoreError):  # no room, say: the next turn tries again
                self.client.unwritten.append((begun.turn.id, work))
            if outcome.message is not None:
                failure.reply = self._reply(message=self.streaming.kept if state != "complete" else None)
            raise
        return outcome.message

    def _outcome(
        self, state: str, error: str | None, *, events: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> tuple[Ending, Callable[[Any], object] | None]:
        """How a request ended, as it is stored, and what was learned of how the server counts."""
        begun, planner = self.begun, self.room.planner
        assert begun is not None
        message = None
        whole = state in ("complete", "running")
        wire = self.streaming.reader.message if whole else self.streaming.kept
        if wire is not None and planner is not None:
            said = whole_unicode(self.dialect.stored({k: v for k, v in wire.items() if k != "parsed"}))
            message = planner.measure(Message.from_dict(said))
        estimated = begun.layout.total_tokens if begun.call_id is not None else None
        status = "complete" if whole else state
        record = self.streaming.record(purpose="turn", estimated_tokens=estimated, status=status, error=error)
        outcome = Ending(
            state=state,
            message=message,
            finish_reason="cancelled" if error == "cancelled" else self.streaming.reader.finish_reason,
            error=error,
            call=record,
            events=self.client.kept(events),
        )
        learned = self.client.knowledge.learn(
            begun.layout,
            model=self.model,
            # Of what the server holds we know no counts.
            reported_tokens=record.usage.get("prompt_tokens") if self.held_by is None else None,
            conversation=begun.conversation.uid,
        )
        return outcome, learned

    def _events(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What is kept of the turn's events: deltas as a count, texts by where they are stored."""
        out = self.dialect.kept(self.streaming.reader, self.streaming.chunks)
        if any(w.startswith("the server cut") for w in self.warnings):
            out.append((ContextEvents.PromptCut.value, {"warning": self.warnings[-1]}))
        return out

    def _reply(self, *, finish_reason: str | None = None, message: Mapping[str, Any] | None = None) -> Reply:
        begun = self.begun
        assert begun is not None
        reply = self.streaming.reply(
            turn_id=begun.turn.uid, warnings=self.warnings, finish_reason=finish_reason, message=message
        )
        return self._completed(reply, begun.turn.uid)

    def _completed(self, reply: Reply, uid: str, *, reused: bool = False) -> Reply:
        """The reply with what its turn knows beside it."""
        conversation = self.conversation
        parsed = reply.parsed if self.extras.form is None else self.parsed
        return replace(
            reply,
            parsed=parsed,
            tool_runs=tuple(self.tools_run.runs) if self.tools_run else (),
            reused=reused,
            plan_source=lambda: conversation.explain(uid),
            receipt_source=lambda: conversation.receipt(uid),
        )

    async def _reuse(self, reused: Reused) -> Begun | None:
        """Answer from the store, with the events that a fresh answer would have raised.

        Returns:
            None: the turn has its reply. (A turn that goes on after it: see `Rounds`.)
        """
        self._say_again(reused)
        await self._end_reused(reused)
        return None

    def _say_again(self, reused: Reused) -> None:
        self.turn.id, self.turn.number = reused.turn.uid, reused.turn.seq
        self.client.reuse_cursor = reused.cursor
        said, reason = reused.message, reused.finish_reason or "stop"
        reader = self.streaming.reader = self.dialect.read(self.client.wanted, {})
        events = reader.feed_completion(
            self.dialect.replay(reused.reply_id or reused.turn.uid, reused.model, said, reason)
        )
        self.streaming._push(reader.text_delta)  # noqa: SLF001 - the client drives its turns
        self.streaming._emit([*events, *reader.finish()])  # noqa: SLF001 - the client drives its turns

    async def _end_reused(self, reused: Reused) -> None:
        await self._read_form(self.streaming.reader.message)
        reply = self.streaming.reply(turn_id=reused.turn.uid, warnings=self.warnings)
        reply = replace(self._completed(reply, reused.turn.uid, reused=True), id=reused.reply_id)
        self._stored = True
        self.turn._store(reply)  # noqa: SLF001 - the client drives its turns

    def _look_at_answer(self, layout: Layout) -> None:
        """What could not be read of it, and whether the server silently cut the prompt."""
        self.warnings += self.streaming.reader.remarks
        reported = Usage.from_dict(self.streaming.reader.usage).prompt_tokens
        # Of text alone, digits in threes: how images are priced and digits split is not known of every server.
        sent = RequestCounts.of(layout.counted)
        estimate = min(layout.total_tokens, sent.tokens - sent.features.media)
        if reported is None or estimate < CUT_LEAST_TOKENS or reported >= CUT_RATIO * estimate:
            return
        warning = (
            f"the server cut the prompt: {estimate:,} tokens were sent and it read {reported:,}; "
            f"set policy=ContextPolicy(window_tokens={reported:,}) or give the server a larger context (Ollama: num_ctx)"
        )
        self.warnings.append(warning)
        payload = {"estimated_tokens": estimate, "reported_tokens": reported, "warning": warning}
        self._emit(ContextEvents.PromptCut, payload)

    def _emit(self, event: ContextEvents, payload: Mapping[str, Any]) -> None:
        self.client.emit(event.value, payload, context=self.turn.context, turn=self.turn)


CLOSED_ELSEWHERE: Final = (
    "another process closed this turn while it ran (it gave no sign of life for too long); the conversation goes on "
    "without the reply, which is kept in the store: store.search() finds it"
)


class Once:
    """A measure with a memory: a message is counted once per request.

    Attributes:
        encoding: of the measure.
    """

    def __init__(self, measure: Measure) -> None:
        self.encoding = measure.encoding
        self._measure = measure
        self._counts: dict[int, Counted] = {}

    def __call__(self, message: Message) -> Counted:
        """Count a message."""
        found = self._counts.get(id(message))
        if found is None or found.message is not message:
            found = self._counts[id(message)] = self._measure(message)
        return found
