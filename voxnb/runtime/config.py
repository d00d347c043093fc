"""What is looked up at run time: the one upward table, project paths, and the one place that prints."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from voxnb.errors import ParameterError

UPWARD: Final[dict[str, str]] = {
    "call_widget": "voxnb.notebook.call_widget:CallWidget",
    "chat_widget": "voxnb.notebook.chat_widget:ChatWidget",
    "draw_tables": "voxnb.notebook.frame_html:install",
    "event_table": "voxnb.store.tables:event_table",
    "framed": "voxnb.notebook.render:framed",
    "live_turn": "voxnb.notebook.live:live_turn",
    "local": "voxnb.local.model:serve_default",
    "local_model": "voxnb.local.model:default_model",
    "local_voice": "voxnb.local.voice:serve_default",
    "plot_folds": "voxnb.notebook.plots:plot_folds",
    "plot_latency": "voxnb.notebook.plots:plot_latency",
    "plot_tokens": "voxnb.notebook.plots:plot_tokens",
    "safe_html": "voxnb.notebook.render:markdown_html",
    "store_widget": "voxnb.notebook.store_widget:StoreWidget",
    "show_turn": "voxnb.notebook.show:show_turn",
    "show_reply": "voxnb.notebook.render:reply_html",
    "table_html": "voxnb.notebook.frame_html:table_html",
}
"""Name → ``module:attribute`` of everything that a lower room reaches in a higher one."""


def load(name: str) -> Any:
    """Import and return an entry of `UPWARD`.

    Args:
        name: a key of `UPWARD`.

    Raises:
        KeyError: there is no such entry.
    """
    module, _, attribute = UPWARD[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


FOLDER: Final = ".voxnb"
"""The folder at the project root for what belongs to it and not into its repository."""


def project_root() -> Path:
    """The nearest folder at or above the working directory with ``.git`` or ``pyproject.toml``, else the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".git").exists() or (folder / "pyproject.toml").exists():
            return folder
    return here


def expanded(path: str | os.PathLike[str]) -> Path:
    """A user's path, with ``~`` and ``~name`` replaced by the folders that they stand for.

    Raises:
        ParameterError: it is no path, there is no such user, or this one has no home folder.
    """
    try:
        return Path(path).expanduser()
    except TypeError as error:
        raise ParameterError(
            f"the path is {path!r} ({type(path).__name__}), expected a str or pathlib.Path", name="path"
        ) from error
    except RuntimeError as error:
        raise ParameterError(
            f"{str(path)!r} begins with a home folder that nobody knows here; write the path without ~", name="path"
        ) from error


def default_store_path() -> Path | None:
    """The path in ``VOXNB_STORE``, or None where it is unset or empty."""
    text = os.environ.get("VOXNB_STORE", "")
    return expanded(text) if text else None


def report_to(tell: Callable[[str], object]) -> None:
    """Have reports told by another process, which has somebody to tell them to."""
    global _tell  # noqa: PLW0603 - how this process speaks
    _tell = tell


_tell: Callable[[str], object] | None = None


def report(text: str) -> None:
    """Print one line on standard error: the only way in which background code speaks.

    In a notebook the line goes to the cell whose context the caller runs in.

    Args:
        text: what happened; line breaks become spaces.
    """
    if _tell is not None:
        _tell(text)
        return
    if sys.stderr is None:  # type: ignore[unreachable,unused-ignore]  # pythonw and some services have none
        return
    # A report about trouble must not make more of it: the stream may be closed already.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("voxnb: " + " ".join(text.split()) + "\n")
