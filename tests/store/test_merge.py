"""merge(): two stores become one, nothing of either is lost, and doing it again adds nothing."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import voxnb
from tests.invariants.scripted import MODEL, WAIT_S, chats, client, in_turn, say, scripted, shown, talking, told
from tests.store.test_migrations import first_version
from voxnb import errors
from voxnb.store.merging import merge as merging

SECRET = "xylophonemarmalade"

PUBLIC = {
    "conversation": "SELECT uid FROM conversation",
    "turn": "SELECT uid, seq, hash FROM turn",
    "message": "SELECT t.uid, m.position, m.hash FROM message m JOIN turn t ON t.id = m.turn",
    "summary": "SELECT uid, text FROM summary",
    "coverage": "SELECT s.uid, t.uid, v.seq FROM coverage v JOIN summary s ON s.id = v.summary JOIN turn t ON t.id = v.turn",
    "call": "SELECT uid FROM call",
    "event": "SELECT uid FROM event",
    "note": "SELECT uid, text FROM note",
    "media": "SELECT uid FROM media",
}


def public(store):
    """What a store holds, by public ids."""
    return {kind: sorted(store.database.read(sql)) for kind, sql in PUBLIC.items()}


def whole(store):
    """Every row of every table but the search index's own."""
    names = store.database.read("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'message_fts%'")
    return {name: store.database.read(f"SELECT * FROM {name}") for (name,) in names}


def said(*texts):
    return [
        m for text in texts for m in ({"role": "user", "content": text}, {"role": "assistant", "content": f"re {text}"})
    ]


def asked(store, name):
    return store[name].turns()["user_text"].tolist()


@pytest.fixture
def pair(tmp_path):
    """Two stores of one origin: three turns of "talk", and one of "other"."""
    with voxnb.ContextStore(tmp_path / "a.db") as a:
        a.append("talk", said("one", "two", "three"))
        a.append("other", said("aside"))
        a.backup(tmp_path / "b.db")
    with voxnb.ContextStore(tmp_path / "a.db") as a, voxnb.ContextStore(tmp_path / "b.db") as b:
        yield a, b


def test_stores_that_share_nothing_are_both_in_one(tmp_path):
    with voxnb.ContextStore(tmp_path / "a.db") as a, voxnb.ContextStore(tmp_path / "b.db") as b:
        a.append("here", said("x"))
        b.append("there", [{"role": "system", "content": "Be brief."}, *said("y", "z")])
        b["there"].pin(1)
        b.note(b["there"], "good")
        b.save_prompt("sum", "Sum it up.")
        before = whole(b)
        report = a.merge(b.path)
        assert report
        assert report.added == {"conversations": 1, "turns": 2, "messages": 4, "prompts": 1, "notes": 1, "pins": 1}
        assert report.names == ("there",)
        assert "new: 1 conversation, 2 turns, 4 messages" in repr(report)
        assert asked(a, "there") == ["y", "z"]
        assert a["there"].turns()["pinned"].tolist() == [True, False]
        assert a["there"].plan("q").messages == b["there"].plan("q").messages
        assert a.search("z", conversation="there")["turn_seq"].tolist() == [2, 2]
        assert a.prompt("sum").text == "Sum it up."
        assert a.notes()["text"].tolist() == ["good"]
        assert whole(b) == before
        assert a.verify()


def test_merging_twice_adds_nothing(pair):
    a, b = pair
    b.append("talk", said("four"))
    b.append("new", said("n"))
    a.append("talk", said("quatre"))
    a.merge(b.path)
    before = whole(a)
    again = a.merge(b.path)
    assert not again
    assert again.added == {"pins": 0} or not any(again.added.values())
    assert again.forked == again.continued == again.names == ()
    assert "new: nothing; here already: " in str(again)
    assert whole(a) == before


def test_what_only_went_on_there_goes_on_here(pair):
    a, b = pair
    b.append("talk", [{"role": "system", "content": "Be kind."}, *said("four", "five")])
    report = a.merge(b.path)
    assert report.continued == ("talk",)
    assert report.forked == ()
    assert asked(a, "talk") == ["one", "two", "three", "four", "five"]
    assert a["talk"].plan("q").messages == b["talk"].plan("q").messages
    a.append("talk", said("six"))
    assert not b.merge(a.path).forked
    assert asked(b, "talk") == asked(a, "talk")
    assert a.verify()
    assert b.verify()


