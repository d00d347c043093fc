"""What a session wants done, as values: the shell does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from voxnb.local.realtime.view import Heard, View


@dataclass(frozen=True)
class Send:
    """Send an event.

    Attributes:
        event: of the wire.
    """

    event: dict[str, Any]


@dataclass(frozen=True)
class SendRaw:
    """Send a message that is no event.

    Attributes:
        message: as it is.
    """

    message: str | bytes


@dataclass(frozen=True)
class Think:
    """Ask the brain for an answer, and give it to `Session.supply`.

    Attributes:
        response_id: what it is an answer to.
        view: what the brain sees.
    """

    response_id: str
    view: View


@dataclass(frozen=True)
class Hear:
    """Have a user's speech written down, and give it to `Session.transcribed`.

    Attributes:
        heard: the speech.
    """

    heard: Heard


@dataclass(frozen=True)
class Close:
    """Close the connection.

    Attributes:
        code: of the close frame.
        reason: likewise.
    """

    code: int
    reason: str


@dataclass(frozen=True)
class Abort:
    """Break the connection without a close frame."""


Effect: TypeAlias = Send | SendRaw | Think | Hear | Close | Abort
