"""What a brain answers with, as values; `speaking` makes events of them.

An answer is a series of parts. Speech opens a message item by itself and goes on in it until a `NextItem` or a `Call`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from voxnb.audio.formats import PCM_24K, AudioFormat


@dataclass(frozen=True)
class Speech:
    """Something said; in a session of text, something written.

    Attributes:
        text: its words.
        audio: its sound, whole samples.
        form: how the sound is written; it is converted to what the session speaks.
    """

    text: str
    audio: bytes = field(default=b"", repr=False)
    form: AudioFormat = PCM_24K


@dataclass(frozen=True)
class Call:
    """A function call, an item of its own.

    Attributes:
        name: the function.
        arguments: JSON text.
        call_id: its id; None for a new one.
    """

    name: str
    arguments: str = "{}"
    call_id: str | None = None


@dataclass(frozen=True)
class RemoteCall:
    """A tool of a remote (MCP) server that the service itself calls, an item of its own.

    Attributes:
        server_label: of the remote server.
        name: the tool.
        arguments: JSON text.
        output: what it returned.
        error: why it failed, instead; None where it did not.
        asks: the user's leave is asked for first: an ``mcp_approval_request``, and no call.
    """

    server_label: str
    name: str
    arguments: str = "{}"
    output: str | None = None
    error: str | None = None
    asks: bool = False


@dataclass(frozen=True)
class NextItem:
    """What follows is said in another message item of the same response."""


@dataclass(frozen=True)
class Wait:
    """The model thinks.

    Attributes:
        wait_ms: how long, on the session's clock.
    """

    wait_ms: float


@dataclass(frozen=True)
class Ended:
    """The response ends here and not well.

    Attributes:
        status: ``failed`` or ``incomplete``.
        reason: of an incomplete one: ``max_output_tokens`` or ``content_filter``.
        code: of a failed one, such as ``inference_rate_limit_exceeded``.
        message: of a failed one.
        kind: the error's type.
    """

    status: str = "failed"
    reason: str | None = None
    code: str = "server_error"
    message: str = "The server had an error while processing your request. Sorry about that!"
    kind: str = "server_error"


@dataclass(frozen=True)
class Gone:
    """The connection breaks here, without a close frame.

    Attributes:
        code: a close code to say good-bye with, such as 1011; None says nothing (the other side sees 1006).
        after_events: break after so many events of the response instead, however far it is then.
    """

    code: int | None = None
    after_events: int | None = None


@dataclass(frozen=True)
class Stuck:
    """Nothing more comes of the response; the connection stays open.

    Attributes:
        after_events: stop after so many events of the response instead, however far it is then.
    """

    after_events: int | None = None


@dataclass(frozen=True)
class Raw:
    """A message that is no event: what a peer of another protocol would send.

    Attributes:
        message: sent as it is, ``str`` as text, ``bytes`` as a binary message.
    """

    message: str | bytes


Part: TypeAlias = Speech | Call | RemoteCall | NextItem | Wait | Ended | Gone | Stuck | Raw
