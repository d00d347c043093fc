"""The events that a whole response stands for, in the order in which the service streams them.

Source: openai-python ``types/responses/response_stream_event.py``, the service's streaming reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final

from voxnb.wire.choice import copied
from voxnb.wire.ending import ENDED

Event = dict[str, Any]
Pieces = Callable[[str], list[str]]

STEPS: Final = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_call": ("in_progress", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
}
"""What a built-in tool's call goes through, as the last words of its wire types."""

_WRITTEN: Final = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
    "mcp_call": ("arguments", "response.mcp_call_arguments"),
    "code_interpreter_call": ("code", "response.code_interpreter_call_code"),
}
"""Keys of an item whose text is streamed, and the wire types of it less their last word."""

_TEXTS: Final = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}
_PLACE: Final = ("output_index", "content_index", "summary_index", "annotation_index")


def events_of(response: Mapping[str, Any], *, pieces: Pieces | None = None) -> Iterator[Event]:
    """The stream of a response.

    Args:
        response: whole, as an unstreamed request gets it.
        pieces: how a text is cut into deltas; default one.

    Yields:
        Events with ``sequence_number``, from ``response.created`` to the one that says how it ended. The events share
        no parts with the response, and none with each other.
    """
    cut = pieces or _whole
    numbers = count()
    status = response.get("status")
    start = {**response, "status": "in_progress" if status != "queued" else status, "output": [], "usage": None}
    start |= {k: None for k in ("error", "incomplete_details", "completed_at") if k in response}
    yield _event("response.created", numbers, response=start)
    if status == "queued":
        yield _event("response.queued", numbers, response=start)
        return
    yield _event("response.in_progress", numbers, response=start)
    output = response.get("output")
    for index, item in enumerate(output if isinstance(output, list) else ()):
        if isinstance(item, Mapping):
            for event in _item(item, cut):
                yield _event(event.pop("type"), numbers, output_index=index, **event)
    if status in ENDED or status is None:
        yield _event(f"response.{status or 'completed'}", numbers, response=dict(response))


class Told:
    """What came of an answer's stream, so that of the whole answer only the rest is told, and numbered from there.

    Attributes:
        last: the event that came last; the next one's ``sequence_number`` follows its.
    """

    def __init__(self) -> None:
        self.last: Mapping[str, Any] = {}
        self._steps: set[tuple[Any, ...]] = set()

    def note(self, kind: str, event: Mapping[str, Any]) -> None:
        """An event came."""
        self.last = event
        if not kind.endswith(".delta"):
            self._steps.add(_step(kind, event))

    def rest(
        self, response: Mapping[str, Any], *, items: Mapping[int, tuple[Mapping[str, Any], bool]]
    ) -> Iterator[Event]:
        """The stream of a response less what was told before; of a text, the rest of it.

        Args:
            response: as of `events_of`.
            items: ``output_index`` → what came of an item, and whether it was said to be done.
        """
        number = self.last.get("sequence_number")
        numbers = count(number + 1 if type(number) is int else 0)
        told = set(self._steps)
        for event in events_of(response):
            known, done = items.get(event.get("output_index", -1), (None, False))
            if done or _step(event["type"], event) in told:
                continue
            fresh = event if known is None else _rest(event, known)
            if fresh is not None:
                yield {**fresh, "sequence_number": next(numbers)}


