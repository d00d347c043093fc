"""How far a long import or export is: a bar in a notebook or a terminal, a function's calls, or silence."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from voxnb.runtime import cells

Progress = bool | Callable[[int, int], object] | None
"""None: a bar where somebody can see it; True or False; or a function of (done, total), total 0 where it is not known."""

TICK_S: Final = 0.1
"""At most so often is anything drawn or called, but for the last time."""


@contextmanager
def following(wanted: Progress, *, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A function to call with how much is done by now.

    Args:
        wanted: see `Progress`.
        title: stands before the bar.
        total: how much there is; 0 where it is not known.
        unit: of both; ``B`` for bytes.
    """
    bar = None
    if callable(wanted):
        draw: Callable[[int, int], object] = wanted
    else:
        kernel = cells.in_kernel()
        shown = kernel or bool(sys.stderr and sys.stderr.isatty()) if wanted is None else wanted
        if not shown:
            yield lambda _done: None
            return
        if kernel:
            from tqdm.auto import tqdm
        else:
            from tqdm import tqdm
        bar = tqdm(total=total or None, desc=title, unit=unit, unit_scale=True, leave=False)

        def draw(done: int, _total: int) -> object:
            return bar.update(max(0, done - bar.n))

    seen, drawn = 0, 0.0

    def step(done: int) -> None:
        nonlocal seen, drawn
        seen = done
        if (now := time.monotonic()) - drawn >= TICK_S:
            drawn = now
            draw(done, total)

    try:
        yield step
        draw(seen, total)
    finally:
        if bar is not None:
            bar.close()
