"""The SQLite file: opening, one writer thread, one reader connection per thread, and errors by name.

Rule 1: all writes go through `Database.write`, which runs a function on the writer
thread inside ``BEGIN IMMEDIATE``; what it raises rolls everything back.
Rule 2: readers never wait for the writer (WAL); where the file system has no WAL, writes and reads
share one lock of the file and the busy timeout.
Rule 3: after a fork, connections of the parent are neither used nor closed; the child opens its own.
Rule 4: the file that was opened is the one that is read and written: where the path names none any more, or another, that
is an error, and whoever opens the path anew closes what was open before.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from voxnb.errors import StoreError, StoreReadOnlyError
from voxnb.store import forks
from voxnb.store.lately import Connection, KnowingConnection, forget
from voxnb.store.opening import (
    begin_immediate,
    can_have_log,
    check_ours,
    check_version,
    create_private,
    current,
    discard,
    migrate,
    switch_on_wal,
    upgraded_copy,
)
from voxnb.store.place import LOG_REPLACED, Place, check_name, close_gone, gone_error, leave_log, watch
from voxnb.store.trouble import BUSY_TIMEOUT_S, has_log, mapped, mapped_sql

T = TypeVar("T")

MEMORY: Final = ":memory:"

PAGE_BYTES: Final = 1_024
"""Of the pages of a new file. A turn changes a row or two of some 20 pages and writes each of them whole: with a quarter of
SQLite's size it costs a tenth less, a search or a table the same, and an import a twentieth more."""

CHECKPOINT_BYTES: Final = 4_000_000
"""How long the log grows before it is copied into the file. Turns write mostly the same pages again, so it is copied half
as often as SQLite would; but a sync of a log that still grows is dear: four times this costs the first 500 turns 5 %."""


