"""Who answers: a brain is asked for parts, and for what a user said.

`Echo` says what it heard. `Script` says what it was told to say. Neither understands speech: what the user is said to have
said comes from ``hears``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from voxnb.local.realtime.answer import Call, Ended, Gone, NextItem, Part, Raw, RemoteCall, Speech, Stuck, Wait
from voxnb.local.realtime.sound import tone
from voxnb.local.realtime.view import Heard, View, text_of

Hears: TypeAlias = Iterable[str | None] | Callable[[Heard], str | None] | None
"""What users say: texts in order (the last repeats; None is a transcript that fails), or a function of the speech."""


ASKS: Final = "mcp_approval_request"


class Brain(Protocol):
    """What a server asks. Several sessions may ask at once.

    Attributes:
        is_quick: whether it answers without waiting for anything; the others are asked in threads of their own.
    """

    is_quick: bool

    def answer(self, view: View, /) -> Iterable[Part]:
        """The parts of an answer, in order; they may come one by one."""

    def transcribe(self, heard: Heard, /) -> str | None:
        """What the user said, or None where that cannot be told."""


class Ears:
    """The transcripts of a brain that does not understand speech.

    Args:
        hears: see `Hears`; None says how long the speech was.
    """

    def __init__(self, hears: Hears = None) -> None:
        self._lock = threading.Lock()
        self._function = hears if callable(hears) else None
        self._texts = (
            None if hears is None or callable(hears) else _repeating([hears] if isinstance(hears, str) else hears)
        )

    def transcribe(self, heard: Heard, /) -> str | None:
        """The next transcript."""
        found: str | None = f"({heard.duration_ms / 1_000:.1f} seconds of speech)"
        if self._function is not None:
            found = self._function(heard)
        elif self._texts is not None:
            with self._lock:
                found = next(self._texts)
        return found


class Echo(Ears):
    """Says what the user said, with the user's own sound; what was written is said in the artificial voice."""

    is_quick = True

    def answer(self, view: View, /) -> Iterator[Part]:
        """The user's last message again."""
        text = view.text
        yield Speech(text, view.audio, view.form) if view.audio else Speech(text, tone(text))


class Script(Ears):
    """Says what a script says.

    Args:
        replies: one reply, several in order (the last repeats), or a function of the `View` that returns one. A reply is

            - a ``str``: said in the artificial voice;
            - ``bytes``: a sound, 16-bit mono at 24 kHz;
            - a dict: ``transcript`` (or ``content``) and ``audio``; ``tool_calls``, each ``{"name": …, "arguments": …}``, with
              ``server_label`` and ``output`` or ``error`` where a remote tool is called, and with
              ``"type": "mcp_approval_request"`` where leave is asked for that;
              or ``output``, a list of texts, such dicts and items of the API, each an item of its own; ``status``
              (``failed``, ``incomplete``) with ``error`` or ``reason``;
            - a `Part`, or a list of replies;
            - a function of the `View` that returns any of these.
        hears: what users say, see `Hears`.
        read: reads replies of other kinds: returns what to say instead.
        is_quick: False where a function of the script may wait.
    """

    def __init__(
        self, replies: Any, *, hears: Hears = None, read: Callable[[Any], Any] | None = None, is_quick: bool = True
    ) -> None:
        super().__init__(hears)
        one = isinstance(replies, str | bytes | Mapping) or callable(replies) or not isinstance(replies, Iterable)
        if isinstance(replies, Sequence) and not replies:
            raise ValueError("replies is empty; give at least one reply")
        self._replies = _repeating([replies] if one else replies)
        self._read = read
        self.is_quick = is_quick

    def answer(self, view: View, /) -> Iterator[Part]:
        """The next reply of the script."""
        with self._lock:
            reply = next(self._replies)
        return self.parts(reply, view)

    def parts(self, reply: Any, view: View) -> Iterator[Part]:
        """A reply as parts.

        Raises:
            TypeError: it is no reply.
        """
        if callable(reply):
            reply = reply(view)
        if self._read is not None:
            reply = self._read(reply)
        if isinstance(reply, str):
            yield Speech(reply, tone(reply))
        elif isinstance(reply, bytes):
            yield Speech("", reply)
        elif isinstance(reply, Speech | Call | RemoteCall | NextItem | Wait | Ended | Gone | Stuck | Raw):
            yield reply
        elif isinstance(reply, Mapping):
            yield from self._message(reply, view)
        elif isinstance(reply, Iterable):
            for part in reply:
                yield from self.parts(part, view)
        else:
            raise TypeError(f"{reply!r} is no reply; give a text, a sound, a dict or a function")

    def _message(self, reply: Mapping[str, Any], view: View) -> Iterator[Part]:
        if reply.get("type") in ("function_call", "mcp_call", ASKS) or ("name" in reply and "arguments" in reply):
            yield _call(reply)
            return
        for item in reply.get("output") or ():
            yield from self.parts(item, view)
            yield NextItem()
        content = reply.get("content")
        text = reply.get("transcript") or (content if isinstance(content, str) else text_of(reply))
        audio = reply.get("audio")
        if text or audio is not None:
            yield Speech(text or "", tone(text) if audio is None else audio)
        for call in reply.get("tool_calls") or ():
            yield _call(call)
        if reply.get("status") in ("failed", "incomplete"):
            error = {"kind" if key == "type" else key: value for key, value in (reply.get("error") or {}).items()}
            yield Ended(reply["status"], reply.get("reason"), **error)


def _call(given: Mapping[str, Any]) -> Call | RemoteCall:
    inner = given.get("function") or given
    arguments = inner.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    if "server_label" in given:
        asks = given.get("type") == ASKS
        return RemoteCall(given["server_label"], inner["name"], text, given.get("output"), given.get("error"), asks)
    return Call(inner["name"], text, given.get("call_id") or given.get("id"))


def _repeating(values: Iterable[Any]) -> Iterator[Any]:
    last: Any = None
    for last in values:
        yield last
    while True:
        yield last
