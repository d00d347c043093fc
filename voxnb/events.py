"""Every event constant with its wire type, as tables, and the `Event` value.

The string values are VoxEngine's: ``OpenAI.ChatCompletionsAPIEvents.ContentDelta``
is ``"OpenAI.ChatCompletionsAPI.ContentDelta"`` (the word ``Events`` falls away in
the value). Wire types are the provider's own names; an event without one is made
by the connector or by voxnb.

Source: VoxEngine typings, July 2026; OpenAI SDK event types.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import EnumType, StrEnum
from typing import TYPE_CHECKING, Any, Final


class _Named(EnumType):
    """Enumerations of which a wrong name is told the nearest."""

    if not TYPE_CHECKING:  # else every misspelt name would pass type checkers as Any

        def __getattr__(cls, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            names = [*cls.__members__]
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
            raise AttributeError(f"{cls.__name__} has no {name!r}{meant}")


class EventNamespace(StrEnum, metaclass=_Named):
    """Base of the namespaces; a constant is its string value."""

    @property
    def wire_type(self) -> str | None:
        """The provider's name of this event, or None where the connector makes it."""
        return WIRE_TYPES.get(type(self), {}).get(self)

    @classmethod
    def rows(cls) -> list[dict[str, str | None]]:
        """One dict per constant: ``constant``, ``value``, ``wire_type``."""
        return [{"constant": e.name, "value": e.value, "wire_type": e.wire_type} for e in cls]

    @classmethod
    def table(cls) -> Any:
        """The namespace as a DataFrame: ``constant``, ``value``, ``wire_type``."""
        from voxnb.runtime import config

        return config.load("event_table")(cls)


class Events(EventNamespace):
    """The media bridge of the realtime client (2)."""

    WebSocketMediaStarted = "OpenAI.Events.WebSocketMediaStarted"
    WebSocketMediaEnded = "OpenAI.Events.WebSocketMediaEnded"


class ChatCompletionsAPIEvents(EventNamespace):
    """Chat completions (15); the wire type is the name the OpenAI SDK's stream helper gives it."""

    Chunk = "OpenAI.ChatCompletionsAPI.Chunk"
    Content = "OpenAI.ChatCompletionsAPI.Content"
    ContentDelta = "OpenAI.ChatCompletionsAPI.ContentDelta"
    ContentDone = "OpenAI.ChatCompletionsAPI.ContentDone"
    RefusalDelta = "OpenAI.ChatCompletionsAPI.RefusalDelta"
    RefusalDone = "OpenAI.ChatCompletionsAPI.RefusalDone"
    FunctionToolCallArgumentsDelta = "OpenAI.ChatCompletionsAPI.FunctionToolCallArgumentsDelta"
    FunctionToolCallArgumentsDone = "OpenAI.ChatCompletionsAPI.FunctionToolCallArgumentsDone"
    LogProbsContentDelta = "OpenAI.ChatCompletionsAPI.LogProbsContentDelta"
    LogProbsContentDone = "OpenAI.ChatCompletionsAPI.LogProbsContentDone"
    LogProbsRefusalDelta = "OpenAI.ChatCompletionsAPI.LogProbsRefusalDelta"
    LogProbsRefusalDone = "OpenAI.ChatCompletionsAPI.LogProbsRefusalDone"
    ChatCompletionsAPIError = "OpenAI.ChatCompletionsAPI.ChatCompletionsAPIError"
    ConnectorInformation = "OpenAI.ChatCompletionsAPI.ConnectorInformation"
    Unknown = "OpenAI.ChatCompletionsAPI.Unknown"


