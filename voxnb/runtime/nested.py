"""Nested event loops: the one place where asyncio is patched, and only when a user asks for it.

voxnb needs none of it, since its own loop runs in a thread. It is for code that would drive the loop that is
running already, such as a script pasted into a cell.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Container
from typing import Final

from voxnb.errors import NotSupportedError

NEWER: Final = "nest_asyncio2"
OLDER: Final = "nest_asyncio"
OLDER_BREAKS_AT: Final = (3, 14)
"""From here on `nest_asyncio` makes ``asyncio.current_task()`` return None, and every HTTP request fails."""

NOTICE: Final = "asyncio is patched by {package}, for this whole process and until it ends; in a notebook, until the kernel restarts"


def allow_nested_loops() -> None:
    """Let ``asyncio.run(…)`` and ``loop.run_until_complete(…)`` work where a loop is running already.

    It patches asyncio **for the whole process**, for every library in it, until the process ends; there is no way
    back but a new kernel. voxnb does not need it: its methods work in cells, scripts and async code as they are. It
    is for sync code that must drive a coroutine on the notebook's own loop: a pasted script that ends in
    ``asyncio.run(main())``, or an object of a cell (a lock, a connection) that is bound to that loop. Where you can
    write ``await main()`` instead, do.

    It prints one line that says so; calling it again changes and prints nothing. The package nest-asyncio2 is used where
    it is installed, else nest-asyncio, with which a completion that is asked for while such a cell runs may never come.

    Raises:
        NotSupportedError: the loop is not asyncio's own (uvloop), or only nest-asyncio is installed and Python is
            3.14 or newer, where it breaks every request; the message says what to do.
    """
    _refuse_foreign_loop()
    patched = patched_by()
    importable = {name for name in (NEWER, OLDER) if importlib.util.find_spec(name) is not None}
    name = choose(python=sys.version_info[:2], importable=importable, patched=patched)
    # Named one by one: what may be imported here is part of the house's rules.
    if name == NEWER:
        import nest_asyncio2 as nest
    else:
        import nest_asyncio as nest
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        # The patch is to the class of the loop, which outlives this one.
        probe = asyncio.new_event_loop()
        try:
            nest.apply(probe)
        finally:
            probe.close()
    else:
        nest.apply(running)
    if patched is None:
        print(NOTICE.format(package=name.replace("_", "-")))  # noqa: T201 - a cell asked for it, and shall show what it did


def patched_by() -> str | None:
    """The package that has patched asyncio in this process, whoever called it; None where it is as it came."""
    if not hasattr(asyncio, "_nest_patched"):
        return None
    return NEWER if hasattr(asyncio, "_nest_asyncio2") else OLDER


def choose(*, python: tuple[int, int], importable: Container[str], patched: str | None) -> str:
    """Which package patches asyncio.

    Args:
        python: major and minor version.
        importable: which of the two packages are installed.
        patched: the one that has patched asyncio already, or None: mixing them would patch patches.

    Returns:
        ``"nest_asyncio2"`` or ``"nest_asyncio"``.

    Raises:
        NotSupportedError: what there is would break this Python.

    >>> choose(python=(3, 12), importable={"nest_asyncio", "nest_asyncio2"}, patched=None)
    'nest_asyncio2'
    """
    too_new = python >= OLDER_BREAKS_AT
    reason = (
        f"nest-asyncio makes asyncio.current_task() return None on Python {python[0]}.{python[1]}, so that every "
        "request of the openai package fails"
    )
    if patched == OLDER and too_new:
        raise NotSupportedError(
            f"asyncio was patched by nest-asyncio in this process: {reason}; restart the kernel and call "
            "voxnb.allow_nested_loops() with nest-asyncio2 installed",
            name="allow_nested_loops",
            instead="nest-asyncio2",
        )
    if patched is not None:
        return patched
    if NEWER in importable:
        return NEWER
    if OLDER in importable and not too_new:
        return OLDER
    raise NotSupportedError(
        f"{reason}; install nest-asyncio2, or write 'await main()' in place of 'asyncio.run(main())'"
        if OLDER in importable
        else "neither nest-asyncio2 nor nest-asyncio is installed; install nest-asyncio2",
        name="allow_nested_loops",
        instead="nest-asyncio2",
    )


def _refuse_foreign_loop() -> None:
    """Only asyncio's own loops can be entered again.

    Raises:
        NotSupportedError: the running loop, or the one that would be made, is another's.
    """
    try:
        loop, made = asyncio.get_running_loop(), False
    except RuntimeError:
        loop, made = asyncio.new_event_loop(), True
    if made:
        loop.close()
    if not isinstance(loop, asyncio.BaseEventLoop):
        kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
        raise NotSupportedError(
            f"the event loop is {kind}, which cannot be entered while it runs; write 'await main()' in place of "
            "'asyncio.run(main())', or use asyncio's own loop (leave uvloop.install() out)",
            name="allow_nested_loops",
            instead="await",
        )
