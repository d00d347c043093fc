"""SQLite's and the file system's errors as voxnb's, each with what to do."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Final

from voxnb.errors import (
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
)

BUSY_TIMEOUT_S: Final = 30.0
"""How long a write waits for another process; folds and imports hold the lock for milliseconds."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether SQLite says that somebody else holds the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextlib.contextmanager
def mapped_sql(path: str) -> Iterator[None]:
    """Turn sqlite errors into voxnb's; what else the caller raises is its own."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:  # all that a file holds was written whole
        raise damaged(path, error) from error


@contextlib.contextmanager
def mapped(path: str) -> Iterator[None]:
    """Turn sqlite and file system errors into voxnb's, with what to do."""
    try:
        with mapped_sql(path):
            yield
    except OSError as error:
        raise StoreError(
            f"cannot open the store {path!r}: {error.strerror or error}; choose another path (store=… or VOXNB_STORE)",
            path=path,
        ) from error


def damaged(path: str, error: Exception) -> StoreFormatError:
    """The error for a file that does not hold what was written into it."""
    return StoreFormatError(f"{path!r} is damaged ({error}); copy it away and restore a backup", path=path)


def store_error(error: sqlite3.Error, path: str) -> StoreError:
    """The voxnb error for a sqlite one."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # The log's shared memory is a file too, and says that it cannot grow in its own way.
    if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFullError(
            f"the disk with {path!r} is full; nothing of this write was kept, make room and repeat", path=path
        )
    if code == sqlite3.SQLITE_NOTADB:
        return StoreFormatError(f"{path!r} is not a SQLite database; choose another path", path=path)
    if code == sqlite3.SQLITE_CORRUPT:
        return damaged(path, error)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreReadOnlyError(
            f"{path!r} cannot be written ({error}); check its permissions or open it with read_only=True",
            path=path,
        )
    if is_busy(error):
        return StoreBusyError(
            f"{path!r} was held by another process for {BUSY_TIMEOUT_S:.0f} s; close what holds it and repeat",
            path=path,
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"cannot open {path!r} ({error}); check the folder and its permissions", path=path)
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"reading or writing {path!r} failed ({error}); check the disk", path=path)
    return StoreError(f"the store {path!r} refused a statement ({error})", path=path)
