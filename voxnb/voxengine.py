"""VoxEngine's names for voxnb: ``OpenAI`` as a scenario writes it, over the same classes.

>>> from voxnb.voxengine import OpenAI
>>> OpenAI.ChatCompletionsAPIEvents.ContentDelta.value
'OpenAI.ChatCompletionsAPI.ContentDelta'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from voxnb import events
from voxnb.params import did_you_mean

if TYPE_CHECKING:
    from voxnb.clients.chat import ChatCompletionsAPIClient

METHODS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ChatCompletionsAPIClient": (
        ("id", "id"),
        ("webSocketId", "web_socket_id"),
        ("close", "close"),
        ("addEventListener", "add_event_listener"),
        ("removeEventListener", "remove_event_listener"),
        ("createChatCompletions", "create_chat_completions"),
    ),
}
"""Class → (VoxEngine's name, voxnb's name) of every method of the reference."""


class _Namespace(type):
    """Names that are looked up on the class; a wrong one says what is nearest."""

    def __getattr__(cls, name: str) -> Any:
        if name == "ChatCompletionsAPIClient":
            from voxnb.clients.chat import ChatCompletionsAPIClient

            return ChatCompletionsAPIClient
        known = [n for n in vars(cls) if not n.startswith("_")]
        raise AttributeError(f"OpenAI has no {name!r} here{did_you_mean(name, known)}; there are {', '.join(known)}")

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            "voxnb's OpenAI is VoxEngine's namespace, not a client: use voxnb.chat(…) or "
            "await OpenAI.createChatCompletionsAPIClient({…}); the SDK's client is 'from openai import OpenAI'"
        )


class Beta(metaclass=_Namespace):
    """`OpenAI.Beta`: constants of the interface that the service no longer accepts."""

    Events = events.BetaEvents
    RealtimeAPIEvents = events.BetaRealtimeAPIEvents


class OpenAI(metaclass=_Namespace):
    """VoxEngine's ``OpenAI`` module: factories and event namespaces."""

    Events = events.Events
    ChatCompletionsAPIEvents = events.ChatCompletionsAPIEvents
    ResponsesAPIEvents = events.ResponsesAPIEvents
    RealtimeAPIEvents = events.RealtimeAPIEvents
    Beta = Beta

    @staticmethod
    async def createChatCompletionsAPIClient(  # noqa: N802 - VoxEngine's spelling
        parameters: Mapping[str, Any] | None = None, /, **given: Any
    ) -> ChatCompletionsAPIClient:
        """A new `ChatCompletionsAPIClient`.

        Args:
            parameters: VoxEngine's parameter object (``apiKey``, ``storeContext``, ``baseUrl`` …).
            **given: the same as keywords, in either spelling.

        Raises:
            ParameterError: unknown or contradicting parameters.
            CredentialsError: no key, or one that may not go to that host.
        """
        from voxnb.clients.chat import ChatCompletionsAPIClient

        return ChatCompletionsAPIClient(parameters, **given)
