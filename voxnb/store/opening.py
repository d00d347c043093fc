"""Opening a store: made private, known for ours, switched to a log, brought up to date under one lock."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import mmap
import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

from voxnb.errors import (
    StoreFormatError,
)
from voxnb.runtime.packages import import_apart
from voxnb.store import schema
from voxnb.store.trouble import BUSY_TIMEOUT_S, is_busy

OPEN_TIMEOUT_S: Final = 60.0
"""How long opening waits while others switch the journal or migrate."""


def create_private(file: Path) -> None:
    """Make the file with mode 0600 before SQLite can make it with the umask's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def check_ours(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database that another program made, before anything is changed in it."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id == schema.APPLICATION_ID:
        check_version(connection, path)
        return
    foreign = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' LIMIT 1").fetchone()
    if application_id or foreign:
        # Another process may have been between two steps of making it ours.
        (again,) = connection.execute("PRAGMA application_id").fetchone()
        if again != schema.APPLICATION_ID:
            raise StoreFormatError(
                f"{path!r} is another program's database (it has a table {foreign[0]!r}); choose another path"
                if foreign
                else f"{path!r} is another program's database (application_id {application_id}); choose another path",
                path=path,
            )


def check_version(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a store that was written by a newer voxnb."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.VERSION:
        raise StoreFormatError(
            f"{path!r} has schema version {version}, this voxnb knows {schema.VERSION}; update voxnb",
            path=path,
        )


def can_have_log(file: Path) -> bool:
    """Whether a log can lie beside a store; where none can, one that came with a log is freed of it first.

    A log's index is memory that processes share, which network folders often lack. That is asked of a file of our own:
    a store that is switched to a log it cannot have fails for everybody who has it open.
    """
    with contextlib.ExitStack() as stack:
        try:
            probe = stack.enter_context(tempfile.TemporaryFile(dir=Path(os.path.realpath(file)).parent))
            probe.truncate(mmap.PAGESIZE)
        except OSError:
            return True  # SQLite will say what is wrong with the folder
        try:
            mmap.mmap(probe.fileno(), mmap.PAGESIZE).close()
        except OSError:
            _leave_wal(file)
            return False
    return True


def _leave_wal(file: Path) -> None:
    """Nobody else has its log open: nobody could. Seen through SQLite: who opens the file besides it loses its locks."""
    with contextlib.closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # then the log's index needs no shared memory
        check_ours(connection, str(file))
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA journal_mode=TRUNCATE")


def switch_on_wal(connection: sqlite3.Connection, *, shared: bool) -> str:
    """Switch to write-ahead logging where the file system has it, else keep a rollback journal.

    Args:
        connection: to the store.
        shared: whether a log is worth a try, see `can_have_log`.

    Returns:
        ``"wal"``, or ``"truncate"`` where shared memory does not work (network file systems).
    """
    deadline = time.monotonic() + OPEN_TIMEOUT_S
    while True:
        try:
            mode = shared and connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode == "wal":
                # The probe: WAL can be switched on where its shared memory then fails.
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                return "wal"
            (mode,) = connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            # Switching takes an exclusive lock for which SQLite does not wait: many first opens meet here.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def begin_immediate(connection: sqlite3.Connection) -> None:
    """``BEGIN IMMEDIATE``, waiting through the busy timeout and the recovery of a crashed process."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            # BUSY_RECOVERY and BUSY_SNAPSHOT come back at once, whatever the timeout says.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def migrate(connection: sqlite3.Connection, path: str, *, backup: bool) -> None:
    """Bring the schema up to date: under one write lock, so that a hundred first opens are one migration."""
    if current(connection):
        return
    begin_immediate(connection)
    try:
        if not current(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if backup and version:
                copy_before(path, version)
            import_apart("sqlite_utils", "sqlite_utils.migrations")
            from sqlite_utils import Database as SqliteUtilsDatabase

            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            # Plugins off: a store must not run code that some other package registered.
            schema.migrations().apply(SqliteUtilsDatabase(connection, recursive_triggers=False, execute_plugins=False))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def current(connection: sqlite3.Connection) -> bool:
    """Whether the schema is the one this code knows."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(version == schema.VERSION and application_id == schema.APPLICATION_ID)


def copy_before(path: str, version: int) -> None:
    """Keep the file as it was beside itself, as ``store.v3.backup.db``; another copy of that name stays as it is."""
    file = Path(path)
    unfinished = file.with_name(f"{file.name}.v{version}.backup.unfinished")
    unfinished.unlink(missing_ok=True)
    create_private(unfinished)
    # Through a connection of its own: a backup cannot run on the one that holds the write transaction.
    source = sqlite3.connect(file.absolute().as_uri() + "?mode=ro", uri=True)
    copy = sqlite3.connect(unfinished)
    try:
        source.backup(copy)
        copy.close()
        for number in itertools.count(1):
            ending = f"-{number}" if number > 1 else ""
            target = file.with_name(f"{file.stem}.v{version}.backup{ending}{file.suffix}")
            if not target.exists() or not target.stat().st_size:
                unfinished.replace(target)
            elif not filecmp.cmp(unfinished, target, shallow=False):
                continue  # of an older state: this file came back from a copy and was gone on with
            return
    finally:
        copy.close()
        source.close()
        for rest in (unfinished, Path(f"{unfinished}-journal")):  # on a full disk every byte counts
            rest.unlink(missing_ok=True)


def upgraded_copy(connection: sqlite3.Connection) -> str:
    """A private temporary copy of an older store, brought up to date; its path."""
    handle, path = tempfile.mkstemp(prefix="voxnb-older-", suffix=".db")
    os.close(handle)
    copy = sqlite3.connect(path, isolation_level=None)
    try:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # that of the original may need files beside it
        migrate(copy, path, backup=False)
    except BaseException:
        discard(path, os.getpid())
        raise
    finally:
        copy.close()
    return path


def discard(path: str, pid: int) -> None:
    """Remove a temporary copy, in the process that made it."""
    if os.getpid() == pid:
        for name in (path, f"{path}-journal"):
            Path(name).unlink(missing_ok=True)
