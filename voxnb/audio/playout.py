"""What waits to be played, what was played, and what therefore was heard.

A playout is one stream's buffer and its ledger. Positions are counted in samples sent to the sink since the
stream began, padding included: `sent` is how far the sink has got audio, `heard` how far evidence says it has
played it. A segment of the ledger says which item's samples lie at which positions.

Rule 1: ``heard ≤ sent``, and what an item is credited with never exceeds what of it was received.
Rule 2: evidence is one of three, best first: the sink's own sample counter (`counted`), marks that come back from
it (`marked`), or the deadlines at which frames sound (`clock`). A mark of an earlier *generation*, that is, from
before the buffer was cleared, says nothing: telephony services return all marks when they clear.
Rule 3: heard is a time within the *item* (what ``conversation.item.truncate`` means), not since some delta arrived:
an answer of two items is two ledgers.
Rule 4: an interruption freezes what was heard, forgets the rest, and gives one decision per item that was not
wholly heard; what still comes of the same responses is dropped.

Source: OpenAI's Realtime API, ``conversation.item.truncate`` (``audio_end_ms`` beyond the item's audio is an error).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from voxnb.audio.formats import AudioFormat, check_whole
from voxnb.audio.heard import Counters, Decision, Delete, Item, Nothing, Playhead, Span, Truncate

__all__ = ["KEPT_ITEMS", "LIMIT_MS", "SKEW_MS", "Decision", "Delete", "Nothing", "Playout", "Truncate"]

LIMIT_MS: Final = 600_000
"""Longest audio that waits: a model's longest answer (4,096 tokens of 50 ms) three times over."""

SKEW_MS: Final = 100.0
"""The service counts an item's audio up to 85 ms shorter than its bytes say: so near to the end is the end."""

OVERDUE_MS: Final = 500
"""How much later than the deadlines say a mark may come back."""

MOST_MARKS: Final = 64
"""Marks that are waited for."""

KEPT_ITEMS: Final = 256
"""Items of which the ledger still knows what was heard."""


@dataclass(slots=True)
class _Waiting:
    """A piece that waits; `at` bytes of it are sent."""

    data: bytes
    key: tuple[str, int] | None
    offset: int
    at: int = 0


