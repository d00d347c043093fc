"""The newest messages are found before the index has them, as if it had; and it takes them in many at once."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

import voxnb
from voxnb.store import fresh, schema
from voxnb.store.search import search

WHOLE = "INSERT INTO message_fts (message_fts, rank) VALUES ('integrity-check', 1)"


def waiting(db):
    """Rows of the messages that are not in the index."""
    with db.reader() as c:
        return sorted(row for row, *_ in c.execute(fresh.FRESH))


def test_the_index_takes_messages_in_when_enough_have_come(db, build):
    a = build.conversation("a")
    seen = set()
    for n in range(40):
        build.turn(a, f"question {n}", f"answer {n}")
        seen.add(len(waiting(db)))
        assert len(search(db, "question", limit=None)) == n + 1
    assert max(seen) <= fresh.MOST_ROWS
    assert 0 < len(seen) < 40, "it was written at every turn, or never"
    db.write(fresh.index_all).result()
    assert waiting(db) == []
    db.write(lambda c: c.execute(WHOLE)).result()


def test_sql_over_the_index_sees_every_message_where_the_store_can_be_written(tmp_path):
    query = "SELECT count(*) AS n FROM message_fts WHERE message_fts MATCH 'lighthouse'"
    with voxnb.ContextStore(tmp_path / "a.db") as store:
        store.append("a", [{"role": "user", "content": "To the lighthouse"}])
        with voxnb.ContextStore(tmp_path / "a.db", read_only=True) as reader:
            assert reader.sql(query)["n"].tolist() == [0]
            assert len(reader.search("lighthouse")) == 1
        assert store.sql(query)["n"].tolist() == [1]


def test_a_long_message_goes_into_the_index_at_once_and_takes_the_others_along(db, build):
    build.turn(build.conversation("a"), "short", "long " * 500)
    assert waiting(db) == []
    assert len(search(db, "short")) == 1


def test_many_messages_without_text_are_not_looked_through_again_and_again(db, build):
    a = build.conversation("a")
    for _ in range(60):
        build.turn(a, "", "")
    assert db.read("SELECT count(*) FROM message_fts_docsize") == [(0,)]
    build.turn(a, "now a word")
    assert waiting(db) == []


@pytest.mark.parametrize("rank", [False, True])
@pytest.mark.parametrize("text", ["weather", '"the weather in"', "wea*", "town39", "nowhere", "weather town2"])
@pytest.mark.parametrize(
    "options", [{}, {"limit": 3}, {"limit": 20}, {"conversation": 2}, {"since": "2026-07-31T12:00:30"}]
)
def test_what_is_found_does_not_depend_on_how_much_the_index_has(db, build, text, options, rank):  # fmt: skip
    a, b = build.conversation("a"), build.conversation("b")
    for n in range(40):
        build.turn((a, b)[n % 2], f"How is the weather in town{n}?", f"In town{n} it is{' very' * n} dry.")
    assert waiting(db)
    before = search(db, text, rank=rank, **options)
    db.write(fresh.index_all).result()
    assert before.equals(search(db, text, rank=rank, **options))


def test_a_path_of_a_fork_and_an_undone_turn_are_seen_in_what_is_not_indexed(db, build):
    a = build.conversation("a")
    build.turn(a, "one needle", "yes")
    build.turn(a, "two needle", "yes")
    fork = build.fork(a, "b", at=1)
    build.turn(fork, "three needle", "yes")
    build.undo(a, to=1)
    assert waiting(db)
    assert search(db, "needle", conversation=a)["turn_seq"].tolist() == [1]
    assert search(db, "needle", conversation=fork)["snippet"].tolist() == ["three [needle]", "one [needle]"]
    assert len(search(db, "needle")) == 3


def test_a_reader_finds_them_in_a_file_that_it_must_not_write(tmp_path):
    path = tmp_path / "store.db"
    with voxnb.ContextStore(path) as store:
        store.append("a", [{"role": "user", "content": "a needle"}, {"role": "assistant", "content": "Yes."}])
    before = path.read_bytes()
    with voxnb.ContextStore(path, read_only=True) as store:
        assert store.search("needle")["turn_seq"].tolist() == [1]
        assert store.search("needle", rank=True)["turn_seq"].tolist() == [1]
        assert store.verify()
    assert path.read_bytes() == before


def test_a_ranked_search_does_not_wait_for_another_process_that_writes(db, build, monkeypatch):
    monkeypatch.setattr("voxnb.store.search.RANK_WAIT_S", 0.01)
    build.turn(build.conversation("a"), "a needle", "Yes.")
    with closing(sqlite3.connect(db.path, isolation_level=None)) as other, other:
        other.execute("BEGIN IMMEDIATE")
        assert search(db, "needle", rank=True)["turn_seq"].tolist() == [1]
        other.execute("ROLLBACK")
    other.close()


def test_whatever_is_written_changed_and_deleted_the_index_is_whole(db, build):
    """Every message up to the last one in the index is in it with its words, and no other."""
    chance = random.Random(7)
    keys = [build.conversation(f"c{n}") for n in range(3)]
    for _ in range(300):
        ids = [row for (row,) in db.read("SELECT id FROM message")]
        match chance.randrange(8):
            case 0 if ids:
                build.run("UPDATE message SET text = ? WHERE id = ?", chance.choice(["", "other"]), chance.choice(ids))
            case 1 if ids:
                build.run("DELETE FROM message WHERE id >= ?", max(ids) - chance.randrange(3))
            case 2 if ids:
                build.run("DELETE FROM message WHERE id = ?", chance.choice(ids))
            case 3:
                db.write(fresh.index_all).result()
            case 4:
                build.turn(chance.choice(keys), "x", "long " * 500)
            case _:
                build.turn(chance.choice(keys), chance.choice(["", "word"]), "word")
        lost = f"SELECT id FROM message WHERE text != '' AND id <= {fresh.INDEXED_TO} EXCEPT SELECT id FROM message_fts_docsize"
        assert db.read(lost) == []
        assert db.read("SELECT id FROM message_fts_docsize EXCEPT SELECT id FROM message WHERE text != ''") == []
        (said,) = db.read("SELECT count(*) FROM message WHERE text LIKE '%word%'")[0]
        assert len(search(db, "word", limit=None)) == said
        assert len(waiting(db)) <= fresh.MOST_ROWS
    build.run("DELETE FROM message WHERE text = ''")  # SQLite's own check expects an entry for these too
    db.write(fresh.index_all).result()
    db.write(lambda c: c.execute(WHOLE)).result()


def test_a_file_of_the_second_version_goes_on_with_its_index(tmp_path):
    path = tmp_path / "store.db"
    steps = schema.STEPS
    c = sqlite3.connect(path)
    for _, sql in steps[:2]:
        for statement in schema.statements(sql):
            c.execute(statement)
    c.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    c.execute("PRAGMA user_version = 2")
    c.execute(
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    c.executemany(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('voxnb', ?, '')",
        [(name,) for name, _ in steps[:2]],
    )
    c.execute("INSERT INTO conversation (id, uid, name, branch, last_seq, created_at) VALUES (1, 'k-1', 'old', 1, 1, 5.0)")  # fmt: skip
    c.execute("INSERT INTO branch VALUES (1, 1, 5.0)")
    c.execute("INSERT INTO lineage VALUES (1, 1, ?, 1)", (schema.MAX_SEQ,))
    c.execute("INSERT INTO turn (id, uid, branch, seq, state, hash, created_at) VALUES (1, 't-1', 1, 1, 'complete', 'h', 6.0)")  # fmt: skip
    c.execute("INSERT INTO message (turn, position, role, text, tokens, encoding, hash, created_at) VALUES (1, 0, 'user', 'an old needle', 4, 'o200k_base', 'h', 6.0)")  # fmt: skip
    c.commit()
    c.close()
    with voxnb.ContextStore(path) as store:
        assert waiting(store.database) == []
        store.append("old", [{"role": "user", "content": "a new needle"}, {"role": "assistant", "content": "Yes."}])
        assert waiting(store.database) == [2, 3]
        assert store.search("needle")["snippet"].tolist() == ["a new [needle]", "an old [needle]"]
        store.database.write(fresh.index_all).result()
        store.database.write(lambda c: c.execute(WHOLE)).result()
    assert [copy.name for copy in tmp_path.glob("*.backup.db")] == ["store.v2.backup.db"]
