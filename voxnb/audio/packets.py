"""Packets of a stream in their order: a lost one is a gap, a second one is dropped, a late one is waited for a little.

Packets that come in order pass at once. After a gap the later ones wait, until the missing one has come or `REORDER`
packets wait: then it is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

REORDER: Final = 3
"""Packets that wait for a missing one: 60 ms."""

RESTART: Final = 1_000
"""A number so far off is no gap: the peer began to count anew."""


class Piece(NamedTuple):
    """What comes next of a stream.

    Attributes:
        payload: of a packet.
        lost: how many packets are missing before it.
    """

    payload: bytes
    lost: int


@dataclass(slots=True)
class PacketCounters:
    """What became of a stream's packets."""

    received: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    late: int = 0


class PacketOrder:
    r"""The order of one stream's packets.

    >>> order = PacketOrder()
    >>> [order.add(n, bytes([n])) for n in (1, 3, 2)]
    [[Piece(payload=b'\x01', lost=0)], [], [Piece(payload=b'\x02', lost=0), Piece(payload=b'\x03', lost=0)]]
    """

    def __init__(self) -> None:
        self.counters = PacketCounters()
        self._next: int | None = None
        self._early: dict[int, bytes] = {}

    def add(self, chunk: int | None, payload: bytes, /) -> list[Piece]:
        """A packet came.

        Args:
            chunk: its number, or None where the peer gives none: then it is the next one.
            payload: what it carries.

        Returns:
            What may be played now.
        """
        self.counters.received += 1
        if chunk is not None and chunk == self._next and not self._early:  # nearly always
            self._next = chunk + 1
            return [Piece(payload, 0)]
        if chunk is None:
            return [*self.flush(), Piece(payload, 0)]
        if self._next is None:
            self._next = chunk
        if abs(chunk - self._next) >= RESTART:
            out = self.flush()
            self._next = chunk + 1
            return [*out, Piece(payload, 0)]
        if chunk < self._next:
            self.counters.late += 1
            return []
        if chunk in self._early:
            self.counters.duplicated += 1
            return []
        if chunk > self._next:
            self._early[chunk] = payload
            return self._give_up() if len(self._early) >= REORDER else []
        if self._early:
            self.counters.reordered += 1
        self._next = chunk + 1
        return [Piece(payload, 0), *self._follow()]

    def flush(self) -> list[Piece]:
        """Nothing more is waited for: what has come, with its gaps."""
        out: list[Piece] = []
        while self._early:
            out += self._give_up()
        return out

    def _give_up(self) -> list[Piece]:
        first = min(self._early)
        lost = first - (self._next or 0)
        self.counters.lost += lost
        self._next = first + 1
        return [Piece(self._early.pop(first), lost), *self._follow()]

    def _follow(self) -> list[Piece]:
        out = []
        while self._next is not None and self._next in self._early:
            out.append(Piece(self._early.pop(self._next), 0))
            self._next += 1
        return out
