"""The file of an open store is removed, or another one is put in its place: said at once, and nothing is lost in silence."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import voxnb
from voxnb import testing
from voxnb.errors import StoreError, StoreGoneError

WAIT_S = 60
ONE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


@pytest.fixture
def server() -> Iterator[testing.Server]:
    with testing.server("fine") as running:
        yield running


def chat_in(path: Path, server: testing.Server) -> voxnb.ChatCompletionsAPIClient:
    return voxnb.chat("gpt-4o", base_url=server.base_url, store=str(path), conversation="nb")


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def said(path: Path) -> list[str]:
    """What another process finds in the file."""
    code = (
        "import json, sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "print(json.dumps(c.execute(\"SELECT text FROM message WHERE role = 'user' ORDER BY id\").fetchall()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return [text for (text,) in json.loads(done.stdout)]


def test_a_new_client_goes_on_in_a_new_file_where_the_old_one_was_removed(tmp_path, server):
    path = tmp_path / "store.db"
    first = chat_in(path, server)
    first.ask("first").result(WAIT_S)
    first.close()
    remove(path)
    with chat_in(path, server) as again:
        assert "new" in repr(again)
        again.ask("second").result(WAIT_S)
        gc.collect()  # closing the old connections must not take the new log with them
        assert said(path) == ["second"]
        with pytest.raises(StoreGoneError, match="was removed while it was open"):
            first.store.turns()


def test_a_client_whose_file_was_removed_says_so_and_what_it_held_can_still_be_saved(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        remove(path)
        other = tmp_path / "other.db"
        voxnb.ContextStore(other).close()
        for act in (
            lambda: chat.ask("second").result(WAIT_S),
            chat.store.turns,
            lambda: chat.store.append("x", ONE),
            lambda: chat.store.merge(other),
        ):
            with pytest.raises(StoreGoneError, match=r"was removed while it was open.*store\.backup\(…\).*new client"):
                act()
        assert "removed" in repr(chat.store)
        assert "removed" in repr(chat)
        assert len([r for r in server.requests if r.method == "POST"]) == 1
        assert not path.exists(), "asking did not make an empty one"
        assert said(chat.store.backup(tmp_path / "saved.db")) == ["first"]


def test_a_backup_that_is_moved_into_its_place_is_read_alone(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        chat.store.backup(tmp_path / "b.db")
        chat.ask("second").result(WAIT_S)
        (tmp_path / "b.db").rename(path)
        with pytest.raises(StoreGoneError, match="was replaced by another file"):
            chat.ask("third").result(WAIT_S)
        with chat_in(path, server) as again:
            assert again.conversation.turns().user_text.tolist() == ["first"]
            again.ask("fourth").result(WAIT_S)
            assert again.store.verify()
            assert said(path) == ["first", "fourth"]


def test_a_file_that_is_moved_away_takes_along_all_that_was_said(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        path.rename(tmp_path / "archive.db")
    with chat_in(path, server) as again:
        again.ask("second").result(WAIT_S)
        assert said(tmp_path / "archive.db") == ["first"]
        assert said(path) == ["second"]


def test_a_file_that_comes_back_is_used_again(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        path.rename(tmp_path / "aside.db")
        with pytest.raises(StoreGoneError):
            chat.ask("second").result(WAIT_S)
        (tmp_path / "aside.db").rename(path)
        chat.ask("third").result(WAIT_S)
        assert said(path) == ["first", "third"]


@pytest.mark.parametrize("cut", [False, True])
def test_an_answer_that_comes_after_the_file_went_is_in_the_error(tmp_path, cut):
    path = tmp_path / "store.db"

    def answer(_: testing.Request) -> object:
        remove(path)
        return testing.Drop(after_events=2, reply=["half ", "of it", " all"]) if cut else "all of it"

    with testing.server(answer) as server, chat_in(path, server) as chat:
        turn = chat.ask("first")
        with pytest.raises(StoreGoneError) as raised:
            turn.result(WAIT_S)
        assert raised.value.reply.text == turn.partial == ("half of it" if cut else "all of it")


def test_what_the_store_does_with_its_file_is_no_replacement(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        for text in ("first", "second"):
            chat.ask(text).result(WAIT_S)
        chat.conversation.redact(1)
        chat.conversation.fork(name="other").delete()
        assert chat.store.compact()
        assert chat.store.checkpoint()
        chat.ask("third").result(WAIT_S)
        assert chat.store.verify()
        chat.store.close()
    with pytest.raises(StoreError, match="was closed; open it again") as raised:
        chat.store.turns()
    assert not isinstance(raised.value, StoreGoneError)
    assert voxnb.ContextStore(":memory:").append("x", ONE).turns().user_text.tolist() == ["Hi"]


def drop_log(path: Path) -> None:
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink()


@pytest.mark.parametrize("reopened", [False, True])
def test_a_log_that_was_removed_is_missed_and_what_it_held_is_in_the_file(tmp_path, server, reopened):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        if reopened:
            chat.store.database.let_go()
            assert chat.store.turns().user_text.tolist() == ["first"]
            chat.ask("second").result(WAIT_S)
        drop_log(path)
        for act in (lambda: chat.ask("lost").result(WAIT_S), chat.store.turns):
            with pytest.raises(
                StoreGoneError, match=r"was left without its log \(.*-wal\).*in the file again; make a new"
            ):
                act()
        assert "left without its log" in repr(chat.store)
        chat.store.database._jobs.put((done := threading.Event()).set)
        assert done.wait(WAIT_S)
        assert said(path) == ["first", "second"][: 1 + reopened]
        with chat_in(path, server) as again:
            again.ask("third").result(WAIT_S)
            assert again.conversation.turns().user_text.tolist()[-1] == "third"
            assert again.store.verify()
            assert said(path)[-1] == "third"


def test_into_a_file_that_somebody_opened_without_the_log_it_is_not_written(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        assert chat.store.checkpoint()
        chat.ask("second").result(WAIT_S)
        drop_log(path)
        assert said(path) == ["first"]
        with pytest.raises(StoreGoneError, match=r"was given another log .*store\.backup\(…\)"):
            chat.ask("lost").result(WAIT_S)
        chat.store.database._jobs.put((done := threading.Event()).set)
        assert done.wait(WAIT_S)
        assert said(path) == ["first"]
        assert said(chat.store.backup(tmp_path / "saved.db")) == ["first", "second"]


def test_a_log_that_went_with_the_last_connection_is_not_missed(tmp_path):
    path = tmp_path / "store.db"
    with voxnb.ContextStore(path) as store:
        store.append("x", ONE)
        store.database.let_go()
        assert not list(tmp_path.glob("*-wal"))
        assert store.append("x", ONE).turns().user_text.tolist() == ["Hi", "Hi"]
        reading = threading.Thread(target=store.turns)
        reading.start()
        reading.join()
    with voxnb.ContextStore(path, read_only=True) as store:
        for _ in range(2):
            reading = threading.Thread(target=store.turns)  # its connection ends with it, and the log with that
            reading.start()
            reading.join()
        assert len(store.turns()) == 2


ENDS = """
import os, sys, voxnb
from voxnb import testing
path, kept, way = sys.argv[1:]
with testing.server("fine") as server:
    chat = voxnb.chat("gpt-4o", base_url=server.base_url, store=path, conversation="nb")
    for n in range(3):
        chat.ask(f"turn {n}").result()
    if way == "replaced":
        chat.store.backup(kept)
    chat.ask("turn 3").result()
    if way == "moved and noticed":
        os.rename(path, kept)
        try:
            chat.ask("lost").result()
        except voxnb.errors.StoreGoneError:
            print("noticed")
    chat.close()
    if way == "moved":
        os.rename(path, kept)
    if way == "replaced":
        os.rename(kept, path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["moved", "moved and noticed", "replaced"])
