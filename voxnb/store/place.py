"""Whether the path of an open store still names the file that was opened, and what is done where it does not.

Somebody deletes the file beside a running notebook, or moves a backup into its place: SQLite goes on with the file that
it has open, and what it writes is in none that anybody finds. So it does where a clean-up took only the log beside it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from voxnb.errors import StoreError, StoreGoneError
from voxnb.store.trouble import BUSY_TIMEOUT_S

LOG_WAIT_MS: Final = 1_000
"""How long emptying the log waits for readers."""

LOG_REMOVED: Final = "left without its log"
LOG_REPLACED: Final = "given another log"
"""How a log went, in words."""


class Placed(Protocol):
    """An open store."""

    path: str
    closed: bool

    def unusable(self) -> str:
        """Why nothing can be read or written; "" while it can."""

    def close(self) -> None:
        """Write the log back where the file is gone, and close all connections."""


_stores: Final[weakref.WeakSet[Placed]] = weakref.WeakSet()


def watch(store: Placed) -> None:
    """Close the store before the process ends, should its file be gone then."""
    _stores.add(store)


def close_gone(path: str | None = None) -> None:
    """Close the stores (of a path) whose file is gone: a log that they leave would be read with the next file there."""
    for store in list(_stores):
        if path in (None, store.path) and not store.closed and store.unusable():
            store.close()


atexit.register(close_gone)


class Place:
    """The path of a store, and which files it and the log beside it named when they were opened.

    Args:
        path: of the store.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None

    def remember(self) -> None:
        """Now the file is open."""
        self._file = which_file(self._path)

    def remember_log(self, c: sqlite3.Connection) -> None:
        """Now a connection is open; the log is there once that has read."""
        if self._file is None or self._log is not None:
            return
        c.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if c.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            with contextlib.suppress(FileNotFoundError):  # of a file in a folder that cannot be written
                self._log = which_file(f"{self._path}-wal")

    def gone(self, held: Callable[[], Sequence[sqlite3.Connection]]) -> str:
        """How the file or its log went, in words; "" while they are there, or where nothing tells. Costs two look-ups.

        Args:
            held: the connections that are open; the last one takes its log along.
        """
        if self._file is None:
            return ""
        try:
            now = which_file(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return "removed"
        except OSError:  # reading and writing will tell what is wrong
            return ""
        return "replaced by another file" if now not in (self._file, None) else self._log_gone(held)

    def _log_gone(self, held: Callable[[], Sequence[sqlite3.Connection]]) -> str:
        if self._log is None:
            return ""
        try:
            how = LOG_REPLACED if which_file(f"{self._path}-wal") != self._log else ""
        except FileNotFoundError:
            how = LOG_REMOVED
        except OSError:
            return ""
        if how and not held():
            self._log, how = None, ""
        return how


def which_file(path: str | Path) -> tuple[int, int] | None:
    """Which file a path names; None where nothing tells: an open file cannot go (Windows), or files have no numbers."""
    found = os.stat(path)  # noqa: PTH116 - at every statement: a Path would take twice as long
    return (found.st_dev, found.st_ino) if found.st_ino and os.name != "nt" else None


def check_name(path: str) -> None:
    """Raise a StoreError for a path that names no file anywhere."""
    try:
        Path(path).stat()
    except ValueError as error:  # NUL, or a lone surrogate
        raise StoreError(f"{path!r} can be no file's path ({error}); choose another", path=path) from error
    except OSError:  # what is not there can be made
        return


def gone_error(path: str, how: str, *, held: bool) -> StoreGoneError:
    """The error for a file that is no longer in its place.

    Args:
        path: the store's.
        how: it went.
        held: whether a connection still has it open.
    """
    kept = "nowhere but in what store.backup(…) copies now" if held else "in no file"
    if how in (LOG_REMOVED, LOG_REPLACED):
        # Another log is somebody else's, who has read the file without ours: ours must not be written into it then.
        return StoreGoneError(
            f"{path!r} was {how} ({path}-wal) while it was open, and nothing more is written to it; what was said lately is "
            f"{'in the file again' if how == LOG_REMOVED else kept}; make a new client, or open the store again, to go on",
            path=path,
        )
    return StoreGoneError(
        f"{path!r} was {how} while it was open, and nothing more is written to it; what it held is where it was moved to "
        f"or, if it was deleted, {kept}; make a new client, or open the store again, to go on with {path!r} as it is now",
        path=path,
    )


def empty_log(c: sqlite3.Connection) -> bool:
    """Write the log back into the file and empty it; False where a reader prevents it for `LOG_WAIT_MS`."""
    # While it waits for readers nobody else can write: not as long as a write would wait for others.
    c.execute(f"PRAGMA busy_timeout={LOG_WAIT_MS}")
    try:
        (busy, _, _) = c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        c.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
    return not busy


def leave_log(c: sqlite3.Connection) -> None:
    """Write the log of a file that is gone into that file: left in its place, it would be read with another one."""
    with contextlib.suppress(sqlite3.Error):  # a reader elsewhere keeps it; SQLite then does as it does without us
        empty_log(c)
