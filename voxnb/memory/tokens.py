"""What a message, a tool list and a request cost in tokens: OpenAI's published recipe, with the encoding given.

Beside the tokens every message has `Features`: small counts of what other tokenizers
treat otherwise than OpenAI's. They are stored with the message; `calibration` makes a server's own
count of them.

Rule 1: every kind of content has its rule below; what is unknown is counted by its JSON text.
Rule 2: base64 is never counted as text.

Source: cookbook.openai.com "How to count tokens with tiktoken" (messages, tools); the harmony format of
openai/harmony (tool calls, response formats); `parts` for images, audio and files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from voxnb.memory.parts import ASSISTANT_AUDIO_TOKENS_PER_S, Blob, audio_tokens, blob, file_tokens, image_tokens
from voxnb.memory.window import base_name

MESSAGE_TOKENS: Final = 3
"""Marks around every message; its role is counted as text."""

NAME_TOKENS: Final = 1
PRIMER_TOKENS: Final = 3
"""Every reply is primed with the start of an assistant message."""

TOOL_CALL_TOKENS: Final = 5
"""Marks of one call: recipient, channel, type; its name and arguments are counted as text. The id is not sent on."""

TRANSCRIPT_FACTOR: Final = 6
"""Audio tokens per token of its transcript: speech has about 3.3 tokens of text a second, audio 20."""

LONG_BASE64_CHARS: Final = 512
"""A string of that many base64 characters in an unknown part is data, not text."""

NOT_SENT: Final = frozenset(
    {"annotations", "reasoning", "reasoning_content", "reasoning_details", "parsed", "tool_call_id", "id", "index"}
)
"""Keys of a message that the model does not see."""

Count = Callable[[str], int]


class Features(NamedTuple):
    """Of a message's tokens, those that another tokenizer counts otherwise; all are stored with the message.

    Attributes:
        numeric: digits in groups of up to three, and the punctuation after them: the same everywhere, or
        split: how many tokens more where every digit is its own (SmolLM, Llama 2, Qwen, Mistral, Gemma), less half
            the gaps before numbers: of these tokenizers some take two tokens for a gap, as ours do, others one.
        wide: bytes of UTF-8 beyond ASCII: cheap in a large vocabulary, up to 0.4 tokens a byte in a small one.
        media: tokens of images, audio and files.
    """

    numeric: int = 0
    split: int = 0
    wide: int = 0
    media: int = 0


_DIGITS: Final = re.compile(r"[0-9]+")
_AFTER_DIGIT: Final = re.compile(r"(?<=[0-9])[^\w\s]+")
_GAP: Final = re.compile(r"  (?=[0-9])")


def text_features(text: str) -> Features:
    """The features of a text; a few milliseconds per megabyte.

    >>> text_features("Zürich, 1291")
    Features(numeric=2, split=2, wide=2, media=0)
    """
    numeric = split = 0
    for run in _DIGITS.findall(text):
        groups = (len(run) + 2) // 3
        numeric += groups
        split += len(run) - groups
    if numeric:
        numeric += len(_AFTER_DIGIT.findall(text))
        split -= len(_GAP.findall(text)) // 2
    if text.isascii():
        return Features(numeric, split)
    wide = len(text.encode("utf-8", "replace")) - sum(map(str.isascii, text))
    return Features(numeric, split, wide)


class Counted(NamedTuple):
    """Tokens of a message, and their features."""

    tokens: int
    features: Features


class _Tally:
    """Adds up a message's texts and parts."""

    def __init__(self, count: Count, model: str | None = None) -> None:
        self.count = count
        self.model = model
        self.tokens = 0
        self.media = 0
        self.features = [0, 0, 0]

    def text(self, text: str, *, times: int = 1) -> None:
        if not text:
            return
        self.tokens += self.count(text) * times
        for n, value in enumerate(text_features(text)[:3]):
            self.features[n] += value

    def marks(self, tokens: int) -> None:
        self.tokens += tokens

    def add_media(self, tokens: int) -> None:
        self.tokens += tokens
        self.media += tokens

    def json(self, value: Any) -> None:
        """Any value by its JSON text; data in it as an image of unknown size."""
        held, data = _without_data(value)
        self.text(_json_text(held))
        for _ in range(data):
            self.add_media(image_tokens("", model=self.model))

    def counted(self) -> Counted:
        numeric, split, wide = self.features
        # Punctuation after a digit may share a token with what follows.
        numeric = min(numeric, self.tokens - self.media)
        return Counted(self.tokens, Features(numeric, split, wide, self.media))


