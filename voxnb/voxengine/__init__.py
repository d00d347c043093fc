"""VoxEngine's names for voxnb: what a scenario writes, over the same classes.

>>> from voxnb.voxengine import Logger, OpenAI
>>> OpenAI.ChatCompletionsAPIEvents.ContentDelta.value
'OpenAI.ChatCompletionsAPI.ContentDelta'
>>> Logger.write("a line")
a line
"""

from __future__ import annotations

import contextlib
import inspect
import opcode
import sys
import weakref
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn

from voxnb import events
from voxnb.errors import NotSupportedError, ParameterError
from voxnb.params import (
    ChatParameters,
    RealtimeAPIClientType,
    RealtimeParameters,
    ResponsesParameters,
    camel_case,
    did_you_mean,
    nearest,
    takes,
)
from voxnb.voxengine.names import BETA_RENAMES, ELSEWHERE, METHODS, columns

if TYPE_CHECKING:
    from types import FrameType

    from voxnb.clients.base import Client
    from voxnb.clients.chat import ChatCompletionsAPIClient
    from voxnb.clients.realtime.client import RealtimeAPIClient
    from voxnb.clients.responses import ResponsesAPIClient
    from voxnb.media.unit import MediaUnit

__all__ = ["METHODS", "Logger", "Modules", "OpenAI", "VoxEngine", "WebSocketAudioEncoding", "require"]

_BETA_REFUSED: Final = "OpenAI's service refuses the Beta interface; use"

_scenario: weakref.WeakSet[Client] = weakref.WeakSet()
"""The clients that the factories of `OpenAI` made: what `VoxEngine.terminate` closes."""


class _Namespace(type):
    """Names that are looked up on the class; a wrong one says what is nearest."""

    if not TYPE_CHECKING:  # else every misspelt name would pass type checkers as Any

        def __getattr__(cls, name: str) -> Any:
            if name in cls.__dict__.get("_classes", ()):
                return _client_class(name)
            path = cls.__qualname__.replace("_Beta", "OpenAI.Beta")
            if name.startswith("_"):
                raise AttributeError(f"{path} has no {name!r}")
            if name == "RealtimeAPIClient":  # of Beta
                raise AttributeError(f"{path} has no {name!r}: {_BETA_REFUSED} OpenAI.RealtimeAPIClient")
            known = _public(cls)
            raise AttributeError(
                f"{path} has no {name!r} here{did_you_mean(name, known)}; there are {', '.join(known)}"
            )

    def __dir__(cls) -> list[str]:
        return [*vars(cls), *cls.__dict__.get("_classes", ())]

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        if cls.__name__ == "OpenAI":
            raise TypeError(
                "voxnb's OpenAI is VoxEngine's namespace, not a client: use voxnb.chat(…) or "
                "await OpenAI.createChatCompletionsAPIClient({…}); the SDK's client is 'from openai import OpenAI'"
            )
        raise TypeError(f"{cls.__qualname__} is a namespace; use what is in it: {', '.join(_public(cls))}")


def _public(namespace: type) -> list[str]:
    return [name for name in dir(namespace) if not name.startswith("_")]


def _client_class(name: str) -> Any:
    from voxnb.clients.chat import ChatCompletionsAPIClient
    from voxnb.clients.responses import ResponsesAPIClient

    if name == "RealtimeAPIClient":
        from voxnb.clients.realtime.client import RealtimeAPIClient

        return RealtimeAPIClient
    return {c.__name__: c for c in (ChatCompletionsAPIClient, ResponsesAPIClient)}[name]


class _Beta(metaclass=_Namespace):
    """`OpenAI.Beta`: constants of the interface that the service no longer accepts."""

    Events = events.BetaEvents
    RealtimeAPIEvents = events.BetaRealtimeAPIEvents

    @staticmethod
    async def createRealtimeAPIClient(  # noqa: N802 - VoxEngine's spelling
        parameters: Mapping[str, Any] | None = None, /, **given: Any
    ) -> NoReturn:
        """Refuses, and says what each name is called now.

        Raises:
            NotSupportedError: always; ``.renames`` is the table as data.
        """
        del parameters, given
        raise NotSupportedError(
            f"{_BETA_REFUSED} these names, the others stay as they are:\n{columns(BETA_RENAMES)}",
            name="OpenAI.Beta.createRealtimeAPIClient",
            instead="OpenAI.createRealtimeAPIClient",
            renames=BETA_RENAMES,
        )


