"""Stores and os.fork(): no connection is open while a process forks.

SQLite keeps its locks per process, in memory: a child that inherits an open connection believes that it holds locks
which are its parent's (measured: its writes are busy for ever, or fail once the parent closes and takes the log with
it). Closing in the child is as wrong as using. So the parent waits until nobody uses a connection, closes them all, forks,
and both open their own when they next need one.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

FORK_TIMEOUT_S: Final = 10.0
"""How long a fork waits for statements of other threads; then it goes on, as if there were no rule."""


class Forking(Protocol):
    """What has connections."""

    def let_go(self) -> None:
        """Close every connection; nobody uses one now."""

    def start_again(self) -> None:
        """Forget what the parent had; this is the child."""


class _Gate:
    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.inside = 0
        self.forking = False
        self.thread = threading.local()


_gate = _Gate()
_stores: weakref.WeakSet[Forking] = weakref.WeakSet()


def watch(store: Forking) -> None:
    """Let go of a store's connections whenever this process forks."""
    _stores.add(store)


class using:  # noqa: N801 - read as a verb: `with forks.using():`
    """Hold off forks of other threads while a connection is used; every statement of the store is inside of one."""

    __slots__ = ("depth", "gate")

    def __enter__(self) -> None:
        gate = self.gate = _gate
        depth = self.depth = getattr(gate.thread, "depth", 0)
        if depth == 0:
            with gate.condition:
                while gate.forking:
                    gate.condition.wait()
                gate.inside += 1
        gate.thread.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        gate = self.gate
        gate.thread.depth = self.depth
        if self.depth == 0:
            with gate.condition:
                gate.inside -= 1
                if gate.forking:
                    gate.condition.notify_all()


def _before() -> None:
    gate = _gate
    own = int(getattr(gate.thread, "depth", 0) > 0)
    gate.condition.acquire()
    while gate.forking:
        gate.condition.wait()
    gate.forking = True
    free = gate.condition.wait_for(lambda: gate.inside <= own, FORK_TIMEOUT_S)
    if free and not own:
        for store in list(_stores):
            store.let_go()


def _in_parent() -> None:
    _gate.forking = False
    _gate.condition.notify_all()
    _gate.condition.release()


def _in_child() -> None:
    global _gate  # noqa: PLW0603 - the parent's lock is held by a thread that is not here
    _gate = _Gate()
    for store in list(_stores):
        store.start_again()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
