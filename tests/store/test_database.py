"""The SQLite file: opened by many at once, refused where it is not ours, kept whole when things go wrong."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import voxnb
from voxnb import testing
from voxnb.errors import (
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
)
from voxnb.store import database, schema
from voxnb.store.database import Database
from voxnb.store.trouble import store_error

PREAMBLE = """
import os, sys, threading, time
from pathlib import Path
from voxnb.store import database, schema
from voxnb.store.database import Database
from voxnb import errors
import sqlite_utils, pandas, sqlite3
path = sys.argv[1]
"""


def run(code, *args, preamble=PREAMBLE, timeout=100):
    """Run a script in a process of its own; its standard output, or a failure with its standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", preamble + textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def add(db, text, **options):
    """Write one row; waits for it."""
    return db.write(
        lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (text, text)).lastrowid, **options
    ).result()


def texts(db):
    return [text for (text,) in db.read("SELECT text FROM value ORDER BY id")]


def raw(path, *statements):
    """Do something to a file as another program would."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = [connection.execute(statement).fetchall() for statement in statements]
        connection.commit()
    return rows[-1]


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def db(path):
    store = Database(path)
    yield store
    store.close()


# -- opening ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_simultaneous_first_opens_all_succeed(path):
    code = """
    go, start = os.pipe()
    children = []
    for n in range(100):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(start)
                os.read(go, 1)  # until the parent closes its end
                store = Database(path)
                store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, '')", (str(n),)), durable=True).result()
                assert store.read("SELECT count(*) FROM value")[0][0] >= 1
                assert store.journal_mode == "wal"
                store.close()
                status = 0
            except BaseException as error:
                print(type(error).__name__, error, file=sys.stderr)
            finally:
                os._exit(status)
        children.append(child)
    os.close(go)
    os.close(start)
    print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children))
    """
    assert run(code, path) == "100\n"
    store = Database(path)
    assert len(texts(store)) == 100
    assert store.read("SELECT count(*) FROM _sqlite_migrations") == [(schema.VERSION,)]
    assert store.read("PRAGMA integrity_check") == [("ok",)]
    store.close()
    assert mode(path) == 0o600


def test_a_file_and_what_belongs_to_it_are_the_owners_alone(path):
    before = os.umask(0)
    try:
        store = Database(path)
        add(store, "secret")
        assert {p.name: oct(mode(p)) for p in path.parent.glob("store.db*")} == {
            "store.db": "0o600",
            "store.db-wal": "0o600",
            "store.db-shm": "0o600",
        }
        store.close()
    finally:
        os.umask(before)


def test_the_mode_of_a_file_that_is_there_is_its_owners_business(path):
    Database(path).close()
    path.chmod(0o640)
    Database(path).close()
    assert mode(path) == 0o640


@pytest.mark.parametrize(
    "name", ["a b.db", "what?.db", "50%.db", "a#b.db", "ü 北.db", "file:x.db", "no suffix", "-x.db"]
)
def test_any_file_name_is_that_file(tmp_path, name):
    store = Database(tmp_path / "deep" / "er" / name)
    add(store, "x")
    store.close()
    assert (tmp_path / "deep" / "er" / name).stat().st_size > 0
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == [name]


def test_a_relative_path_stays_the_same_file_when_the_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Database("store.db")
    add(store, "x")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(texts, store).result() == ["x"]
    add(store, "y")
    store.close()


def test_an_empty_file_becomes_a_store(path):
    path.touch()
    store = Database(path)
    assert store.read("PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    store.close()


# -- what is not ours -------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE turn (id)", "INSERT INTO turn VALUES (1)"],
        ["CREATE TABLE mine (a)", "PRAGMA user_version = 1"],
        ["PRAGMA application_id = 12345"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE mine (a)"],
    ],
)
def test_another_programs_database_is_refused_and_left_as_it_was(path, statements, read_only):
    raw(path, *statements)
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match="another program") as caught:
        Database(path, read_only=read_only)
    assert caught.value.path == str(path)
    assert path.read_bytes() == before
    if not read_only:  # a reader has to leave the (empty) log of the other program where it is
        assert [p.name for p in path.parent.iterdir()] == ["store.db"]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_a_newer_version_is_refused_and_left_as_it_was(path, read_only):
    Database(path).close()
    raw(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match="update voxnb"):
        Database(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "content", [b"hello", b"# notes\n" * 1000, b"\0" * 5000, os.urandom(5000), b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(path, content, read_only):
    path.write_bytes(content)
    with pytest.raises(StoreFormatError, match=r"not a SQLite database|damaged"):
        Database(path, read_only=read_only)
    assert path.read_bytes() == content


def test_a_damaged_store_says_so(path):
    store = Database(path)
    for n in range(200):
        add(store, f"{n} " * 100)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = os.urandom(len(data) - 4096 * 2)
    path.write_bytes(data)
    with pytest.raises(StoreFormatError, match="damaged"):
        store = Database(path)
        try:
            store.read("SELECT sum(length(text)) FROM value")
        finally:
            store.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_is_refused(tmp_path, read_only):
    with pytest.raises(StoreError, match="cannot open"):
        Database(tmp_path, read_only=read_only)


def test_a_place_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="choose another path"):
        Database(tmp_path / "file" / "store.db")


# -- reading only -----------------------------------------------------------------------------


def test_a_read_only_store_reads_and_does_not_write(path, db):
    add(db, "x")
    reader = Database(path, read_only=True)
    assert texts(reader) == ["x"]
    with pytest.raises(StoreReadOnlyError, match="read-only"):
        add(reader, "y")
    add(db, "z")
    assert texts(reader) == ["x", "z"]
    reader.close()


def test_read_only_makes_no_file(path):
    with pytest.raises(StoreReadOnlyError, match="does not exist"):
        Database(path, read_only=True)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("statement", ["DELETE FROM value", "PRAGMA user_version = 9", "CREATE TABLE x (a)"])
def test_a_reader_connection_cannot_write(db, statement):
    with pytest.raises(StoreReadOnlyError):
        db.read(statement)


# As root nothing is write-protected, so these become somebody else first.
NOBODY = "if os.getuid() == 0:\n    os.setgid(65534); os.setuid(65534)\n"


@pytest.fixture
def public(tmp_path_factory):
    """A folder that another user can reach."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
