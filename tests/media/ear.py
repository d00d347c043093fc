"""Units for tests: one that gives what a test pushes, one that keeps what it hears."""

from __future__ import annotations

import numpy as np

from voxnb.audio.formats import PCM_24K
from voxnb.media import MediaUnit
from voxnb.media.stream import Sink


class Source(MediaUnit):
    """Gives what a test pushes, and keeps what it is told."""

    def __init__(self, clock, *, form=PCM_24K):
        super().__init__(clock=clock)
        self.form = form
        self.feeding = []
        self.told = []

    def _offers(self, wanted):
        return self.form

    def _feeds(self, stream):
        self.feeding.append(stream)

    def _fed(self, stream):
        self.feeding.remove(stream)

    def _media_started(self, facts):
        self.told.append((self._clock.now(), "started", facts))

    def _media_ended(self, facts):
        self.told.append((self._clock.now(), "ended", facts))

    @property
    def stream(self):
        return self.feeding[-1]


class Ear(MediaUnit):
    """Keeps what it hears, with the time at which it heard it."""

    def __init__(self, clock, *, form=None, sink=None):
        super().__init__(clock=clock)
        self.form = form
        self.sink = sink or Sink()
        self.heard = []
        self.life = []

    def _takes(self, offered, wanted):
        return self.form or wanted or offered

    def _opened(self, stream):
        self.life.append(("opened", stream.tag))

    def _heard(self, stream, frame):
        self.heard.append((self._clock.now(), frame))

    def _cleared(self, stream):
        self.life.append(("cleared", stream.tag))

    def _closed(self, stream):
        self.life.append(("closed", stream.tag))

    @property
    def data(self):
        return b"".join(frame.data for _, frame in self.heard)


def noise(ms, form=PCM_24K):
    """So many milliseconds of random bytes, always the same ones."""
    size = form.rate_hz * ms // 1000 * form.sample_bytes
    return np.random.default_rng(ms).integers(0, 256, size).astype(np.uint8).tobytes()
