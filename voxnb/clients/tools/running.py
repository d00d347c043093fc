"""Running the tools that a model calls: all calls of a reply at once, each with a time limit, none able to do harm.

Rule 1: whatever happens to a call becomes a result for the model: a wrong name, broken arguments, an exception,
``sys.exit()``, a value that cannot be shown, no end in time. Only cancelling the turn ends a run without one.
Rule 2: the tool's code, the checks of its arguments and the writing of its result never run on the background loop. A
sync tool has a daemon thread of its own; an async one runs on the client's listener loop.
Rule 3: a thread cannot be killed. A sync tool that does not end in time is abandoned: it runs on, nobody waits for it,
and its result is dropped. The error result says so.
Rule 4: results keep the order of the calls.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import json
import re
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, cast

from voxnb.clients.reply import shorten
from voxnb.clients.tools.result import Limit, ResultError, cut, render_result
from voxnb.clients.tools.tool import ArgumentError, Tool, read_object
from voxnb.clients.tools.toolbox import Toolbox
from voxnb.wire.unicode import whole_unicode

TIMEOUT_S: Final = 60.0
"""How long a tool may take, where nothing else is said."""

MOST_ERROR: Final = 500
"""Characters of an exception's text that the model is told."""

_IN_URL: Final = re.compile(r"://[^\s/@]*:[^\s/@]*@")
"""User and password in a URL, as the errors of database drivers quote them."""

TOOL_OF: ContextVar[Any] = ContextVar("voxnb_tool_of", default=None)
"""Inside of a tool: the turn that it runs for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as a model makes it.

    Attributes:
        id: by which the result refers to it.
        name: of the tool.
        arguments: JSON text, as it came.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A tool that ran (or could not), for the record.

    Attributes:
        name: of the tool, as the model called it.
        arguments: decoded; the text as it came where it is no JSON object.
        result: what the model was told.
        error: what went wrong, or None.
        duration_ms: from the call to its result; None where it was not run now but read from the store.
        round: which reply of the turn called it, from 1.
        call_id: the API's id of the call.
    """

    name: str
    arguments: Any
    result: str
    error: str | None = None
    duration_ms: float | None = None
    round: int = 1
    call_id: str = ""

    def __repr__(self) -> str:
        outcome = f"error: {shorten(self.error)}" if self.error is not None else shorten(self.result)
        took = "from the store" if self.duration_ms is None else f"{self.duration_ms:,.0f} ms"
        return f"<ToolRun {self.name}({shorten(_shown(self.arguments))}) → {outcome} ({took})>"


class Job(Protocol):
    """An async tool under way."""

    future: concurrent.futures.Future[Any]

    def cancel(self) -> None:
        """Cancel it; nobody waits for it any more."""


Outcome = tuple[str, str | None]
"""What the model is told, or "" and what went wrong."""

Start = Callable[..., Job]
"""Starts a coroutine function of no arguments on the listener loop: ``start(work, context=…)``."""


