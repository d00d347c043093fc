"""`Growing`: Markdown that is still being written, as finished blocks that are rendered once, and a tail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MOST_TAIL: Final = 4_000
"""Characters of the tail: it is rendered again at every paint, which must stay cheap."""

FENCES: Final = ("```", "~~~")


class Growing:
    r"""A text that grows at its end.

    A block ends at an empty line outside of a fenced piece of code; a tail that gets too long is cut at a line's end.
    What such a cut tears apart (a long table, a list with empty lines) is whole again where all of it is rendered.

    Args:
        render: Markdown → safe HTML.

    Attributes:
        blocks: the HTML of what is finished.

    >>> text = Growing(lambda markdown: f"[{markdown.strip()}]")
    >>> text.grow("One.\n\nTw")
    >>> text.blocks, text.tail
    (['[One.]'], '[Tw]')
    >>> text.grow("o\n")
    >>> text.tail
    '[Two]'
    """

    def __init__(self, render: Callable[[str], str]) -> None:
        self.blocks: list[str] = []
        self.length = 0
        self._render = render
        self._tail = ""
        self._seen = 0
        self._fence = ""
        self._opener = self._opened = ""

    def grow(self, more: str) -> None:
        """Take what is new."""
        self._tail += more
        self.length += len(more)
        while (end := self._tail.find("\n", self._seen)) >= 0:
            line = self._tail[self._seen : end].strip()
            self._seen = end + 1
            if self._fence:
                self._fence = "" if line.startswith(self._fence) and not line.strip(self._fence[0]) else self._fence
            elif line.startswith(FENCES):
                self._fence = line[: len(line) - len(line.lstrip(line[0]))]
                self._opener = line
            if (not line and not self._fence) or self._seen > MOST_TAIL:
                self._cut(self._seen)
        if len(self._tail) > 2 * MOST_TAIL:
            self._cut(MOST_TAIL)

    def _cut(self, at: int) -> None:
        block = self._opened + self._tail[:at]
        if block.strip():
            self.blocks.append(self._render(block))
        self._tail, self._seen = self._tail[at:], 0
        # The rest of a torn piece of code is code.
        self._opened = f"{self._opener}\n" if self._fence else ""

    @property
    def tail(self) -> str:
        """The HTML of what is not finished."""
        return self._render(self._opened + self._tail) if self._tail.strip() else ""
