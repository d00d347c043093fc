"""The commands that read: tables for people, JSON for machines, and a store that they leave as it is."""

import json
import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest

import voxnb
from voxnb.cli import main

from .conftest import HOSTILE


@pytest.fixture
def out(capsys, store):
    """Run a command on the store; its standard output."""

    def run(*arguments, status=0):
        assert main([*map(str, arguments), "--store", str(store)]) == status
        return capsys.readouterr().out

    return run


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_conversations_are_listed_for_people_and_for_machines(out, store):
    table = out("conversations").splitlines()
    assert table[0].split() == ["name", "turns", "tokens", "folds", "model", "last", "turn"]
    assert table[1].split()[:2] == ["iris", "4"]
    (row,) = lines(out("conversations", "--json"))
    with voxnb.ContextStore(store, read_only=True) as opened:
        assert list(row) == list(opened.conversations().columns)
    assert (row["name"], row["turn_count"], row["folds"]) == ("iris", 4, 1)
    assert row["parent_id"] is None
    assert row["metadata"] == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["created_at"])


def test_show_gives_turns_messages_and_stretches_of_them(out):
    text = out("show", "iris")
    assert "── turn 1 · " in text
    assert "in a summary" in text
    assert "  I am Ann, and I work on petals." in text
    text = out("show", "iris", "--turns", "3-", "--messages")
    assert "turn 1" not in text
    assert "turn 4" in text
    assert "count" in text
    assert "tool count\n  150\n" in text
    assert [row["seq"] for row in lines(out("show", "iris", "--json"))] == [1, 2, 3, 4]
    assert [row["seq"] for row in lines(out("show", "iris", "--turns", "2", "--json"))] == [2]
    rows = lines(out("show", "iris", "--turns", "3-99", "--messages", "--json"))
    assert [row["role"] for row in rows] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert rows[1]["tool_calls"][0]["function"]["name"] == "count"
    assert rows[0]["tool_calls"] is None


def test_json_holds_what_was_said_and_nothing_that_acts(out):
    text = out("show", "iris", "--turns", "2", "--json")
    assert json.loads(text)["user_text"] == HOSTILE
    assert not set(text) & {*map(chr, range(10)), *map(chr, range(11, 32)), *map(chr, range(127, 160)), "\u202e"}
    assert "北京" in text


def test_search_finds_in_all_or_in_one(out, capsys):
    assert "[petals]" in out("search", "work", "on", "petals")
    found = lines(out("search", "petals", "--conversation", "iris", "--limit", "1", "--json"))
    assert [row["turn_seq"] for row in found] == [1]
    assert lines(out("search", "petals", "--since", "2100-01-01", "--json")) == []
    assert main(["search", "nothing-like-it"]) == 1  # no default store
    assert out("search", "nothing-like-it") == ""


def test_explain_gives_the_exact_past_request(out):
    text = out("explain", "iris", "-1")
    assert "turn 4 · rebuilt exactly" in text
    assert re.search(r"item +kind +turn +role +tokens +why +content", text)
    assert re.search(r"0 +summary +system +\d+ +covers turn", text)
    assert re.search(r"current +4 +user +\d+ +this turn +Thanks", text)
    document = json.loads(out("explain", "iris", "4", "--json"))
    assert document["exact"] is True
    assert document["request"]["model"] == "m"
    assert document["request"]["messages"][-1] == {"role": "user", "content": "Thanks."}
    assert [i["content"] for i in document["items"]] == [
        m["content"] or i["content"] for m, i in zip(document["request"]["messages"], document["items"], strict=True)
    ]
    assert document["items"][0]["turn"] is None


def test_verify_says_what_does_not_hold_and_exits_with_1(out, store):
    assert out("verify").startswith("all holds: 1 conversation, 4 turns")
    assert json.loads(out("verify", "--json"))["holds"] is True
    with closing(sqlite3.connect(store)) as c, c:
        c.execute("UPDATE message SET text = 'forged' WHERE text = 'There are 150.'")
    c.close()
    assert "is not what was stored" in out("verify", status=1)
    verdict = json.loads(out("verify", "--json", status=1))
    assert verdict["holds"] is False
    assert len(verdict["problems"]) >= 1


def test_a_backup_is_a_store_and_never_written_over_a_file(out, tmp_path):
    assert out("backup", tmp_path / "b.db") == f"{tmp_path / 'b.db'}\n"
    assert json.loads(out("backup", tmp_path / "c.db", "--json")) == {"path": str(tmp_path / "c.db")}
    out("backup", tmp_path / "b.db", status=1)
    with voxnb.ContextStore(tmp_path / "b.db", read_only=True) as copy:
        assert list(copy) == ["iris"]
        assert copy.verify()


READING = (
    ["conversations"],
    ["show", "iris"],
    ["search", "x"],
    ["explain", "iris", "1"],
    ["verify"],
    ["export", "iris", "out.md"],
    ["backup", "out.db"],
)


