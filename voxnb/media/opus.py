"""Opus for media sockets: 16-bit PCM at 48 kHz to Ogg pages, and Ogg or bare packets to PCM; with PyAV."""

from __future__ import annotations

import secrets
from typing import Any, Final

from voxnb.audio.formats import AudioFormat
from voxnb.audio.ogg import PATTERN, OggReader, OggWriter
from voxnb.errors import AudioError, NotSupportedError
from voxnb.runtime.packages import import_apart

PCM_48K: Final = AudioFormat("pcm", 48_000)
"""What goes into the encoder and comes out of the decoder."""


def av() -> Any:
    """The package that holds the codec.

    Raises:
        NotSupportedError: it is not installed.
    """
    try:
        import_apart("av")
        import av
    except (ImportError, OSError) as error:
        raise NotSupportedError(
            f"Opus needs the package 'av' ({error}): pip install 'voxnb[opus]'",
            name="OPUS",
            instead="PCM16",
        ) from error
    return av


class OpusEncoder:
    """Frames of 20 ms at 48 kHz into Ogg pages.

    Args:
        bit_rate: bits per second.
    """

    def __init__(self, *, bit_rate: int = 32_000) -> None:
        self._av = av()
        self._codec = self._av.CodecContext.create("libopus", "w")
        self._codec.sample_rate = PCM_48K.rate_hz
        self._codec.layout = "mono"
        self._codec.format = "s16"
        self._codec.bit_rate = bit_rate
        self._codec.options = {"application": "voip", "frame_duration": "20"}
        self._writer = OggWriter(serial=secrets.randbits(32))
        self._held = b""
        self._given = 0

    def feed(self, pcm: bytes, /) -> bytes:
        """The pages of the frames that are whole now; nothing where none is.

        Args:
            pcm: 16-bit little-endian samples at 48 kHz.
        """
        self._held += pcm
        pages = []
        size = PCM_48K.frame_bytes
        while len(self._held) >= size:
            frame = self._av.AudioFrame(format="s16", layout="mono", samples=PCM_48K.frame_samples)
            frame.planes[0].update(self._held[:size])
            frame.sample_rate = PCM_48K.rate_hz
            frame.pts = self._given
            self._given += PCM_48K.frame_samples
            self._held = self._held[size:]
            pages += [
                self._writer.page(bytes(packet), samples=PCM_48K.frame_samples) for packet in self._codec.encode(frame)
            ]
        return b"".join(pages)


class OpusDecoder:
    """Ogg pages, cut anywhere, or bare packets into PCM at 48 kHz.

    Attributes:
        damaged: pages and packets that could not be read.
    """

    def __init__(self) -> None:
        self._av = av()
        self._codec = self._av.CodecContext.create("libopus", "r")
        self._codec.sample_rate = PCM_48K.rate_hz
        self._codec.layout = "mono"
        self._reader: OggReader | None = None
        self._lost = 0

    @property
    def damaged(self) -> int:
        """Pages and packets that could not be read."""
        return self._lost + (self._reader.damaged if self._reader is not None else 0)

    def feed(self, data: bytes, /) -> bytes:
        """The sound of what is whole now.

        Args:
            data: what one media message carries.
        """
        if self._reader is None and data.startswith(PATTERN):
            self._reader = OggReader()
        packets = [data] if self._reader is None else self._reader.feed(data)
        return b"".join(self._decoded(packet) for packet in packets if packet)

    def _decoded(self, packet: bytes) -> bytes:
        try:
            frames = self._codec.decode(self._av.Packet(packet))
        except (self._av.FFmpegError, ValueError):
            self._lost += 1
            return b""
        return b"".join(_mono(frame) for frame in frames)


def _mono(frame: Any) -> bytes:
    """One frame of the decoder, in whatever layout it came, as 16-bit mono."""
    import numpy as np

    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    samples = samples.reshape(-1, channels).T if not frame.format.is_planar else samples
    mono = samples.astype(np.float64).mean(axis=0)
    if frame.sample_rate != PCM_48K.rate_hz:
        raise AudioError(f"Opus at {frame.sample_rate} Hz", rate_hz=frame.sample_rate)
    scale = 32_767 if frame.format.name.startswith("flt") else 1
    pcm: bytes = np.clip(np.rint(mono * scale), -32_768, 32_767).astype("<i2").tobytes()
    return pcm