@pytest.mark.slow
def test_a_file_without_the_right_to_write_says_so_and_opens_read_only(public, folder_mode):
    path = public / "store.db"
    store = Database(path)
    add(store, "x")
    store.close()
    path.chmod(0o444)
    public.chmod(folder_mode)
    code = f"""
    {NOBODY.replace(chr(10), chr(10) + " " * 4)}
    try:
        store = Database(path)
        store.write(lambda c: c.execute("DELETE FROM value")).result()
    except errors.StoreReadOnlyError as error:
        print("refused", "read_only=True" in str(error))
    store = Database(path, read_only=True)
    print(store.read("SELECT text FROM value"))
    store.close()
    """
    assert run(code, path) == "refused True\n[('x',)]\n"


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_says_so_and_how_its_store_is_read(public):
    path = public / "store.db"
    store = Database(path)
    add(store, "x")
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{public / 'live.db'}{ending}")
    store.close()
    for file in public.iterdir():
        file.chmod(0o666)
    public.chmod(0o555)
    code = f"""
    {NOBODY.replace(chr(10), chr(10) + " " * 4)}
    for file, read_only in ((path, False), (path, True), (path.replace("store", "live"), True)):
        try:
            Database(file, read_only=read_only).close()
        except errors.StoreReadOnlyError as error:
            print(str(error).rpartition("; ")[2])
        else:
            print("opened")
    """
    assert run(code, path).splitlines() == [
        "check its permissions or open it with read_only=True",
        "opened",
        "copy both to another folder and open that copy",
    ]


def test_a_log_that_cannot_be_shared_is_no_trouble_of_the_disk():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMMAP
    said = str(store_error(error, "/net/store.db"))
    assert said.startswith("'/net/store.db' has a log")
    assert "without read_only" in said


def test_a_file_that_is_refused_is_let_go_at_once(path):
    path.write_bytes(b"no database at all" * 100)
    gc.disable()
    try:
        with pytest.raises(StoreFormatError):
            Database(path)
        assert str(path) not in {os.path.realpath(f) for f in Path("/proc/self/fd").iterdir()}
    finally:
        gc.enable()


