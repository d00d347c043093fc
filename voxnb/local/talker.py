"""Brains that think: a language model behind the Chat Completions API answers, and speech engines hear and speak for it.

An answer leaves sentence by sentence, each as soon as it is written.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final
from urllib.parse import urlsplit

from voxnb.audio.formats import AudioFormat
from voxnb.errors import LocalModelError
from voxnb.local.realtime.answer import Part, Speech
from voxnb.local.realtime.brain import Ears, Hears
from voxnb.local.realtime.config import DEFAULT_INSTRUCTIONS
from voxnb.local.realtime.sound import tone
from voxnb.local.realtime.view import Heard, View
from voxnb.local.speech import SpeechEngines
from voxnb.wire.sse import SSEReader

INSTRUCTIONS: Final = "You talk on the telephone. Answer in one or two short sentences, in plain words."
"""What a small model is told where the session says nothing of its own."""

MOST_TOKENS: Final = 96
"""Of an answer: half a minute of speech."""

MOST_LETTERS: Final = 9_000
"""Of what a model is told of a conversation, about 2,500 tokens: the oldest of it is left out. Small models have small
windows, and read slowly."""

REMEMBERED: Final = 500
"""Transcripts that a server keeps, of all its sessions."""

_END: Final = re.compile(r"[.!?…][\"”’)\]]*\s")
_BLOCK_BYTES: Final = 4_096


class Language:
    """A language model that answers in the artificial voice.

    Args:
        base_url: of a server that speaks Chat Completions, such as ``http://127.0.0.1:40000/v1``.
        api_key: its key.
        model: the model's name there.
        hears: what users are said to have said; see `voxnb.local.realtime.brain.Hears`.
        voice: says a sentence: a text → 16-bit mono PCM at 24 kHz.
        timeout_s: the longest silence of that server.
    """

    is_quick = False

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str = "",
        model: str = "",
        hears: Hears = None,
        voice: Callable[[str], bytes] = tone,
        timeout_s: float = 60.0,
    ) -> None:
        self._where = urlsplit(base_url)
        self._api_key, self._model = api_key, model
        self._ears = Ears(hears)
        self._voice = voice
        self._timeout_s = timeout_s

    def answer(self, view: View, /) -> Iterator[Part]:
        """The model's answer, sentence by sentence."""
        messages = self.messages(view)
        for number, sentence in enumerate(in_sentences(self._written(messages, view))):
            text = sentence if number == 0 else f" {sentence}"
            yield Speech(text, b"" if view.modality == "text" else self._voice(sentence))

    def transcribe(self, heard: Heard, /) -> str | None:
        """What the user said."""
        return self._ears.transcribe(heard)

    def messages(self, view: View) -> list[dict[str, Any]]:
        """What the model is asked.

        Args:
            view: of the session.
        """
        told = view.messages
        if view.instructions in ("", DEFAULT_INSTRUCTIONS):
            said = [message for message in told if message.get("content") != DEFAULT_INSTRUCTIONS]
            told = [{"role": "system", "content": INSTRUCTIONS}, *said]
        return recent(told)

    def _written(self, messages: list[dict[str, Any]], view: View) -> Iterator[str]:
        limit = view.response.get("max_output_tokens") or view.session.get("max_output_tokens")
        most = min(MOST_TOKENS, limit) if isinstance(limit, int) else MOST_TOKENS
        body = {"model": self._model, "messages": messages, "stream": True, "max_tokens": most}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._api_key}"}
        connection = http.client.HTTPConnection(
            self._where.hostname or "127.0.0.1", self._where.port, timeout=self._timeout_s
        )
        try:
            connection.request("POST", f"{self._where.path}/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            is_stream = answer.getheader("content-type", "").startswith("text/event-stream")
            if answer.status != 200 or not is_stream:
                words = answer.read(_BLOCK_BYTES).decode(errors="replace")
                raise LocalModelError(f"the language model answered {answer.status}: {words[:300]}")
            yield from _deltas(answer)
        except (OSError, http.client.HTTPException) as error:
            raise LocalModelError(f"the language model at {self._where.netloc} did not answer: {error}") from error
        finally:
            connection.close()


class Talker(Language):
    """The same with real ears and a real voice.

    Args:
        engines: which hear and speak.
        base_url: as for `Language`.
        api_key: likewise.
        model: likewise.
    """

    def __init__(self, engines: SpeechEngines, base_url: str, *, api_key: str = "", model: str = "") -> None:
        super().__init__(base_url, api_key=api_key, model=model, voice=engines.speak)
        self._engines = engines
        self._heard: dict[str, Future[str]] = {}
        self._lock = threading.Lock()

    def transcribe(self, heard: Heard, /) -> str | None:
        """What the user said, or None where no word was understood."""
        return self._understood(heard.item_id, heard.audio, heard.form) or None

    def messages(self, view: View) -> list[dict[str, Any]]:
        """As of `Language`, with what was understood of speech that nobody wanted written down."""
        last = next((item for item in reversed(view.items) if item.get("role") == "user"), None)
        if last is not None and view.audio and not view.text:
            self._understood(last["id"], view.audio, view.form)
        return super().messages(view.with_transcripts(self._known))

    def _known(self, item_id: str) -> str | None:
        with self._lock:
            found = self._heard.get(item_id)
        return found.result() if found is not None else None

    def _understood(self, item_id: str, audio: bytes, form: AudioFormat) -> str:
        """Each speech is heard once: the transcript and the answer are wanted at the same time."""
        with self._lock:
            found = self._heard.get(item_id)
            is_mine = found is None
            if found is None:
                found = self._heard[item_id] = Future()
                while len(self._heard) > REMEMBERED:
                    del self._heard[next(iter(self._heard))]
        if is_mine:
            try:
                found.set_result(self._engines.hear(audio, form))
            except BaseException as error:  # noqa: BLE001 - whoever else waits for it gets the same
                found.set_exception(error)
                with self._lock:
                    self._heard.pop(item_id, None)
        return found.result()


def _deltas(answer: http.client.HTTPResponse) -> Iterator[str]:
    reader = SSEReader()
    while block := answer.read1(_BLOCK_BYTES):
        for payload in reader.feed(block):
            if payload == "[DONE]":
                return
            choices = json.loads(payload).get("choices") or [{}]
            text = (choices[0].get("delta") or {}).get("content")
            if text:
                yield text


def recent(messages: list[dict[str, Any]], /, *, letters: int = MOST_LETTERS) -> list[dict[str, Any]]:
    """The newest messages, as many as fit; instructions stay, and so does the last message.

    Args:
        messages: of a conversation, oldest first.
        letters: how many fit.

    >>> said = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    >>> [m["role"] for m in recent(said, letters=15)]
    ['system', 'assistant', 'user']
    """
    out: list[dict[str, Any]] = []
    for message in reversed(messages):
        letters -= len(str(message.get("content") or ""))
        if letters >= 0 or not out or message["role"] == "system":
            out.append(message)
    return out[::-1]


def in_sentences(deltas: Iterator[str], /) -> Iterator[str]:
    """A text that comes in pieces, as sentences, each as soon as it is whole.

    >>> list(in_sentences(iter(["It is ", "cold. Put", " on a coat! And", " go."])))
    ['It is cold.', 'Put on a coat!', 'And go.']
    """
    waiting = ""
    for delta in deltas:
        waiting += delta
        while (end := _END.search(waiting)) is not None:
            sentence, waiting = waiting[: end.end()].strip(), waiting[end.end() :]
            if sentence:
                yield sentence
    if waiting.strip():
        yield waiting.strip()
