"""What serves in a process of its own, run after run, under one address and key."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Self

from voxnb.errors import LocalModelError
from voxnb.local.process import Run, S
from voxnb.runtime import loop

RESTARTS: Final = 3
RESTART_WITHIN_S: Final = 60.0
"""A server that dies more often than `RESTARTS` times within this is not started again until somebody asks for it."""


class Served(Generic[S]):
    """A server in a process of its own: started on first use, again when it dies, ended with this process however that ends.

    It is started again under the same address and key, up to `RESTARTS` times within `RESTART_WITHIN_S`; then it stays down
    until the next use. A forked copy of this process leaves the server alone and starts its own on first use.

    Args:
        port: of 127.0.0.1; 0 for a free one.

    Attributes:
        api_key: made anew for each instance; the server refuses requests without it.
    """

    WHAT: ClassVar[str]
    """Its name in errors."""

    START_S: ClassVar[float]
    """Longest wait for it."""

    def __init__(self, *, port: int = 0) -> None:
        self._wanted_port = port
        self.api_key = secrets.token_urlsafe(24)
        self._forget_run()
        _served.add(self)

    def _forget_run(self) -> None:
        """As new; also in a forked copy, where the run is the parent's and locks may be held by threads that are not there."""
        self._port = 0
        self._deaths: list[float] = []
        self._run: Run[S] | None = None
        self._failure: LocalModelError | None = None
        self._starting = threading.Lock()
        # Held for moments only: the thread that sees the server die takes it too.
        self._lock = threading.RLock()
        self._remove_hook: Callable[[], None] | None = None

    def _settings(self, port: int) -> S:
        """What a run is started with; fetches and checks what it needs.

        Raises:
            LocalModelError: something is missing.
        """
        raise NotImplementedError

    def _source(self, settings: S) -> str:
        """What it works from, for errors."""
        raise NotImplementedError

    @property
    def base_url(self) -> str:
        """Address of the running server, ``http://127.0.0.1:PORT/v1``; starts it if it does not run.

        Raises:
            LocalModelError: see the class.
        """
        return f"http://127.0.0.1:{self.start().facts['port']}/v1"

    @property
    def is_running(self) -> bool:
        """Whether the server answers, as far as is known; never starts it."""
        run = self._run
        return run is not None and run.is_ready

    @property
    def is_starting(self) -> bool:
        """Whether it was started, again perhaps, and does not answer yet."""
        run = self._run
        return run is not None and not run.settled.is_set()

    @property
    def pid(self) -> int | None:
        """Process id of the server, None where it does not run."""
        run = self._run
        return run.pid if run is not None and run.is_ready else None

    @property
    def log(self) -> Path | None:
        """The running server's log, at most 1 MiB; removed by `close`, kept after a crash. No text of requests is in it."""
        run = self._run
        return run.log if run is not None else None

    def start(self) -> Run[S]:
        """Start the server if it does not run, with all that it needs; returns when it answers.

        Returns:
            The running process; its `facts` have the port.

        Raises:
            LocalModelError: see the class.
            KeyboardInterrupt: as everywhere; a server that was loading goes on and serves the next use.
        """
        run = self._run
        if run is not None and run.is_ready:
            return run
        with self._starting:
            if self._run is None:
                # After too many deaths: where clients know it, if that is still free.
                settings = self._settings(self._port or self._wanted_port)
                with self._lock:
                    self._deaths, self._failure = [], None
                    self._run = self._new_run(settings)
                    self._remove_hook = self._remove_hook or loop.at_exit(self.close)
            return self._ready()

    def _new_run(self, settings: S) -> Run[S]:
        return Run(settings, on_end=self._ended, what=self.WHAT, source=self._source(settings))

    def _ready(self) -> Run[S]:
        deadline_s = time.monotonic() + self.START_S
        while True:
            with self._lock:
                run, failure = self._run, self._failure
            if run is None:
                raise failure or LocalModelError(f"the {self.WHAT} was closed while it started")
            if not loop.block(run.settled, timeout_s=max(0.0, deadline_s - time.monotonic())):
                self.close()
                raise LocalModelError(f"the {self.WHAT} was not ready after {self.START_S:g} s; see {str(run.log)!r}")
            if run.is_ready:
                self._port = run.facts["port"]
                return run

    def _ended(self, run: Run[S]) -> None:
        """A process has ended; called from the thread that followed it."""
        with self._lock:
            if run is not self._run:
                return  # by `close`
            now_s = time.monotonic()
            self._run, self._failure = None, run.failure()
            self._deaths = [at for at in self._deaths if now_s - at < RESTART_WITHIN_S] + [now_s]
            if run.facts:
                port = run.facts["port"]
            elif run.settings.port and not self._wanted_port:
                port = 0  # most likely somebody else has taken it
            else:
                return
            if len(self._deaths) > RESTARTS:
                return
            try:
                self._run = self._new_run(replace(run.settings, port=port))
            except (LocalModelError, RuntimeError) as error:  # no more processes, or no more threads
                self._failure.__cause__ = error

    def close(self) -> None:
        """Stop the server, within 4 s; a second call does nothing, and a later use starts it again elsewhere."""
        with self._lock:
            run, self._run = self._run, None
            hook, self._remove_hook = self._remove_hook, None
            self._port, self._failure = 0, None
        if run is not None:
            run.stop()
        if hook is not None:
            hook()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _state(self) -> str:
        """What a repr says of it."""
        run = self._run
        return f"on port {run.facts['port']}" if run is not None and run.is_ready else "not running"


_served: weakref.WeakSet[Served[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for one in _served:
        one._forget_run()  # noqa: SLF001 - this module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
