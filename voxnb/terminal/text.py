r"""Text for a terminal: nothing in it acts on the terminal, and its width is counted in columns.

A model, a tool or an imported file may say anything, also what a terminal obeys: escape sequences (colours, cursor,
window title, the clipboard by OSC 52), carriage returns and backspaces that overwrite what stands there, and marks
that turn the order of letters around. `printable` shows all of these as Python would write them (``\x1b``), so that
nothing is hidden and nothing acts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

_ACTING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed; ESC and the one-byte CSI, OSC, DCS among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of text
    "\u2028\u2029\ufff9-\ufffb"  # separators that some terminals take for line feeds; annotations
    "\ud800-\udfff]"  # half a character, which no encoding can carry
)
_TAB: Final = " " * 4


def printable(text: str) -> str:
    r"""A text as it may be written to a terminal; line feeds stay.

    >>> print(printable("a\x1b]52;c;cm0=\x07b\r\nc\rd\u202eevil"))
    a\x1b]52;c;cm0=\x07b
    c\rd\u202eevil
    """
    return _ACTING.sub(_shown, text.replace("\r\n", "\n").replace("\t", _TAB))


def _shown(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "backslashreplace").decode("ascii")


class Printable:
    """`printable` for text that comes in pieces: a line break that is cut in two is still one."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        piece = self._held + piece
        self._held = "\r" if piece.endswith("\r") else ""
        return printable(piece.removesuffix(self._held))

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return printable(held)


# -- columns ----------------------------------------------------------------------------------


def _width(character: str) -> int:
    # Most letters of most texts, before the look-up.
    if " " <= character <= "~":
        return 1
    if character == "\ufe0f":  # shows the sign before it as a picture, which takes two columns
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width_of(text: str) -> int:
    """Columns that a printable text takes in a line.

    >>> width_of("iris"), width_of("北京"), width_of("e\u0301")
    (4, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_width, text))


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def clip(text: str, width: int) -> str:
    """The text in at most so many columns; where it is cut, ``…`` says so.

    >>> clip("petal length", 8), clip("北京大学", 5), clip("iris", 8)
    ('petal l…', '北京…', 'iris')
    """
    if width_of(text) <= width:
        return text
    out, used = "", 0
    for character in text:
        used += _width(character)
        if used > width - 1:
            break
        out += character
    return out + "…" if width > 0 else ""


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text filled up with spaces to a width; ``right`` puts it at the right."""
    blank = " " * max(0, width - width_of(text))
    return blank + text if right else text + blank


def wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a text, broken at spaces, and within words that are longer than a line.

    >>> list(wrapped("petals and sepals", 10))
    ['petals and', 'sepals']
    """
    for paragraph in text.split("\n"):
        line, used = "", 0
        for word in paragraph.split(" "):
            size = width_of(word)
            if line and used + 1 + size > width:
                yield line
                line, used = "", 0
            elif line:
                line, used = line + " ", used + 1
            if size > width:
                *full, word = _pieces(word, width, room=width - used)  # noqa: PLW2901 - the rest of the same word
                for piece in full:
                    yield line + piece
                    line, used = "", 0
                size = width_of(word)
            line, used = line + word, used + size
        yield line


def _pieces(word: str, width: int, *, room: int) -> Iterator[str]:
    """A word that is too long, in pieces: the first fits into the room that is left, the others into a line."""
    start = used = 0
    for position, character in enumerate(word):
        size = _width(character)
        if used + size > room and position > start:
            yield word[start:position]
            start, used, room = position, 0, width
        used += size
    yield word[start:]
