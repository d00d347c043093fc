"""A spoken conversation without a key: the local Realtime server with a language model, ears and a voice.

Three processes stand behind it, so that a busy notebook disturbs no call and a call no notebook: the Realtime server, the
speech engines that it starts (at a lower priority), and the embedded language model. Each ends with the one that started
it. The language model is `voxnb.local.Model` and as poor as that says; recognition mistakes words.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from voxnb.errors import LocalModelError
from voxnb.local import model as language
from voxnb.local.process import Run
from voxnb.local.speech import check_packages
from voxnb.runtime import loop

START_S: Final = 180.0
MOST_SESSIONS: Final = 8
"""Sessions at once: recognition and the language model share the machine's cores."""

RESTARTS: Final = 3
RESTART_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSettings:
    """What the server's process is started with.

    Attributes:
        api_key: which every connection must bring.
        language_url: of the language model.
        language_key: its key.
        language_model: its name.
        port: 0 for a free one.
        serve: where the process finds its work.
    """

    api_key: str = field(repr=False)
    language_url: str
    language_key: str = field(repr=False)
    language_model: str
    port: int = 0
    serve: str = "voxnb.local.voice:serve"


def serve(settings: dict[str, Any]) -> dict[str, Any]:
    """In the server's own process: load the engines and listen.

    Args:
        settings: the fields of `VoiceSettings`.

    Returns:
        What the parent wants to know: ``port``.
    """
    from voxnb.local.realtime import Manner, RealtimeServer
    from voxnb.local.speech import SpeechEngines
    from voxnb.local.talker import Talker
    from voxnb.local.vad import webrtc

    engines = SpeechEngines().start()
    where = settings["language_url"]
    brain = Talker(engines, where, api_key=settings["language_key"], model=settings["language_model"])
    server = RealtimeServer(
        brain,
        manner=Manner(detector=webrtc, has_rate_limits=False),
        api_key=settings["api_key"],
        require_key=True,
        port=settings["port"],
        most_sessions=MOST_SESSIONS,
        keeps=False,
    )
    return {"port": server.port}


class Voice:
    """The local Realtime server as a process of its own.

    Started on first use; it ends with `close` and with this process however that ends. If it dies it is started again under
    the same address and key, up to 3 times in a minute; sessions that were open are gone.

    Args:
        base_url: of the language model; None for the embedded one.
        language_key: its key.
        language_model: its name.

    Attributes:
        api_key: made anew for each instance; the server refuses connections without it.

    Raises:
        LocalModelError: on start: a package of the extra ``[voice]`` is missing, or the server does not start (the
            message carries the last lines of its log).
    """

    def __init__(self, base_url: str | None = None, *, language_key: str = "", language_model: str = "") -> None:
        self._language = None if base_url is None else (base_url, language_key, language_model)
        self.api_key = secrets.token_urlsafe(24)
        self._forget_run()
        _voices.add(self)

    def _forget_run(self) -> None:
        """As new; also in a forked copy, where the run is the parent's."""
        self._starting = threading.Lock()
        self._lock = threading.RLock()
        self._run: Run[VoiceSettings] | None = None
        self._failure: LocalModelError | None = None
        self._deaths: list[float] = []
        self._port = 0
        self._remove_hook: Any = None

    @property
    def base_url(self) -> str:
        """Address of the running server, ``http://127.0.0.1:PORT/v1``; starts it if it does not run."""
        return f"http://127.0.0.1:{self.start().facts['port']}/v1"

    @property
    def is_running(self) -> bool:
        """Whether the server answers, as far as is known; never starts it."""
        run = self._run
        return run is not None and run.is_ready

    def start(self) -> Run[VoiceSettings]:
        """Start the server if it does not run; returns when it answers, after about 4 s.

        Returns:
            The running process; its `facts` have the port.

        Raises:
            LocalModelError: see the class.
        """
        run = self._run
        if run is not None and run.is_ready:
            return run
        with self._starting:
            if self._run is None:
                check_packages()
                if self._language is None:
                    served = language.serve_default()
                    url, key, name = served.base_url, served.api_key, served.name
                else:
                    url, key, name = self._language
                settings = VoiceSettings(
                    api_key=self.api_key, language_url=url, language_key=key, language_model=name, port=self._port
                )
                with self._lock:
                    self._deaths, self._failure = [], None
                    self._run = Run(settings, on_end=self._ended, what="embedded voice")
                    self._remove_hook = self._remove_hook or loop.at_exit(self.close)
            return self._ready()

    def _ready(self) -> Run[VoiceSettings]:
        deadline_s = time.monotonic() + START_S
        while True:
            with self._lock:
                run, failure = self._run, self._failure
            if run is None:
                raise failure or LocalModelError("the embedded voice was closed while it started")
            if not loop.block(run.settled, timeout_s=max(0.0, deadline_s - time.monotonic())):
                self.close()
                raise LocalModelError(f"the embedded voice was not ready after {START_S:g} s; see {str(run.log)!r}")
            if run.is_ready:
                self._port = run.facts["port"]
                return run

    def _ended(self, run: Run[VoiceSettings]) -> None:
        """A process has ended; called from the thread that followed it."""
        with self._lock:
            if run is not self._run:
                return  # by `close`
            now_s = time.monotonic()
            self._run, self._failure = None, run.failure(path=run.settings.language_url)
            self._deaths = [at for at in self._deaths if now_s - at < RESTART_WITHIN_S] + [now_s]
            if not run.facts or len(self._deaths) > RESTARTS:
                return
            try:
                self._run = Run(
                    replace(run.settings, port=run.facts["port"]), on_end=self._ended, what="embedded voice"
                )
            except (LocalModelError, RuntimeError) as error:  # no more processes, or no more threads
                self._failure.__cause__ = error

    def close(self) -> None:
        """Stop the server, within 4 s; a second call does nothing, and a later use starts it again elsewhere."""
        with self._lock:
            run, self._run = self._run, None
            hook, self._remove_hook = self._remove_hook, None
            self._port, self._failure = 0, None
        if run is not None:
            run.stop()
        if hook is not None:
            hook()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        run = self._run
        state = f"on port {run.facts['port']}" if run is not None and run.is_ready else "not running"
        return f"<Voice {state}>"


_voices: weakref.WeakSet[Voice] = weakref.WeakSet()
_default: list[Voice] = []
_choosing = threading.Lock()


def _after_fork() -> None:
    global _choosing  # noqa: PLW0603 - a thread that is not there may hold it
    _choosing = threading.Lock()
    for voice in _voices:
        voice._forget_run()  # noqa: SLF001 - this module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def serve_default() -> Voice:
    """The spoken conversation of this process, running.

    The first call starts the language model and the engines: about 4 s, and the first time ever the model's weights.

    Raises:
        LocalModelError: a package or the weights are not to be had; see `Voice`.
    """
    with _choosing:
        if not _default:
            _default.append(Voice())
        voice = _default[0]
    voice.start()
    return voice
