"""A response: from its parts to its events, in the service's order and pace.

Rule 1: audio leaves in deltas of `DELTA_MS`, faster than it sounds by a factor; the words run ahead of it.
Rule 2: whatever is open when a response ends is closed with its ``.done`` events, also when it is cancelled.
Rule 3: a response knows no clock: it is told the time, and says when it is due.

Source: OpenAI Realtime API reference, `response.*`; order and sizes from recorded traffic of ``gpt-realtime``.
"""

from __future__ import annotations

import base64
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from voxnb.audio.formats import AudioFormat
from voxnb.local.realtime.answer import Call, Ended, Gone, NextItem, Part, Raw, RemoteCall, Speech, Stuck, Wait
from voxnb.local.realtime.items import Item
from voxnb.local.realtime.sound import converted

DELTA_MS: Final = 250
TEXT_DELTA_MS: Final = 20
"""What a delta of text or of arguments costs, on the scale of audio that the factor makes faster."""

OUTPUT_MS_PER_TOKEN: Final = 50
_WORDS: Final = re.compile(r"\s*\S+\s*$|\s*\S+|\s+$")


class Session(Protocol):
    """What a response needs of its session."""

    def send(self, kind: str, /, **fields: Any) -> None:
        """Send a server event."""

    def send_raw(self, message: str | bytes, /) -> None:
        """Send a message that is no event."""

    def new_id(self, prefix: str, /) -> str:
        """A new id."""

    def place(self, item: Item, response: Response, /) -> None:
        """Put an item that begins into the conversation."""

    def placed(self, item: Item, response: Response, /) -> None:
        """Say that an item is done."""

    def ended(self, response: Response, /) -> None:
        """The response is over."""

    def broken(self, part: Gone | Stuck, /) -> None:
        """The connection is to break, or to hang."""


@dataclass(frozen=True)
class _Step:
    act: Callable[[], None]
    cost_ms: float


