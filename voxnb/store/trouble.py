"""SQLite's and the file system's errors as voxnb's, each with what to do."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Final

from voxnb.errors import (
    ParameterError,
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
    VoxnbError,
)
from voxnb.store.damage import wrong_values

BUSY_TIMEOUT_S: Final = 30.0
"""How long a write waits for another process; folds and imports hold the lock for milliseconds."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether SQLite says that somebody else holds the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite found pages that are none of its own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def has_log(file: Path) -> bool:
    """Whether a log lies beside a store, and in it what the file does not hold yet."""
    log = file.with_name(f"{file.name}-wal")
    return log.exists() and log.stat().st_size > 0


NOT_AS_WRITTEN: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the reading of a damaged value raises."""


class mapped_sql:  # noqa: N801 - read as a verb: `with mapped_sql(path):`
    """Turn sqlite errors into voxnb's, and what a damaged value does to those who read it; the rest is the caller's own.

    Args:
        path: the store's, for the message.
        connection: where to look for such a value.
    """

    __slots__ = ("connection", "path")  # a class: as a generator it would cost every statement three times as much

    def __init__(self, path: str, connection: sqlite3.Connection | None = None) -> None:
        self.path = path
        self.connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise store_error(error, self.path) from error
        if isinstance(error, UnicodeEncodeError):
            raise ParameterError(
                f"{error.object[:80]!r} is not Unicode at character {error.start} (a lone surrogate); repair it first"
            ) from error
        if isinstance(error, NOT_AS_WRITTEN) and not isinstance(error, VoxnbError):
            with mapped_sql(self.path):
                wrong = next(wrong_values(self.connection), None) if self.connection is not None else None
            if wrong is not None:
                raise damaged(self.path, wrong) from error
            if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError)):  # all that a file holds was written whole
                raise damaged(self.path, error) from error


class mapped(mapped_sql):  # noqa: N801 - see above
    """Turn sqlite and file system errors into voxnb's, with what to do."""

    __slots__ = ()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StoreError(
                f"cannot open the store {self.path!r}: {error.strerror or error}; choose another path (store=… or VOXNB_STORE)",
                path=self.path,
            ) from error
        super().__exit__(kind, error, trace)


def damaged(path: str, how: object) -> StoreFormatError:
    """The error for a file with a value that was not written into it."""
    return StoreFormatError(
        f"{path!r} is damaged ({how}); copy it away and restore a backup, or ask verify() what else is wrong", path=path
    )


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
    if is_corrupt(error):
        # Not "ask verify()", as for a wrong value: such a file can often not even be opened.
        return StoreFormatError(
            f"{path!r} is damaged ({error}); copy it away with the -wal beside it and restore a backup, or without one save "
            "what can still be read into a new file with .recover of sqlite.org's sqlite3 shell",
            path=path,
        )
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
        return _cannot_open(error, Path(path))
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMMAP:
        return StoreError(
            f"{path!r} has a log, which cannot be read in its folder (no memory can be shared there, as in many network "
            "folders); open it once without read_only, which ends the log, or copy it elsewhere with the -wal beside it",
            path=path,
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"reading or writing {path!r} failed ({error}); check the disk", path=path)
    return StoreError(f"the store {path!r} refused a statement ({error})", path=path)


def _cannot_open(error: sqlite3.Error, file: Path) -> StoreError:
    path, what = str(file), f"cannot open {str(file)!r} ({error})"
    if not file.is_file() or os.access(file.parent, os.W_OK):
        return StoreError(f"{what}; check the folder and its permissions", path=path)
    if has_log(file):
        return StoreReadOnlyError(
            f"{what}: its folder cannot be written, which the log {file.name}-wal needs even to be read; "
            "copy both to another folder and open that copy",
            path=path,
        )
    return StoreReadOnlyError(f"{what}: its folder cannot be written; open it with read_only=True", path=path)
