"""`Turn`: the handle of one request, returned at once; block on it, await it, iterate over it, show it.

A turn passes two points. *Stored*: the reply is committed and the conversation is free for the next
request. *Delivered*: the turn's listeners have run. Who waits waits for *delivered*; inside a listener
for *stored*, so that a listener may wait for any turn, its own included. Storing never waits for a
listener.

A failed turn that nobody looked at reports itself in one line, in the cell that asked. "Nobody looked"
is decided `GRACE_S` after delivery (or at exit, if that is earlier): no one has waited for it, iterated
over it or shown it, and no listener of an error event got its failure. A wait that ended with a
``TimeoutError`` does not count. The line is printed once; waiting later raises the error all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Final

from voxnb.clients.follow import STORE_S, AsyncDeltaIterator, DeltaIterator, Follower, Progress, give_up, without_frames
from voxnb.clients.reply import Reply, shorten
from voxnb.errors import StreamBrokenError, ToolRoundsError, TurnCancelledError, TurnError, VoxnbError
from voxnb.runtime import config, loop
from voxnb.runtime.progress import following

__all__ = ["Reply", "Turn", "gather"]

GRACE_S: Final = 0.5
"""How long after delivery a failed turn waits for someone to look at it before it reports itself."""

REPLY_NAMES: Final = frozenset(
    "text message tool_calls refusal parsed tool_runs usage finish_reason turn plan warnings reused".split()  # noqa: SIM905 - a list to read
)


class Turn:
    """One request and its answer, while it comes and after.

    Made by a client's ``ask`` and ``create_…``. Everything but `result`, ``await``, iteration and
    `show` returns at once.

    Attributes:
        client: the client that was asked.
        context: copy of the caller's context; the turn's listeners run in copies of it.
        id: id of the stored turn; None until it is known, and where nothing is stored.
        number: position in the conversation, from 1; None as above.
        tools_running: names of the tools that run for it now.
    """

    def __init__(self, *, client: Any, number_hint: int | None = None) -> None:
        self.client = client
        self.context = copy_context()
        self.id: str | None = None
        self.number = number_hint
        self.tools_running: tuple[str, ...] = ()
        self._progress = Progress()
        self._state = "queued"
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self._traceback: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self._seen = False
        self._keep_hook: Callable[[], None] | None = None
        self.is_answered: Callable[[], bool] = lambda: False
        """Whether all of its answer has come; what serves the turn knows."""

    # What the client's coroutine calls, on the background loop.

    def _attach(self, task: asyncio.Task[Any]) -> None:
        """The task that serves this turn, so that it can be cancelled while it is still queued."""
        if self._task is None:
            self._task = task
            task.add_done_callback(self._on_task_done)
            if self._cancelled:
                task.cancel()

    def _start(self, task: asyncio.Task[Any]) -> None:
        """The request is being made by this task."""
        self._attach(task)
        if self._state == "queued":
            self._state = "running"

    def _push(self, delta: str) -> None:
        """A piece of the reply's text."""
        self._progress.push(delta)

    def _store(self, reply: Reply | None = None, error: BaseException | None = None) -> None:
        """The turn is stored: with its reply, with what went wrong, or with both (a broken stream)."""
        if self._progress.stored.done():
            raise TurnError(f"{self!r} was stored before")
        self._reply, self._error = reply, error
        if error is not None:
            self._traceback = error.__traceback__
        self._state = _end_state(reply, error)
        self._progress.stored.set_result(None)
        self._progress.wake()

    def _deliver(self) -> None:
        """The turn's listeners have run."""
        if not self._progress.stored.done():
            raise TurnError(f"{self!r} was delivered before it was stored")
        if self._progress.delivered.done():
            return
        if self._state in ("failed", "partial") and not self._seen:
            self._keep_hook = loop.at_exit(self._report_unseen)
            loop.call_later(GRACE_S, self._report_unseen)
        self._progress.delivered.set_result(None)
        self._progress.wake()

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        # Whatever happens to the client's coroutine, nobody waits for ever.
        error = None if task.cancelled() else task.exception()
        if not self._progress.stored.done():
            if task.cancelled():
                error = TurnCancelledError("the turn was cancelled before anything of the reply had come")
            self._store(error=error or TurnError("the client's task ended without a reply"))
            self._deliver()
        elif error is not None:
            self._deliver()

    @property
    def stored(self) -> Future[None]:
        """Done when the turn is stored."""
        return self._progress.stored

    def mark_seen(self) -> None:
        """Somebody has heard how this turn ended: it need not report its failure."""
        self._seen = True

    def _report_unseen(self) -> None:
        remove, self._keep_hook = self._keep_hook, None
        if remove is None:
            return
        remove()
        if not self._seen:
            self._seen = True
            number = "" if self.number is None else f" {self.number}"
            # What a server says may quote what was said.
            why = "" if getattr(self.client, "private", False) else f": {self._error}"
            how = "failed" if self._state == "failed" else "stopped half way"
            text = f"turn{number} {how}: {type(self._error).__name__}{why} (.result() raises it)"
            self.context.copy().run(config.report, text)

    # Waiting.

    def result(self, timeout_s: float | None = None) -> Reply:
        """Block until the turn's listeners have run (inside a listener: until it is stored).

        Interrupted, it cancels the turn, waits up to 1 s for the partial to be stored and raises on.

        Args:
            timeout_s: longest wait; None for no limit.

        Returns:
            The reply. Of a cancelled turn what had come, with ``finish_reason="cancelled"``.

        Raises:
            TimeoutError: the turn is not done; it goes on.
            TurnCancelledError: cancelled before anything had come.
            StreamBrokenError: the answer stopped half way; its ``reply`` is what had come.
            ToolRoundsError: the model would not stop calling tools.
            VoxnbError: whatever else the request met.
            KeyboardInterrupt: as everywhere.
        """
        point = self._progress.end()
        seen, self._seen = self._seen, True
        try:
            loop.wait(point, timeout_s=timeout_s, on_interrupt=self._give_up)
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            raise without_frames(error) from None
        except TimeoutError:
            self._seen = seen
            raise TimeoutError(
                f"{self._name()} is still {self._state} after {timeout_s:g} s; it goes on: wait again or cancel() it"
            ) from None
        return self._outcome()

    def __await__(self) -> Generator[Any, None, Reply]:
        return self._wait().__await__()

    async def _wait(self) -> Reply:
        point = self._progress.end()
        self._seen = True
        try:
            await loop.wait_async(point)
        except asyncio.CancelledError as error:
            await give_up(self._progress, self.cancel)
            raise without_frames(error) from None
        return self._outcome()

    def __iter__(self) -> DeltaIterator:
        self._seen = True
        return DeltaIterator(self._progress, outcome=self._outcome, give_up=self._give_up)

    def __aiter__(self) -> AsyncDeltaIterator:
        self._seen = True
        return AsyncDeltaIterator(self._progress, outcome=self._outcome, cancel=self.cancel)

    def follow(self) -> Follower:
        """A reader of the text in batches, for views that repaint at their own pace."""
        self._seen = True
        return Follower(self._progress)

    def on_news(self, waker: Callable[[], None]) -> None:
        """Call a function once, at the next text or an end, in whichever thread brings it: for views."""
        self._seen = True
        self._progress.watch(waker)

    def _outcome(self) -> Reply:
        if self._error is not None:
            # The same object is raised to every waiter: without this each would add to its traceback.
            raise self._error.with_traceback(self._traceback)
        assert self._reply is not None
        return self._reply

    def _give_up(self) -> None:
        self.cancel(wait_s=STORE_S)

    def cancel(self, *, wait_s: float = 0.0) -> bool:
        """Stop the turn; what has come is stored as a partial reply.

        Args:
            wait_s: longest wait for the partial to be stored; with 0 it returns at once.

        Returns:
            False if the turn was stored already, and nothing changes.
        """
        if self._progress.stored.done():
            return False
        if not self._cancelled:
            self._cancelled = True
            with contextlib.suppress(TurnError):  # the interpreter is closing, which cancels everything
                loop.call_soon(self._cancel_task)
        if wait_s > 0:
            stored = threading.Event()
            self._progress.stored.add_done_callback(lambda _: stored.set())
            loop.block(stored, timeout_s=wait_s)
        return True

    def _cancel_task(self) -> None:
        if self._task is not None and not self._progress.stored.done():
            self._task.cancel()

    # Looking, without waiting.

    @property
    def partial(self) -> str:
        """The text that has come so far."""
        return "".join(self._progress.deltas)

    @property
    def state(self) -> str:
        """One of queued, running, complete, partial, failed, cancelled."""
        return self._state

    @property
    def cancelling(self) -> bool:
        """Whether `cancel` was called, however the turn then ended."""
        return self._cancelled

    def _name(self) -> str:
        return "the turn" if self.number is None else f"turn {self.number}"

    def __repr__(self) -> str:
        number = "" if self.number is None else f" {self.number}"
        text = shorten(self.partial or (self._reply.text if self._reply is not None else ""))
        error = f" {type(self._error).__name__}: {shorten(str(self._error))}" if self._error is not None else ""
        return f"<Turn{number} {self._state}{f' {text!r}' if text else ''}{error}>"

    def __getattr__(self, name: str) -> Any:
        if name in REPLY_NAMES:
            raise AttributeError(
                f"a Turn has no {name!r}: it is the Reply's; wait for it with turn.result().{name} or (await turn).{name}"
            )
        raise AttributeError(f"a Turn has no {name!r}")

    def show(self, wait: bool = False) -> None:  # noqa: FBT001, FBT002 - the public name is show(wait=False)
        """Show the reply where this is called: it streams there, in a notebook as safe HTML.

        Args:
            wait: return only when the turn's listeners have run (then it raises as `result` does); else
                go on painting in the background.
        """
        self._seen = True
        try:
            config.load("show_turn")(self, wait=wait)
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            if wait:  # it may have come while what paints was loaded
                self.cancel(wait_s=GRACE_S)
            raise without_frames(error) from None

    def _ipython_display_(self) -> None:
        self.show(wait=True)

    def _display_(self) -> Any:
        """What marimo shows: the reply as it comes. Its cell ends at once, since it paints only what has ended."""
        self._seen = True
        return config.load("live_turn")(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002 - IPython's signature
        return {"text/plain": repr(self)}


def _end_state(reply: Reply | None, error: BaseException | None) -> str:
    if isinstance(error, TurnCancelledError) or (
        error is None and reply is not None and reply.finish_reason == "cancelled"
    ):
        return "cancelled"
    if error is None:
        return "complete"
    kept = reply or (error.reply if isinstance(error, StreamBrokenError | ToolRoundsError) else None)
    return "partial" if kept is not None and kept.says_something else "failed"


def gather(
    turns: Iterable[Turn] | Turn, *, progress: bool | Callable[[int, int], object] | None = None
) -> list[Reply | VoxnbError]:
    """Wait for many turns; errors are kept in place.

    Interrupted, it cancels all of them, waits up to 1 s for their partials and raises on. In async code
    ``await asyncio.gather(*turns, return_exceptions=True)`` does the same.

    Args:
        turns: in the order of the result; or one.
        progress: True shows how many have ended, False nothing; None shows it of more than one turn, in a notebook or
            a terminal. A function is called with (done, all).

    Returns:
        For each turn its reply or the error that its `result` would raise.

    Raises:
        TypeError: something in it is not a Turn.
    """
    if not isinstance(turns, Iterable):
        raise TypeError(f"gather takes turns, got {turns!r}; ask() returns one")
    turns = [turns] if isinstance(turns, Turn) else list(turns)  # a turn is an iterable too: of its text
    for turn in turns:
        if not isinstance(turn, Turn):
            raise TypeError(f"gather takes turns, got {turn!r}; ask() returns one")
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    news = threading.Event()

    def note(_: Any) -> None:
        ended.put(None)
        news.set()

    try:
        wanted = False if progress is None and len(turns) < 2 else progress
        with following(wanted, title="replies", total=len(turns), unit="turn", leave=True, tick_s=0) as tell:
            for turn in turns:
                turn.mark_seen()
                turn._progress.end().add_done_callback(note)  # noqa: SLF001 - of this module
            for n in range(len(turns)):
                while ended.empty():
                    news.clear()
                    if ended.empty():
                        loop.block(news)
                ended.get_nowait()
                tell(n + 1)
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        _cancel_all(turns)
        raise without_frames(error) from None
    return [_settled(turn) for turn in turns]


def _settled(turn: Turn) -> Reply | VoxnbError:
    try:
        return turn.result()
    except VoxnbError as error:
        return error


def _cancel_all(turns: list[Turn]) -> None:
    for turn in turns:
        turn.cancel()
    deadline = time.monotonic() + STORE_S
    for turn in turns:
        turn.cancel(wait_s=deadline - time.monotonic())
