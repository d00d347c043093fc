"""VoxEngine's names as data: its classes, methods and parameters beside voxnb's, and what became of the Beta interface.

Source: VoxEngine reference and typings, July 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple


class Method(NamedTuple):
    """A method of a VoxEngine class.

    Attributes:
        voxengine: its name there.
        parameters: as documented; ``?`` marks those that may be left out.
        voxnb: its name here.
    """

    voxengine: str
    parameters: str
    voxnb: str


class Parameter(NamedTuple):
    """A parameter of a VoxEngine factory.

    Attributes:
        voxengine: its name there.
        default: the documented default as text; ``required``, or ``none`` where none is stated.
    """

    voxengine: str
    default: str


_SHARED: Final = (
    Method("id", "", "id"),
    Method("webSocketId", "", "web_socket_id"),
    Method("close", "", "close"),
    Method("addEventListener", "event, callback", "add_event_listener"),
    Method("removeEventListener", "event, callback?", "remove_event_listener"),
)
_MEDIA: Final = (
    Method("sendMediaTo", "mediaUnit, parameters?", "send_media_to"),
    Method("stopMediaTo", "mediaUnit", "stop_media_to"),
    Method("clearMediaBuffer", "parameters?", "clear_media_buffer"),
)

METHODS: Final[Mapping[str, tuple[Method, ...]]] = {
    "ChatCompletionsAPIClient": (
        *_SHARED,
        Method("createChatCompletions", "parameters", "create_chat_completions"),
    ),
    "ResponsesAPIClient": (
        *_SHARED,
        Method("createResponses", "parameters", "create_responses"),
    ),
    "RealtimeAPIClient": (
        *_SHARED,
        Method("sessionUpdate", "parameters", "session_update"),
        Method("inputAudioBufferClear", "parameters?", "input_audio_buffer_clear"),
        Method("inputAudioBufferCommit", "parameters?", "input_audio_buffer_commit"),
        Method("conversationItemCreate", "parameters", "conversation_item_create"),
        Method("conversationItemRetrieve", "parameters", "conversation_item_retrieve"),
        Method("conversationItemTruncate", "parameters", "conversation_item_truncate"),
        Method("conversationItemDelete", "parameters", "conversation_item_delete"),
        Method("responseCreate", "parameters?", "response_create"),
        Method("responseCancel", "parameters?", "response_cancel"),
        *_MEDIA,
    ),
}
"""Class → every method of the reference. The classes have one alias line for each."""

_SOCKET: Final = (
    Parameter("statistics", "False"),
    Parameter("trace", "False"),
    Parameter("privacy", "False"),
    Parameter("onWebSocketClose", "none"),
)

PARAMETERS: Final[Mapping[str, tuple[Parameter, ...]]] = {
    "ChatCompletionsAPIClient": (
        Parameter("apiKey", "required"),
        Parameter("storeContext", "False"),
        Parameter("baseUrl", "none"),
        Parameter("project", "none"),
        Parameter("summaryModel", "gpt-4o"),
        Parameter("summaryPrompt", "documented text"),
        *_SOCKET,
    ),
    "ResponsesAPIClient": (
        Parameter("apiKey", "required"),
        Parameter("storeContext", "False"),
        Parameter("baseUrl", "none"),
        Parameter("project", "none"),
        *_SOCKET,
    ),
    "RealtimeAPIClient": (
        Parameter("apiKey", "required"),
        Parameter("model", "gpt-realtime"),
        Parameter("type", "REALTIME"),
        Parameter("baseUrl", "https://api.openai.com/"),
        *_SOCKET,
    ),
}
"""Class → every parameter of the factory that makes it."""


class Rename(NamedTuple):
    """What a name of `OpenAI.Beta` is called now; an empty ``now`` means that it is gone."""

    beta: str
    now: str


BETA_RENAMES: Final[tuple[Rename, ...]] = (
    Rename("OpenAI.Beta.createRealtimeAPIClient", "OpenAI.createRealtimeAPIClient"),
    Rename("OpenAI.Beta.RealtimeAPIClient", "OpenAI.RealtimeAPIClient"),
    Rename("OpenAI.Beta.Events", "OpenAI.Events"),
    Rename("OpenAI.Beta.RealtimeAPIEvents", "OpenAI.RealtimeAPIEvents"),
    Rename("model gpt-4o-realtime-preview-2024-10-01", "model gpt-realtime"),
    Rename("RealtimeAPIEvents.ConversationCreated", ""),
    Rename(
        "RealtimeAPIEvents.ConversationItemCreated", "RealtimeAPIEvents.ConversationItemAdded, .ConversationItemDone"
    ),
    Rename("RealtimeAPIEvents.ResponseTextDelta", "RealtimeAPIEvents.ResponseOutputTextDelta"),
    Rename("RealtimeAPIEvents.ResponseTextDone", "RealtimeAPIEvents.ResponseOutputTextDone"),
    Rename("RealtimeAPIEvents.ResponseAudioTranscriptDelta", "RealtimeAPIEvents.ResponseOutputAudioTranscriptDelta"),
    Rename("RealtimeAPIEvents.ResponseAudioTranscriptDone", "RealtimeAPIEvents.ResponseOutputAudioTranscriptDone"),
    Rename("RealtimeAPIEvents.ResponseAudioDone", "RealtimeAPIEvents.ResponseOutputAudioDone"),
    Rename("sessionUpdate(session, eventId)", "sessionUpdate({session, event_id})"),
    Rename(
        "conversationItemCreate(previousItemId, item, eventId)",
        "conversationItemCreate({previous_item_id, item, event_id})",
    ),
    Rename("conversationItemRetrieve(itemId, eventId)", "conversationItemRetrieve({item_id, event_id})"),
    Rename(
        "conversationItemTruncate(itemId, contentIndex, audioEndMs, eventId)",
        "conversationItemTruncate({item_id, content_index, audio_end_ms, event_id})",
    ),
    Rename("conversationItemDelete(itemId, eventId)", "conversationItemDelete({item_id, event_id})"),
    Rename("responseCreate(response, eventId)", "responseCreate({response, event_id})"),
    Rename("responseCancel(eventId)", "responseCancel({response_id, event_id})"),
    Rename("session.modalities", "session.output_modalities"),
    Rename("session.input_audio_transcription", "session.audio.input.transcription"),
    Rename("session.turn_detection", "session.audio.input.turn_detection"),
)
"""Every name of the Beta interface that changed; the rest is called the same in `OpenAI`."""

ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("AppEvents", "CallEvents", "Call", "CallList", "PhoneNumber", "Conference", "Player"),
        "voxnb has no telephone calls; a dialogue begins with client.createChatCompletions(…) or voxnb.chat().ask(…)",
    ),
    **dict.fromkeys(
        ("ASR", "ASREvents", "VoiceList", "Silero", "Pipecat", "RecorderParameters"),
        "voxnb has no speech recognition or synthesis of its own in this version",
    ),
    **dict.fromkeys(
        ("Gemini", "Ultravox", "ElevenLabs", "Grok", "xAI", "Deepgram", "Cartesia"),
        "voxnb has the OpenAI module alone; a provider with an OpenAI-style address is reached by baseUrl",
    ),
    "ApplicationStorage": "the store is voxnb.ContextStore()",
    "Net": "use Python's own HTTP clients",
    "JSON": "use Python's json",
    "WebSocketEvents": "the events of a client's own life are voxnb.events.WebSocketEvents",
    "WebSocketCloseCode": "the code is in the payload of voxnb.events.WebSocketEvents.Close",
    "setTimeout": "use 'await asyncio.sleep(s)' in an async listener, or threading.Timer",
    "setInterval": "use 'await asyncio.sleep(s)' in an async listener",
    "Context": "the memory is voxnb.chat(…).conversation",
}
"""Globals of a scenario that are not here → what there is in their place."""


def columns(rows: Iterable[tuple[str, str]], *, indent: str = "  ") -> str:
    """Two columns of text, one row a line.

    >>> print(columns([("old", "new"), ("older", "")]))
      old    → new
      older  → (gone)
    """
    pairs = list(rows)
    width = max(len(left) for left, _ in pairs)
    return "\n".join(f"{indent}{left:<{width}}  → {right or '(gone)'}" for left, right in pairs)
