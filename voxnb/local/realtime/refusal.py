"""What the service refuses, in its own words, as `error` events.

A refusal never ends a session: the event names the client's ``event_id`` and everything goes on.

Source: messages and codes as users of the service report them; where none is on record the wording is ours.
"""

from __future__ import annotations

from typing import Any


class Refusal(Exception):  # noqa: N818 - it is an answer on the wire, not a fault of this program
    """A client event that is answered by an `error` event.

    Args:
        message: the sentence of the service.
        code: its code, or None.
        param: the field that is meant, or None.
        kind: its type.
    """

    def __init__(
        self, message: str, *, code: str | None, param: str | None = None, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.message, self.code, self.param, self.kind = message, code, param, kind

    def body(self, event_id: str | None = None) -> dict[str, Any]:
        """The ``error`` object.

        Args:
            event_id: the client event that caused it.
        """
        return {
            "type": self.kind,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "event_id": event_id,
        }


def invalid(value: Any, supported: tuple[str, ...], *, param: str) -> Refusal:
    """A value that is none of those that are supported.

    >>> invalid("speak", ("text", "audio"), param="response.output_modalities").message
    "Invalid value: 'speak'. Supported values are: 'text' and 'audio'."
    """
    listed = [f"'{name}'" for name in supported]
    words = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return Refusal(f"Invalid value: '{value}'. Supported values are: {words}.", code="invalid_value", param=param)


def mistyped(value: Any, wanted: str, *, param: str) -> Refusal:
    """A value of another JSON type than the field has.

    >>> mistyped(3, "a string", param="session.instructions").message
    "Invalid type for 'session.instructions': expected a string, but got an integer instead."
    """
    return Refusal(
        f"Invalid type for '{param}': expected {wanted}, but got {_json_type(value)} instead.",
        code="invalid_type",
        param=param,
    )


def missing(param: str, /) -> Refusal:
    """A field that must be there.

    >>> missing("session.type").message
    "Missing required parameter: 'session.type'."
    """
    return Refusal(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def unknown(param: str, /) -> Refusal:
    """A field that there is not.

    >>> unknown("session.modalities").message
    "Unknown parameter: 'session.modalities'."
    """
    return Refusal(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def too_short(have_ms: float, /) -> Refusal:
    """A commit of less than 100 ms."""
    return Refusal(
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
        f"but buffer only has {have_ms:.2f}ms of audio.",
        code="input_audio_buffer_commit_empty",
    )


def already_active(response_id: str, /) -> Refusal:
    """A response beside the one that runs."""
    return Refusal(
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
        code="conversation_already_has_active_response",
    )


def expired(session_s: float, /) -> Refusal:
    """The end of a session's time.

    >>> expired(3600).message
    'Your session hit the maximum duration of 60 minutes.'
    """
    return Refusal(f"Your session hit the maximum duration of {session_s / 60:g} minutes.", code="session_expired")


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "a boolean"), (int, "an integer"), (float, "a decimal"), (str, "a string")):
        if isinstance(value, kind):
            return name
    return "an array" if isinstance(value, list) else "an object"