class Playout:
    """Buffer and ledger of one stream.

    Args:
        form: how the audio is written; 16-bit PCM or G.711.
        limit_ms: longest audio that waits; what comes beyond is dropped and counted.
        sink_delay_ms: how much later than its deadline the sink plays; only for evidence by the clock.
        sink_clears: whether the sink drops what it was sent and has not played when it is told to.

    Attributes:
        waiting_samples: how much waits to be sent.
    """

    def __init__(
        self,
        form: AudioFormat,
        /,
        *,
        limit_ms: float = LIMIT_MS,
        sink_delay_ms: float = 0.0,
        sink_clears: bool = True,
    ) -> None:
        self.form = form
        self.counters = Counters()
        self.generation = 0
        self.sink_delay_s = sink_delay_ms / 1000
        self.sink_clears = sink_clears
        self._size = form.sample_bytes
        self._limit = int(limit_ms * form.rate_hz / 1000)
        self._waiting: deque[_Waiting] = deque()
        self.waiting_samples = 0
        self._sent = 0
        self._heard = 0
        self._base = 0  # position at which this generation began
        self._spans: deque[Span] = deque()  # sent, not heard to their end
        self._items: dict[tuple[str, int], Item] = {}
        self._refused: dict[str, None] = {}
        self._clock = Playhead(form.rate_hz)
        self._marks: deque[int] = deque()  # positions of marks that have not come back

    # -- what comes and goes ------------------------------------------------------------------

    @property
    def waiting_ms(self) -> float:
        """How much waits to be sent."""
        return self.waiting_samples * 1000 / self.form.rate_hz

    @property
    def sent(self) -> int:
        """Position after the last sample that the sink was given."""
        return self._sent

    @property
    def heard(self) -> int:
        """Position up to which evidence says the sink has played."""
        return self._heard

    def queue(
        self,
        data: bytes,
        /,
        *,
        item_id: str | None = None,
        content_index: int = 0,
        response_id: str | None = None,
    ) -> int:
        """Put audio at the end.

        Args:
            data: whole samples.
            item_id: the item that it belongs to; None for audio that nobody will truncate.
            content_index: which of the item's contents.
            response_id: its response: what comes of an interrupted one is refused.

        Returns:
            How many samples were taken: all, none of an interrupted response, or what the limit left room for.

        Raises:
            AudioError: the bytes end within a sample.
        """
        check_whole(data, self.form)
        samples = len(data) // self._size
        key = None if item_id is None else (item_id, content_index)
        offset = 0
        if key is not None:
            item = self._item(key, response_id)
            offset = item.received
            item.received += samples
        if response_id is not None and response_id in self._refused:
            self.counters.refused_samples += samples
            return 0
        taken = min(samples, self._limit - self.waiting_samples)
        self.counters.overflow_samples += samples - taken
        self.counters.queued_samples += taken
        if taken:
            self._waiting.append(_Waiting(data[: taken * self._size], key, offset))
            self.waiting_samples += taken
        return taken

    def finish(self, item_id: str, /, *, content_index: int = 0) -> None:
        """No more audio of this item will come."""
        item = self._items.get((item_id, content_index))
        if item is not None:
            item.finished = True

    def take(self, samples: int, /, *, due_s: float | None = None, pad: bool = False) -> bytes:
        """Give the sink its next frame.

        Args:
            samples: its length.
            due_s: when it sounds; needed for evidence by the clock.
            pad: fill up with silence what is missing; otherwise less than a whole frame stays.

        Returns:
            A whole frame, or nothing.
        """
        if not self.waiting_samples or (self.waiting_samples < samples and not pad):
            return b""
        parts: list[bytes] = []
        missing, size = samples, self._size
        piece = self._waiting[0]
        if not piece.at and len(piece.data) == samples * size:  # it came as a frame: the usual case of a live peer
            self._waiting.popleft()
            self._book(samples, piece.key, piece.offset)
            parts, missing = [piece.data], 0
        while missing and self._waiting:
            piece = self._waiting[0]
            data, at = piece.data, piece.at
            left = len(data) // size - at
            self._book(min(missing, left), piece.key, piece.offset + at)
            if left > missing:
                parts.append(data[at * size : (at + missing) * size])
                piece.at = at + missing
                missing = 0
            else:
                parts.append(data[at * size :] if at else data)
                missing -= left
                self._waiting.popleft()
        self.waiting_samples -= samples - missing
        if missing:
            parts.append(self.form.silence * missing)
            self._book(missing, None, 0)
            self.counters.padded_samples += missing
        if due_s is not None:
            self._clock.add(due_s + self.sink_delay_s, self._sent - samples, samples)
        self.counters.sent_samples += samples
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _book(self, count: int, key: tuple[str, int] | None, offset: int) -> None:
        start = self._sent
        self._sent = start + count
        if self._spans:
            last = self._spans[-1]
            if last.key == key and (key is None or last.offset + last.end - last.start == offset):
                self._spans[-1] = Span(last.start, self._sent, key, last.offset)
                return
        self._spans.append(Span(start, self._sent, key, offset))

    def _item(self, key: tuple[str, int], response_id: str | None) -> Item:
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = Item(response_id)
            if len(self._items) > KEPT_ITEMS:
                self._forget_oldest()
        return item

    def _forget_oldest(self) -> None:
        busy = {span.key for span in self._spans} | {piece.key for piece in self._waiting}
        oldest = next((key for key in self._items if key not in busy), None)
        if oldest is not None:
            del self._items[oldest]

    # -- evidence -----------------------------------------------------------------------------

    def clock(self, now_s: float, /) -> int:
        """Evidence by deadlines: what was due has sounded, up to the first mark that has not come back.

        A mark that is overdue by more than `OVERDUE_MS` will not come: not every service sends them back.

        Returns:
            The position heard.
        """
        place = self._clock.at(now_s)
        if place is not None:
            while self._marks and place - self._marks[0] > OVERDUE_MS * self.form.rate_hz // 1000:
                self._marks.popleft()
            self._move(min(place, self._marks[0]) if self._marks else place)
        return self._heard

    def counted(self, samples: int, /, *, generation: int) -> int:
        """Evidence by the sink's own counter.

        Args:
            samples: played since this generation began.
            generation: the one that the sink was told last; a report of another is ignored.

        Returns:
            The position heard.
        """
        if generation == self.generation:
            self._move(self._base + samples)
        return self._heard

    def mark(self) -> str:
        """A name to send to the sink after the last frame; it comes back when that was played."""
        if len(self._marks) >= MOST_MARKS:
            self._marks.popleft()
        self._marks.append(self._sent)
        return f"{self.generation}:{self._sent}"

    def marked(self, name: str, /) -> bool:
        """A mark has come back.

        Returns:
            Whether it is evidence: not one of an earlier generation, nor a stranger's.
        """
        generation, _, text = name.partition(":")
        position = next((place for place in self._marks if str(place) == text), None)
        if position is None or generation != str(self.generation):
            self.counters.marks_ignored += 1
            return False
        while self._marks and self._marks[0] <= position:
            self._marks.popleft()
        self._move(position)
        return True

    def _move(self, position: int) -> None:
        position = min(position, self._sent)
        if position <= self._heard:
            return
        self._heard = position
        while self._spans and self._spans[0].start < position:
            span = self._spans[0]
            self._credit(span, min(span.end, position))
            if span.end > position:
                break
            self._spans.popleft()

    def _credit(self, span: Span, upto: int) -> None:
        item = self._items.get(span.key) if span.key is not None else None
        if item is not None:
            item.heard = max(item.heard, span.offset + upto - span.start)

    # -- what is known of an item -------------------------------------------------------------

    def received_ms(self, item_id: str, /, *, content_index: int = 0) -> float:
        """How much of an item's audio has come; 0 for an unknown one."""
        item = self._items.get((item_id, content_index))
        return item.received * 1000 / self.form.rate_hz if item else 0.0

    def heard_ms(self, item_id: str, /, *, content_index: int = 0) -> float:
        """How much of an item's audio was heard, by the evidence so far; 0 for an unknown one."""
        item = self._items.get((item_id, content_index))
        return item.heard * 1000 / self.form.rate_hz if item else 0.0

    def spans(self) -> Sequence[Span]:
        """What was sent and not yet heard to its end."""
        return tuple(self._spans)

    # -- ends ---------------------------------------------------------------------------------

    def clear(self) -> float:
        """Throw away what was not played; what comes later is played.

        Returns:
            Milliseconds that were thrown away.
        """
        dropped = self.waiting_samples
        cut = {piece.key for piece in self._waiting}
        self._waiting.clear()
        self.waiting_samples = 0
        if self.sink_clears:
            cut |= {span.key for span in self._spans}
            dropped += self._sent - self._heard
            self._sent = self._heard
            self._spans.clear()
            self._clock.runs.clear()
        for key in cut:
            if key is not None and key in self._items:
                self._items[key].cut = True
        self._marks.clear()
        self.generation += 1
        self._base = self._sent
        self.counters.clears += 1
        self.counters.cleared_samples += dropped
        return dropped * 1000 / self.form.rate_hz

    def interrupt(self) -> list[Decision]:
        """The listener speaks: freeze what was heard, drop the rest, and say what the far end must be told.

        Bring the evidence up to date first (`clock`). What was handed to a sink that cannot be cleared still
        sounds, so it counts as heard.

        Returns:
            One decision per item that had not wholly sounded, in order.
        """
        if not self.sink_clears:
            self._move(self._sent)
        open_keys = {span.key for span in self._spans} | {piece.key for piece in self._waiting}
        self.clear()
        touched = [
            (key, item) for key, item in self._items.items() if key in open_keys or item.cut or not item.finished
        ]
        decisions = [self._decide(*key, item) for key, item in touched]
        for _, item in touched:
            item.finished, item.cut = True, False
            self._refuse(item.response_id)
        return list(dict.fromkeys(one for one in decisions if one is not None))

    def refuse(self, response_ids: Iterable[str], /) -> None:
        """Drop what still comes of these responses."""
        for response_id in response_ids:
            self._refuse(response_id)

    def _refuse(self, response_id: str | None) -> None:
        if response_id is not None:
            self._refused[response_id] = None
            while len(self._refused) > KEPT_ITEMS:
                del self._refused[next(iter(self._refused))]

    def _decide(self, item_id: str, content_index: int, item: Item) -> Decision | None:
        if not item.received:
            return None
        heard_ms = item.heard * 1000 // self.form.rate_hz
        if not heard_ms:  # less than a millisecond was not heard: the service takes no cut at 0
            earlier = any(
                other_id == item_id and index < content_index and known.heard
                for (other_id, index), known in self._items.items()
            )
            # An item that was heard in part cannot be deleted; its unheard content is cut at its start.
            return Truncate(item_id, content_index, 0) if earlier else Delete(item_id)
        # While the item still grows, the service may have more of it than came here: all that came is no end.
        left_ms = (item.received - item.heard) * 1000 / self.form.rate_hz
        if item.finished and left_ms <= SKEW_MS:
            return Nothing(item_id)
        return Truncate(item_id, content_index, heard_ms)
