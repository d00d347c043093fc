"""The responses of a session: begun, filled item by item and part by part, ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.wire.realtime import field as read
from voxnb.wire.realtime.item import Item, Part
from voxnb.wire.realtime.ledger import ItemLedger

STATUSES: Final = frozenset({"completed", "cancelled", "failed", "incomplete"})

KEPT_ENDED: Final = 64
"""How many responses that have ended are remembered, to know their late events."""


@dataclass(slots=True)
class Response:
    """One response.

    Attributes:
        id: the server's id.
        in_conversation: it belongs to the conversation; else it runs beside it, out of band.
        status: ``in_progress``, then one of `STATUSES`.
        reason: why it was cancelled, failed or cut, or "".
        items: output index → item id.
        usage: as reported.
    """

    id: str
    in_conversation: bool = True
    status: str = "in_progress"
    reason: str = ""
    items: dict[int, str] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_tokens(self) -> int:
        """Tokens read and written, 0 where the server does not say."""
        value = self.usage.get("total_tokens")
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class Responses:
    """The responses of one session.

    Args:
        items: the session's items; what responses make is added to them.

    Attributes:
        newest: id of the conversation's newest response, or None.
    """

    def __init__(self, items: ItemLedger) -> None:
        self._items = items
        self._known: dict[str, Response] = {}
        self.newest: str | None = None
        self._sounding: Item | None = None  # what the last sound was of: mostly the next is, too

    def get(self, response_id: Any) -> Response | None:
        """A response, as long as it is remembered."""
        return self._known.get(response_id) if isinstance(response_id, str) else None

    def items_of(self, response: Response) -> list[Item]:
        """What a response has made, in order."""
        made = [self._items.get(response.items[index]) for index in sorted(response.items)]
        return [item for item in made if item is not None]

    def create(self, event: Mapping[str, Any], *, active: str | None) -> Response:
        """``response.created``.

        Args:
            event: what came.
            active: id of the conversation's response under way.
        """
        response_id = read.id_of(event, "response")
        told = event["response"]
        in_conversation = told.get("conversation_id", "") is not None
        if response_id in self._known:
            raise read.wrong(event, f"for {response_id!r} a second time")
        if in_conversation and active is not None:
            raise read.wrong(event, f"for {response_id!r} while {active!r} is active")
        made = self._known[response_id] = Response(response_id, in_conversation)
        self.newest = response_id if in_conversation else self.newest
        return made

    def end(self, event: Mapping[str, Any], problems: list[str]) -> Response:
        """``response.done``."""
        response = self._under_way(event, read.id_of(event, "response"))
        told = event["response"]
        status = told.get("status")
        if status not in STATUSES:
            raise read.wrong(event, f"with the status {status!r}")
        details, usage = told.get("status_details"), told.get("usage")
        response.status = status
        response.reason = _reason(details) if isinstance(details, Mapping) else ""
        response.usage = usage if isinstance(usage, Mapping) else {}
        items = [self._items.get(item_id) for item_id in response.items.values()]
        if status == "completed" and any(item is not None and not item.done for item in items):
            problems.append("response.done before all of its items were")
        for item in items:
            if item is not None:
                item.done = True
        ended = [known.id for known in self._known.values() if known.status != "in_progress"]
        for oldest in ended[:-KEPT_ENDED]:
            del self._known[oldest]
        return response

    def sound(self, event: Mapping[str, Any], bytes_per_ms: int, problems: list[str]) -> bytes:
        """``response.output_audio.delta``: the sound that it brings."""
        item = self._sounding
        if item is None or item.done or (event.get("item_id"), event.get("response_id")) != (item.id, item.response_id):
            item = self._sounding = self._item(event)
        index = self._index(event)
        sound = read.audio(event, "delta")
        part = item.parts.get(index)
        if part is not None and (part.audio_done or part.done):
            raise read.wrong(event, "after the audio's end")
        part = self._part(event, item, index, "output_audio", problems)
        if bytes_per_ms == PCM and len(sound) % 2:
            problems.append("response.output_audio.delta with half a sample at its end")
            sound = sound[:-1]
        item.bytes_per_ms = bytes_per_ms
        part.audio_bytes += len(sound)
        return sound

    def take(self, event: Mapping[str, Any], problems: list[str]) -> None:
        """Any other ``response`` event."""
        handle = HANDLERS.get(event["type"])
        if handle is not None:
            handle(self, event, problems)

    # -- items and parts ----------------------------------------------------------------------

    def _item_added(self, event: Mapping[str, Any], problems: list[str]) -> None:  # noqa: ARG002 - all are called alike
        response = self._under_way(event, read.text(event, "response_id"))
        index = read.whole(event, "output_index")
        if index in response.items:
            raise read.wrong(event, f"for output_index {index} a second time")
        item = self._items.output(event, response_id=response.id)
        response.items[index] = item.id
        if item.type == "message" and item.role is None:
            item.role = "assistant"

    def _item_done(self, event: Mapping[str, Any], problems: list[str]) -> None:
        response = self._under_way(event, read.text(event, "response_id"))
        read.whole(event, "output_index")
        item_id = read.id_of(event, "item")
        item = self._items.get(item_id)
        if item is None or item.response_id != response.id:
            raise read.wrong(event, f"for {item_id!r}, which this response did not begin")
        told = event["item"].get("arguments")
        if isinstance(told, str) and len(told) > len(item.arguments):
            item.arguments = told
        if not item.added and response.in_conversation:
            problems.append("response.output_item.done before conversation.item.added")
        item.done = True

    def _part_added(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item, index = self._item(event), self._index(event)
        kind = _kind(event)
        known = item.parts.get(index)
        if known is not None:
            if known.done or known.audio_bytes or known.text:
                raise read.wrong(event, f"for content_index {index} a second time")
            problems.append("response.content_part.added for a part that the item had")
        item.parts[index] = Part(kind)

    def _part_done(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item, index = self._item(event), self._index(event)
        kind = _kind(event)
        self._not_done(event, item, index)
        part = self._part(event, item, index, kind, problems)
        part.done = True

    def _words(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item, index, delta = self._item(event), self._index(event), read.text(event, "delta", empty=True)
        self._not_done(event, item, index, words=True)
        kind = "output_text" if event["type"].startswith("response.output_text") else "output_audio"
        self._part(event, item, index, kind, problems).text += delta

    def _words_done(self, event: Mapping[str, Any], problems: list[str]) -> None:
        is_text = event["type"].startswith("response.output_text")
        item, index = self._item(event), self._index(event)
        whole = read.text(event, "text" if is_text else "transcript", empty=True)
        self._not_done(event, item, index, words=True)
        part = self._part(event, item, index, "output_text" if is_text else "output_audio", problems)
        part.text, part.text_done = whole, True

    def _sound_done(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item, index = self._item(event), self._index(event)
        known = item.parts.get(index)
        if known is not None and (known.audio_done or known.done):
            raise read.wrong(event, "a second time")
        self._part(event, item, index, "output_audio", problems).audio_done = True

    def _arguments(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item, delta = self._item(event), read.text(event, "delta", empty=True)
        if item.arguments_done:
            raise read.wrong(event, "after the arguments' end")
        if item.type == "message":
            problems.append(f"{event['type']} for a message")
        item.arguments += delta

    def _arguments_done(self, event: Mapping[str, Any], problems: list[str]) -> None:
        item, whole = self._item(event), read.text(event, "arguments", empty=True)
        call_id, name = read.optional_text(event, "call_id"), read.optional_text(event, "name")
        if item.arguments_done:
            raise read.wrong(event, "a second time")
        if item.type == "message":
            problems.append(f"{event['type']} for a message")
        item.arguments, item.arguments_done = whole, True
        item.call_id, item.name = item.call_id or call_id, item.name or name

    # -- checks -------------------------------------------------------------------------------

    def _under_way(self, event: Mapping[str, Any], response_id: str) -> Response:
        response = self._known.get(response_id)
        if response is None:
            raise read.wrong(event, f"for {response_id!r}, which was never created")
        if response.status != "in_progress":
            raise read.wrong(event, f"for {response_id!r}, which has ended ({response.status})")
        return response

    def _item(self, event: Mapping[str, Any]) -> Item:
        """The item that an event fills, of a response that is under way."""
        response = self._under_way(event, read.text(event, "response_id"))
        item_id = read.text(event, "item_id")
        item = self._items.get(item_id)
        if item is None or item.response_id != response.id:
            raise read.wrong(event, f"for {item_id!r}, which this response did not begin")
        if item.done:
            raise read.wrong(event, f"for {item_id!r}, which is done")
        return item

    def _index(self, event: Mapping[str, Any]) -> int:
        return 0 if event.get("content_index") is None else read.whole(event, "content_index")

    def _not_done(self, event: Mapping[str, Any], item: Item, index: int, *, words: bool = False) -> None:
        part = item.parts.get(index)
        if part is not None and (part.done or (words and part.text_done)):
            raise read.wrong(event, f"for content_index {index}, which is done")

    def _part(self, event: Mapping[str, Any], item: Item, index: int, kind: str, problems: list[str]) -> Part:
        part = item.parts.get(index)
        if part is None:
            problems.append(f"{event['type']} without response.content_part.added")
            part = item.parts[index] = Part(kind)
        part.kind = part.kind or kind
        return part


PCM: Final = 48

Handler = Callable[[Responses, Mapping[str, Any], list[str]], None]

HANDLERS: Final[Mapping[str, Handler]] = {
    "response.output_item.added": Responses._item_added,  # noqa: SLF001 - of this module
    "response.output_item.done": Responses._item_done,  # noqa: SLF001 - of this module
    "response.content_part.added": Responses._part_added,  # noqa: SLF001 - of this module
    "response.content_part.done": Responses._part_done,  # noqa: SLF001 - of this module
    "response.output_text.delta": Responses._words,  # noqa: SLF001 - of this module
    "response.output_text.done": Responses._words_done,  # noqa: SLF001 - of this module
    "response.output_audio_transcript.delta": Responses._words,  # noqa: SLF001 - of this module
    "response.output_audio_transcript.done": Responses._words_done,  # noqa: SLF001 - of this module
    "response.output_audio.done": Responses._sound_done,  # noqa: SLF001 - of this module
    "response.function_call_arguments.delta": Responses._arguments,  # noqa: SLF001 - of this module
    "response.function_call_arguments.done": Responses._arguments_done,  # noqa: SLF001 - of this module
    "response.mcp_call_arguments.delta": Responses._arguments,  # noqa: SLF001 - of this module
    "response.mcp_call_arguments.done": Responses._arguments_done,  # noqa: SLF001 - of this module
}


def _kind(event: Mapping[str, Any]) -> str:
    """The kind of a part; its events say ``audio`` where items say ``output_audio``."""
    kind = read.mapping(event, "part").get("type")
    if not isinstance(kind, str):
        return ""
    return f"output_{kind}" if kind in ("audio", "text") else kind


def _reason(details: Mapping[str, Any]) -> str:
    error = details.get("error")
    for found in (error.get("code") if isinstance(error, Mapping) else None, details.get("reason")):
        if isinstance(found, str):
            return found
    return ""
