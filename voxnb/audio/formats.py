"""How audio is written: the documented encodings in every spelling that peers use, and sizes of it.

Inside, audio is mono, 16-bit, little-endian PCM in frames of 20 ms; G.711 stays as it is where both
ends speak it.

Source: VoxEngine's `WebSocketAudioEncoding`; RFC 3551 (PCMU, PCMA, L16); RFC 7845 (Opus in Ogg); OpenAI's
Realtime API (``audio/pcm``, ``audio/pcmu``, ``audio/pcma``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from voxnb.errors import AudioError
from voxnb.params import did_you_mean

FRAME_MS: Final = 20
"""Length of a frame inside."""

SAMPLE_BYTES: Final[Mapping[str, int]] = {"pcm": 2, "ulaw": 1, "alaw": 1}
"""Bytes per sample of the codings that have a fixed one."""

RATES_HZ: Final = range(4_000, 192_001)
"""Sampling rates that are taken for PCM."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How samples are written; always mono.

    Attributes:
        coding: ``pcm`` (16-bit little-endian), ``ulaw``, ``alaw`` (G.711) or ``opus`` (packets in Ogg).
        rate_hz: samples per second.
    """

    coding: str
    rate_hz: int

    @property
    def is_g711(self) -> bool:
        """Whether a sample is one byte of G.711."""
        return self.coding in ("ulaw", "alaw")

    @property
    def sample_bytes(self) -> int:
        """Bytes per sample.

        Raises:
            AudioError: Opus packets have no fixed size.
        """
        try:
            return SAMPLE_BYTES[self.coding]
        except KeyError:
            raise AudioError(
                f"{self.coding!r} has no fixed number of bytes per sample; decode it first", encoding=self.encoding
            ) from None

    @property
    def frame_samples(self) -> int:
        """Samples in a frame of 20 ms."""
        return self.rate_hz * FRAME_MS // 1000

    @property
    def frame_bytes(self) -> int:
        """Bytes in a frame of 20 ms."""
        return self.frame_samples * self.sample_bytes

    @property
    def silence(self) -> bytes:
        """One sample of silence."""
        return {"pcm": b"\0\0", "ulaw": b"\xff", "alaw": b"\xd5"}[self.coding]

    @property
    def encoding(self) -> str:
        """VoxEngine's name: ``PCM8`` is 16-bit PCM at 8 kHz, ``PCM16`` at any higher rate.

        >>> PCM_8K.encoding, PCM_24K.encoding, ULAW_8K.encoding
        ('PCM8', 'PCM16', 'ULAW')
        """
        if self.coding == "pcm":
            return "PCM8" if self.rate_hz == 8_000 else "PCM16"
        return self.coding.upper()

    def duration_ms(self, size_bytes: int, /) -> float:
        """Milliseconds that so many bytes last.

        >>> PCM_24K.duration_ms(960), ULAW_8K.duration_ms(160)
        (20.0, 20.0)
        """
        return size_bytes * 1000 / (self.sample_bytes * self.rate_hz)

    def __str__(self) -> str:
        return f"{self.encoding} at {self.rate_hz} Hz"


class Frame(NamedTuple):
    """A piece of a stream, as a unit hears it; in paced streams 20 ms.

    Attributes:
        data: samples, whole ones; bytes of `format`.
        format: how they are written.
        due_s: when the first sample is due to sound, on the stream's clock.
        position_samples: samples of the stream before this frame.
    """

    data: bytes
    format: AudioFormat
    due_s: float
    position_samples: int

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return len(self.data) // self.format.sample_bytes


PCM_8K: Final = AudioFormat("pcm", 8_000)
"""16-bit PCM at 8 kHz: VoxEngine's ``PCM8``, ``PCM16_8KHZ``."""
PCM_16K: Final = AudioFormat("pcm", 16_000)
"""16-bit PCM at 16 kHz: VoxEngine's ``PCM16``, ``PCM16_16KHZ``."""
PCM_24K: Final = AudioFormat("pcm", 24_000)
"""16-bit PCM at 24 kHz: OpenAI's ``audio/pcm``."""
ULAW_8K: Final = AudioFormat("ulaw", 8_000)
"""G.711 µ-law, 8 kHz."""
ALAW_8K: Final = AudioFormat("alaw", 8_000)
"""G.711 A-law, 8 kHz."""
OPUS_48K: Final = AudioFormat("opus", 48_000)
"""Opus in Ogg, 48 kHz."""

ENCODINGS: Final[Mapping[str, AudioFormat]] = {
    "PCM8": PCM_8K,
    "PCM16_8KHZ": PCM_8K,
    "PCM16": PCM_16K,
    "PCM16_16KHZ": PCM_16K,
    "ULAW": ULAW_8K,
    "ALAW": ALAW_8K,
    "OPUS": OPUS_48K,
}
"""VoxEngine's constant or value → format."""