@dataclass(frozen=True, slots=True)
class Runner:
    """What is needed to run tools.

    Attributes:
        toolbox: the tools.
        start: starts an async one.
        context: of the cell that asked; each tool runs in a copy of it.
        timeout_s: how long a tool may take.
        limit: how long the results of one reply may be together.
        hide: takes keys out of a text.
        turn: for which they run.
    """

    toolbox: Toolbox
    start: Start
    context: Context
    timeout_s: float = TIMEOUT_S
    limit: Limit = Limit()  # noqa: RUF009 - a frozen value
    hide: Callable[[str], str] = str
    turn: Any = None

    async def run(self, calls: Sequence[Call], *, number: int = 1) -> list[ToolRun]:
        """Run the calls of one reply at the same time.

        Args:
            calls: in order.
            number: of the round.

        Returns:
            One record per call, in their order.

        Raises:
            asyncio.CancelledError: async tools are cancelled with it, sync ones abandoned.
        """
        limit = self.limit.shared(len(calls))
        tasks = [asyncio.ensure_future(self._one(call, number=number, limit=limit)) for call in calls]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, call: Call, *, number: int, limit: Limit) -> ToolRun:
        began = time.monotonic()
        arguments: Any = call.arguments
        result, error = "", None
        tool = self.toolbox.functions.get(call.name)
        try:
            arguments = read_object(call.arguments)
        except ArgumentError as wrong:
            error = str(wrong)
        else:
            if tool is None:
                error = self.toolbox.missing(call.name)
            else:
                result, error = await self._perform(tool, arguments, limit=limit)
        if error is not None:
            error = _cut_error(self.hide(error))
            result = cut(f"Error: {error}", limit=limit)
        duration_ms = (time.monotonic() - began) * 1000
        return ToolRun(call.name, arguments, result, error, duration_ms, number, call.id)

    async def _perform(self, tool: Tool, arguments: Mapping[str, Any], *, limit: Limit) -> Outcome:
        """Result and error of a call, in time."""
        deadline = time.monotonic() + self.timeout_s
        context = self.context.copy()
        context.run(TOOL_OF.set, self.turn)
        if tool.is_async:
            return await self._on_loop(tool, partial(_call_async, tool, arguments, limit), context, deadline)
        work = partial(_call, tool, arguments, limit)
        waiter = asyncio.wrap_future(in_thread(work, context=context, name=f"voxnb-tool-{tool.name}"))
        if not (await asyncio.wait({waiter}, timeout=self.timeout_s))[0]:
            return "", (
                f"the tool {tool.name} did not end within {self.timeout_s:g} s and was abandoned; it may still be "
                "running, and what it returns will not be seen"
            )
        found: Any = waiter.result()
        if inspect.iscoroutine(found):  # a plain function that returns one (a decorator, say)
            return await self._on_loop(tool, partial(_finish, found, limit), context, deadline)
        return cast("Outcome", found)

    async def _on_loop(
        self, tool: Tool, work: Callable[[], Coroutine[Any, Any, Outcome]], context: Context, deadline: float
    ) -> Outcome:
        job = self.start(work, context=context)
        waiter = asyncio.wrap_future(job.future)
        try:
            done, _ = await asyncio.wait({waiter}, timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError:
            job.cancel()
            raise
        if not done:
            how = "did not end" if job.future.running() else "could not start (a listener holds the thread)"
            job.cancel()
            return "", f"the tool {tool.name} {how} within {self.timeout_s:g} s and was cancelled"
        if (failure := waiter.exception()) is not None:
            return "", told(failure)
        return cast("Outcome", waiter.result())


# -- on the tool's thread or loop -------------------------------------------------------------


def in_thread(work: Callable[[], Any], *, context: Context, name: str) -> concurrent.futures.Future[Any]:
    """Call a function in a daemon thread of its own; it must not raise.

    The future ends with what the function returned, or with the error that kept the thread from starting.
    """
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def main() -> None:
        future.set_result(context.run(work))

    try:
        threading.Thread(target=main, name=name, daemon=True).start()
    except RuntimeError as error:  # Python 3.12 starts no thread while it closes
        future.set_result(("", told(error)))
    return future


def _call(tool: Tool, arguments: Mapping[str, Any], limit: Limit) -> Any:
    try:
        positional, named = tool.read(arguments)
        value = tool.function(*positional, **named)
        if inspect.iscoroutine(value):
            return value
        return render_result(value, limit=limit), None
    except (ArgumentError, ResultError) as error:
        return "", str(error)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, sys.exit() included
        return "", told(error)


async def _call_async(tool: Tool, arguments: Mapping[str, Any], limit: Limit) -> Outcome:
    try:
        positional, named = tool.read(arguments)
    except ArgumentError as error:
        return "", str(error)
    except BaseException as error:  # noqa: BLE001 - a validator is user code
        return "", told(error)
    return await _finish(tool.function(*positional, **named), limit)


async def _finish(work: Coroutine[Any, Any, Any], limit: Limit) -> Outcome:
    try:
        return render_result(await work, limit=limit), None
    except ResultError as error:
        return "", str(error)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit in a task would end the thread's loop
        return "", told(error)


def told(error: BaseException) -> str:
    """An exception as a model is told of it: type and message (of a long one the start), no traceback."""
    try:
        text = str(error)[: 4 * MOST_ERROR]
    except Exception:  # noqa: BLE001 - __str__ is user code too
        text = ""
    name = type(error).__name__
    return str(whole_unicode(f"{name}: {_IN_URL.sub('://…@', text)}" if text else name))


def _cut_error(text: str) -> str:
    """At most `MOST_ERROR` characters of a text, in its own lines."""
    return text if len(text) <= MOST_ERROR else text[: MOST_ERROR - 1] + "…"


def _shown(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
