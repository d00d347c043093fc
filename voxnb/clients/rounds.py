"""Several requests as one turn: a reply's tool calls are run, and the model is asked again with their results.

Rule 1: each reply is committed, with its calls, before its tools run, and their results before the next request. The
turn runs all the while, so no other turn comes between; whoever finds it without its owner closes it as it stands, and
calls without results are never sent.
Rule 2: a repeated run (``if_exists="reuse"``) replays the whole turn and runs no tool.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from voxnb.clients.closing import CLOSED_ELSEWHERE
from voxnb.clients.ends import settled
from voxnb.clients.exchange import Exchange
from voxnb.clients.tools.loop import ToolLoop, limit_for
from voxnb.clients.tools.result import LIMIT_TOKENS, Limit
from voxnb.clients.tools.running import Call
from voxnb.errors import TurnError
from voxnb.messages import Message
from voxnb.store import rounds
from voxnb.store.journal import Ask, Begun, Reused
from voxnb.store.owner import this_process


class Rounds(Exchange):
    """A request with memory whose tools are run; see the module's rules."""

    tools_run: ToolLoop

    def _tool_loop(self) -> ToolLoop:
        return ToolLoop(self.client, self.turn, self.extras, conversation=self.conversation)

    async def _converse(self, begun: Begun, ask: Ask) -> None:
        """Send; as long as tools are called, run them and send again."""
        await self._send(begun, ask)
        while calls := self.tools_run.calls(self.streaming.reader.message):
            await self._next_round(calls)

    async def _next_round(self, calls: Sequence[Call]) -> None:
        """Store a reply, run what it calls, and ask again with the results; the turn runs on."""
        self.tools_run.check()
        message = self.streaming.reader.message
        begun = await settled(self._end_round())
        room = begun.layout.limits.hard_tokens - begun.layout.least_tokens
        planner = self.room.planner
        assert planner is not None
        limit = Limit(tokens=min(LIMIT_TOKENS, room // 2), count=planner.measure.count)
        results = await self.tools_run.answer(message, calls, limit=limit)
        self.parameters = self.tools_run.next(self.parameters)
        ask = self._ask(planner)
        begun = await settled(self._go_on(begun, results, ask))
        begun = self.begun = await self.room.fit(begun, ask)
        self._tell_plan(begun)
        self.streaming = self.streaming.following(lead=self.tools_run.lead)
        await self._send(begun, ask)

    async def _end_round(self) -> Begun:
        """Store a reply whose turn goes on; what comes from now on is another reply."""
        begun = self.begun
        assert begun is not None
        self._look_at_answer(begun.layout)
        outcome, learned = self._outcome("running", None, events=self._events())
        now, owner = time.time(), this_process()

        def work(c: Any) -> bool:
            here = rounds.end_round(c, begun, outcome=outcome, now=now, owner=owner)
            if learned is not None:
                learned(c)
            return here

        here = await self.client.write(work, durable=True)
        answered = self.streaming.reader.id
        self.streaming = self.streaming.following()
        self.begun = replace(begun, call_id=None)
        if not here:
            raise TurnError(CLOSED_ELSEWHERE)
        if self.parameters.get("previous_response_id") is not None and self.held_by is not None:
            self.parameters = {**self.parameters, "previous_response_id": answered}
        return self.begun

    async def _go_on(self, begun: Begun, results: Sequence[Message], ask: Ask) -> Begun:
        now = time.time()
        self.begun = await self.client.write(lambda c: rounds.go_on(c, begun, results, ask, now=now))
        return self.begun

    async def _reuse(self, reused: Reused) -> Begun | None:
        """Replay the turn, its tool loop included.

        Returns:
            None, or the turn that goes on: where nobody answered the calls that are answered here.
        """
        self._say_again(reused)
        while calls := self.tools_run.calls(reused.message):
            with self.client.store.database.reader() as c:
                results, after = rounds.next_reply(c, reused)
            if after is None:
                return await self._answer_stored(reused, calls)
            self.tools_run.replay(reused.message, calls, [m.to_dict() for m in results])
            self.streaming = self.streaming.following(lead=self.tools_run.lead)
            reused = after
            self._say_again(reused)
        await self._end_reused(reused)
        return None

    async def _answer_stored(self, reused: Reused, calls: Sequence[Call]) -> Begun:
        """Answer the calls of a stored reply that waited for the caller; from here on the run differs."""
        count = self.client.measure_of(self.model).count
        limit = limit_for(calls, window_share=self.client.knowledge.attachment_tokens(), count=count)
        self.messages = await self.tools_run.answer(reused.message, calls, limit=limit)
        with self.client.store.database.reader() as c:
            self.client.reuse_cursor = (reused.turn.seq, rounds.length(c, reused.turn))
        self.streaming = self.streaming.following(lead=self.tools_run.lead)
        begun = await settled(self._begin(self._ask(self.room.planner)))
        assert isinstance(begun, Begun)
        return begun