# -- messages ---------------------------------------------------------------------------------


def message_tokens(message: Mapping[str, Any], count: Count, *, model: str | None = None) -> int:
    """Tokens of one message: its marks, role, name, content of every kind and tool calls.

    Args:
        message: as it is sent.
        count: tokens of a text.
        model: prices images by its family; default gpt-4o's.

    >>> message_tokens({"role": "user", "content": "four words of text"}, lambda text: len(text.split()))
    8
    """
    return count_message(message, count, model=model).tokens


def count_message(message: Mapping[str, Any], count: Count, *, model: str | None = None) -> Counted:
    """Tokens and features of one message: what is stored with it. See `message_tokens`."""
    tally = _Tally(count, model)
    tally.marks(MESSAGE_TOKENS)
    for key, value in message.items():
        if value is None or key in NOT_SENT:
            continue
        if key == "content":
            _content(tally, value)
        elif key == "tool_calls":
            for call in _items(value):
                _tool_call(tally, call)
        elif key == "function_call":
            _tool_call(tally, {"function": value})
        elif key == "audio":
            _spoken(tally, value)
        elif isinstance(value, str):
            tally.text(value)
            if key == "name":
                tally.marks(NAME_TOKENS)
        else:
            tally.json({key: value})
    return tally.counted()


def count_text(text: str, count: Count) -> Counted:
    """Tokens and features of a bare text, without a message's marks."""
    tally = _Tally(count)
    tally.text(text)
    return tally.counted()


def request_tokens(
    messages: Iterable[Mapping[str, Any]],
    count: Count,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    response_format: Mapping[str, Any] | None = None,
    model: str | None = None,
) -> int:
    """Tokens of a whole request: its messages, tools, response format and the primer of the reply.

    Args:
        messages: as they are sent.
        count: tokens of a text.
        tools: the request's ``tools`` (or legacy ``functions``).
        response_format: the request's ``response_format``.
        model: chooses between the recipe's variants.
    """
    total = sum(message_tokens(message, count, model=model) for message in messages)
    total += tools_tokens(tools, count, model=model) + response_format_tokens(response_format, count)
    return total + PRIMER_TOKENS


def _content(tally: _Tally, content: Any) -> None:
    if isinstance(content, str):
        tally.text(content)
        return
    for part in _items(content):
        if isinstance(part, Mapping):
            _part(tally, part)
        else:
            tally.text(part) if isinstance(part, str) else tally.json(part)


def _part(tally: _Tally, part: Mapping[str, Any]) -> None:
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
        tally.add_media(audio_tokens(_data(value["data"])))
    elif kind in ("file", "input_file"):
        _file(tally, value if isinstance(value, Mapping) else part)
    else:
        tally.json(part)


def _file(tally: _Tally, file: Mapping[str, Any]) -> None:
    name, data = file.get("filename"), file.get("file_data")
    if isinstance(name, str):
        tally.text(name)
    if not isinstance(data, str):
        tally.add_media(file_tokens(None))
        return
    given = _data(data)
    if given.mime.startswith("text/") or given.mime == "application/json":
        tally.text(given.head(given.length + 3).decode("utf-8", "replace"))
    else:
        tally.add_media(file_tokens(given))


def _spoken(tally: _Tally, audio: Any) -> None:
    # The assistant's own audio is sent back by its id; what it weighs is what was heard.
    if not isinstance(audio, Mapping):
        tally.json(audio)
    elif isinstance(audio.get("data"), str):
        tally.add_media(audio_tokens(_data(audio["data"]), tokens_per_s=ASSISTANT_AUDIO_TOKENS_PER_S))
    elif isinstance(audio.get("transcript"), str):
        tally.add_media(tally.count(audio["transcript"]) * TRANSCRIPT_FACTOR)


