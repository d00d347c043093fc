"""An import in its course: batches, interrupts, full disks, other writers; whole conversations or none."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading

import pytest

from voxnb.errors import StoreReadOnlyError
from voxnb.store import fresh
from voxnb.store.context_store import ContextStore
from voxnb.store.importing import pipeline, writing


@pytest.fixture
def store(tmp_path):
    with ContextStore(tmp_path / "store.db") as found:
        yield found


def conversations(count, turns=3):
    for n in range(count):
        said = []
        for t in range(turns):
            said += [{"role": "user", "content": f"{n}.{t}?"}, {"role": "assistant", "content": f"{n}.{t}!"}]
        yield {"id": f"c{n}", "title": f"c{n}", "messages": said}


def check_index(store):
    """Every word of every message is in the search index once: what is there twice could not be deleted."""
    store.database.write(fresh.index_all).result()
    store.database.write(
        lambda c: c.execute("INSERT INTO message_fts (message_fts, rank) VALUES ('integrity-check', 1)")
    ).result()


def check_whole(store, turns=3):
    check_index(store)
    assert set(store.conversations()["turn_count"]) <= {turns}
    assert len(store.turns()) == turns * len(store)
    assert len(store.messages()) == 2 * turns * len(store)
    assert store.verify()


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(pipeline, "BATCH_MESSAGES", 60)


def test_many_batches_are_one_import(store, small_batches):
    report = store.import_conversations(conversations(95))
    assert (report.conversations, report.turns, report.messages) == (95, 285, 570)
    assert len(report.names) == 95
    check_whole(store)
    assert len(store.search("94.2?")) == 2


def test_an_interrupt_keeps_whole_conversations_and_the_next_run_goes_on(store, small_batches):
    def interrupted():
        for n, line in enumerate(conversations(95)):
            if n == 55:
                raise KeyboardInterrupt
            yield line

    with pytest.raises(KeyboardInterrupt) as caught:
        store.import_conversations(interrupted())
    check_whole(store)
    assert 0 < len(store) <= 55
    assert f"imported {len(store)} conversations" in caught.value.__notes__[0]
    report = store.import_conversations(conversations(95))
    assert report.known + report.conversations == 95
    assert len(store) == 95
    check_whole(store)


@pytest.mark.slow
def test_an_interrupt_by_signal_while_a_file_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in conversations(400)))
    code = (
        "import os, signal, sys\n"
        "from voxnb.store.context_store import ContextStore\n"
        "from voxnb.store.importing import pipeline\n"
        "pipeline.BATCH_MESSAGES = 60\n"
        "store = ContextStore(sys.argv[1])\n"
        "ticks = []\n"
        "def tick(done, total):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "try: store.import_conversations(sys.argv[2], progress=tick)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    db = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", code, str(db), str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "interrupted\n", done.stderr
    with ContextStore(db) as store:
        check_whole(store)
        assert len(store) < 400
        store.import_conversations(path)
        assert len(store) == 400
        check_whole(store)


@pytest.mark.parametrize("at", ["reading", "writing"])
def test_an_error_in_the_middle_leaves_whole_conversations(store, small_batches, monkeypatch, at):
    def failing():
        for n, line in enumerate(conversations(95)):
            if at == "reading" and n == 55:
                raise RuntimeError("the source broke")
            yield line

    if at == "writing":
        real, count = writing.insert, []

        def broken(c, table, columns, values):
            real(c, table, columns, values)
            count.append(table)
            if table == "message" and count.count("message") == 4:
                raise RuntimeError("the disk broke")

        monkeypatch.setattr(writing, "insert", broken)
    with pytest.raises(RuntimeError, match="broke"):
        store.import_conversations(failing())
    monkeypatch.undo()
    check_whole(store)
    assert len(store) < 95
    store.import_conversations(conversations(95))
    assert len(store) == 95
    check_whole(store)


@pytest.mark.slow
def test_a_disk_that_fails_keeps_what_was_there(tmp_path):
    code = (
        "import resource, signal, sys\n"
        "from voxnb.errors import StoreError\n"
        "from voxnb.store.context_store import ContextStore\n"
        "from tests.store.importing.test_pipeline import check_whole, conversations\n"
        "from voxnb.store.importing import pipeline\n"
        "pipeline.BATCH_MESSAGES = 600\n"
        "store = ContextStore(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, resource.RLIM_INFINITY))\n"
        "try: store.import_conversations(conversations(5000))\n"
        "except StoreError as error: print('failed', error.__notes__[0])\n"
    )
    db = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", code, str(db)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("failed"), done.stderr
    with ContextStore(db) as store:
        check_whole(store)
        assert 0 < len(store) < 5000


def test_a_read_only_store_is_a_typed_error(tmp_path, store):
    store.import_conversations(conversations(1))
    with ContextStore(tmp_path / "store.db", read_only=True) as reader, pytest.raises(StoreReadOnlyError):
        reader.import_conversations(conversations(2))


def test_others_write_meanwhile(store, small_batches):
    stop = threading.Event()

    def talk():
        n = 0
        while not stop.is_set():
            store.append("live", [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "x"}])
            n += 1

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        report = store.import_conversations(conversations(95))
    finally:
        stop.set()
        thread.join()
    assert report.conversations == 95
    live = store["live"].turns()
    assert live["seq"].tolist() == list(range(1, len(live) + 1))
    assert store.verify()


def test_two_imports_of_the_same_at_once_are_one(tmp_path, small_batches):
    with ContextStore(tmp_path / "a.db") as one, ContextStore(tmp_path / "a.db") as two:
        reports = []
        threads = [
            threading.Thread(target=lambda s=s: reports.append(s.import_conversations(conversations(60))))
            for s in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(report.conversations for report in reports) == 60
        assert sum(report.known for report in reports) == 60
        check_whole(one)


def test_at_most_a_few_batches_are_ahead_of_the_writer(store, small_batches):
    written, ahead = [], []

    def source():
        for n, line in enumerate(conversations(300)):
            ahead.append(n - 10 * len(written))
            yield line

    real = pipeline.Batch.write

    def slow(self, c):
        found = real(self, c)
        written.append(found)
        return found

    pipeline.Batch.write = slow
    try:
        store.import_conversations(source())
    finally:
        pipeline.Batch.write = real
    assert max(ahead) <= 10 * (pipeline.AHEAD + 2)


def test_progress_counts_bytes_of_a_file_and_rows_of_a_list(store, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in conversations(20)))
    seen = []
    store.import_conversations(path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    store.import_conversations(
        list(conversations(7)), copy=True, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (7, 7)


def test_a_bar_is_shown_where_asked_for(store, capsys):
    store.import_conversations(list(conversations(3)), progress=True)
    assert "an iterable" in capsys.readouterr().err
    store.import_conversations(list(conversations(3)), copy=True)
    assert capsys.readouterr().err == ""


def test_a_batch_of_conversations_is_a_few_statements(store):
    seen = []
    store.database.perform(lambda c: c.set_trace_callback(seen.append)).result()
    store.import_conversations(conversations(400))
    store.database.perform(lambda c: c.set_trace_callback(None)).result()
    asked = [
        statement for statement in seen if not statement.startswith("--")
    ]  # the rest is SQLite's own, of the index
    made = [statement for statement, _ in itertools.groupby(asked)]  # once more for each row that has a trigger
    assert len(made) < 100
    check_whole(store)


def test_names_and_ids_met_again_in_one_batch_and_in_the_next_are_known(store, small_batches):
    """What a batch looks up for all its conversations at once stays true while it writes them one by one."""
    other = {"messages": [{"role": "user", "content": "another"}, {"role": "assistant", "content": "yes"}]}
    names = ["twin", "twin", "a\0b", "a\0c", "a\0b", "", "twin-2"]
    named = [{**other, "id": f"n{n}", "title": name} for n, name in enumerate(names)]
    some = list(conversations(12, turns=3))
    report = store.import_conversations([*some[:4], *some[:2], *named, *some, *named])
    assert (report.conversations, report.known) == (12 + len(named), 6 + len(named))
    found = set(store.conversations()["name"])
    assert {"twin", "twin-2", "a\0b", "a\0c", "a\0b-2", "twin-2-2"} <= found
    assert store.verify()


def test_any_number_of_rows_goes_into_statements_of_a_few_sizes(store):
    def work(c):
        c.execute("CREATE TEMP TABLE pair (a, b)")
        sizes = []
        for rows in (0, 1, 15, 16, 17, 1024, 1171, 3000):
            c.execute("DELETE FROM pair")
            writing.insert(c, "pair", "a b", [n for row in range(rows) for n in (row, -row)])
            sizes.append(
                c.execute("SELECT count(*), coalesce(sum(a + b), 0), coalesce(max(a), -1) FROM pair").fetchone()
            )
        return sizes

    assert store.database.write(work).result() == [(n, 0, n - 1) for n in (0, 1, 15, 16, 17, 1024, 1171, 3000)]
    assert os.path.exists(store.path)