class ResponsesAPIEvents(EventNamespace):
    """The Responses API (52)."""

    ResponseCodeInterpreterCallCodeDelta = "OpenAI.ResponsesAPI.ResponseCodeInterpreterCallCodeDelta"
    ResponseCodeInterpreterCallCodeDone = "OpenAI.ResponsesAPI.ResponseCodeInterpreterCallCodeDone"
    ResponseCodeInterpreterCallCompleted = "OpenAI.ResponsesAPI.ResponseCodeInterpreterCallCompleted"
    ResponseCodeInterpreterCallInProgress = "OpenAI.ResponsesAPI.ResponseCodeInterpreterCallInProgress"
    ResponseCodeInterpreterCallInterpreting = "OpenAI.ResponsesAPI.ResponseCodeInterpreterCallInterpreting"
    ResponseCompleted = "OpenAI.ResponsesAPI.ResponseCompleted"
    ResponseContentPartAdded = "OpenAI.ResponsesAPI.ResponseContentPartAdded"
    ResponseContentPartDone = "OpenAI.ResponsesAPI.ResponseContentPartDone"
    ResponseCreated = "OpenAI.ResponsesAPI.ResponseCreated"
    ResponseError = "OpenAI.ResponsesAPI.ResponseError"
    ResponseFileSearchCallCompleted = "OpenAI.ResponsesAPI.ResponseFileSearchCallCompleted"
    ResponseFileSearchCallInProgress = "OpenAI.ResponsesAPI.ResponseFileSearchCallInProgress"
    ResponseFileSearchCallSearching = "OpenAI.ResponsesAPI.ResponseFileSearchCallSearching"
    ResponseFunctionCallArgumentsDelta = "OpenAI.ResponsesAPI.ResponseFunctionCallArgumentsDelta"
    ResponseFunctionCallArgumentsDone = "OpenAI.ResponsesAPI.ResponseFunctionCallArgumentsDone"
    ResponseInProgress = "OpenAI.ResponsesAPI.ResponseInProgress"
    ResponseFailed = "OpenAI.ResponsesAPI.ResponseFailed"
    ResponseIncomplete = "OpenAI.ResponsesAPI.ResponseIncomplete"
    ResponseOutputItemAdded = "OpenAI.ResponsesAPI.ResponseOutputItemAdded"
    ResponseOutputItemDone = "OpenAI.ResponsesAPI.ResponseOutputItemDone"
    ResponseReasoningSummaryPartAdded = "OpenAI.ResponsesAPI.ResponseReasoningSummaryPartAdded"
    ResponseReasoningSummaryPartDone = "OpenAI.ResponsesAPI.ResponseReasoningSummaryPartDone"
    ResponseReasoningSummaryTextDelta = "OpenAI.ResponsesAPI.ResponseReasoningSummaryTextDelta"
    ResponseReasoningSummaryTextDone = "OpenAI.ResponsesAPI.ResponseReasoningSummaryTextDone"
    ResponseReasoningTextDelta = "OpenAI.ResponsesAPI.ResponseReasoningTextDelta"
    ResponseReasoningTextDone = "OpenAI.ResponsesAPI.ResponseReasoningTextDone"
    ResponseRefusalDelta = "OpenAI.ResponsesAPI.ResponseRefusalDelta"
    ResponseRefusalDone = "OpenAI.ResponsesAPI.ResponseRefusalDone"
    ResponseTextDelta = "OpenAI.ResponsesAPI.ResponseTextDelta"
    ResponseTextDone = "OpenAI.ResponsesAPI.ResponseTextDone"
    ResponseWebSearchCallCompleted = "OpenAI.ResponsesAPI.ResponseWebSearchCallCompleted"
    ResponseWebSearchCallInProgress = "OpenAI.ResponsesAPI.ResponseWebSearchCallInProgress"
    ResponseWebSearchCallSearching = "OpenAI.ResponsesAPI.ResponseWebSearchCallSearching"
    ResponseImageGenCallCompleted = "OpenAI.ResponsesAPI.ResponseImageGenCallCompleted"
    ResponseImageGenCallGenerating = "OpenAI.ResponsesAPI.ResponseImageGenCallGenerating"
    ResponseImageGenCallInProgress = "OpenAI.ResponsesAPI.ResponseImageGenCallInProgress"
    ResponseImageGenCallPartialImage = "OpenAI.ResponsesAPI.ResponseImageGenCallPartialImage"
    ResponseMCPCallArgumentsDelta = "OpenAI.ResponsesAPI.ResponseMCPCallArgumentsDelta"
    ResponseMCPCallArgumentsDone = "OpenAI.ResponsesAPI.ResponseMCPCallArgumentsDone"
    ResponseMCPCallCompleted = "OpenAI.ResponsesAPI.ResponseMCPCallCompleted"
    ResponseMCPCallFailed = "OpenAI.ResponsesAPI.ResponseMCPCallFailed"
    ResponseMCPCallInProgress = "OpenAI.ResponsesAPI.ResponseMCPCallInProgress"
    ResponseMCPListToolsCompleted = "OpenAI.ResponsesAPI.ResponseMCPListToolsCompleted"
    ResponseMCPListToolsFailed = "OpenAI.ResponsesAPI.ResponseMCPListToolsFailed"
    ResponseMCPListToolsInProgress = "OpenAI.ResponsesAPI.ResponseMCPListToolsInProgress"
    ResponseOutputTextAnnotationAdded = "OpenAI.ResponsesAPI.ResponseOutputTextAnnotationAdded"
    ResponseQueued = "OpenAI.ResponsesAPI.ResponseQueued"
    ResponseCustomToolCallInputDelta = "OpenAI.ResponsesAPI.ResponseCustomToolCallInputDelta"
    ResponseCustomToolCallInputDone = "OpenAI.ResponsesAPI.ResponseCustomToolCallInputDone"
    ResponsesAPIError = "OpenAI.ResponsesAPI.ResponsesAPIError"
    ConnectorInformation = "OpenAI.ResponsesAPI.ConnectorInformation"
    Unknown = "OpenAI.ResponsesAPI.Unknown"


