"""No room: an error with a name, a conversation that is whole, and work that goes on once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import voxnb
from tests.crash.child import TALK, client, question, talk_on
from tests.crash.scene import check_folds, run, said, store_holds
from tests.invariants.scripted import WAIT_S, scripted, small, told
from voxnb import testing
from voxnb.errors import StoreFullError

ROOMY = small(window_tokens=100_000, fold_at_tokens=90_000)


@contextmanager
def small_disk(folder: Path, *, size_kb: int) -> Iterator[Path]:
    """A file system of so much room."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        yield folder
    finally:
        # Lazily: a test that failed may have left the store open.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Leave no room on a small disk."""
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))


def tags_said(store: voxnb.ContextStore) -> list[int]:
    """What was asked about, in order."""
    return [min(told(text)) for _, _, role, text in said(store) if role == "user"]


def test_a_full_disk_is_an_error_by_name_and_the_conversation_goes_on_when_there_is_room(tmp_path):
    with (
        small_disk(tmp_path / "disk", size_kb=1500) as folder,
        testing.server(scripted()) as server,
        client(folder / "store.db", server.base_url, policy=ROOMY) as chat,
    ):
        ballast = folder / "ballast"
        chat.ask(question(1)).result(WAIT_S)
        ballast.write_bytes(bytes(300_000))
        error = talk_on(chat, first_tag=2)
        assert isinstance(error, StoreFullError)
        assert "make room" in str(error)
        store_holds(chat.store)
        before = tags_said(chat.store)
        ballast.unlink()
        assert str(chat.ask(question(999)).result(WAIT_S)).startswith("Noted #999")
        # What a request was sent for was stored before, whatever then became of its answer.
        asked = [min(told(r.text)) for r in server.requests if r.method == "POST"]
        assert tags_said(chat.store) == [*before, 999]
        assert set(asked) <= {*before, 999}
        # And an answer that found no room is stored now.
        assert {state for _, state, _, _ in said(chat.store)} == {"complete"}
        store_holds(chat.store)
        chat.store.close()


def test_closing_stores_what_found_no_room_before(tmp_path):
    path, ballast = tmp_path / "disk" / "store.db", tmp_path / "disk" / "ballast"

    def answer(_: testing.Request) -> str:
        """A long answer, and the disk is full before it comes."""
        fill(ballast)
        return "Noted, " + "and more " * 2_000

    with small_disk(path.parent, size_kb=1500), testing.server(scripted(answer)) as server:
        with client(path, server.base_url, policy=ROOMY) as chat:
            with pytest.raises(StoreFullError) as raised:
                chat.ask(question(1)).result(WAIT_S)
            assert raised.value.reply.text.startswith("Noted, and more")
            assert chat.unwritten, "the answer found no room"
            ballast.unlink()
        with voxnb.ContextStore(path) as store:
            store_holds(store)
            assert {state for _, state, _, _ in said(store)} == {"complete"}


def test_the_next_client_stores_what_a_closed_one_found_no_room_for(tmp_path):
    path, ballast = tmp_path / "disk" / "store.db", tmp_path / "disk" / "ballast"

    def answer(request: testing.Request) -> str:
        """The first time a long answer, and the disk is full before it comes."""
        if told(request.text) != {1}:
            return "Noted."
        fill(ballast)
        return "Noted, " + "and more " * 2_000

    with small_disk(path.parent, size_kb=1500), testing.server(scripted(answer)) as server:
        closed = client(path, server.base_url, policy=ROOMY)
        with pytest.raises(StoreFullError):
            closed.ask(question(1)).result(WAIT_S)
        closed.close()
        ballast.unlink()
        with client(path, server.base_url, policy=ROOMY) as chat:
            chat.ask(question(2)).result(WAIT_S)
            store_holds(chat.store)
            assert {state for _, state, _, _ in said(chat.store)} == {"complete"}
            assert server.requests[-1].messages[1]["content"].startswith("Noted, and more")
            chat.store.close()


def test_a_fold_that_finds_no_room_leaves_the_turns_and_is_made_up_for(tmp_path):
    with (
        small_disk(tmp_path / "disk", size_kb=1500) as folder,
        testing.server(scripted()) as server,
        client(folder / "store.db", server.base_url, policy=ROOMY) as chat,
    ):
        for tag in range(1, 7):
            chat.ask(question(tag)).result(WAIT_S)
        ballast = folder / "ballast"
        fill(ballast)
        with pytest.raises(StoreFullError):
            chat.conversation.fold().result(WAIT_S)
        assert check_folds(chat.store) == 0
        ballast.unlink()
        assert chat.conversation.fold().result(WAIT_S) is not None
        assert check_folds(chat.store) == 4
        chat.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("room_bytes", [20_000, 100_000])
def test_a_limit_on_the_size_of_files_leaves_the_conversation_whole(tmp_path, room_bytes):
    path = tmp_path / "store.db"
    with testing.server(scripted()) as server:
        kind, module, last = run("limited", path, server.base_url, room_bytes).split(maxsplit=2)
        assert (kind, module) in {("StoreFullError", "sqlite3"), ("StoreError", "sqlite3")}
        assert last.startswith("Noted #999")
        asked = {min(told(r.text)) for r in server.requests if r.method == "POST"}
    with voxnb.ContextStore(path) as store:
        store_holds(store)
        tags = tags_said(store)
        assert tags == sorted(tags)
        assert asked <= set(tags)
        # And an answer that found no room was stored when there was some.
        assert {state for _, state, _, _ in said(store)} == {"complete"}
        assert store[TALK].row().last_seq == len(tags)
