"""A connection that knows the turns it read lately, and their hashes: the next request is made of mostly the same ones.

An ended turn is told by its ids, its state and its content hash. What else is in its rows changes for nobody but other
connections, and when one of those has written, all is forgotten; so it is when estimated texts were counted.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from voxnb.memory.past import ANSWERED, PastTurn

MOST_CHARS: Final = 8_000_000
"""Of the words that are kept, as turns and as messages of requests: more than twice what the largest context windows hold."""


class Connection(sqlite3.Connection):
    """A connection that is closed when nobody holds it any more, without a warning."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # what could not be opened cannot be closed
            self.close()


class KnowingConnection(Connection):
    """The writer's connection to a store."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._turns: dict[tuple[Any, ...], PastTurn] = {}
        self.line_hashes: dict[tuple[str, str], str] = {}
        """Role and text of a message → its hash in a request."""
        self._chars = 0
        self._version = -1
        self.counted_in: dict[int, tuple[Any, ...]] = {}
        """Branch → the encoding in which all that is sent of it is counted, and with which summary and pins."""
        self.indexed_to = -1
        """Message row up to which the search index went when it was last asked; see `voxnb.store.fresh`."""

    def known(self, heads: Iterable[tuple[Any, ...]]) -> Iterator[PastTurn]:
        """The turns of these rows (the first columns of `voxnb.store.rows.TURN_AND_MESSAGES`), up to one not known."""
        (version,) = self.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self.forget()
            self._version = version
        for head in heads:
            turn = self._turns.get(head)
            if turn is None:
                return
            yield turn

    def learn(self, turns: Iterable[PastTurn]) -> None:
        """Know these turns from now on, those that have ended."""
        if self._chars > MOST_CHARS:
            self.forget()
        for turn in turns:
            if turn.state in ANSWERED and turn.hash:
                self._turns[turn.id, turn.uid, turn.seq, turn.state, turn.hash] = turn
                self._chars += sum(len(said.text) for said in turn.messages)

    def learn_line(self, line: tuple[str, str], key: str) -> None:
        """Know the hash of a message from now on."""
        self.line_hashes[line] = key
        self._chars += len(line[1])

    def forget(self) -> None:
        """Know nothing any more."""
        self._turns.clear()
        self.line_hashes.clear()
        self.counted_in.clear()
        self.indexed_to = -1
        self._chars = 0


def forget(c: sqlite3.Connection) -> None:
    """Have a connection know nothing any more, where rows changed in another way than by what is said."""
    if isinstance(c, KnowingConnection):
        c.forget()
