"""Every exception of voxnb: one tree, facts as attributes.

::

    VoxnbError
    ├── ParameterError(ValueError)            a client parameter is unknown, misspelt or out of range
    ├── MessageError(ValueError)              a message list is not one: index, reason
    ├── BudgetError(ValueError)               a context policy cannot hold together
    ├── ContextOverflowError(ValueError)      the parts that must be sent do not fit the window
    ├── CredentialsError                      no key, or a key that may not go to this host
    ├── NotSupportedError                     not in this version, or not in this environment
    ├── APIError                              the model's side, or the way to it
    │   ├── APIConnectionError                no answer
    │   │   ├── APITimeoutError               silence for longer than `timeout_s`
    │   │   └── StreamBrokenError             the answer stopped half way; the part is kept
    │   ├── APIResponseValidationError        an answer that is not the API's (a login page, garbage)
    │   ├── TapeMissError                     a request that is not on the tape: nearest, differences
    │   └── APIStatusError                    the server refused: status_code, request_id, code
    │       ├── BadRequestError               400
    │       ├── AuthenticationError           401
    │       ├── PermissionDeniedError         403
    │       ├── NotFoundError                 404
    │       ├── ConflictError                 409
    │       ├── UnprocessableEntityError      422
    │       ├── RateLimitError                429: retry_after_s
    │       └── InternalServerError           500 and above
    ├── TurnError                             a turn's own life
    │   ├── TurnCancelledError                cancelled before anything had come
    │   ├── ToolRoundsError                   the model would not stop calling tools: rounds, reply
    │   └── ClientClosedError                 asked of a closed client or call
    ├── ConversationError                     what a name or a history means
    │   ├── UnknownConversationError(KeyError)
    │   ├── ConversationExistsError
    │   └── HistoryConflictError              the messages contradict what is stored
    ├── SummaryError                          a fold that was not accepted: reason, text
    ├── StoreError                            the SQLite file
    │   ├── StoreFormatError                  not ours, damaged, or newer than this code
    │   ├── StoreReadOnlyError                a write to a read-only store
    │   ├── StoreFullError                    the disk is full
    │   ├── StoreGoneError                    the file, or its log, was removed or replaced while open
    │   └── StoreBusyError                    another process holds the file
    ├── TapeError                             a tape that cannot be read, or must not be written: path, line
    ├── LocalModelError                       the embedded model: get, check, start
    ├── BridgeError                           the bridge process ended, or could not be started: exit_code
    ├── ProtocolError                         a peer that breaks the realtime protocol
    │   └── RemoteProtocolError               what came is out of order or shape: event_type, event_id
    └── AudioError(ValueError)                audio that is not what it says

The names below `APIError` are the openai package's, so that an ``except`` line
can be carried over. SDK and sqlite exceptions never escape; they stay as
``__cause__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class VoxnbError(Exception):
    """Base of every error that voxnb raises on purpose."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        # KeyError's own __str__ would show the message in quotes.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(kind: type[VoxnbError], message: str, facts: dict[str, Any]) -> VoxnbError:
    error = kind.__new__(kind)
    error.args = (message,)
    error.__dict__.update(facts)
    return error


class ParameterError(VoxnbError, ValueError):
    """A parameter is unknown, misspelt, contradicts another, or is out of range.

    Attributes:
        name: the parameter as it was given.
        nearest: the closest known names, best first.
    """

    name: str
    nearest: tuple[str, ...] = ()


class MessageError(VoxnbError, ValueError):
    """A message list is not one.

    Attributes:
        index: position of the first bad message, or None where the whole list is meant.
    """

    index: int | None = None


class BudgetError(VoxnbError, ValueError):
    """The numbers of a `ContextPolicy` cannot hold together."""


class ContextOverflowError(VoxnbError, ValueError):
    """What must be sent does not fit the context window; nothing was sent.

    Attributes:
        window_tokens: the hard limit of the whole request.
        parts: tokens per part (``instructions``, ``tools``, ``pinned``, ``current turn``, ``reserve``).
    """

    window_tokens: int
    parts: Mapping[str, int]


class CredentialsError(VoxnbError):
    """No key was found, or the key may not be sent to this host."""


class NotSupportedError(VoxnbError):
    """What was asked for is not in this version of voxnb, or cannot be had in this environment.

    Attributes:
        name: what was asked for.
        instead: what to use in its place, or "".
    """

    name: str
    instead: str = ""


class APIError(VoxnbError):
    """The model's side, or the way to it, failed.

    Attributes:
        host: the host that was asked, without user or key.
        retries: how often the request was repeated before giving up.
    """

    host: str = ""
    retries: int = 0


class APIConnectionError(APIError):
    """No answer came: refused, unreachable, or cut before it began."""


class APITimeoutError(APIConnectionError):
    """Nothing came for longer than `timeout_s`."""


class StreamBrokenError(APIConnectionError):
    """The answer stopped half way; what had come is kept. Repeated only as long as nothing had come.

    Attributes:
        reply: the `Reply` as far as it had come; its text is "" where nothing had.
    """

    reply: Any = None


class APIResponseValidationError(APIError):
    """The server answered something that is not the API (a login page, garbage, nothing).

    Attributes:
        first_line: the start of what came, at most 200 characters.
    """

    first_line: str = ""


