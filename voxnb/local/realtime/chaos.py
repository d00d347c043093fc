"""What can go wrong with a far end, one knob each, and a source of chance that is given from outside.

The service was seen to do most of it: the rest is what a client must survive all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

TRANSCRIPT_DELTA: Final = "response.output_audio_transcript.delta"


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """Everything off by default. Shares are from 0 to 1, of the events that they apply to.

    Attributes:
        ignores_close: a close frame of the client is never answered, and the connection stays open.
        forgets_previous: every ``previous_item_id`` is null.
        loses_transcripts: what users said is never written down, though it was asked for.
        skew_ms: the server counts that much less audio in an item than it sent.
        retrieved_bytes: the audio of `conversation.item.retrieved` is at least so long.
        duplicated: share of the transcript deltas that come twice.
        reordered: share of the transcript deltas that come after the next one.
        unknown: share of the events that are followed by one of a type that there is not.
        obfuscates: deltas have the padding field ``obfuscation``.
        lag_ms: the most that an event is late, by chance; the order stays.
        read_bytes_s: how many bytes the server reads in a second; None for as many as come.
    """

    ignores_close: bool = False
    forgets_previous: bool = False
    loses_transcripts: bool = False
    skew_ms: int = 0
    retrieved_bytes: int = 0
    duplicated: float = 0.0
    reordered: float = 0.0
    unknown: float = 0.0
    obfuscates: bool = False
    lag_ms: float = 0.0
    read_bytes_s: float | None = None


class Spoiler:
    """What a connection really sends, instead of what its session says.

    Args:
        chaos: the knobs.
        chance: gives a number from 0 to 1.
    """

    def __init__(self, chaos: Chaos, chance: Callable[[], float]) -> None:
        self._chaos = chaos
        self._chance = chance
        self._held: dict[str, Any] | None = None
        self._made = 0

    def spoiled(self, event: dict[str, Any], /) -> list[dict[str, Any]]:
        """What is sent for an event.

        Args:
            event: as it should be.
        """
        chaos, out = self._chaos, [event]
        is_word = event["type"] == TRANSCRIPT_DELTA
        if chaos.obfuscates and event["type"].endswith(".delta"):
            out = [{**event, "obfuscation": "x" * (1 + int(self._chance() * 15))}]
        if chaos.forgets_previous and event.get("previous_item_id") is not None:
            out = [{**out[0], "previous_item_id": None}]
        if is_word and self._is_due(chaos.duplicated):
            out *= 2
        if self._held is not None and (is_word or not event["type"].endswith(".delta")):
            # One word changes places with the next; never with anything that ends the words.
            held, self._held = self._held, None
            out = [*out, held] if is_word else [held, *out]
        elif is_word and self._is_due(chaos.reordered):
            self._held = out.pop()
        if self._is_due(chaos.unknown):
            self._made += 1
            out.append({"type": "response.telepathy.delta", "event_id": f"event_unknown_{self._made}", "delta": {}})
        return out

    def lag_s(self) -> float:
        """How late the next event is."""
        return self._chaos.lag_ms / 1_000 * self._chance() if self._chaos.lag_ms else 0.0

    def _is_due(self, share: float) -> bool:
        return share > 0 and self._chance() < share
