"""One HTTP exchange: the request's body out; chunks, text and events in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients import background
from voxnb.clients.bytestream import ByteStream
from voxnb.clients.ends import check_answered
from voxnb.clients.failure import counted
from voxnb.clients.refusal import wait_before_retry
from voxnb.clients.reply import Reply
from voxnb.clients.turn import Turn
from voxnb.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
)
from voxnb.runtime.stats import CallFacts
from voxnb.store.ids import new_id
from voxnb.store.rows import CallRecord
from voxnb.usage import Spent, Usage
from voxnb.wire.choice import pass_over
from voxnb.wire.sse import SSEReader
from voxnb.wire.unicode import load_escaped, whole_unicode

if TYPE_CHECKING:
    from voxnb.clients.text import TextClient

END_WAIT_S: Final = 5.0
"""How long a whole reply waits for the end of its stream."""


@dataclass
class Answer:
    """What came for one call."""

    text: str = ""
    message: dict[str, Any] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    call: CallRecord | None = None


class Streaming:
    """One HTTP exchange: the request's body out, chunks in, events and text on the way."""

    def __init__(self, client: TextClient, turn: Turn | None, *, model: str | None, lead: str = "") -> None:
        self.client = client
        self.turn = turn
        self.model = model
        self._lead = lead
        self._before: Spent | None = None
        self._sent = False
        self.began, self.at = time.monotonic(), time.time()
        self.first_event_ms: float | None = None
        self.first_token_ms: float | None = None
        self.request_id: str | None = None
        self.retries = 0
        self.chunks = 0
        self.bytes_sent = self.bytes_received = 0
        self.dialect = client.DIALECT
        self.counted_by = [client.counters]
        self.reader = self.dialect.read((), {})
        self._stray = ""
        self._choices = 1
        if turn is not None:
            turn.is_answered = lambda: self.reader.complete

    def following(self, *, lead: str = "") -> Streaming:
        """The next exchange of the same turn.

        Args:
            lead: stands in the turn's text before what comes.
        """
        other = Streaming(self.client, self.turn, model=self.model, lead=lead)
        other._before = self.spent
        other.reader.id = self.reader.id  # of the newest answer, until the next one has one
        return other

    async def run(self, body: Mapping[str, Any], *, purpose: str = "turn") -> None:
        """Send and read to the end.

        Args:
            body: as it is sent.
            purpose: for the statistics.

        Raises:
            APIError: see `errors`; `StreamBrokenError` where the answer had begun and its end did not come.
        """
        status = "failed"
        await self.client.prices.prepare()
        self._sent = True
        self.began, self.at = time.monotonic(), time.time()  # not when it was asked: it may have waited for its place
        try:
            await self._until_answered(body)
            status = "complete"
        finally:
            self._count(purpose, status)

    async def _until_answered(self, body: Mapping[str, Any]) -> None:
        """Ask until there is an answer; the transport's repeats and those here are counted together."""
        while True:
            sent = self.client.knowledge.without_refused(body)
            try:
                return await self._once(sent)
            except APIError as error:
                if self.client.knowledge.learn_refused(error, sent):
                    continue
                may = self.retries < self.client.max_retries and not self._is_heard(body)
                wait_s = wait_before_retry(error, attempt=self.retries + 1) if may else None
                if wait_s is None:
                    raise counted(error, self.retries) from error.__cause__
            self.retries += 1
            await asyncio.sleep(wait_s)

    def _is_heard(self, body: Mapping[str, Any]) -> bool:
        """Whether repeating would say something twice: part of an answer came, it ended, or the service is at work."""
        return self.has_reply or self.reader.complete or (bool(body.get("background")) and self.reader.id is not None)

    async def _once(self, body: Mapping[str, Any]) -> None:
        """Send, read, and look whether it was an answer."""
        try:
            done = await self._stream(body)
        except (APIConnectionError, asyncio.CancelledError) as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            if body.get("background") and self.reader.id is not None:
                if cancelled:
                    await background.stop(self, self.reader.id)
                    raise
            elif cancelled or not self._is_whole:
                raise
            else:
                self.reader.remarks.append(f"after the end of the reply {error}")
            done = False
        if body.get("background") and self.reader.id is not None and not self._has_ended:
            await background.fetch(self, self.reader.id)
        if self.reader.error is not None:
            self._judge(self._error(self.reader.error))
        stray = self.client.transport.hide(self._stray)
        check_answered(self.reader.choices, host=self.client.host, stray=stray, whole=done or self.reader.complete)
        self._emit(self.reader.finish())

    def _judge(self, error: APIError) -> None:
        """Raise what the server reported, but where the whole reply had come before: that stays one."""
        if not (self.reader.error_is_late and self._is_whole and self.has_reply):
            raise error
        self.reader.remarks.append(f"after the end of the reply {error}")
        if self.turn is not None:
            self.client.tell_error(error, self.turn)

    @property
    def _is_whole(self) -> bool:
        """Whether the reply, in all its choices, has come; what follows is beside it."""
        return self.reader.complete and (self._choices == 1 or len(self.reader.choices) >= self._choices)

    @property
    def _has_ended(self) -> bool:
        return self.reader.error is not None or (self.reader.complete and self.dialect.pending(self.reader) is None)

    async def _stream(self, body: Mapping[str, Any]) -> bool:
        """One HTTP exchange; whether the server said that it is the end."""
        wanted = self.client.wanted if self.turn is not None else ()
        asked = body.get("n")
        self._choices = asked if isinstance(asked, int) else 1
        self.reader = self.dialect.read(wanted, body)
        done = False
        async with self.client.transport.stream(
            self.dialect.path,
            dict(body),
            on_retry=self._on_retry,
            max_retries=self.client.max_retries - self.retries,
        ) as stream:
            self.request_id = stream.request_id
            try:
                with self._as_chunks():
                    if stream.is_streamed:
                        done = await self._read(stream)
                        if done:
                            self.reader.done()
                    else:
                        self.take(await stream.read_json())
                        done = True
            finally:
                self.bytes_sent += stream.sent_bytes
                self.bytes_received += stream.received_bytes
        return done

    def take(self, answer: Mapping[str, Any]) -> None:
        """Read an unstreamed answer; of its text only what had not come before is new."""
        before = self.reader.message.get("content") or ""
        with self._as_chunks():
            self._emit(self.reader.feed_completion(answer))
        self._note_first_event()
        self._push((self.reader.message.get("content") or "").removeprefix(before))

    def _error(self, error: Any) -> APIError:
        """An error object that came inside a stream."""
        client = self.client
        known = (
            client.transport.payload_error({"error": error}, model=self.model) if isinstance(error, Mapping) else None
        )
        if known is not None:
            return known
        facts = error if isinstance(error, Mapping) else {"message": str(error)}
        return APIError(f"{client.host} reported an error: {facts.get('message') or facts!r}", host=client.host)

    @contextlib.contextmanager
    def _as_chunks(self) -> Iterator[None]:
        """What cannot be read as the API's is an error of the server, not of voxnb."""
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise APIResponseValidationError(
                f"{self.client.host} sent something that is no {self.dialect.what} ({error}); check base_url",
                host=self.client.host,
                first_line=str(error)[:200],
            ) from error

    def _note_first_event(self) -> None:
        if self.first_event_ms is None:
            self.first_event_ms = (time.monotonic() - self.began) * 1000

    def _count(self, purpose: str, status: str) -> None:
        own = self._own
        facts = CallFacts(
            at=self.at,
            purpose=purpose,
            model=self.reader.model or self.model,
            status=status,
            retries=self.retries,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            events=self.chunks,
            first_event_ms=self.first_event_ms,
            first_token_ms=self.first_token_ms,
            duration_ms=(time.monotonic() - self.began) * 1000,
            prompt_tokens=own.usage.prompt_tokens,
            completion_tokens=own.usage.completion_tokens,
            cost_usd=own.cost_usd,
        )
        for counters in self.counted_by:
            counters.add(facts)

    @property
    def _own(self) -> Spent:
        """What this exchange took."""
        reader, usage = self.reader, Usage.from_dict(self.reader.usage)
        items = reader.message.get("items") or ()
        cost_usd = self.client.prices.cost_usd(
            usage, models=(reader.model, self.model), at=self.at, tier=reader.service_tier, items=items
        )
        return Spent(usage, cost_usd)

    @property
    def spent(self) -> Spent | None:
        """What the exchanges of the turn took together, this one included; None before the first of them."""
        if not self._sent:
            return self._before
        return self._own if self._before is None else self._before + self._own

    async def _read(self, stream: ByteStream) -> bool:
        sse = SSEReader()
        note = stream.note if self.client.transport.trace is not None else None
        try:
            async for block in stream:
                self._note_first_event()
                if (ended := self._take_messages(sse.feed(block), note)) is not None:
                    return ended
                if self._is_whole:  # only the usage may follow: a server that forgets to end is not waited for long
                    stream.silence_s = min(stream.silence_s, END_WAIT_S)
            return bool(self._take_messages(sse.close(), note))
        except BaseException:
            for half in sse.close() if note is not None else ():
                stream.note(half, incomplete=True)
            raise
        finally:
            if sse.stray:
                stream.note(sse.stray, stray=True)
                self._stray = sse.stray

    def _take_messages(self, messages: Sequence[str], note: Callable[[str], object] | None) -> bool | None:
        """Read messages of a stream; whether the server says that it is the end, None where more may come."""
        reader, feed, loads = self.reader, self.reader.feed, json.loads
        for data in messages:
            if note is not None:
                note(data)
            if data == "[DONE]":
                return True
            try:
                events = feed(loads(data) if "\\u" not in data else load_escaped(data))
            except (ValueError, RecursionError) as error:
                if not self._is_whole:
                    raise
                pass_over(reader.remarks, f"something after the end of the reply ({error})", data)
                continue
            self.chunks += 1
            if reader.text_delta:
                self._push(reader.text_delta)
            if events:
                self._emit(events)
            if reader.error is not None:
                return False
        return None

    def _push(self, delta: str) -> None:
        if delta:
            if self.first_token_ms is None:
                self.first_token_ms = (time.monotonic() - self.began) * 1000
            if self.turn is not None:
                if self._lead:  # the turn has said something before
                    self.turn._push(self._lead)  # noqa: SLF001 - the client drives its turns
                    self._lead = ""
                self.turn._push(delta)  # noqa: SLF001 - the client drives its turns

    def _emit(self, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
        if self.turn is None:
            return
        for name, payload in events:
            self.client.dispatcher.emit(name, payload, context=self.turn.context, turn=self.turn)

    def _on_retry(self, *_: Any, **__: Any) -> None:
        self.retries += 1

    @property
    def has_reply(self) -> bool:
        """Whether anything of an answer came."""
        message = self.reader.message
        return bool(message.get("content") or message.get("tool_calls") or message.get("refusal"))

    def record(self, *, purpose: str, estimated_tokens: int | None, status: str, error: str | None) -> CallRecord:
        """The call, as it is stored."""
        own = self._own
        return CallRecord(
            uid=new_id("c"),
            purpose=purpose,
            model=self.reader.model or self.model,
            host=self.client.host,
            request_id=self.request_id,
            estimated_prompt_tokens=estimated_tokens,
            usage={
                "prompt_tokens": own.usage.prompt_tokens,
                "completion_tokens": own.usage.completion_tokens,
                "cached_tokens": own.usage.cached_tokens,
            },
            cost_usd=own.cost_usd,
            retries=self.retries,
            first_token_ms=self.first_token_ms,
            duration_ms=(time.monotonic() - self.began) * 1000,
            status=status,
            error=error,
            reply_id=self.reader.id,
        )

    @property
    def kept(self) -> dict[str, Any] | None:
        """What can be kept of an answer that stopped half way: no tool call that may be incomplete; None for nothing."""
        message = dict(self.reader.message)
        if message.get("tool_calls") and self.reader.unfinished_tool_calls:
            del message["tool_calls"]
        return message if any(message.get(k) for k in ("content", "tool_calls", "refusal")) else None

    def reply(
        self,
        *,
        turn_id: str | None,
        warnings: Sequence[str] = (),
        finish_reason: str | None = None,
        message: Mapping[str, Any] | None = None,
    ) -> Reply:
        """What came so far (or what was kept of it) as a value."""
        message = whole_unicode(dict(self.reader.message if message is None else message))
        spent = self.spent or Spent(Usage())
        return Reply(
            text=message.get("content") or "",
            message=message,
            tool_calls=tuple(message.get("tool_calls") or ()),
            refusal=message.get("refusal"),
            parsed=self.reader.parsed,
            usage=spent.usage,
            cost_usd=spent.cost_usd,
            finish_reason=finish_reason or self.reader.finish_reason,
            id=self.reader.id,
            turn=turn_id,
            warnings=tuple(warnings),
        )
