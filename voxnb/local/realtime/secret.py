"""Client secrets: keys for a while, each with the settings of the sessions that it begins.

Source: OpenAI API reference, ``POST /realtime/client_secrets``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voxnb.local.realtime import config
from voxnb.local.realtime.refusal import Refusal, invalid, mistyped, unknown

SECONDS: Final = (10, 7_200)
DEFAULT_SECONDS: Final = 600


@dataclass(frozen=True)
class ClientSecret:
    """A key for a while.

    Attributes:
        value: the key.
        expires_at: until when it begins sessions, epoch seconds.
        kind: of the sessions, ``realtime`` or ``transcription``.
        model: of the sessions; empty where the address names it.
        settings: of the sessions: the ``session`` of an update.
    """

    value: str
    expires_at: int
    kind: str
    model: str
    settings: Mapping[str, Any]


class ClientSecrets:
    """The client secrets of a server.

    Args:
        new_id: makes an id from a prefix.
    """

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._made: dict[str, ClientSecret] = {}

    def make(self, body: bytes, *, epoch_s: float) -> dict[str, Any]:
        """Answer a request for one.

        Args:
            body: of the request.
            epoch_s: now, epoch seconds.

        Returns:
            The answer's body.

        Raises:
            Refusal: what the service refuses.
        """
        try:
            asked = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise Refusal("We could not parse the JSON body of your request.", code=None) from None
        if not isinstance(asked, Mapping):
            raise mistyped(asked, "an object", param="body")
        spare = set(asked) - {"session", "expires_after"}
        if spare:
            raise unknown(min(spare))
        seconds = _seconds(asked.get("expires_after"))
        given = asked.get("session")
        if given is not None and not isinstance(given, Mapping):
            raise mistyped(given, "an object", param="session")
        change = {"type": config.REALTIME, **(given or {})}
        model = change.pop("model", "")
        if not isinstance(model, str):
            raise mistyped(model, "a string", param="session.model")
        kind = change["type"]
        if kind not in (config.REALTIME, config.TRANSCRIPTION):
            raise invalid(kind, (config.REALTIME, config.TRANSCRIPTION), param="session.type")
        expires_at = int(epoch_s) + seconds
        session = config.default(kind, session_id=self._new_id("sess"), model=model, expires_at=0)
        session = config.updated(session, change, has_spoken=False, is_responding=False)
        self._made = {value: secret for value, secret in self._made.items() if secret.expires_at > epoch_s}
        value = self._new_id("ek")
        self._made[value] = ClientSecret(value, expires_at, kind, model, change)
        return {"value": value, "expires_at": expires_at, "session": session}

    def find(self, key: str | None, *, epoch_s: float) -> ClientSecret | None:
        """The secret that a key is, as long as it is good."""
        secret = self._made.get(key or "")
        return secret if secret is not None and secret.expires_at > epoch_s else None


def _seconds(given: Any) -> int:
    if given is None:
        return DEFAULT_SECONDS
    if not isinstance(given, Mapping):
        raise mistyped(given, "an object", param="expires_after")
    if given.get("anchor", "created_at") != "created_at":
        raise invalid(given["anchor"], ("created_at",), param="expires_after.anchor")
    seconds = given.get("seconds", DEFAULT_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise mistyped(seconds, "an integer", param="expires_after.seconds")
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise Refusal(
            f"Invalid 'expires_after.seconds': expected a value from {SECONDS[0]} to {SECONDS[1]}, but got {seconds}.",
            code="integer_out_of_range",
            param="expires_after.seconds",
        )
    return seconds