class RealtimeAPIEvents(EventNamespace):
    """The Realtime API, GA (43)."""

    Error = "OpenAI.RealtimeAPI.Error"
    SessionCreated = "OpenAI.RealtimeAPI.SessionCreated"
    SessionUpdated = "OpenAI.RealtimeAPI.SessionUpdated"
    ConversationItemAdded = "OpenAI.RealtimeAPI.ConversationItemAdded"
    ConversationItemDone = "OpenAI.RealtimeAPI.ConversationItemDone"
    ConversationItemRetrieved = "OpenAI.RealtimeAPI.ConversationItemRetrieved"
    ConversationItemInputAudioTranscriptionCompleted = (
        "OpenAI.RealtimeAPI.ConversationItemInputAudioTranscriptionCompleted"
    )
    ConversationItemInputAudioTranscriptionDelta = "OpenAI.RealtimeAPI.ConversationItemInputAudioTranscriptionDelta"
    ConversationItemInputAudioTranscriptionSegment = "OpenAI.RealtimeAPI.ConversationItemInputAudioTranscriptionSegment"
    ConversationItemInputAudioTranscriptionFailed = "OpenAI.RealtimeAPI.ConversationItemInputAudioTranscriptionFailed"
    ConversationItemTruncated = "OpenAI.RealtimeAPI.ConversationItemTruncated"
    ConversationItemDeleted = "OpenAI.RealtimeAPI.ConversationItemDeleted"
    InputAudioBufferCommitted = "OpenAI.RealtimeAPI.InputAudioBufferCommitted"
    InputAudioBufferCleared = "OpenAI.RealtimeAPI.InputAudioBufferCleared"
    InputAudioBufferSpeechStarted = "OpenAI.RealtimeAPI.InputAudioBufferSpeechStarted"
    InputAudioBufferSpeechStopped = "OpenAI.RealtimeAPI.InputAudioBufferSpeechStopped"
    InputAudioBufferTimeoutTriggered = "OpenAI.RealtimeAPI.InputAudioBufferTimeoutTriggered"
    ResponseCreated = "OpenAI.RealtimeAPI.ResponseCreated"
    ResponseDone = "OpenAI.RealtimeAPI.ResponseDone"
    ResponseOutputItemAdded = "OpenAI.RealtimeAPI.ResponseOutputItemAdded"
    ResponseOutputItemDone = "OpenAI.RealtimeAPI.ResponseOutputItemDone"
    ResponseContentPartAdded = "OpenAI.RealtimeAPI.ResponseContentPartAdded"
    ResponseContentPartDone = "OpenAI.RealtimeAPI.ResponseContentPartDone"
    ResponseOutputTextDelta = "OpenAI.RealtimeAPI.ResponseOutputTextDelta"
    ResponseOutputTextDone = "OpenAI.RealtimeAPI.ResponseOutputTextDone"
    ResponseOutputAudioTranscriptDelta = "OpenAI.RealtimeAPI.ResponseOutputAudioTranscriptDelta"
    ResponseOutputAudioTranscriptDone = "OpenAI.RealtimeAPI.ResponseOutputAudioTranscriptDone"
    ResponseOutputAudioDone = "OpenAI.RealtimeAPI.ResponseOutputAudioDone"
    ResponseFunctionCallArgumentsDelta = "OpenAI.RealtimeAPI.ResponseFunctionCallArgumentsDelta"
    ResponseFunctionCallArgumentsDone = "OpenAI.RealtimeAPI.ResponseFunctionCallArgumentsDone"
    ResponseMCPCallArgumentsDelta = "OpenAI.RealtimeAPI.ResponseMCPCallArgumentsDelta"
    ResponseMCPCallArgumentsDone = "OpenAI.RealtimeAPI.ResponseMCPCallArgumentsDone"
    ResponseMCPCallInProgress = "OpenAI.RealtimeAPI.ResponseMCPCallInProgress"
    ResponseMCPCallCompleted = "OpenAI.RealtimeAPI.ResponseMCPCallCompleted"
    ResponseMCPCallFailed = "OpenAI.RealtimeAPI.ResponseMCPCallFailed"
    MCPListToolsInProgress = "OpenAI.RealtimeAPI.MCPListToolsInProgress"
    MCPListToolsCompleted = "OpenAI.RealtimeAPI.MCPListToolsCompleted"
    MCPListToolsFailed = "OpenAI.RealtimeAPI.MCPListToolsFailed"
    RateLimitsUpdated = "OpenAI.RealtimeAPI.RateLimitsUpdated"
    HTTPResponse = "OpenAI.RealtimeAPI.HTTPResponse"
    WebSocketError = "OpenAI.RealtimeAPI.WebSocketError"
    ConnectorInformation = "OpenAI.RealtimeAPI.ConnectorInformation"
    Unknown = "OpenAI.RealtimeAPI.Unknown"


