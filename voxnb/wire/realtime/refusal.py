"""What a refusal of the Realtime API means: nothing, something to tell, the end of the session, or the end of trying.

Source: OpenAI API reference, Realtime ``error``; codes seen in users' reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

Severity = Literal["benign", "ordinary", "ending", "fatal"]
"""``benign``: a race that the client can lose, nothing is wrong. ``ordinary``: a command was refused, the session goes on.
``ending``: the session is over, a new one may begin. ``fatal``: so will every new one be."""

BENIGN: Final = frozenset(
    {
        "conversation_already_has_active_response",
        "response_cancel_not_active",
        "input_audio_buffer_commit_empty",
        "item_retrieve_invalid_item_id",
        "item_delete_invalid_item_id",
        "item_truncate_invalid_item_id",
    }
)
ENDING: Final = frozenset({"session_expired", "session_not_found", "server_restart"})
FATAL: Final = frozenset(
    {
        "insufficient_quota",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "beta_api_shape_disabled",
        "model_not_found",
        "invalid_model",
        "missing_model",
    }
)

ACTIVE_RESPONSE: Final = "conversation_already_has_active_response"

RECOVERABLE_CLOSES: Final = frozenset({1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014})
"""Close codes after which a new session may be tried, where the close was not ours: an hour's limit comes as 1001."""

_SHORTER: Final = re.compile(r"Audio content of (\d+)\s*ms is already shorter than (\d+)\s*ms")


def severity(error: Mapping[str, Any]) -> Severity:
    """How much an ``error`` object matters.

    Args:
        error: the object inside the event.

    >>> severity({"type": "invalid_request_error", "code": "response_cancel_not_active"})
    'benign'
    >>> severity({"message": "Audio content of 13600ms is already shorter than 55960ms"})
    'benign'
    >>> severity({"code": "session_expired"}), severity({"code": "invalid_api_key"}), severity({})
    ('ending', 'fatal', 'ordinary')
    """
    code, message = error.get("code"), error.get("message")
    for found in (code, error.get("type")):
        if isinstance(found, str):
            if found in BENIGN:
                return "benign"
            if found in ENDING:
                return "ending"
            if found in FATAL:
                return "fatal"
    return "benign" if isinstance(message, str) and _SHORTER.search(message) else "ordinary"


def real_length_ms(error: Mapping[str, Any]) -> int | None:
    """The length of an item's audio, where the server refused to cut it beyond its end.

    >>> real_length_ms({"message": "Audio content of 13600ms is already shorter than 55960ms"})
    13600
    """
    message = error.get("message")
    found = _SHORTER.search(message) if isinstance(message, str) else None
    return int(found[1]) if found else None


def may_reconnect(code: int | None) -> bool:
    """Whether a new session may be tried after a close that was not asked for.

    Args:
        code: the close code, None where the connection broke without one.

    >>> [may_reconnect(code) for code in (None, 1001, 1009, 1008, 4000)]
    [True, True, False, False, True]
    """
    return code is None or code in RECOVERABLE_CLOSES or code >= 3000
