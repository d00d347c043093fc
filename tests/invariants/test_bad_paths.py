"""Paths that lead nowhere: a typed error that says so, whoever is given them."""

import sys

import pytest

import voxnb
from tests.invariants.scripted import WAIT_S, talking
from voxnb.errors import ParameterError, StoreError

NOBODY = "~nobody-of-this-name/x"


@pytest.mark.parametrize(
    "use",
    [
        lambda chat: voxnb.ContextStore(f"{NOBODY}.db"),
        lambda chat: voxnb.chat("m", base_url=chat.endpoint.base_url, store=f"{NOBODY}.db"),
        lambda chat: chat.store.backup(f"{NOBODY}.db"),
        lambda chat: chat.store.merge(f"{NOBODY}.db"),
        lambda chat: chat.store.import_conversations(f"{NOBODY}.jsonl"),
        lambda chat: chat.store.export_conversations(f"{NOBODY}.jsonl"),
        lambda chat: chat.ask("Look.", attach=f"{NOBODY}.png").result(WAIT_S),
        lambda chat: voxnb.tape(f"{NOBODY}.tape"),
    ],
)
def test_a_home_folder_that_nobody_knows_is_named(use):
    with talking() as (server, chat):
        with pytest.raises(ParameterError, match=r"'~nobody-of-this-name/x.*without ~"):
            use(chat)
        assert server.requests == []


@pytest.mark.parametrize("path", [5, b"x.db", object()])
@pytest.mark.parametrize(
    "use",
    [
        lambda store, path: voxnb.ContextStore(path),
        lambda store, path: store.backup(path),
        lambda store, path: store.merge(path),
        lambda store, path: store.export_conversations(path),
    ],
)
def test_what_is_no_path_is_said_to_be_none(use, path):
    with voxnb.ContextStore(":memory:") as store, pytest.raises(ParameterError, match=r"the path is .* expected a str"):
        use(store, path)


def test_the_environment_may_name_such_a_folder_too(monkeypatch):
    monkeypatch.setenv("VOXNB_STORE", f"{NOBODY}.db")
    with pytest.raises(ParameterError, match="without ~"):
        voxnb.ContextStore()


@pytest.mark.parametrize("path", ["\ud800.jsonl", "a\0b.jsonl"])
def test_a_text_that_can_be_no_path_is_not_imported(path):
    with voxnb.ContextStore(":memory:") as store, pytest.raises(StoreError, match="can be no file's path"):
        store.import_conversations(path)


@pytest.mark.parametrize("target", ["nowhere.db", "s.db"])
def test_a_link_to_nothing_is_refused_and_nothing_else_is_said(tmp_path, monkeypatch, target):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    (tmp_path / "s.db").symlink_to(target)
    with pytest.raises(StoreError, match=r"cannot open '.*s\.db'"):
        voxnb.ContextStore(tmp_path / "s.db")
    assert said == []


def test_a_conversation_whose_store_is_gone_or_closed_still_shows_itself(tmp_path):
    with voxnb.ContextStore(tmp_path / "s.db") as store:
        talk = store.append("iris", [{"role": "user", "content": "Hi"}])
        assert repr(talk).startswith("<Conversation 'iris': 1 turn")
        (tmp_path / "s.db").unlink()
        assert repr(talk) == "<Conversation 'iris', store removed>"
    with voxnb.ContextStore(tmp_path / "t.db") as store:
        talk = store.append("iris", [{"role": "user", "content": "Hi"}])
    assert repr(talk) == "<Conversation 'iris', store closed>"
