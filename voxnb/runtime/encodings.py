"""Token counts of OpenAI's encodings, exact and offline.

tiktoken fetches its rank files from the network at first use. Here they travel in
the package, packed, and tiktoken's own `Encoding` is built from them.

A packed file is zlib over: number of tokens (4 bytes, little-endian), length of each
token (1 byte), the tokens in rank order. Rank order is the rank, so nothing else is needed. What is
unpacked must have the SHA-256 that is written here; that the file which OpenAI publishes can be rebuilt
from it, with the SHA-256 that tiktoken expects, is tested (doing it at every start would take longer than
all the rest of the unpacking).

Rule 1: a damaged file is an error, never a wrong count.
Rule 2: text is text: what looks like a special token is counted as the characters it is made of.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voxnb.errors import ParameterError, VoxnbError
from voxnb.memory.window import base_name
from voxnb.runtime.packages import import_apart

if TYPE_CHECKING:
    import tiktoken

RANKS: Any = resources.files(__package__) / "rank"
"""Where the packed files are: ``<encoding>.ranks``."""

MAX_TOKEN_BYTES: Final = 128
"""The longest token of both encodings."""

LONG_TEXT_CHARS: Final = 1_000_000
LONG_RUN_CHARS: Final = 500_000
"""tiktoken 0.14 panics on a run of a million blanks (its pattern's stack is full); a longer one is cut in pieces."""

END_OF_TEXT: Final = "<|endoftext|>"
"""A special token of both encodings."""

_BLANKS: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What makes an encoding beside its ranks, and the SHA-256 of these, unpacked.

    Source: tiktoken 0.14, ``tiktoken_ext/openai_public.py``.
    """

    sha256: str
    pattern: str
    special: dict[str, int]


_RECIPES: Final = {
    "o200k_base": _Recipe(
        sha256="ba55b38e477b631966c2496061ecd7d10108501c7c47358222d9dc27c22f9422",
        pattern=(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
            r"|\s*[\r\n]+"
            r"|\s+(?!\S)"
            r"|\s+"
        ),
        special={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "cl100k_base": _Recipe(
        sha256="79045c4dbf49c4e3b90893afbcbfd80cf94cf2b99256bd84b19ffcace49d9bd2",
        pattern=r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        special={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
}

DEFAULT_ENCODING: Final = "o200k_base"
"""For a model whose tokenizer is not OpenAI's: the nearest that is always there."""

_CL100K: Final = (
    "gpt-4", "gpt-3.5", "gpt-3.5-turbo", "gpt-35-turbo", "davinci-002", "babbage-002", "text-embedding-ada-002",
    "text-embedding-3-small", "text-embedding-3-large",
)  # fmt: skip
_O200K: Final = (
    "gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt-", "o1", "o3", "o4", "codex-mini", "computer-use", "gpt-audio",
    "gpt-realtime",
)  # fmt: skip


class EncodingChoice(NamedTuple):
    """Which encoding counts for a model, and whether it is the model's own."""

    name: str
    exact: bool


def encoding_for(model: str | None) -> EncodingChoice:
    """The encoding that counts for a model.

    Args:
        model: its name as sent to the server, with or without a vendor (``openai/gpt-4o``) or a fine-tuning
            prefix; None where it is not known.

    Returns:
        ``exact`` is False where the model's tokenizer is another, or not known: counts are then estimates.

    Source: ``tiktoken.model`` 0.14, and the models that followed the families it names.

    >>> encoding_for("gpt-4-0613"), encoding_for("llama3.1:8b")
    (EncodingChoice(name='cl100k_base', exact=True), EncodingChoice(name='o200k_base', exact=False))
    """
    name = base_name(model)
    if name.startswith(_O200K):
        return EncodingChoice("o200k_base", exact=True)
    if name in _CL100K or name.startswith(("gpt-4-", "gpt-3.5-turbo-", "gpt-35-turbo-")):
        return EncodingChoice("cl100k_base", exact=True)
    return EncodingChoice(DEFAULT_ENCODING, exact=False)


_lock = threading.Lock()
_encodings: dict[str, tiktoken.Encoding] = {}
_counters: dict[str, Callable[[str], int]] = {}


def _new_lock() -> None:
    # A fork while another thread loads would leave the child a lock that nobody releases.
    global _lock  # noqa: PLW0603 - the one lock of this module
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def counter(encoding: str) -> Callable[[str], int]:
    """A function that counts the tokens of a text; the same function for every call.

    The rank file is read when the first text is counted, once per process. Any str is counted: special-token text
    as plain text, a lone surrogate as U+FFFD.

    Args:
        encoding: ``o200k_base`` or ``cl100k_base``.

    Raises:
        ParameterError: an encoding that is not packaged.
        VoxnbError: from the returned function, where the packaged file is damaged.

    >>> counter("o200k_base")("tiktoken is great!")
    6
    """
    if encoding not in _RECIPES:
        raise ParameterError(
            f"encoding is {encoding!r}, expected one of {', '.join(_RECIPES)}", name="encoding", nearest=tuple(_RECIPES)
        )

    def count(text: str) -> int:
        encode = load(encoding).encode_ordinary
        if len(text) < LONG_TEXT_CHARS:
            return len(encode(text))
        return sum(len(encode(piece)) for piece in _pieces(text))

    return _counters.setdefault(encoding, count)


def count_each(encoding: str, texts: Sequence[str]) -> list[int]:
    """The tokens of each of many texts, as `counter` counts them, while other threads go on.

    The texts are put into one with a special token between them, across which tiktoken joins nothing. So it is called
    once for many texts, and Python's lock is free meanwhile.

    Args:
        encoding: see `counter`.
        texts: any number.

    >>> count_each("o200k_base", ["tiktoken is great!", "", "Hi"])
    [6, 0, 1]
    """
    import_apart("numpy")
    import numpy as np

    if not texts:
        return []
    count, loaded = counter(encoding), load(encoding)
    joined = END_OF_TEXT.join(texts)
    if len(joined) >= LONG_TEXT_CHARS or joined.count(END_OF_TEXT) != len(texts) - 1:
        if len(texts) == 1:
            return [count(texts[0])]
        half = len(texts) // 2
        return count_each(encoding, texts[:half]) + count_each(encoding, texts[half:])
    try:
        tokens = loaded.encode_to_numpy(joined, allowed_special={END_OF_TEXT}, disallowed_special=())
    except UnicodeEncodeError:  # a lone surrogate in one of them
        return [count(text) for text in texts]
    ends = np.flatnonzero(tokens == loaded.eot_token)
    bounds = np.concatenate(([-1], ends, [len(tokens)]))
    counts: list[int] = (np.diff(bounds) - 1).tolist()
    return counts


def cut_to_tokens(text: str, limit_tokens: int, *, encoding: str = DEFAULT_ENCODING) -> str:
    """The longest start of a text that has at most so many tokens, cut between characters.

    Args:
        text: any text; a lone surrogate comes back as U+FFFD.
        limit_tokens: 0 gives "".
        encoding: see `counter`.

    >>> cut_to_tokens("tiktoken is great!", 4)
    'tiktoken is'
    """
    count = counter(encoding)
    text = text[: max(0, limit_tokens) * MAX_TOKEN_BYTES]
    tokens: list[int] = []
    for piece in _pieces(text):
        tokens += load(encoding).encode_ordinary(piece)
    if len(tokens) <= limit_tokens:
        return text
    # A cut text may split into more tokens than the whole did: then a little more is taken off.
    for kept in range(limit_tokens, 0, -1):
        start = load(encoding).decode_bytes(tokens[:kept]).decode("utf-8", "ignore")
        if count(start) <= limit_tokens:
            return start
    return ""


def _pieces(text: str) -> Iterator[str]:
    """The text in stretches that tiktoken can take; one, unless it holds an endless run of blanks."""
    start = 0
    if len(text) >= LONG_TEXT_CHARS:
        for run in _BLANKS.finditer(text):
            for cut in range(run.start() + LONG_RUN_CHARS, run.end(), LONG_RUN_CHARS):
                yield text[start:cut]
                start = cut
    yield text[start:]


def load(name: str) -> tiktoken.Encoding:
    """The `tiktoken.Encoding` of this name, built from the packaged ranks once per process; safe from any thread.

    Raises:
        VoxnbError: the packaged file is missing or damaged.
    """
    ready = _encodings.get(name)
    if ready is not None:
        return ready
    import_apart("tiktoken")
    with _lock:
        if name not in _encodings:
            import tiktoken

            recipe = _RECIPES[name]
            try:
                packed = (RANKS / f"{name}.ranks").read_bytes()
            except OSError as error:
                raise _damaged(name, f"cannot be read ({error})") from error
            _encodings[name] = tiktoken.Encoding(
                name,
                pat_str=recipe.pattern,
                mergeable_ranks=unpack(packed, name=name),
                special_tokens=recipe.special,
            )
    return _encodings[name]


def pack(original: bytes) -> bytes:
    """Pack a rank file as OpenAI publishes it (lines of base64 token and rank, ranks from 0).

    Raises:
        ValueError: ranks that do not follow the lines, which this format cannot hold.
    """
    tokens = []
    for rank, line in enumerate(original.splitlines()):
        token, number = line.split()
        if int(number) != rank:
            raise ValueError(f"line {rank + 1} has rank {int(number)}, expected {rank}")
        tokens.append(base64.b64decode(token))
    body = len(tokens).to_bytes(4, "little") + bytes(map(len, tokens)) + b"".join(tokens)
    return zlib.compress(body, 9)


def unpack(packed: bytes, *, name: str) -> dict[bytes, int]:
    """The ranks of a packed file.

    Raises:
        VoxnbError: the file is damaged, or another encoding's.
    """
    try:
        body = zlib.decompress(packed)
    except zlib.error as error:
        raise _damaged(name, f"cannot be unpacked ({error})") from error
    if hashlib.sha256(body).hexdigest() != _RECIPES[name].sha256:
        raise _damaged(name, "does not hold the published ranks")
    first = 4 + int.from_bytes(body[:4], "little")
    ranks, at = {}, first
    for rank, length in enumerate(body[4:first]):
        ranks[body[at : at + length]] = rank
        at += length
    return ranks


def _damaged(name: str, what: str) -> VoxnbError:
    return VoxnbError(
        f"the rank file of {name!r} {what}; install voxnb again (pip install --force-reinstall --no-deps voxnb)",
        encoding=name,
    )
