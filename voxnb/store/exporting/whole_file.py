"""A file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from voxnb.errors import StoreError, StoreFullError
from voxnb.store.place import check_name


def write_whole(target: Path, write: Callable[[IO[bytes]], None], *, overwrite: bool) -> None:
    """Let ``write`` fill a file, readable by its owner only; whatever it raises leaves no file and the old one as it was.

    Raises:
        StoreError: the file is there, or cannot be written.
        StoreFullError: the disk is full.
    """
    check_name(str(target))
    try:
        _check_free(target, overwrite=overwrite)
        handle, name = tempfile.mkstemp(prefix=".voxnb-export-", dir=target.parent)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                write(file)
                file.flush()
                os.fsync(file.fileno())
            _check_free(target, overwrite=overwrite)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (StoreFullError if full else StoreError)(
            f"cannot write {str(target)!r}: {error.strerror or error}; choose another place", path=str(target)
        ) from error


def _check_free(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    # A folder, a device or a pipe would be taken away, not written to.
    if not target.is_file() or not overwrite:
        hint = "choose another name or pass overwrite=True" if target.is_file() else "choose a file's name"
        raise StoreError(f"{str(target)!r} exists; {hint}", path=str(target))
