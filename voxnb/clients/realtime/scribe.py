"""Writes down what is said in a call: each spoken turn is a turn of the conversation in the store.

Rule 1: what the user said is committed as soon as it is understood, with the plan of the answer's request (the server has
the history; the store records); the answer is committed once it is known how much of it was heard.
Rule 2: the text of a turn is what was *heard*. What the model had made beyond that is kept in the turn's events.
Rule 3: a turn that was interrupted is ``partial``, one of which nothing was heard goes on with what the user says next.
Rule 4: writing never waits in the way of the call, and what goes wrong with it never ends one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from voxnb.clients.realtime.book import Answer, Book, Entry, Said, length_ms
from voxnb.clients.realtime.memory import CallMemory
from voxnb.clients.realtime.page import Page
from voxnb.runtime import config
from voxnb.runtime.stats import CallFacts
from voxnb.wire.realtime.item import Item
from voxnb.wire.realtime.response import Response

TRANSCRIPT_S: Final = 60.0
"""How long a transcript is waited for once the turn is to be written; the embedded voice takes long where the machine is
busy, and nothing waits but the row."""

END_S: Final = 3.0
"""How long the end of a client waits until everything is written."""

KEPT_HEARD: Final = 256


class Scribe:
    """The turns of one call; its methods but `run` and `end` are called as things happen and return at once.

    Args:
        memory: where it writes.
        model: who answers.
        host: where.
        tools: the session's tools now.
        moved: called when something was written.
    """

    def __init__(
        self,
        memory: CallMemory,
        *,
        model: str | None,
        host: str,
        tools: Callable[[], Any],
        moved: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._model = model
        self._host = host
        self._tools = tools
        self._moved = moved
        self._book: Book | None = None
        self._books: asyncio.Queue[Book] = asyncio.Queue()
        self._texts: dict[str, asyncio.Future[str | None]] = {}
        self._heard: dict[str, asyncio.Future[float]] = {}
        self._writing = 0
        self._is_whole = True  # nothing was lost on the way to the store
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    # -- what happens ---------------------------------------------------------------------------

    def said(self, item: Item, *, is_heard: bool) -> None:
        """Somebody but the model said something, or a tool's result was given.

        Args:
            item: it.
            is_heard: its transcript will come.
        """
        is_result = item.type == "function_call_output"
        text: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        spoken = any(part.kind == "input_audio" for part in item.parts.values())
        if is_result:
            text.set_result(item.output or "")
        elif spoken and not item.text:
            self._texts[item.id] = text
            if not is_heard:
                text.set_result(None)
        else:
            text.set_result(item.text)
        role = "tool" if is_result else item.role or "user"
        book = self._open()
        book.add(Said(role, text, item.call_id if is_result else None))
        if not self._memory.is_answered:
            book.close()

    def understood(self, item_id: str, text: str | None) -> None:
        """The transcript of what was spoken came, or will not come."""
        future = self._texts.pop(item_id, None)
        if future is not None and not future.done():
            future.set_result(text)

    def answered(self, response: Response, items: Sequence[Item], facts: CallFacts | None) -> None:
        """A response ended, or the call did while it was under way."""
        if response.status == "cancelled" and not items:
            return
        spoken = {item.id for item in items if length_ms(item) > 0}
        heard = {item_id: self._hearing(item_id) for item_id in spoken}
        texts = {item.id: item.text for item in items}
        book = self._open()
        book.add(Answer(response, list(items), facts, heard, texts))

    def heard(self, item: Item, heard_ms: float) -> None:
        """It is known how much of an answer was heard."""
        future = self._hearing(item.id)
        if not future.done():
            future.set_result(heard_ms)

    def _hearing(self, item_id: str) -> asyncio.Future[float]:
        if item_id not in self._heard:
            while len(self._heard) > KEPT_HEARD:
                del self._heard[next(iter(self._heard))]
            self._heard[item_id] = asyncio.get_running_loop().create_future()
        return self._heard[item_id]

    def _open(self) -> Book:
        book = self._book
        if book is None or not book.takes_more:
            if book is not None:
                book.close()
            book = self._book = Book(began_at=time.time())
            self._writing += 1
            self._idle.clear()
            self._books.put_nowait(book)
            if self._task is None:
                self._task = asyncio.ensure_future(self._run())
        return book

    async def written(self, *, timeout_s: float) -> bool:
        """Wait until everything that was said is written; False where that takes too long, or some of it could not be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        return self._writing == 0 and self._is_whole

    # -- writing --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            book = await self._books.get()
            try:
                await self._write(book)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - rule 4: the call goes on
                self._is_whole = False
                if self._memory.warn_once(f"scribe {type(error).__name__}"):
                    config.report(
                        f"a spoken turn could not be stored ({type(error).__name__}: {error}); the call goes on"
                    )
            finally:
                book.close()
                self._writing -= 1
                if not self._writing:
                    self._idle.set()
                self._moved()

    async def _write(self, book: Book) -> None:
        """One turn, from its first entry to its last."""
        entry = await self._ready(book)
        while isinstance(entry, Answer) and entry.message() is None:
            entry = await self._ready(book)  # nobody had asked, and nothing was heard
        if entry is None:
            return
        memory = self._memory
        tools = self._tools()
        planner = await memory.call_planner({"tools": tools} if tools else None)
        async with memory.conversation_lock(memory.conversation):
            page = Page(memory, model=self._model, host=self._host, planner=planner, tools=tools)
            await page.begin(entry)
            try:
                while not page.is_ended:
                    await page.add(await self._ready(book))
            finally:
                page.leave()

    async def _ready(self, book: Book) -> Entry | None:
        """The next entry, once it is known what it says."""
        entry = await book.next()
        if isinstance(entry, Said):
            await asyncio.wait({entry.text}, timeout=TRANSCRIPT_S)
        elif entry is not None and entry.heard:
            await asyncio.wait(set(entry.heard.values()))
        return entry

    # -- the end --------------------------------------------------------------------------------

    async def end(self) -> None:
        """Nothing more is said: write what is known."""
        if self._book is not None:
            self._book.close()
        for text in self._texts.values():
            if not text.done():
                text.set_result(None)
        for heard in self._heard.values():
            if not heard.done():
                heard.set_result(0.0)
        await self.written(timeout_s=END_S)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
