"""A listener thread: where user code runs, one event at a time, and where what it raises ends.

The thread has an event loop of its own. A sync listener is called in it; an ``async def`` listener is
started in it and runs up to its first ``await`` before the next listener is called (as in JavaScript),
and the next event does not wait for its end. Nothing here is an executor: executors are joined at exit.

Other coroutines of the user's (async tools) run on the same loop, so that what is bound to it can be shared. They start
in order with the events: after those of the reply that called them. So a listener that blocks the thread by waiting for
their turn does it before they start, and meanwhile they start on a loop of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.errors import TurnError
from voxnb.events import Event, EventData, Payload
from voxnb.runtime import config, loop
from voxnb.runtime.failures import Failure, FailureLog, describe
from voxnb.runtime.job import Job

CLOSE_S: Final = 1.0
"""How long running async listeners may go on after the client was closed."""

BREATH: Final = 32
"""Events between two looks at the thread's own loop, where no async listener runs."""

_IN_LISTENER: ContextVar[bool] = ContextVar("voxnb_in_listener", default=False)
_thread = threading.local()


def in_listener() -> bool:
    """Whether the caller is inside a listener of any client.

    True also in the tasks and in the ``asyncio.to_thread`` calls that a listener starts; not in plain
    threads, which inherit no context before Python 3.14: give them ``contextvars.copy_context().run``.
    """
    return _IN_LISTENER.get() or getattr(_thread, "is_lane", False)