def test_what_only_went_on_here_stays(pair):
    a, b = pair
    a.append("talk", said("four"))
    assert not a.merge(b.path)
    assert asked(a, "talk") == ["one", "two", "three", "four"]


def test_what_went_on_differently_is_a_fork(pair):
    a, b = pair
    a.append("talk", said("quatre", "cinq"))
    b.append("talk", said("four"))
    report = a.merge(b.path)
    assert report.forked == (("talk", "talk-2", 3),)
    assert "'talk' went on differently after turn 3: the other course is 'talk-2'" in str(report)
    assert asked(a, "talk") == ["one", "two", "three", "quatre", "cinq"]
    assert asked(a, "talk-2") == ["one", "two", "three", "four"]
    row = a.conversations().set_index("name").loc["talk-2"]
    assert (row["parent_id"], row["fork_seq"]) == (a["talk"].id, 3)
    a.append("talk-2", said("here"))
    b.append("talk", said("five", "six"))
    again = a.merge(b.path)
    assert again.forked == (("talk-2", "talk-2-2", 4),)
    assert asked(a, "talk-2-2") == ["one", "two", "three", "four", "five", "six"]
    assert a.verify()


def test_a_fork_of_a_merge_goes_on_with_its_course(pair):
    a, b = pair
    a.append("talk", said("quatre"))
    b.append("talk", said("four"))
    a.merge(b.path)
    b.append("talk", said("five"))
    report = a.merge(b.path)
    assert report.continued == ("talk-2",)
    assert report.forked == ()
    assert asked(a, "talk-2") == ["one", "two", "three", "four", "five"]
    assert asked(a, "talk") == ["one", "two", "three", "quatre"]


def test_both_ways_hold_the_same(pair, tmp_path):
    a, b = pair
    a.append("talk", said("quatre"))
    b.append("talk", said("four"))
    b["other"].fork(name="way")
    b.append("way", said("way"))
    shutil.copytree(tmp_path, tmp_path / "copies")
    a.merge(b.path)
    with voxnb.ContextStore(tmp_path / "copies" / "b.db") as c:
        c.merge(tmp_path / "copies" / "a.db")
        assert public(c) == public(a)
    before = public(a)
    assert not a.merge(tmp_path / "copies" / "b.db")
    assert public(a) == before


def test_what_was_undone_here_and_went_on_there_is_a_fork(pair):
    a, b = pair
    a["talk"].undo()
    b.append("talk", said("four"))
    assert a.merge(b.path).forked == (("talk", "talk-2", 2),)
    assert asked(a, "talk") == ["one", "two"]
    assert asked(a, "talk-2") == ["one", "two", "three", "four"]
    a.append("talk", said("drei"))
    assert a.verify()


def test_what_was_undone_there_is_added_and_changes_no_course(pair):
    a, b = pair
    b.append("talk", said("four", "five"))
    b["talk"].undo(2)
    report = a.merge(b.path)
    assert report.added["turns"] == 2
    assert asked(a, "talk") == ["one", "two", "three"]
    a.append("talk", said("quatre"))
    assert asked(a, "talk") == ["one", "two", "three", "quatre"]
    assert a.search("five")["turn_seq"].tolist() == [5, 5]
    assert a.verify()


def test_names_that_are_taken(pair):
    a, b = pair
    a.append("mine", said("a"))
    a.append("mine-2", said("a"))
    b.append("mine", said("b"))
    report = a.merge(b.path)
    assert report.renamed == {"mine": "mine-3"}
    assert "'mine' is 'mine-3' here: the name is taken" in str(report)
    assert asked(a, "mine-3") == ["b"]
    b["mine"].rename("yours")
    assert not a.merge(b.path).names


def test_a_name_there_that_is_an_id_here(pair):
    a, b = pair
    b.append(str(a["talk"].id) + "x", said("b"))
    b["other"].rename("talk too")
    assert not a.merge(b.path).renamed
    assert "other" in a