class BetaEvents(EventNamespace):
    """`OpenAI.Beta.Events`: the media bridge of the beta client (2)."""

    WebSocketMediaStarted = "OpenAI.Beta.Events.WebSocketMediaStarted"
    WebSocketMediaEnded = "OpenAI.Beta.Events.WebSocketMediaEnded"


class BetaRealtimeAPIEvents(EventNamespace):
    """`OpenAI.Beta.RealtimeAPIEvents`: the Realtime API, beta shape (30)."""

    Error = "OpenAI.Beta.RealtimeAPI.Error"
    SessionCreated = "OpenAI.Beta.RealtimeAPI.SessionCreated"
    SessionUpdated = "OpenAI.Beta.RealtimeAPI.SessionUpdated"
    ConversationCreated = "OpenAI.Beta.RealtimeAPI.ConversationCreated"
    ConversationItemCreated = "OpenAI.Beta.RealtimeAPI.ConversationItemCreated"
    ConversationItemRetrieved = "OpenAI.Beta.RealtimeAPI.ConversationItemRetrieved"
    ConversationItemInputAudioTranscriptionCompleted = (
        "OpenAI.Beta.RealtimeAPI.ConversationItemInputAudioTranscriptionCompleted"
    )
    ConversationItemInputAudioTranscriptionDelta = (
        "OpenAI.Beta.RealtimeAPI.ConversationItemInputAudioTranscriptionDelta"
    )
    ConversationItemInputAudioTranscriptionFailed = (
        "OpenAI.Beta.RealtimeAPI.ConversationItemInputAudioTranscriptionFailed"
    )
    ConversationItemTruncated = "OpenAI.Beta.RealtimeAPI.ConversationItemTruncated"
    ConversationItemDeleted = "OpenAI.Beta.RealtimeAPI.ConversationItemDeleted"
    InputAudioBufferCommitted = "OpenAI.Beta.RealtimeAPI.InputAudioBufferCommitted"
    InputAudioBufferCleared = "OpenAI.Beta.RealtimeAPI.InputAudioBufferCleared"
    InputAudioBufferSpeechStarted = "OpenAI.Beta.RealtimeAPI.InputAudioBufferSpeechStarted"
    InputAudioBufferSpeechStopped = "OpenAI.Beta.RealtimeAPI.InputAudioBufferSpeechStopped"
    ResponseCreated = "OpenAI.Beta.RealtimeAPI.ResponseCreated"
    ResponseDone = "OpenAI.Beta.RealtimeAPI.ResponseDone"
    ResponseOutputItemAdded = "OpenAI.Beta.RealtimeAPI.ResponseOutputItemAdded"
    ResponseOutputItemDone = "OpenAI.Beta.RealtimeAPI.ResponseOutputItemDone"
    ResponseContentPartAdded = "OpenAI.Beta.RealtimeAPI.ResponseContentPartAdded"
    ResponseContentPartDone = "OpenAI.Beta.RealtimeAPI.ResponseContentPartDone"
    ResponseTextDelta = "OpenAI.Beta.RealtimeAPI.ResponseTextDelta"
    ResponseTextDone = "OpenAI.Beta.RealtimeAPI.ResponseTextDone"
    ResponseAudioTranscriptDelta = "OpenAI.Beta.RealtimeAPI.ResponseAudioTranscriptDelta"
    ResponseAudioTranscriptDone = "OpenAI.Beta.RealtimeAPI.ResponseAudioTranscriptDone"
    ResponseAudioDone = "OpenAI.Beta.RealtimeAPI.ResponseAudioDone"
    ResponseFunctionCallArgumentsDelta = "OpenAI.Beta.RealtimeAPI.ResponseFunctionCallArgumentsDelta"
    ResponseFunctionCallArgumentsDone = "OpenAI.Beta.RealtimeAPI.ResponseFunctionCallArgumentsDone"
    RateLimitsUpdated = "OpenAI.Beta.RealtimeAPI.RateLimitsUpdated"
    Unknown = "OpenAI.Beta.RealtimeAPI.Unknown"


