"""A unit for a widget: audio to and from a browser in binary messages, and the browser's count of what it played.

The unit knows no widget. It is given a function that posts a message, and is handed the messages that come back:

====================  ==================================================================  ===============
message               content                                                             binary part
====================  ==================================================================  ===============
unit → browser        ``{"kind": "audio", "lane": 3, "generation": 0, "rate_hz": 24000}``  16-bit PCM, LE
unit → browser        ``{"kind": "clear", "lane": 3, "generation": 1}``                    –
unit → browser        ``{"kind": "end", "lane": 3}``                                      –
browser → unit        ``{"kind": "audio", "rate_hz": 48000}``                             16-bit PCM, LE
browser → unit        ``{"kind": "played", "lane": 3, "generation": 1, "samples": 960}``  –
====================  ==================================================================  ===============

A *lane* is one stream to the browser. After a *clear* the browser drops what it has of the lane and counts the
samples that it plays of the lane from zero; its audio worklet reports the count about ten times a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voxnb.audio.formats import PCM_24K, AudioFormat, Frame, audio_format, check_whole
from voxnb.errors import AudioError
from voxnb.media.clock import Clock, Timer
from voxnb.media.stream import Sink, Stream
from voxnb.media.unit import MediaUnit
from voxnb.runtime import config

LEAD_MS: Final = 300
"""What the browser holds in hand: a kernel's messages are late by up to a few hundred milliseconds."""

BATCH_MS: Final = 60
"""Audio per message: a message costs the kernel and the browser about as much as a frame is long."""

LARGEST_BYTES: Final = 1 << 20
"""Largest binary part that is taken from a browser."""

Post = Callable[[dict[str, Any], list[bytes]], object]


class WidgetUnit(MediaUnit):
    """A browser as a media unit: it hears what is sent to it, and what it sends is heard.

    Args:
        post: called with each message and its binary parts, on the media loop; it must not block.
        rate_hz: of the audio that the browser gets.
        clock: time and the media loop; tests bring their own.

    Attributes:
        ignored: messages from the browser that made no sense, or were of streams that are over.
    """

    sink = Sink(lead_ms=LEAD_MS, counts=True, elastic=True)

    def __init__(self, post: Post, /, *, rate_hz: int = PCM_24K.rate_hz, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.form = audio_format("PCM16", rate_hz=rate_hz)
        self.ignored = 0
        self._post = post
        self._numbers = itertools.count(1)
        self._lanes: dict[int, _Lane] = {}
        self._by_stream: dict[Stream, _Lane] = {}
        self._told_broken = False

    def __repr__(self) -> str:
        return f"<WidgetUnit, {self.form}>"

    def close(self) -> None:
        """End its streams; closing twice does no harm."""
        self._clock.call_soon(self._end_media)

    def receive(self, message: Mapping[str, Any], buffers: Sequence[Any] = (), /) -> None:
        """A message of the browser, from any thread; what makes no sense is counted and ignored.

        Args:
            message: see the module.
            buffers: its binary parts: bytes or memoryviews.
        """
        try:
            work = self._understood(message, buffers)
        except (AudioError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.ignored += 1
        else:
            self._clock.call_soon(*work)

    def _understood(self, message: Mapping[str, Any], buffers: Sequence[Any]) -> tuple[Any, ...]:
        """What is to be called on the media loop."""
        if message["kind"] == "audio":
            form = audio_format("PCM16", rate_hz=message.get("rate_hz", self.form.rate_hz))
            data = b"".join(bytes(part) for part in buffers)
            check_whole(data, form)
            if len(data) > LARGEST_BYTES:
                raise AudioError(f"{len(data)} bytes in one message", size_bytes=len(data))
            return self._give, data, form
        if message["kind"] == "played":
            return self._played, *(whole(message[name]) for name in ("lane", "generation", "samples"))
        raise AudioError(f"a message of kind {message['kind']!r}")

    # -- hooks --------------------------------------------------------------------------------

    def _takes(self, offered: AudioFormat, wanted: AudioFormat | None) -> AudioFormat:
        return self.form

    def _opened(self, stream: Stream) -> None:
        lane = _Lane(next(self._numbers), stream)
        self._lanes[lane.number] = self._by_stream[stream] = lane

    def _heard(self, stream: Stream, frame: Frame) -> None:
        lane = self._by_stream.get(stream)
        if lane is None:
            return
        lane.held.append(frame.data)
        lane.held_ms += self.form.duration_ms(len(frame.data))
        now_s = self._clock.now()
        if lane.held_ms >= BATCH_MS:
            self._send(lane)
        elif lane.timer is None:
            # What comes in one go is one message; near the end of what the browser has nothing is held longer.
            is_near = frame.due_s - now_s < (LEAD_MS - BATCH_MS) / 1000
            lane.timer = self._clock.call_at(now_s if is_near else now_s + BATCH_MS / 1000, self._send, lane)

    def _cleared(self, stream: Stream) -> None:
        lane = self._by_stream.get(stream)
        if lane is not None:
            lane.void()
            self._tell({"kind": "clear", "lane": lane.number, "generation": stream.playout.generation}, [])

    def _closed(self, stream: Stream) -> None:
        lane = self._by_stream.pop(stream, None)
        if lane is not None:
            self._send(lane)
            del self._lanes[lane.number]
            self._tell({"kind": "end", "lane": lane.number}, [])

    # -- messages, on the media loop ----------------------------------------------------------

    def _send(self, lane: _Lane) -> None:
        data = b"".join(lane.held)
        lane.void()
        if data:
            facts = {"lane": lane.number, "generation": lane.stream.playout.generation, "rate_hz": self.form.rate_hz}
            self._tell({"kind": "audio", **facts}, [data])

    def _tell(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        try:
            self._post(message, buffers)
        except Exception as error:  # noqa: BLE001 - a widget that is gone must not end the other streams
            if not self._told_broken:
                self._told_broken = True
                config.report(f"a widget's audio could not be sent: {type(error).__name__}: {error}")

    def _give(self, data: bytes, form: AudioFormat) -> None:
        for stream in list(self._outgoing.values()):
            stream.frame(data, form=form)

    def _played(self, number: int, generation: int, samples: int) -> None:
        lane = self._lanes.get(number)
        if lane is None:
            self.ignored += 1
            return
        playout = lane.stream.playout
        playout.counted(samples * playout.form.rate_hz // self.form.rate_hz, generation=generation)


def whole(number: Any, /) -> int:
    """A count that came as JSON.

    Raises:
        AudioError: it is no whole number of at least 0.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or number != int(number) or number < 0:
        raise AudioError(f"a count is a whole number, not {number!r}")
    return int(number)


class _Lane:
    """One stream to the browser, and what of it waits to be sent."""

    def __init__(self, number: int, stream: Stream) -> None:
        self.number = number
        self.stream = stream
        self.timer: Timer | None = None
        self.void()

    def void(self) -> None:
        """Nothing waits."""
        self.held: list[bytes] = []
        self.held_ms = 0.0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