def test_prompts_whose_versions_say_something_else(tmp_path):
    with voxnb.ContextStore(tmp_path / "a.db") as a, talking(scripted(), store=str(tmp_path / "b.db")) as (server, _):
        a.save_prompt("sum", "Ours.")
        with voxnb.ContextStore(tmp_path / "b.db") as b:
            same = b.save_prompt("sum", "Theirs. {{messages}} {{previous_summary}}")
            b.save_prompt("sum", "Ours.")
            b.save_prompt("else", "Else.")
        with client(server, store=str(tmp_path / "b.db"), conversation="talk", summary_prompt=same) as chat:
            say(chat, *range(1, 10))
            chat.store.close()
        report = a.merge(tmp_path / "b.db")
        assert report.renumbered == {"sum@1": "sum@2", "sum@2": "sum@1"}
        assert a.prompt("sum@2").text == same.text
        assert a.prompt("sum@1").text == "Ours."
        summaries = a.summaries("talk")
        assert len(summaries) > 0
        assert set(summaries["prompt_version"]) == {2}
        before = a.prompts()
        assert not a.merge(tmp_path / "b.db")
        assert a.prompts().equals(before)
        assert a.verify()


def test_summaries_calls_events_and_plans_come_along(tmp_path):
    path = tmp_path / "b.db"
    with talking(store=str(path)) as (server, chat):
        say(chat, *range(1, 8))
        chat.conversation.pin(2)
        say(chat, *range(8, 14))
        chat.conversation.unpin(2)
        chat.conversation.retry().result(WAIT_S)
        chat.conversation.undo(2)
        say(chat, 20, 21)
        fork = chat.conversation.fork(6, name="fork")
        with client(server, store=str(path), conversation="fork") as other:
            say(other, 30, 31)
        with voxnb.ContextStore(tmp_path / "a.db") as a:
            a.append("before", said("x", "y", "z"))
            report = a.merge(path)
            verdict, theirs = a.verify(), chat.store.verify()
            assert verdict, verdict
            assert verdict.requests == theirs.requests
            assert verdict.redacted == 0
            for name in (chat.conversation.name, "fork"):
                for seq in range(1, len(chat.store[name]) + 1):
                    ours, known = a[name].explain(seq), chat.store[name].explain(seq)
                    assert ours.exact
                    assert ours.messages == known.messages
                assert a[name].plan("q").messages == chat.store[name].plan("q").messages
            assert public(a)["summary"] == public(chat.store)["summary"]
            assert public(a)["coverage"] == public(chat.store)["coverage"]
            assert public(a)["event"] == public(chat.store)["event"]
            assert report.added["calls"] == len(chat.store.calls())
            with client(server, store=str(tmp_path / "a.db"), conversation="fork") as other:
                say(other, *range(40, 50))
            assert not a.merge(path)
            assert a.verify()
        del fork
        chat.store.close()


def test_two_courses_of_a_summarised_conversation(tmp_path):
    ours, theirs = tmp_path / "a.db", tmp_path / "b.db"
    with talking(store=str(ours), conversation="talk") as (server, chat):
        say(chat, *range(1, 8))
        chat.store.backup(theirs)
        with client(server, store=str(theirs), conversation="talk") as other:
            other.conversation.pin(3)
            say(other, *range(30, 40))
            other.store.close()
        say(chat, *range(8, 18))
        chat.conversation.pin(1)
        planned = chat.conversation.plan("q").messages
        report = chat.store.merge(theirs)
        assert report.forked[0].name == "talk"
        assert chat.conversation.plan("q").messages == planned
        with voxnb.ContextStore(theirs) as b:
            assert chat.store["talk-2"].plan("q").messages == b["talk"].plan("q").messages
        assert chat.store["talk-2"].turns()["pinned"].sum() == 1
        assert chat.conversation.turns()["pinned"].tolist().index(True) == 0  # each course has its own pins
        assert chat.conversation.turns()["pinned"].sum() == 1
        verdict = chat.store.verify()
        assert verdict, verdict
        say(chat, 18, 19)
        with client(server, store=str(ours), conversation="talk-2") as other:
            say(other, *range(40, 44))
            assert 43 in told(shown(chats(server)[-1]))
        assert chat.store.verify()
        chat.store.close()


