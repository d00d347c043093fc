"""Listeners of a client: who registered what, which cell owns it, and what reaches the listener thread.

Rules:

1. Listeners of an event are called in registration order, one event at a time, in the client's listener
   thread (`voxnb.runtime.lane`), in a copy of the context of the cell that made the request; where there
   was none, of the cell that registered.
2. Who is registered is settled when an event happens: a listener added later gets what follows. A removed
   listener gets nothing more, even of what is queued.
3. A cell owns its listeners. The first registration that a new execution of a cell makes removes those of
   its earlier executions. The identical callable is called once, however often and from whichever cells
   it was added, and stays until the last of these cells gives it up.
4. A sticky event is kept; a later listener gets it at once, with ``late=True``.
5. What nobody listens to is never built.
6. A watcher sees every event as it is emitted, in the thread that emits it; while there is one, all are built.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from contextvars import Context, copy_context
from types import BuiltinMethodType, MethodType
from typing import Any, Final, TypeAlias, TypeVar, overload

from voxnb.errors import ClientClosedError, VoxnbError
from voxnb.events import Event, EventNamespace
from voxnb.params import nearest
from voxnb.runtime.cells import current_cell
from voxnb.runtime.event_wait import EventWait
from voxnb.runtime.failures import Failure, FailureLog
from voxnb.runtime.job import Job
from voxnb.runtime.lane import Delivery, Lane, Registration, bare_name, in_listener

__all__ = ["Dispatcher", "EventWait", "Failure", "Watcher", "in_listener"]

Listener = TypeVar("Listener", bound=Callable[[Event], Any])

Watcher: TypeAlias = Callable[[str, Mapping[str, Any], Any], object]
"""Gets an event's name, its payload (which is not its own: it may only look), and its turn or None."""

ERROR_NAMES: Final = ("Error", "ResponseFailed")
"""How the bare names of events end that tell of a failed turn."""


