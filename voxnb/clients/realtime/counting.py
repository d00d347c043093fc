"""What a realtime client has done so far, beside what every client counts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from voxnb.clients.price import Prices
from voxnb.clients.realtime.link import Link
from voxnb.runtime.stats import CallFacts, Counters, Statistics
from voxnb.usage import Usage
from voxnb.wire.realtime.response import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeStatistics(Statistics):
    """`Statistics` of a realtime client; each response is a call, and bytes are those of all messages.

    Attributes:
        sessions: sessions begun, the first included.
        reconnects: sessions that followed another.
        messages_sent: messages to the server.
        messages_received: messages from it.
        waiting: commands and audio that wait to be sent, now.
        deepest: most that ever waited.
        audio_dropped_ms: sound of the user that was not sent: nobody took it in time.
        audio_unheard_ms: sound of the model that came while no unit listened.
        problems: oddities of the server that were let pass.
        refused_events: events that were out of order and not taken in.
        streams: one dict per media stream: depth, drops, lateness; after the end of the call as they were then.
        queues: one dict per queue on the way, with what it knows: depth, drops, lateness; ``late_p99_ms`` of the ``media
            loop`` says how much later than planned sound is worked off, in this process or in the bridge process.
    """

    sessions: int = 0
    reconnects: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    waiting: int = 0
    deepest: int = 0
    audio_dropped_ms: float = 0.0
    audio_unheard_ms: float = 0.0
    problems: int = 0
    refused_events: int = 0
    streams: Sequence[Mapping[str, Any]] = ()
    queues: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The sums, for JSON."""
        own = {f.name: getattr(self, f.name) for f in fields(RealtimeStatistics)}
        return {
            **Statistics.to_dict(self),
            **{name: own[name] for name in OWN},
            "streams": list(self.streams),
            "queues": list(self.queues),
        }

    def _shown(self) -> list[tuple[str, str]]:
        own = [(name.replace("_", " "), f"{getattr(self, name):,.0f}") for name in OWN]
        return [*Statistics._shown(self), *own]  # noqa: SLF001 - its own; with slots there is no super()


OWN = (
    "sessions",
    "reconnects",
    "messages_sent",
    "messages_received",
    "waiting",
    "deepest",
    "audio_dropped_ms",
    "audio_unheard_ms",
    "problems",
    "refused_events",
)


@dataclass(slots=True)
class ResponseClock:
    """When a response began and its first piece came; becomes a call of the statistics.

    Attributes:
        at: UNIX seconds.
        began_s: monotonic seconds.
        first_event_s: when the first event after its beginning came, or None.
        first_token_s: when its first text or sound came, or None.
        events: events of it.
        bytes_sent, bytes_received: of the socket when it began.
    """

    at: float
    began_s: float
    bytes_sent: int
    bytes_received: int
    first_event_s: float | None = None
    first_token_s: float | None = None
    events: int = 0

    def heard(self, *, brings: bool) -> None:
        """An event of it came.

        Args:
            brings: it brings text or sound.
        """
        self.events += 1
        if self.first_event_s is None:
            self.first_event_s = time.monotonic()
        if brings and self.first_token_s is None:
            self.first_token_s = time.monotonic()

    def ended(
        self, response: Response, *, model: str | None, prices: Prices, bytes_sent: int, bytes_received: int
    ) -> CallFacts:
        """The call that it was."""
        usage = Usage.from_dict(response.usage)
        now = time.monotonic()
        return CallFacts(
            at=self.at,
            purpose="turn",
            model=model,
            status="failed" if response.status == "failed" else "complete",
            retries=0,
            bytes_sent=bytes_sent - self.bytes_sent,
            bytes_received=bytes_received - self.bytes_received,
            events=self.events,
            first_event_ms=_after_ms(self.began_s, self.first_event_s),
            first_token_ms=_after_ms(self.began_s, self.first_token_s),
            duration_ms=(now - self.began_s) * 1000,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=prices.cost_usd(usage, models=(model,), at=self.at),
        )


class ResponseClocks:
    """The responses under way, and what becomes of them in the statistics.

    Args:
        counters: where they are counted when they end.
        model: who answers.
        prices: what it costs.
    """

    def __init__(self, counters: Counters, *, model: str | None, prices: Prices) -> None:
        self._counters = counters
        self._model = model
        self._prices = prices
        self._running: dict[str, ResponseClock] = {}

    async def prepare(self) -> None:
        """Read the list of prices."""
        await self._prices.prepare()

    def sounded(self, response_id: str) -> None:
        """A piece of a response's sound came."""
        clock = self._running.get(response_id)
        if clock is not None:
            clock.heard(brings=True)

    def look(self, link: Link, kind: str, event: Mapping[str, Any]) -> CallFacts | None:
        """Take the time of an event that was taken in; the call that it ends, if it ends one."""
        socket = link.socket
        if kind == "response.created":
            sizes = (socket.bytes_sent, socket.bytes_received)
            self._running[event["response"]["id"]] = ResponseClock(time.time(), time.monotonic(), *sizes)
        elif kind == "response.done":
            clock = self._running.pop(event["response"]["id"], None)
            response = link.session.responses.get(event["response"]["id"])
            if clock is not None and response is not None:
                told = {"bytes_sent": socket.bytes_sent, "bytes_received": socket.bytes_received}
                facts = clock.ended(response, model=self._model, prices=self._prices, **told)
                self._counters.add(facts)
                return facts
        elif kind.startswith("response."):
            clock = self._running.get(event.get("response_id", ""))
            if clock is not None:
                clock.heard(brings=kind.endswith(".delta"))
        return None


def taken(counters: Counters, **own: Any) -> RealtimeStatistics:
    """The statistics as they are now.

    Args:
        counters: what every client counts.
        **own: the fields of `RealtimeStatistics`.
    """
    shared = counters.taken()
    known: dict[str, Any] = {f.name: getattr(shared, f.name) for f in fields(Statistics)}
    return RealtimeStatistics(**{**known, **own})


def _after_ms(began_s: float, then_s: float | None) -> float | None:
    return None if then_s is None else (then_s - began_s) * 1000