def test_a_tool_loop_that_went_on_there_goes_on_here(tmp_path):
    calls = {"tool_calls": [{"id": "a", "name": "look", "arguments": {}}]}
    ours, theirs = tmp_path / "a.db", tmp_path / "b.db"
    with talking(scripted(in_turn("Well.", calls, "Found.", "So.")), store=str(theirs), conversation="talk") as (
        _,
        chat,
    ):
        chat.ask("One").result(WAIT_S)
        reply = chat.ask("Look").result(WAIT_S)
        chat.store.backup(ours)
        result = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "here"}
        chat.create_chat_completions(messages=[result]).result(WAIT_S)
        with voxnb.ContextStore(ours) as a:
            report = a.merge(theirs)
            assert report.added["messages"] == 2
            assert "turns" not in report.added
            assert a["talk"].messages()["content"].tolist() == ["One", "Well.", "Look", "", "here", "Found."]
            assert a.verify()
            assert not a.merge(theirs)
        chat.store.close()


def test_a_turn_that_grew_differently_is_kept_twice(tmp_path):
    calls = {"tool_calls": [{"id": "a", "name": "look", "arguments": {}}]}
    ours, theirs = tmp_path / "a.db", tmp_path / "b.db"
    with talking(
        scripted(in_turn("Well.", calls, "Found.", "Lost.", "So.")), store=str(theirs), conversation="talk"
    ) as (server, chat):
        chat.ask("One").result(WAIT_S)
        reply = chat.ask("Look").result(WAIT_S)
        chat.store.backup(ours)
        result = {"role": "tool", "tool_call_id": reply.tool_calls[0]["id"], "content": "here"}
        chat.create_chat_completions(messages=[result]).result(WAIT_S)
        with client(server, store=str(ours), conversation="talk") as other:
            other.create_chat_completions(messages=[{**result, "content": "nowhere"}]).result(WAIT_S)
            report = other.store.merge(theirs)
            assert report.forked == (("talk", "talk-2", 1),)
            contents = other.store["talk-2"].messages()["content"].tolist()
            assert contents == ["One", "Well.", "Look", "", "here", "Found."]
            assert other.conversation.messages()["content"].tolist()[-2:] == ["nowhere", "Lost."]
            assert other.store.verify()
            assert not other.store.merge(theirs)
            other.store.close()
        chat.store.close()


def test_the_same_imported_in_two_versions(tmp_path):
    """Imports give the same ids to the same places; what they say there may differ."""
    with voxnb.ContextStore(tmp_path / "a.db") as a, voxnb.ContextStore(tmp_path / "b.db") as b:
        a.append("talk", said("one", "two", "three"))
        a.backup(tmp_path / "c.db")
        with voxnb.ContextStore(tmp_path / "c.db") as c:
            edit = "UPDATE message SET text = 'zwei', hash = ? WHERE turn = 2 AND position = 0"
            key = voxnb.messages.Message("user", "zwei", {}).content_hash
            c.database.write(lambda x: x.execute(edit, (key,))).result()
            hashes = [h for (h,) in c.database.read("SELECT hash FROM message WHERE turn = 2 ORDER BY position")]
            from voxnb.store.rows import turn_hash

            c.database.write(
                lambda x: x.execute("UPDATE turn SET hash = ? WHERE id = 2", (turn_hash(hashes),))
            ).result()
            assert c.verify()
            b.append("talk 2", said("x"))
        report = a.merge(tmp_path / "c.db")
        assert report.forked == (("talk", "talk-2", 1),)
        assert asked(a, "talk") == ["one", "two", "three"]
        assert asked(a, "talk-2") == ["one", "zwei", "three"]
        assert a.verify()
        assert not a.merge(tmp_path / "c.db")


# -- redaction --------------------------------------------------------------------------------


def holds(path):
    return [
        n for n in (path, f"{path}-wal", f"{path}-shm") if Path(n).exists() and SECRET.encode() in Path(n).read_bytes()
    ]