@dataclass(slots=True, eq=False)
class Registration:
    """A callback on an event.

    Attributes:
        event: the event's string value.
        callback: what is called with the `Event`.
        context: of the cell that registered it.
        owners: ids of the cells that registered it; None stands for code outside a cell.
        active: False once it was removed; what is still queued for it is then not delivered.
    """

    event: str
    callback: Callable[[Event], Any]
    context: Context
    owners: set[str | None] = field(default_factory=set)
    active: bool = True


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to its listeners; the `Event` is built when the first of them gets it."""

    name: str
    payload: dict[str, Any]
    client: Any
    client_id: str
    listeners: tuple[Registration, ...]
    context: Context | None
    turn: Any = None
    late: bool = False
    built: Event | None = None

    @property
    def event(self) -> Event:
        """The `Event`, one object for all listeners."""
        if self.built is None:
            data = EventData(bare_name(self.name), Payload(self.payload))
            self.built = Event(str(self.name), self.client_id, self.client, data, self.late, self.turn)
        return self.built


@dataclass(slots=True, eq=False)
class _Barrier:
    done: Callable[[], None]
    turn: Any
    every_turn: bool


def bare_name(name: str) -> str:
    """``"OpenAI.ChatCompletionsAPI.ContentDelta"`` → ``"ContentDelta"``."""
    return name.rpartition(".")[2]


def is_delta(name: str) -> bool:
    """Whether an event is one of many small pieces, which a cancelled turn no longer delivers."""
    bare = bare_name(name)
    return bare.endswith("Delta") or bare in ("Chunk", "Content")


class Lane:
    """The queue to one listener thread, and the thread, which is started by the first event.

    Attributes:
        name: of the thread.
        delivered: events that have been run.
        discarded: events dropped because their turn was cancelled.
    """

    def __init__(self, *, name: str, log: FailureLog) -> None:
        self.delivered = 0
        self.discarded = 0
        self.name = name
        # The thread must not keep a dropped client alive, and a traceback leads to everything.
        self._log = weakref.ref(log)
        self._lock = threading.Lock()
        self._items: deque[Delivery | _Barrier | Job] = deque()
        self._blocked = 0
        self._tasks: dict[asyncio.Task[None], Any] = {}
        self._started: set[asyncio.Task[None]] = set()
        self._barriers: set[_Barrier] = set()  # that wait for such tasks
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._idle = False
        self._closed = False
        self._pid = os.getpid()

    @property
    def queued(self) -> int:
        """Events that wait to be run."""
        return sum(isinstance(item, Delivery) for item in tuple(self._items))

    def put(self, item: Delivery | _Barrier) -> None:
        """Queue an event; never blocks. After `close` it is dropped."""
        with self._lock:
            if self._closed:
                return
            self._items.append(item)
            if self._idle:
                self._rouse()
            elif self._thread is None:
                self._start()

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]], *, context: Context) -> Job:
        """Start a coroutine function on the thread's loop after what is queued; the thread too, if there is none.

        Args:
            work: called there without arguments.
            context: it runs in this very context.
        """
        context.run(_IN_LISTENER.set, True)
        job, apart = Job(work, context=context), False
        with self._lock:
            if self._closed:
                job.future.set_exception(TurnError("the client was closed"))
            elif self._blocked:
                apart = True
            else:
                self._items.append(job)
                if self._idle:
                    self._rouse()
                elif self._thread is None:
                    self._start()
        if apart:
            job.start_apart(name=f"{self.name}-apart")
        return job

    @contextlib.contextmanager
    def _blocking(self) -> Iterator[None]:
        """Around a wait that blocks the thread: jobs that have not started begin elsewhere meanwhile."""
        with self._lock:
            self._blocked += 1
            waiting = [item for item in self._items if isinstance(item, Job)]
            if waiting:
                self._items = deque(item for item in self._items if not isinstance(item, Job))
        for job in waiting:
            job.start_apart(name=f"{self.name}-apart")
        try:
            yield
        finally:
            with self._lock:
                self._blocked -= 1

    def barrier(self, done: Callable[[], None], *, turn: Any = None, every_turn: bool = True) -> None:
        """See `Dispatcher.barrier`."""
        with self._lock:
            at_once = self._closed or self._thread is None or (self._idle and not self._items and not self._tasks)
            if not at_once:
                self._items.append(_Barrier(done, turn, every_turn))
                if self._idle:
                    self._rouse()
        if at_once:
            self._sum_up(turn)  # the thread has run everything already: its failures are told here
            done()

    def discard(self, turn: Any) -> None:
        """Drop the queued deltas of a turn."""
        with self._lock:
            kept = deque(i for i in self._items if not _is_delta_of(i, turn))
            self.discarded += len(self._items) - len(kept)
            self._items = kept

    def close(self) -> None:
        """Run what is queued, then end the thread; returns at once. In a forked child it does nothing."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._idle:
                self._rouse()

    def _rouse(self) -> None:
        self._idle = False
        assert self._loop is not None
        assert self._news is not None
        self._loop.call_soon_threadsafe(self._news.set, context=Context())

    def _start(self) -> None:
        thread = threading.Thread(target=self._main, name=self.name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Python 3.12 starts no thread while it closes: nobody is left to listen.
            for item in self._items:
                if isinstance(item, Job):
                    item.future.set_exception(TurnError("no thread could be started"))
            self._items.clear()
        else:
            self._thread = thread

    # From here on: the listener thread.

    def _main(self) -> None:
        _thread.is_lane = True
        loop.on_block(self._blocking)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._on_loop_exception)
        self._news = asyncio.Event()
        pump = self._loop.create_task(self._pump())
        try:
            while not pump.done():
                try:
                    self._loop.run_until_complete(pump)
                except BaseException as error:  # noqa: BLE001 - a task that user code made has called sys.exit()
                    config.report(f"a task of a listener raised {describe(error)}")
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    def _on_loop_exception(self, _loop: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        error = facts.get("exception")
        config.report(f"a task of a listener: {facts.get('message')}{': ' + describe(error) if error else ''}")

    async def _pump(self) -> None:
        assert self._news is not None
        n = 0
        while True:
            with self._lock:
                item = self._items.popleft() if self._items else None
                if item is None:
                    if self._closed:
                        break
                    self._idle = True
                    self._news.clear()
            if item is None:
                await self._news.wait()
                continue
            if isinstance(item, Job):
                self._begin(item)
                await asyncio.sleep(0)
                continue
            if isinstance(item, _Barrier):
                self._pass(item)
                continue
            await self._deliver(item)
            n += 1
            if self._tasks or self._started or n % BREATH == 0:
                await asyncio.sleep(0)
        await self._end()

    def _begin(self, job: Job) -> None:
        task = job.start()
        if task is not None:
            self._started.add(task)
            task.add_done_callback(self._started.discard)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CLOSE_S)
        for barrier in tuple(self._barriers):  # behind a listener that will not end: nobody may wait for ever
            self._done(barrier)
        await asyncio.get_running_loop().shutdown_asyncgens()

    async def _deliver(self, item: Delivery) -> None:
        for listener in item.listeners:
            if not listener.active:
                continue
            context = (item.context or listener.context).copy()
            context.run(_IN_LISTENER.set, True)
            try:
                outcome = context.run(listener.callback, item.event)
            except BaseException as error:  # noqa: BLE001 - user code may raise anything, sys.exit() included
                self._fail(listener, item, error, context)
                continue
            if inspect.iscoroutine(outcome) or _is_task_here(outcome):
                guard = self._guard(listener, item, outcome, context)
                task = asyncio.get_running_loop().create_task(guard, context=context)
                self._tasks[task] = item.turn
                task.add_done_callback(self._forget)
                await asyncio.sleep(0)  # it runs to its first await before anything else does
        self.delivered += 1

    def _forget(self, task: asyncio.Task[None]) -> None:
        with self._lock:
            self._tasks.pop(task, None)

    async def _guard(
        self,
        listener: Registration,
        item: Delivery,
        outcome: Coroutine[Any, Any, Any] | asyncio.Task[Any],
        context: Context,
    ) -> None:
        try:
            await outcome
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit in a task would end the thread's loop
            self._fail(listener, item, error, context)

    def _fail(self, listener: Registration, item: Delivery, error: BaseException, context: Context) -> None:
        log = self._log()
        if log is not None:
            log.note(Failure(item.name, listener.callback, error, item.turn, context))

    def _pass(self, barrier: _Barrier) -> None:
        left = {task for task, turn in self._tasks.items() if barrier.every_turn or turn is barrier.turn}

        def one_less(task: asyncio.Task[None]) -> None:
            left.discard(task)
            if not left and barrier in self._barriers:
                self._done(barrier)

        self._barriers.add(barrier)
        for task in tuple(left):
            task.add_done_callback(one_less)
        if not left:
            self._done(barrier)

    def _done(self, barrier: _Barrier) -> None:
        self._barriers.discard(barrier)
        self._sum_up(barrier.turn)
        with contextlib.suppress(TurnError):  # the loop is gone: nobody waits any more
            loop.call_soon(barrier.done)

    def _sum_up(self, turn: Any) -> None:
        log = self._log()
        if log is not None and turn is not None:
            log.sum_up(turn)


def _is_delta_of(item: Delivery | _Barrier | Job, turn: Any) -> bool:
    return isinstance(item, Delivery) and item.turn is turn and is_delta(item.name)


def _is_task_here(outcome: object) -> bool:
    return isinstance(outcome, asyncio.Task) and outcome.get_loop() is asyncio.get_running_loop()
