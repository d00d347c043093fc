"""The embedded model: llama.cpp's server in a child process, spoken to over the ordinary OpenAI wire.

SmolLM2 with 135 million parameters writes poor answers and poor summaries: it forgets a
line ago, invents numbers and calls no tools (its template ignores their schemas). It is
there so that everything runs without a key. For quality name a better model: another
``base_url``, or a larger GGUF file in ``VOXNB_LOCAL_MODEL``.

The server also answers ``/v1/responses``, counts a request exactly at ``/v1/chat/completions/input_tokens``, and refuses
one that is too long with a 400 that names ``n_prompt_tokens`` and ``n_ctx``.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from voxnb.errors import LocalModelError
from voxnb.local import weights
from voxnb.local.served import Served

N_CTX_TOKENS: Final = 4_096
SLOTS: Final = 2
"""One for the conversation, one for the summaries, so that neither loses its cache to the other."""

LEAST_CTX_TOKENS: Final = 256

CHAT_SAMPLING: Final[dict[str, Any]] = {"temperature": 0.2, "top_p": 0.9, "repeat_penalty": 1.1}
"""What SmolLM2 is served with: used for a request that says nothing else. The penalty keeps it from repeating itself."""

SUMMARY_SAMPLING: Final[dict[str, Any]] = {
    "temperature": 0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
    "stop": ["\nUser:", "\nAssistant:"],
    # By SmolLM2's ids. What it would copy from the request instead of writing: "[", " [", "###", "User", "Ass(istant)";
    # and the end of the answer, which it puts off.
    "logit_bias": [[75, -8], [933, -8], [3757, -8], [11126, -4], [9519, -4], [2, 2]],
}
"""For folds with SmolLM2. Measured on 10 chat excerpts with the default prompt and room for 512 tokens: with this all 10
summaries end, after 56 tokens on average and 100 at most. With room for 160 tokens, 4 of 10 end with the penalty
alone, 2 with llama.cpp's own defaults, none greedily. It makes summaries end, not good ones."""

OTHER_SUMMARY_SAMPLING: Final[dict[str, Any]] = {"temperature": 0}
"""For folds with any other GGUF model: ids and penalties are SmolLM2's own."""