def test_what_is_redacted_here_does_not_come_back(tmp_path):
    ours, theirs = tmp_path / "a.db", tmp_path / "b.db"
    fold = lambda r: f"They said {SECRET if SECRET in shown(r) else 'nothing'}. #{min(told(shown(r)) or {0})}"  # noqa: E731
    with talking(scripted(fold=fold), store=str(theirs), conversation="talk") as (_, chat):
        say(chat, 1)
        chat.ask(f"I am {SECRET} #2").result(WAIT_S)
        chat.store.backup(ours)
        say(chat, *range(3, 14))
        assert SECRET in chat.conversation.summary().text
        chat.store.note(chat.conversation.turns()["turn_id"][1], f"see {SECRET}")
        with voxnb.ContextStore(ours) as a:
            a["talk"].redact(2)
            assert holds(ours) == []
            report = a.merge(theirs)
            assert report.redacted_here == (a["talk"].turns()["turn_id"][1],)
            assert "redacted here, and so they stay: t-" in str(report)
            assert holds(ours) == []
            assert asked(a, "talk")[1] == "[redacted]"
            assert len(a["talk"]) == 13
            assert a["talk"].plan("q").dropped == [(2, "redacted")]
            verdict = a.verify()
            assert verdict, verdict
            before = public(a)
            a.merge(theirs)
            assert public(a) == before
            assert holds(ours) == []
        chat.store.close()


def test_what_is_redacted_there_is_told(pair):
    a, b = pair
    b["talk"].redact(2)
    b.append("talk", said("four"))
    report = a.merge(b.path)
    assert report.redacted_there == (a["talk"].turns()["turn_id"][1],)
    assert asked(a, "talk") == ["one", "two", "three", "four"]
    assert a.verify()
    with voxnb.ContextStore(":memory:") as c:
        c.merge(b.path)
        assert asked(c, "talk") == ["one", "[redacted]", "three", "four"]
        assert c.verify()


# -- the other file ---------------------------------------------------------------------------


def test_a_running_turn_is_left_until_it_ended(pair):
    a, b = pair

    def run(c):
        c.execute(
            "INSERT INTO turn (uid, branch, seq, state, owner, lease_until, hash, created_at) SELECT 't-run', branch, 4, 'running', 'elsewhere|1|1', 9e12, '', 1 FROM conversation WHERE name = 'talk'"
        )
        c.execute(
            "INSERT INTO message (turn, position, role, text, tokens, encoding, hash, created_at) SELECT id, 0, 'user', 'q', 1, 'x', ?, 1 FROM turn WHERE uid = 't-run'",
            (voxnb.messages.Message("user", "q", {}).content_hash,),
        )
        c.execute("UPDATE conversation SET last_seq = 4 WHERE name = 'talk'")

    b.database.write(run).result()
    b.append("talk", said("five"))
    report = a.merge(b.path)
    assert report.running == ("t-run",)
    assert "still running there, left out with what follows: t-run" in str(report)
    assert asked(a, "talk") == ["one", "two", "three"]
    b.database.write(lambda c: c.execute("UPDATE turn SET lease_until = 1 WHERE uid = 't-run'")).result()
    b.database.write(
        lambda c: c.execute(
            "INSERT INTO draft SELECT id, ? FROM turn WHERE uid = 't-run'",
            ('{"role": "assistant", "content": "half"}',),
        )
    ).result()
    report = a.merge(b.path)
    assert report.continued == ("talk",)
    assert a["talk"].turns()["state"].tolist()[3:] == ["partial", "complete"]
    assert a["talk"].turns()["reply_text"].tolist()[3] == "half"
    assert a.verify()
    assert b["talk"].turns()["state"].tolist()[3] == "running"
    assert not a.merge(b.path)