# -- a full disk ------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder):
    """A file system of half a megabyte; skips where mounting is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_committed_and_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        store = Database(folder / "store.db")
        add(store, "first", durable=True)
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(100_000))
        kept = 1
        with pytest.raises(StoreFullError, match="full") as caught:
            for n in range(1000):
                add(store, f"{n} " + "x" * 5000, durable=True)
                kept += 1
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        assert len(texts(store)) == kept
        with pytest.raises(StoreFullError):
            add(store, "y" * 300_000)
        ballast.unlink()
        add(store, "there is room", durable=True)
        assert len(texts(store)) == kept + 1
        assert store.read("PRAGMA integrity_check") == [("ok",)]
        store.close()


def test_a_full_disk_refuses_a_new_store_by_name(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        (folder / "ballast").write_bytes(bytes(500_000))
        with pytest.raises(StoreFullError):
            Database(folder / "store.db")
        (folder / "ballast").unlink()
        store = Database(folder / "store.db")
        add(store, "x")
        store.close()


def test_a_copy_that_finds_no_room_names_the_target_and_leaves_no_half(tmp_path):
    store = Database(tmp_path / "store.db")
    for n in range(100):
        add(store, f"{n} " + "x" * 5000)
    with small_disk(tmp_path / "disk") as folder:
        (folder / "ballast").write_bytes(bytes(300_000))
        with pytest.raises(StoreFullError) as caught:
            store.backup(folder / "copy.db")
        assert "copy.db" in str(caught.value)
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        assert [f.name for f in folder.iterdir() if f.name.startswith("copy")] == []
    assert len(texts(store)) == 100
    store.close()


@pytest.mark.slow
def test_a_limit_on_the_files_size_loses_nothing_that_was_committed(path):
    code = """
    import resource
    store = Database(path)
    size = os.path.getsize(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200_000, resource.RLIM_INFINITY))
    kept = 0
    try:
        for n in range(1000):
            store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (str(n), "x" * 5000))).result()
            kept += 1
    except errors.StoreError as error:
        print(type(error.__cause__).__module__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES ('last', '')")).result()
    print(store.read("SELECT count(*) FROM value")[0][0] - kept, store.read("PRAGMA integrity_check"))
    store.close()
    """
    assert run(code, path) == "sqlite3\n1 [('ok',)]\n"


# -- no write-ahead log -----------------------------------------------------------------------

WITHOUT_SHARED_MEMORY = """
    # SQLite's own file system layer without shared memory: what a network file system looks like to it.
    connect = sqlite3.connect
    def dotfile(name, *args, **options):
        return connect(name + "&vfs=unix-dotfile" if options.get("uri") else name, *args, **options)
    database.sqlite3.connect = dotfile
"""


@pytest.mark.slow
def test_without_shared_memory_a_rollback_journal_does(path):
    code = f"""
    {WITHOUT_SHARED_MEMORY}
    from concurrent.futures import ThreadPoolExecutor
    store = Database(path)
    print(store.journal_mode)
    level = lambda c: c.execute("PRAGMA synchronous").fetchone()[0]
    print(store.write(level, durable=True).result(), store.write(level).result())
    def work(n):
        store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, '')", (str(n),)), durable=n % 2 == 0).result()
        return store.read("SELECT count(*) FROM value WHERE hash = ?", (str(n),))[0][0]
    with ThreadPoolExecutor(6) as pool:
        print(sum(pool.map(work, range(60))))
    store.close()
    again = Database(path)
    print(again.journal_mode, len(again.read("SELECT * FROM value")))
    again.close()
    """
    assert run(code, path) == "truncate\n2 1\n60\ntruncate 60\n"


def test_a_store_that_is_taken_to_a_folder_without_shared_memory_gives_up_its_log(path, monkeypatch):
    def no_device(*_):
        raise OSError(errno.ENODEV, "No such device")

    store = Database(path)
    add(store, "a")
    assert path.read_bytes()[18:20] == b"\2\2"
    store.close()
    monkeypatch.setattr("mmap.mmap", no_device)
    for n in range(2):
        store = Database(path)
        assert store.journal_mode == "truncate"
        add(store, str(n))
        assert path.read_bytes()[18:20] == b"\1\1"
        store.close()
    monkeypatch.undo()
    store = Database(path)
    assert store.journal_mode == "wal"
    assert texts(store) == ["a", "0", "1"]
    store.close()


@pytest.mark.slow
def test_a_reading_thread_sees_one_state_also_without_a_log(path):
    code = f"""
    {WITHOUT_SHARED_MEMORY}
    store = Database(path)
    def pair(c, n):
        c.execute("INSERT INTO value (hash, text) VALUES (?, '')", (f"a{{n}}",))
        c.execute("INSERT INTO value (hash, text) VALUES (?, '')", (f"b{{n}}",))
    writer = threading.Thread(target=lambda: [store.write(lambda c, n=n: pair(c, n)).result() for n in range(40)])
    writer.start()
    odd = 0
    while writer.is_alive():
        with store.snapshot() as c:
            odd += c.execute("SELECT count(*) FROM value").fetchone()[0] % 2
    writer.join()
    print(odd, store.read("SELECT count(*) FROM value"))
    store.close()
    """
    assert run(code, path) == "0 [(80,)]\n"


# -- threads ----------------------------------------------------------------------------------


def test_many_threads_read_while_others_write(db):
    def pair(c, n):
        for half in "ab":
            c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (f"{n}{half}", "x" * 500))

    done = threading.Event()

    def read():
        odd = rounds = 0
        while not done.is_set():
            with db.snapshot() as c:
                first = c.execute("SELECT count(*) FROM value").fetchone()[0]
                second = c.execute("SELECT count(*) FROM value").fetchone()[0]
            odd += first % 2 + (first != second)
            rounds += 1
        return odd, rounds

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(6)]
        writers = [
            pool.submit(lambda k=k: [db.write(lambda c, n=n: pair(c, n)).result() for n in range(k, 400, 4)])
            for k in range(4)
        ]
        for writer in writers:
            writer.result()
        done.set()
        found = [reader.result() for reader in readers]
    assert [odd for odd, _ in found] == [0] * 6
    assert all(rounds > 0 for _, rounds in found)
    assert db.read("SELECT count(*) FROM value") == [(800,)]


def test_threads_share_a_store_in_memory():
    store = Database(":memory:")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(store, str(n)), range(100)))
        assert list(pool.map(lambda _: len(texts(store)), range(16))) == [100] * 16
    store.close()


def test_a_thread_that_ended_keeps_no_file_open(db):
    add(db, "x")

    def handles():
        return len(list(Path("/proc/self/fd").iterdir()))

    def visit():
        thread = threading.Thread(target=texts, args=(db,))
        thread.start()
        thread.join()

    visit()
    gc.collect()
    before = handles()
    for _ in range(100):
        visit()
    gc.collect()
    assert handles() <= before + 10


def test_writes_are_done_in_the_order_they_were_given(db):
    futures = [
        db.write(lambda c, n=n: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (str(n), str(n))))
        for n in range(200)
    ]
    for future in futures:
        future.result()
    assert texts(db) == [str(n) for n in range(200)]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), sqlite3.IntegrityError("x")])
def test_what_a_write_raises_takes_everything_of_it_back(db, error):
    def work(c):
        c.execute("INSERT INTO value (hash, text) VALUES ('a', 'a')")
        raise error

    with pytest.raises(StoreError if isinstance(error, sqlite3.Error) else type(error)):
        db.write(work).result()
    assert texts(db) == []
    add(db, "b")
    assert texts(db) == ["b"]


def test_a_snapshot_stays_as_it_was(db):
    add(db, "a")
    with db.snapshot() as c:
        assert c.execute("SELECT count(*) FROM value").fetchone() == (1,)
        add(db, "b")
        with db.snapshot() as inner:
            assert inner is c
        assert c.execute("SELECT count(*) FROM value").fetchone() == (1,)
    assert len(texts(db)) == 2


def test_an_error_of_the_reader_is_not_taken_for_the_stores(db):
    with pytest.raises(FileNotFoundError), db.reader():
        Path("/nowhere/at/all").read_text()
    with pytest.raises(FileNotFoundError), db.snapshot():
        Path("/nowhere/at/all").read_text()


def test_a_file_that_somebody_else_holds_is_busy_after_the_timeout(path, db, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    add(db, "a")
    second = Database(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="another process"):
            add(second, "b")
        assert texts(second) == ["a"]
        other.execute("ROLLBACK")
    add(second, "c")
    second.close()
    assert texts(db) == ["a", "c"]


# -- closing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "memory"])
def test_closing_twice_is_closing_once_and_using_it_afterwards_is_an_error(path, place):
    store = Database(path if place == "file" else ":memory:")
    add(store, "a")
    texts(store)
    store.close()
    store.close()
    assert store.closed
    for use in (
        lambda: store.read("SELECT 1"),
        lambda: store.write(lambda c: None),
        lambda: store.snapshot().__enter__(),
    ):
        with pytest.raises(StoreError, match="was closed"):
            use()


def test_closing_does_what_was_given_before(path):
    store = Database(path)
    futures = [
        store.write(lambda c, n=n: c.execute("INSERT INTO value (hash, text) VALUES (?, '')", (str(n),)))
        for n in range(300)
    ]
    store.close()
    assert all(future.done() for future in futures)
    assert sorted(p.name for p in path.parent.iterdir()) == ["store.db"]
    again = Database(path)
    assert len(texts(again)) == 300
    again.close()


def test_many_threads_may_close_at_once(path):
    store = Database(path)
    add(store, "a")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.close(), range(8)))


def test_a_write_may_close_the_store_it_runs_on(path):
    store = Database(path)
    assert (
        store.write(lambda c: (c.execute("INSERT INTO value (hash, text) VALUES ('a', 'a')"), store.closed)[1]).result()
        is False
    )
    store.write(lambda _: None).result()
    store.perform(lambda _: store.close()).result(timeout=20)
    assert store.closed
    again = Database(path)
    assert texts(again) == ["a"]
    again.close()


# -- forks ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_child_and_its_parent_both_go_on(path):
    code = """
    store = Database(path)
    def put(text):
        store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (text, text))).result()
    def count():
        return store.read("SELECT count(*) FROM value")[0][0]
    put("before"); count()
    for n in range(5):
        child = os.fork()
        if child == 0:
            put(f"child {n}"); assert count() >= 2 + n
            store.close()
            sys.exit(0)
        put(f"parent {n}")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert count() == 1 + 2 * (n + 1), count()
    store.close()
    check = sqlite3.connect(path)
    print(check.execute("SELECT count(*) FROM value").fetchone(), check.execute("PRAGMA integrity_check").fetchone())
    check.close()
    """
    assert run(code, path) == "(11,) ('ok',)\n"


@pytest.mark.slow
def test_a_parent_that_closes_leaves_its_child_a_working_store(path):
    code = """
    store = Database(path)
    def put(text):
        store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (text, text)), durable=True).result()
    put("parent")
    store.read("SELECT 1")
    closed, close = os.pipe()
    written, write = os.pipe()
    child = os.fork()
    if child == 0:
        put("child 0")
        os.write(write, b"x")
        os.read(closed, 1)
        for n in range(1, 4):
            put(f"child {n}")
        store.close()
        os._exit(0)
    os.read(written, 1)
    store.close()
    os.write(close, b"x")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(code, path) == "0\n"
    store = Database(path)
    assert texts(store) == ["parent", "child 0", "child 1", "child 2", "child 3"]
    store.close()


