"""The grammar of a session: which server events may follow which.

`Order` is fed what a server sends, one event at a time, and says what is wrong. It accepts what the service was seen to do: a
missing `rate_limits.updated`, a ``previous_item_id`` that is null, the old `conversation.item.created` beside the new
names, transcripts of the user at any time after the item.

Source: OpenAI Realtime API reference and recorded traffic of ``gpt-realtime`` (2026).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_DELTAS: Final[Mapping[str, str]] = {
    "response.output_audio.delta": "",
    "response.output_audio_transcript.delta": "transcript",
    "response.output_text.delta": "text",
}
_DONES: Final[Mapping[str, str]] = {
    "response.output_audio.done": "",
    "response.output_audio_transcript.done": "transcript",
    "response.output_text.done": "text",
}
_FREE: Final = frozenset(
    {
        "error", "rate_limits.updated", "conversation.created", "conversation.item.created",
        "conversation.item.retrieved", "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.started", "output_audio_buffer.stopped", "output_audio_buffer.cleared",
        "mcp_list_tools.in_progress", "mcp_list_tools.completed", "mcp_list_tools.failed",
    }
)  # fmt: skip
"""May come at any time after `session.created`."""

_CHECKS: Final[Mapping[str, str]] = {
    "session.updated": "_updated",
    "conversation.item.added": "_item_added",
    "conversation.item.done": "_item_done",
    "conversation.item.truncated": "_truncated",
    "conversation.item.deleted": "_deleted",
    "input_audio_buffer.speech_started": "_speech_started",
    "input_audio_buffer.speech_stopped": "_speech_stopped",
    "input_audio_buffer.timeout_triggered": "_timeout",
    "input_audio_buffer.committed": "_commit",
    "input_audio_buffer.cleared": "_cleared",
    "response.created": "_response_created",
    "response.done": "_response_done",
    "response.output_item.added": "_output_added",
    "response.output_item.done": "_output_done",
    "response.content_part.added": "_part_added",
    "response.content_part.done": "_part_done",
    "response.function_call_arguments.delta": "_arguments_delta",
    "response.function_call_arguments.done": "_arguments_done",
    "response.mcp_call_arguments.delta": "_arguments_delta",
    "response.mcp_call_arguments.done": "_arguments_done",
    "response.mcp_call.in_progress": "_remote_call",
    "response.mcp_call.completed": "_remote_call",
    "response.mcp_call.failed": "_remote_call",
    **dict.fromkeys(_DELTAS, "_part_delta"),
    **dict.fromkeys(_DONES, "_stream_done"),
}
"""Event → the method that checks it."""


@dataclass
class _Part:
    kind: str
    told: dict[str, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    is_done: bool = False


@dataclass
class _Output:
    id: str
    kind: str
    parts: dict[int, _Part] = field(default_factory=dict)
    arguments: str = ""
    has_arguments: bool = False
    is_done: bool = False


@dataclass
class _Response:
    in_conversation: bool
    outputs: list[_Output] = field(default_factory=list)


class Order:
    """The state of a session as its events tell it.

    Attributes:
        problems: what was wrong so far, as sentences; empty where all was legal.
        count: events fed.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.count = 0
        self._ids: set[str] = set()
        self._responses: dict[str, _Response] = {}
        self._over: set[str] = set()
        self._items: dict[str, str] = {}  # id → "added" or "done"
        self._gone: set[str] = set()
        self._committed: set[str] = set()
        self._transcribed: set[str] = set()
        self._speech: str | None = None
        self._has_stopped = False
        self._input_format: Any = None
        self._timeline_ms = 0.0
        self._kind = ""

    def feed(self, event: Mapping[str, Any], /) -> list[str]:
        """Take the next event.

        Args:
            event: as it was sent, decoded.

        Returns:
            What is wrong with it here.
        """
        before = len(self.problems)
        self.count += 1
        self._kind = str(event.get("type"))
        event_id = event.get("event_id")
        self._expect(isinstance(event_id, str), "has no event_id")
        self._expect(event_id not in self._ids, f"repeats the event_id {event_id!r}")
        self._ids.add(str(event_id))
        if self._kind == "session.created":
            self._expect(self.count == 1, "comes again")
            self._updated(event)
        else:
            self._expect(self.count > 1, "comes before session.created")
            check = _CHECKS.get(self._kind)
            if check is not None:
                getattr(self, check)(event)
            elif self._kind.startswith("conversation.item.input_audio_transcription."):
                self._transcription(event)
            elif self._kind not in _FREE:
                self._expect(False, "is no event of the API")
        return self.problems[before:]

    def finish(self) -> list[str]:
        """Say what is left open where a session ends in peace: responses and items that were not done."""
        before = len(self.problems)
        self._kind = "the end"
        for name in self._responses:
            self._expect(False, f"leaves response {name!r} without response.done")
        for name, state in self._items.items():
            self._expect(state == "done", f"leaves item {name!r} without conversation.item.done")
        return self.problems[before:]

    def _expect(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - the condition is what it is about
        if not holds:
            self.problems.append(f"event {self.count}: {self._kind} {otherwise}")

    # -- items ------------------------------------------------------------------------------------

    def _item_added(self, event: Mapping[str, Any]) -> None:
        item = event["item"]
        name = item["id"]
        self._expect(name not in self._items, f"adds item {name!r} again")
        self._known(event.get("previous_item_id"))
        owners = [o for r in self._responses.values() for o in r.outputs if o.id == name]
        if owners:
            self._expect(not owners[0].parts, f"adds item {name!r} after its content began")
        elif item.get("role") == "user" and any(p["type"] == "input_audio" for p in item["content"]):
            # Spoken, or sent whole by conversation.item.create: then nothing was committed.
            self._committed.discard(name)
        self._items[name] = "added"

    def _item_done(self, event: Mapping[str, Any]) -> None:
        name = event["item"]["id"]
        self._expect(self._items.get(name) == "added", f"ends item {name!r}, which is not open")
        outputs = [o for r in self._responses.values() for o in r.outputs if o.id == name]
        if outputs:
            self._expect(not outputs[0].is_done, f"ends item {name!r} after response.output_item.done")
            self._expect(all(p.is_done for p in outputs[0].parts.values()), f"ends item {name!r} within its content")
        self._items[name] = "done"

    def _truncated(self, event: Mapping[str, Any]) -> None:
        self._present(event["item_id"])

    def _deleted(self, event: Mapping[str, Any]) -> None:
        self._present(event["item_id"])
        self._items.pop(event["item_id"], None)
        self._gone.add(event["item_id"])

    def _present(self, name: str) -> None:
        self._expect(name in self._items, f"names item {name!r}, which is not there")

    def _known(self, name: str | None) -> None:
        self._expect(
            name is None or name == "root" or name in self._items or name in self._gone,
            f"names the previous item {name!r}, which is not there",
        )

    def _transcription(self, event: Mapping[str, Any]) -> None:
        name = event["item_id"]
        self._expect(name in self._items or name in self._gone, f"is about item {name!r}, which is not there")
        self._expect(name not in self._transcribed, f"comes after the transcript of {name!r} was complete")
        if self._kind.endswith((".completed", ".failed")):
            self._transcribed.add(name)

    # -- the input buffer -------------------------------------------------------------------------

    def _speech_started(self, event: Mapping[str, Any]) -> None:
        self._expect(self._speech is None, "comes while speech goes on")
        self._expect(event["audio_start_ms"] >= self._timeline_ms, "goes back on the timeline")
        self._speech, self._timeline_ms = event["item_id"], event["audio_start_ms"]
        self._has_stopped = False

    def _speech_stopped(self, event: Mapping[str, Any]) -> None:
        self._expect(self._speech == event["item_id"], f"ends speech {event['item_id']!r}, which did not begin")
        self._expect(not self._has_stopped, "comes again")
        self._expect(event["audio_end_ms"] >= self._timeline_ms, "ends before it began")
        self._timeline_ms, self._has_stopped = event["audio_end_ms"], True

    def _timeout(self, event: Mapping[str, Any]) -> None:
        self._expect(self._speech is None, "comes while speech goes on")
        self._expect(event["audio_end_ms"] >= event["audio_start_ms"], "ends before it began")

    def _commit(self, event: Mapping[str, Any]) -> None:
        name = event["item_id"]
        self._expect(name not in self._items, f"commits item {name!r}, which is there already")
        self._expect(name not in self._committed, f"commits item {name!r} again")
        self._known(event.get("previous_item_id"))
        self._committed.add(name)
        self._speech = None

    def _updated(self, event: Mapping[str, Any]) -> None:
        """Without turn detection, and in another format, what was being said is forgotten."""
        hearing = ((event["session"].get("audio") or {}).get("input")) or {}
        if hearing.get("turn_detection") is None or hearing.get("format") != self._input_format:
            self._speech = None
        self._input_format = hearing.get("format")

    def _cleared(self, _event: Mapping[str, Any]) -> None:
        self._speech = None

    # -- responses --------------------------------------------------------------------------------

    def _response_created(self, event: Mapping[str, Any]) -> None:
        response = event["response"]
        name, in_conversation = response["id"], response.get("conversation_id") is not None
        self._expect(name not in self._responses and name not in self._over, f"begins response {name!r} again")
        self._expect(response.get("status") == "in_progress", f"has the status {response.get('status')!r}")
        busy = [n for n, r in self._responses.items() if r.in_conversation]
        self._expect(not (in_conversation and busy), f"begins a second response beside {busy!r}")
        self._expect(not self._committed, f"comes before the item of {sorted(self._committed)!r}")
        self._responses[name] = _Response(in_conversation)

    def _response_done(self, event: Mapping[str, Any]) -> None:
        response = event["response"]
        found = self._responses.pop(response["id"], None)
        self._expect(found is not None, f"ends response {response['id']!r}, which is not open")
        if found is None:
            return
        self._over.add(response["id"])
        self._expect(response.get("status") != "in_progress", "says in_progress")
        for output in found.outputs:
            self._expect(output.is_done, f"leaves item {output.id!r} open")
        told = [item["id"] for item in response.get("output") or ()]
        self._expect(told == [o.id for o in found.outputs], f"lists the items {told!r}")

    def _response(self, event: Mapping[str, Any]) -> _Response | None:
        found = self._responses.get(event["response_id"])
        self._expect(found is not None, f"belongs to response {event['response_id']!r}, which is not open")
        return found

    def _output(self, event: Mapping[str, Any]) -> _Output | None:
        found = self._response(event)
        index = event["output_index"]
        if found is None:
            return None
        name = event["item_id"] if "item_id" in event else event["item"]["id"]
        if not 0 <= index < len(found.outputs) or found.outputs[index].id != name:
            self._expect(False, f"names item {name!r} at {index}, which is not there")
            return None
        output: _Output = found.outputs[index]
        self._expect(not output.is_done, f"comes after item {name!r} was done")
        return output

    def _output_added(self, event: Mapping[str, Any]) -> None:
        found = self._response(event)
        if found is None:
            return
        self._expect(event["output_index"] == len(found.outputs), f"has the index {event['output_index']}")
        self._expect(all(o.is_done for o in found.outputs), "comes before the last item was done")
        found.outputs.append(_Output(event["item"]["id"], event["item"]["type"]))

    def _output_done(self, event: Mapping[str, Any]) -> None:
        output = self._output(event)
        if output is None:
            return
        self._expect(all(p.is_done for p in output.parts.values()), f"ends item {output.id!r} within its content")
        if output.kind == "function_call":
            self._expect(output.has_arguments, "comes before response.function_call_arguments.done")
        response = self._responses[event["response_id"]]
        if response.in_conversation:
            done = self._items.get(output.id) == "done" or output.id in self._gone
            self._expect(done, f"comes before conversation.item.done of {output.id!r}")
        output.is_done = True

    def _part_added(self, event: Mapping[str, Any]) -> None:
        output = self._output(event)
        if output is None:
            return
        index = event["content_index"]
        self._expect(index == len(output.parts), f"has the index {index}")
        if self._responses[event["response_id"]].in_conversation:
            there = output.id in self._items or output.id in self._gone
            self._expect(there, f"comes before conversation.item.added of {output.id!r}")
        output.parts[index] = _Part(event["part"]["type"])

    def _part(self, event: Mapping[str, Any]) -> _Part | None:
        output = self._output(event)
        part = output.parts.get(event["content_index"]) if output is not None else None
        if output is not None:
            self._expect(part is not None and not part.is_done, "belongs to no open content part")
        return part

    def _part_delta(self, event: Mapping[str, Any]) -> None:
        part = self._part(event)
        if part is None:
            return
        stream = self._kind.removesuffix(".delta")
        self._expect(stream not in part.finished, "comes after its done")
        self._expect(("text" in stream) == (part.kind == "text"), f"belongs to a part of {part.kind}")
        if _DELTAS[self._kind]:
            part.told[stream] = part.told.get(stream, "") + event["delta"]

    def _stream_done(self, event: Mapping[str, Any]) -> None:
        part = self._part(event)
        if part is None:
            return
        stream = self._kind.removesuffix(".done")
        self._expect(stream not in part.finished, "comes again")
        part.finished.add(stream)
        name = _DONES[self._kind]
        if name:
            told = part.told.get(stream, "")
            self._expect(event[name] == told, f"says {event[name]!r}, its deltas said {told!r}")

    def _part_done(self, event: Mapping[str, Any]) -> None:
        part = self._part(event)
        if part is None:
            return
        names = ("output_text",) if part.kind == "text" else ("output_audio", "output_audio_transcript")
        missing = [n for n in names if f"response.{n}" not in part.finished]
        self._expect(not missing, f"comes before the done of {', '.join(missing)}")
        part.is_done = True

    def _arguments_delta(self, event: Mapping[str, Any]) -> None:
        output = self._output(event)
        if output is not None:
            self._expect(output.kind in self._kind, f"belongs to a {output.kind}")
            self._expect(not output.has_arguments, "comes after its done")
            output.arguments += event["delta"]

    def _arguments_done(self, event: Mapping[str, Any]) -> None:
        output = self._output(event)
        if output is not None:
            self._expect(not output.has_arguments, "comes again")
            told, said = output.arguments, event["arguments"]
            self._expect(said == told, f"says {said!r}, its deltas said {told!r}")
            output.has_arguments = True

    def _remote_call(self, event: Mapping[str, Any]) -> None:
        name = event["item_id"]
        found = [o for r in self._responses.values() for o in r.outputs if o.id == name and o.has_arguments]
        self._expect(bool(found) and not found[0].is_done, f"is about {name!r}, which is no open call with arguments")


def problems(events: Iterable[Mapping[str, Any]], /) -> list[str]:
    """What is wrong with a whole session.

    Args:
        events: all server events of a connection, decoded, in order.

    >>> problems([{"type": "response.done", "event_id": "e1", "response": {"id": "r1", "output": []}}])[0]
    'event 1: response.done comes before session.created'
    """
    order = Order()
    for event in events:
        order.feed(event)
    return order.problems
