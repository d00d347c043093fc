"""What images, audio and files cost in tokens, told from their first bytes.

Base64 is never counted as text: it is read as far as the header goes, and the rest is
a length. What the header does not tell has a documented default.

Rule 1: OpenAI's published rules, by model family. For other models they are a first guess, kept apart
from the text's tokens so that reported usage can correct them.

Source: developers.openai.com/api/docs/guides/images-vision ("Model sizing behavior", "Calculating costs"),
…/guides/realtime-costs (audio), …/guides/file-inputs (files).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from voxnb.memory.window import base_name

UNKNOWN_IMAGE_PIXELS: Final = (1024, 1024)
"""Assumed of an image whose size is not told (an address, a file id, an unknown format)."""

PDF_PAGE_TOKENS: Final = 1_400
"""A page is sent as its text (about 600 tokens) and its image (765 at 1024 x 1024)."""

PDF_PAGE_BYTES: Final = 50_000
"""Of a PDF whose page objects cannot be seen (compressed): bytes per page."""

UNKNOWN_FILE_TOKENS: Final = 5 * PDF_PAGE_TOKENS
"""Assumed of a file that is named by an id or an address."""

USER_AUDIO_TOKENS_PER_S: Final = 10
ASSISTANT_AUDIO_TOKENS_PER_S: Final = 20
SPEECH_BYTES_PER_S: Final = 4_000
"""Of audio whose header tells no rate: 32 kbit/s, so that the guess is rather too long."""

HEADER_BYTES: Final = 1 << 20
"""How far a header is searched; JPEG puts previews before the size."""


class Blob(NamedTuple):
    """Bytes given as base64.

    Attributes:
        mime: of the data URL, or "".
        base64: the characters, without the URL's head.
    """

    mime: str
    base64: str

    @property
    def length(self) -> int:
        """Bytes when decoded, to within a line's breaks."""
        text = self.base64
        return len(text) * 3 // 4 - text[-2:].count("=")

    def head(self, length_bytes: int) -> bytes:
        """The first bytes; less where the base64 is broken."""
        text = self.base64[: length_bytes * 4 // 3 + 64].translate(_URL_SAFE)
        text = _NOT_BASE64.sub("", text)
        text = text[: len(text) - (len(text) % 4 == 1)]  # a lone last character says less than a byte
        return base64.b64decode(text + "=" * (-len(text) % 4))[:length_bytes]


_URL_SAFE: Final = str.maketrans("-_", "+/")
_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")


def blob(value: str) -> Blob | None:
    """A data URL taken apart, or None for an ordinary address.

    >>> blob("data:image/png;base64,iVBORw0=")
    Blob(mime='image/png', base64='iVBORw0=')
    """
    if value[:5].lower() != "data:":
        return None
    head, comma, body = value.partition(",")
    return Blob(head[5:].partition(";")[0].lower(), body) if comma and head.lower().endswith("base64") else None


# -- images -----------------------------------------------------------------------------------


class Fit(NamedTuple):
    """Limits an image is shrunk to: longest side in pixels, and patches of 32 x 32 pixels (0: none)."""

    side: int
    patches: int


class Patches(NamedTuple):
    """Newer models: one token per patch of 32 x 32 pixels, times a factor."""

    factor: float
    low: Fit
    high: Fit
    original: Fit
    auto: str


class Tiles(NamedTuple):
    """Older models: a base, and a price per 512-pixel tile."""

    base: int
    tile: int


_WIDE: Final = Fit(2048, 6_144)
_SMALL: Final = Fit(2048, 1_536)
_HIGH: Final = Fit(2048, 2_500)
_ORIGINAL: Final = Fit(6000, 10_000)
_THUMB: Final = Fit(512, 0)
_NEWEST: Final = Patches(1.2, _THUMB, _HIGH, Fit(65_535, 30_000), "original")
_5_4: Final = Patches(1.2, _WIDE, _HIGH, _ORIGINAL, "high")

_IMAGES: Final[dict[str, Patches | Tiles]] = {
    "gpt-6": _NEWEST,
    "gpt-5.6": _NEWEST,
    "gpt-5.5": Patches(1.2, _THUMB, _HIGH, _ORIGINAL, "original"),
    "gpt-5.4": _5_4,
    "gpt-5.3": Patches(1.2, _WIDE, _WIDE, _WIDE, "high"),
    "gpt-5.2": Patches(1.2, _WIDE, _WIDE, _WIDE, "high"),
    "gpt-5.1": Tiles(70, 140),
    "gpt-5-mini": Patches(1.2, _SMALL, _SMALL, _SMALL, "high"),
    "gpt-5-nano": Patches(1.5, _SMALL, _SMALL, _SMALL, "high"),
    "gpt-5": Tiles(70, 140),
    "gpt-4.1-mini": Patches(1.62, _WIDE, _WIDE, _WIDE, "high"),
    "gpt-4.1-nano": Patches(2.46, _SMALL, _SMALL, _SMALL, "high"),
    "o4-mini": Patches(1.72, _SMALL, _SMALL, _SMALL, "high"),
    "codex-mini": Patches(1.72, _SMALL, _SMALL, _SMALL, "high"),
    "gpt-4o-mini": Tiles(2_833, 5_667),
    "o1": Tiles(75, 150),
    "o3": Tiles(75, 150),
    "computer-use": Tiles(65, 129),
}
_ELSE: Final = Tiles(85, 170)  # gpt-4o, gpt-4.1, gpt-4.5, gpt-4-turbo; and where nothing is known


def image_tokens(url: str, *, detail: str | None = None, model: str | None = None) -> int:
    """What an image costs.

    Args:
        url: a data URL, whose size is read, or any address, taken as 1024 x 1024 pixels.
        detail: ``low``, ``high``, ``original`` or ``auto``.
        model: its family has the prices; default those of gpt-4o.

    >>> image_tokens("https://example.com/cat.png", detail="high")
    765
    """
    data = blob(url)
    width, height = (data and image_size(data)) or UNKNOWN_IMAGE_PIXELS
    name = base_name(model)
    rule = _IMAGES[max(found, key=len)] if (found := [f for f in _IMAGES if name.startswith(f)]) else _ELSE
    if isinstance(rule, Tiles):
        return rule.base if detail == "low" else rule.base + rule.tile * _tiles(width, height)
    chosen = detail if detail in ("low", "high", "original") else rule.auto
    fit = {"low": rule.low, "high": rule.high, "original": rule.original}[chosen]
    return math.ceil(round(_patches(width, height, fit) * rule.factor, 6))


def _tiles(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    return math.ceil(round(width * scale, 6) / 512) * math.ceil(round(height * scale, 6) / 512)


def _patches(width: int, height: int, fit: Fit) -> int:
    if max(width, height) > fit.side:
        scale = fit.side / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    count = math.ceil(width / 32) * math.ceil(height / 32)
    if not fit.patches or count <= fit.patches:
        return count
    shrink = math.sqrt(32 * 32 * fit.patches / (width * height))
    columns, rows = width * shrink / 32, height * shrink / 32
    shrink *= min(math.floor(columns) / columns or 1.0, math.floor(rows) / rows or 1.0)
    count = math.ceil(math.floor(round(width * shrink, 6)) / 32) * math.ceil(math.floor(round(height * shrink, 6)) / 32)
    return min(max(1, count), fit.patches)


def image_size(data: Blob) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, GIF or WebP, or None."""
    head = data.head(64)
    size = _size_in_start(head)
    if size is None and head[:2] == b"\xff\xd8":
        size = _jpeg_size(data.head(HEADER_BYTES))
    return size if size and min(size) > 0 else None


def _size_in_start(head: bytes) -> tuple[int, int] | None:
    def number(at: int, length: int) -> int:
        return int.from_bytes(head[at : at + length], "little")

    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        return number(6, 2), number(8, 2)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        if head[12:16] == b"VP8X":
            return 1 + number(24, 3), 1 + number(27, 3)
        if head[12:16] == b"VP8L":
            bits = number(21, 4)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if head[12:16] == b"VP8 ":
            return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:  # padding, or a marker without a length
            at += 1 if marker == 0xFF else 2
            continue
        # A frame's start says the size; C4, C8 and CC in its range are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


# -- audio ------------------------------------------------------------------------------------


def audio_tokens(data: Blob, *, tokens_per_s: int = USER_AUDIO_TOKENS_PER_S) -> int:
    """What a recording costs: its length by the WAV or MP3 header, else by its bytes at 32 kbit/s.

    >>> audio_tokens(Blob("", "AAAA" * 1000))
    8
    """
    return math.ceil(data.length / _bytes_per_s(data.head(4096)) * tokens_per_s)


def _bytes_per_s(head: bytes) -> float:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        for name, start in _chunks(head):
            if name == b"fmt " and start + 12 <= len(head):
                return float(int.from_bytes(head[start + 8 : start + 12], "little")) or SPEECH_BYTES_PER_S
    at = 0
    if head[:3] == b"ID3" and len(head) >= 10:  # a tag before the sound, its length in four 7-bit bytes
        at = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    frame = head[at : at + 4]
    if len(frame) == 4 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2:
        kbit = (_MPEG1_KBIT if frame[1] & 0x18 == 0x18 else _MPEG2_KBIT)[frame[2] >> 4]
        if kbit:
            return kbit * 125.0
    return float(SPEECH_BYTES_PER_S)


_MPEG1_KBIT: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MPEG2_KBIT: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)


def _chunks(head: bytes) -> Iterator[tuple[bytes, int]]:
    at = 12
    while at + 8 <= len(head):
        yield head[at : at + 4], at + 8
        length = int.from_bytes(head[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


# -- files ------------------------------------------------------------------------------------

_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")


def file_tokens(data: Blob | None) -> int:
    """What a file costs: a PDF by its pages, as text and image each; UNKNOWN_FILE_TOKENS for one named by an id."""
    if data is None:
        return UNKNOWN_FILE_TOKENS
    pages = math.ceil(data.length / PDF_PAGE_BYTES)
    content = data.head(data.length + 3)
    if content[:5] == b"%PDF-":
        pages = len(_PAGE.findall(content)) or pages
    return max(1, pages) * PDF_PAGE_TOKENS