class TapeMissError(APIError):
    """The request is not on the tape, and nobody else may be asked.

    Attributes:
        path: the tape.
        request: what was asked (``POST /chat/completions``).
        nearest: the line at which the most similar exchange begins, or None where there is none of the kind.
        differences: ``(field, on the tape, asked)`` of each field in which they differ, as short texts.
    """

    path: str = ""
    request: str = ""
    nearest: int | None = None
    differences: tuple[tuple[str, str, str], ...] = ()


class APIStatusError(APIError):
    """The server refused the request.

    Attributes:
        status_code: HTTP status.
        request_id: the server's id of the request, or None.
        code: the error code of the body (``context_length_exceeded``), or None.
        param: the parameter that the body blames (``messages[2].role``), or None.
        type: the kind of error that the body names (``invalid_request_error``), or None.
        body: the decoded body, or None.
        context_limit_tokens: the window, where the server refused a request as too long and says it.
        context_sent_tokens: what it counted, likewise.
        retry_after_s: what the server asked to wait, or None.
    """

    status_code: int
    request_id: str | None = None
    code: str | None = None
    param: str | None = None
    type: str | None = None
    body: Any = None
    context_limit_tokens: int | None = None
    context_sent_tokens: int | None = None
    retry_after_s: float | None = None


class BadRequestError(APIStatusError):
    """HTTP 400."""


class AuthenticationError(APIStatusError):
    """HTTP 401: the key is missing or wrong."""


class PermissionDeniedError(APIStatusError):
    """HTTP 403."""


class NotFoundError(APIStatusError):
    """HTTP 404: the model or the address does not exist there."""


class ConflictError(APIStatusError):
    """HTTP 409."""


class UnprocessableEntityError(APIStatusError):
    """HTTP 422."""


class RateLimitError(APIStatusError):
    """HTTP 429, after the retries; see `retry_after_s`."""


class InternalServerError(APIStatusError):
    """HTTP 500 and above, after the retries."""


class TurnError(VoxnbError):
    """A turn that did not come to a reply."""


class TurnCancelledError(TurnError):
    """The turn was cancelled before anything of the reply had come."""


class ToolRoundsError(TurnError):
    """The model called tools again after the last round; what it said is stored, its last calls were not run.

    Attributes:
        rounds: how many there were.
        reply: the last reply.
    """

    rounds: int
    reply: Any = None


class ClientClosedError(TurnError):
    """The client was closed, make a new one; or a media call has ended."""


class ConversationError(VoxnbError):
    """A conversation's name or history does not allow this."""


class UnknownConversationError(ConversationError, KeyError):
    """No conversation of that name or id.

    Attributes:
        name: what was asked for.
        nearest: the closest known names, best first.
        reply: the answer that has no place any more: the conversation was deleted while it came; else None.
    """

    name: str
    nearest: tuple[str, ...] = ()
    reply: Any = None


class ConversationExistsError(ConversationError):
    """``if_exists="fail"`` and the conversation exists."""


class HistoryConflictError(ConversationError):
    """The messages contradict the stored history.

    Attributes:
        index: the first message that differs.
    """

    index: int


class SummaryError(VoxnbError):
    """A summary was not accepted; the conversation is as it was.

    Attributes:
        reason: one word (``empty``, ``long``, ``growing``, ``repeating``, ``call``).
        text: what the summary model wrote, or "".
    """

    reason: str = ""
    text: str = ""


class StoreError(VoxnbError):
    """The store could not do it.

    Attributes:
        path: the database file, or ``:memory:``.
        reply: the answer that could not be stored because of it; None where none had come.
    """

    path: str = ""
    reply: Any = None


class StoreFormatError(StoreError):
    """The file is not a voxnb store, is damaged, or was written by a newer voxnb."""


class StoreReadOnlyError(StoreError):
    """A write to a store that is read-only."""


class StoreFullError(StoreError):
    """The disk is full (or the quota is used up); nothing of the write was kept."""


class StoreGoneError(StoreError):
    """The file of an open store, or the log beside it, was removed or has another in its place; none is written to."""


class StoreBusyError(StoreError):
    """Another process held the file for longer than the busy timeout."""


class TapeError(VoxnbError):
    """A tape cannot be read or written, or must not hold what was asked.

    Attributes:
        path: the tape.
        line: where in it, counted from 1; None where the whole is meant.
    """

    path: str = ""
    line: int | None = None


class LocalModelError(VoxnbError):
    """The embedded model could not be had, checked or started."""


class BridgeError(VoxnbError):
    """The process in which calls live (``bridge="process"``) has ended, or could not be started; what was stored stays.

    Attributes:
        exit_code: the process's, negative for a signal; None where it never ran or still does.
    """

    exit_code: int | None = None


class ProtocolError(VoxnbError):
    """A peer broke the protocol."""


class RemoteProtocolError(ProtocolError):
    """What the peer sent is out of order or out of shape; it was not taken in.

    Attributes:
        event_type: the type of the event, or "" where it has none.
        event_id: its id, or None.
    """

    event_type: str = ""
    event_id: str | None = None


class AudioError(VoxnbError, ValueError):
    """Audio that is not what it says it is."""


STATUS_ERRORS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
"""HTTP status → class; anything else of 500 and above is `InternalServerError`."""


def status_error(status_code: int) -> type[APIStatusError]:
    """The class for an HTTP status.

    >>> status_error(429).__name__, status_error(503).__name__
    ('RateLimitError', 'InternalServerError')
    """
    if status_code >= 500:
        return InternalServerError
    return STATUS_ERRORS.get(status_code, APIStatusError)