@pytest.mark.parametrize("arguments", READING, ids=lambda a: a[0])
def test_a_store_that_is_not_there_is_not_made(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "folder" / "none.db"
    assert main([*arguments, "--store", str(path)]) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert "--store" in error
    monkeypatch.setenv("VOXNB_STORE", str(path))
    assert main(arguments) == 1
    assert "named by VOXNB_STORE" in capsys.readouterr().err
    monkeypatch.delenv("VOXNB_STORE")
    assert main(arguments) == 1
    assert str(tmp_path / ".voxnb" / "store.db") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "none.db").touch()
    assert main([*arguments, "--store", str(tmp_path / "none.db")]) == 1
    assert "there is no store" in capsys.readouterr().err
    assert (tmp_path / "none.db").read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "irs"], "did you mean 'iris'?"),
        (["show", "nothing"], "`voxnb conversations`"),
        (["show", "iris", "--turns", "9"], "there is no turn 9; 'iris' has 4"),
        (["explain", "iris", "9"], "there is no turn 9"),
        (["explain", "iris", "t-nope"], "is no turn of 'iris'"),
        (["explain", "iris", "3"], "was not asked of a model"),
        (["search", "x", "--conversation", "irs"], "did you mean 'iris'?"),
        (["export", "irs", "x.md"], "did you mean 'iris'?"),
    ],
    ids=" ".join,
)
def test_a_name_or_turn_that_is_not_there_exits_with_1(arguments, words, store, capsys):
    assert main([*arguments, "--store", str(store)]) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chat", "--max-tokens", "0"], "is no count"),
        (["chat", "--temperature", "nan"], "is no temperature"),
        (["chat", "--temperature", "-1"], "is no temperature"),
        (["chat", "extra"], "unrecognized arguments"),
        (["show"], "required: NAME"),
        (["show", "iris", "--turns", "5-2"], "names no turns"),
        (["show", "iris", "--turns", "x"], "names no turns"),
        (["conversations", "--limit", "many"], "is no count"),
        (["search"], "required: WORDS"),
        (["explain", "iris"], "required: TURN"),
        (["verify", "--jason"], "unrecognized arguments"),
        (["export"], "required: PATH"),
        (["import"], "required: PATH"),
        (["import", "x.csv", "--columns", "role"], "is no pair"),
        (["import", "x.csv", "--roles", "=user"], "is no pair"),
        (["backup"], "required: PATH"),
        (["serve-local", "--port", "99999"], "is no port"),
        (["serve-local", "--port", "http"], "is no port"),
        (["conversatons"], "did you mean 'conversations'?"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_exit_with_2_and_are_told(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert words in captured.err or words in captured.err.replace("maybe you meant", "did you mean")
    assert captured.out == ""


def test_a_moment_that_is_none_exits_with_2(store, capsys):
    assert main(["conversations", "--since", "yesterday", "--store", str(store)]) == 2
    assert "'yesterday'" in capsys.readouterr().err


def test_a_time_in_which_nothing_was_said_is_no_empty_store(store, capsys):
    assert main(["conversations", "--since", "2100-01-01", "--store", str(store)]) == 0
    assert "no conversation of that time in" in capsys.readouterr().err


def test_a_store_that_is_another_programs_is_left_alone(tmp_path, capsys):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 100)
    assert main(["verify", "--store", str(path)]) == 1
    assert "is not a SQLite database" in capsys.readouterr().err
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as c, c:
        c.execute("CREATE TABLE bill (amount)")
    c.close()
    assert main(["conversations", "--store", str(other)]) == 1
    assert "another program's database" in capsys.readouterr().err
    assert main(["conversations", "--store", str(tmp_path)]) == 1
    assert "it is a folder" in capsys.readouterr().err


def test_reading_goes_on_while_another_process_writes(out, store):
    writer = sqlite3.connect(store, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert "iris" in out("conversations")
        assert out("verify").startswith("all holds")
    finally:
        writer.execute("ROLLBACK")
        writer.close()


def test_a_store_that_may_only_be_read_is_read_and_stays_as_it_is(store, tmp_path, capsys):
    folder = tmp_path / "sealed"
    folder.mkdir()
    shutil.copy(store, folder / "s.db")
    before = (folder / "s.db").read_bytes()
    os.chmod(folder / "s.db", stat.S_IRUSR)
    os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert main(["show", "iris", "--store", str(folder / "s.db")]) == 0
        assert main(["verify", "--store", str(folder / "s.db")]) == 0
    finally:
        os.chmod(folder, stat.S_IRWXU)
    assert "I am Ann" in capsys.readouterr().out
    assert (folder / "s.db").read_bytes() == before


def test_no_command_shows_the_help_and_each_command_has_its_own(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    for command in (
        "chat",
        "conversations",
        "show",
        "search",
        "explain",
        "export",
        "backup",
        "verify",
        "serve-local",
        "media-serve",
    ):
        assert f"    {command}" in shown
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert "usage: voxnb " + command in text
        assert max(map(len, text.splitlines())) <= 120
