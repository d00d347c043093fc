"""Items of a realtime conversation, what of an answer was heard, and where it is to be cut.

Source: OpenAI API reference, ``conversation.item.truncate``: ``audio_end_ms`` is measured on the item's own audio, only
assistant items can be cut, beyond their end is an error. Users report servers that count about 85 ms less than the bytes
say, and sessions that fall silent after a cut beyond the end; hence the margin.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

PCM_BYTES_PER_MS: Final = 48
"""16-bit samples at 24,000 Hz."""

G711_BYTES_PER_MS: Final = 8

WHOLE_MS: Final = 100
"""An answer that was heard to this close before its end counts as heard."""


@dataclass(slots=True)
class Part:
    """One content part of an item.

    Attributes:
        kind: ``output_audio``, ``output_text``, ``input_audio``, ``input_text``.
        text: its text, or the transcript of its audio, as far as it has come.
        audio_bytes: length of the audio that has come.
        text_done: the text is whole.
        audio_done: the audio is whole.
        done: the part is.
    """

    kind: str
    text: str = ""
    audio_bytes: int = 0
    text_done: bool = False
    audio_done: bool = False
    done: bool = False


@dataclass(slots=True)
class Item:
    """One item of the conversation.

    Attributes:
        id: the server's id.
        type: ``message``, ``function_call``, ``function_call_output``, or one of MCP's.
        role: ``user``, ``assistant``, ``system`` or None.
        response_id: the response that makes it, or None.
        added: it was announced as part of the conversation, so that commands may name it.
        done: it is whole.
        deleted: it was taken out of the conversation.
        parts: content index → `Part`.
        name, call_id, arguments: of a function call, as far as they have come.
        arguments_done: the arguments are whole.
        transcription: ``none``, ``running``, ``completed`` or ``failed``: of what the user said.
        truncated_ms: where the server has cut its audio, or None.
        bytes_per_ms: of its audio.
        is_restored: it was put there by us as text; the server has no audio of it.
    """

    id: str
    type: str = "message"
    role: str | None = None
    response_id: str | None = None
    added: bool = False
    done: bool = False
    deleted: bool = False
    parts: dict[int, Part] = field(default_factory=dict)
    name: str | None = None
    call_id: str | None = None
    arguments: str = ""
    arguments_done: bool = False
    output: str | None = None
    transcription: Literal["none", "running", "completed", "failed"] = "none"
    truncated_ms: int | None = None
    bytes_per_ms: int = PCM_BYTES_PER_MS
    is_restored: bool = False

    @property
    def text(self) -> str:
        """All that it says: texts and transcripts of its parts, in order."""
        return "".join(self.parts[n].text for n in sorted(self.parts))

    def received_ms(self, content_index: int = 0) -> int:
        """Length of the audio that has come of a part, whole milliseconds."""
        part = self.parts.get(content_index)
        return 0 if part is None else part.audio_bytes // self.bytes_per_ms


@dataclass(frozen=True, slots=True)
class Cut:
    """What is to be done about an answer that was interrupted.

    Attributes:
        kind: ``truncate`` (its end was not heard), ``delete`` (nothing of it was), ``keep`` (it was heard, or there is
            nothing that could be cut).
        item_id: the item.
        content_index: its audio.
        audio_end_ms: where to cut; of ``truncate`` alone.
    """

    kind: Literal["truncate", "delete", "keep"]
    item_id: str
    content_index: int = 0
    audio_end_ms: int = 0

    @property
    def command(self) -> dict[str, Any] | None:
        """The client event that does it, or None."""
        if self.kind == "truncate":
            return {
                "type": "conversation.item.truncate",
                "item_id": self.item_id,
                "content_index": self.content_index,
                "audio_end_ms": self.audio_end_ms,
            }
        return {"type": "conversation.item.delete", "item_id": self.item_id} if self.kind == "delete" else None


def cut(item: Item, *, heard_ms: float, content_index: int = 0) -> Cut:
    """Where an interrupted item is to be cut, so that the server's record is what was heard.

    Never at 0 (the service has no name for that) and never beyond what has come.

    Args:
        item: an answer.
        heard_ms: how much of its audio was heard, milliseconds.
        content_index: which part is the audio.

    >>> part = Part("output_audio", audio_bytes=48_000, audio_done=True)
    >>> spoken = Item("i", role="assistant", added=True, parts={0: part})
    >>> cut(spoken, heard_ms=300.7)
    Cut(kind='truncate', item_id='i', content_index=0, audio_end_ms=300)
    >>> [cut(spoken, heard_ms=ms).kind for ms in (0, 899, 950, 5_000)]
    ['delete', 'truncate', 'keep', 'keep']
    """
    keep = Cut("keep", item.id, content_index)
    if item.role != "assistant" or item.deleted or not item.added or item.truncated_ms is not None:
        return keep
    received_ms = item.received_ms(content_index)
    if item.is_restored or (received_ms == 0 and item.text and not _is_audio(item, content_index)):
        return keep
    heard_ms = heard_ms if math.isfinite(heard_ms) else 0.0
    if heard_ms < 1 or received_ms == 0:
        return Cut("delete", item.id, content_index)
    if heard_ms >= received_ms - WHOLE_MS:
        # What is still to come was not heard, whatever has: only a whole answer may be kept whole.
        part = item.parts.get(content_index)
        if part is None or part.audio_done or item.done:
            return keep
    return Cut("truncate", item.id, content_index, math.floor(min(heard_ms, received_ms)))


def _is_audio(item: Item, content_index: int) -> bool:
    part = item.parts.get(content_index)
    return part is not None and part.kind == "output_audio"


def heard_text(said: str, *, heard_ms: float, length_ms: float) -> str:
    """The words of a transcript that were heard, by their share of the audio; a word that was cut is not one of them.

    Args:
        said: the whole transcript.
        heard_ms: how much was heard, milliseconds.
        length_ms: how long all of it is.

    >>> heard_text("one two three four", heard_ms=500, length_ms=1000)
    'one two'
    >>> heard_text("one two", heard_ms=0, length_ms=1000), heard_text("one two", heard_ms=950, length_ms=1000)
    ('', 'one two')
    """
    if length_ms <= 0 or heard_ms <= 0 or not math.isfinite(heard_ms):
        return ""
    if heard_ms >= length_ms - WHOLE_MS:
        return said
    upto = math.floor(len(said) * heard_ms / length_ms)
    ends = [word.end() for word in re.finditer(r"\S+", said) if word.end() <= upto]
    return said[: ends[-1]] if ends else ""
