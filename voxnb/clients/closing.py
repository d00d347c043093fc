"""How an exchange ends: what is stored of it, what its turn is given, and what is learned of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.ends import ended, error_payload
from voxnb.clients.reply import Reply
from voxnb.clients.room import Room
from voxnb.clients.streaming import Streaming
from voxnb.clients.tools.loop import ToolLoop
from voxnb.clients.tools.request import Extras
from voxnb.clients.turn import Turn
from voxnb.errors import StoreError, UnknownConversationError, VoxnbError
from voxnb.events import ContextEvents
from voxnb.memory.calibration import RequestCounts
from voxnb.memory.plan import Layout
from voxnb.messages import Message
from voxnb.store import ending, ledger, paths
from voxnb.store import folding as fold_ledger
from voxnb.store.ending import Ending
from voxnb.store.journal import Begun
from voxnb.store.owner import this_process
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

CLOSED_ELSEWHERE: Final = (
    "another process closed this turn while it ran (it gave no sign of life for too long); the conversation goes on "
    "without the reply, which is kept in the store: store.search() finds it"
)


class Closing:
    """The ends of an exchange, and what all of them know of it."""

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
        self.tools_run = self._tool_loop()
        self.parsed: Any = None
        self.begun: Begun | None = None
        self._said_before = True  # whether the client's own instructions were
        self.warnings: list[str] = []
        self.room = Room(client, turn, conversation=conversation, model=self.model, tools=self.tools)
        self._stored = False
        self._repeated: tuple[tuple[int, int], ConversationRow] | None = None

    def _tool_loop(self) -> ToolLoop | None:
        """What runs the tools that the model calls; here the caller does."""
        return None

    @property
    def is_own(self) -> bool:
        """Whether it is the client's own conversation, not one that a verb was given."""
        own = self.client.conversation  # where another client began it, it has that one's id from here on
        return self.conversation.id == own.id

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
            return paths.is_answered(c, begun.turn.id, first_position=begun.given)

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

    def _emit(self, event: ContextEvents, payload: Mapping[str, Any]) -> None:
        self.client.emit(event.value, payload, context=self.turn.context, turn=self.turn)
