"""The writer knows the turns it read lately: a request reads what is new, and is the same as if it had read all."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import voxnb
from tests.store.builder import Builder
from voxnb import testing
from voxnb.messages import digest
from voxnb.store import lately, ledger
from voxnb.store.database import Database
from voxnb.store.lately import KnowingConnection


def tail(c: sqlite3.Connection, name: str):
    """What a request of the conversation is made of, as read over this connection."""
    row = ledger.find(c, name)
    return None if row is None else ledger.load_snapshot(c, row)


def both(store: voxnb.ContextStore, name: str):
    database = store.database
    with database.reader() as c:
        assert not isinstance(c, KnowingConnection)
        read = tail(c, name)
    return database.write(lambda c: tail(c, name)).result(), read


def words_read(database: Database, conversation: str) -> list[str]:
    """The statements that read messages while a request is put together."""

    def work(c: sqlite3.Connection) -> list[str]:
        seen: list[str] = []
        c.set_trace_callback(seen.append)
        tail(c, conversation)
        c.set_trace_callback(None)
        return [statement for statement in seen if "m.text" in statement]

    return database.write(work).result()


def test_a_request_reads_only_the_turns_that_are_new_since_the_one_before(db, build):
    talk = build.conversation("talk")
    for n in range(5):
        build.turn(talk, f"question {n}", f"answer {n}")
    assert "BETWEEN max(l.first_seq, 1)" in words_read(db, "talk")[0]
    assert words_read(db, "talk") == []
    build.turn(talk, "another", "answer")
    assert "BETWEEN max(l.first_seq, 6)" in words_read(db, "talk")[0]


def test_a_turn_that_goes_on_is_read_each_time(db, build):
    talk = build.conversation("talk")
    build.turn(talk, "question", "answer")
    turn = build.turn(talk, "not yet", state="running")
    for said in ("one", "two"):
        build.message(turn, {"role": "assistant", "content": said}, position=ord(said[0]), created_at=0)
        assert db.write(lambda c: tail(c, "talk")).result().tail[-1].messages[-1].text == said


def test_all_is_read_again_when_another_connection_has_written(db, build, tmp_path):
    talk = build.conversation("talk")
    build.turn(talk, "a word", "answer")
    words_read(db, "talk")
    other = sqlite3.connect(db.path)
    with other:
        other.execute("UPDATE message SET text = 'by hand' WHERE text = 'a word'")
    other.close()
    assert db.write(lambda c: tail(c, "talk")).result().tail[0].messages[0].text == "by hand"


def test_of_a_request_only_the_messages_that_are_new_are_hashed(tmp_path, monkeypatch):
    hashed: list[tuple[str, ...]] = []
    monkeypatch.setattr("voxnb.store.request.digest", lambda *lines: (hashed.append(lines), digest(*lines))[1])
    with (
        testing.server([f"Answer {n} 東京." for n in range(4)]) as server,
        voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=tmp_path / "s.db") as chat,
    ):
        for n in range(4):
            hashed.clear()
            chat.ask(f"Question {n}").result()
    *lines, whole = hashed
    assert lines == [("assistant 12 Answer 2 東京.",), ("user 10 Question 3",)]
    assert len(whole) == 8


def test_what_is_known_has_a_bound(db, monkeypatch):
    monkeypatch.setattr(lately, "MOST_CHARS", 1_000)
    build = Builder(db)
    talk = build.conversation("talk")
    for _ in range(20):
        build.turn(talk, "q" * 200, "a" * 200)
        words_read(db, "talk")
        assert db.write(lambda c: c._chars).result() <= 1_000 + 20 * 400  # type: ignore[attr-defined]
    assert len(db.write(lambda c: tail(c, "talk")).result().tail) == 20


def test_a_turn_that_was_rolled_back_is_not_known_for_another_with_its_row(db, build):
    talk = build.conversation("talk")

    def work(c: sqlite3.Connection) -> None:
        row = ledger.find(c, "talk")
        c.execute(
            "INSERT INTO turn (uid, branch, seq, state, hash, created_at) VALUES ('lost', ?, 1, 'complete', 'h', 0)",
            (row.branch,),
        )
        c.execute("UPDATE conversation SET last_seq = 1 WHERE id = ?", (row.id,))
        assert tail(c, "talk").tail[0].uid == "lost"
        raise LookupError

    with pytest.raises(LookupError):
        db.write(work).result()
    build.turn(talk, "said", "answered", uid="kept")
    assert [turn.uid for turn in db.write(lambda c: tail(c, "talk")).result().tail] == ["kept"]


STEPS = ("append", "append elsewhere", "redact", "pin", "unpin", "undo", "fork", "redact elsewhere", "look")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), min_size=3, max_size=14))
def test_the_writer_sees_what_a_reader_sees_whatever_was_done_and_by_whom(steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("lately") / "store.db"
    with voxnb.ContextStore(path) as here, voxnb.ContextStore(path) as there:
        here.append("talk", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
        for n, (step, k) in enumerate(steps):
            store = there if step.endswith("elsewhere") else here
            talk = store["talk"]
            seq = 1 + k % max(len(talk), 1)
            if step.startswith("append"):
                said = [{"role": "user", "content": f"{n} q"}, {"role": "assistant", "content": f"{n} a"}]
                store.append("talk", said)
            elif step.startswith("redact") and len(talk):
                talk.redact(seq)
            elif step in ("pin", "unpin") and len(talk):
                getattr(talk, step)(seq)
            elif step == "undo" and len(talk) > 1:
                talk.undo()
            elif step == "fork" and len(talk):
                talk.fork(seq, name=f"fork {n}")
            for conversation in list(here):
                known, read = both(here, conversation)
                assert known == read


def test_what_was_taken_back_is_not_known(db, build):
    """The numbers of its rows are given again, to others."""
    talk = build.conversation("talk")
    build.turn(talk, "question", "answer")
    words_read(db, "talk")

    def work(c: KnowingConnection) -> None:
        c.counted_in[1] = ("o200k_base", 1, 1, 0)
        c.indexed_to = 900
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.write(work).result()
    assert db.perform(lambda c: (c.counted_in, c.indexed_to)).result() == ({}, -1)
    assert words_read(db, "talk") != []
