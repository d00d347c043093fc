"""What can be looked at without a page: versions, key, cache, folders, loops, kernel. Nothing is made, fetched or asked."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voxnb.clients.endpoint import check_key
from voxnb.errors import CredentialsError, LocalModelError
from voxnb.local import weights
from voxnb.notebook.probe import Page
from voxnb.runtime import cells
from voxnb.runtime.nested import OLDER, OLDER_BREAKS_AT, patched_by
from voxnb.store.context_store import default_path

OK: Final = "ok"
NOTE: Final = "note"
FAILED: Final = "failed"
SKIPPED: Final = "not here"

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?\s*\Z")
_OPTIONAL: Final = ("ipykernel", "jupyterlab", "notebook", "websockets", "xllamacpp", "altair", "nest-asyncio2")
_SUBSHELLS_SINCE: Final = (7, 0)
_CONFIRMED_MS: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ``ok``, ``note`` (works, with a limit), ``failed``, or ``not here`` (does not apply).
        found: what there is, in a line.
        cure: what to do, in a line; "" where nothing is to be done.
    """

    name: str
    state: str
    found: str
    cure: str = ""


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> numbers("3.54.0rc1"), numbers("7.0") < numbers("7.0.1")
    ((3, 54, 0), True)
    """
    return tuple(int(n) for n in re.match(r"[\d.]*", text)[0].split(".") if n)  # type: ignore[index]  # matches always


def versions() -> Check:
    """The interpreter and what voxnb is built on, against the least it needs."""
    old, shown = [], []
    for line in importlib.metadata.requires("voxnb") or ():
        requirement, _, marker = line.partition(";")
        match = _REQUIREMENT.match(requirement.strip())
        if match is None or "extra" in marker:
            continue
        name, least = match[1], match[2]
        found = version(name)
        if found is None or (least and numbers(found) < numbers(least)):
            old.append(f"{name}>={least}" if least else name)
        shown.append(f"{name} {found or 'missing'}")
    shown += [f"{name} {found}" for name in _OPTIONAL if (found := version(name)) is not None]
    text = f"voxnb {version('voxnb') or '?'}, Python {platform.python_version()}, " + ", ".join(shown)
    if old:
        quoted = " ".join(f"'{name}'" for name in old)
        return Check("versions", FAILED, text, f"pip install --upgrade {quoted}")
    return Check("versions", OK, text)


def key(environ: Mapping[str, str] = os.environ) -> Check:
    """Whether there is a key: yes or no, and nothing of it.

    >>> key({}).found, key({"OPENAI_API_KEY": "sk-1"}).found
    ('no', 'yes (OPENAI_API_KEY)')
    """
    found = environ.get("OPENAI_API_KEY", "")
    if not found.strip():
        return Check("key", NOTE, "no", 'set OPENAI_API_KEY, or use base_url="local" (the embedded model) or a tape')
    try:
        check_key(found, source="OPENAI_API_KEY")
    except CredentialsError as error:
        return Check("key", FAILED, "yes (OPENAI_API_KEY), and it cannot be sent", str(error))
    return Check("key", OK, "yes (OPENAI_API_KEY)")


def model_cache(environ: Mapping[str, str] = os.environ) -> Check:
    """Whether the embedded model could start now."""
    name = "embedded model"
    if importlib.util.find_spec("xllamacpp") is None:
        return Check(name, NOTE, "xllamacpp is not installed", "pip install 'voxnb[local]' to use base_url=\"local\"")
    own = environ.get(weights.VARIABLE)
    try:
        if own:
            file = weights.own_file(Path(own), source=weights.VARIABLE)
            return Check(name, OK, f"{str(file)!r} ({weights.VARIABLE})")
        file = weights.cache_folder(environ) / weights.SMOLLM2.file_name
    except LocalModelError as error:
        return Check(name, FAILED, "not to be had", str(error))
    if file.exists():
        return Check(name, OK, f"in {str(file.parent)!r}, {file.stat().st_size / 1e6:,.0f} MB")
    return Check(name, NOTE, "not fetched yet", 'the first base_url="local" fetches it once (93 MB)')


def write_access() -> Check:
    """Whether the store that nobody named could be written, and the folder for notebooks."""
    place = default_path()
    if str(place) == ":memory:":
        return Check("store", OK, "in memory (VOXNB_STORE)")
    file = Path(place).absolute()
    folder = next(folder for folder in (file.parent, *file.parents) if folder.exists())
    cure = f"name a folder that you may write: VOXNB_STORE=/path/store.db, or store='…' (now {str(file)!r})"
    if not folder.is_dir():
        return Check("store", FAILED, f"{str(folder)!r} is no folder", cure)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("store", FAILED, f"{str(folder)!r} cannot be written ({error.strerror or error})", cure)
    if file.is_dir():
        return Check("store", FAILED, f"{str(file)!r} is a folder", cure)
    if file.exists() and not os.access(file, os.W_OK):
        return Check("store", FAILED, f"{str(file)!r} cannot be written", cure)
    return Check("store", OK, f"{str(file)!r}{'' if file.exists() else ', made with the first turn'}")


def nested_loops() -> Check:
    """Whether somebody has patched asyncio."""
    patched = patched_by()
    if patched is None:
        return Check("nested loops", OK, "asyncio is as it came")
    if patched == OLDER and sys.version_info[:2] >= OLDER_BREAKS_AT:
        cure = "restart the kernel, pip install nest-asyncio2, and leave nest_asyncio.apply() out"
        return Check("nested loops", FAILED, "patched by nest_asyncio, which breaks every request on this Python", cure)
    if patched == OLDER:
        cure = "pip install nest-asyncio2, restart: with it completion does not print errors while a cell runs"
        return Check("nested loops", NOTE, "patched by nest_asyncio", cure)
    return Check("nested loops", OK, f"patched by {patched}")


def kernel() -> Iterator[Check]:
    """The kernel, and whether widgets are heard while a cell runs."""
    found = version("ipykernel")
    if not cells.in_kernel():
        yield Check("kernel", SKIPPED, "this is no notebook kernel")
        return
    running = getattr(cells.shell().kernel, "implementation", "ipython")
    if found is None or running != "ipython":
        yield Check("kernel", NOTE, f"{running}", "voxnb is tested on ipykernel 6.31 and newer")
        return
    loop = type(asyncio.get_event_loop_policy()).__module__ if sys.version_info < (3, 14) else "asyncio"
    uv = ", uvloop" if "uvloop" in loop else ""
    if numbers(found) < _SUBSHELLS_SINCE:
        cure = "pip install 'ipykernel>=7' and restart: without it Stop and voice wait until the cell ends"
        yield Check("kernel", NOTE, f"ipykernel {found}{uv}: a cell that runs blocks the widgets", cure)
        return
    yield Check("kernel", OK, f"ipykernel {found}{uv}")


def page_checks(page: Page | None, *, asked: bool) -> Iterator[Check]:
    """The page: front end, subshell, buffers, secure context, microphone.

    Args:
        page: what it said, or None.
        asked: whether there could be one.
    """
    if page is None and not asked:
        yield Check("front end", SKIPPED, "no page (a script, a terminal, or a notebook that is executed)")
        return
    if page is None:
        cure = "look for a blocked widget or a missing anywidget (pip install anywidget, then reload the page)"
        yield Check("front end", NOTE, "no page answered while this cell ran; replies are shown as text", cure)
        for name in ("subshell", "buffers", "secure context", "microphone"):
            yield Check(name, SKIPPED, "needs a page that answers")
        return
    yield Check("front end", OK, page.application)
    if page.beside:
        yield Check("subshell", OK, "widgets are heard while a cell runs")
    else:
        cure = "use `await` in cells, or ipykernel>=7 and a front end with subshells (JupyterLab 4.4, Notebook 7.4)"
        yield Check("subshell", NOTE, "widgets share the cells' shell", cure)
    yield _buffers(page)
    if page.secure:
        yield Check("secure context", OK, "yes")
    else:
        cure = "open it as https://… or http://localhost (ssh -L 8888:localhost:8888 host): else there is no microphone"
        yield Check("secure context", FAILED, "no", cure)
    yield _microphone(page)


def _buffers(page: Page) -> Check:
    if not page.sent or page.intact is False:
        cure = (
            "voice needs binary messages: use JupyterLab, Notebook 7 or marimo, or a microphone of the kernel's machine"
        )
        return Check("buffers", FAILED, "8 bytes did not come back as they went", cure)
    if page.intact is None or page.round_trip_ms is None:
        return Check("buffers", NOTE, "8 bytes came; their way back was not confirmed", "run the check again")
    slow = page.round_trip_ms > _CONFIRMED_MS
    cure = "the way between page and kernel is slow: voice will stutter" if slow else ""
    return Check("buffers", NOTE if slow else OK, f"8 bytes went and came back in {page.round_trip_ms:,.0f} ms", cure)


def _microphone(page: Page) -> Check:
    name = "microphone"
    if not page.secure or not page.devices:
        return Check(
            name, FAILED, "the page has no access to microphones", "see the secure context; VS Code allows none"
        )
    if page.allowed is False:
        return Check(name, FAILED, "the frame of this page may not use it", 'its host must say allow="microphone"')
    if not page.worklet:
        return Check(name, FAILED, "the browser has no AudioWorklet", "take a current Chromium, Firefox or Safari")
    if page.permission == "denied":
        return Check(name, FAILED, "denied", "allow it in the browser's settings of this site, and reload the page")
    return Check(
        name, OK, {"granted": "allowed", "prompt": "the browser will ask"}.get(page.permission, page.permission)
    )


def everything(*, page: Page | None, asked: bool, environ: Mapping[str, Any] = os.environ) -> tuple[Check, ...]:
    """All checks, in the order in which they are read."""
    return (
        versions(),
        *kernel(),
        *page_checks(page, asked=asked),
        nested_loops(),
        key(environ),
        model_cache(environ),
        write_access(),
    )
