"""What texts, parts and any other value cost in tokens, added up with the features that calibration needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from voxnb.memory.parts import Blob, audio_tokens, blob, file_tokens, image_tokens

LONG_BASE64_CHARS: Final = 512
"""A string of that many base64 characters in an unknown part is data, not text."""

Count = Callable[[str], int]


class Features(NamedTuple):
    """Of a message's tokens, those that another tokenizer counts otherwise; all are stored with the message.

    Attributes:
        numeric: digits in groups of up to three, and the punctuation after them: the same everywhere, or
        split: how many tokens more where every digit is its own (SmolLM, Llama 2, Qwen, Mistral, Gemma), less half
            the gaps before numbers: of these tokenizers some take two tokens for a gap, as ours do, others one.
        wide: bytes of UTF-8 beyond ASCII: cheap in a large vocabulary, up to 0.4 tokens a byte in a small one.
        media: tokens of images, audio and files, and of tool calls, which templates write in ways of their own.
    """

    numeric: int = 0
    split: int = 0
    wide: int = 0
    media: int = 0


_DIGITS: Final = re.compile(r"([0-9][0-9]*)([^\w\s]?)")  # a first letter of few: searched for three times as fast
_GAP: Final = re.compile(r"  (?=[0-9])")


def text_features(text: str) -> Features:
    """The features of a text; a few milliseconds per megabyte.

    >>> text_features("Zürich, 1291")
    Features(numeric=2, split=2, wide=2, media=0)
    """
    numeric = split = 0
    for run, mark in _DIGITS.findall(text):
        groups = (len(run) + 2) // 3
        numeric += groups + 1 if mark else groups
        split += len(run) - groups
    if numeric and "  " in text:
        split -= len(_GAP.findall(text)) // 2
    if text.isascii():
        return Features(numeric, split)
    wide = len(text.encode("utf-8", "replace")) - len(text.encode("ascii", "ignore"))
    return Features(numeric, split, wide)


class Counted(NamedTuple):
    """Tokens of a message, and their features."""

    tokens: int
    features: Features


class Tally:
    """Adds up a message's texts and parts."""

    def __init__(self, count: Count, model: str | None = None) -> None:
        self.count = count
        self.model = model
        self.tokens = 0
        self.media = 0
        self.features = [0, 0, 0]

    def text(self, text: str, *, times: int = 1) -> None:
        """Add a text."""
        if not text:
            return
        self.tokens += self.count(text) * times
        if text.isascii() and text.isalpha():  # a role, mostly
            return
        numeric, split, wide, _ = text_features(text)
        features = self.features
        features[0] += numeric
        features[1] += split
        features[2] += wide

    def marks(self, tokens: int) -> None:
        """Add tokens that are no text."""
        self.tokens += tokens

    def add_media(self, tokens: int) -> None:
        """Add tokens of media, which are kept apart too."""
        self.tokens += tokens
        self.media += tokens

    def json(self, value: Any) -> None:
        """Any value by its JSON text; data in it as an image of unknown size."""
        held, data = _without_data(value)
        self.text(json_text(held))
        for _ in range(data):
            self.add_media(image_tokens("", model=self.model))

    def counted(self) -> Counted:
        """What was added up."""
        numeric, split, wide = self.features
        # Punctuation after a digit may share a token with what follows.
        numeric = min(numeric, self.tokens - self.media)
        return Counted(self.tokens, Features(numeric, split, wide, self.media))


def add_part(tally: Tally, part: Mapping[str, Any]) -> None:
    """Add a part of a content, in either interface's spelling."""
    kind = part.get("type")
    value = part.get(str(kind))
    if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        tally.text(part["text"])
    elif kind == "refusal" and isinstance(value, str):
        tally.text(value)
    elif kind in ("image_url", "input_image"):
        image = value if isinstance(value, Mapping) else part
        url, detail = image.get("url", part.get("image_url")), image.get("detail")
        tally.add_media(image_tokens(url if isinstance(url, str) else "", detail=detail, model=tally.model))
    elif kind == "input_audio" and isinstance(value, Mapping) and isinstance(value.get("data"), str):
        tally.add_media(audio_tokens(data_of(value["data"])))
    elif kind in ("file", "input_file"):
        _file(tally, value if isinstance(value, Mapping) else part)
    else:
        tally.json(part)


def _file(tally: Tally, file: Mapping[str, Any]) -> None:
    name, data = file.get("filename"), file.get("file_data")
    if isinstance(name, str):
        tally.text(name)
    if not isinstance(data, str):
        tally.add_media(file_tokens(None))
        return
    given = data_of(data)
    if given.mime.startswith("text/") or given.mime == "application/json":
        tally.text(given.head(given.length + 3).decode("utf-8", "replace"))
    else:
        tally.add_media(file_tokens(given))


def data_of(value: str) -> Blob:
    """Base64 taken apart, as a data URL or bare."""
    return blob(value) or Blob("", value)


def json_text(value: Any) -> str:
    """The shortest JSON text of a value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\-\r\n]*\Z")


def _without_data(value: Any) -> tuple[Any, int]:
    """The value with every long base64 string emptied, and how many there were."""
    if isinstance(value, str):
        head = value[:LONG_BASE64_CHARS]
        if len(value) >= LONG_BASE64_CHARS and (blob(value) or _BASE64.match(head)):
            return "", 1
        return value, 0
    if isinstance(value, Mapping):
        pairs = {key: _without_data(item) for key, item in value.items()}
        return {key: held for key, (held, _) in pairs.items()}, sum(n for _, n in pairs.values())
    if isinstance(value, list | tuple):
        found = [_without_data(item) for item in value]
        return [held for held, _ in found], sum(n for _, n in found)
    return value, 0