def test_what_is_no_store_is_refused(pair, tmp_path):
    a, _ = pair
    before = whole(a)
    (tmp_path / "garbage.db").write_bytes(b"not a database " * 500)
    (tmp_path / "empty.db").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(a.path)
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as c, c:
        c.execute("CREATE TABLE mine (a)")
    c.close()
    shutil.copy(a.path, tmp_path / "newer.db")
    with closing(sqlite3.connect(tmp_path / "newer.db")) as c, c:
        c.execute("PRAGMA user_version = 99")
    c.close()
    for name, kind, match in (
        ("garbage.db", errors.StoreFormatError, "not a SQLite database"),
        ("foreign.db", errors.StoreFormatError, "another program's database"),
        ("newer.db", errors.StoreFormatError, "schema version 99.*update voxnb"),
        ("empty.db", errors.StoreError, "is empty"),
        ("folder", errors.StoreError, "it is a folder"),
        ("missing.db", errors.StoreError, "there is no store"),
        ("a.db", errors.StoreError, "is this store itself"),
        ("link.db", errors.StoreError, "is this store itself"),
        (":memory:", errors.StoreError, "names no store"),
    ):
        path = name if name == ":memory:" else tmp_path / name
        content = Path(path).read_bytes() if Path(path).is_file() and name not in ("a.db", "link.db") else None
        with pytest.raises(kind, match=match):
            a.merge(path)
        assert content is None or Path(path).read_bytes() == content
    assert not (tmp_path / "missing.db").exists()
    assert whole(a) == before


def test_a_damaged_store_takes_everything_back(pair, tmp_path):
    a, b = pair
    b.append("new", said(*(f"text {n} " + "x" * 900 for n in range(200))))
    b.checkpoint()
    content = bytearray(Path(b.path).read_bytes())
    for at in range(40 * 4096, len(content), 3 * 4096):
        content[at : at + 200] = b"\xff" * 200
    (tmp_path / "damaged.db").write_bytes(content)
    before = whole(a)
    with pytest.raises(errors.StoreFormatError, match=r"damaged\.db' is damaged"):
        a.merge(tmp_path / "damaged.db")
    assert whole(a) == before
    assert a.verify()


def test_a_store_with_flipped_bytes_is_merged_opened_and_imported_or_told_damaged(pair, tmp_path):
    a, b = pair
    for name in ("one", "two", "three"):
        b.append(name, said(*(f"text {n}" for n in range(8))))
    b.checkpoint()
    content, bad, chance = Path(b.path).read_bytes(), tmp_path / "bad.db", random.Random(5)

    def opened():
        with voxnb.ContextStore(bad) as store:
            store.verify()
            store.turns()

    before, told = whole(a), 0
    for _ in range(60):
        flipped = bytearray(content)
        for _ in range(20):
            flipped[chance.randrange(100, len(flipped))] = chance.randrange(256)
        bad.write_bytes(flipped)
        for act in (opened, lambda: a.import_conversations(bad)):
            with contextlib.suppress(errors.VoxnbError):
                act()
        with voxnb.ContextStore(":memory:") as other:
            try:
                other.merge(bad)
            except errors.StoreError:
                told += 1
                assert other.conversations().empty
        bad.with_name("bad.db-wal").unlink(missing_ok=True)
        bad.with_name("bad.db-shm").unlink(missing_ok=True)
    assert told > 30
    assert whole(a) == before


def test_a_store_of_the_first_version_is_merged_and_stays_as_it_was(tmp_path):
    first_version(tmp_path / "old.db")
    content = (tmp_path / "old.db").read_bytes()
    with voxnb.ContextStore(tmp_path / "a.db") as a:
        assert a.merge(tmp_path / "old.db").added["turns"] == 2
        assert a.search("lighthouse")["turn_seq"].tolist() == [2]
        assert a.verify()
    assert (tmp_path / "old.db").read_bytes() == content


def test_a_read_only_store_takes_nothing(pair):
    a, b = pair
    b.append("talk", said("four"))
    with voxnb.ContextStore(a.path, read_only=True) as reader, pytest.raises(errors.StoreReadOnlyError):
        reader.merge(b.path)


def test_a_store_in_a_folder_that_may_not_be_written(pair, tmp_path):
    a, b = pair
    b.append("talk", said("four"))
    b.checkpoint()
    folder = tmp_path / "public"
    folder.mkdir()
    shutil.copy(b.path, folder / "b.db")
    (folder / "b.db").chmod(0o400)
    folder.chmod(0o500)
    try:
        assert a.merge(folder / "b.db").continued == ("talk",)
        assert os.geteuid() == 0 or os.listdir(folder) == ["b.db"]
    finally:
        folder.chmod(0o700)


WRITER = """
import sys, voxnb
store = voxnb.ContextStore(sys.argv[1])
n = 0
while True:
    n += 1
    store.append(f"w{n % 5}", [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}])
    print(n, flush=True)
"""