def test_a_process_that_ends_leaves_no_log_beside_a_file_that_is_not_its_own(tmp_path, way):
    path, kept = tmp_path / "store.db", tmp_path / "kept.db"
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(path), str(kept), way],
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (way == "moved and noticed")
    if way == "replaced":
        assert said(path) == ["turn 0", "turn 1", "turn 2"]
    else:
        assert said(kept) == ["turn 0", "turn 1", "turn 2", "turn 3"]
    with voxnb.ContextStore(path) as store:
        assert store.verify()
        assert len(store) == (way == "replaced")


def test_what_a_file_held_is_in_it_as_soon_as_it_is_missed(tmp_path, server):
    path = tmp_path / "store.db"
    with chat_in(path, server) as chat:
        chat.ask("first").result(WAIT_S)
        path.rename(tmp_path / "kept.db")
        with pytest.raises(StoreGoneError):
            chat.store.turns()
        chat.store.database._jobs.put((done := threading.Event()).set)
        assert done.wait(WAIT_S)
        assert said(tmp_path / "kept.db") == ["first"]


def test_after_close_the_file_alone_holds_everything_though_its_store_is_open(tmp_path, server):
    path, moved = tmp_path / "store.db", tmp_path / "copy.db"
    with voxnb.ContextStore(path) as store:
        with voxnb.chat("gpt-4o", base_url=server.base_url, store=store, conversation="nb") as chat:
            chat.ask("first").result(WAIT_S)
        moved.write_bytes(path.read_bytes())
        assert len(store.turns()) == 1
    assert said(moved) == ["first"]