_SERVER_NAMES: Final = {"temperature": "temp", "repeat_penalty": "penalty_repeat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What llama.cpp's server is started with.

    Attributes:
        path: the GGUF file.
        name: the model's name on the wire.
        n_ctx_tokens: context of each slot.
        slots: requests served at once.
        threads: of the computation.
        api_key: which every request must bring.
        port: 0 for a free one.
        sampling: defaults of requests that say nothing, by llama.cpp's own names.
    """

    path: str
    name: str
    n_ctx_tokens: int
    slots: int
    threads: int
    api_key: str = field(repr=False)
    port: int = 0
    sampling: dict[str, float] = field(default_factory=dict)


class Model(Served[Settings]):
    """A GGUF model behind an OpenAI-style server on a free loopback port.

    Started on first use (`base_url`, `start`, ``with``), in a process of its own that ends with `close`, with the
    interpreter, and with this process however that ends. Usable from any thread. If the server's process dies, it is
    started again at once under the same address and key, so clients that have these go on: a request that was running
    fails with `APIConnectionError`, one within the next 0.6 s gets a 503 (which clients repeat), later ones are served.
    After 3 deaths within a minute it stays down until the next use. A forked copy of this process leaves the server alone
    and starts its own on first use.

    Args:
        path: a GGUF file; default ``VOXNB_LOCAL_MODEL``, else SmolLM2-135M-Instruct, fetched once (93 MB) into the
            user's cache folder when it starts.
        n_ctx_tokens: context of each slot, in tokens.
        slots: requests served at once; more wait their turn.
        threads: of the computation; default all cores but one.
        port: of 127.0.0.1; default a free one.

    Attributes:
        name: the model's name on the wire: ``SmolLM2-135M-Instruct``, or the file's name without its suffix.
        api_key: made anew for each instance; the server refuses requests without it.
        slots: as given.
        threads: as given, or what the default came to.

    Raises:
        LocalModelError: no path, numbers out of range; on start: no `xllamacpp`, no weights, or the server does not start (the
            message carries the last lines of its log).

    Source: llama.cpp, ``tools/server/README.md``, for what the server answers.

    >>> Model("zephyr.gguf", slots=1).name
    'zephyr'
    """

    WHAT = "embedded model"
    START_S = 600.0
    """The default model takes 0.7 s, a large file on a slow disk minutes."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        n_ctx_tokens: int = N_CTX_TOKENS,
        slots: int = SLOTS,
        threads: int | None = None,
        port: int = 0,
    ) -> None:
        if not isinstance(path, str | os.PathLike | None):
            raise LocalModelError(f"path is {path!r} ({type(path).__name__}), expected a str or pathlib.Path")
        for name, number in {
            "n_ctx_tokens": n_ctx_tokens,
            "slots": slots,
            "threads": threads or 1,
            "port": port,
        }.items():
            if isinstance(number, bool) or not isinstance(number, int):
                raise LocalModelError(f"{name} is {number!r} ({type(number).__name__}), expected a whole number")
        if n_ctx_tokens < LEAST_CTX_TOKENS or slots < 1 or (threads is not None and threads < 1):
            raise LocalModelError(
                f"n_ctx_tokens is {n_ctx_tokens!r}, slots {slots!r}, threads {threads!r}; "
                f"expected at least {LEAST_CTX_TOKENS}, 1 and 1"
            )
        if not 0 <= port < 1 << 16:
            raise LocalModelError(f"port is {port!r}; expected 1 to 65535, or 0 for a free one")
        named = os.environ.get(weights.VARIABLE)
        self._named_by = "path" if path is not None else weights.VARIABLE
        self._own = Path(path) if path is not None else Path(named) if named else None
        self.name = self._own.stem if self._own is not None else weights.SMOLLM2.name
        self._n_ctx_tokens = n_ctx_tokens
        self.slots = slots
        self.threads = threads or max(1, _cores() - 1)
        super().__init__(port=port)

    @property
    def n_ctx_tokens(self) -> int:
        """Context of each slot: what the running server says, before that what was asked for."""
        run = self._run
        return run.facts.get("n_ctx_tokens", self._n_ctx_tokens) if run is not None else self._n_ctx_tokens

    @property
    def summary_sampling(self) -> dict[str, Any]:
        """What a request for a summary should say besides its messages, so that the summary ends."""
        return dict(SUMMARY_SAMPLING if self._own is None else OTHER_SUMMARY_SAMPLING)

    def _settings(self, port: int) -> Settings:
        if importlib.util.find_spec("xllamacpp") is None:
            raise LocalModelError(
                "the embedded model needs the package xllamacpp; install 'voxnb[local]', or use another base_url"
            )
        path = weights.fetch() if self._own is None else weights.own_file(self._own, source=self._named_by)
        sampling = {_SERVER_NAMES.get(name, name): value for name, value in CHAT_SAMPLING.items()}
        return Settings(
            path=str(path),
            name=self.name,
            n_ctx_tokens=self._n_ctx_tokens,
            slots=self.slots,
            threads=self.threads,
            api_key=self.api_key,
            port=port,
            sampling=sampling if self._own is None else {},
        )

    def _source(self, settings: Settings) -> str:
        return settings.path

    def __repr__(self) -> str:
        return f"<Model {self.name} {self._state}, {self.slots} × {self.n_ctx_tokens:,} tokens>"


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_defaults: dict[str, Model] = {}


def default_model() -> Model:
    """The embedded model of this process, running or not: one for each value of ``VOXNB_LOCAL_MODEL``."""
    key = os.environ.get(weights.VARIABLE, "")
    # Two threads may both make one here; `setdefault` keeps one, and only that one is started.
    return _defaults.get(key) or _defaults.setdefault(key, Model())


def serve_default() -> Model:
    """The embedded model of this process, running.

    The first call may fetch the weights, with a progress bar, and takes 0.7 s after that.

    Raises:
        LocalModelError: weights or server are not to be had; see `Model`.
    """
    model = default_model()
    model.start()
    return model
