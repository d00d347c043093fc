"""A spoken turn as it is said: entries that become messages once it is known what was understood and what was heard."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from voxnb.runtime.stats import CallFacts
from voxnb.wire.realtime.item import WHOLE_MS, Item, heard_text
from voxnb.wire.realtime.replay import tool_call
from voxnb.wire.realtime.response import Response

NO_TRANSCRIPT: Final = "[speech without a transcript]"
"""Stands for what the user said where the server did not write it down."""


@dataclass(slots=True)
class Said:
    """What somebody but the model said, or a tool's result.

    Attributes:
        role: ``user``, ``system`` or ``tool``.
        text: what was said; of speech known later, None where it was not understood.
        call_id: of a tool's result.
    """

    role: str
    text: asyncio.Future[str | None]
    call_id: str | None = None

    def message(self) -> dict[str, Any]:
        """As chat completions have it."""
        known = self.text.result() if self.text.done() else None
        content = NO_TRANSCRIPT if known is None else known
        return {"role": self.role, "content": content, **({"tool_call_id": self.call_id} if self.call_id else {})}


@dataclass(slots=True)
class Answer:
    """A response that has ended, or that the call ended in.

    Attributes:
        response: it.
        items: what it made, in order.
        facts: what it took, or None.
        heard: item id → milliseconds heard, of those that sounded; known later.
    """

    response: Response
    items: Sequence[Item]
    facts: CallFacts | None
    heard: Mapping[str, asyncio.Future[float]]
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether it is known how much was heard."""
        return all(future.done() for future in self.heard.values())

    def heard_of(self, item: Item) -> str:
        """What of an item was heard, as text."""
        said = self.texts.get(item.id, item.text)
        future = self.heard.get(item.id)
        if future is None or not future.done():
            return said
        return heard_text(said, heard_ms=future.result(), length_ms=length_ms(item))

    def message(self) -> dict[str, Any] | None:
        """What was heard of it and what it calls, as chat completions have it; None where that is nothing."""
        said = "".join(self.heard_of(item) for item in self.items if item.type == "message")
        calls = [tool_call(item) for item in self.items if item.type == "function_call" and item.call_id]
        if not said and not calls:
            return None
        return {"role": "assistant", "content": said or None, **({"tool_calls": calls} if calls else {})}

    @property
    def calls(self) -> list[str]:
        """Ids of the calls that it makes."""
        return [item.call_id for item in self.items if item.type == "function_call" and item.call_id]

    @property
    def cuts(self) -> list[dict[str, Any]]:
        """What of it was not heard, item by item: ids, milliseconds, the text that was made and the one that was heard."""
        out = []
        for item in self.items:
            future = self.heard.get(item.id)
            if future is None or not future.done() or future.result() >= length_ms(item) - WHOLE_MS:
                continue
            facts = {"item_id": item.id, "heard_ms": int(future.result()), "received_ms": length_ms(item)}
            out.append({**facts, "generated": self.texts.get(item.id, item.text), "heard": self.heard_of(item)})
        return out


Entry = Said | Answer


def length_ms(item: Item) -> int:
    """Length of all audio of an item that has come."""
    return sum(item.received_ms(n) for n in item.parts)


class Book:
    """The entries of one turn, in order; written while it is read.

    Attributes:
        began_at: when it was opened, UNIX seconds.
        open_calls: calls of the model that wait for a result.
        last: the last entry, or None.
        state: ``open``, then ``closed``: nothing more comes.
    """

    def __init__(self, *, began_at: float) -> None:
        self.began_at = began_at
        self.open_calls: dict[str, None] = {}
        self.last: Entry | None = None
        self.state: Literal["open", "closed"] = "open"
        self._entries: asyncio.Queue[Entry | None] = asyncio.Queue()

    def add(self, entry: Entry) -> None:
        """The next entry."""
        if isinstance(entry, Answer):
            self.open_calls |= dict.fromkeys(entry.calls)
        elif entry.call_id is not None:
            self.open_calls.pop(entry.call_id, None)
        self.last = entry
        self._entries.put_nowait(entry)

    @property
    def takes_more(self) -> bool:
        """Whether what comes next belongs to this turn: nobody has answered, or the answer waits for a tool.

        A turn ends with an answer that failed, as it does where it is written: what comes after that is another one.
        """
        if self.state == "closed":
            return False
        if not isinstance(self.last, Answer) or self.open_calls:
            return True
        if self.last.response.status == "failed":
            return False
        return self.last.is_settled and self.last.message() is None

    def close(self) -> None:
        """Nothing more comes."""
        if self.state == "open":
            self.state = "closed"
            self._entries.put_nowait(None)

    async def next(self) -> Entry | None:
        """The next entry; None after the last."""
        return await self._entries.get()
