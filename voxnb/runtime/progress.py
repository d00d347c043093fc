"""How far something long is: a line in a notebook, a bar in a terminal, a function's calls, or silence.

In a notebook it is a line of text that is replaced in place and stays as it was at the end: what is saved needs no widget.
"""

from __future__ import annotations

import html
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from voxnb.runtime import cells

Progress = bool | Callable[[int, int], object] | None
"""None: shown where somebody can see it; True or False; or a function of (done, total), total 0 where it is not known."""

TICK_S: Final = 0.1
"""At most so often is anything drawn or called, but for the last time."""


@contextmanager
def following(
    wanted: Progress,
    *,
    title: str,
    total: int,
    unit: str,
    after_s: float = 0.0,
    leave: bool = False,
    tick_s: float = TICK_S,
) -> Iterator[Callable[[int], None]]:
    """A function to call with how much is done by now.

    Args:
        wanted: see `Progress`.
        title: what is done.
        total: how much there is; 0 where it is not known.
        unit: of both, in the singular; ``B`` for bytes.
        after_s: what ends sooner shows nothing in a notebook that was not asked to show it.
        leave: whether the bar of a terminal stays.
        tick_s: how often a function is called at most, but for the last time.
    """
    bar: Any = None
    if callable(wanted):
        draw: Callable[[int, int], object] = wanted
    elif not (cells.in_kernel() or bool(sys.stderr and sys.stderr.isatty()) if wanted is None else wanted):
        yield lambda _done: None
        return
    elif cells.in_kernel():
        draw = _cell_line(title, unit, after_s=0.0 if wanted else after_s)
        draw(0, total)
    else:
        from tqdm import tqdm

        bar = tqdm(total=total or None, desc=title, unit=unit, unit_scale=unit == "B", leave=leave)

        def draw(done: int, _total: int) -> object:
            return bar.update(max(0, done - bar.n))

    rest_s = tick_s if callable(wanted) else TICK_S
    seen, drawn, drawn_s = 0, -1, 0.0

    def step(done: int) -> None:
        nonlocal seen, drawn, drawn_s
        seen = done
        if (now := time.monotonic()) - drawn_s >= rest_s:
            drawn, drawn_s = done, now
            draw(done, total)

    try:
        yield step
        if drawn != seen:
            draw(seen, total)
    finally:
        if bar is not None:
            bar.close()


def told(done: int, total: int, unit: str) -> str:
    """How much of how much.

    >>> told(1, 3, "turn"), told(41_000_000, 98_000_000, "B"), told(7, 0, "row")
    ('1 of 3 turns', '41.0 of 98.0 MB', '7 rows')
    """
    if unit == "B":
        return f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB" if total else f"{done / 1e6:,.1f} MB"
    units = unit if (total or done) == 1 else f"{unit}s"
    return f"{done:,} of {total:,} {units}" if total else f"{done:,} {units}"


def _cell_line(title: str, unit: str, *, after_s: float) -> Callable[[int, int], object]:
    """A line of the cell that runs, replaced in place."""
    from IPython.display import display

    name, began_s, shown = f"voxnb-{uuid.uuid4().hex}", time.monotonic(), False

    def draw(done: int, total: int) -> None:
        nonlocal shown
        if (took_s := time.monotonic() - began_s) < after_s:
            return
        text = f"{title}: {told(done, total, unit)}, {took_s:.1f} s"
        bundle = {
            "text/plain": text,
            "text/html": f'<p class="tex2jax_ignore mathjax_ignore"><small>{html.escape(text)}</small></p>',
        }
        display(bundle, raw=True, display_id=name, update=shown)
        shown = True

    return draw