class Dispatcher:
    """The listeners of one client.

    Args:
        client: handed to listeners as ``event.client``.
        client_id: handed to them as ``event.id``.
        known: namespaces whose events this client has; another string draws a warning.
        sticky: names of events that later listeners get too.
        ends: name of an event → the sticky one that is over with it.
        on_failure: called on the background loop with a `Failure` for each thing that a listener raised.
        private: reports of failures name the exception's type alone: its text may quote what was said.

    Attributes:
        wanted: names that have a listener (or an `EventWait`) now; replaced, never changed.
    """

    def __init__(
        self,
        *,
        client: Any,
        client_id: str,
        known: Iterable[type[EventNamespace]],
        sticky: frozenset[str] = frozenset(),
        ends: Mapping[str, str] | None = None,
        on_failure: Callable[[Failure], object] | None = None,
        private: bool = False,
    ) -> None:
        self._private = private
        self.wanted: frozenset[str] = frozenset()
        self._client = client
        self._client_id = client_id
        self._known = {member.value: type(member).__name__ for space in known for member in space}
        self._sticky = sticky
        self._ends = dict(ends or {})
        self._unmissed = sticky | self._ends.keys()
        self._on_failure = on_failure
        self._start_empty()
        _dispatchers.add(self)

    def _start_empty(self) -> None:
        self._lock = threading.RLock()
        self._listeners: dict[str, tuple[Registration, ...]] = {}
        self._waits: dict[str, list[EventWait]] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._executions: dict[str, set[str]] = {}
        self._watchers: tuple[Watcher, ...] = ()
        self._closed = False
        self._given_up: tuple[Container[str], VoxnbError] | None = None
        self._log = FailureLog(on_failure=self._on_failure, private=self._private)
        self._lane = Lane(name=f"voxnb-listeners-{self._client_id}", log=self._log)
        # A client that is dropped without close() must not keep its thread; the lane knows no client.
        weakref.finalize(self, self._lane.close).atexit = False
        self._refresh()

    @property
    def queued(self) -> int:
        """Events that wait for the listener thread."""
        return self._lane.queued

    @property
    def delivered(self) -> int:
        """Events that have been run."""
        return self._lane.delivered

    @property
    def discarded(self) -> int:
        """Events dropped because their turn was cancelled."""
        return self._lane.discarded

    @property
    def failures(self) -> list[Failure]:
        """What listeners raised."""
        return self._log.failures

    def add(self, event: str, callback: Callable[[Event], Any]) -> None:
        """Register a listener.

        Args:
            event: an event constant or its string value.
            callback: called with the `Event`; a function or an ``async def``.

        Raises:
            TypeError: the callback cannot be called, would never run (a generator function), or the event is
                not a string.
        """
        name = self._check(event)
        if not callable(callback):
            raise TypeError(
                f"the listener of {bare_name(name)} is {callback!r}, which cannot be called; give a function"
            )
        if inspect.isgeneratorfunction(callback) or inspect.isasyncgenfunction(callback):
            raise TypeError(
                f"the listener of {bare_name(name)} is a generator function, whose body would never run; "
                "take the 'yield' out of it"
            )
        cell = current_cell()
        with self._lock:
            if cell is not None:
                self._take_over(cell.id, cell.execution)
            owner = None if cell is None else cell.id
            for known in self._listeners.get(name, ()):
                if _identical(known.callback, callback):
                    known.owners.add(owner)
                    return
            registration = Registration(name, callback, copy_context(), {owner})
            self._listeners[name] = (*self._listeners.get(name, ()), registration)
            self._refresh()
            if name in self._kept:
                # After `close` its thread ends with what is queued: this one gets a thread of its own.
                lane = Lane(name=self._lane.name, log=self._log) if self._closed else self._lane
                lane.put(self._late(name, (registration,)))
                if self._closed:
                    lane.close()

    def remove(self, event: str, callback: Callable[[Event], Any] | None = None) -> None:
        """Remove a listener, or all of an event; what is not registered is ignored."""
        name = self._check(event)
        with self._lock:
            self._keep(name, lambda r: callback is not None and not _identical(r.callback, callback))

    @overload
    def on(self, event: str) -> Callable[[Listener], Listener]: ...
    @overload
    def on(self, event: str, callback: Listener) -> Listener: ...
    def on(self, event: str, callback: Any = None) -> Any:
        """Register a listener: ``on(event, callback)``, or ``@on(event)`` above a function."""
        if callback is not None:
            self.add(event, callback)
            return callback

        def decorate(function: Listener) -> Listener:
            self.add(event, function)
            return function

        return decorate

    def wait_for(self, event: str, *, timeout_s: float | None = None) -> EventWait:
        """A handle of the next event of a name; of a sticky one that has happened, of that one.

        Args:
            event: an event constant or its string value.
            timeout_s: longest wait, from now.
        """
        name = self._check(event)
        handle = EventWait(name, timeout_s=timeout_s, forget=self._forget)
        with self._lock:
            if name in self._kept:
                handle.future.set_result(self._late(name, ()).event)
            elif self._closed:
                handle.future.set_exception(ClientClosedError(f"the client is closed; no {name} will come"))
            elif self._given_up is not None and self._known.get(name) in self._given_up[0]:
                handle.future.set_exception(self._given_up[1])
            else:
                self._waits.setdefault(name, []).append(handle)
                self._refresh()
        return handle

    def emit(self, name: str, payload: dict[str, Any], *, context: Context | None, turn: Any = None) -> None:
        """Hand an event to whoever listens; never blocks, and does nothing where nobody does.

        Args:
            name: the event's string value.
            payload: belongs to the listeners from now on.
            context: of the cell that made the request; None where the event belongs to none.
            turn: the turn it belongs to; hearing of its failure counts as having seen it.
        """
        if name not in self.wanted and name not in self._unmissed:
            return
        for watcher in self._watchers:
            watcher(name, payload, turn)
        with self._lock:
            if self._closed:
                return
            if name in self._sticky:
                self._kept[name] = copy.deepcopy(payload)
            elif name in self._ends:
                self._kept.pop(self._ends[name], None)
            listeners = self._listeners.get(name, ())
            waits = self._waits.pop(name, [])
            item = Delivery(name, payload, self._client, self._client_id, listeners, context, turn)
            if waits:
                self._refresh()
            if listeners:
                self._lane.put(item)
        if turn is not None and (listeners or waits) and bare_name(name).endswith(ERROR_NAMES):
            mark_seen = getattr(turn, "mark_seen", None)
            if mark_seen is not None:
                mark_seen()
        for handle in waits:
            handle.future.set_result(item.event)

    def watch(self, watcher: Watcher, /) -> Callable[[], None]:
        """Let somebody see every event from now on; it must be quick and never raise. Returns what ends it."""

        def change(*new: Watcher) -> None:
            with self._lock:
                self._watchers = (*(w for w in self._watchers if w is not watcher), *new)
                self._refresh()

        change(watcher)
        return change

    def barrier(self, done: Callable[[], None], *, turn: Any = None) -> None:
        """Call ``done()`` on the background loop once everything emitted before has been run.

        At once where there is no listener thread, or nothing for it to do.

        Args:
            done: takes nothing.
            turn: wait only for the async listeners that events of this turn have started; without it for
                every one that runs.
        """
        self._lane.barrier(done, turn=turn, every_turn=turn is None)

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]], *, context: Context) -> Job:
        """See `Lane.run`."""
        return self._lane.run(work, context=context)

    def discard(self, turn: Any) -> None:
        """Drop the undelivered deltas of a cancelled turn; its other events still come."""
        self._lane.discard(turn)

    def close(self) -> None:
        """Take no more events; what is queued still runs. Idempotent, returns at once."""
        with self._lock:
            self._closed = True
            waits = [handle for handles in self._waits.values() for handle in handles]
            self._waits.clear()
            self._refresh()
        self._lane.close()
        for handle in waits:
            handle.future.set_exception(ClientClosedError(f"the client was closed before {handle.name} came"))

    def give_up(self, spaces: Container[str], error: VoxnbError) -> None:
        """Fail who waits for events of these namespaces, now or later: none will come any more."""
        with self._lock:
            self._given_up = (spaces, error)
            names = [name for name in self._waits if self._known.get(name) in spaces]
            waits = [handle for name in names for handle in self._waits.pop(name)]
            self._refresh()
        for handle in waits:
            handle.future.set_exception(error)

    def _check(self, event: str) -> str:
        if not isinstance(event, str):
            raise TypeError(f"the event is {event!r}; give a constant such as ChatCompletionsAPIEvents.ContentDelta")
        name = str(event)
        if name not in self._known:
            names = {bare_name(value): value for value in self._known} | {value: value for value in self._known}
            close = [names[found] for found in nearest(name, names, n=1)]
            hint = f"; did you mean {close[0]!r}?" if close else ""
            warnings.warn(f"{name!r} is not an event of this client{hint}", UserWarning, stacklevel=_user_level())
        return name

    def _refresh(self) -> None:
        self.wanted = frozenset((*self._listeners, *self._waits, *(self._known if self._watchers else ())))

    def _keep(self, name: str, stays: Callable[[Registration], bool]) -> None:
        kept = []
        for registration in self._listeners.get(name, ()):
            if stays(registration):
                kept.append(registration)
            else:
                registration.active = False
        self._listeners[name] = tuple(kept)
        if not kept:
            del self._listeners[name]
        self._refresh()

    def _take_over(self, cell_id: str, execution: str) -> None:
        seen = self._executions.setdefault(cell_id, set())
        if execution in seen:
            return
        seen.add(execution)

        def stays(registration: Registration) -> bool:
            registration.owners.discard(cell_id)
            return bool(registration.owners)

        for name in tuple(self._listeners):
            self._keep(name, stays)

    def _late(self, name: str, listeners: tuple[Registration, ...]) -> Delivery:
        payload = copy.deepcopy(self._kept[name])
        return Delivery(name, payload, self._client, self._client_id, listeners, None, late=True)

    def _forget(self, handle: EventWait) -> None:
        with self._lock, contextlib.suppress(ValueError, KeyError):
            self._waits[handle.name].remove(handle)
            if not self._waits[handle.name]:
                del self._waits[handle.name]
            self._refresh()


def _identical(one: Any, other: Any) -> bool:
    # A bound method is a new object each time it is looked up; equality of these is identity of their parts.
    if one is other:
        return True
    return type(one) is type(other) and isinstance(one, MethodType | BuiltinMethodType) and bool(one == other)


def _user_level() -> int:
    """The stacklevel, seen from the caller, of the first frame outside voxnb."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - the documented way to look at the stack cheaply
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("voxnb."):
        level, frame = level + 1, frame.f_back
    return level


_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


def _forget_all() -> None:
    """In a forked child no listener thread lives, and a lock may be held by a thread that is gone."""
    for dispatcher in tuple(_dispatchers):
        dispatcher._start_empty()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
