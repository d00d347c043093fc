"""A spoken conversation without a key: the local Realtime server with a language model, ears and a voice.

Three processes stand behind it, so that a busy notebook disturbs no call and a call no notebook: the Realtime server, the
speech engines that it starts (at a lower priority), and the embedded language model. Each ends with the one that started
it. The language model is `voxnb.local.Model` and as poor as that says; recognition mistakes words.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.local import model as language
from voxnb.local.process import Run
from voxnb.local.served import Served
from voxnb.local.speech import check_packages
from voxnb.runtime.progress import following

MOST_SESSIONS: Final = 8
"""Sessions at once: recognition and the language model share the machine's cores."""


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


class Voice(Served[VoiceSettings]):
    """The local Realtime server as a process of its own.

    Started on first use; it ends with `close` and with this process however that ends. If it dies it is started again under
    the same address and key, up to 3 times in a minute; sessions that were open are gone, and clients begin them again.

    Args:
        base_url: of the language model; None for the embedded one.
        language_key: its key.
        language_model: its name.

    Attributes:
        api_key: made anew for each instance; the server refuses connections without it.
        name: of the language model that answers; empty before the first start.

    Raises:
        LocalModelError: on start: a package of the extra ``[voice]`` is missing, or the server does not start (the
            message carries the last lines of its log).
    """

    WHAT = "embedded voice"
    START_S = 180.0

    def __init__(self, base_url: str | None = None, *, language_key: str = "", language_model: str = "") -> None:
        self._language = None if base_url is None else (base_url, language_key)
        self.name = language_model
        super().__init__()

    def _forget_run(self) -> None:
        super()._forget_run()
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()

    def start(self) -> Run[VoiceSettings]:
        """Start the server if it does not run, with a progress bar; returns when it answers, after about 4 s.

        Returns:
            The running process; its `facts` have the port.

        Raises:
            LocalModelError: see the class.
            KeyboardInterrupt: as everywhere; a server that was loading goes on and serves the next use.
        """
        if self.is_running:
            return super().start()
        check_packages()
        with following(None, title="starting the embedded voice", total=2, unit="step") as at:
            if self._language is None:
                language.serve_default()
            at(1)
            run = super().start()
            at(2)
        return run

    def _settings(self, port: int) -> VoiceSettings:
        if self._language is None:
            served = language.serve_default()
            self.name = served.name
            url, key = served.base_url, served.api_key
        else:
            url, key = self._language
        return VoiceSettings(
            api_key=self.api_key, language_url=url, language_key=key, language_model=self.name, port=port
        )

    def _source(self, settings: VoiceSettings) -> str:
        return settings.language_url

    def join(self, user: Any) -> None:
        """Note a user of the server, and start it for it."""
        with _joining:
            self._users.add(user)
        self.start()

    def leave(self, user: Any) -> None:
        """A user needs it no more; with the last one it ends."""
        with _joining:
            self._users.discard(user)
            if not self._users:
                self.close()

    def __repr__(self) -> str:
        return f"<Voice {self._state}>"


_default: list[Voice] = []
_joining = threading.Lock()


def _after_fork() -> None:
    global _joining  # noqa: PLW0603 - a thread that is not there may hold it
    _joining = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def serve_default(user: Any) -> Voice:
    """The spoken conversation of this process, running until its last user leaves.

    The first call starts the language model and the engines: about 4 s, and the first time ever the model's weights.

    Args:
        user: who calls; see `Voice.leave`.

    Raises:
        LocalModelError: a package or the weights are not to be had; see `Voice`.
    """
    with _joining:
        if not _default:
            _default.append(Voice())
    _default[0].join(user)
    return _default[0]