DEFAULT: Final = PCM_8K
"""What a media socket speaks where no encoding is said."""

_SPELLINGS: Final[Mapping[str, AudioFormat]] = {
    **{name.lower(): value for name, value in ENCODINGS.items()},
    "l16": PCM_16K,
    "x-l16": PCM_16K,
    "linear16": PCM_16K,
    "slin": PCM_8K,
    "slin16": PCM_16K,
    "pcm": PCM_24K,
    "pcmu": ULAW_8K,
    "mulaw": ULAW_8K,
    "x-mulaw": ULAW_8K,
    "basic": ULAW_8K,
    "g711_ulaw": ULAW_8K,
    "pcma": ALAW_8K,
    "x-alaw": ALAW_8K,
    "g711_alaw": ALAW_8K,
    "ogg": OPUS_48K,
    "x-opus": OPUS_48K,
}


def audio_format(said: Any, /, *, rate_hz: Any = None, channels: Any = None) -> AudioFormat:
    """The format that a name means: VoxEngine's, a MIME type, OpenAI's, or a mapping that holds one.

    Args:
        said: an `AudioFormat`; a name (``"PCM16"``, ``"audio/x-mulaw"``, ``"audio/L16;rate=16000"``,
            ``"g711_alaw"``); or a mapping (``{"encoding": …, "sampleRate": …}``, ``{"type": "audio/pcm", "rate":
            24000}``).
        rate_hz: the rate said beside it, a number or its digits; None: the name's own.
        channels: likewise; only one is taken.

    Raises:
        AudioError: an unknown name, a rate that the encoding does not have, or more than one channel.

    >>> audio_format("audio/x-mulaw", rate_hz=8000, channels=1)
    AudioFormat(coding='ulaw', rate_hz=8000)
    >>> audio_format({"type": "audio/pcm", "rate": 24000})
    AudioFormat(coding='pcm', rate_hz=24000)
    """
    if isinstance(said, AudioFormat):
        return said
    if isinstance(said, Mapping):
        name = said.get("encoding", said.get("type"))
        return audio_format(name, rate_hz=said.get("sampleRate", said.get("rate")), channels=said.get("channels"))
    if not isinstance(said, str):
        raise AudioError(f"an encoding is a name such as 'PCM16', not {said!r}", encoding=said)
    name, *parameters = [part.strip() for part in said.lower().split(";")]
    found = _SPELLINGS.get(name.removeprefix("audio/"))
    if found is None:
        known = [*ENCODINGS, "audio/l16", "audio/x-mulaw", "audio/pcmu", "audio/pcma", "audio/pcm"]
        raise AudioError(
            f"there is no encoding {said!r}{did_you_mean(said, known)}; there are {', '.join(ENCODINGS)}",
            encoding=said,
        )
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        rate_hz = value if key == "rate" and rate_hz is None else rate_hz
        channels = value if key == "channels" and channels is None else channels
    if channels is not None and _number(channels, name="channels", encoding=said) != 1:
        raise AudioError(f"{said!r} with {channels!r} channels; send one channel per stream", encoding=said)
    if rate_hz is None:
        return found
    return _at(found, _number(rate_hz, name="sample rate", encoding=said), said=said)


def _number(value: Any, *, name: str, encoding: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", text):
        raise AudioError(f"the {name} of {encoding!r} is {value!r}, which is no whole number", encoding=encoding)
    return int(text)


def _at(found: AudioFormat, rate_hz: int, *, said: str) -> AudioFormat:
    if found.coding == "pcm":
        if rate_hz not in RATES_HZ:
            raise AudioError(
                f"a sample rate of {rate_hz} Hz; PCM is taken from {RATES_HZ[0]} to {RATES_HZ[-1]} Hz",
                encoding=said,
                rate_hz=rate_hz,
            )
        return AudioFormat("pcm", rate_hz)
    if rate_hz != found.rate_hz:
        raise AudioError(
            f"{said!r} at {rate_hz} Hz; {found.encoding} has {found.rate_hz} Hz", encoding=said, rate_hz=rate_hz
        )
    return found


def check_whole(data: bytes, form: AudioFormat, /) -> None:
    """Refuse bytes that end within a sample.

    Raises:
        AudioError: as said, with ``size_bytes``.
    """
    if len(data) % form.sample_bytes:
        raise AudioError(
            f"{len(data)} bytes end within a sample of {form}; send whole samples of {form.sample_bytes} bytes",
            size_bytes=len(data),
            encoding=form.encoding,
        )
