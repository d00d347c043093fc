"""Tokens as the service would bill them, near enough for budgets: audio by its length, text by its words.

Source: recorded traffic of ``gpt-realtime``: 1 token for 100 ms of the user's audio, for 50 ms of the model's.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from voxnb.local.realtime.items import Conversation, Item
from voxnb.local.realtime.speaking import OUTPUT_MS_PER_TOKEN, Response

INPUT_MS_PER_TOKEN: Final = 100
_TEXT: Final = re.compile(r"\w+|[^\w\s]")
_WORDS: Final = re.compile(r"\s*\S+")


def words(text: str, /) -> list[str]:
    """A transcript in deltas.

    >>> words("Hello there, Ann.")
    ['Hello', ' there,', ' Ann.']
    """
    return _WORDS.findall(text)


def text_tokens(text: str, /) -> int:
    """Words and marks."""
    return len(_TEXT.findall(text))


def _tokens(item: Item) -> tuple[int, int]:
    """An item's tokens of audio and of text; counted once, since a long talk asks again and again."""
    if item.counted is None:
        each_ms = OUTPUT_MS_PER_TOKEN if item.data.get("role") == "assistant" else INPUT_MS_PER_TOKEN
        parts = (p.get("text") or "" for p in item.data.get("content") or ())
        told = (item.data.get(name) or "" for name in ("name", "arguments", "output"))
        heard = sum(math.floor(item.audio_ms(index) / each_ms) for index in item.audio)
        item.counted = heard, sum(map(text_tokens, (*parts, *told)))
    return item.counted


def response(done: Response, conversation: Conversation, /) -> dict[str, Any]:
    """The ``usage`` of a response.

    Args:
        done: the response.
        conversation: what it was made from, its own items included.
    """
    own = {item.id for item in done.output}
    before = [_tokens(item) for item in conversation if item.id not in own]
    heard, read = sum(audio for audio, _ in before), sum(text for _, text in before)
    said = math.ceil(done.audio_ms / OUTPUT_MS_PER_TOKEN)
    return {
        "total_tokens": heard + read + said + done.text_tokens,
        "input_tokens": heard + read,
        "output_tokens": said + done.text_tokens,
        "input_token_details": {
            "text_tokens": read,
            "audio_tokens": heard,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": done.text_tokens, "audio_tokens": said},
    }


def transcription(text: str, audio_ms: float, /) -> dict[str, Any]:
    """The ``usage`` of a transcript."""
    heard, written = math.ceil(audio_ms / INPUT_MS_PER_TOKEN), text_tokens(text)
    return {
        "type": "tokens",
        "total_tokens": heard + written,
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": written,
    }


def rate_limits(used: int, /) -> list[dict[str, Any]]:
    """What `rate_limits.updated` tells after so many responses."""
    return [{"name": "tokens", "limit": 40_000, "remaining": max(0, 40_000 - 500 * used), "reset_seconds": 60.0}]