class WebSocketEvents(EventNamespace):
    """VoxEngine's events of a socket; a text client raises `Created`, `Open` and `Close` of its own life."""

    Created = "WebSocket.Created"
    Open = "WebSocket.Open"
    Message = "WebSocket.Message"
    Close = "WebSocket.Close"
    Error = "WebSocket.Error"
    MediaStarted = "WebSocket.MediaEventStarted"
    MediaEnded = "WebSocket.MediaEventEnded"


class ContextEvents(EventNamespace):
    """The memory's own events: what was planned, folded, refused, or cut by the server."""

    ContextPlanned = "voxnb.Context.ContextPlanned"
    SummaryStarted = "voxnb.Context.SummaryStarted"
    SummaryFolded = "voxnb.Context.SummaryFolded"
    SummaryFailed = "voxnb.Context.SummaryFailed"
    PromptCut = "voxnb.Context.PromptCut"


class SessionEvents(EventNamespace):
    """A realtime session's own events: interruptions, and what becomes of a session that is lost or replaced."""

    Interrupted = "voxnb.Session.Interrupted"
    SessionLost = "voxnb.Session.SessionLost"
    SessionRestored = "voxnb.Session.SessionRestored"
    SessionReplaced = "voxnb.Session.SessionReplaced"


WIRE_TYPES: Final[Mapping[type[EventNamespace], Mapping[EventNamespace, str]]] = {
    ChatCompletionsAPIEvents: {
        ChatCompletionsAPIEvents.Chunk: "chunk",
        ChatCompletionsAPIEvents.Content: "content",
        ChatCompletionsAPIEvents.ContentDelta: "content.delta",
        ChatCompletionsAPIEvents.ContentDone: "content.done",
        ChatCompletionsAPIEvents.RefusalDelta: "refusal.delta",
        ChatCompletionsAPIEvents.RefusalDone: "refusal.done",
        ChatCompletionsAPIEvents.FunctionToolCallArgumentsDelta: "tool_calls.function.arguments.delta",
        ChatCompletionsAPIEvents.FunctionToolCallArgumentsDone: "tool_calls.function.arguments.done",
        ChatCompletionsAPIEvents.LogProbsContentDelta: "logprobs.content.delta",
        ChatCompletionsAPIEvents.LogProbsContentDone: "logprobs.content.done",
        ChatCompletionsAPIEvents.LogProbsRefusalDelta: "logprobs.refusal.delta",
        ChatCompletionsAPIEvents.LogProbsRefusalDone: "logprobs.refusal.done",
    },
    ResponsesAPIEvents: {
        ResponsesAPIEvents.ResponseCodeInterpreterCallCodeDelta: "response.code_interpreter_call_code.delta",
        ResponsesAPIEvents.ResponseCodeInterpreterCallCodeDone: "response.code_interpreter_call_code.done",
        ResponsesAPIEvents.ResponseCodeInterpreterCallCompleted: "response.code_interpreter_call.completed",
        ResponsesAPIEvents.ResponseCodeInterpreterCallInProgress: "response.code_interpreter_call.in_progress",
        ResponsesAPIEvents.ResponseCodeInterpreterCallInterpreting: "response.code_interpreter_call.interpreting",
        ResponsesAPIEvents.ResponseCompleted: "response.completed",
        ResponsesAPIEvents.ResponseContentPartAdded: "response.content_part.added",
        ResponsesAPIEvents.ResponseContentPartDone: "response.content_part.done",
        ResponsesAPIEvents.ResponseCreated: "response.created",
        ResponsesAPIEvents.ResponseError: "error",
        ResponsesAPIEvents.ResponseFileSearchCallCompleted: "response.file_search_call.completed",
        ResponsesAPIEvents.ResponseFileSearchCallInProgress: "response.file_search_call.in_progress",
        ResponsesAPIEvents.ResponseFileSearchCallSearching: "response.file_search_call.searching",
        ResponsesAPIEvents.ResponseFunctionCallArgumentsDelta: "response.function_call_arguments.delta",
        ResponsesAPIEvents.ResponseFunctionCallArgumentsDone: "response.function_call_arguments.done",
        ResponsesAPIEvents.ResponseInProgress: "response.in_progress",
        ResponsesAPIEvents.ResponseFailed: "response.failed",
        ResponsesAPIEvents.ResponseIncomplete: "response.incomplete",
        ResponsesAPIEvents.ResponseOutputItemAdded: "response.output_item.added",
        ResponsesAPIEvents.ResponseOutputItemDone: "response.output_item.done",
        ResponsesAPIEvents.ResponseReasoningSummaryPartAdded: "response.reasoning_summary_part.added",
        ResponsesAPIEvents.ResponseReasoningSummaryPartDone: "response.reasoning_summary_part.done",
        ResponsesAPIEvents.ResponseReasoningSummaryTextDelta: "response.reasoning_summary_text.delta",
        ResponsesAPIEvents.ResponseReasoningSummaryTextDone: "response.reasoning_summary_text.done",
        ResponsesAPIEvents.ResponseReasoningTextDelta: "response.reasoning_text.delta",
        ResponsesAPIEvents.ResponseReasoningTextDone: "response.reasoning_text.done",
        ResponsesAPIEvents.ResponseRefusalDelta: "response.refusal.delta",
        ResponsesAPIEvents.ResponseRefusalDone: "response.refusal.done",
        ResponsesAPIEvents.ResponseTextDelta: "response.output_text.delta",
        ResponsesAPIEvents.ResponseTextDone: "response.output_text.done",
        ResponsesAPIEvents.ResponseWebSearchCallCompleted: "response.web_search_call.completed",
        ResponsesAPIEvents.ResponseWebSearchCallInProgress: "response.web_search_call.in_progress",
        ResponsesAPIEvents.ResponseWebSearchCallSearching: "response.web_search_call.searching",
        ResponsesAPIEvents.ResponseImageGenCallCompleted: "response.image_generation_call.completed",
        ResponsesAPIEvents.ResponseImageGenCallGenerating: "response.image_generation_call.generating",
        ResponsesAPIEvents.ResponseImageGenCallInProgress: "response.image_generation_call.in_progress",
        ResponsesAPIEvents.ResponseImageGenCallPartialImage: "response.image_generation_call.partial_image",
        ResponsesAPIEvents.ResponseMCPCallArgumentsDelta: "response.mcp_call_arguments.delta",
        ResponsesAPIEvents.ResponseMCPCallArgumentsDone: "response.mcp_call_arguments.done",
        ResponsesAPIEvents.ResponseMCPCallCompleted: "response.mcp_call.completed",
        ResponsesAPIEvents.ResponseMCPCallFailed: "response.mcp_call.failed",
        ResponsesAPIEvents.ResponseMCPCallInProgress: "response.mcp_call.in_progress",
        ResponsesAPIEvents.ResponseMCPListToolsCompleted: "response.mcp_list_tools.completed",
        ResponsesAPIEvents.ResponseMCPListToolsFailed: "response.mcp_list_tools.failed",
        ResponsesAPIEvents.ResponseMCPListToolsInProgress: "response.mcp_list_tools.in_progress",
        ResponsesAPIEvents.ResponseOutputTextAnnotationAdded: "response.output_text.annotation.added",
        ResponsesAPIEvents.ResponseQueued: "response.queued",
        ResponsesAPIEvents.ResponseCustomToolCallInputDelta: "response.custom_tool_call_input.delta",
        ResponsesAPIEvents.ResponseCustomToolCallInputDone: "response.custom_tool_call_input.done",
    },
    RealtimeAPIEvents: {
        RealtimeAPIEvents.Error: "error",
        RealtimeAPIEvents.SessionCreated: "session.created",
        RealtimeAPIEvents.SessionUpdated: "session.updated",
        RealtimeAPIEvents.ConversationItemAdded: "conversation.item.added",
        RealtimeAPIEvents.ConversationItemDone: "conversation.item.done",
        RealtimeAPIEvents.ConversationItemRetrieved: "conversation.item.retrieved",
        RealtimeAPIEvents.ConversationItemInputAudioTranscriptionCompleted: "conversation.item.input_audio_transcription.completed",
        RealtimeAPIEvents.ConversationItemInputAudioTranscriptionDelta: "conversation.item.input_audio_transcription.delta",
        RealtimeAPIEvents.ConversationItemInputAudioTranscriptionSegment: "conversation.item.input_audio_transcription.segment",
        RealtimeAPIEvents.ConversationItemInputAudioTranscriptionFailed: "conversation.item.input_audio_transcription.failed",
        RealtimeAPIEvents.ConversationItemTruncated: "conversation.item.truncated",
        RealtimeAPIEvents.ConversationItemDeleted: "conversation.item.deleted",
        RealtimeAPIEvents.InputAudioBufferCommitted: "input_audio_buffer.committed",
        RealtimeAPIEvents.InputAudioBufferCleared: "input_audio_buffer.cleared",
        RealtimeAPIEvents.InputAudioBufferSpeechStarted: "input_audio_buffer.speech_started",
        RealtimeAPIEvents.InputAudioBufferSpeechStopped: "input_audio_buffer.speech_stopped",
        RealtimeAPIEvents.InputAudioBufferTimeoutTriggered: "input_audio_buffer.timeout_triggered",
        RealtimeAPIEvents.ResponseCreated: "response.created",
        RealtimeAPIEvents.ResponseDone: "response.done",
        RealtimeAPIEvents.ResponseOutputItemAdded: "response.output_item.added",
        RealtimeAPIEvents.ResponseOutputItemDone: "response.output_item.done",
        RealtimeAPIEvents.ResponseContentPartAdded: "response.content_part.added",
        RealtimeAPIEvents.ResponseContentPartDone: "response.content_part.done",
        RealtimeAPIEvents.ResponseOutputTextDelta: "response.output_text.delta",
        RealtimeAPIEvents.ResponseOutputTextDone: "response.output_text.done",
        RealtimeAPIEvents.ResponseOutputAudioTranscriptDelta: "response.output_audio_transcript.delta",
        RealtimeAPIEvents.ResponseOutputAudioTranscriptDone: "response.output_audio_transcript.done",
        RealtimeAPIEvents.ResponseOutputAudioDone: "response.output_audio.done",
        RealtimeAPIEvents.ResponseFunctionCallArgumentsDelta: "response.function_call_arguments.delta",
        RealtimeAPIEvents.ResponseFunctionCallArgumentsDone: "response.function_call_arguments.done",
        RealtimeAPIEvents.ResponseMCPCallArgumentsDelta: "response.mcp_call_arguments.delta",
        RealtimeAPIEvents.ResponseMCPCallArgumentsDone: "response.mcp_call_arguments.done",
        RealtimeAPIEvents.ResponseMCPCallInProgress: "response.mcp_call.in_progress",
        RealtimeAPIEvents.ResponseMCPCallCompleted: "response.mcp_call.completed",
        RealtimeAPIEvents.ResponseMCPCallFailed: "response.mcp_call.failed",
        RealtimeAPIEvents.MCPListToolsInProgress: "mcp_list_tools.in_progress",
        RealtimeAPIEvents.MCPListToolsCompleted: "mcp_list_tools.completed",
        RealtimeAPIEvents.MCPListToolsFailed: "mcp_list_tools.failed",
        RealtimeAPIEvents.RateLimitsUpdated: "rate_limits.updated",
    },
    BetaRealtimeAPIEvents: {
        BetaRealtimeAPIEvents.Error: "error",
        BetaRealtimeAPIEvents.SessionCreated: "session.created",
        BetaRealtimeAPIEvents.SessionUpdated: "session.updated",
        BetaRealtimeAPIEvents.ConversationCreated: "conversation.created",
        BetaRealtimeAPIEvents.ConversationItemCreated: "conversation.item.created",
        BetaRealtimeAPIEvents.ConversationItemRetrieved: "conversation.item.retrieved",
        BetaRealtimeAPIEvents.ConversationItemInputAudioTranscriptionCompleted: "conversation.item.input_audio_transcription.completed",
        BetaRealtimeAPIEvents.ConversationItemInputAudioTranscriptionDelta: "conversation.item.input_audio_transcription.delta",
        BetaRealtimeAPIEvents.ConversationItemInputAudioTranscriptionFailed: "conversation.item.input_audio_transcription.failed",
        BetaRealtimeAPIEvents.ConversationItemTruncated: "conversation.item.truncated",
        BetaRealtimeAPIEvents.ConversationItemDeleted: "conversation.item.deleted",
        BetaRealtimeAPIEvents.InputAudioBufferCommitted: "input_audio_buffer.committed",
        BetaRealtimeAPIEvents.InputAudioBufferCleared: "input_audio_buffer.cleared",
        BetaRealtimeAPIEvents.InputAudioBufferSpeechStarted: "input_audio_buffer.speech_started",
        BetaRealtimeAPIEvents.InputAudioBufferSpeechStopped: "input_audio_buffer.speech_stopped",
        BetaRealtimeAPIEvents.ResponseCreated: "response.created",
        BetaRealtimeAPIEvents.ResponseDone: "response.done",
        BetaRealtimeAPIEvents.ResponseOutputItemAdded: "response.output_item.added",
        BetaRealtimeAPIEvents.ResponseOutputItemDone: "response.output_item.done",
        BetaRealtimeAPIEvents.ResponseContentPartAdded: "response.content_part.added",
        BetaRealtimeAPIEvents.ResponseContentPartDone: "response.content_part.done",
        BetaRealtimeAPIEvents.ResponseTextDelta: "response.text.delta",
        BetaRealtimeAPIEvents.ResponseTextDone: "response.text.done",
        BetaRealtimeAPIEvents.ResponseAudioTranscriptDelta: "response.audio_transcript.delta",
        BetaRealtimeAPIEvents.ResponseAudioTranscriptDone: "response.audio_transcript.done",
        BetaRealtimeAPIEvents.ResponseAudioDone: "response.audio.done",
        BetaRealtimeAPIEvents.ResponseFunctionCallArgumentsDelta: "response.function_call_arguments.delta",
        BetaRealtimeAPIEvents.ResponseFunctionCallArgumentsDone: "response.function_call_arguments.done",
        BetaRealtimeAPIEvents.RateLimitsUpdated: "rate_limits.updated",
    },
}

