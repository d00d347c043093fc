"""From one format to another: the shortest way between G.711 and PCM of any rate."""

from __future__ import annotations

from voxnb.audio import g711
from voxnb.audio.formats import AudioFormat
from voxnb.audio.resample import Resampler
from voxnb.errors import AudioError


class Transcoder:
    """Turns one stream's audio from one format into another, piece by piece.

    Equal formats pass through untouched; one law of G.711 becomes the other by a table; everything else goes by way
    of PCM, with a resampler where the rates differ.

    Args:
        form_in: of what is fed.
        form_out: of what comes out.

    Raises:
        AudioError: Opus, which is packets and needs its decoder; or rates without a short common period.

    >>> from voxnb.audio.formats import PCM_24K, ULAW_8K
    >>> len(Transcoder(ULAW_8K, PCM_24K).feed(bytes(160)))
    960
    """

    def __init__(self, form_in: AudioFormat, form_out: AudioFormat, /) -> None:
        for form in (form_in, form_out):
            if form.coding == "opus":
                raise AudioError("Opus comes in packets; decode it to PCM first", encoding=form.encoding)
        self.form_in = form_in
        self.form_out = form_out
        self._resampler = Resampler(form_in.rate_hz, form_out.rate_hz) if form_in.rate_hz != form_out.rate_hz else None

    @property
    def is_passthrough(self) -> bool:
        """Whether nothing is done."""
        return self.form_in == self.form_out

    def feed(self, data: bytes, /) -> bytes:
        """Convert what comes next.

        Args:
            data: whole samples of `form_in`.

        Returns:
            Samples of `form_out`; less than a millisecond may wait for more.

        Raises:
            AudioError: the bytes end within a sample.
        """
        if self.form_in == self.form_out:
            return data
        if self._resampler is None and self.form_in.is_g711 and self.form_out.is_g711:
            return g711.transcode(data, self.form_in.coding, to=self.form_out.coding)
        pcm = g711.decode(data, self.form_in.coding) if self.form_in.is_g711 else data
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm)
        return g711.encode(pcm, self.form_out.coding) if self.form_out.is_g711 else pcm

    def flush(self) -> bytes:
        """What waits, as if silence followed; then start anew."""
        rest = self._resampler.flush() if self._resampler is not None else b""
        return g711.encode(rest, self.form_out.coding) if self.form_out.is_g711 else rest
