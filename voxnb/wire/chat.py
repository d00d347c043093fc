"""What the chunks of a chat completion mean: text, tool calls, usage, and the events of the namespace.

Thirteen of the fifteen `ChatCompletionsAPIEvents` come out of the stream (``Unknown`` is what is no chunk);
``ChatCompletionsAPIError`` and ``ConnectorInformation`` are the client's own.

Names and fields are those of the OpenAI SDK's stream helper. Three differences are meant:

- ``Content``, which only the TypeScript helper has, is ``{"delta", "snapshot"}`` here.
- Closing events of one chunk come before the deltas of the tool call that caused them (VoxEngine's order), and a
  call's own deltas before its closing event, also where a server puts a whole call and the finish reason into one
  chunk (the helper then never closes it).
- ``parsed_arguments`` is the decoded JSON of a finished call, strict or not; ``parsed`` of ``ContentDone`` is the
  decoded content where ``response_format`` asks for JSON. Both are None in deltas and where they do not decode.

Source: openai-python ``lib/streaming/chat/_completions.py`` and openai-node ``ChatCompletionStream``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final, TypeAlias

from voxnb.events import ChatCompletionsAPIEvents as Names
from voxnb.wire.choice import Choice, ToolCall, copied, decoded, expect, is_other, pass_over

Events: TypeAlias = list[tuple[str, dict[str, Any]]]
"""Pairs of an event name (a value of `ChatCompletionsAPIEvents`) and its payload."""

CHUNK: Final = Names.Chunk.value
CONTENT: Final = Names.Content.value
CONTENT_DELTA: Final = Names.ContentDelta.value
CONTENT_DONE: Final = Names.ContentDone.value
REFUSAL_DELTA: Final = Names.RefusalDelta.value
REFUSAL_DONE: Final = Names.RefusalDone.value
UNKNOWN: Final = Names.Unknown.value
CALL_DELTA: Final = Names.FunctionToolCallArgumentsDelta.value
CALL_DONE: Final = Names.FunctionToolCallArgumentsDone.value

_LOGPROBS: Final = (
    ("content", Names.LogProbsContentDelta.value, Names.LogProbsContentDone.value),
    ("refusal", Names.LogProbsRefusalDelta.value, Names.LogProbsRefusalDone.value),
)
_SAYS: Final = frozenset({"choices", "usage", "id", "object"})
"""A chunk has one of these; what has none is `Unknown`, and so is what says to be something else."""

_JSON_FORMATS: Final = ("json_object", "json_schema")


class ChatReader:
    """Reads one answer, chunk by chunk.

    >>> reader = ChatReader(wanted={CONTENT_DONE})
    >>> reader.feed({"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]})
    []
    >>> reader.text_delta
    'Hi'
    >>> reader.feed({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    [('OpenAI.ChatCompletionsAPI.ContentDone', {'content': 'Hi', 'parsed': None})]
    >>> reader.message, reader.complete
    ({'role': 'assistant', 'content': 'Hi'}, True)

    Attributes:
        wanted: names of the events to build; may be replaced between two chunks. Empty is fastest.
        text_delta: text of choice 0 that the last chunk brought, or ``""``.
        usage: the newest usage block, or None.
        error: the error that the server sent in place of an answer, in the middle of it or after it, or None.
        error_is_late: whether it came after the end of the answer.
        id: the completion's id, or None.
        model: the model that answered, or None.
        service_tier: as the server said, or None.
        system_fingerprint: as the server said, or None.
        remarks: what could not be read, and the answer is whole without it; a sentence each.
    """

    def __init__(
        self, *, wanted: Container[str] = frozenset(), response_format: Mapping[str, Any] | None = None
    ) -> None:
        """Start before the first chunk.

        Args:
            wanted: names of the events to build.
            response_format: the request's own, as sent; decides about ``parsed``.
        """
        self.wanted = wanted
        self.text_delta = ""
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.error_is_late = False
        self.id: str | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.system_fingerprint: str | None = None
        self.remarks: list[str] = []
        self._is_json = isinstance(response_format, Mapping) and response_format.get("type") in _JSON_FORMATS
        self._choices: dict[int, Choice] = {}
        self._done = False
        # Token dicts that went out; the reader's own are never handed to anybody.
        self._shown: dict[tuple[int, str], list[Any]] = {}
        # The pieces of choice 0's content, once there are some and nothing more than text is expected.
        self._pieces: list[str] | None = None

    def feed(self, chunk: Any) -> Events:
        """Take the next chunk.

        Args:
            chunk: the decoded payload; the reader does not change it and keeps no part that it hands out.

        Returns:
            The wanted events, in order. A payload belongs to the caller. Log-probability snapshots share their
            token dicts with earlier payloads of the same choice, and nothing else is shared.

        Raises:
            ValueError: the chunk is none; the answer so far stays readable.
        """
        # Nearly every chunk of nearly every answer is one piece of text: that case is decided here, at once.
        pieces = self._pieces
        if pieces is not None and not self.wanted and type(chunk) is dict:
            choices = chunk.get("choices")
            if type(choices) is list and len(choices) == 1 and type(choice := choices[0]) is dict:
                delta = choice.get("delta")
                if (
                    type(delta) is dict
                    and type(text := delta.get("content")) is str
                    and (len(delta) == 1 or (len(delta) == 2 and delta.get("role") == "assistant"))
                    and choice.get("index") == 0
                    and choice.get("finish_reason") is None
                    and choice.get("logprobs") is None
                    and chunk.get("usage") is None
                    and "error" not in chunk
                ):
                    pieces.append(text)
                    self.text_delta = text
                    return []
        self.text_delta = ""
        try:
            return self._feed(chunk)
        except RecursionError as error:
            raise ValueError("a chat chunk is nested too deeply") from error

    def feed_completion(self, completion: Any) -> Events:
        """Take an unstreamed answer, as if it had come as one chunk and the end.

        Args:
            completion: the decoded JSON body.

        Returns:
            The wanted events, the closing ones included.

        Raises:
            ValueError: the body is no chat completion.
        """
        expect(completion, dict, "the body")
        if self._note_error(completion):
            return []
        expect(completion.get("choices"), list, "choices")
        choices = []
        for position, choice in enumerate(completion["choices"]):
            expect(choice, dict, "a choice")
            message = choice.get("message")
            expect(message, dict, "message")
            delta = dict(message)
            calls = delta.get("tool_calls")
            if calls is not None:
                expect(calls, list, "tool_calls")
                delta["tool_calls"] = [{**c, "index": i} if type(c) is dict else c for i, c in enumerate(calls)]
            rest = {k: v for k, v in choice.items() if k != "message"}
            choices.append({"index": position, **rest, "delta": delta})
        events = self.feed({**completion, "object": "chat.completion.chunk", "choices": choices})
        self.done()
        return events + self.finish()

    def done(self) -> None:
        """Say that the server ended the answer on purpose (``[DONE]``)."""
        self._done = True

    def finish(self) -> Events:
        """Close what is open.

        Returns:
            The wanted closing events that have not come yet, for servers that end without a finish reason. None
            where the answer is not `complete`: half a text is not done, half a tool call must not run.
        """
        events: Events = []
        if self.complete:
            for choice in self._choices.values():
                self._close(choice, events)
        return events

    @property
    def complete(self) -> bool:
        """Whether every choice has a finish reason, or `done` was said; not once an error came before that."""
        if self.error is not None:
            return self.error_is_late
        return self._done or (bool(self._choices) and all(c.finish_reason for c in self._choices.values()))

    @property
    def message(self) -> dict[str, Any]:
        """The assistant message of choice 0 so far, as a new dict."""
        return self._first.message(self.id)

    @property
    def choices(self) -> list[dict[str, Any]]:
        """All choices so far: ``index``, ``message``, ``finish_reason``, ``logprobs``."""
        return [self._choices[i].to_dict(self.id) for i in sorted(self._choices)]

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of choice 0, or None."""
        return self._first.finish_reason

    @property
    def parsed(self) -> Any:
        """The decoded content of choice 0 where `response_format` asks for JSON, else None."""
        return self._parsed(self._first)

    @property
    def unfinished_tool_calls(self) -> bool:
        """Whether a tool call of choice 0 was cut off: its arguments are not JSON (empty ones are, at the end)."""
        at_end = self.complete and self._first.finish_reason != "length"
        return any(not c.is_whole() and (c.arguments or not at_end) for c in self._first.calls)

    @property
    def _first(self) -> Choice:
        return self._choices.get(0) or Choice(0)

    def _feed(self, chunk: Any) -> Events:
        expect(chunk, dict, "the whole")
        failed = self._note_error(chunk)
        choices = chunk.get("choices")
        if choices is None:  # a usage chunk of some servers, a ping
            choices = ()
        else:
            expect(choices, list, "choices")
        self._note(chunk)
        events: Events = []
        if failed and not choices:
            return events
        if not _SAYS.intersection(chunk) or is_other(chunk):  # a ping, or something that some server adds
            return [(UNKNOWN, copied(chunk))] if UNKNOWN in self.wanted else events
        if CHUNK in self.wanted:
            events.append((CHUNK, copied(chunk)))
        for choice in choices:
            self._read(choice, events)
        return events

    def _note_error(self, chunk: Mapping[str, Any]) -> bool:
        found = chunk.get("error")
        if not found:
            words = chunk.get("message") or chunk.get("detail")
            if "choices" in chunk or not (chunk.get("object") == "error" or type(words) is str):
                return False
            found = chunk
        self.error_is_late = self.complete
        self.error = copied(found) if type(found) is dict else {"message": str(found)}
        return True

    def _note(self, chunk: Mapping[str, Any]) -> None:
        for key in ("id", "model", "service_tier", "system_fingerprint"):
            value = chunk.get(key)
            if value and type(value) is str:
                setattr(self, key, value)
        usage = chunk.get("usage")
        if type(usage) is dict:
            self.usage = copied(usage)
        elif usage is not None:
            pass_over(self.remarks, "usage", usage)

    def _read(self, raw: Any, events: Events) -> None:
        expect(raw, dict, "a choice")
        index = raw.get("index")
        if index is None:
            index = 0
        expect(index, int, "the index of a choice")
        if index < 0:
            raise ValueError(f"the index of a choice of a chat chunk is {index}; they are counted from 0")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = Choice(index)
        delta = raw.get("delta")
        if delta is None:  # filter results, or a last chunk that says the whole message
            said = choice.texts or choice.calls
            delta = {} if said or raw.get("message") is None else raw["message"]
        expect(delta, dict, "delta")
        calls = self._texts(choice, delta, events)
        if raw.get("logprobs") is not None:
            self._logprobs(choice, raw["logprobs"], events)
        for call in calls:
            self._call(choice, call, events)
        finish = raw.get("finish_reason")
        if finish:
            expect(finish, str, "finish_reason")
            choice.finish_reason = finish
        if choice.finish_reason:
            self._close(choice, events)
        if index == 0 and "content" in choice.texts:
            self._pieces = choice.texts["content"] if not choice.finish_reason else None

    def _texts(self, choice: Choice, delta: Mapping[str, Any], events: Events) -> list[Any]:
        """Content, refusal and the provider's extras; returns the tool call deltas."""
        content = refusal = None
        calls: list[Any] = []
        for key, value in delta.items():
            if value is None:
                continue
            if key == "content":
                content = choice.add_content(value)
            elif key == "refusal":
                expect(value, str, key)
                choice.add_text(key, value)
                refusal = value
            elif key == "tool_calls":
                expect(value, list, key)
                calls = value
            elif key == "role":
                expect(value, str, key)  # an answer is the assistant's, whatever a provider calls it
            else:
                choice.add_field(key, value)
        wanted = self.wanted
        if content is not None:
            if choice.index == 0:
                self.text_delta = content
            if CONTENT in wanted:
                events.append((CONTENT, {"delta": content, "snapshot": choice.text("content")}))
            if CONTENT_DELTA in wanted:
                snapshot = choice.text("content")
                events.append((CONTENT_DELTA, {"delta": content, "snapshot": snapshot, "parsed": None}))
        if refusal is not None and REFUSAL_DELTA in wanted:
            events.append((REFUSAL_DELTA, {"delta": refusal, "snapshot": choice.text("refusal")}))
        return calls

    def _logprobs(self, choice: Choice, raw: Any, events: Events) -> None:
        if not choice.add_logprobs(raw):
            pass_over(self.remarks, "logprobs", raw)
            return
        for key, delta_name, _ in _LOGPROBS:
            if raw.get(key) and delta_name in self.wanted:
                shown = self._shown.setdefault((choice.index, key), [])
                known = (choice.logprobs or {}).get(key) or []
                fresh = copied(known[len(shown) :])  # more than this delta where the listener came late
                shown += fresh
                tokens = fresh[-len(raw[key]) :]
                events.append((delta_name, {key: tokens, "snapshot": list(shown)}))

    def _call(self, choice: Choice, raw: Any, events: Events) -> None:
        call, arguments = choice.add_call(raw)
        if choice.open_call is not call:
            self._close(choice, events)
            choice.open_call = call
        if arguments is not None and call.kind == "function" and CALL_DELTA in self.wanted:
            payload = {
                "name": call.name,
                "index": call.position,
                "arguments": call.arguments,
                "parsed_arguments": None,
                "arguments_delta": arguments,
            }
            events.append((CALL_DELTA, payload))

    def _close(self, choice: Choice, events: Events) -> None:
        """Events of what is done: the texts, their log probabilities, the open tool call; each once."""
        told, wanted = choice.told, self.wanted
        content = choice.text("content")
        if content and "content" not in told:
            told.add("content")
            if CONTENT_DONE in wanted:
                events.append((CONTENT_DONE, {"content": content, "parsed": self._parsed(choice)}))
        refusal = choice.text("refusal")
        if refusal is not None and "refusal" not in told:
            told.add("refusal")
            if REFUSAL_DONE in wanted:
                events.append((REFUSAL_DONE, {"refusal": refusal}))
        for key, _, done_name in _LOGPROBS if choice.logprobs else ():
            tokens = (choice.logprobs or {})[key]
            if tokens is not None and f"logprobs.{key}" not in told:
                told.add(f"logprobs.{key}")
                if done_name in wanted:
                    events.append((done_name, {key: copied(tokens)}))
        if choice.open_call is not None and choice.open_call.position not in told:
            told.add(choice.open_call.position)
            self._close_call(choice.open_call, events)

    def _close_call(self, call: ToolCall, events: Events) -> None:
        if call.kind == "function" and CALL_DONE in self.wanted:
            arguments = call.arguments
            payload = {"name": call.name, "index": call.position, "arguments": arguments}
            events.append((CALL_DONE, {**payload, "parsed_arguments": decoded(arguments)}))

    def _parsed(self, choice: Choice) -> Any:
        content = choice.text("content")
        return decoded(content) if self._is_json and content and not choice.text("refusal") else None
