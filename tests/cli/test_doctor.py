"""``voxnb doctor``: a table for people, JSON Lines for machines, and an exit status."""

import json

import pytest

import voxnb
from voxnb.cli import main


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("VOXNB_STORE", str(tmp_path / "s.db"))


def test_what_is_well_is_a_table_and_status_0(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("voxnb: all is well")
    for name in ("versions", "front end", "nested loops", "key", "embedded model", "store"):
        assert f"\n{name} " in out


def test_machines_get_a_check_a_line_with_the_same_in_it(capsys):
    assert main(["doctor", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == voxnb.doctor().to_dict()


def test_what_fails_is_status_1_and_says_what_mends_it(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "with a blank")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("voxnb: 1 of ")
    assert "→ OPENAI_API_KEY holds a character at position 4" in out
    assert "with a blank" not in out


def test_it_takes_no_other_words(capsys):
    with pytest.raises(SystemExit) as left:
        main(["doctor", "everything"])
    assert left.value.code == 2
    assert "everything" in capsys.readouterr().err
