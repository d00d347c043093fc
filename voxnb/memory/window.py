"""Context windows and output limits that are known by a model's name.

Numbers are OpenAI's model pages (developers.openai.com/api/docs/models). Of open models only those are
named whose window is no larger wherever they run: a server often gives less than the weights allow, and cuts silently.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Window(NamedTuple):
    """A model's limits, in tokens.

    Attributes:
        window_tokens: request and reply together.
        output_tokens: the longest reply, or None where only the window limits it.
        input_tokens: the longest request where that is less than the window, else None.
    """

    window_tokens: int
    output_tokens: int | None
    input_tokens: int | None = None


_GPT_4O: Final = Window(128_000, 16_384)
_GPT_4_TURBO: Final = Window(128_000, 4_096)
_REASONING: Final = Window(200_000, 100_000)
_REALTIME: Final = Window(32_768, 4_096, 28_672)
_GPT_5: Final = Window(400_000, 128_000, 272_000)
_MILLION: Final = Window(1_050_000, 128_000, 922_000)

_FAMILIES: Final = {
    "gpt-3.5-turbo": Window(16_385, 4_096),
    "gpt-3.5-turbo-0301": Window(4_096, 4_096),
    "gpt-3.5-turbo-0613": Window(4_096, 4_096),
    "gpt-35-turbo": Window(16_385, 4_096),
    "gpt-4": Window(8_192, 8_192),
    "gpt-4-32k": Window(32_768, 8_192),
    "gpt-4-turbo": _GPT_4_TURBO,
    "gpt-4-1106-preview": _GPT_4_TURBO,
    "gpt-4-0125-preview": _GPT_4_TURBO,
    "gpt-4-vision-preview": _GPT_4_TURBO,
    "gpt-4o": _GPT_4O,
    "gpt-4o-2024-05-13": Window(128_000, 4_096),
    "chatgpt-4o": _GPT_4O,
    "gpt-audio": _GPT_4O,
    "gpt-realtime": _REALTIME,
    "gpt-realtime-mini": _REALTIME,
    "gpt-4.1": Window(1_047_576, 32_768),
    "gpt-4.5-preview": _GPT_4O,
    "o1": _REASONING,
    "o1-mini": Window(128_000, 65_536),
    "o1-preview": Window(128_000, 32_768),
    "o3": _REASONING,
    "o4-mini": _REASONING,
    "codex-mini": _REASONING,
    "computer-use-preview": Window(8_192, 1_024),
    "gpt-5": _GPT_5,
    "gpt-5-chat": _GPT_4O,
    "gpt-5-pro": Window(400_000, 272_000),
    "gpt-5.1": _GPT_5,
    "gpt-5.1-chat": _GPT_4O,
    "gpt-5.2": _GPT_5,
    "gpt-5.2-chat": _GPT_4O,
    "gpt-5.3-codex": _GPT_5,
    "gpt-5.3-codex-spark": Window(128_000, None),
    "gpt-5.3-chat": _GPT_4O,
    "gpt-5.4": _MILLION,
    "gpt-5.4-mini": _GPT_5,
    "gpt-5.4-nano": _GPT_5,
    "gpt-5.5": _MILLION,
    "gpt-5.6-sol": _MILLION,
    "gpt-5.6-terra": _MILLION,
    "gpt-5.6-luna": _MILLION,
    "gpt-6-astra": _MILLION,
    "gpt-6-sol": _MILLION,
    "gpt-6-luna": _MILLION,
    "gpt-6.1-sol": _MILLION,
    "gpt-6.1-terra": _MILLION,
    "gpt-oss-20b": Window(131_072, 131_072),
    "gpt-oss-120b": Window(131_072, 131_072),
    "llama-2": Window(4_096, None),
    "llama2": Window(4_096, None),
    "meta-llama-3-8b": Window(8_192, None),
    "meta-llama-3-70b": Window(8_192, None),
    "smollm2": Window(8_192, None),
    "tinyllama": Window(2_048, None),
}

_SEPARATORS: Final = frozenset("-:@_.")


def base_name(model: str | None) -> str:
    """A model's name in lower case, without vendor or path, fine-tuning prefix and suffix; "" for None.

    >>> base_name("openai/GPT-4o"), base_name("ft:gpt-4o-mini-2024-07-18:acme::x1")
    ('gpt-4o', 'gpt-4o-mini-2024-07-18')
    """
    name = (model or "").strip().lower()
    if name.startswith("ft:"):
        name = name[3:].partition(":")[0]
    return name.rpartition("/")[2]


def window_of(model: str | None) -> Window | None:
    """All known limits of a model, by the longest family name that begins its name; None where nothing is certain.

    A dot after the family's name is a newer version, of which nothing is known.
    """
    name = base_name(model)
    best = ""
    for family in _FAMILIES:
        if len(family) > len(best) and name.startswith(family):
            rest = name[len(family) :]
            if not rest or (rest[0] in _SEPARATORS and not (rest[0] == "." and family[-1].isdigit())):
                best = family
    return _FAMILIES.get(best)


def known_window(model: str | None) -> int | None:
    """Tokens of request and reply together, or None where the name does not tell.

    >>> known_window("gpt-4o-mini"), known_window("gpt-5.4"), known_window("qwen2.5:7b")
    (128000, 1050000, None)
    """
    known = window_of(model)
    return known.window_tokens if known else None


def known_output_limit(model: str | None) -> int | None:
    """Longest reply in tokens, or None where the name does not tell.

    >>> known_output_limit("gpt-4.1-nano-2025-04-14")
    32768
    """
    known = window_of(model)
    return known.output_tokens if known else None


def known_input_limit(model: str | None) -> int | None:
    """Longest request in tokens where the model limits it beside the window, else None.

    >>> known_input_limit("gpt-5-mini"), known_input_limit("gpt-4o")
    (272000, None)
    """
    known = window_of(model)
    return known.input_tokens if known else None
