"""Daemon threads for blocking calls of the background loop, usable until the very end of the process."""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

MOST_THREADS: Final = 8

_Job = tuple["concurrent.futures.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DaemonWorkers:
    """A few daemon threads, started when they are needed and kept.

    Unlike an executor's they are not joined at exit, and one that exists still serves in `atexit`.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        """Run a function in one of the threads.

        Raises:
            RuntimeError: there is no thread yet and none can be started any more.
        """
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        if not self._idle.acquire(blocking=False):
            self._start()
        self._jobs.put((future, fn, args))
        return future

    def _start(self) -> None:
        with self._lock:
            if self._threads >= MOST_THREADS:
                return
            try:
                threading.Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True).start()
            except RuntimeError:
                # Python 3.12 refuses new threads while it closes: the busy ones take the job when they can.
                if not self._threads:
                    raise
            else:
                self._threads += 1

    def _serve(self) -> None:
        while True:
            future, fn, args = self._jobs.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args))
                except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                    future.set_exception(error)
            del future, fn, args
            self._idle.release()
