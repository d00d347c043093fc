"""After delete() and redact() the words are in no byte of the store's files, whoever else has them open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import voxnb
from voxnb import errors
from voxnb.store import erase, fresh, place

SECRET = "xylophonemarmalade"


def holds(path, word=SECRET):
    """Names of the store's files that hold a word; read elsewhere, as closing a file here ends SQLite's locks on it."""
    code = (
        "import pathlib, sys; word, folder = sys.argv[1].lower().encode(), pathlib.Path(sys.argv[2]);"
        "print(*sorted(f.name for f in folder.iterdir() if f.is_file() and word in f.read_bytes().lower()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, word, str(Path(path).parent)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def said(n, word=""):
    return [
        {"role": "user", "content": f"question {n} about {word} " + f"filler{n % 97} " * (n % 60)},
        {"role": "assistant", "content": f"answer {n} to {word} " + f"padding{n % 89} " * (n % 50)},
    ]


def a_busy_store(path, *, secret_turns):
    """A store whose pages were split and merged over and over, with the secret at the start, in the middle and at the end."""
    store = voxnb.ContextStore(path)
    for n in range(400):
        store.append(f"c{n % 7}", said(n, SECRET if n in secret_turns else "things"))
    return store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def test_every_copy_that_pages_and_index_keep_is_gone(path):
    with a_busy_store(path, secret_turns=range(0, 400, 7)) as store:
        assert holds(path)
        assert store["c0"].delete() == ["c0"]
        assert holds(path) == []
        assert len(store.search(SECRET)) == 0
        assert len(store) == 6
        assert store.verify()


def test_a_turn_in_the_middle_is_gone_and_its_neighbours_are_not(path):
    with a_busy_store(path, secret_turns=[203]) as store:
        number = next(n for n, t in enumerate(store["c0"].turns()["user_text"], 1) if SECRET in t)
        redaction = store["c0"].redact(number)
        assert holds(path) == []
        assert len(redaction.turns) == 1
        assert redaction.messages == 2
        assert store["c0"].messages()["content"].str.contains("redacted").sum() == 2
        assert len(store.search("filler3")) > 0
        assert store.verify()
        check = "INSERT INTO message_fts (message_fts) VALUES ('integrity-check')"
        store.database.write(lambda c: c.execute(check)).result()


def test_what_was_deleted_by_rows_alone_is_found_by_compact(path):
    with a_busy_store(path, secret_turns=[5, 300]) as store:
        store.database.write(
            lambda c: c.execute("UPDATE message SET text = 'x' WHERE text LIKE ?", (f"%{SECRET}%",))
        ).result()
        store.database.write(lambda c: c.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")).result()
        assert holds(path)
        assert store.compact()
        assert holds(path) == []


@pytest.fixture
def careless(path):
    """A store whose SQLite leaves the bytes of deleted rows where they were, as that of most systems does."""
    with voxnb.ContextStore(path) as store:
        store.database.perform(lambda c: c.execute("PRAGMA secure_delete=OFF").fetchone()).result()
        store.append(
            "c", [{"role": "user", "content": f"My word is {SECRET}"}, {"role": "assistant", "content": "Noted."}]
        )
        store.append("other", [{"role": "user", "content": "Hi"}])
        yield store


@pytest.mark.parametrize("verb", ["delete", "redact"])
def test_words_that_stand_in_free_pages_only_are_gone_too(careless, path, verb):
    # What a running turn keeps of its reply, and takes back when the reply is whole.
    for statement in (f"INSERT INTO draft VALUES (1, '{SECRET}')", "DELETE FROM draft"):
        careless.database.write(lambda c, statement=statement: c.execute(statement)).result()
    careless.checkpoint()
    assert holds(path) == [path.name]
    careless["c"].delete() if verb == "delete" else careless["c"].redact(1)
    assert holds(path) == []
    assert careless.verify()


@pytest.mark.parametrize("verb", ["delete", "redact"])
def test_where_there_is_no_room_to_rewrite_the_rows_are_overwritten_all_the_same(careless, path, verb, monkeypatch):
    def no_room(_):
        raise sqlite3.OperationalError("database or disk is full")

    careless.database.write(fresh.index_all).result()
    careless.checkpoint()
    monkeypatch.setattr(erase, "rewrite", no_room)
    with pytest.raises(errors.StoreError, match=r"free pages may still hold the words.*store\.compact\(\)"):
        careless["c"].delete() if verb == "delete" else careless["c"].redact(1)
    careless.checkpoint()
    assert holds(path) == []


def test_other_connections_of_this_process_do_not_matter(path):
    with (
        a_busy_store(path, secret_turns=[7]) as store,
        voxnb.ContextStore(path) as other,
        voxnb.ContextStore(path, read_only=True) as reader,
    ):
        assert len(other.search(SECRET)) == len(reader.search(SECRET)) == 2
        store["c0"].redact(2)
        assert holds(path) == []
        assert len(other.search(SECRET)) == len(reader.search(SECRET)) == 0
        other.append("c0", said(1, SECRET))
        other["c0"].redact(-1)
        assert holds(path) == []
        assert store.verify()


READER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN")
c.execute("SELECT count(*) FROM message").fetchone()
print("reading", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def reader(path):
    """Starts a process that reads the store until it is told to end."""
    running = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(READER), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "reading\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("verb", ["delete", "redact"])
def test_a_reader_in_another_process_is_named_and_the_rest_is_done_when_it_ends(path, reader, verb, monkeypatch):
    monkeypatch.setattr(place, "LOG_WAIT_MS", 50)
    with a_busy_store(path, secret_turns=[0]) as store:
        process = reader()
        with pytest.raises(errors.StoreBusyError, match=r"another reader keeps the log.*checkpoint"):
            store["c0"].delete() if verb == "delete" else store["c0"].redact(1)
        assert len(store.search(SECRET)) == 0
        assert ("c0" in store) == (verb == "redact")
        assert holds(path)
        assert not store.checkpoint()
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait()
        assert store.checkpoint()
        assert holds(path) == []
        assert store.verify()


def test_no_room_to_rewrite_is_said_and_can_be_made_good(path, monkeypatch):
    import sqlite3

    def full(c):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with a_busy_store(path, secret_turns=[0]) as store:
        with monkeypatch.context() as patch:
            patch.setattr(erase, "rewrite", full)
            with pytest.raises(
                errors.StoreFullError, match=r"is redacted, but.*could not be rewritten.*compact\(\)"
            ) as caught:
                store["c0"].redact(1)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert len(store.search(SECRET)) == 0
        assert store.compact()
        assert holds(path) == []


def test_without_a_log_it_is_the_same(path, monkeypatch):
    monkeypatch.setattr(
        "voxnb.store.database.switch_on_wal",
        lambda c, **_: str(c.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0]),
    )
    with a_busy_store(path, secret_turns=[0, 8]) as store:
        assert store.database.journal_mode == "truncate"
        store["c0"].redact(1)
        store["c1"].delete()
        assert holds(path) == []
        assert store.compact()
        assert store.verify()


def test_in_memory_there_is_no_file_to_clean():
    store = voxnb.ContextStore(":memory:")
    store.append("a", said(1, SECRET))
    store["a"].redact(1)
    assert len(store.search(SECRET)) == 0
    assert store["a"].delete() == ["a"]
    assert store.compact()


def test_titles_notes_prompts_drafts_and_events_go_with_a_conversation(path):
    with voxnb.ContextStore(path) as store:
        store.append("keep", said(1))
        talk = store.append("gone", said(2, SECRET))
        store.note(talk, f"about {SECRET}")
        store.note(talk.turns()["turn_id"][0], f"turn {SECRET}", label="odd")
        database = store.database

        def rows(c):
            (key,) = c.execute("SELECT id FROM conversation WHERE name = 'gone'").fetchone()
            (turn,) = c.execute("SELECT max(id) FROM turn").fetchone()
            c.execute(
                "UPDATE conversation SET title = ?, metadata = ? WHERE id = ?", (SECRET, f'{{"a": "{SECRET}"}}', key)
            )
            c.execute("INSERT INTO draft VALUES (?, ?)", (turn, f'{{"content": "{SECRET}"}}'))
            c.execute(
                "INSERT INTO event (uid, conversation, turn, seq, name, payload, created_at) VALUES ('e', ?, ?, 1, 'E', ?, 1)",
                (key, turn, SECRET),
            )
            c.execute(
                "INSERT INTO media (uid, conversation, turn, direction, path, created_at) VALUES ('m', ?, ?, 'in', ?, 1)",
                (key, turn, SECRET),
            )
            c.execute(
                "INSERT INTO call (uid, conversation, turn, purpose, status, error, created_at) VALUES ('c', ?, ?, 'turn', 'failed', ?, 1)",
                (key, turn, SECRET),
            )

        database.write(rows).result()
        assert holds(path)
        talk.delete()
        assert holds(path) == []
        assert store.verify()


def test_a_saved_prompt_is_not_the_conversations(path):
    with voxnb.ContextStore(path) as store:
        store.save_prompt("mine", f"Sum it up. {SECRET}")
        store.append("a", said(1)).delete()
        assert store.prompt("mine").text.endswith(SECRET)


def test_a_store_that_others_hold_is_busy_by_name(path, monkeypatch):
    with a_busy_store(path, secret_turns=[0]) as store:
        monkeypatch.setattr("voxnb.store.opening.BUSY_TIMEOUT_S", 0.05)
        blocker = sqlite3.connect(path)
        blocker.execute("BEGIN IMMEDIATE")
        store.database.perform(lambda c: c.execute("PRAGMA busy_timeout=50")).result()
        with pytest.raises(errors.StoreBusyError):
            store["c0"].redact(1)
        blocker.rollback()
        blocker.close()
        assert holds(path)
        store["c0"].redact(1)
        assert holds(path) == []