class Database:
    """One SQLite file (or memory), usable from any thread.

    Args:
        path: the file, or ``":memory:"``. Made with mode 0600 where it does not exist.
        read_only: open an existing file without the right to write. One of an older version is read from a copy
            that is brought up to date, as it was when it was opened.

    Raises:
        StoreFormatError: not SQLite, another program's database, or newer than this code.
        StoreReadOnlyError: read-only and not there, or not writable.
        StoreFullError: no room for the file.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.memory = str(path) == MEMORY
        # Absolute, for connections that are opened after a change of the working directory.
        self.path = MEMORY if self.memory else str(Path(path).absolute())
        self.read_only = read_only
        self._immutable = False
        self._upgraded: str | None = None
        check_name(self.path)
        self._place = Place(self.path)
        self._went, self.closed = "", False
        self._start()
        close_gone(self.path)
        with mapped(self.path), forks.using():
            self._open()
        forks.watch(self)
        watch(self)

    def _start(self) -> None:
        self._orphan = False
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writer_connection: Connection | None = None
        self._shared: Connection | None = None

    def __del__(self) -> None:
        if not getattr(self, "closed", True):  # dropped, say by a cell that was run again
            self._jobs.put(None)

    # -- opening ------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.memory:
            self._shared = self._connect(KnowingConnection)
            migrate(self._shared, self.path, backup=False)
            self.journal_mode = "memory"
            return
        file = Path(self.path)
        if file.is_dir():
            raise StoreError(f"cannot open {self.path!r}: it is a folder; name a file in it", path=self.path)
        if not self.read_only:
            create_private(file)
        elif not file.exists():
            raise StoreReadOnlyError(
                f"{self.path!r} does not exist and read_only=True cannot make it; open it once without",
                path=self.path,
            )
        else:
            # A log needs a file beside the store even to be read; where none can be made, nobody can be writing either.
            self._immutable = not os.access(file.parent, os.W_OK) and not has_log(file)
        shared = self.read_only or can_have_log(file)
        connection = self._connect()
        try:
            check_ours(connection, self.path)
            if not self.read_only:
                self.journal_mode = switch_on_wal(connection, shared=shared)
                migrate(connection, self.path, backup=True)
            else:
                check_version(connection, self.path)
                self.journal_mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
                if not current(connection):
                    # Not ours to change, and this code asks for tables that are not there: read a copy that has them.
                    self._upgraded = upgraded_copy(connection)
                    self._cleaning = weakref.finalize(self, discard, self._upgraded, os.getpid())
            if self._upgraded is None:
                self._place.remember()
        finally:
            connection.close()

    def _connect(self, kind: type[Connection] = Connection) -> Connection:
        uri = (
            Path(self._upgraded or self.path).absolute().as_uri()
            + ("?mode=ro" if self.read_only else "?mode=rw")
            + "&immutable=1" * self._immutable
        )
        connection = sqlite3.connect(
            MEMORY if self.memory else uri,
            uri=not self.memory,
            timeout=BUSY_TIMEOUT_S,
            # Transactions are ours to begin and end; the module's own rules change between versions.
            isolation_level=None,
            # Readers are closed by close(), which may run in another thread.
            check_same_thread=False,
            cached_statements=256,
            factory=kind,
        )
        with contextlib.ExitStack() as failing:
            # Left to the collector it would hold the file against whoever opens it another way.
            failing.callback(connection.close)
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # an existing file keeps its own
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // page_bytes}")
            self._place.remember_log(connection)
            failing.pop_all()
        return connection

    def backup(self, target: Path) -> Path:
        """Copy the file, while it is in use, to a new one with mode 0600.

        Raises:
            StoreError: the target exists, or cannot be written; half a copy is removed.
            StoreGoneError: the file is not in its place any more, and nothing has it open.
        """
        check_name(str(target))
        if target.exists():
            raise StoreError(f"{str(target)!r} exists; choose a new path for the backup", path=str(target))
        # What fails here is mostly the target: its errors name it, not the store.
        with self._last_sight() as c, mapped(str(target)):
            create_private(target)
            try:
                with contextlib.closing(sqlite3.connect(target)) as copy:
                    c.backup(copy)
            except BaseException:
                for half in (target, Path(f"{target}-journal")):
                    half.unlink(missing_ok=True)
                raise
        return target

    # -- forks: see the module of that name ----------------------------------------------------

    def let_go(self) -> None:
        """Close every connection before this process forks; they are opened again when needed."""
        if self.memory or self.closed:
            return
        for connection in reversed(self._held()):
            connection.close()
        self._local, self._readers, self._writer_connection = threading.local(), weakref.WeakSet(), None

    def start_again(self) -> None:
        """Be the child's store: what the parent's threads were about to do is theirs."""
        shared = self._shared
        # Empty but where a fork could not wait; then they are kept: closing them would harm the parent.
        self._leak = (list(self._readers), self._writer_connection)
        self._start()
        self._shared, self._orphan = shared, self.memory

    def _check_open(self) -> None:
        if self._orphan:
            raise StoreError("a store in memory does not survive a fork; open a file instead", path=self.path)
        if self._went:
            self._check_there()
        if self.closed:
            raise StoreError(f"the store {self.path!r} was closed; open it again", path=self.path)

    # -- its place: see the module of that name ------------------------------------------------

    def unusable(self) -> str:
        """Why nothing can be read or written, in words: how the file went, or "closed"; "" while it can."""
        return (self._went or "closed") if self.closed else self._place.gone(self._held)

    def _check_there(self) -> None:
        if how := self._went if self.closed else self._place.gone(self._held):
            if (connection := self._writer_connection) is not None and not self.closed and how != LOG_REPLACED:
                self._jobs.put(lambda: leave_log(connection))
            raise gone_error(self.path, how, held=not self.closed and bool(self._held()))

    def _held(self) -> list[sqlite3.Connection]:
        """The connections that have the file open."""
        return [c for c in (self._writer_connection, *(r.connection for r in list(self._readers))) if c is not None]

    @contextlib.contextmanager
    def _last_sight(self) -> Iterator[sqlite3.Connection]:
        """A reader; where the file is gone, a connection from before."""
        if self.closed or not (self._place.gone(self._held) and (held := self._held())):
            with self.reader() as connection:
                yield connection
        else:
            with forks.using(), mapped_sql(self.path, held[0]):
                yield held[0]

    # -- reading ------------------------------------------------------------------------------

    def read(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, on this thread's reader connection."""
        with self.reader() as connection:
            return connection.execute(sql, params).fetchall()

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """This thread's reader connection; with ``:memory:`` the shared one, locked meanwhile."""
        with forks.using():
            yield from self._reading()

    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._check_open()
        if self._shared is not None:
            with self._lock, mapped_sql(self.path, self._shared):
                yield self._shared
            return
        self._check_there()
        reader = getattr(self._local, "reader", None)
        if reader is None:
            with mapped(self.path):
                reader = _Reader(self._connect())
                reader.connection.execute("PRAGMA query_only=ON")
            with self._lock:
                self._readers.add(reader)
            self._local.reader = reader
        with mapped_sql(self.path, reader.connection):
            yield reader.connection

    def stamp(self) -> tuple[int, int]:
        """A value that is another one after every change, seen from this thread; costs two look-ups."""
        with self.reader() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return int(version), connection.total_changes

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A reader in one read transaction: several queries see the same state."""
        with self.reader() as connection:
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    # -- writing ------------------------------------------------------------------------------

    def write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> Future[T]:
        """Run ``work(connection)`` in one transaction on the writer thread.

        Args:
            work: does its statements and returns a value; any exception rolls back and is set on the future.
            durable: wait for the disk (``synchronous=FULL``), which makes all earlier commits durable too.

        Returns:
            A future; wait with ``.result()`` from a thread, or wrap it for asyncio.
        """
        return self.perform(lambda connection: self.transaction(connection, work, durable=durable))

    def perform(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run ``job(connection)`` on the writer thread outside a transaction of ours."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with mapped(self.path), forks.using():
                    result = self._with_writer(job)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits on the future
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            self._check_open()
            if self._writer is None:
                self._writer = threading.Thread(target=self._work, args=(self._jobs,), name="voxnb-writer", daemon=True)
                self._writer.start()
            self._jobs.put(run)
        return future

    def _with_writer(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self.read_only:
            raise StoreReadOnlyError(f"{self.path!r} was opened read-only; open it without read_only", path=self.path)
        if self._shared is not None:
            with self._lock, mapped_sql(self.path, self._shared):
                return job(self._shared)
        self._check_there()
        if self._writer_connection is None:
            self._writer_connection = self._connect(KnowingConnection)
        with mapped_sql(self.path, self._writer_connection):
            return job(self._writer_connection)

    def transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], *, durable: bool
    ) -> T:
        """One write transaction on the writer's connection; see `write`."""
        if durable and not self.memory:
            connection.execute("PRAGMA synchronous=FULL")
        begin_immediate(connection)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk or an interrupt may have ended it already
                connection.execute("ROLLBACK")
            forget(connection)
            raise
        finally:
            if durable and not self.memory and not connection.in_transaction:
                connection.execute("PRAGMA synchronous=NORMAL")
        return result

    @staticmethod
    def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            job()
            del job  # a waiting thread must not keep the last job's values alive

    def close(self) -> None:
        """Finish waiting writes, then close every connection; a second call does nothing."""
        with self._lock:
            if self.closed:
                return
            self._went = self._place.gone(self._held)
            self.closed = True
            if self._orphan:
                return
            writer = self._writer
            self._jobs.put(None)
        if writer is not None and writer is not threading.current_thread():
            writer.join()
        with self._lock:
            for reader in self._readers:
                reader.connection.close()
            if self._went not in ("", LOG_REPLACED) and self._writer_connection is not None:
                leave_log(self._writer_connection)
            for connection in filter(None, (self._writer_connection, self._shared)):
                connection.close()
        if self._upgraded is not None:
            self._cleaning()


class _Reader:
    """A reading connection that is closed with the thread it belongs to, and not when the collector comes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()