@pytest.mark.slow
def test_a_store_that_another_process_writes_is_taken_as_it_is_at_one_moment(pair):
    a, b = pair
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), b.path], stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(4):
            for _ in range(10):
                process.stdout.readline()
            a.merge(b.path)
            assert a.verify()
        written = int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
    a.merge(b.path)
    assert a.verify()
    assert len(a.turns()) >= written
    assert public(a)["turn"] == public(b)["turn"]


def test_an_interrupt_takes_everything_back(pair, monkeypatch):
    a, b = pair
    b.append("new", said(*map(str, range(50))))
    before = whole(a)
    from concurrent.futures import Future

    waited = Future.result

    def interrupted(self, timeout=None):
        monkeypatch.setattr(Future, "result", waited)
        raise KeyboardInterrupt

    began, unite = merging.threading.Event(), merging.unite

    def slowly(both):
        began.wait(WAIT_S)
        return unite(both)

    monkeypatch.setattr(merging, "unite", slowly)
    stopping = merging._wait

    def wait(future, stop):
        monkeypatch.setattr(Future, "result", interrupted)
        stop.set = lambda set_=stop.set: (set_(), began.set())
        stopping(future, stop)

    monkeypatch.setattr(merging, "_wait", wait)
    with pytest.raises(KeyboardInterrupt):
        a.merge(b.path)
    assert whole(a) == before
    monkeypatch.undo()
    assert a.merge(b.path)


@given(st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happened_to_either_they_unite(data):
    """Nothing of either is lost, merging again adds nothing, verify() holds, and both ways hold the same turns."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "a.db", Path(folder) / "b.db"]
        with voxnb.ContextStore(paths[0]) as origin:
            origin.append("k0", said("zero"))
            origin.backup(paths[1])
        with voxnb.ContextStore(paths[0]) as a, voxnb.ContextStore(paths[1]) as b:
            count = 0
            for _ in range(data.draw(st.integers(1, 16))):
                store = data.draw(st.sampled_from([a, b]))
                talk = store[data.draw(st.sampled_from(sorted(store)))]
                length = len(talk)
                count += 1
                match data.draw(
                    st.sampled_from(
                        ["say", "say", "say", "new", "fork", "undo", "pin", "note", "merge", "rename", "redact"]
                    )
                ):
                    case "say":
                        store.append(talk.name, said(f"n{count}"))
                    case "new":
                        store.append(f"k{data.draw(st.integers(0, 3))}", said(f"n{count}"))
                    case "fork":
                        talk.fork(data.draw(st.integers(0, length)))
                    case "undo" if length:
                        talk.undo(data.draw(st.integers(1, length)))
                    case "pin" if length:
                        talk.pin(data.draw(st.integers(1, length)))
                    case "note":
                        store.note(talk, f"note {count}")
                    case "merge":
                        store.merge((b if store is a else a).path)
                    case "rename":
                        talk.rename(f"name {count}")
                    case "redact" if length:
                        talk.redact(data.draw(st.integers(1, length)))
            held = [public(a), public(b)]
            courses_of_b = {name: b[name].turns()["turn_id"].tolist() for name in b}
            held_by_a = {uid for uid, _, _ in held[0]["turn"]}
            backup = Path(folder) / "a0.db"
            a.backup(backup)
            a.merge(b.path)
            verdict = a.verify()
            assert verdict, verdict
            united = public(a)
            for kind in ("turn", "message", "note", "conversation"):
                assert set(united[kind]) >= set(held[0][kind]) | set(held[1][kind])
            courses = [a[name].turns()["turn_id"].tolist() for name in a]
            for course in courses_of_b.values():
                # It goes on somewhere, unless all of it was here before, and taken back.
                assert any(c[: len(course)] == course for c in courses) or set(course) <= held_by_a
            before = whole(a)
            assert not a.merge(b.path)
            assert whole(a) == before
            b.merge(backup)
            assert {t for t, _, _ in public(b)["turn"]} == {t for t, _, _ in united["turn"]}
            assert b.verify()


def test_the_model_is_not_asked(pair):
    a, b = pair
    b.append("talk", said("four"))
    report = a.merge(b.path)
    assert report.path == b.path
    assert MODEL not in repr(report)
