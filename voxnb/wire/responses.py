"""What the events of a streamed response mean: text, tool calls, items, usage, and the events of the namespace.

All of `ResponsesAPIEvents` but three come out of the stream (``ResponsesAPIError`` and ``ConnectorInformation`` are
the client's own), each with the server's event as it was sent. What has no constant is ``Unknown``.

Rule 1: the event that ends the response has the last word on its items; what it leaves empty stays as it was
streamed. Servers that send only deltas, only whole items or only the end give the same message.

Source: openai-python ``types/responses/response_stream_event.py``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

from voxnb.events import WIRE_TYPES, ResponsesAPIEvents
from voxnb.wire.answer import BETWEEN_MESSAGES, last_text, logprobs_of, message_of, text_of
from voxnb.wire.chat import Events
from voxnb.wire.choice import copied, decoded, expect, pass_over
from voxnb.wire.ending import BACKGROUND, ENDED, STARTS, contradiction, error_in, error_of, finish_reason, type_of
from voxnb.wire.item import OUTPUTS, as_input, call_id_of
from voxnb.wire.output import Output, OutputItem, items_in, place_of
from voxnb.wire.replay import STEPS, Told
from voxnb.wire.unicode import whole_unicode

NAMES: Final = {wire: name.value for name, wire in WIRE_TYPES[ResponsesAPIEvents].items()}
"""Wire type → constant."""

UNKNOWN: Final = ResponsesAPIEvents.Unknown.value
TEXT_DELTA: Final = "response.output_text.delta"
_TEXT: Final = NAMES[TEXT_DELTA]

_JSON_FORMATS: Final = ("json_object", "json_schema")
_EVENT: Final = "a response's event"
_ID_CHARACTERS: Final = 24

CALLED: Final = frozenset(OUTPUTS) - {"tool_search_call"}
"""Items that must say which id their answer names."""
# Wire type less its last word → where its text grows: the key, the key of its index, the type of a new part, the type
# of a new item, and the key of the whole text in its ``done``.
_GROWING: Final = {
    "response.output_text": ("content", "content_index", "output_text", "message", "text"),
    "response.refusal": ("content", "content_index", "refusal", "message", "refusal"),
    "response.reasoning_text": ("content", "content_index", "reasoning_text", "reasoning", "text"),
    "response.reasoning_summary_text": ("summary", "summary_index", "summary_text", "reasoning", "text"),
    "response.function_call_arguments": ("arguments", "", "", "function_call", "arguments"),
    "response.custom_tool_call_input": ("input", "", "", "custom_tool_call", "input"),
    "response.mcp_call_arguments": ("arguments", "", "", "mcp_call", "arguments"),
    "response.code_interpreter_call_code": ("code", "", "", "code_interpreter_call", "code"),
}
_PARTS: Final = {
    "response.content_part": ("content", "content_index", "message"),
    "response.reasoning_summary_part": ("summary", "summary_index", "reasoning"),
}


class ResponsesReader:
    """Reads one answer, event by event; the face is `ChatReader`'s.

    >>> reader = ResponsesReader()
    >>> reader.feed({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi"})
    []
    >>> reader.text_delta, reader.message["content"], reader.complete
    ('Hi', 'Hi', False)
    >>> reader.feed({"type": "response.completed", "response": {"id": "resp_1", "status": "completed"}})
    []
    >>> reader.complete, reader.finish_reason
    (True, 'stop')

    Attributes:
        wanted: names of the events to give out; may be replaced between two events. Empty is fastest.
        text_delta: text that the last event brought, or ``""``. All of them joined are the content (an empty line
            between two messages included) unless a server takes back what it streamed.
        usage: the usage block as sent (`Usage.from_dict` reads it), or None.
        error: the error of an ``error`` event or of a failed response, or None.
        error_is_late: whether it came after the end of the answer.
        id: the response's id, or None.
        model: the model that answered, or None.
        service_tier: as the server said, or None.
        system_fingerprint: as the server said, or None.
        status: the response's status as last said, or None.
        remarks: what could not be read, and the answer is whole without it; a sentence each.
    """

    def __init__(self, *, wanted: Container[str] = frozenset(), text_format: Mapping[str, Any] | None = None) -> None:
        """Start before the first event.

        Args:
            wanted: names of the events to give out.
            text_format: the request's ``text.format`` (or its ``text``), as sent; decides about ``parsed``.
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
        self.status: str | None = None
        self.remarks: list[str] = []
        given = text_format.get("format", text_format) if isinstance(text_format, Mapping) else None
        self._is_json = isinstance(given, Mapping) and given.get("type") in _JSON_FORMATS
        self._output = Output()
        self._told = Told()
        self._reason: str | None = None  # why it is incomplete
        self._ended = False  # a terminal event came
        self._done = False
        self._background = False  # it goes on without us
        self._shown: list[str] = []  # the text deltas so far
        self._shown_from: OutputItem | None = None  # the message of the last of them
        # Where the text grows now: (output_index, content_index), and the pieces there.
        self._place: tuple[int, int] | None = None
        self._pieces: list[str] = []

    def feed(self, event: Any, *, wire_type: str | None = None) -> Events:
        """Take the next event.

        Args:
            event: the decoded payload; the reader does not change it and keeps no part that it hands out.
            wire_type: its type, for servers that say it only in the ``event:`` line.

        Returns:
            The event under its constant where it is wanted, as a payload that belongs to the caller.

        Raises:
            ValueError: the event is none; the answer so far stays readable.
        """
        # Nearly every event of nearly every answer is one piece of text: that case is decided here, at once.
        place = self._place
        if (
            place is not None
            and type(event) is dict
            and event.get("type") == TEXT_DELTA
            and event.get("output_index") == place[0]
            and event.get("content_index") == place[1]
            and type(delta := event.get("delta")) is str
            and not event.get("logprobs")
        ):
            self._told.last = event
            self._pieces.append(delta)
            self._shown.append(delta)
            self.text_delta = delta
            return [(_TEXT, copied(event))] if _TEXT in self.wanted else []
        self.text_delta = ""
        try:
            return self._feed(event, wire_type)
        except RecursionError as error:
            raise ValueError("a response's event is nested too deeply") from error

    def feed_completion(self, response: Any) -> Events:
        """Take an unstreamed answer, as if it had come as those events that did not come before.

        Args:
            response: the decoded JSON body: whole, or ``queued`` or ``in_progress`` in the background.

        Returns:
            The wanted events.

        Raises:
            ValueError: the body is no response.
        """
        expect(response, dict, "the body", of="a response")
        self.text_delta = ""
        try:
            if (error := error_in(response)) is not None:
                self.error = error
                return []
            status = response.get("status") or ""
            if not status or response.get("output") is not None:
                expect(response.get("output"), list, "output", of="a response")
            expect(status, str, "status", of="a response")
            events: Events = []
            text = ""
            for event in self._told.rest(response, items=self._output.so_far()):
                events += self._feed(event, None)
                text += self.text_delta
                self.text_delta = ""
        except RecursionError as error:
            raise ValueError("a response is nested too deeply") from error
        self.text_delta = text
        self._background = status in BACKGROUND
        self._note_response(response, ends=not self._background)
        self.done()
        return events

    def done(self) -> None:
        """Say that the server ended the answer on purpose (``[DONE]``)."""
        self._done = True

    def finish(self) -> Events:
        """Close what is open: nothing, the server says every event itself."""
        return []

    @property
    def complete(self) -> bool:
        """Whether an event said how the response ended, or `done` was said and no ``error`` event came."""
        return self._ended or (self._done and self.error is None)

    @property
    def items(self) -> list[dict[str, Any]]:
        """The output items so far, as the server said them; a call without an id to answer it by has one made."""
        items = self._output.to_list()
        stem = (self.id or "answer").removeprefix("resp_")[-_ID_CHARACTERS:]
        for n, item in enumerate(items):
            if item.get("type") in CALLED and not call_id_of(item):
                item["call_id"] = item.get("id") or f"call_{stem}_{n}"
        return items

    @property
    def message(self) -> dict[str, Any]:
        """The assistant message so far, as a new dict; ``items`` holds what is sent back for it."""
        items = self.items
        message = message_of(items)
        if items:
            message["items"] = [as_input(item) for item in items]
        return message

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The answer in the shape of the one choice that it is; empty where nothing came."""
        if not self._output:
            return []
        items = self.items
        found = list(logprobs_of(items))
        logprobs = {"content": found, "refusal": None} if found else None
        return [{"index": 0, "message": self.message, "logprobs": logprobs, "finish_reason": self.finish_reason}]

    @property
    def finish_reason(self) -> str | None:
        """``stop``, ``tool_calls``, ``length``, ``content_filter``, ``error``, ``cancelled``; None before the end.

        A response in the background has its status, another reason why it is incomplete stays as it is.
        """
        if not self.complete:
            return None
        status = None if self.status in BACKGROUND and not self._background else self.status
        return finish_reason(status, self._reason, calls="tool_calls" in message_of(self.items))

    @property
    def parsed(self) -> Any:
        """The decoded text of the last message where JSON is asked for, else None."""
        if not self._is_json:
            return None
        items = self.items
        text = last_text(items)
        return decoded(text) if text and not message_of(items).get("refusal") else None

    @property
    def unfinished_tool_calls(self) -> bool:
        """Whether a call was cut off: its arguments are no JSON, or it is a custom tool's and was never closed."""
        at_end = self.complete and self.status != "incomplete"
        for item in self._output:
            kind = item.fields.get("type")
            if kind == "function_call":
                arguments = text_of(item.to_dict().get("arguments"))
                if (arguments or not at_end) and decoded(arguments, default=item) is item:
                    return True
            elif kind == "custom_tool_call" and not (item.closed or at_end):
                return True
        return False

    def _feed(self, event: Any, wire_type: str | None) -> Events:
        expect(event, dict, "the whole", of=_EVENT)
        kind = event.get("type") or wire_type or type_of(event)
        expect(kind, str, "type", of=_EVENT)
        self._read(kind, event)
        self._told.note(kind, event)
        name = NAMES.get(kind, UNKNOWN)
        return [(name, copied(event))] if name in self.wanted else []

    def _read(self, kind: str, event: Mapping[str, Any]) -> None:
        stem, _, last = kind.rpartition(".")
        if stem in _GROWING and last in ("delta", "done"):
            self._grow(stem, last, event)
        elif stem in _PARTS and last in ("added", "done"):
            field, index_key, item_kind = _PARTS[stem]
            part: Any = event.get("part")
            expect(part, dict, "part", of=_EVENT)
            self._item(event, item_kind).put(field, place_of(event, index_key) or 0, part)
            self._catch_up()
        elif stem == "response.output_item" and last in ("added", "done"):
            item: Any = event.get("item")
            expect(item, dict, "item", of=_EVENT)
            found = self._item(event, str(item.get("type") or "message"), item.get("id"))
            found.update(item)
            found.closed = found.closed or last == "done"
            self._catch_up()
        elif kind == "response.output_text.annotation.added":
            note = event.get("annotation")
            if note is not None:
                index = place_of(event, "content_index") or 0
                self._item(event, "message").note("content", index, "output_text", "annotations", [note])
        elif kind == "error":
            self.error_is_late = self._ended and self.error is None
            self.error = error_in(event)
        elif type(response := event.get("response")) is dict or (kind == "response.completed" and not response):
            self._note_response(response or {}, ends=kind not in STARTS)
        elif stem.removeprefix("response.") in STEPS:
            called = self._item(event, stem.removeprefix("response."))
            if last in ("completed", "failed"):
                called.fields["status"] = last

    def _grow(self, stem: str, last: str, event: Mapping[str, Any]) -> None:
        field, index_key, part_kind, item_kind, whole_key = _GROWING[stem]
        item = self._item(event, item_kind)
        index = (place_of(event, index_key) if index_key else None) or 0
        if last == "done":
            given = event.get(whole_key)
            if given is not None:
                item.set_text(field, index, part_kind, text_of(given))
            if not index_key:
                item.closed = True
            if event.get("name") and "name" not in item.fields:
                item.fields["name"] = text_of(event["name"])
            self._catch_up()
            return
        delta = event.get("delta")
        if delta is None:
            return
        expect(delta, str, "delta", of=_EVENT)
        pieces = item.pieces(field, index, part_kind)
        if stem == "response.output_text":
            if delta:
                self._show(item, delta)
            tokens = event.get("logprobs")
            if type(tokens) is list:
                item.note(field, index, part_kind, "logprobs", tokens)
            elif tokens is not None:
                pass_over(self.remarks, "logprobs", tokens)
            place = event.get("output_index")
            self._place = (place, index) if type(place) is int else None
            self._pieces = pieces
        pieces.append(delta)

    def _show(self, item: OutputItem, delta: str) -> None:
        """Give out a piece of text; the first of another message after an empty line."""
        if self._shown and item is not self._shown_from and any(self._shown):
            delta = BETWEEN_MESSAGES + delta
        self._shown_from = item
        self._shown.append(delta)
        self.text_delta = delta

    def _catch_up(self) -> None:
        """Give out the text that came whole, without deltas."""
        self._place = None
        text, shown = map(whole_unicode, (message_of(self.items)["content"] or "", "".join(self._shown)))
        self._shown = [shown] if shown else []
        if len(text) > len(shown) and text.startswith(shown):
            self.text_delta += text[len(shown) :]
            self._shown.append(text[len(shown) :])
            self._shown_from = [i for i in self._output if message_of([i.to_dict()])["content"]][-1]

    def _item(self, event: Mapping[str, Any], kind: str, identity: Any = None) -> OutputItem:
        identity = identity or event.get("item_id") or ""
        expect(identity, str, "item_id", of=_EVENT)
        return self._output.at(place_of(event, "output_index"), identity, kind)

    def _note_response(self, response: Mapping[str, Any], *, ends: bool) -> None:
        if self._ended and self.status == "completed" and (late := contradiction(response)):
            self.error, self.error_is_late = late, True
            return
        for key in ("id", "model", "service_tier", "system_fingerprint", "status"):
            value = response.get(key)
            if value and type(value) is str:
                setattr(self, key, value)
        usage = response.get("usage")
        if type(usage) is dict:
            self.usage = copied(usage)
        elif usage is not None:
            pass_over(self.remarks, "usage", usage)
        details = response.get("incomplete_details")
        if type(details) is dict and type(details.get("reason")) is str:
            self._reason = details["reason"]
        if response.get("output") is not None:
            self._note_output(response["output"], ends=ends)
        if not ends:
            return
        self._ended = True
        if self.status not in ENDED:
            self.status = "completed"
        for item in self._output:
            item.closed = True
            if item.fields.get("status") == "in_progress":
                item.fields["status"] = "completed" if self.status == "completed" else "incomplete"
        self.error = error_of(response) or self.error
        self._catch_up()

    def _note_output(self, output: Any, *, ends: bool) -> None:
        try:
            items = items_in(output)
        except ValueError:
            if not self._output:
                raise
            pass_over(self.remarks, "output", output)  # it would only repeat what came
        else:
            if items and ends:
                self._output.replace(items)