NAMESPACES: Final[Mapping[str, type[EventNamespace]]] = {
    "OpenAI.Events": Events,
    "OpenAI.ChatCompletionsAPIEvents": ChatCompletionsAPIEvents,
    "OpenAI.ResponsesAPIEvents": ResponsesAPIEvents,
    "OpenAI.RealtimeAPIEvents": RealtimeAPIEvents,
    "OpenAI.Beta.Events": BetaEvents,
    "OpenAI.Beta.RealtimeAPIEvents": BetaRealtimeAPIEvents,
    "voxnb.ContextEvents": ContextEvents,
    "voxnb.SessionEvents": SessionEvents,
}
"""Every namespace under the name users write."""


class Payload(dict[str, Any]):
    """A JSON object whose keys are also attributes.

    >>> p = Payload({"delta": "Hi", "item": {"id": "x"}})
    >>> p.delta, p.item.id
    ('Hi', 'x')
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"the payload has no {name!r}; it has {', '.join(self) or 'no keys'}") from None
        if type(value) is dict:
            return Payload(value)
        if type(value) is list:
            return [Payload(v) if type(v) is dict else v for v in value]
        return value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(k for k in self if k.isidentifier())]


@dataclass(frozen=True, slots=True)
class EventData:
    """What VoxEngine puts into ``event.data``: the constant's bare name and the payload."""

    customEvent: str  # noqa: N815 - VoxEngine's spelling
    payload: Payload


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One event, as listeners get it.

    Attributes:
        name: the constant's string value.
        id: `client.id()` of the client it happened on.
        client: that client.
        data: `EventData`; ``event.payload`` is short for ``event.data.payload``.
        late: True where a sticky event is handed to a listener that came later.
        turn: the `Turn` the event belongs to, or None.
    """

    name: str
    id: str
    client: Any
    data: EventData
    late: bool = False
    turn: Any = None

    @property
    def payload(self) -> Payload:
        """Short for ``event.data.payload``."""
        return self.data.payload

    def __repr__(self) -> str:
        text = repr(dict(self.payload))
        return f"<Event {self.name} {text if len(text) <= 120 else text[:117] + '...'}>"
