"""One run of a server of ours in a child process, seen from its parent.

The parent's end of the child's standard input is its lifeline: the child ends when it
closes. A forked copy of the parent gets the descriptor too; it closes its copy, so that
the child still ends with the one process that started it, and does nothing else with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from voxnb.errors import LocalModelError
from voxnb.local import child, weights

LOG_BYTES: Final = 1 << 20
"""Longest log of one run."""

LOGS_KEPT: Final = 8
"""Logs of runs that crashed are kept to be read, the newest of them."""

LOG_AGE_S: Final = 3_600.0
SHOWN_LINES: Final = 12
STOP_S: Final = 2.0


class Started(Protocol):
    """What a run is started with: a dataclass of plain values.

    Attributes:
        port: 0 for a free one.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def port(self) -> int: ...  # noqa: D102 - see the class


S = TypeVar("S", bound=Started)


class Run(Generic[S]):
    """A child process, from its start to its end; it may be ready, or have ended, at any time.

    Args:
        settings: what it is started with.
        on_end: called from another thread when it has ended, however it did.
        what: its name in errors.
        source: what it works from, for errors: the weights' path, say.

    Attributes:
        settings: as given.
        settled: set when it is ready or has ended.
        ended: set when it has ended.
        facts: what it said when it was ready: ``port``, ``n_ctx_tokens`` and ``slots``; empty before.
        log: its log file, removed when it ends by `stop`.

    Raises:
        LocalModelError: no process can be started.
    """

    def __init__(self, settings: S, *, on_end: Callable[[Run[S]], None], what: str, source: str) -> None:
        self.settings = settings
        self._what, self._source = what, source
        self.settled, self.ended = threading.Event(), threading.Event()
        self.facts: dict[str, int] = {}
        self._on_end = on_end
        self._lock = threading.Lock()
        fd, self.log = new_log()
        try:
            self._start(settings, log_fd=fd)
        except OSError as error:
            raise LocalModelError(f"the {what}'s process could not be started ({error})") from error
        finally:
            os.close(fd)
        _runs.add(self)
        threading.Thread(target=self._follow, name="voxnb-local", daemon=True).start()

    def _start(self, settings: S, *, log_fd: int) -> None:
        if not sys.executable:
            raise LocalModelError("this Python does not know its own program (sys.executable is empty)")
        theirs, self._lifeline = os.pipe()
        self._answer, answer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                # By path and with -P: neither the working directory nor the parent's sys.path decides what runs.
                [sys.executable, "-P", child.__file__],
                stdin=theirs,
                stdout=answer,
                stderr=log_fd,
                # Interrupts of the terminal or the notebook go to whole groups; this one is not meant.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except BaseException:
            os.close(self._lifeline)
            os.close(self._answer)
            raise
        finally:
            os.close(theirs)
            os.close(answer)
        first = {
            **asdict(settings),
            "log": str(self.log),
            "log_bytes": LOG_BYTES,
            "sys_path": [p for p in sys.path if p],
        }
        with contextlib.suppress(BrokenPipeError):  # it has ended already: told by its exit code and its log
            os.write(self._lifeline, json.dumps(first).encode() + b"\n")

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it answers requests, as far as is known."""
        return bool(self.facts) and not self.ended.is_set()

    def _follow(self) -> None:
        text = b""
        while block := os.read(self._answer, 4096):
            text += block
        fd, self._answer = self._answer, -1
        os.close(fd)
        with contextlib.suppress(ValueError):  # nothing: it ended before it was ready
            self.facts = json.loads(text)
        if self.facts:
            self.settled.set()
        self._process.wait()
        self._let_go()
        try:
            self._on_end(self)
        finally:
            self.ended.set()
            self.settled.set()

    def stop(self) -> None:
        """End it and wait until it has; it gets `STOP_S` to do so by itself."""
        self._let_go()
        if not self.ended.wait(STOP_S):
            self._process.kill()
            self.ended.wait(STOP_S)
        with contextlib.suppress(OSError):
            self.log.unlink(missing_ok=True)

    def _let_go(self) -> None:
        with self._lock:
            fd, self._lifeline = self._lifeline, -1
        if fd >= 0:
            os.close(fd)

    def disown(self) -> None:
        """In a forked copy of the parent: close the copied descriptors, and know of no process."""
        self._lock = threading.Lock()
        for fd in (self._lifeline, self._answer):
            with contextlib.suppress(OSError):  # closed before the fork
                os.close(fd)
        self._lifeline = self._answer = -1
        self._process.returncode = 0  # not this process's to wait for, nor to complain about

    def failure(self) -> LocalModelError:
        """The error that says how it ended, with the end of its log."""
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        what = "ended" if self.facts else "did not start"
        return LocalModelError(
            f"the {self._what}'s server {what} ({how}, {self._source!r}); its log {str(self.log)!r} ends:\n{self._last_words()}",
            exit_code=code,
            log=str(self.log),
        )

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "(the log cannot be read)"
        return "\n".join(lines[-SHOWN_LINES:]) or "(the log is empty)"


_runs: weakref.WeakSet[Run[Any]] = weakref.WeakSet()
_disowned: list[Run[Any]] = []


def _after_fork() -> None:
    # Kept for ever: their clean-up is the parent's.
    _disowned.extend(_runs)
    _runs.clear()
    for run in _disowned:
        run.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def new_log() -> tuple[int, Path]:
    """A new log file, open for appending, in the cache (else in the folder for temporary files).

    Returns:
        Its descriptor and its path; only this user can read it.

    Raises:
        LocalModelError: neither folder can be written.
    """
    name = f"server-{time.strftime('%Y%m%d-%H%M%S')}-"
    for folder in (weights.cache_folder() / "log", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fd, text = tempfile.mkstemp(prefix=name, suffix=".log", dir=folder)
        except OSError:
            continue
        os.close(fd)
        _remove_old(folder)
        return os.open(text, os.O_WRONLY | os.O_APPEND), Path(text)
    raise LocalModelError(
        f"no log can be written, neither in {str(weights.cache_folder())!r} nor in {tempfile.gettempdir()!r}; "
        "set VOXNB_CACHE to a folder of yours"
    )


def _remove_old(folder: Path) -> None:
    names = sorted(folder.glob("server-*-*.log"), key=lambda p: p.name)
    for old in names[:-LOGS_KEPT]:
        with contextlib.suppress(OSError):  # on Windows: still written
            # What was written lately may belong to a run that is still going.
            if time.time() - old.stat().st_mtime > LOG_AGE_S:
                old.unlink()
