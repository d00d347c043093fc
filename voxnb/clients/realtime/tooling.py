"""Tools in a call: the model calls a function, it is run, and the model goes on with its result.

Rule 1: the calls of a response are answered together or not at all: if one of them is not a function given to the client,
the caller answers all of them.
Rule 2: the results go out as soon as they are there; the next response is asked for when the last one has ended, and not
where the model has spoken again meanwhile.
Rule 3: after `max_rounds` responses with calls in a row the model is asked once more with ``tool_choice: "none"``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from voxnb.clients.tools.result import Limit
from voxnb.clients.tools.running import Call, Runner, ToolRun
from voxnb.clients.tools.toolbox import Toolbox
from voxnb.wire.realtime.command import check_command
from voxnb.wire.realtime.item import Item


class CallTools:
    """The functions of a realtime client.

    Args:
        toolbox: they.
        run: whether calls of them are run.
        max_rounds: responses with calls in a row.
        timeout_s: how long a tool may take.
        start: starts an async tool (`Dispatcher.run`).
        hide: takes keys out of a text.
        put: sends a command.
        go_on: asks for the next response after that of an id, with a command, unless the model has spoken since.

    Attributes:
        runs: what ran, in order.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        *,
        run: bool,
        max_rounds: int,
        timeout_s: float,
        start: Callable[..., Any],
        hide: Callable[[str], str],
        put: Callable[[dict[str, Any]], None],
        go_on: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._toolbox = toolbox
        self._run = run and bool(toolbox.functions)
        self._max_rounds = max_rounds
        self._timeout_s = timeout_s
        self._start = start
        self._hide = hide
        self._put = put
        self._go_on = go_on
        self._context = Context()
        self._round = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.runs: list[ToolRun] = []

    def belong_to(self, context: Context) -> None:
        """Tools run in a copy of this context: of the cell that made the client."""
        self._context = context

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """As a session takes them."""
        return [{k: v for k, v in tool.items() if k != "strict"} for tool in self._toolbox.to_responses()]

    @property
    def is_busy(self) -> bool:
        """Whether a tool runs."""
        return bool(self._tasks)

    def heard_user(self) -> None:
        """The user spoke: the rounds are counted anew."""
        self._round = 0

    def answer(self, response_id: str, items: Sequence[Item]) -> None:
        """Run the calls of a response that has ended, if they are all of ours."""
        calls = [Call(item.call_id, item.name or "", item.arguments) for item in items if item.call_id]
        if not self._run or not calls or not all(self._toolbox.runs(call.name) for call in calls):
            return
        self._round += 1
        task = asyncio.ensure_future(self._answer(response_id, calls, number=self._round))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, response_id: str, calls: list[Call], *, number: int) -> None:
        if number > self._max_rounds + 1:
            return  # it called although it was told not to
        runner = Runner(
            toolbox=self._toolbox,
            start=self._start,
            context=self._context,
            timeout_s=self._timeout_s,
            limit=Limit(),
            hide=self._hide,
        )
        made = await runner.run(calls, number=number)
        self.runs += made
        for run in made:
            item = {"type": "function_call_output", "call_id": run.call_id, "output": run.result}
            self._put(check_command("conversation.item.create", {"item": item}))
        last = {"response": {"tool_choice": "none"}} if number >= self._max_rounds else {}
        self._go_on(response_id, check_command("response.create", last))

    async def idle(self) -> None:
        """Wait until no tool runs."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def end(self) -> None:
        """Wait for nothing any more."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
