"""Where a text may be cut: at whole sentences and lines, in any script; and where it only repeats itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

REPEATED_LINES: Final = 3
"""As often as this in a row, a line (or a block of lines) is a model that does not stop."""

LONGEST_BLOCK_LINES: Final = 8
LOOKED_AT_CHARS: Final = 40_000
"""How far a text is searched for a phrase over and over: no summary is that long."""

_CLOSING: Final = "\"'”’)\\]»」』）】》"
_END: Final = re.compile(
    # Scripts that put no space between sentences; all others, where a space or the end follows; a line.
    rf"[。！？｡]+[{_CLOSING}]*|[.!?…؟۔।॥።։။។]+[{_CLOSING}*_]*(?=\s|$)|\n"
)
_MAY_END: Final = re.compile(r"[。！？｡.!?…؟۔।॥።։။។\n]")
"""What `_END` begins with; one set of letters is searched for several times as fast as three ways to go on."""

_CLOSED: Final = re.compile(rf"[{_CLOSING}]\s*$")
_LIST_NUMBER: Final = re.compile(r"\s*(?:\d{1,3}|[A-Za-z])")
_LIST_MARK: Final = re.compile(r"(?:[-*•+]|\d{1,3}[.)])\s+")
_LOOP: Final = re.compile(r"(.{12,200}?)\1{3,}", re.DOTALL)
_WORD: Final = re.compile(r"\w")


def sentence_ends(text: str) -> list[int]:
    """Positions after which a sentence or a line is over; the number of a list is no sentence.

    >>> sentence_ends("One. 2.5 is two. 三。四。")
    [4, 16, 19, 21]
    """
    ends: list[int] = []
    at = 0
    while (first := _MAY_END.search(text, at)) is not None:
        match = _END.match(text, first.start())
        at = first.end() if match is None else match.end()
        if match is None or (match.group() == "." and _is_list_number(text, first.start())):
            continue
        ends.append(at)
    return ends


def _is_list_number(text: str, end: int) -> bool:
    return _LIST_NUMBER.fullmatch(text, text.rfind("\n", 0, end) + 1, end) is not None


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without those that are blank.

    >>> sentences("One. Two! 三。四")
    ['One.', 'Two!', '三。', '四']
    """
    ends = [0, *sentence_ends(text), len(text)]
    return [part for a, b in pairwise(ends) if (part := text[a:b].strip())]


def cut_at_sentence(text: str, *, limit_tokens: int, count: Callable[[str], int]) -> str:
    """The longest run of whole sentences (or lines) within a token limit; "" if there is none."""
    ends = sentence_ends(text)
    if _CLOSED.search(text):
        ends.append(len(text))
    low, high = 0, len(ends)
    while low < high:  # the longest prefix that fits: counts grow with length
        middle = (low + high + 1) // 2
        if count(text[: ends[middle - 1]].strip()) <= limit_tokens:
            low = middle
        else:
            high = middle - 1
    return text[: ends[low - 1]].strip() if low else ""


def without_repetition(text: str) -> tuple[str, bool]:
    """The text up to where it begins to repeat itself, and whether it does.

    Looked for are equal lines or blocks of lines in a row (their list numbers may differ, the last may be cut off),
    and one phrase over and over within a line. What is left of repeated lines ends with a newline.
    """
    lines = text.split("\n")
    keys = [(n, key) for n, line in enumerate(lines) if _WORD.search(key := _key(line))]
    found = [end for size in range(1, LONGEST_BLOCK_LINES + 1) if (end := _first_loop(keys, size=size)) is not None]
    if found:
        return "\n".join(lines[: min(found) + 1]) + "\n", True
    for match in _LOOP.finditer(text, 0, LOOKED_AT_CHARS):
        if _WORD.search(match.group(1)):  # a ruled line is no loop
            return text[: match.start() + len(match.group(1))].strip(), True
    return text, False


def _key(line: str) -> str:
    line = line.strip()
    mark = _LIST_MARK.match(line)
    return line[mark.end() if mark else 0 :].casefold()


def _first_loop(keys: Sequence[tuple[int, str]], *, size: int) -> int | None:
    """Index of the last line of the first block of ``size`` lines that stands there `REPEATED_LINES` times in a row."""
    run = 0
    for n in range(size, len(keys)):
        before, key = keys[n - size][1], keys[n][1]
        run = run + 1 if before == key or (n == len(keys) - 1 and before.startswith(key)) else 0
        if run == size * (REPEATED_LINES - 1):
            return keys[n - run][0]
    return None


def one_line(text: str, *, limit_chars: int = 400) -> str:
    """White space folded, and the middle left out where it is long."""
    text = " ".join(text.split())
    if len(text) <= limit_chars:
        return text
    return text[: limit_chars * 2 // 3] + " … " + text[-limit_chars // 3 :]


def shorten(text: str, *, limit_tokens: int, count: Callable[[str], int]) -> str:
    """The start of a text within a token limit, marked as shortened; "" if nothing fits."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle].rstrip() + " …") <= limit_tokens:
            low = middle
        else:
            high = middle - 1
    kept = text[:low].rstrip()
    return kept + " …" if kept else ""