def _tool_call(tally: _Tally, call: Any) -> None:
    if not isinstance(call, Mapping):
        tally.json(call)
        return
    tally.marks(TOOL_CALL_TOKENS)
    called = call.get("function") or call.get("custom")
    if not isinstance(called, Mapping):
        tally.json({key: value for key, value in call.items() if key not in NOT_SENT})
        return
    for key, value in called.items():
        if key in ("name", "arguments", "input") and isinstance(value, str):
            tally.text(value)
        elif value is not None:
            tally.json(value)


def _data(value: str) -> Blob:
    return blob(value) or Blob("", value)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _json_text(value: Any) -> str:
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


# -- tools and response format ----------------------------------------------------------------

FUNCTION_TOKENS: Final = 7
OLD_FUNCTION_TOKENS: Final = 10
"""Of gpt-4 and gpt-3.5."""

PROPERTIES_TOKENS: Final = 3
PROPERTY_TOKENS: Final = 3
ENUM_TOKENS: Final = -3
ENUM_ITEM_TOKENS: Final = 3
TOOLS_END_TOKENS: Final = 12

_TOLD: Final = frozenset(
    {"type", "description", "enum", "properties", "items", "required", "additionalProperties", "title"}
)


def tools_tokens(tools: Sequence[Mapping[str, Any]] | None, count: Count, *, model: str | None = None) -> int:
    """Tokens of a request's tools; 0 for none.

    The recipe covers functions with flat parameters. Nested objects and lists are counted by the same steps, other
    keywords of a schema by their JSON text, tools that are no functions likewise.

    Args:
        tools: the request's ``tools``, or its legacy ``functions``.
        count: tokens of a text.
        model: gpt-4 and gpt-3.5 pay 3 tokens more per function.
    """
    if not tools:
        return 0
    name = base_name(model)
    old = name in ("gpt-4", "gpt-3.5", "gpt-3.5-turbo") or name.startswith(("gpt-4-", "gpt-3.5-turbo-", "gpt-35"))
    total = TOOLS_END_TOKENS
    for tool in tools:
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            total += count(_json_text(tool))
            continue
        total += OLD_FUNCTION_TOKENS if old else FUNCTION_TOKENS
        total += count(f"{function['name']}:{_sentence(function)}")
        parameters = function.get("parameters")
        if isinstance(parameters, Mapping):
            total += _schema_tokens(parameters, count)
    return total


def _schema_tokens(schema: Mapping[str, Any], count: Count) -> int:
    """What stands inside a schema: its properties, its items, its other keywords."""
    total = 0
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and properties:
        total += PROPERTIES_TOKENS
        for name, of in properties.items():
            total += PROPERTY_TOKENS
            if not isinstance(of, Mapping):
                total += count(f"{name}:{_json_text(of)}")
                continue
            enum = of.get("enum")
            if isinstance(enum, list | tuple):
                total += ENUM_TOKENS
                for item in enum:
                    total += ENUM_ITEM_TOKENS + count(item if isinstance(item, str) else _json_text(item))
            total += count(f"{name}:{_type(of)}:{_sentence(of)}") + _schema_tokens(of, count)
    items = schema.get("items")
    if isinstance(items, Mapping):
        total += count(f"{_type(items)}:{_sentence(items)}") + _schema_tokens(items, count)
    rest = {key: value for key, value in schema.items() if key not in _TOLD and not key.startswith("$schema")}
    return total + (count(_json_text(rest)) if rest else 0)


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "")
    return "|".join(map(str, kind)) if isinstance(kind, list | tuple) else str(kind)


def _sentence(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description") or "").removesuffix(".")


def response_format_tokens(response_format: Mapping[str, Any] | None, count: Count) -> int:
    """Tokens of a ``response_format``: a JSON schema is shown to the model as text; the other kinds cost nothing."""
    if not response_format:
        return 0
    given = response_format.get("json_schema")
    if not isinstance(given, Mapping):
        return 0
    head = f"\n\n# Response Formats\n\n## {given.get('name', '')}\n\n"
    about = f"// {given['description']}\n" if given.get("description") else ""
    return count(f"{head}{about}{_json_text(given.get('schema', {}))}")
