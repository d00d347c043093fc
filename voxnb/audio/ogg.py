"""Opus in Ogg: pages into packets and packets into pages.

A media socket carries Opus as an Ogg stream cut anywhere, or as bare packets; both are read. What is written is one
page per packet, so that nothing waits for a page to fill up.

Source: RFC 3533 (Ogg pages); RFC 7845 (Opus in Ogg: ``OpusHead``, ``OpusTags``).
"""

from __future__ import annotations

import struct
from typing import Final

from voxnb.errors import AudioError

PATTERN: Final = b"OggS"

LARGEST_PACKET_BYTES: Final = 61_440
"""RFC 7845 section 6: what a decoder must take of one packet."""

PRE_SKIP_SAMPLES: Final = 312
"""What libopus needs to settle, at 48 kHz."""

_HEADER: Final = struct.Struct("<4sBBqIIIB")


def _table() -> tuple[int, ...]:
    out = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C1_1DB7 if value & 0x8000_0000 else 0)
        out.append(value & 0xFFFF_FFFF)
    return tuple(out)


_CRC: Final = _table()


def checksum(page: bytes, /) -> int:
    """The checksum of a page whose checksum field is zero.

    >>> hex(checksum(b"OggS"))
    '0x5fb0a94f'
    """
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFF_FFFF) ^ _CRC[(value >> 24) ^ byte]
    return value


class OggReader:
    """Packets out of an Ogg stream that comes in pieces; headers and damaged pages are left out.

    Attributes:
        damaged: pages whose checksum was wrong, and bytes runs that were no page.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._held = bytearray()
        self._part: bytearray | None = None  # a packet that goes on on the next page

    def feed(self, data: bytes, /) -> list[bytes]:
        """The audio packets that are whole now."""
        self._held += data
        packets = []
        while (page := self._page()) is not None:
            packets += self._packets(page)
        return [p for p in packets if not p.startswith((b"OpusHead", b"OpusTags"))]

    def _page(self) -> bytes | None:
        held = self._held
        while True:
            start = held.find(PATTERN)
            if start != 0:
                # No page begins here: keep what may be the start of one.
                drop = len(held) - len(PATTERN) + 1 if start < 0 else start
                if drop > 0:
                    del held[:drop]
                    self._lose()
                if start < 0:
                    return None
            if len(held) < _HEADER.size or len(held) < _HEADER.size + held[26]:
                return None
            size = _HEADER.size + held[26] + sum(held[_HEADER.size : _HEADER.size + held[26]])
            if len(held) < size:
                return None
            page = bytes(held[:size])
            blank = page[:22] + b"\0\0\0\0" + page[26:]
            if checksum(blank) == int.from_bytes(page[22:26], "little"):
                del held[:size]
                return page
            del held[: len(PATTERN)]
            self._lose()

    def _lose(self) -> None:
        self.damaged += 1
        self._part = None

    def _packets(self, page: bytes) -> list[bytes]:
        continued = bool(page[5] & 1)
        part = self._part if continued else None
        skip = continued and part is None  # its beginning was lost
        part = part if part is not None else bytearray()
        packets = []
        at = _HEADER.size + page[26]
        for lacing in page[_HEADER.size : _HEADER.size + page[26]]:
            part += page[at : at + lacing]
            at += lacing
            if lacing < 255:
                if not skip and len(part) <= LARGEST_PACKET_BYTES:
                    packets.append(bytes(part))
                part, skip = bytearray(), False
        ends_open = page[26] > 0 and page[_HEADER.size + page[26] - 1] == 255
        self._part = part if ends_open and not skip and len(part) <= LARGEST_PACKET_BYTES else None
        return packets


class OggWriter:
    """Pages of one Opus stream, one per packet; the headers go before the first.

    Args:
        serial: number of the stream.
        rate_hz: of what was encoded; only told, Opus itself counts at 48 kHz.
    """

    def __init__(self, *, serial: int, rate_hz: int = 48_000) -> None:
        self._serial = serial
        self._number = 0
        self._granule = 0
        self._rate_hz = rate_hz

    def page(self, packet: bytes, /, *, samples: int) -> bytes:
        """The page of a packet, with the stream's headers before the first one.

        Args:
            packet: from the encoder.
            samples: how many it holds, at 48 kHz.

        Raises:
            AudioError: the packet is larger than a page.
        """
        head = b""
        if self._number == 0:
            opus_head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, PRE_SKIP_SAMPLES, self._rate_hz, 0, 0)
            vendor = b"voxnb"
            tags = struct.pack("<8sI5sI", b"OpusTags", len(vendor), vendor, 0)
            head = self._page(opus_head, kind=2, granule=0) + self._page(tags, kind=0, granule=0)
        self._granule += samples
        return head + self._page(packet, kind=0, granule=self._granule)

    def _page(self, packet: bytes, *, kind: int, granule: int) -> bytes:
        lacing = [255] * (len(packet) // 255) + [len(packet) % 255]
        if len(lacing) > 255:
            raise AudioError(f"an Opus packet of {len(packet)} bytes does not fit a page", size_bytes=len(packet))
        fields = (PATTERN, 0, kind, granule, self._serial, self._number)
        self._number += 1
        body = bytes(lacing) + packet
        blank = _HEADER.pack(*fields, 0, len(lacing)) + body
        return _HEADER.pack(*fields, checksum(blank), len(lacing)) + body
