"""The conversation of a session: a chain of items, each with what was said and, apart from it, its sound.

Rule 1: an item is told without its audio; only `conversation.item.retrieve` brings that.
Rule 2: truncation is real: the sound after the cut and the transcript are gone.

Source: OpenAI Realtime API reference, `conversation.item.*` (2026).
"""

from __future__ import annotations

import base64
import binascii
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voxnb.audio.formats import PCM_24K, AudioFormat
from voxnb.local.realtime.refusal import Refusal, invalid, missing, mistyped, unknown

ROOT: Final = "root"

CONTENT: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text", "output_audio"),
    "system": ("input_text",),
}
"""Role → the kinds of content that its messages may have."""

_KINDS: Final = ("message", "function_call", "function_call_output", "mcp_approval_response")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "function_call": ("name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "mcp_approval_response": ("approval_request_id", "approve"),
}


@dataclass(eq=False)
class Item:
    """An item and its sound.

    Attributes:
        data: the item of the wire, without audio.
        audio: content index → sound, as it was said or heard.
        form: how the sound is written.
        is_spoken: whether the model said it with audio in this session: only that can be truncated.
        counted: its tokens of audio and of text, once they are known.
    """

    data: dict[str, Any]
    audio: dict[int, bytes] = field(default_factory=dict)
    form: AudioFormat = PCM_24K
    is_spoken: bool = False
    counted: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.data["id"])

    def audio_ms(self, index: int = 0) -> float:
        """How long the sound of a content part lasts."""
        return self.form.duration_ms(len(self.audio.get(index, b"")))

    def told(self, *, with_audio: bool = False, least_bytes: int = 0) -> dict[str, Any]:
        """The item as it is sent.

        Args:
            with_audio: with its sound, as base64.
            least_bytes: of which there are at least so many; silence fills up what is missing.
        """
        out = dict(self.data)
        if "content" in out:
            out["content"] = [dict(part) for part in out["content"]]
        if with_audio:
            for index, data in self.audio.items():
                out["content"][index]["audio"] = base64.b64encode(data.ljust(least_bytes, b"\0")).decode()
        return out

    @property
    def text(self) -> str:
        """What it says: texts and transcripts, joined."""
        parts = (p.get("text") or p.get("transcript") for p in self.data.get("content") or ())
        return " ".join(p for p in parts if p)


