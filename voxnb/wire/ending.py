"""How a response ended: its status and reason in the words of chat completions, and its error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from voxnb.wire.answer import text_of
from voxnb.wire.choice import copied

ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""Statuses that nothing follows."""

BACKGROUND: Final = frozenset({"queued", "in_progress"})
"""Statuses of a response that goes on without anybody listening."""

STARTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
"""Events that say a response without ending it."""

REASONS: Final = {"max_output_tokens": "length"}
"""Why a response is incomplete, in the words of chat completions; other reasons stay as they are."""


def finish_reason(status: str | None, reason: str | None, *, calls: bool) -> str:
    """Why an answer that has ended did so.

    Args:
        status: the response's.
        reason: why it is incomplete.
        calls: whether it holds calls that the caller must answer.

    >>> finish_reason("incomplete", "max_output_tokens", calls=False)
    'length'
    """
    if status == "incomplete":
        return REASONS.get(reason or "", reason or "length")
    if status == "failed":
        return "error"
    if status == "cancelled" or status in BACKGROUND:
        return status
    return "tool_calls" if calls else "stop"


def error_in(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The error that came in place of a response, or None; a failed response is a response."""
    if "output" in event or event.get("object") == "response":
        return None
    found = event.get("error")
    if type(found) is dict and found:
        return dict(copied(found))
    if found:
        return {"message": text_of(found)}
    if event.get("type") == "error" or event.get("object") == "error" or isinstance(event.get("message"), str):
        kept = {k: copied(v) for k, v in event.items() if k not in ("type", "sequence_number") and v is not None}
        return {"message": "the service sent an error and no words", **kept}
    return None


def error_of(response: Mapping[str, Any]) -> dict[str, Any] | None:
    """The error of a failed response, in words in any case; None where it did not fail."""
    found = response.get("error")
    if type(found) is dict and found:
        return dict(copied(found))
    if found:
        return {"message": text_of(found)}
    failed = response.get("status") == "failed"
    return {"message": "the response failed, and the service does not say why"} if failed else None


def contradiction(response: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a response that was completed says against that, as an error: it failed, or was not completed after all.

    >>> contradiction({"status": "cancelled"})
    {'message': "the response was completed, and is 'cancelled' afterwards"}
    """
    status = response.get("status")
    is_other = type(status) is str and status in ENDED and status != "completed"
    told = {"message": f"the response was completed, and is {status!r} afterwards"} if is_other else None
    return error_of(response) or told


def type_of(event: Mapping[str, Any]) -> str:
    """The type of an event that does not say it.

    Raises:
        ValueError: it is a piece of a chat completion.
    """
    if "choices" in event:
        raise ValueError("the event is a chunk of a chat completion; the server does not speak the Responses API here")
    return "error" if event.get("error") or event.get("object") == "error" else "unknown"