@dataclass(eq=False)
class Response:
    """One response.

    Attributes:
        id: of the wire.
        session: where its events go.
        modality: ``audio`` or ``text``.
        form: of the audio.
        head: what the response object says besides its state: conversation_id, audio, metadata …
        in_conversation: whether its items join the default conversation.
        speed: how much faster than it sounds audio leaves.
        delta_ms: length of an audio delta.
        max_tokens: the most it may say, or None.
        output: its items.
        status: ``in_progress``, then how it ended.
        details: the ``status_details``.
        done_at_s: when it ended.
        audio_ms: how much was said.
    """

    id: str
    session: Session
    modality: str
    form: AudioFormat
    head: dict[str, Any]
    in_conversation: bool = True
    speed: float = 4.0
    delta_ms: int = DELTA_MS
    max_tokens: int | None = None
    output: list[Item] = field(default_factory=list)
    status: str = "in_progress"
    details: dict[str, Any] | None = None
    done_at_s: float | None = None
    audio_ms: float = 0.0
    text_tokens: int = 0
    usage: dict[str, Any] | None = None
    _steps: deque[_Step] = field(default_factory=deque, repr=False)
    _free_at_s: float = -math.inf
    _is_fed: bool = False
    _is_stuck: bool = False
    _limit: tuple[int, Gone | Stuck] | None = None
    _sent: int = 0
    _open: Item | None = None
    _call: Item | None = None

    # -- what is to be said -----------------------------------------------------------------------

    def feed(self, parts: Iterable[Part], /, *, now_s: float) -> None:
        """Add parts to what will be said.

        Args:
            parts: in order.
            now_s: the session's clock.
        """
        if not self._steps:
            self._free_at_s = max(self._free_at_s, now_s)
        for part in parts:
            if isinstance(part, Gone | Stuck) and part.after_events is not None:
                self._limit = part.after_events, part
            else:
                self._steps.extend(self._steps_of(part))

    def fed(self) -> None:
        """Nothing more will be added: when all is said the response is complete."""
        self._is_fed = True

    def due_s(self) -> float | None:
        """When there is something to do next; None where that depends on the brain."""
        if self.status != "in_progress" or self._is_stuck or not (self._steps or self._is_fed):
            return None
        return self._free_at_s

    def tick(self, now_s: float, /) -> bool:
        """Do one thing that is due.

        Args:
            now_s: the session's clock.

        Returns:
            Whether something was done.
        """
        due_s = self.due_s()
        if due_s is None or due_s > now_s:
            return False
        if not self._steps:
            self.end("completed")
            return True
        step = self._steps.popleft()
        self._free_at_s += step.cost_ms / 1_000 / self.speed
        step.act()
        if self.max_tokens is not None and self.tokens > self.max_tokens and self.status == "in_progress":
            self.end("incomplete", reason="max_output_tokens")
        return True

    @property
    def tokens(self) -> int:
        """What was said so far, in tokens: 1 for 50 ms of audio, 1 for a word or a punctuation mark."""
        return self.text_tokens + math.ceil(self.audio_ms / OUTPUT_MS_PER_TOKEN)

    def _steps_of(self, part: Part) -> Iterator[_Step]:
        if isinstance(part, Speech):
            yield from self._speech(part)
        elif isinstance(part, RemoteCall) and part.asks:
            yield _Step(partial(self._ask, part), TEXT_DELTA_MS)
            yield _Step(self._close, 0)
        elif isinstance(part, Call | RemoteCall):
            if isinstance(part, Call):
                named = {
                    "type": "function_call",
                    "name": part.name,
                    "call_id": part.call_id or self.session.new_id("call"),
                }
            else:
                named = {"type": "mcp_call", "name": part.name, "server_label": part.server_label}
            yield _Step(partial(self._begin_call, named), TEXT_DELTA_MS)
            for piece in re.findall(r".{1,24}", part.arguments, re.DOTALL):
                yield _Step(partial(self._argue, piece), TEXT_DELTA_MS)
            if isinstance(part, RemoteCall):
                yield _Step(self._argued, TEXT_DELTA_MS)
                yield _Step(partial(self._returned, part), 0)
            yield _Step(self._close, 0)
        elif isinstance(part, NextItem):
            yield _Step(self._close, 0)
        elif isinstance(part, Wait):
            yield _Step(lambda: None, part.wait_ms * self.speed)
        elif isinstance(part, Raw):
            yield _Step(partial(self.session.send_raw, part.message), 0)
        elif isinstance(part, Ended):
            yield _Step(partial(self._end_badly, part), 0)
        else:
            yield _Step(partial(self._break, part), 0)

    def _speech(self, part: Speech) -> Iterator[_Step]:
        words = _WORDS.findall(part.text)
        if self.modality == "text":
            for word in words:
                yield _Step(partial(self._write, word), TEXT_DELTA_MS)
            return
        data = converted(part.audio, part.form, to=self.form)
        size = self.form.rate_hz * self.delta_ms // 1_000 * self.form.sample_bytes
        pieces = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
        told = 0
        for number, piece in enumerate(pieces, 1):
            upto = min(len(words), math.ceil(len(words) * 2 * number / len(pieces)))
            said = "".join(words[told:upto])
            told = upto
            cost_ms = self.form.duration_ms(len(piece))
            yield _Step(partial(self._say, said, piece), cost_ms)

    # -- saying it --------------------------------------------------------------------------------

    def _send(self, kind: str, /, **fields: Any) -> None:
        if self._is_stuck:
            return
        if self._limit is not None and self._sent >= self._limit[0]:
            self._break(self._limit[1])
            return
        self._sent += 1
        self.session.send(kind, **fields)

    def _where(self, item: Item) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": item.id, "output_index": self.output.index(item)}

    def _part_where(self, item: Item) -> dict[str, Any]:
        return {**self._where(item), "content_index": 0}

    def _begin(self, **data: Any) -> Item:
        item = Item(
            {"id": self.session.new_id("item"), "object": "realtime.item", "status": "in_progress", **data},
            form=self.form,
        )
        self.output.append(item)
        self._send(
            "response.output_item.added", response_id=self.id, output_index=len(self.output) - 1, item=item.told()
        )
        self.session.place(item, self)
        return item

    def _message(self) -> Item:
        if self._open is not None:
            return self._open
        item = self._open = self._begin(type="message", role="assistant", content=[])
        if self.modality == "audio":
            item.is_spoken = True
            item.audio[0] = b""
            item.data["content"].append({"type": "output_audio", "transcript": ""})
            part = {"type": "audio", "transcript": ""}
        else:
            item.data["content"].append({"type": "output_text", "text": ""})
            part = {"type": "text", "text": ""}
        self._send("response.content_part.added", **self._part_where(item), part=part)
        return item

    def _say(self, text: str, audio: bytes) -> None:
        item = self._message()
        if text:
            item.data["content"][0]["transcript"] = (item.data["content"][0]["transcript"] or "") + text
            self.text_tokens += 1
            self._send("response.output_audio_transcript.delta", **self._part_where(item), delta=text)
        if audio:
            item.audio[0] += audio
            self.audio_ms += self.form.duration_ms(len(audio))
            encoded = base64.b64encode(audio).decode()
            self._send("response.output_audio.delta", **self._part_where(item), delta=encoded)

    def _write(self, text: str) -> None:
        item = self._message()
        item.data["content"][0]["text"] += text
        self.text_tokens += 1
        self._send("response.output_text.delta", **self._part_where(item), delta=text)

    def _begin_call(self, named: dict[str, Any]) -> None:
        self._close()
        self._call = self._begin(**named, arguments="")

    def _ask(self, part: RemoteCall) -> None:
        """Ask for leave to make a remote call; it comes whole."""
        self._close()
        named = {"server_label": part.server_label, "name": part.name, "arguments": part.arguments}
        self._call = self._begin(type="mcp_approval_request", **named)

    def _argue(self, piece: str) -> None:
        item = self._call
        assert item is not None
        item.data["arguments"] += piece
        self.text_tokens += 1
        kind, own = _call_of(item)
        self._send(f"response.{kind}_arguments.delta", **self._where(item), **own, delta=piece)

    def _argued(self) -> None:
        """All arguments of the call are there; of a remote one it is made now."""
        item = self._call
        assert item is not None
        kind, own = _call_of(item)
        name = {"name": item.data["name"]} if own else {}
        arguments = item.data["arguments"]
        self._send(f"response.{kind}_arguments.done", **self._where(item), **own, **name, arguments=arguments)
        if not own:
            self._send("response.mcp_call.in_progress", item_id=item.id, output_index=self.output.index(item))

    def _returned(self, part: RemoteCall) -> None:
        """A remote call is over."""
        item = self._call
        assert item is not None
        error = None if part.error is None else {"type": "tool_execution_error", "content": part.error}
        item.data |= {"output": part.output, "error": error}
        outcome = "completed" if error is None else "failed"
        self._send(f"response.mcp_call.{outcome}", item_id=item.id, output_index=self.output.index(item))

    def _close(self, status: str = "completed") -> None:
        """Close what is open."""
        message, call = self._open, self._call
        if message is not None:
            self._close_part(message)
        if call is not None and "call_id" in call.data:
            self._argued()
        self._open = self._call = None
        for item in (message, call):
            if item is not None:
                item.data["status"] = status
                self.session.placed(item, self)
                index = self.output.index(item)
                self._send("response.output_item.done", response_id=self.id, output_index=index, item=item.told())

    def _close_part(self, item: Item) -> None:
        where = self._part_where(item)
        content = item.data["content"][0]
        if self.modality == "audio":
            said = content["transcript"] or ""
            self._send("response.output_audio.done", **where)
            self._send("response.output_audio_transcript.done", **where, transcript=said)
            part = {"type": "audio", "transcript": said}
        else:
            self._send("response.output_text.done", **where, text=content["text"])
            part = {"type": "text", "text": content["text"]}
        self._send("response.content_part.done", **where, part=part)

    # -- its end ----------------------------------------------------------------------------------

    def end(self, status: str, *, reason: str | None = None, error: dict[str, Any] | None = None) -> None:
        """End the response.

        Args:
            status: ``completed``, ``cancelled``, ``incomplete`` or ``failed``.
            reason: of a cancelled or incomplete one.
            error: of a failed one.
        """
        if self.status != "in_progress":
            return
        self._steps.clear()
        self._close("completed" if status == "completed" else "incomplete")
        self.status = status
        if status != "completed":
            extra = {"error": error} if error is not None else {"reason": reason}
            self.details = {"type": status, **extra}
        self.session.ended(self)

    def _end_badly(self, part: Ended) -> None:
        if part.status == "incomplete":
            self.end("incomplete", reason=part.reason or "max_output_tokens")
        else:
            self.end("failed", error={"type": part.kind, "code": part.code, "message": part.message})

    def _break(self, part: Gone | Stuck) -> None:
        self._is_stuck = True
        self.session.broken(part)

    def told(self) -> dict[str, Any]:
        """The response object as it is sent: its items without audio."""
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self.details,
            "output": [item.told() for item in self.output] if self.status != "in_progress" else [],
            **self.head,
            "usage": self.usage,
        }


def _call_of(item: Item) -> tuple[str, dict[str, Any]]:
    """How a call's events are named, and what of it they repeat."""
    if item.data["type"] == "mcp_call":
        return "mcp_call", {}
    return "function_call", {"call_id": item.data["call_id"]}
