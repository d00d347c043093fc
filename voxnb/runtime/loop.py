"""The background event loop: one daemon thread, and the ways to wait for what runs on it.

Only voxnb's own coroutines run here, each as a task in an empty context, so that nothing of a cell leaks
into a connection that outlives it. The loop starts on first use, is closed at exit and is made anew
after a fork: in the child nothing inherited is used or closed, because closing an inherited epoll
descriptor would unregister the parent's sockets.

Interrupts: a blocking wait is cut into slices (`SLICE_S`), since a lock cannot be interrupted on every
platform and a signal handler that does not raise never ends it; an ``await`` is cut likewise, since a
loop that sleeps in ``select`` hears a signal only when it wakes.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any, Final, TypeVar

from voxnb.errors import TurnError
from voxnb.runtime import config
from voxnb.runtime.workers import DaemonWorkers

T = TypeVar("T")

SLICE_S: Final = 0.2
"""Longest time until a waiting thread or task notices an interrupt."""

EXIT_S: Final = 15.0
"""Most that all coroutine hooks of `at_exit` may take together."""

DRAIN_S: Final = 2.0
"""Most that cancelled tasks may take to end when the loop is closed."""


class BackgroundLoop(asyncio.SelectorEventLoop):
    """A selector loop whose blocking calls (name look-ups) run in daemon threads.

    The default executor is joined and shut before `atexit` runs, so that folds ending at exit could no
    longer open a connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._workers = DaemonWorkers(name="voxnb-worker")

    def run_in_executor(  # type: ignore[override]  # the same, without typeshed's variadic generics
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a blocking function beside the loop; without an executor, in a daemon thread."""
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        return asyncio.wrap_future(self._workers.submit(func, *args), loop=self)


class _Background:
    """The loop and its thread."""

    def __init__(self) -> None:
        self.loop = BackgroundLoop()
        self.thread = threading.Thread(target=self._run, name="voxnb-loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit) as error:
                # asyncio lets these two through a task: a key function that exits must not end every client.
                config.report(f"{type(error).__name__} raised on the background loop was ignored")
            else:
                return

    def close(self) -> None:
        """Cancel what still runs, stop the loop, end the thread; takes at most about 2 × `DRAIN_S`."""
        self.loop.call_soon_threadsafe(self.loop.set_exception_handler, _ignore)
        drained = Context().run(asyncio.run_coroutine_threadsafe, _drain(), self.loop)
        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            drained.result(DRAIN_S + 0.5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DRAIN_S)
        if not self.thread.is_alive():
            self.loop.close()


def _ignore(_loop: asyncio.AbstractEventLoop, _facts: dict[str, Any]) -> None:
    """At exit nobody is left who could act on it."""


async def _drain() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=DRAIN_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


class _Process:
    """What this process has of the loop: replaced as a whole in a forked child."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.background: _Background | None = None
        self.hooks: list[Callable[[], object]] = []
        self.closed = False


_here = _Process()
_inherited: list[_Process] = []


def _background() -> _Background:
    background = _here.background
    if background is not None and background.thread.is_alive():
        return background
    with _here.lock:
        if _here.closed:
            raise TurnError("the interpreter is closing; nothing new can be started")
        if _here.background is None or not _here.background.thread.is_alive():
            _here.background = _Background()
        return _here.background


def submit(coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start a coroutine on the background loop, as a task in an empty context.

    Args:
        coro: a coroutine of voxnb's own; user code never runs on this loop.

    Returns:
        Its future; cancelling it cancels the task.

    Raises:
        TurnError: the interpreter is closing.
    """
    try:
        loop = _background().loop
        return Context().run(asyncio.run_coroutine_threadsafe, coro, loop)
    except BaseException:
        abandon(coro)
        raise


def abandon(coro: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine whose start was interrupted: cancel it if the loop has it, close it if it has not.

    Only the loop can tell: closed from here it would end in the middle of a step, on a wrong thread.
    """
    background = _here.background
    if background is None or background.loop.is_closed():
        coro.close()
    else:  # one round later: a task that was made before has taken its first step, and begun what it begins
        background.loop.call_soon_threadsafe(background.loop.call_soon, _end, coro, context=Context())


def _end(coro: Coroutine[Any, Any, Any]) -> None:
    for task in asyncio.all_tasks():
        if task.get_coro() is coro:
            task.cancel()
            return
    coro.close()


def on_loop() -> bool:
    """Whether the caller is on the background loop's thread."""
    background = _here.background
    return background is not None and background.thread is threading.current_thread()


def call_soon(fn: Callable[..., object], *args: Any) -> None:
    """Call a function on the background loop soon, in an empty context; from any thread.

    Raises:
        TurnError: the interpreter is closing.
    """
    _background().loop.call_soon_threadsafe(fn, *args, context=Context())


def call_later(delay_s: float, fn: Callable[..., object], *args: Any) -> None:
    """Call a function on the background loop after a while, in an empty context; from any thread."""
    loop = _background().loop
    loop.call_soon_threadsafe(loop.call_later, delay_s, fn, *args, context=Context())


def block(event: threading.Event, *, timeout_s: float | None = None) -> bool:
    """Block until an event is set; interrupts are noticed within `SLICE_S`.

    Args:
        event: set by another thread.
        timeout_s: longest wait; None for no limit.

    Returns:
        Whether it was set in time.

    Raises:
        KeyboardInterrupt: as everywhere.
        asyncio.CancelledError: an interrupt whose handler cancels a task instead of raising (a cell with
            ``await`` in it, ``asyncio.run``): the task cannot notice while this call blocks its loop.
        TurnError: called on the background loop, which would then wait for itself.
    """
    if event.is_set():
        return True
    if on_loop():
        raise TurnError("this would block voxnb's background loop for ever; use 'await' there")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    around = getattr(_blocking, "around", contextlib.nullcontext)
    with around(), _noticing_interrupts() as interrupted:
        while True:
            left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
            if event.wait(max(0.0, left)):
                return True
            if interrupted:
                raise asyncio.CancelledError("interrupted")
            if left <= 0:
                return False


_blocking = threading.local()


def on_block(around: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """Have a context manager entered whenever the calling thread blocks in `block`.

    A thread that serves others says so with it, so that what it waits for does not wait for the thread.
    """
    _blocking.around = around


@contextlib.contextmanager
def _noticing_interrupts() -> Iterator[list[int]]:
    """Collect SIGINTs whose handler does not raise, while the caller's thread runs an event loop."""
    seen: list[int] = []
    previous = _cancelling_handler()
    if previous is None:
        yield seen
        return

    def note(signum: int, frame: Any) -> None:
        seen.append(signum)
        previous(signum, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, previous)


def _cancelling_handler() -> Callable[[int, Any], Any] | None:
    if threading.current_thread() is not threading.main_thread():
        return None
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) and handler is not signal.default_int_handler else None


def wait(
    future: concurrent.futures.Future[T],
    *,
    timeout_s: float | None = None,
    on_interrupt: Callable[[], object] | None = None,
) -> T:
    """Block until a future is done.

    Args:
        future: from `submit`, or any other.
        timeout_s: longest wait; None for no limit.
        on_interrupt: called once when the wait is interrupted, before the exception goes on.

    Returns:
        Its result.

    Raises:
        TimeoutError: it is not done yet; what it stands for goes on.
        KeyboardInterrupt, asyncio.CancelledError, TurnError: see `block`.
    """
    done = threading.Event()
    try:
        future.add_done_callback(lambda _: done.set())
        if not block(done, timeout_s=timeout_s):
            raise TimeoutError(f"not done after {timeout_s:g} s; it goes on, wait again or cancel it")
    except (KeyboardInterrupt, asyncio.CancelledError):
        if on_interrupt is not None:
            on_interrupt()
        raise
    return future.result()


async def wait_async(future: concurrent.futures.Future[T], *, timeout_s: float | None = None) -> T:
    """Wait for a future from any running event loop; the future is never cancelled by it.

    Raises:
        TimeoutError: it is not done yet.
        asyncio.CancelledError: the awaiting task was cancelled.
    """
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        future.add_done_callback(lambda _: wake(loop, waiter))
        if not await sliced(waiter, timeout_s=timeout_s):
            raise TimeoutError(f"not done after {timeout_s:g} s; it goes on, wait again or cancel it")
    return future.result()


def wake(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
    """Resolve an asyncio future from another thread; a loop that was closed meanwhile has no one to wake."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_resolve, waiter, context=Context())


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def sliced(waiter: asyncio.Future[None], *, timeout_s: float | None = None) -> bool:
    """Await a future of the running loop, waking every `SLICE_S` so that an interrupt is noticed.

    Returns:
        Whether it was done in time.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not waiter.done():
        left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
        if left <= 0:
            return False
        await asyncio.wait([waiter], timeout=left)
    return True


def at_exit(hook: Callable[[], object], *, last: bool = False) -> Callable[[], None]:
    """Call a function when the interpreter exits, before the loop stops; the newest first.

    A plain function must bound itself. A coroutine function runs on the background loop and is given up
    after `EXIT_S` for all such hooks together. Ctrl-C skips the hook that runs; an exception is reported.

    Args:
        hook: takes nothing.
        last: after all others, however old they are: for what those still use.

    Returns:
        A function that takes the hook away again; calling it twice does no harm.
    """
    hooks = _here.hooks
    hooks.insert(0 if last else len(hooks), hook)

    def remove() -> None:
        with contextlib.suppress(ValueError):
            hooks.remove(hook)

    return remove


def _shut_down() -> None:
    deadline = time.monotonic() + EXIT_S
    while _here.hooks:
        hook = _here.hooks.pop()
        try:
            outcome = hook()
            if inspect.iscoroutine(outcome):
                wait(submit(outcome), timeout_s=max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            continue
        except Exception as error:  # noqa: BLE001 - one broken hook must not keep the others from running
            config.report(f"at exit, {getattr(hook, '__qualname__', hook)!s} raised {type(error).__name__}: {error}")
    with _here.lock:
        _here.closed = True
        background = _here.background
    if background is not None and background.thread.is_alive():
        # Until its thread has ended the loop goes on serving: cancelled tasks store their partials.
        with contextlib.suppress(KeyboardInterrupt):
            background.close()


def _forget() -> None:
    """In a forked child: start afresh, and keep what was inherited alive so that nothing closes it."""
    global _here  # noqa: PLW0603 - the one piece of state of a process
    _inherited.append(_here)
    _here = _Process()


atexit.register(_shut_down)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
