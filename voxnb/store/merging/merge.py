"""Merging: checks, one transaction, and what is redacted here stays so."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from voxnb.errors import StoreBusyError, StoreError, VoxnbError
from voxnb.runtime import config
from voxnb.store import erase, redact
from voxnb.store.damage import wrong_values
from voxnb.store.database import MEMORY, Database
from voxnb.store.lately import forget
from voxnb.store.merging.belongings import Belongings, texts_of
from voxnb.store.merging.both import Both, InterruptedMergeError
from voxnb.store.merging.courses import Courses
from voxnb.store.merging.report import Found, Merge
from voxnb.store.merging.turns import Turns
from voxnb.store.place import empty_log
from voxnb.store.trouble import NOT_AS_WRITTEN, damaged, store_error


def merge(database: Database, path: str | Path) -> Merge:
    """Unite a store with another one; see `ContextStore.merge`."""
    other = _open(database, path)
    try:
        found, stop = Found(other.path), threading.Event()

        def job(c: sqlite3.Connection) -> bool:
            with other.snapshot() as o:
                try:
                    again = database.transaction(
                        c, lambda connection: unite(Both(connection, o, time.time(), found, stop)), durable=True
                    )
                except sqlite3.Error as error:
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
                        raise  # the other's, as a rule: it is told so
                    raise store_error(error, database.path) from error
                except NOT_AS_WRITTEN as error:
                    if isinstance(error, VoxnbError):
                        raise
                    raise damaged(other.path, next(wrong_values(o), error)) from error
            # Words that are redacted here were in the transaction: also in pages of the log.
            if again and not database.memory:
                erase.rewrite(c)
                if not empty_log(c):
                    raise StoreBusyError(
                        f"{other.path!r} is merged, but another reader keeps the log of {database.path!r} from being "
                        "emptied, which holds what is redacted here; close it and call store.checkpoint()",
                        path=database.path,
                    )
            return again

        _wait(database.perform(job), stop)
        return found.merge()
    finally:
        other.close()


def _open(database: Database, path: str | Path) -> Database:
    if str(path) == MEMORY:
        raise StoreError("':memory:' names no store to merge; give the path of a file", path=MEMORY)
    file = config.expanded(path).absolute()
    if not file.exists():
        raise StoreError(f"there is no store {str(file)!r} to merge; check the path", path=str(file))
    if not database.memory and Path(database.path).exists() and file.samefile(database.path):
        raise StoreError(f"{str(file)!r} is this store itself; name another one to merge", path=str(file))
    if not file.is_dir() and not file.stat().st_size:
        raise StoreError(f"{str(file)!r} is empty: no store to merge; check the path", path=str(file))
    return Database(file, read_only=True)


def _wait(future: Future[bool], stop: threading.Event) -> None:
    """Wait for the merge; an interrupt ends it, and then nothing of it is kept."""
    try:
        future.result()
    except BaseException as error:
        if future.done():
            raise
        stop.set()
        if isinstance(future.exception(), InterruptedMergeError | None):
            raise
        raise error from future.exception()


def unite(both: Both) -> bool:
    """Add what is new; called inside a transaction. Whether something was redacted again."""
    courses, turns, belongings = Courses(both), Turns(both), Belongings(both)
    courses.close()
    turns.recognise()
    courses.choose()
    turns.place(courses.on_course())
    turns.say()
    belongings.prompts()
    belongings.summaries()
    belongings.stamped()
    belongings.notes()
    courses.point()
    redact.forget_summaries(both.c)
    forget(both.c)
    return _redact_again(both)


def _redact_again(both: Both) -> bool:
    """What is redacted here stays so: also out of what came with this merge."""
    there = {here.turn: key for key, here in both.turns.items() if here.turn in both.found.redacted_here}
    for turn, key in there.items():
        redact.blank_again(both.c, turn, words=redact.words_of(texts_of(both.o, [key])), now=both.now)
    return bool(there)
