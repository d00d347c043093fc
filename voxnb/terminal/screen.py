"""Where lines are written: a terminal, whose width and safety matter, or a file, which gets the text as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Final, TextIO, TypeAlias

from voxnb.terminal.text import Printable, clip, one_line, pad, printable, width_of, wrapped

Span: TypeAlias = str | tuple[str, str]
"""A text, or a text with its colour (the numbers of an SGR sequence, such as ``1;36``)."""

READING_COLUMNS: Final = 110
"""Longer lines are hard to read; tables may be wider."""

LEAST_COLUMNS: Final = 20
LEAST_FLEXIBLE: Final = 6

_ASCII: Final = str.maketrans({"─": "-", "│": "|", "…": "~", "·": "-", "→": ">", "↵": "/"})
"""Our own signs, for terminals and files that have no Unicode."""


class Screen:
    """Lines, headings, blocks and tables on a terminal or in a file.

    On a terminal every text is made `printable`, whoever wrote it, and spans are coloured where the user allows
    colours (``NO_COLOR`` is not set). A file gets the text unchanged.

    Args:
        out: where to.

    Attributes:
        out: as given.
        live: whether it is a terminal.
        colours: whether spans are coloured.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.live = out.isatty()
        self.colours = self.live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._plain_signs = not (out.encoding or "utf-8").lower().replace("-", "").startswith("utf")
        self._stream = Printable()

    @property
    def columns(self) -> int:
        """Columns of the terminal as it is now; in a file what ``COLUMNS`` says, else 110."""
        size = shutil.get_terminal_size((READING_COLUMNS, 24)).columns
        if not self.live and "COLUMNS" not in os.environ:
            size = READING_COLUMNS
        return max(LEAST_COLUMNS, size)

    @property
    def width(self) -> int:
        """Columns of a line that is read."""
        return min(self.columns, READING_COLUMNS)

    def rendered(self, *spans: Span) -> str:
        """Spans as they are written."""
        out = ""
        for span in spans:
            text, colour = (span, "") if isinstance(span, str) else span
            if self.live:
                text = printable(text)
            if self._plain_signs:
                text = text.translate(_ASCII)
            out += f"\x1b[{colour}m{text}\x1b[0m" if colour and self.colours else text
        return out

    def line(self, *spans: Span) -> None:
        """One line."""
        print(self.rendered(*spans), file=self.out, flush=True)

    def write(self, piece: str) -> None:
        """A piece of a text that is still coming."""
        print(self._stream.feed(piece) if self.live else piece, end="", file=self.out, flush=True)

    def end(self) -> None:
        """The end of such a text, and of its line."""
        print(self._stream.end(), file=self.out, flush=True)

    def head(self, text: str) -> None:
        """A heading."""
        shown = clip(one_line(text), self.width - 8)
        self.line()
        self.line((f"── {shown} " + "─" * max(4, self.width - width_of(shown) - 4), "1"))

    def block(self, text: str, *, indent: str = "    │ ") -> None:
        """Several lines, set apart and wrapped."""
        shown = printable(text) if self.live else text
        for line in wrapped(shown, max(LEAST_FLEXIBLE, self.width - len(indent))):
            self.line(indent + line)

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[str] = (),
        flexible: Sequence[str] = (),
    ) -> None:
        """Rows in columns that fit the terminal.

        Args:
            heads: names of the columns.
            rows: texts; each is shown in one line.
            right: columns of numbers, set at the right.
            flexible: columns that may be cut, the last one first.
        """
        cells = [[printable(one_line(cell)) for cell in row] for row in rows]
        widths = [max([width_of(head), *(width_of(row[n]) for row in cells)]) for n, head in enumerate(heads)]
        self._fit(widths, heads, flexible)
        for number, row in enumerate([list(heads), *cells]):
            shown = [
                pad(clip(cell, width), width, right=head in right)
                for cell, width, head in zip(row, widths, heads, strict=True)
            ]
            self.line((clip("  ".join(shown).rstrip(), self.columns), "" if number else "1"))

    def _fit(self, widths: list[int], heads: Sequence[str], flexible: Sequence[str]) -> None:
        """Narrow the flexible columns, the last one first, until a row fits."""
        over = sum(widths) + 2 * (len(widths) - 1) - self.columns
        for head in reversed(flexible):
            if over <= 0:
                return
            n = list(heads).index(head)
            taken = min(over, widths[n] - min(widths[n], max(LEAST_FLEXIBLE, width_of(head))))
            widths[n] -= taken
            over -= taken
