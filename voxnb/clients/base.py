"""`Client`: what every client is, whatever it speaks: ids, listeners, turns under way, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from voxnb.clients.endpoint import Resolved, resolve
from voxnb.clients.handle import Handle
from voxnb.clients.turn import Turn
from voxnb.errors import ClientClosedError, VoxnbError
from voxnb.events import ContextEvents, Event, EventNamespace, Events, SessionEvents, WebSocketEvents
from voxnb.params import ChatParameters
from voxnb.runtime import config, loop
from voxnb.runtime.dispatch import Dispatcher, Watcher
from voxnb.runtime.event_wait import EventWait
from voxnb.runtime.stats import Counters, Statistics
from voxnb.runtime.trace import TRACES, Trace
from voxnb.store.context_store import ignore_in_git
from voxnb.store.ids import new_id

FOLD_WAIT_S: Final = 10.0
"""How long close() lets running folds end: they are paid for."""

ANSWERED_WAIT_S: Final = 1.0
"""How long close() lets a turn whose answer has come be stored."""

STOP_WAIT_S: Final = 5.0
"""How long close() waits until stopped turns are stored."""

NORMAL_CLOSE: Final = {"code": 1000, "reason": "Normal connection close", "wasClean": True}
"""What the close event says where the client was closed by its user."""

_STICKY: Final = ("WebSocket.Created", "WebSocket.Open", "WebSocket.Close")


class Client:
    """A connection to one server, with listeners; clients are context managers and close themselves at exit.

    Raises:
        ParameterError: unknown or contradicting parameters.
        CredentialsError: no key, or one that may not go to that host.
    """

    EVENTS: ClassVar[type[EventNamespace]]
    """The namespace of its events."""

    CONNECTOR: ClassVar[str]
    """What `ConnectorInformation` calls it."""

    STICKY: ClassVar[tuple[str, ...]] = ("ConnectorInformation",)
    """Events of its own namespace that later listeners get, too."""

    PUBLIC: ClassVar[tuple[str, ...]] = (
        "add_event_listener",
        "close",
        "id",
        "idle",
        "on",
        "remove_event_listener",
        "statistics",
        "trace",
        "wait_for",
        "web_socket_id",
    )
    """What completion shows of a class, with what it shows of its bases: the names for users."""

    def __init__(self, parameters: ChatParameters) -> None:
        p = self._parameters = parameters
        self._id = new_id("client")
        self._socket_id = new_id("socket")
        self.endpoint, self.served, later = self._resolve(p)
        # The embedded model's port changes from start to start; what is learned of it stays.
        self.host = "local" if self.endpoint.is_local else self.endpoint.host
        from voxnb.clients.sdk import Transport

        self.transport = Transport(
            self.endpoint,
            timeout_s=p.timeout_s,
            max_retries=p.max_retries,
            openai_client=p.openai_client,
            private=p.privacy,
            later=later,
        )
        self.counters = Counters()
        self.max_retries = p.max_retries
        self.slots = asyncio.Semaphore(p.max_parallel)
        sticky = (self.EVENTS[name].value for name in self.STICKY)
        self.dispatcher = Dispatcher(
            client=self,
            client_id=self._id,
            known=(self.EVENTS, Events, ContextEvents, SessionEvents, WebSocketEvents),
            sticky=frozenset({*sticky, *(WebSocketEvents(name).value for name in _STICKY)}),
            private=p.privacy,
        )
        self.wanted = _Wanted(self.dispatcher)
        self._warned: set[str] = set()
        self._running: set[Turn] = set()
        self._served: set[asyncio.Task[Any]] = set()
        self._folds: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._ending: Future[None] | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._exit: Callable[[], None] = lambda: None

    def _resolve(self, parameters: ChatParameters) -> Resolved:
        return resolve(parameters, os.environ)

    def _open(self) -> None:
        """It is made: close it at exit, and say VoxEngine's first events, for listeners that come at once or later."""
        self._tell_created()
        self._tell_open()

    def _tell_created(self) -> None:
        self._exit = loop.at_exit(_Closer(self))
        callback = self._parameters.on_web_socket_close
        if callback is not None:
            self.dispatcher.add(WebSocketEvents.Close, lambda event: callback(event.payload))
        created: dict[str, Any] = {"websocket": self._socket_id}
        if self._parameters.trace:
            folder = config.project_root() / TRACES
            ignore_in_git(folder)
            self.transport.trace = Trace(self._file_in(folder, ".jsonl"), hide=self.transport.hide)
            created["trace"] = str(self.transport.trace.path)
        if self._parameters.statistics:
            self._statistics_path = self._file_in(config.project_root() / config.FOLDER / "statistics", ".json")
            created["statisticsUrl"] = self._statistics_path.as_uri()
        self.dispatcher.emit(WebSocketEvents.Created.value, created, context=None)

    def _tell_open(self) -> None:
        from voxnb import __version__

        self.dispatcher.emit(WebSocketEvents.Open.value, {"websocket": self._socket_id}, context=None)
        information = {"applicationVersion": __version__, "id": self._socket_id, "endpoint": self.CONNECTOR}
        self.dispatcher.emit(self.EVENTS["ConnectorInformation"].value, information, context=None)

    def _file_in(self, folder: Path, ending: str) -> Path:
        return folder / (time.strftime("%Y%m%d-%H%M%S-") + self._id + ending)

    # -- VoxEngine's methods ------------------------------------------------------------------

    def id(self) -> str:
        """Id of this client."""
        return self._id

    def web_socket_id(self) -> str:
        """Id of its connection."""
        return self._socket_id

    def add_event_listener(self, event: str, callback: Callable[[Event], Any]) -> None:
        """Call ``callback(event)`` for every event of that name.

        Listeners run in registration order in the client's listener thread; ``async def`` ones are started there.
        In a notebook the listeners of a cell are replaced when the cell is run again.

        Args:
            event: a constant of the client's own namespace, of `Events` or `ContextEvents`, or its string.
            callback: takes one `Event`.

        Raises:
            TypeError: it cannot be called.
        """
        self.dispatcher.add(event, callback)

    def remove_event_listener(self, event: str, callback: Callable[[Event], Any] | None = None) -> None:
        """Remove a listener; without one, all of that event."""
        self.dispatcher.remove(event, callback)

    def on(self, event: str, callback: Callable[[Event], Any] | None = None) -> Any:
        """`add_event_listener` as a decorator: ``@client.on(OpenAI.ChatCompletionsAPIEvents.ContentDelta)``.

        With a callback it listens at once.
        """
        return self.dispatcher.on(event) if callback is None else self.dispatcher.on(event, callback)

    def wait_for(self, event: str, *, timeout_s: float | None = None) -> EventWait:
        """The next `Event` of a name, at most `timeout_s` from now: block with ``.result()`` or ``await`` it."""
        return self.dispatcher.wait_for(event, timeout_s=timeout_s)

    def watch_events(self, watcher: Watcher, /) -> Callable[[], None]:
        """Let a function see every event from now on: name, payload, turn or None. Returns what ends it.

        It is called where the event arises, on the background loop, and must be quick; listeners are for users' code.
        """
        return self.dispatcher.watch(watcher)

    # One line each, so that editors see them; `voxengine.METHODS` is the table.
    webSocketId = web_socket_id  # noqa: N815 - VoxEngine's spelling
    addEventListener = add_event_listener  # noqa: N815 - VoxEngine's spelling
    removeEventListener = remove_event_listener  # noqa: N815 - VoxEngine's spelling

    # -- what runs ----------------------------------------------------------------------------

    def _start(self, turn: Turn, work: Coroutine[Any, Any, None]) -> Turn:
        """Serve a turn on the background loop."""
        try:
            with self._lock:
                self._check_open()
                self._running.add(turn)
            loop.submit(self._serve(turn, work))
        except BaseException:  # an interrupt too, which may come when the turn runs already
            self._running.discard(turn)
            loop.abandon(work)
            raise
        return turn

    async def _serve(self, turn: Turn, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        task.add_done_callback(lambda _: self._running.discard(turn))
        turn._attach(task)  # noqa: SLF001 - the client drives its turns

    def idle(self) -> Handle[None]:
        """A handle that is done when no turn runs and no fold does."""
        return Handle(loop.submit(self._idle()), name="idle")

    async def _idle(self) -> None:
        while busy := self._served | self._folds:
            await asyncio.wait(busy)

    @property
    def trace(self) -> Trace | None:
        """With ``trace=True`` the file of everything sent and received; as a cell's last line a link to it."""
        return self.transport.trace

    def statistics(self) -> Statistics:
        """What this client has done so far: requests, bytes, waiting, speed, folds; ``.df`` has the calls one by one."""
        return self.counters.taken()

    @property
    def private(self) -> bool:
        """Whether nothing of what is said may be noted anywhere but in the conversation itself."""
        return self._parameters.privacy

    def kept(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """What of a turn's or fold's events is stored: nothing where the client is private."""
        return () if self.private else events

    def warn_once(self, key: str) -> bool:
        """Whether this is the first time."""
        first = key not in self._warned
        self._warned.add(key)
        return first

    def emit(self, name: str, payload: Mapping[str, Any], *, context: Context | None, turn: Turn | None = None) -> None:
        """An event of this client; the payload belongs to the listeners from now on."""
        self.dispatcher.emit(name, dict(payload), context=context, turn=turn)

    def deliver(self, turn: Turn) -> None:
        """Let the turn be *delivered* once its listeners have run."""
        self.dispatcher.barrier(turn._deliver, turn=turn)  # noqa: SLF001 - the client drives its turns

    # -- its end ------------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether it was closed, or is being closed."""
        return self._closing

    def _check_open(self) -> None:
        if self._closing:
            raise ClientClosedError("this client was closed; make a new one")
        if self._pid != os.getpid():
            raise ClientClosedError("this client belongs to the process before the fork; make a new one in the child")

    def close(self) -> None:
        """Let running folds end, stop what streams (the partial replies are kept), close the connection.

        Ctrl-C skips the wait for folds. A second call does nothing.
        """
        if self._pid != os.getpid():
            return
        closed = self._begin_close()
        if not loop.on_loop():
            loop.wait(closed, on_interrupt=self._skip_folds)
        self._exit()

    def _begin_close(self) -> Future[None]:
        with self._lock:
            if self._ending is None:
                self._closing = True
                self._ending = loop.submit(self._close())
            return self._ending

    def _skip_folds(self) -> None:
        loop.call_soon(self._cancel_folds)

    def _cancel_folds(self) -> None:
        for task in list(self._folds):
            task.cancel()

    async def _close(self) -> None:
        closed = await self._stop()
        await self.transport.aclose()
        if self._parameters.statistics:
            self._write_statistics()
        if closed is not None:
            self.dispatcher.emit(WebSocketEvents.Close.value, {"websocket": self._socket_id, **closed}, context=None)
        self.dispatcher.close()
        if self.trace is not None:
            self.trace.close()

    async def _stop(self) -> dict[str, Any] | None:
        """End all that runs; what the close event says of it, None where it was told already."""
        if self._folds:
            await asyncio.wait(self._folds, timeout=0.5)
            if self._folds:
                print("voxnb: waiting for a running summary, Ctrl-C skips it", file=sys.stderr)  # noqa: T201 - the one line
                await asyncio.wait(self._folds, timeout=FOLD_WAIT_S)
            self._cancel_folds()
        # A turn whose answer is all there is about to be stored (a listener that closes hears of its end before).
        answered = {turn for turn in self._running if turn.is_answered()}
        for turn in list(self._running - answered):
            turn.cancel()
        if answered:
            await asyncio.wait([asyncio.wrap_future(turn.stored) for turn in answered], timeout=ANSWERED_WAIT_S)
        for turn in list(self._running):
            turn.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                await self._idle()
                await self._leave_store()
        return dict(NORMAL_CLOSE)

    def _write_statistics(self) -> None:
        path = self._statistics_path
        try:
            ignore_in_git(path.parent.parent)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.write_text(json.dumps(self.statistics().to_dict(), indent=1) + "\n", encoding="utf-8")
        except (OSError, VoxnbError) as error:
            config.report(f"the statistics could not be written to {str(path)!r} ({error})")

    async def _leave_store(self) -> None:
        """Store what could not be stored when it came; a client without memory has nothing of the kind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await loop.wait_async(self._begin_close())
        self._exit()

    def __dir__(self) -> Iterable[str]:
        # Completion shows one spelling, and not what exchanges and folds ask of their client.
        public = {name for cls in type(self).__mro__ for name in vars(cls).get("PUBLIC", ())}
        return [*(name for name in super().__dir__() if name.startswith("_")), *public]


class _Wanted:
    """The events that have a listener now, for a reader that runs."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __contains__(self, name: object) -> bool:
        return name in self._dispatcher.wanted

    def __bool__(self) -> bool:
        return bool(self._dispatcher.wanted)


class _Closer:
    """Closes a client at exit without keeping it alive until then."""

    def __init__(self, client: Client) -> None:
        self._client = weakref.ref(client)

    def __call__(self) -> None:
        client = self._client()
        if client is not None:
            client.close()


def caller_context() -> Context:
    """A copy of the context of whoever calls; on the background loop, which has nobody's, an empty one."""
    return Context() if loop.on_loop() else copy_context()
