"""A store made by the first version of the schema is brought up to date, with everything in it, and copied before."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing

import pytest

import voxnb
from voxnb import errors
from voxnb.messages import Message, digest
from voxnb.store import schema
from voxnb.store.rows import turn_hash


def first_version(path):
    """A file as the first version wrote it: its tables by its own SQL, its search entries by hand."""
    c = sqlite3.connect(path)
    for statement in schema.statements(schema.M001):
        c.execute(statement)
    c.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    c.execute("PRAGMA user_version = 1")
    c.execute(
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    c.execute("CREATE UNIQUE INDEX names ON _sqlite_migrations (migration_set, name)")
    c.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('voxnb', 'm001_conversations', '')"
    )
    c.execute(
        "INSERT INTO conversation (id, uid, name, branch, last_seq, created_at) VALUES (1, 'k-1', 'old', 1, 2, 5.0)"
    )
    c.execute("INSERT INTO branch VALUES (1, 1, 5.0)")
    c.execute("INSERT INTO lineage VALUES (1, 1, ?, 1)", (schema.MAX_SEQ,))
    for turn, texts in ((1, ("Hello Zoë", "")), (2, ("Where is the lighthouse?", "In Pärnu."))):
        said = [Message(role, text, {}) for role, text in zip(("user", "assistant"), texts, strict=True)]
        c.execute(
            "INSERT INTO turn (id, uid, branch, seq, state, tokens, hash, created_at) VALUES (?, ?, 1, ?, 'complete', 8, ?, ?)",
            (turn, f"t-{turn}", turn, turn_hash(m.content_hash for m in said), 7_200.0 * turn),
        )
        for position, message in enumerate(said):
            row = c.execute(
                "INSERT INTO message (turn, position, role, text, tokens, encoding, hash, created_at) "
                "VALUES (?, ?, ?, ?, 4, 'o200k_base', ?, ?)",
                (turn, position, message.role, message.text, message.content_hash, 7_200.0 * turn),
            ).lastrowid
            if message.text:
                c.execute("INSERT INTO message_fts (rowid, text) VALUES (?, ?)", (row, message.text))
    c.execute("INSERT INTO value (hash, text) VALUES (?, '{}')", (digest("{}"),))
    c.commit()
    c.close()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "store.db"
    first_version(file)
    return file


def integrity(store):
    check = "INSERT INTO message_fts (message_fts) VALUES ('integrity-check')"
    store.database.write(lambda c: c.execute(check)).result()
    return store.database.read("PRAGMA integrity_check")


def test_a_store_of_the_first_version_opens_with_all_that_is_in_it(path):
    with voxnb.ContextStore(path) as store:
        assert store.database.read("PRAGMA user_version") == [(schema.VERSION,)]
        assert store.verify()
        assert store["old"].messages()["content"].tolist() == ["Hello Zoë", "", "Where is the lighthouse?", "In Pärnu."]
        assert store.search("lighthouse")["snippet"].tolist() == ["Where is the [lighthouse]?"]
        assert store.search("parnu", conversation="old")["turn_seq"].tolist() == [2]
        assert store.search("zoe", until="1970-01-01T03:00")["turn_seq"].tolist() == [1]
        assert len(store.search("zoe", since="1970-01-01T03:00")) == 0
        assert integrity(store) == [("ok",)]
        store.append(
            "old", [{"role": "user", "content": "And the ferry?"}, {"role": "assistant", "content": "At noon."}]
        )
        assert store.search("ferry", conversation="old")["turn_seq"].tolist() == [3]
        assert integrity(store) == [("ok",)]
    (copy,) = path.parent.glob("*.backup.db")
    assert copy.name == "store.v1.backup.db"
    with closing(sqlite3.connect(copy)) as c, c:
        assert c.execute("PRAGMA user_version").fetchone() == (1,)
        assert c.execute("SELECT rowid FROM message_fts WHERE message_fts MATCH 'lighthouse'").fetchall() == [(3,)]
    c.close()


def test_an_upgraded_store_has_the_schema_of_a_new_one(path, tmp_path):
    with voxnb.ContextStore(path) as old, voxnb.ContextStore(tmp_path / "new.db") as new:
        tables = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE '%\\_sqlite%' ESCAPE '\\' AND name != 'names' ORDER BY 1, 2"
        assert old.database.read(tables) == new.database.read(tables)


def test_a_store_of_the_first_version_can_be_read_without_being_changed(path):
    before = path.read_bytes()
    with voxnb.ContextStore(path, read_only=True) as store:
        assert len(store["old"]) == 2
        assert store["old"].messages()["content"].tolist()[0] == "Hello Zoë"
        assert len(store.turns()) == 2
        assert store.search("lighthouse")["turn_seq"].tolist() == [2]
        assert store.search("lighthouse", conversation="old", since="1970-01-01")["turn_seq"].tolist() == [2]
        assert store.verify()
        with pytest.raises(errors.StoreReadOnlyError):
            store.append("old", [{"role": "user", "content": "no"}])
    assert path.read_bytes() == before


def texts(copy):
    with closing(sqlite3.connect(copy)) as c:
        return [text for (text,) in c.execute("SELECT text FROM message WHERE role = 'user' ORDER BY id")]


def test_stores_that_differ_by_their_ending_have_a_copy_each(path):
    other = path.with_suffix(".sqlite")
    first_version(other)
    with closing(sqlite3.connect(other)) as c, c:
        c.execute("DELETE FROM message WHERE turn = 2")
    for file in (path, other):
        voxnb.ContextStore(file).close()
    assert texts(path.with_name("store.v1.backup.db")) == ["Hello Zoë", "Where is the lighthouse?"]
    assert texts(path.with_name("store.v1.backup.sqlite")) == ["Hello Zoë"]


def test_an_older_copy_stays_and_what_was_said_since_is_copied_too(path):
    before = path.read_bytes()
    voxnb.ContextStore(path).close()
    for _ in range(2):  # taken back from the copy and gone on with by the older program; then opened twice alike
        for file in path.parent.glob("store.db*"):
            file.unlink()
        path.write_bytes(before)
        with closing(sqlite3.connect(path)) as c, c:
            c.execute("UPDATE message SET text = 'And then?' WHERE id = 3")
        voxnb.ContextStore(path).close()
    assert sorted(copy.name for copy in path.parent.glob("*backup*")) == ["store.v1.backup-2.db", "store.v1.backup.db"]
    assert texts(path.with_name("store.v1.backup.db")) == ["Hello Zoë", "Where is the lighthouse?"]
    assert texts(path.with_name("store.v1.backup-2.db")) == ["Hello Zoë", "And then?"]
    with voxnb.ContextStore(path) as store:
        assert len(store["old"].redact(2).elsewhere) == 2


def test_a_copy_that_finds_no_room_leaves_nothing_behind(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, hard))
    try:
        with pytest.raises(errors.StoreError):
            voxnb.ContextStore(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file for file in path.parent.iterdir() if "backup" in file.name] == []
    with voxnb.ContextStore(path) as store:
        assert len(store["old"]) == 2
