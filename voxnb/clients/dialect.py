"""What tells the service's two text interfaces apart, as a table; requests, memory and streaming know nothing else of it.

Inside voxnb a conversation is a list of chat messages, whatever interface it is spoken over. A `Dialect` says how such a
list becomes a request's body and what reads the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from voxnb.events import ChatCompletionsAPIEvents, EventNamespace
from voxnb.wire.chat import ChatReader
from voxnb.wire.items import chat_message

Kept = list[tuple[str, Mapping[str, Any]]]
"""Events as they are stored: name and payload, deltas counted."""


class Reader(Protocol):
    """Reads one answer, piece by piece; see `voxnb.wire.chat.ChatReader`."""

    text_delta: str
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    error_is_late: bool
    id: str | None
    model: str | None
    service_tier: str | None
    remarks: list[str]

    def feed(self, chunk: Any) -> list[tuple[str, dict[str, Any]]]:
        """Take the next piece of a stream."""

    def feed_completion(self, completion: Any) -> list[tuple[str, dict[str, Any]]]:
        """Take an unstreamed answer."""

    def done(self) -> None:
        """The server ended the answer on purpose."""

    def finish(self) -> list[tuple[str, dict[str, Any]]]:
        """Close what is open."""

    @property
    def complete(self) -> bool:
        """Whether all of the answer has come."""

    @property
    def message(self) -> dict[str, Any]:
        """The answer so far as an assistant message."""

    @property
    def choices(self) -> list[dict[str, Any]]:
        """All answers so far; empty where nothing of one came."""

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, in the words of chat completions."""

    @property
    def parsed(self) -> Any:
        """The decoded text where JSON was asked for."""

    @property
    def unfinished_tool_calls(self) -> bool:
        """Whether a tool call was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One text interface.

    Attributes:
        api: its name in the store.
        what: what an answer is called in messages.
        call: the method that takes a whole request, ``create_…``; said where `ask` is given what belongs there.
        says: key of a body that holds what is said.
        path: below the base URL.
        connector: what `ConnectorInformation` calls it.
        events: its namespace.
        error: name of the event that tells of an error.
        priced: keys of a body that cost prompt tokens beside the messages.
        limits: keys of a body that bound the reply, in tokens.
        held: keys of a body by which the server is told to take the history from a place of its own.
        prompts: keys of a body that name a prompt which the server keeps, and which may say the model too.
        read: makes a reader from the wanted events and the body that was sent.
        write: body without messages, messages → body as it is sent, streamed. The messages before the count given as
            ``leading`` are the conversation's instructions.
        replay: an unstreamed answer from a stored reply (id, model, message, finish reason).
        kept: what of an answer is stored as events.
        stored: a reply without what can be made again from the rest of it.
        pending: id of an answer that the server still works on after it was asked; None where there is no such thing.
    """

    api: str
    what: str
    call: str
    says: str
    path: str
    connector: str
    events: type[EventNamespace]
    error: str
    priced: tuple[str, ...]
    limits: tuple[str, ...]
    held: tuple[str, ...]
    prompts: tuple[str, ...]
    read: Callable[[Container[str], Mapping[str, Any]], Reader]
    write: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]], int], dict[str, Any]]
    replay: Callable[[str, str | None, Mapping[str, Any], str], dict[str, Any]]
    kept: Callable[[Reader, int], Kept]
    stored: Callable[[dict[str, Any]], dict[str, Any]] = dict
    pending: Callable[[Reader], str | None] = lambda _: None

    def is_whole(self, body: Mapping[str, Any]) -> bool:
        """Whether a body says what is asked without a message: what the server keeps does."""
        return any(body.get(name) is not None for name in (*self.held, *self.prompts))

    def split(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """A body without messages, as (parameters, what costs prompt tokens or None)."""
        priced = {k: body[k] for k in self.priced if body.get(k) is not None}
        return {k: v for k, v in body.items() if k not in self.priced}, priced or None


# -- chat completions -------------------------------------------------------------------------


def _read_chat(wanted: Container[str], body: Mapping[str, Any]) -> Reader:
    return ChatReader(wanted=wanted, response_format=body.get("response_format"))


def _write_chat(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], leading: int) -> dict[str, Any]:  # noqa: ARG001 - instructions are messages here
    given = body.get("stream_options", {"include_usage": True})
    rest = {k: v for k, v in body.items() if k != "stream_options"}
    options = {"stream_options": {"include_usage": True, **given}} if given else {}  # None or {}: none are sent
    return {**rest, "messages": [chat_message(m) for m in messages], "stream": True, **options}


def _replay_chat(uid: str, model: str | None, message: Mapping[str, Any], finish_reason: str) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": uid, "object": "chat.completion", "model": model, "choices": [choice]}


def _kept_of_chat(reader: Reader, pieces: int) -> Kept:
    names, message, out = ChatCompletionsAPIEvents, reader.message, Kept()
    if pieces:
        out.append((names.Chunk.value, {"count": pieces}))
    if message.get("content"):
        out.append((names.ContentDone.value, {"characters": len(message["content"])}))
    if message.get("refusal"):
        out.append((names.RefusalDone.value, {"characters": len(message["refusal"])}))
    out += [
        (names.FunctionToolCallArgumentsDone.value, {"index": n, "id": call.get("id")})
        for n, call in enumerate(message.get("tool_calls") or ())
    ]
    return out


CHAT: Final = Dialect(
    api="chat",
    what="chat completion",
    call="create_chat_completions",
    says="messages",
    path="/chat/completions",
    connector="/openai/chat_completions",
    events=ChatCompletionsAPIEvents,
    error=ChatCompletionsAPIEvents.ChatCompletionsAPIError.value,
    priced=("tools", "functions", "response_format"),
    limits=("max_completion_tokens", "max_tokens"),
    held=(),
    prompts=(),
    read=_read_chat,
    write=_write_chat,
    replay=_replay_chat,
    kept=_kept_of_chat,
)
