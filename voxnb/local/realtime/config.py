"""A session's configuration: the defaults, and what `session.update` does to them.

Rule 1: an absent field keeps its value; ``""``, ``[]`` and ``null`` clear it; objects under ``audio`` merge field by field.
Rule 2: an update is checked as a whole before any of it holds.

Source: OpenAI Realtime API reference, `session.update` and the session object (2026).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from voxnb.audio.formats import ALAW_8K, PCM_24K, ULAW_8K, AudioFormat
from voxnb.local.realtime.refusal import Refusal, invalid, missing, mistyped, unknown

REALTIME: Final = "realtime"
TRANSCRIPTION: Final = "transcription"

FORMATS: Final[Mapping[str, AudioFormat]] = {"audio/pcm": PCM_24K, "audio/pcmu": ULAW_8K, "audio/pcma": ALAW_8K}
"""The formats of the wire."""

EAGERNESS_SILENCE_MS: Final[Mapping[str, int]] = {"low": 2_000, "medium": 1_000, "auto": 1_000, "high": 500}
"""The silence that ends a turn under `semantic_vad`: a quarter of the documented longest wait. There is no model here that
could tell a finished sentence."""

DEFAULT_INSTRUCTIONS: Final = "You are a helpful, witty, and friendly AI. Talk quickly."
LARGEST_OUTPUT_TOKENS: Final = 4_096

_PCM: Final = {"type": "audio/pcm", "rate": 24_000}
_VAD: Final[Mapping[str, Mapping[str, Any]]] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        # As session.created shows it; the reference says 500.
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}
_NOT_FOR_TRANSCRIPTION: Final = ("create_response", "interrupt_response", "idle_timeout_ms")


def default(kind: str, /, *, session_id: str, model: str, expires_at: int) -> dict[str, Any]:
    """The session object of a new connection.

    Args:
        kind: ``realtime`` or ``transcription``.
        session_id: its id.
        model: the model of the address; a transcription session has none.
        expires_at: when it ends, epoch seconds.
    """
    hearing: dict[str, Any] = {
        "format": dict(_PCM),
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": dict(_VAD["server_vad"]),
    }
    head = {"type": kind, "object": f"realtime.{'session' if kind == REALTIME else 'transcription_session'}"}
    tail = {"include": None, "expires_at": expires_at}
    if kind == TRANSCRIPTION:
        for name in _NOT_FOR_TRANSCRIPTION:
            del hearing["turn_detection"][name]
        return {**head, "id": session_id, "audio": {"input": hearing}, **tail}
    return {
        **head,
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "audio": {"input": hearing, "output": {"format": dict(_PCM), "voice": "marin", "speed": 1.0}},
        **tail,
    }


def updated(session: Mapping[str, Any], change: Any, *, has_spoken: bool, is_responding: bool) -> dict[str, Any]:
    """The session after an update.

    Args:
        session: as it is.
        change: the ``session`` of the event.
        has_spoken: whether the model has answered with audio; then the voice stays.
        is_responding: whether it is answering now; then the speed stays.

    Raises:
        Refusal: what the service refuses.
    """
    if not isinstance(change, Mapping):
        raise missing("session") if change is None else mistyped(change, "an object", param="session")
    kind = change.get("type")
    if kind is None:
        raise missing("session.type")
    if kind not in (REALTIME, TRANSCRIPTION):
        raise invalid(kind, (REALTIME, TRANSCRIPTION), param="session.type")
    if kind != session["type"]:
        raise Refusal(
            f"Passing a {kind} session update event to a {session['type']} session is not allowed.",
            code="invalid_session_type",
            param="session.type",
        )
    out = copy.deepcopy(dict(session))
    for name, value in change.items():
        if name == "audio":
            _merge_audio(out["audio"], value)
        elif name != "type":
            _set(out, name, value)
    _check_frozen(session, out, has_spoken=has_spoken, is_responding=is_responding)
    return out


def _set(out: dict[str, Any], name: str, value: Any) -> None:
    param = f"session.{name}"
    if name not in out or name in ("id", "object", "expires_at"):
        raise unknown(param)
    if name == "model" and value != out["model"]:
        raise Refusal("Cannot update a session's model.", code="cannot_update_model", param=param)
    check = _CHECKS.get(name)
    # A cleared list or text reads as empty, everything else that is cleared as its absence.
    cleared = {"tools": [], "instructions": "", "max_output_tokens": "inf", "truncation": "auto", "tool_choice": "auto"}
    if value is None:
        out[name] = copy.deepcopy(cleared.get(name, ["audio"] if name == "output_modalities" else None))
        return
    if check is not None:
        check(value, param)
    out[name] = copy.deepcopy(value)


def _merge_audio(audio: dict[str, Any], change: Any) -> None:
    for side, fields in _object(change, "session.audio").items():
        if side not in audio:
            raise unknown(f"session.audio.{side}")
        for name, value in _object(fields, f"session.audio.{side}").items():
            param = f"session.audio.{side}.{name}"
            if name not in audio[side]:
                raise unknown(param)
            if name == "turn_detection":
                audio[side][name] = _turn_detection(audio[side][name], value, param=param)
            else:
                audio[side][name] = _audio_field(name, value, param=param, old=audio[side][name])


def _audio_field(name: str, value: Any, *, param: str, old: Any) -> Any:
    if name == "format":
        return _format(value, param)
    if name == "voice":
        if not isinstance(value, str | Mapping):
            raise mistyped(value, "a string", param=param)
        return copy.deepcopy(value)
    if name == "speed":
        return _number(value, 0.25, 1.5, param=param)
    if value is None:
        return None
    if name == "transcription":
        return {**(old or {"model": None, "language": None, "prompt": None}), **_object(value, param)}
    return {**(old or {}), **_object(value, param)}


def _format(value: Any, param: str) -> dict[str, Any]:
    kind = _object(value, param).get("type")
    if kind not in FORMATS:
        raise invalid(kind, tuple(FORMATS), param=f"{param}.type")
    if kind != "audio/pcm":
        return {"type": kind}
    if value.get("rate", 24_000) != 24_000:
        raise Refusal(
            f"Invalid value: {value['rate']}. The sample rate of 'audio/pcm' must be 24000.",
            code="invalid_value",
            param=f"{param}.rate",
        )
    return dict(_PCM)


def _turn_detection(old: Mapping[str, Any] | None, value: Any, *, param: str) -> dict[str, Any] | None:
    if value is None:
        return None
    change = _object(value, param)
    kind = change.get("type", (old or {}).get("type", "server_vad"))
    if kind not in _VAD:
        raise invalid(kind, tuple(_VAD), param=f"{param}.type")
    out = dict(old) if old is not None and old["type"] == kind else dict(_VAD[kind])
    for name, given in change.items():
        if name not in _VAD[kind]:
            raise unknown(f"{param}.{name}")
        if name == "threshold" and given is not None:
            _number(given, 0.0, 1.0, param=f"{param}.{name}")
        elif name.endswith("_ms") and given is not None:
            _number(given, 0, 60_000, param=f"{param}.{name}")
        elif name == "eagerness" and given not in EAGERNESS_SILENCE_MS:
            raise invalid(given, tuple(EAGERNESS_SILENCE_MS), param=f"{param}.{name}")
        out[name] = _VAD[kind][name] if given is None else given
    return out


def _check_frozen(old: Mapping[str, Any], new: Mapping[str, Any], *, has_spoken: bool, is_responding: bool) -> None:
    if old["type"] == TRANSCRIPTION:
        return
    before, after = old["audio"]["output"], new["audio"]["output"]
    if has_spoken and before["voice"] != after["voice"]:
        raise Refusal(
            "Cannot update a conversation's voice if assistant audio is present.",
            code="cannot_update_voice",
            param="session.audio.output.voice",
        )
    if is_responding and before["speed"] != after["speed"]:
        raise Refusal(
            "Cannot update the speed while a response is in progress.",
            code="cannot_update_speed",
            param="session.audio.output.speed",
        )
    if old["tracing"] is not None and new["tracing"] not in (None, old["tracing"]):
        raise Refusal(
            "Cannot update a session's tracing once it is enabled.",
            code="cannot_update_tracing",
            param="session.tracing",
        )


def check_modalities(value: Any, param: str) -> None:
    """Refuse what is not ``["text"]`` or ``["audio"]``."""
    if value in (["text"], ["audio"]):
        return
    if not isinstance(value, list):
        raise mistyped(value, "an array", param=param)
    shown = str(value).replace('"', "'")
    raise Refusal(
        f"Invalid modalities: {shown}. Supported combinations are: ['text'] and ['audio'].",
        code="invalid_value",
        param=param,
    )


def check_tools(value: Any, param: str) -> None:
    """Refuse a list that does not hold tools."""
    if not isinstance(value, list):
        raise mistyped(value, "an array", param=param)
    for index, tool in enumerate(value):
        kind = _object(tool, f"{param}[{index}]").get("type")
        if kind not in ("function", "mcp"):
            raise invalid(kind, ("function", "mcp"), param=f"{param}[{index}].type")
        if kind == "function" and not isinstance(tool.get("name"), str):
            raise missing(f"{param}[{index}].name")


def check_max_tokens(value: Any, param: str) -> None:
    """Refuse what is neither ``"inf"`` nor 1 to 4,096."""
    if value != "inf":
        _number(value, 1, LARGEST_OUTPUT_TOKENS, param=param)


def check_text(value: Any, param: str) -> None:
    """Refuse what is not text."""
    if not isinstance(value, str):
        raise mistyped(value, "a string", param=param)


def _number(value: Any, least: float, most: float, *, param: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mistyped(value, "a number", param=param)
    if not least <= value <= most:
        side, bound = ("below", least) if value < least else ("above", most)
        word = "minimum" if value < least else "maximum"
        raise Refusal(
            f"Invalid '{param}': {'decimal' if isinstance(value, float) else 'integer'} {side} {word} value. "
            f"Expected a value {'>=' if value < least else '<='} {bound:g}, but got {value:g} instead.",
            code=f"{'decimal' if isinstance(value, float) else 'integer'}_{side}_{word[:3]}_value",
            param=param,
        )
    return value


def _object(value: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise mistyped(value, "an object", param=param)
    return value


_CHECKS: Final[Mapping[str, Callable[[Any, str], None]]] = {
    "output_modalities": check_modalities,
    "tools": check_tools,
    "max_output_tokens": check_max_tokens,
    "instructions": check_text,
}
