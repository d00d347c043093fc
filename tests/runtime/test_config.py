"""The upward table, project paths, and the one place that prints."""

import io
import sys
from pathlib import Path

import pytest

from voxnb.runtime import config


def test_the_upward_table_is_known_and_loads_on_use():
    assert all(target.startswith("voxnb.") and target.count(":") == 1 for target in config.UPWARD.values())
    assert config.load("show_reply").__name__ == "reply_html"
    assert config.load("show_turn").__name__ == "show_turn"
    with pytest.raises(KeyError):
        config.load("nothing")


def test_the_project_root_is_the_nearest_folder_that_looks_like_one(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (tmp_path / "pyproject.toml").touch()
    assert config.project_root() == tmp_path
    (tmp_path / "a" / ".git").mkdir()
    assert config.project_root() == tmp_path / "a"


def test_without_a_project_the_root_is_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert config.project_root() == tmp_path


def test_the_store_path_of_the_environment(monkeypatch):
    monkeypatch.delenv("VOXNB_STORE", raising=False)
    assert config.default_store_path() is None
    monkeypatch.setenv("VOXNB_STORE", "")
    assert config.default_store_path() is None
    monkeypatch.setenv("VOXNB_STORE", "~/x.db")
    assert config.default_store_path() == Path.home() / "x.db"


def test_a_report_is_one_line_and_never_raises(capsys, monkeypatch):
    config.report("a\nb\r\n c")
    assert capsys.readouterr().err == "voxnb: a b c\n"
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        config.report("nobody hears this")
