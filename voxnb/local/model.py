"""The embedded model: llama.cpp's server in a child process, spoken to over the ordinary OpenAI wire.

SmolLM2 with 135 million parameters writes poor answers and poor summaries. It is
there so that everything runs without a key; for quality name a better model
(another ``base_url``, or a larger GGUF file in ``VOXNB_LOCAL_MODEL``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, Self

from voxnb.errors import LocalModelError
from voxnb.local import weights
from voxnb.runtime import loop

START_S: Final = 120.0
"""Longest wait for the server; the default model takes 0.6 s, a large file on a slow disk minutes."""

N_CTX_TOKENS: Final = 4_096
SLOTS: Final = 2
"""One for the conversation, one for the summaries, so that neither loses its cache to the other."""

LOG_LINES: Final = 12

SUMMARY_SAMPLING: Final[dict[str, Any]] = {
    "temperature": 0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
    "stop": ["\nUser:", "\nAssistant:"],
    # Text that it copies from the request instead of writing a summary.
    "logit_bias": [["###", -8], ["#", -8], ["[", -8], [" [", -8], ["```", -8], ["User", -4], ["Assistant", -4]],
}
"""For folds: without a repetition penalty and stops SmolLM2 repeats a line or plays both sides until its limit."""


class Model:
    """A GGUF model behind an OpenAI-style server on a free loopback port.

    Started on first use of `base_url`; started again if the process has died. Ends with `close`, with the interpreter, and
    with this process however that ends.

    Args:
        path: a GGUF file; default ``VOXNB_LOCAL_MODEL``, else SmolLM2-135M-Instruct, fetched once.
        n_ctx_tokens: context of each slot.
        slots: requests served at once.
        threads: default all cores but one.

    Raises:
        LocalModelError: (on start) the weights cannot be had, or the server does not start.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        n_ctx_tokens: int = N_CTX_TOKENS,
        slots: int = SLOTS,
        threads: int | None = None,
    ) -> None:
        if n_ctx_tokens < 256 or slots < 1 or (threads is not None and threads < 1):
            raise LocalModelError(
                f"n_ctx_tokens={n_ctx_tokens}, slots={slots}, threads={threads}: expected at least 256, 1 and 1"
            )
        self.path = Path(path).expanduser() if path is not None else None
        self.n_ctx_tokens = n_ctx_tokens
        self.slots = slots
        self.threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self.api_key = secrets.token_urlsafe(24)
        self.name = weights.MODEL_NAME if path is None and not os.environ.get(weights.VARIABLE) else ""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._address = ""
        self._pid = os.getpid()
        self._exit = loop.at_exit(self.close)

    @property
    def base_url(self) -> str:
        """Address of the running server, ``http://127.0.0.1:PORT/v1``; starts it if it does not run."""
        self.start()
        return f"{self._address}/v1"

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._pid == os.getpid() and self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server if it does not run; returns when it answers.

        Raises:
            LocalModelError: weights or server are not to be had.
        """
        with self._lock:
            if self._pid != os.getpid():
                # The parent's child is the parent's: neither used nor closed here.
                self._pid, self._process = os.getpid(), None
            if self.is_running:
                return
            self._start()

    def _start(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise LocalModelError(
                "the embedded model needs the package xllamacpp; install 'voxnb[local]', or use another base_url"
            )
        path = weights.checked_gguf(self.path, source="path") if self.path else weights.model_file()
        self.name = self.name or path.stem
        settings = {
            "path": str(path),
            "n_ctx_tokens": self.n_ctx_tokens,
            "slots": self.slots,
            "threads": self.threads,
            "api_key": self.api_key,
            "name": self.name,
        }
        log = self._log_file()
        # A handle of its own: the child writes on after this one is closed.
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "voxnb.local.child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True, close_fds=True,
            )  # fmt: skip
        self._address = self._ready(process, settings, log)
        self._process = process

    def _ready(self, process: subprocess.Popen[str], settings: dict[str, Any], log: Path) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(START_S, process.kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps(settings) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        if line:
            return str(json.loads(line)["address"])
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        raise LocalModelError(
            f"the embedded model's server did not start ({settings['path']!r}); its log {str(log)!r} ends:\n{_tail(log)}"
        )

    def _log_file(self) -> Path:
        folder = weights.cache_folder() / "log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("server-*.log"):
                if time.time() - old.stat().st_mtime > 86_400:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise LocalModelError(
                f"cannot write the log of the embedded model in {str(folder)!r} ({error.strerror}); set VOXNB_CACHE"
            ) from error
        return folder / f"server-{os.getpid()}.log"

    def close(self) -> None:
        """Stop the server; a second call does nothing."""
        with self._lock:
            process, self._process = self._process, None
            if process is None or self._pid != os.getpid():
                return
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._log_file().unlink(missing_ok=True)
        self._exit()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"at {self._address}" if self.is_running else "not running"
        return f"<Model {self.name or self.path} {state}, {self.slots} × {self.n_ctx_tokens:,} tokens>"


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(it cannot be read)"
    return "\n".join(lines[-LOG_LINES:]) or "(it is empty)"


_default: Model | None = None
_default_key: tuple[int, str | None] | None = None
_default_lock = threading.Lock()


def serve_default() -> Model:
    """The embedded model of this process, started.

    Raises:
        LocalModelError: weights or server are not to be had.
    """
    global _default, _default_key
    key = (os.getpid(), os.environ.get(weights.VARIABLE))
    with _default_lock:
        if _default is None or _default_key != key:
            _default, _default_key = Model(), key
        model = _default
    model.start()
    return model
