"""Speech without a service: recognition and a voice, whose models come with their packages.

Both speak English. Recognition (pocketsphinx) takes about a fifth of the speech's own length on one core and gives words in
lower case, not always the right ones; the voice (hibari, 24 kHz) takes a fiftieth. The extra ``[voice]`` brings them; nothing
is fetched when they run.

>>> from voxnb.local.speech import SpeechEngines, sentences
>>> sentences("Good morning. It is 3.5 degrees! Put on a coat")
['Good morning.', 'It is 3.5 degrees!', 'Put on a coat']
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import weakref
from typing import Any, Final, Self

from voxnb.audio.formats import PCM_24K, AudioFormat
from voxnb.errors import LocalModelError
from voxnb.local import speech_child
from voxnb.local.realtime.hearing import energy
from voxnb.local.realtime.sound import converted
from voxnb.runtime import loop

START_S: Final = 120.0
ANSWER_S: Final = 60.0
"""Longest wait for an engine; one that takes longer is ended, and the next call starts another."""

LONGEST_MS: Final = 60_000
"""Of speech that is recognised: what is longer is cut at its beginning."""

LONGEST_TEXT: Final = 2_000
"""Characters of one `SpeechEngines.speak`."""

NICENESS: Final = 5
SEED: Final = 20_260
PACKAGES: Final = ("hibari", "pocketsphinx", "webrtcvad", "websockets")

_PCM_16K: Final = AudioFormat("pcm", speech_child.RATE_HZ)
_is_loud: Final = energy(0.0)
_SENTENCE: Final = re.compile(r"(?<=[.!?…])[\"”’)\]]*\s+")


class SpeechEngines:
    """Both engines in one child process, started on first use; it ends with `close` and with this process however that ends.

    Usable from any thread; one request is answered at a time.

    Args:
        seed: of the noise in the voice: the same text sounds the same.
        niceness: how far the engines stand back behind other processes, from 0 to 19.

    Attributes:
        took_s: seconds that the last request took in the child.

    Raises:
        LocalModelError: on use: a package of the extra is missing, or the engines do not start.

    Source: pocketsphinx 5 and hibari-tts 0.2, their own documentation.
    """

    def __init__(self, *, seed: int = SEED, niceness: int = NICENESS) -> None:
        self._seed, self._niceness = seed, niceness
        self._remove_hook: Any = None
        self._forget()
        _engines.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.took_s = 0.0

    @property
    def pid(self) -> int | None:
        """The child's process id, or None where it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> Self:
        """Load the engines if they are not loaded; about 3 s."""
        with self._lock:
            self._running()
        return self

    def hear(self, audio: bytes, form: AudioFormat = PCM_24K, /) -> str:
        """Write down what is said.

        Args:
            audio: samples of `form`; of more than 60 s the last 60.
            form: PCM or G.711.

        Returns:
            Words in lower case, without marks; ``""`` where none were understood.

        Raises:
            LocalModelError: see the class.
        """
        most_bytes = int(LONGEST_MS * form.rate_hz / 1_000) * form.sample_bytes
        pcm = converted(audio[-most_bytes:], form, to=_PCM_16K)
        # In silence the recogniser finds words like "a" and "huh".
        if not any(_is_loud(pcm[: len(pcm) // _PCM_16K.frame_bytes * _PCM_16K.frame_bytes], _PCM_16K)):
            return ""
        head, _ = self._ask({"do": "hear"}, pcm)
        return str(head["text"])

    def speak(self, text: str, /) -> bytes:
        """Say a text.

        Args:
            text: English, at most 2,000 characters.

        Returns:
            16-bit mono PCM at 24 kHz; empty where there is nothing to say.

        Raises:
            LocalModelError: see the class.
        """
        if not re.search(r"\w", text):
            return b""
        _, sound = self._ask({"do": "speak"}, text[:LONGEST_TEXT].encode())
        return sound

    def close(self) -> None:
        """End the child; a later use starts another."""
        with self._lock:
            self._end()
        hook, self._remove_hook = self._remove_hook, None
        if hook is not None:
            hook()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SpeechEngines {'not running' if self.pid is None else f'in process {self.pid}'}>"

    # -- the child --------------------------------------------------------------------------------

    def _ask(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        with self._lock:
            process = self._running()
            answer, out = self._exchange(process, head, body)
        if "error" in answer:
            raise LocalModelError(f"the speech engines could not {head['do']}: {answer['error']}")
        self.took_s = answer["took_s"]
        return answer, out

    def _running(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None and process.poll() is None:
            return process
        check_packages()
        self._end()
        process = self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", speech_child.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Interrupts of the terminal or the notebook go to whole groups; this one is not meant.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._remove_hook = self._remove_hook or loop.at_exit(self.close)
        first = {"seed": self._seed, "niceness": self._niceness, "sys_path": [p for p in sys.path if p]}
        ready, _ = self._exchange(process, json.dumps(first).encode() + b"\n", limit_s=START_S)
        if "error" in ready:
            self._end()
            raise LocalModelError(f"the speech engines did not start: {ready['error']}")
        return process

    def _exchange(
        self,
        process: subprocess.Popen[bytes],
        head: dict[str, Any] | bytes,
        body: bytes = b"",
        *,
        limit_s: float = ANSWER_S,
    ) -> tuple[dict[str, Any], bytes]:
        assert process.stdin is not None
        assert process.stdout is not None
        # A pipe cannot be read with a time limit on every platform; a process can be ended everywhere.
        guard = threading.Timer(limit_s, process.kill)
        guard.daemon = True
        guard.start()
        try:
            if isinstance(head, bytes):
                process.stdin.write(head)
            else:
                text = json.dumps(head).encode()
                process.stdin.write(speech_child.LENGTHS.pack(len(text), len(body)) + text + body)
            process.stdin.flush()
            lengths = process.stdout.read(speech_child.LENGTHS.size)
            if len(lengths) == speech_child.LENGTHS.size:
                head_bytes, body_bytes = speech_child.LENGTHS.unpack(lengths)
                told, out = process.stdout.read(head_bytes), process.stdout.read(body_bytes)
                if len(told) == head_bytes and len(out) == body_bytes:
                    return json.loads(told), out
        except OSError:  # it has ended: said below
            pass
        except BaseException:  # an interrupt: what is still answered would be taken for the answer to the next request
            self._end()
            raise
        finally:
            guard.cancel()
        self._end()
        raise LocalModelError(
            f"the speech engines ended (exit code {process.returncode}); the next use starts them again",
            exit_code=process.returncode,
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:  # in the middle of a sentence
            process.kill()
            process.wait()

    def _disown(self) -> None:
        """In a forked copy of this process: close the copied pipes, and know of no child."""
        process = self._process
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        os.close(pipe.fileno())
            process.returncode = 0  # not this process's to wait for
        self._forget()
        self._remove_hook = None


_engines: weakref.WeakSet[SpeechEngines] = weakref.WeakSet()


def _after_fork() -> None:
    for engines in _engines:
        engines._disown()  # noqa: SLF001 - this module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_packages() -> None:
    """Refuse where a package of the extra is missing.

    Raises:
        LocalModelError: names it, and what to install.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise LocalModelError(
            f"speech without a service needs the package {missing[0]}: pip install 'voxnb[voice]', or use another base_url"
        )


def sentences(text: str, /) -> list[str]:
    """A text cut after its sentences."""
    return [piece for piece in _SENTENCE.split(text.strip()) if piece]
