"""What every export format is: something that takes conversations one after another, and an end."""

from __future__ import annotations

import sqlite3
from typing import IO, ClassVar

from voxnb.store.exporting.contents import HOLDINGS, Row
from voxnb.store.report import Remarks


class Sink:
    """Writes conversations of one state of the store into an open file.

    Args:
        file: where to.
        remarks: takes what has no place in the format.
        path: of the store, for errors.

    Attributes:
        carries: which of `contents.HOLDINGS` the format has a place for.
        conversations: how many were written.
        turns: how many were written.
        messages: likewise.
    """

    carries: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, file: IO[bytes], remarks: Remarks, *, path: str) -> None:
        self.file = file
        self.remarks = remarks
        self.path = path
        self.conversations = 0
        self.turns = 0
        self.messages = 0

    def begin(self, names: list[str]) -> None:
        """Before the first conversation.

        Args:
            names: of all that will come.
        """

    def add(self, c: sqlite3.Connection, conversation: int, name: str) -> None:
        """Write one conversation.

        Args:
            c: a reader in one read transaction.
            conversation: row id.
            name: its name.
        """
        raise NotImplementedError

    def end(self) -> None:
        """After the last conversation."""

    def close(self) -> None:
        """However it ended; the file is still open."""

    def put(self, text: str) -> None:
        """Write text as UTF-8."""
        self.file.write(text.encode())

    def count(self, turn: Row) -> Row:
        """Count a turn that is written, and give it back."""
        self.turns += 1
        self.messages += len(turn["messages"])
        return turn


EVERYTHING = frozenset(HOLDINGS)
"""All that a conversation may hold."""
