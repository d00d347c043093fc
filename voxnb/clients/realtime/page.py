"""A spoken turn in the store, while it is written: begun, gone on with, ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from voxnb.clients.realtime.book import Answer, Entry, Said
from voxnb.clients.realtime.memory import CallMemory
from voxnb.errors import StoreError, VoxnbError
from voxnb.events import RealtimeAPIEvents, SessionEvents
from voxnb.messages import parse_messages
from voxnb.store import ending, rounds
from voxnb.store.ending import Ending
from voxnb.store.ids import new_id
from voxnb.store.journal import Ask, Begun
from voxnb.store.owner import RENEW_S, this_process
from voxnb.store.planner import Planner
from voxnb.store.rows import CallRecord
from voxnb.usage import Usage

API: Final = "realtime"
HELD_BY: Final = "session"
"""Where the server takes the history from."""


class Page:
    """One turn.

    Args:
        memory: where it is written.
        model: who answers.
        host: where.
        planner: how the conversation is counted.
        tools: the session's.

    Attributes:
        is_ended: its last entry is written.
    """

    def __init__(self, memory: CallMemory, *, model: str | None, host: str, planner: Planner, tools: Any) -> None:
        self._memory = memory
        self._model = model
        self._host = host
        self._planner = planner
        self._tools = tools
        self._begun: Begun | None = None
        self._answers = 0
        self._is_unheard = False  # there was an answer, of which nothing was heard
        self.is_ended = False
        self._keeping: asyncio.Task[None] = asyncio.ensure_future(self._keep_alive())

    def leave(self) -> None:
        """Nothing more is written here."""
        self._keeping.cancel()

    def _ask(self, messages: Sequence[Mapping[str, Any]]) -> Ask:
        memory = self._memory
        return Ask(
            ref=memory.conversation_ref,
            uid=memory.conversation.id,
            name=memory.conversation_name,
            must_be_new=memory.must_be_new,
            model=self._model,
            metadata=memory.metadata,
            messages=parse_messages(messages),
            measure=self._planner.measure,
            instructions=memory.instructions,
            instructions_said=memory.instructions_said,
            parameters={"model": self._model},
            tools={"tools": self._tools} if self._tools else None,
            lay_out=self._planner.lay_out,
            owner=this_process(),
            host=self._host,
            api=API,
            held_by=HELD_BY,
        )

    async def begin(self, entry: Entry) -> None:
        """The turn with its first entry; one that the model began has ended with it."""
        message = entry.message()
        assert message is not None
        begun = await self._memory.begin(self._ask([message]))
        assert isinstance(begun, Begun)
        self._begun = begun
        if isinstance(entry, Answer):
            self._answers += 1
            if not entry.calls:
                await self._finish(entry, stored=False)

    async def add(self, entry: Entry | None) -> None:
        """The next entry; None where nothing more comes."""
        if entry is None:
            await self._finish(None, stored=False)
        elif isinstance(entry, Said):
            await self._go_on(entry)
        elif (message := entry.message()) is None and entry.response.status != "failed":
            await self._note(entry)
        elif message is not None and entry.calls:
            await self._round(entry)
        else:
            await self._finish(entry, stored=True)

    async def _go_on(self, entry: Said) -> None:
        begun, ask, now = self._begun, self._ask([]), time.time()
        assert begun is not None
        added = parse_messages([entry.message()])
        self._begun = await self._memory.write(lambda c: rounds.go_on(c, begun, added, ask, now=now))

    async def _round(self, entry: Answer) -> None:
        """An answer that calls tools: the turn goes on."""
        self._answers += 1
        begun, outcome, now = self._begun, self._outcome("running", entry), time.time()
        assert begun is not None
        await self._memory.write(
            lambda c: rounds.end_round(c, begun, outcome=outcome, now=now, owner=this_process()), durable=True
        )
        self._begun = replace(begun, call_id=None)

    async def _note(self, entry: Answer) -> None:
        """An answer of which nothing was heard: it is kept as an event alone."""
        begun, now = self._begun, time.time()
        assert begun is not None
        self._is_unheard = self._is_unheard or bool(entry.cuts)
        kept = self._memory.kept(_events(entry))
        await self._memory.write(lambda c: ending.add_events(c, begun.conversation.id, begun.turn.id, kept, now=now))

    async def _finish(self, entry: Answer | None, *, stored: bool) -> None:
        """The turn has ended.

        Args:
            entry: its last answer, or None where none came.
            stored: the answer is added to the turn; else it is there, or there is none.
        """
        begun = self._begun
        assert begun is not None
        is_whole = bool(self._answers) or not self._memory.is_answered
        state = _state_of(entry) if entry is not None else ("complete" if is_whole else "failed")
        outcome = self._outcome(state, entry)
        if not stored:
            outcome = replace(outcome, message=None)
        now = time.time()

        def work(c: Any) -> bool:
            return ending.finish(
                c, begun.conversation, begun.turn.id, begun.call_id, ending=outcome, now=now, owner=this_process()
            )

        self.is_ended = True
        try:
            await self._memory.write(work, durable=True)
        except StoreError:  # no room, say: it is tried again when the client ends
            self._memory.unwritten.append((begun.turn.id, work))
            raise
        self._memory.fold_soon(begun.conversation, self._planner)

    def _outcome(self, state: str, entry: Answer | None) -> Ending:
        message = None if entry is None else entry.message()
        reason, error = (None, None) if entry is None else _reason_of(entry)
        if entry is None and state == "failed":
            error = "nothing of the answer was heard" if self._is_unheard else "nobody answered"
        counted = None if message is None else self._planner.measure(parse_messages([message])[0])
        return Ending(
            state=state,
            message=counted,
            finish_reason=reason,
            error=error,
            call=self._record(entry, state=state, error=error),
            events=() if entry is None else self._memory.kept(_events(entry)),
        )

    def _record(self, entry: Answer | None, *, state: str, error: str | None) -> CallRecord:
        begun, facts = self._begun, None if entry is None else entry.facts
        usage = Usage.from_dict(None if entry is None else entry.response.usage)
        planned = begun is not None and begun.call_id is not None
        return CallRecord(
            uid=new_id("c"),
            purpose="turn",
            model=self._model,
            host=self._host,
            request_id=None if entry is None else entry.response.id,
            estimated_prompt_tokens=begun.layout.total_tokens if begun is not None and planned else None,
            usage={
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
            },
            cost_usd=None if facts is None else facts.cost_usd,
            retries=0,
            first_token_ms=None if facts is None else facts.first_token_ms,
            duration_ms=None if facts is None else facts.duration_ms,
            status="complete" if state == "running" else state,
            error=error,
        )

    async def _keep_alive(self) -> None:
        """Renew the lease: an answer may take longer to sound than a lease lasts."""
        while True:
            await asyncio.sleep(RENEW_S)
            begun = self._begun
            if begun is not None:
                renew = partial(ending.renew, turn_id=begun.turn.id, owner=this_process(), draft=None, now=time.time())
                with contextlib.suppress(VoxnbError):
                    await self._memory.write(renew)


def _state_of(entry: Answer) -> str:
    if entry.response.status == "failed":
        return "partial" if entry.message() is not None else "failed"
    return "partial" if entry.cuts or entry.response.status in ("incomplete", "in_progress") else "complete"


def _reason_of(entry: Answer) -> tuple[str | None, str | None]:
    """Finish reason and error, in the words of chat completions where they have some."""
    status, reason = entry.response.status, entry.response.reason
    if status == "failed":
        return None, reason or "the response failed"
    if entry.cuts or status == "in_progress":
        return "interrupted", None
    if status == "incomplete":
        return {"max_output_tokens": "length"}.get(reason, reason or "length"), None
    return ("tool_calls" if entry.calls else "stop"), None


def _events(entry: Answer) -> list[tuple[str, Mapping[str, Any]]]:
    """What is kept of an answer's events: how it ended, and what of it was not heard."""
    response = entry.response
    done = {"response_id": response.id, "status": response.status, "usage": dict(response.usage)}
    ended = [] if response.status == "in_progress" else [(RealtimeAPIEvents.ResponseDone.value, done)]
    return [*ended, *((SessionEvents.Interrupted.value, facts) for facts in entry.cuts)]
