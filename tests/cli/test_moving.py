"""`voxnb export` and `voxnb import`: what one writes the other reads, and what cannot be carried is said."""

import json

import pytest

import voxnb
from voxnb.cli import main


def run(capsys, *arguments, status=0):
    assert main([*map(str, arguments)]) == status
    return capsys.readouterr()


def test_what_was_exported_is_imported_once(store, tmp_path, capsys):
    file, other = tmp_path / "iris.jsonl", tmp_path / "other.db"
    assert run(capsys, "export", "iris", file, "--store", store).out.startswith("exported 1 conversation, 4 turns")
    assert "imported 1 conversation, 4 turns" in run(capsys, "import", file, "--store", other).out
    report = json.loads(run(capsys, "import", file, "--store", other, "--json").out)
    assert (report["conversations"], report["known"], report["skipped"]) == (0, 1, [])
    with voxnb.ContextStore(other) as opened, voxnb.ContextStore(store, read_only=True) as before:
        assert opened.verify()
        assert opened.turns("iris")["user_text"].tolist() == before.turns("iris")["user_text"].tolist()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_our_own_tables_are_imported_without_a_complaint(store, tmp_path, capsys, suffix):
    file = tmp_path / f"iris.{suffix}"
    run(capsys, "export", "iris", file, "--store", store)
    assert "4 turns" in run(capsys, "import", file, "--store", tmp_path / "other.db").out


def test_an_export_is_never_written_over_a_file_unasked(store, tmp_path, capsys):
    file = tmp_path / "iris.md"
    run(capsys, "export", "iris", file, "--store", store)
    before = file.read_bytes()
    assert "--overwrite" in run(capsys, "export", "iris", file, "--store", store, status=1).err
    assert file.read_bytes() == before
    run(capsys, "export", "iris", file, "--store", store, "--overwrite")


def test_all_of_a_store_goes_into_one_file_and_the_report_is_for_machines(store, tmp_path, capsys):
    done = run(capsys, "export", "--all", tmp_path / "all", "--format", "csv", "--json", "--store", store)
    report = json.loads(done.out)
    assert (report["format"], report["conversations"], report["turns"]) == ("csv", 1, 4)
    assert report["left_out"]
    for arguments in (["out.md"], ["iris", "out.md", "--all"]):
        assert "--all" in run(capsys, "export", *arguments, "--store", store, status=2).err
    assert "known are jsonl" in run(capsys, "export", "iris", tmp_path / "x.docx", "--store", store, status=2).err


def test_rows_are_read_by_their_own_names_of_columns_and_roles(tmp_path, capsys):
    (tmp_path / "x.csv").write_text('author,"said, here"\nCustomer,Hi\nBot,Hello\n')
    names = ("--columns", "role=author", "--columns", "content=said, here", "--roles", "Customer=user,Bot=assistant")
    run(capsys, "import", tmp_path / "x.csv", *names, "--store", tmp_path / "s.db")
    with voxnb.ContextStore(tmp_path / "s.db") as opened:
        (name,) = opened
        assert opened.turns(name)[["user_text", "reply_text"]].values.tolist() == [["Hi", "Hello"]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--columns", "rolle=author"], "did you mean 'role'?"),
        (["--format", "jsnl"], "did you mean 'jsonl'?"),
        (["--format", "openai", "--columns", "role=author"], "--columns is for rows"),
        (["--format", "llm", "--roles", "Bot=assistant"], "--roles has no use here"),
        (["--format", "jsonl", "--copy"], "--copy has no use here"),
    ],
)
def test_a_wrong_option_of_an_import_exits_with_2(tmp_path, capsys, options, words):
    (tmp_path / "x.csv").write_text("role,content\nuser,Hi\n")
    done = run(capsys, "import", tmp_path / "x.csv", *options, "--store", tmp_path / "s.db", status=2)
    assert words in done.err


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_imported(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("role,content\nuser,Hi\nassistant,Hello\n")
    (tmp_path / "y.json").write_bytes(b"\x89PNG\r\n\0")
    paths = (tmp_path / "none.csv", tmp_path / "y.json", tmp_path / "x.csv")
    done = run(capsys, "import", *paths, "--store", tmp_path / "s.db", status=1)
    assert "imported 1 conversation" in done.out
    assert "none.csv" in done.err
    assert "y.json" in done.err
    assert "Traceback" not in done.err


def test_what_could_not_be_taken_is_listed_and_exits_with_1(store, tmp_path, capsys):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    run(capsys, "export", "iris", whole, "--store", store)
    cut.write_bytes(whole.read_bytes()[:300])
    done = run(capsys, "import", cut, "--store", tmp_path / "n.db", status=1)
    assert "skipped:" in done.out
    run(capsys, "import", cut, whole, "--store", tmp_path / "n.db", status=1)
    with voxnb.ContextStore(tmp_path / "n.db") as opened:
        assert list(opened) == ["iris"]
        assert opened.verify()


def test_two_stores_are_united_and_again_adds_nothing(store, tmp_path, capsys):
    other = tmp_path / "other.db"
    with voxnb.ContextStore(other) as theirs:
        theirs.append("elsewhere", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    said = run(capsys, "merge", other, "--store", store).out
    assert "1 conversation" in said
    with voxnb.ContextStore(store) as ours:
        assert "elsewhere" in ours
        assert ours.verify()
    again = json.loads(run(capsys, "merge", other, "--store", store, "--json").out)
    assert not any(again["added"].values())


def test_what_is_no_store_is_not_merged(store, tmp_path, capsys):
    (tmp_path / "notes.db").write_text("not a database, but some text that is long enough to be looked at as one" * 20)
    assert main(["merge", str(tmp_path / "notes.db"), "--store", str(store)]) == 1
    assert "StoreFormatError" in capsys.readouterr().err