class OpenAI(metaclass=_Namespace):
    """VoxEngine's ``OpenAI`` module: factories, classes and event namespaces."""

    _classes = ("ChatCompletionsAPIClient", "RealtimeAPIClient", "ResponsesAPIClient")
    if TYPE_CHECKING:  # imported on use
        from voxnb.clients.chat import ChatCompletionsAPIClient
        from voxnb.clients.realtime.client import RealtimeAPIClient
        from voxnb.clients.responses import ResponsesAPIClient

    Events = events.Events
    ChatCompletionsAPIEvents = events.ChatCompletionsAPIEvents
    ResponsesAPIEvents = events.ResponsesAPIEvents
    RealtimeAPIEvents = events.RealtimeAPIEvents
    RealtimeAPIClientType = RealtimeAPIClientType
    Beta = _Beta

    @staticmethod
    @takes(ChatParameters, spelled=camel_case)
    async def createChatCompletionsAPIClient(  # noqa: N802 - VoxEngine's spelling
        parameters: Mapping[str, Any] | None = None, /, **given: Any
    ) -> ChatCompletionsAPIClient:
        """A new `ChatCompletionsAPIClient`.

        Args:
            parameters: VoxEngine's parameter object.
            **given: the same as keywords, in either spelling.

        Raises:
            ParameterError: unknown or contradicting parameters.
            CredentialsError: no key, or one that may not go to that host.
        """
        from voxnb.clients.chat import ChatCompletionsAPIClient

        client = ChatCompletionsAPIClient(parameters, **given)
        _scenario.add(client)
        return client

    @staticmethod
    @takes(ResponsesParameters, spelled=camel_case)
    async def createResponsesAPIClient(  # noqa: N802 - VoxEngine's spelling
        parameters: Mapping[str, Any] | None = None, /, **given: Any
    ) -> ResponsesAPIClient:
        """A new `ResponsesAPIClient`.

        Args:
            parameters: VoxEngine's parameter object.
            **given: the same as keywords, in either spelling.

        Raises:
            ParameterError: unknown or contradicting parameters.
            CredentialsError: no key, or one that may not go to that host.
        """
        from voxnb.clients.responses import ResponsesAPIClient

        client = ResponsesAPIClient(parameters, **given)
        _scenario.add(client)
        return client

    @staticmethod
    @takes(RealtimeParameters, spelled=camel_case)
    async def createRealtimeAPIClient(  # noqa: N802 - VoxEngine's spelling
        parameters: Mapping[str, Any] | None = None, /, **given: Any
    ) -> RealtimeAPIClient:
        """A new `RealtimeAPIClient` whose session is there; commands may be sent at once.

        Args:
            parameters: VoxEngine's parameter object.
            **given: the same as keywords, in either spelling.

        Raises:
            ParameterError: unknown or contradicting parameters.
            CredentialsError: no key, or one that may not go to that host.
            APIError: the key was refused, nothing listens there, or no session could be begun.
        """
        from voxnb.clients.realtime.client import RealtimeAPIClient

        client = RealtimeAPIClient(parameters, **given)
        _scenario.add(client)
        return await client.__aenter__()


class VoxEngine(metaclass=_Namespace):
    """VoxEngine's session, as far as a notebook has one."""

    @staticmethod
    def sendMediaBetween(unit1: MediaUnit, unit2: MediaUnit, /) -> None:  # noqa: N802 - VoxEngine's spelling
        """Let two media units hear each other: a call and a `RealtimeAPIClient`, say.

        Raises:
            AudioError: one of them is closed.
            ParameterError: one of them is no media unit, or both are the same.
        """
        from voxnb.media.unit import send_media_between

        send_media_between(unit1, unit2)

    @staticmethod
    def terminate() -> None:
        """End the scenario: close every client that the factories of `OpenAI` made in this process.

        Running folds end first, partial replies are kept. The kernel goes on, and so do clients made by
        ``voxnb.chat()``. The scenario's code goes on after this line, as in VoxEngine; its clients refuse requests.
        """
        for client in list(_scenario):
            _scenario.discard(client)
            client.close()


class Logger(metaclass=_Namespace):
    """VoxEngine's session log: in a notebook, the output of the cell."""

    @staticmethod
    def write(text: Any, /) -> None:
        """Write one line: to the cell that runs, or in a listener to the cell that made the request.

        Args:
            text: anything; what is no text is shown as ``str()`` does. Never raises: a log line ends no scenario.
        """
        if sys.stdout is None:  # type: ignore[unreachable,unused-ignore]  # pythonw and some services have none
            return
        try:
            line = str(text)
        except Exception as error:  # noqa: BLE001 - whatever an object's own method raises
            line = f"<{type(text).__name__}, whose str() raised {type(error).__name__}>"
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        with contextlib.suppress(OSError, ValueError):  # a closed pipe
            # In one piece, so that lines of several threads stay whole.
            sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            sys.stdout.flush()


class WebSocketAudioEncoding(StrEnum):
    """How audio is written on a media socket; `PCM8` means 16-bit samples at 8 kHz."""

    PCM16_8KHZ = "PCM8"
    PCM8 = "PCM8"
    PCM16_16KHZ = "PCM16"
    PCM16 = "PCM16"
    ALAW = "ALAW"
    ULAW = "ULAW"
    OPUS = "OPUS"


class Modules(metaclass=_Namespace):
    """VoxEngine's modules: here there is one, and it is always loaded."""

    OpenAI = "openai"


def require(module: str, /) -> None:
    """VoxEngine's ``require(Modules.OpenAI)``: does nothing, since the module is loaded.

    Raises:
        ParameterError: another module.
    """
    if module == Modules.OpenAI:
        return
    raise ParameterError(
        f"there is no module {module!r} in voxnb{did_you_mean(str(module), ['OpenAI', 'openai'])}; "
        "there is Modules.OpenAI",
        name=str(module),
        nearest=nearest(str(module), ["OpenAI", "openai"]),
    )


def _is_import(frame: FrameType | None) -> bool:
    """Whether a frame is at ``from … import …``, which replaces the text of an `AttributeError` by its own."""
    return frame is not None and frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]


if not TYPE_CHECKING:  # as above

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no {name!r}")
        here = [known for known in __all__ if known != "METHODS"]
        if name in dir(OpenAI):
            text = f"it is OpenAI.{name}"
        else:
            close = did_you_mean(name, [*here, *ELSEWHERE, *_public(OpenAI)])
            text = ELSEWHERE.get(name) or f"there are {', '.join(here)}{close}"
        text = f"voxnb.voxengine has no {name!r}: {text}"
        frame = inspect.currentframe()
        if _is_import(frame.f_back if frame else None):
            raise ImportError(text, name=__name__)
        raise AttributeError(text)