class Conversation:
    """The items of a session in their order.

    Args:
        new_id: makes an id from a prefix.
    """

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self.id = new_id("conv")
        self._items: dict[str, Item] = {}
        self._order: list[str] = []

    def __iter__(self) -> Iterator[Item]:
        return (self._items[name] for name in self._order)

    def __len__(self) -> int:
        return len(self._order)

    def get(self, name: str, /) -> Item | None:
        """The item of that id, or None."""
        return self._items.get(name)

    @property
    def last_id(self) -> str | None:
        """The id of the last item, or None."""
        return self._order[-1] if self._order else None

    def previous_id(self, name: str, /) -> str | None:
        """The id of the item before that one, or None where it is the first."""
        place = self._order.index(name)
        return self._order[place - 1] if place else None

    def add(self, item: Item, /, *, after: str | None = None) -> None:
        """Put an item into the chain.

        Args:
            item: with an id that is not there.
            after: the id that it follows, ``root`` for the beginning, None for the end.
        """
        self._items[item.id] = item
        if after is None:
            self._order.append(item.id)
        else:
            self._order.insert(0 if after == ROOT else self._order.index(after) + 1, item.id)

    def create(self, given: Any, *, after: Any = None) -> Item:
        """Add the item of a `conversation.item.create`.

        Raises:
            Refusal: what the service refuses.
        """
        data = checked(given)
        if "id" in data and data["id"] in self._items:
            raise Refusal(
                "Error adding item: an item with that id already exists in the conversation.",
                code="item_create_duplicate_item_id",
                param="item.id",
            )
        if after is not None and after != ROOT and after not in self._items:
            raise Refusal(
                f"Error adding item: the previous item with id '{after}' does not exist.",
                code="item_create_invalid_previous_item_id",
                param="previous_item_id",
            )
        if data["type"] == "function_call_output":
            self._check_call(data["call_id"])
        item = Item({"id": data.get("id") or self._new_id("item"), "object": "realtime.item", **data})
        item.data["status"] = "completed"
        if item.data["type"] == "function_call":
            item.data.setdefault("call_id", self._new_id("call"))
        for index, part in enumerate(item.data.get("content") or ()):
            if "audio" in part:
                item.audio[index] = decoded(part.pop("audio"), param=f"item.content[{index}].audio")
                part.setdefault("transcript", None)
        self.add(item, after=after)
        return item

    def _check_call(self, call_id: str) -> None:
        calls = (i.data for i in self._items.values() if i.data["type"] == "function_call")
        if not any(data.get("call_id") == call_id for data in calls):
            raise Refusal(
                f"Tool call ID '{call_id}' not found in conversation.",
                code="invalid_tool_call_id",
                param="item.call_id",
            )

    def find(self, name: Any, *, verb: str) -> Item:
        """The item that a `retrieve`, `delete` or `truncate` means.

        Raises:
            Refusal: there is none.
        """
        if name is None:
            raise missing("item_id")
        item = self._items.get(name) if isinstance(name, str) else None
        if item is None:
            stem = {"retriev": "retrieve", "delet": "delete", "truncat": "truncate"}[verb]
            raise Refusal(
                f"Error {verb}ing item: the item with id '{name}' does not exist.",
                code=f"item_{stem}_invalid_item_id",
                param="item_id",
            )
        return item

    def delete(self, item: Item, /) -> None:
        """Take an item out of the chain."""
        del self._items[item.id]
        self._order.remove(item.id)

    def truncate(self, item: Item, /, *, content_index: Any, audio_end_ms: Any, skew_ms: int = 0) -> None:
        """Cut the sound of an item, and take its transcript away.

        Args:
            item: an assistant message with audio.
            content_index: which part.
            audio_end_ms: how much of it stays, in milliseconds.
            skew_ms: how much less there is than was sent.

        Raises:
            Refusal: another kind of item, or a cut after its end.
        """
        for name, value in (("content_index", content_index), ("audio_end_ms", audio_end_ms)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise missing(name) if value is None else mistyped(value, "an integer", param=name)
            if value < 0:
                raise Refusal(f"Invalid '{name}': {value} is below 0.", code="integer_below_min_value", param=name)
        if item.data.get("role") != "assistant":
            raise Refusal(
                "Only model output audio messages can be truncated.", code="invalid_item_type", param="item_id"
            )
        content = item.data["content"]
        if not item.is_spoken or not content or content_index not in item.audio:
            raise Refusal(
                f"Only audio content can be truncated; content {content_index} of item '{item.id}' has none.",
                code="unsupported_content_type",
                param="content_index",
            )
        have_ms = max(0.0, item.audio_ms(content_index) - skew_ms)
        if audio_end_ms > math.ceil(have_ms):
            raise Refusal(
                f"Audio content of {math.floor(have_ms)}ms is already shorter than {audio_end_ms}ms",
                code="invalid_value",
                param="audio_end_ms",
            )
        samples = audio_end_ms * item.form.rate_hz // 1_000
        item.audio[content_index] = item.audio[content_index][: samples * item.form.sample_bytes]
        content[content_index]["transcript"] = None
        item.counted = None


def checked(given: Any, /) -> dict[str, Any]:
    """A copy of an item that a client sent.

    Raises:
        Refusal: it is none.
    """
    if not isinstance(given, Mapping):
        raise missing("item") if given is None else mistyped(given, "an object", param="item")
    kind = given.get("type")
    if kind is None:
        raise missing("item.type")
    if kind not in _KINDS:
        raise invalid(kind, _KINDS, param="item.type")
    data = copy.deepcopy(dict(given))
    if "id" in data and (not isinstance(data["id"], str) or not 1 <= len(data["id"]) <= 32):
        raise Refusal(
            "Invalid 'item.id': expected a string with a length of 1 to 32.",
            code="string_above_max_length",
            param="item.id",
        )
    for name in _FIELDS.get(kind, ()):
        if name not in data:
            raise missing(f"item.{name}")
        if name != "approve" and not isinstance(data[name], str):
            raise mistyped(data[name], "a string", param=f"item.{name}")
    if kind == "message":
        _check_message(data)
    data.pop("object", None)
    return data


def _check_message(data: Mapping[str, Any]) -> None:
    role = data.get("role")
    if not isinstance(role, str) or role not in CONTENT:
        raise missing("item.role") if role is None else invalid(role, tuple(CONTENT), param="item.role")
    content = data.get("content")
    if not isinstance(content, list):
        raise missing("item.content") if content is None else mistyped(content, "an array", param="item.content")
    for index, part in enumerate(content):
        param = f"item.content[{index}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(kind, str) or kind not in CONTENT[role]:
            raise invalid(kind, CONTENT[role], param=f"{param}.type")
        wanted = {"input_audio": "audio", "input_image": "image_url", "output_audio": "transcript"}.get(kind, "text")
        if not isinstance(part.get(wanted), str):
            raise missing(f"{param}.{wanted}")
        spare = set(part) - {"type", "text", "audio", "transcript", "image_url", "detail"}
        if spare:
            raise unknown(f"{param}.{min(spare)}")


def decoded(text: Any, *, param: str, form: AudioFormat = PCM_24K) -> bytes:
    """The samples of a base64 text.

    Args:
        text: as it was sent.
        param: the field, for the refusal.
        form: how they are written.

    Raises:
        Refusal: not base64, or not whole samples.
    """
    if not isinstance(text, str):
        raise missing(param) if text is None else mistyped(text, "a string", param=param)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or len(data) % form.sample_bytes:
        raise Refusal(
            f"Invalid '{param}'. Expected base64-encoded audio bytes (mono, {form}) but got an invalid value.",
            code="invalid_value",
            param=param,
        )
    return data
