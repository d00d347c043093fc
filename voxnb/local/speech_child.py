"""The process of the speech engines: recognition by pocketsphinx, speech by hibari, until its standard input closes.

In a process of its own, because recognition holds the interpreter for as long as it takes (half a second for a sentence),
and at a lower priority, because a call that is going on must not stutter.

Run by path, not as a module. It reads one line of JSON (seed, niceness, sys_path), answers with one (load_s) when both
engines are loaded and warm, and then answers frames: 8 bytes with the lengths of a JSON head and of a body, head, body.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

LENGTHS: Final = struct.Struct(">II")
RATE_HZ: Final = 16_000
"""Of what is recognised."""

PADDING_MS: Final = 200
"""Silence on either side of what is recognised: without it the first and last words suffer."""


class Engines:
    """Both engines, loaded.

    Args:
        seed: of the noise in the voice: the same text sounds the same.
    """

    def __init__(self, *, seed: int) -> None:
        import hibari
        import pocketsphinx

        self._seed = seed
        self._voice = hibari.Hibari(threads=1)
        self._ears = pocketsphinx.Decoder(samprate=RATE_HZ, loglevel="FATAL")
        self._untouched = self._ears.get_cmn(False)

    def speak(self, text: str) -> bytes:
        """A text as speech.

        Args:
            text: English.

        Returns:
            16-bit mono PCM at 24 kHz.
        """
        import numpy as np

        wave = np.asarray(self._voice(text, seed=self._seed), dtype=np.float32)
        return bytes((np.clip(wave, -1.0, 1.0) * 32_767).astype("<i2").tobytes())

    def hear(self, pcm: bytes) -> str:
        """Speech as text.

        Args:
            pcm: 16-bit mono PCM at 16 kHz, English.

        Returns:
            Words in lower case, without marks; ``""`` where none were understood.
        """
        # What it learned of one speaker's microphone must not change what it hears from the next.
        self._ears.set_cmn(self._untouched)
        padding = bytes(2 * RATE_HZ * PADDING_MS // 1_000)
        self._ears.start_utt()
        self._ears.process_raw(padding + pcm + padding, full_utt=True)
        self._ears.end_utt()
        found = self._ears.hyp()
        return str(found.hypstr) if found is not None else ""

    def warm(self) -> None:
        """Do everything once: the first time takes a second longer than the next."""
        self.speak("Good morning.")
        self.hear(bytes(RATE_HZ))


def stand_back(niceness: int) -> None:
    """Let other processes go first.

    Args:
        niceness: how far back, from 0 to 19.
    """
    with contextlib.suppress(AttributeError, OSError):  # not on Windows, not where it is forbidden
        os.nice(niceness)
    # A process group of its own has a niceness of its own in Linux, without which that of its processes counts for nothing.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def main() -> NoReturn:
    """See the module's text."""
    # An interrupt in the terminal or the notebook is for the parent, who decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(_line())
    sys.path[:] = settings["sys_path"]
    # The answers go through a copy of standard output: libraries may print on the original.
    answer = os.dup(1)
    os.dup2(2, 1)
    stand_back(settings["niceness"])
    started_s = time.monotonic()
    try:
        engines = Engines(seed=settings["seed"])
        engines.warm()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent says it
        _put(answer, {"error": f"{type(error).__name__}: {error}"}, b"")
        os._exit(1)
    _put(answer, {"load_s": time.monotonic() - started_s}, b"")
    while (lengths := _exactly(LENGTHS.size)) is not None:
        head_bytes, body_bytes = LENGTHS.unpack(lengths)
        head, body = _exactly(head_bytes), _exactly(body_bytes)
        if head is None or body is None:
            break
        _put(answer, *_answered(engines, json.loads(head), body))
    # At once: the libraries' own endings are slow.
    os._exit(0)


def _answered(engines: Engines, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    started_s = time.monotonic()
    try:
        if head["do"] == "hear":
            return {"text": engines.hear(body), "took_s": time.monotonic() - started_s}, b""
        sound = engines.speak(body.decode())
    except Exception as error:  # noqa: BLE001 - whatever a text or a sound does to an engine, the next one is served
        return {"error": f"{type(error).__name__}: {error}"}, b""
    return {"took_s": time.monotonic() - started_s}, sound


def _put(fd: int, head: dict[str, Any], body: bytes) -> None:
    text = json.dumps(head).encode()
    left = memoryview(LENGTHS.pack(len(text), len(body)) + text + body)
    while left:
        left = left[os.write(fd, left) :]


def _exactly(size: int) -> bytes | None:
    """So many bytes of standard input; None where it ends before."""
    out = bytearray()
    while len(out) < size:
        block = os.read(0, size - len(out))
        if not block:
            return None
        out += block
    return bytes(out)


def _line() -> bytes:
    out = bytearray()
    while (byte := os.read(0, 1)) and byte != b"\n":
        out += byte
    return bytes(out)


if __name__ == "__main__":
    main()
