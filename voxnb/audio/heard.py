"""What a ledger of heard audio is made of: decisions, items, spans, and where the playhead is by deadlines."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


class Truncate(NamedTuple):
    """The item was heard up to a point: ``conversation.item.truncate``."""

    item_id: str
    content_index: int
    audio_end_ms: int


class Delete(NamedTuple):
    """Nothing of the item was heard: ``conversation.item.delete``, once the item was announced."""

    item_id: str


class Nothing(NamedTuple):
    """The item is to be left alone.

    Attributes:
        item_id: which.
        reason: ``heard``: all of it was, as far as can be told.
    """

    item_id: str
    reason: str = "heard"


Decision = Truncate | Delete | Nothing


class Span(NamedTuple):
    """Samples of one item at consecutive positions.

    Attributes:
        start: position of the first.
        end: position after the last.
        key: (item_id, content_index), or None: padding, or audio of no item.
        offset: samples of the item before the first.
    """

    start: int
    end: int
    key: tuple[str, int] | None
    offset: int


@dataclass(slots=True)
class Item:
    """One item's audio.

    Attributes:
        response_id: the response it belongs to, or None.
        received: samples that have come.
        heard: samples from its start to the last one heard.
        finished: no more will come.
        cut: some of it was thrown away, and nobody has decided what the far end is told.
    """

    response_id: str | None
    received: int = 0
    heard: int = 0
    finished: bool = False
    cut: bool = False


@dataclass(slots=True)
class Counters:
    """What has come, gone and been lost, in samples."""

    queued_samples: int = 0
    sent_samples: int = 0
    padded_samples: int = 0
    overflow_samples: int = 0
    cleared_samples: int = 0
    refused_samples: int = 0
    marks_ignored: int = 0
    clears: int = 0


@dataclass(slots=True)
class Playhead:
    """Where the playhead is by deadlines: pieces of time in which it moves without a stop."""

    rate_hz: int
    runs: deque[tuple[float, int, int]] = field(default_factory=deque)  # due_s, position, samples

    def add(self, due_s: float, position: int, samples: int) -> None:
        """Samples from a position on sound at a time."""
        if self.runs:
            began_s, first, length = self.runs[-1]
            if first + length == position and abs(began_s + length / self.rate_hz - due_s) < 1e-6:
                self.runs[-1] = (began_s, first, length + samples)
                return
        self.runs.append((due_s, position, samples))

    def at(self, now_s: float) -> int | None:
        """The playhead, or None before the first run."""
        place = None
        while self.runs:
            began_s, first, length = self.runs[0]
            if now_s < began_s:
                break
            place = first + min(length, int((now_s - began_s) * self.rate_hz + 1e-6))
            if len(self.runs) == 1 or now_s < self.runs[1][0]:
                break
            self.runs.popleft()
        return place
