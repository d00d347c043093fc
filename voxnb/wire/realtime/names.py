"""The Realtime API's event types, and what the beta's are called now.

Source: OpenAI API reference, Realtime client and server events (GA); OpenAI SDK event types; the beta's migration guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "session.update": ("session",),
    "input_audio_buffer.append": ("audio",),
    "input_audio_buffer.commit": (),
    "input_audio_buffer.clear": (),
    "output_audio_buffer.clear": (),
    "conversation.item.create": ("item",),
    "conversation.item.retrieve": ("item_id",),
    "conversation.item.truncate": ("item_id", "content_index", "audio_end_ms"),
    "conversation.item.delete": ("item_id",),
    "response.create": (),
    "response.cancel": (),
}
"""Client event → the fields that it must have."""

SERVER_EVENTS: Final[frozenset[str]] = frozenset(
    {
        "error",
        "session.created",
        "session.updated",
        "conversation.created",
        "input_audio_buffer.committed",
        "input_audio_buffer.cleared",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.dtmf_event_received",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "conversation.item.deleted",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.input_audio_transcription.failed",
        "response.created",
        "response.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "output_audio_buffer.cleared",
        "rate_limits.updated",
    }
)
"""Every server event of the GA interface; ``conversation.created`` is the beta's and still comes."""

BETA_TYPES: Final[Mapping[str, str]] = {
    "transcription_session.created": "session.created",
    "transcription_session.updated": "session.updated",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}
"""The beta's type → today's. ``conversation.item.created`` became two: ``added`` and ``done``."""

_BETA_FORMATS: Final[Mapping[str, Mapping[str, Any]]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_INPUT: Final[Mapping[str, str]] = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_OUTPUT: Final = ("voice", "speed")


def events_of(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A server event under today's names: mostly the one, of the beta's ``conversation.item.created`` two.

    Args:
        event: a server event, GA or beta, with a ``type``.

    >>> events_of({"type": "response.audio.done", "item_id": "i"})
    [{'type': 'response.output_audio.done', 'item_id': 'i'}]
    >>> [e["type"] for e in events_of({"type": "conversation.item.created", "item": {"id": "i", "status": "completed"}})]
    ['conversation.item.added', 'conversation.item.done']
    """
    said = dict(event)
    kind = said["type"]
    said["type"] = BETA_TYPES.get(kind, kind)
    if isinstance(said.get("item"), Mapping):
        said["item"] = _item(said["item"])
    if said["type"] in ("session.created", "session.updated") and isinstance(said.get("session"), Mapping):
        said["session"] = session_of(said["session"])
    if kind != "conversation.item.created":
        return [said]
    said["type"] = "conversation.item.added"
    item = said.get("item")
    if not isinstance(item, Mapping) or item.get("status") == "in_progress":
        return [said]
    return [said, {**said, "type": "conversation.item.done"}]


def session_of(session: Mapping[str, Any]) -> dict[str, Any]:
    """A session's settings with the beta's flat fields where they belong now; what is nested already stays.

    >>> session_of({"modalities": ["text"], "voice": "ash", "input_audio_format": "g711_ulaw", "turn_detection": None})
    {'output_modalities': ['text'], 'audio': {'input': {'turn_detection': None, 'format': {'type': 'audio/pcmu'}}, 'output': {'voice': 'ash'}}}
    """
    said = dict(session)
    sides: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
    for old, new in _INPUT.items():
        if old in said:
            sides["input"][new] = said.pop(old)
    for name in _OUTPUT:
        if name in said:
            sides["output"][name] = said.pop(name)
    for side, moved in sides.items():
        if f"{side}_audio_format" in said:
            named = said.pop(f"{side}_audio_format")
            known = _BETA_FORMATS.get(named) if isinstance(named, str) else None
            moved["format"] = named if known is None else dict(known)
    if "modalities" in said:
        # The beta's ["audio", "text"] is speech with its transcript, which today is "audio" alone.
        asked = said.pop("modalities")
        spoken = isinstance(asked, list | tuple) and "audio" in asked
        said.setdefault("output_modalities", ["audio"] if spoken else asked)
    if "max_response_output_tokens" in said:
        said.setdefault("max_output_tokens", said.pop("max_response_output_tokens"))
    if any(sides.values()):
        audio = dict(said["audio"]) if isinstance(said.get("audio"), Mapping) else {}
        for side, flat in sides.items():
            if flat:
                nested = audio[side] if isinstance(audio.get(side), Mapping) else {}
                audio[side] = {**flat, **nested}
        said["audio"] = audio
    return said


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    said = dict(item)
    if said.get("role") == "assistant" and isinstance(said.get("content"), list):
        said["content"] = [_content(part) if isinstance(part, Mapping) else part for part in said["content"]]
    return said


def _content(part: Mapping[str, Any]) -> dict[str, Any]:
    said = dict(part)
    if said.get("type") in ("text", "audio"):
        said["type"] = f"output_{said['type']}"
    return said