@pytest.mark.slow
def test_a_fork_in_the_middle_of_writing_harms_nobody(path):
    code = """
    store = Database(path)
    stop = threading.Event()
    written = []
    def write():
        n = 0
        while not stop.is_set():
            n += 1
            store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (f"p{n}", "x" * 3000))).result()
            store.read("SELECT count(*) FROM value")
            written.append(n)
    threads = [threading.Thread(target=write)]
    threads[0].start()
    children = []
    for n in range(12):
        time.sleep(0.01)
        child = os.fork()
        if child == 0:
            # Nothing is done on purpose in half of them: their inherited connections must not matter either way.
            if n % 2:
                store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, '')", (f"c{n}",))).result()
                assert store.read("SELECT count(*) FROM value WHERE hash = ?", (f"c{n}",)) == [(1,)]
                store.close()
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    stop.set()
    threads[0].join()
    print(set(codes), store.read("SELECT count(*) FROM value")[0][0] - len(written), store.read("PRAGMA integrity_check"))
    store.close()
    """
    assert run(code, path, preamble=PREAMBLE.replace("import os", "import warnings\nwarnings.simplefilter('ignore')\nimport os")) == (
        "{0} 6 [('ok',)]\n"
    )  # fmt: skip


@pytest.mark.slow
def test_a_store_in_memory_says_that_it_does_not_survive_a_fork():
    code = """
    store = Database(":memory:")
    child = os.fork()
    if child == 0:
        try:
            store.read("SELECT 1")
        except errors.StoreError as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), store.read("SELECT 1"))
    store.close()
    """
    assert run(code, "") == "0 [(1,)]\n"


