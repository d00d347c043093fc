"""`Job`: a coroutine of the user's on its way to an event loop, and under way there; nothing it raises reaches the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from voxnb.errors import TurnError


class Job:
    """A coroutine on its way to a listener thread, and under way there.

    Attributes:
        future: how it ends; running once it has started.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Any]], *, context: Context) -> None:
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._work = work
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def cancel(self) -> None:
        """Cancel it, started or not; returns at once, from any thread."""
        if self.future.cancel():
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._cancel_task, context=Context())

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def start(self) -> asyncio.Task[None] | None:
        """Start it on the running loop; None if it was cancelled before."""
        self._loop = asyncio.get_running_loop()  # first: who cancels it from here on finds it there
        if not self.future.set_running_or_notify_cancel():
            return None
        self._task = self._loop.create_task(self._run(), context=self._context)
        self._task.add_done_callback(self._end)
        return self._task

    def _end(self, _task: asyncio.Task[None]) -> None:
        if not self.future.done():  # cancelled before its first step
            self.future.set_exception(TurnError("cancelled"))

    async def _run(self) -> None:
        try:
            value = await self._work()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit in a task would end the thread's loop
            self.future.set_exception(TurnError("cancelled") if isinstance(error, asyncio.CancelledError) else error)
        else:
            self.future.set_result(value)

    def start_apart(self, *, name: str) -> None:
        """Start it in a daemon thread and on a loop of its own."""

        async def main() -> None:
            if (task := self.start()) is not None:
                await asyncio.wait({task})

        try:
            threading.Thread(target=lambda: asyncio.run(main()), name=name, daemon=True).start()
        except RuntimeError as error:  # Python 3.12 starts no thread while it closes
            self.future.set_exception(TurnError(f"no thread could be started ({error})"))