def _step(kind: str, event: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an event that comes once says: its type, and where."""
    return (kind, *(str(event.get(key)) for key in _PLACE))


def _rest(event: Event, item: Mapping[str, Any]) -> Event | None:
    """What an event of an item says beyond what came of it."""
    stem, _, last = str(event["type"]).rpartition(".")
    if stem == "response.output_item" and last == "added":
        return None
    held: Any = item
    for field, key in (("content", "content_index"), ("summary", "summary_index")):
        if key in event:
            parts = item.get(field)
            held = parts[event[key]] if isinstance(parts, list) and event[key] < len(parts) else None
    if not isinstance(held, Mapping):
        return event
    if last == "added" and "part" in event:
        return None
    if last == "delta":
        key = _TEXTS.get(str(held.get("type")), _WRITTEN.get(str(held.get("type")), ("text", "")))[0]
        rest = str(event["delta"]).removeprefix(str(held.get(key) or ""))
        return {**event, "delta": rest} if rest else None
    return event


def _whole(text: str) -> list[str]:
    return [text] if text else []


def _event(kind: str, numbers: Iterator[int], **fields: Any) -> Event:
    return {"type": kind, "sequence_number": next(numbers), **{k: copied(v) for k, v in fields.items()}}


def _item(item: Mapping[str, Any], cut: Pieces) -> Iterator[Event]:
    kind, identity = str(item.get("type")), item.get("id")
    begun = {**item, "status": "in_progress"} if "status" in item else dict(item)
    emptied: dict[str, Any] = {k: [] for k in ("content", "summary") if isinstance(item.get(k), list)}
    if kind in _WRITTEN and isinstance(item.get(_WRITTEN[kind][0]), str):
        emptied[_WRITTEN[kind][0]] = ""
    emptied |= {k: None for k in ("encrypted_content", "result", "output", "results") if item.get(k)}
    yield {"type": "response.output_item.added", "item": {**begun, **emptied}}
    steps = STEPS.get(kind, ())
    if steps and item.get("status") == "failed" and kind in ("mcp_call", "mcp_list_tools"):
        steps = (*steps[:-1], "failed")
    for step in steps[:1]:
        yield {"type": f"response.{kind}.{step}", "item_id": identity}
    for field, part_type in (("summary", "reasoning_summary_part"), ("content", "content_part")):
        parts = item.get(field)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, Mapping):
                yield from _part(
                    part, {"item_id": identity, f"{part_type.split('_')[-2]}_index": index}, part_type, cut
                )
    if kind in _WRITTEN and isinstance(text := item.get(_WRITTEN[kind][0]), str):
        field, stem = _WRITTEN[kind]
        for piece in cut(text):
            yield {"type": f"{stem}.delta", "item_id": identity, "delta": piece}
        named = {"name": item.get("name")} if kind == "function_call" else {}
        yield {"type": f"{stem}.done", "item_id": identity, field: text, **named}
    for step in steps[1:]:
        yield {"type": f"response.{kind}.{step}", "item_id": identity}
    yield {"type": "response.output_item.done", "item": dict(item)}


def _part(part: Mapping[str, Any], place: Mapping[str, Any], kind: str, cut: Pieces) -> Iterator[Event]:
    key, stem = _TEXTS.get(str(part.get("type")), ("text", ""))
    if kind == "reasoning_summary_part":
        stem = "response.reasoning_summary_text"
    text = part.get(key)
    is_text = bool(stem) and isinstance(text, str)
    notes = part.get("annotations")
    empty = {**part, key: ""} if is_text else dict(part)
    empty |= {k: [] for k in ("annotations", "logprobs") if isinstance(part.get(k), list)}
    yield {"type": f"response.{kind}.added", **place, "part": empty}
    if is_text:
        is_answer = part.get("type") == "output_text"
        probabilities: dict[str, Any] = {"logprobs": []} if is_answer else {}
        for piece in cut(str(text)):
            yield {"type": f"{stem}.delta", **place, "delta": piece, **probabilities}
        for n, note in enumerate(notes if isinstance(notes, list) else ()):
            yield {"type": f"{stem}.annotation.added", **place, "annotation_index": n, "annotation": note}
        if is_answer and isinstance(part.get("logprobs"), list):
            probabilities = {"logprobs": part["logprobs"]}
        yield {"type": f"{stem}.done", **place, key: text, **probabilities}
    yield {"type": f"response.{kind}.done", **place, "part": dict(part)}