@pytest.mark.slow
def test_a_closed_store_is_closed_in_a_child_too(path):
    code = """
    store = Database(path)
    store.close()
    child = os.fork()
    if child == 0:
        try:
            store.read("SELECT 1")
        except errors.StoreError:
            os._exit(0)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(code, path) == "0\n"


# -- killed -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_process_leaves_every_commit(path):
    code = """
    store = Database(path)
    n = 0
    while True:
        store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES (?, ?)", (str(n), "x" * 500))).result()
        n += 1
        print(n, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stdout:
            if int(line) >= 50:
                process.kill()
                break
        told = int(line)
    store = Database(path)
    assert len(texts(store)) >= told
    assert store.read("PRAGMA integrity_check") == [("ok",)]
    store.close()


# -- migrations -------------------------------------------------------------------------------


@pytest.fixture
def next_version(monkeypatch):
    """This code, one migration later."""

    def grow(sql="CREATE TABLE later (id INTEGER PRIMARY KEY);\nALTER TABLE value ADD COLUMN lang TEXT;\n"):
        steps = (*schema.STEPS, (f"m{len(schema.STEPS) + 1:03}_later", sql))
        monkeypatch.setattr(schema, "STEPS", steps)
        monkeypatch.setattr(schema, "VERSION", len(steps))

    return grow


def backups(path):
    return sorted(p for p in path.parent.iterdir() if "backup" in p.name)


def test_a_store_is_copied_before_its_first_change_of_schema(path, next_version):
    was = schema.VERSION
    old = Database(path)
    add(old, "a")
    # Not yet in the file itself, but in its log: a copy of the file alone would miss it.
    add(old, "b", durable=True)
    next_version()
    new = Database(path)
    assert new.read("SELECT text, lang FROM value") == [("a", None), ("b", None)]
    assert new.read("PRAGMA user_version") == [(was + 1,)]
    (copy,) = backups(path)
    assert copy.name == f"store.v{was}.backup.db"
    assert mode(copy) == 0o600
    assert raw(copy, "SELECT text FROM value") == [("a",), ("b",)]
    assert raw(copy, "PRAGMA user_version") == [(was,)]
    assert raw(copy, "PRAGMA integrity_check") == [("ok",)]
    add(old, "the older program may go on")
    assert len(texts(new)) == 3
    new.close()
    old.close()


def test_a_new_store_is_not_copied_and_a_current_one_neither(path, next_version):
    Database(path).close()
    Database(path).close()
    assert backups(path) == []
    next_version()
    Database(path).close()
    assert len(backups(path)) == 1
    before = backups(path)[0].stat()
    Database(path).close()
    assert backups(path)[0].stat().st_mtime_ns == before.st_mtime_ns


def test_a_new_store_of_a_later_version_needs_no_copy(path, next_version):
    next_version()
    store = Database(path)
    assert store.read("SELECT count(*) FROM later") == [(0,)]
    store.close()
    assert backups(path) == []


def test_a_migration_that_fails_changes_nothing(path, next_version):
    was = schema.VERSION
    old = Database(path)
    add(old, "a")
    old.close()
    next_version("CREATE TABLE later (id);\nALTER TABLE nothing ADD COLUMN x;\n")
    with pytest.raises(StoreError):
        Database(path)
    assert raw(path, "PRAGMA user_version") == [(was,)]
    assert raw(path, "SELECT count(*) FROM sqlite_schema WHERE name = 'later'") == [(0,)]
    assert raw(path, "SELECT text FROM value") == [("a",)]
    assert len(backups(path)) == 1


def test_a_copy_that_was_begun_and_not_finished_is_made_again(path, next_version):
    old = Database(path)
    add(old, "a")
    old.close()
    # A process that died between making the copy's file and filling it leaves this.
    (path.parent / f"store.v{schema.VERSION}.backup.db").touch()
    next_version()
    Database(path).close()
    kept = [copy for copy in backups(path) if copy.stat().st_size]
    assert [raw(copy, "SELECT text FROM value") for copy in kept] == [[("a",)]]


@pytest.mark.slow
def test_many_that_migrate_at_once_are_one_migration_and_one_copy(path):
    Database(path).close()
    code = """
    steps = (*schema.STEPS, ("m999_later", "CREATE TABLE later (id INTEGER PRIMARY KEY);\\n"))
    schema.STEPS, schema.VERSION = steps, len(steps)
    go, start = os.pipe()
    children = []
    for n in range(20):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(start)
                os.read(go, 1)
                store = Database(path)
                store.write(lambda c: c.execute("INSERT INTO later VALUES (?)", (n,))).result()
                store.close()
                status = 0
            except BaseException as error:
                print(type(error).__name__, error, file=sys.stderr)
            finally:
                os._exit(status)
        children.append(child)
    os.close(go)
    os.close(start)
    print({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children})
    """
    assert run(code, path) == "{0}\n"
    assert raw(path, "SELECT count(*) FROM later") == [(20,)]
    assert raw(path, "SELECT count(*) FROM _sqlite_migrations") == [(schema.VERSION + 1,)]
    assert len(backups(path)) == 1


def test_a_read_only_store_of_an_older_version_is_not_migrated_but_a_copy_is_read(
    path, next_version, tmp_path, monkeypatch
):
    was = schema.VERSION
    old = Database(path)
    add(old, "a")
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    next_version()
    store = Database(path, read_only=True)
    assert store.read("SELECT text, lang FROM value") == [("a", None)]
    assert [mode(copy) for copy in copies.iterdir()] == [0o600]
    assert raw(path, "PRAGMA user_version") == [(was,)]
    store.close()
    old.close()
    assert list(copies.iterdir()) == []
    assert backups(path) == []


def test_no_plugin_of_another_package_runs_in_a_store(path, monkeypatch):
    import sqlite_utils.plugins

    ran = []

    class Plugin:
        @sqlite_utils.hookimpl
        def prepare_connection(self, conn):
            ran.append(conn)

    plugin = Plugin()
    sqlite_utils.plugins.pm.register(plugin)
    try:
        Database(path).close()
    finally:
        sqlite_utils.plugins.pm.unregister(plugin)
    assert ran == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE message SET extra='{'",
        "UPDATE message SET tokens='x'",
        "UPDATE call SET plan='{'",
        "UPDATE call SET plan='{}'",
        "UPDATE conversation SET metadata='{'",
    ],
)
def test_verify_tells_of_values_that_are_not_what_was_written(tmp_path, damage):
    with testing.server(["One.", "Two."]) as server:
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=tmp_path / "a.db") as chat:
            chat.ask("Hello?").result()
            chat.ask("And?").result()
            assert chat.store.verify()
            chat.store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as c:
        for (name,) in c.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            c.execute(f"DROP TRIGGER {name}")
        c.execute(damage)
    with voxnb.ContextStore(tmp_path / "a.db") as store:
        verdict = store.verify()
        assert not verdict
        assert verdict.problems


def test_a_store_that_nobody_holds_any_more_leaves_no_thread_and_no_warning(tmp_path):
    code = """
    import gc, threading
    for path in (sys.argv[1], ":memory:"):
        store = Database(path)
        store.write(lambda c: c.execute("INSERT INTO value (hash, text) VALUES ('a', 'b')")).result()
        store.read("SELECT 1")
        (writer,) = [t for t in threading.enumerate() if t.name == "voxnb-writer"]
        del store
        gc.collect()
        writer.join(30)
        print(writer.is_alive())
    """
    assert run(code, tmp_path / "store.db") == "False\nFalse\n"
