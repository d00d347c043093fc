"""What a brain sees of a session when it is asked for an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from voxnb.audio.formats import PCM_24K, AudioFormat


@dataclass(frozen=True)
class View:
    """A session at the moment of a `response.create`.

    Attributes:
        number: of the response in its connection, from 1.
        session: the configuration.
        response: the ``response`` of the event, ``{}`` where speech began the turn.
        items: the items that the answer is made from, in order, without audio.
        audio: sound of the last user message, as the client wrote it; empty where it was text.
        form: how `audio` is written.
        model: the model of the address.
    """

    number: int
    session: Mapping[str, Any]
    response: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]
    audio: bytes = field(default=b"", repr=False)
    form: AudioFormat = PCM_24K
    model: str = ""

    @property
    def instructions(self) -> str:
        """The instructions that hold for this answer."""
        found = self.response.get("instructions", self.session.get("instructions"))
        return found or ""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The tools that hold for this answer."""
        return self.response.get("tools", self.session.get("tools")) or ()

    @property
    def modality(self) -> str:
        """``audio`` or ``text``."""
        found = self.response.get("output_modalities") or self.session.get("output_modalities") or ["audio"]
        return str(found[0])

    @property
    def text(self) -> str:
        """The text of the last user message: what was written, or the transcript of what was said; ``""`` without."""
        for item in reversed(self.items):
            if item.get("role") == "user":
                return text_of(item)
        return ""

    def with_transcripts(self, known: Callable[[str], str | None]) -> View:
        """The same view, in which speech that nobody wrote down says what is known of it.

        Args:
            known: item id → what was said, or None.
        """
        items: list[Mapping[str, Any]] = []
        for item in self.items:
            parts = item.get("content") or ()
            if item.get("role") == "user" and any(p.get("type") == "input_audio" for p in parts) and not text_of(item):
                said = known(item["id"])
                if said:
                    items.append({**item, "content": [{"type": "input_audio", "transcript": said}]})
                    continue
            items.append(item)
        return replace(self, items=items)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The items as chat messages: what a text model would be sent."""
        out: list[dict[str, Any]] = []
        if self.instructions:
            out.append({"role": "system", "content": self.instructions})
        for item in self.items:
            if item["type"] == "message":
                said = text_of(item)
                if said:
                    out.append({"role": item["role"], "content": said})
            elif item["type"] == "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                out.append({"role": "assistant", "content": None, "tool_calls": [call]})
            elif item["type"] == "function_call_output":
                out.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        return out


@dataclass(frozen=True)
class Heard:
    """A user's speech that is to be written down.

    Attributes:
        number: of the transcription in its connection, from 1.
        item_id: of the user message.
        audio: its sound, as the client wrote it.
        form: how `audio` is written.
        transcription: the session's ``transcription`` settings.
    """

    number: int
    item_id: str
    audio: bytes = field(repr=False)
    form: AudioFormat
    transcription: Mapping[str, Any]

    @property
    def duration_ms(self) -> float:
        """How long it lasts."""
        return self.form.duration_ms(len(self.audio))


def text_of(item: Mapping[str, Any], /) -> str:
    """The words of a message: texts and transcripts, joined."""
    parts = (p.get("text") or p.get("transcript") for p in item.get("content") or ())
    return " ".join(p for p in parts if p)
