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

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from voxnb.memory.items import add_items
from voxnb.memory.parts import ASSISTANT_AUDIO_TOKENS_PER_S, audio_tokens
from voxnb.memory.tally import Count, Counted, Tally, add_part, data_of, json_text
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

NOT_SENT: Final = frozenset(
    {"annotations", "reasoning", "reasoning_content", "reasoning_details", "parsed", "tool_call_id", "id", "index"}
)
"""Keys of a message that the model does not see."""

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
    tally = Tally(count, model)
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
        elif key == "items":
            add_items(tally, message)
        elif isinstance(value, str):
            tally.text(value)
            if key == "name":
                tally.marks(NAME_TOKENS)
        else:
            tally.json({key: value})
    return tally.counted()


def count_text(text: str, count: Count) -> Counted:
    """Tokens and features of a bare text, without a message's marks."""
    tally = Tally(count)
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


def _content(tally: Tally, content: Any) -> None:
    if isinstance(content, str):
        tally.text(content)
        return
    for part in _items(content):
        if isinstance(part, Mapping):
            add_part(tally, part)
        else:
            tally.text(part) if isinstance(part, str) else tally.json(part)


def _spoken(tally: Tally, audio: Any) -> None:
    # The assistant's own audio is sent back by its id; what it weighs is what was heard.
    if not isinstance(audio, Mapping):
        tally.json(audio)
    elif isinstance(audio.get("data"), str):
        tally.add_media(audio_tokens(data_of(audio["data"]), tokens_per_s=ASSISTANT_AUDIO_TOKENS_PER_S))
    elif isinstance(audio.get("transcript"), str):
        tally.add_media(tally.count(audio["transcript"]) * TRANSCRIPT_FACTOR)


def _tool_call(tally: Tally, call: Any) -> None:
    if not isinstance(call, Mapping):
        tally.json(call)
        return
    # Templates write calls in ways of their own, some none at all: kept apart, so that reported usage corrects it.
    own = Tally(tally.count, tally.model)
    own.marks(TOOL_CALL_TOKENS)
    called = call.get("function") or call.get("custom")
    if not isinstance(called, Mapping):
        own.json({key: value for key, value in call.items() if key not in NOT_SENT})
        called = {}
    for key, value in called.items():
        if key in ("name", "arguments", "input") and isinstance(value, str):
            own.text(value)
        elif value is not None:
            own.json(value)
    tally.add_media(own.tokens)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


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
            total += count(json_text(tool))
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
                total += count(f"{name}:{json_text(of)}")
                continue
            enum = of.get("enum")
            if isinstance(enum, list | tuple):
                total += ENUM_TOKENS
                for item in enum:
                    total += ENUM_ITEM_TOKENS + count(item if isinstance(item, str) else json_text(item))
            total += count(f"{name}:{_type(of)}:{_sentence(of)}") + _schema_tokens(of, count)
    items = schema.get("items")
    if isinstance(items, Mapping):
        total += count(f"{_type(items)}:{_sentence(items)}") + _schema_tokens(items, count)
    rest = {key: value for key, value in schema.items() if key not in _TOLD and not key.startswith("$schema")}
    return total + (count(json_text(rest)) if rest else 0)


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
    return count(f"{head}{about}{json_text(given.get('schema', {}))}")
