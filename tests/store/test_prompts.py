"""Saved prompts count their versions; notes say what they are on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.builder import Builder
from voxnb.errors import ParameterError, StoreReadOnlyError
from voxnb.messages import digest
from voxnb.store import tables
from voxnb.store.database import Database
from voxnb.store.prompts import get_prompt, note, save_prompt


@pytest.fixture
def db(tmp_path):
    store = Database(tmp_path / "store.db")
    yield store
    store.close()


def test_a_prompt_is_its_name_version_text_and_id(db):
    prompt = save_prompt(db, "short", "Sum up.")
    assert (prompt.name, prompt.version, prompt.text, prompt.id) == ("short", 1, "Sum up.", digest("Sum up."))
    assert str(prompt) == "Sum up."
    assert "short@1" in repr(prompt)
    with pytest.raises(FrozenInstanceError):
        prompt.text = "other"


def test_another_text_is_the_next_version_and_the_same_text_is_not(db):
    first = save_prompt(db, "short", "a")
    assert save_prompt(db, "short", "a") == first
    second = save_prompt(db, "short", "b")
    third = save_prompt(db, "short", "a")
    assert [first.version, second.version, third.version] == [1, 2, 3]
    assert third.id == first.id
    assert tables.prompts(db)["version"].tolist() == [1, 2, 3]
    assert db.read("SELECT count(*) FROM value") == [(2,)]


def test_a_name_is_the_newest_and_a_number_is_that_version(db):
    for text in "abc":
        save_prompt(db, "short", text)
    assert get_prompt(db, "short").text == "c"
    assert get_prompt(db, "short@2").text == "b"
    assert get_prompt(db, "short@3") == get_prompt(db, "short")


@pytest.mark.parametrize("ref", ["short@4", "short@0", "short@x", "short@", "@1", "", "short@1@2", 5, "short@-1", None])
def test_a_version_that_is_not_there_is_an_error(db, ref):
    save_prompt(db, "short", "a")
    with pytest.raises(ParameterError):
        get_prompt(db, ref)


def test_an_unknown_name_names_the_nearest(db):
    with pytest.raises(ParameterError, match="save_prompt"):
        get_prompt(db, "short")
    save_prompt(db, "short", "a")
    with pytest.raises(ParameterError, match="did you mean 'short'") as caught:
        get_prompt(db, "shrot@1")
    assert caught.value.nearest == ("short",)


@pytest.mark.parametrize(
    ("name", "text"),
    [("", "a"), (" ", "a"), ("a@b", "x"), (" a", "x"), ("a", ""), ("a", " \n"), ("a", None), (1, "x"), ("a", "\ud800")],
)
def test_a_prompt_without_name_or_text_is_refused(db, name, text):
    with pytest.raises(ParameterError):
        save_prompt(db, name, text)
    assert len(tables.prompts(db)) == 0


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip))
def test_any_text_comes_back_to_the_letter(text):
    store = Database(":memory:")
    try:
        assert save_prompt(store, "p", text) == get_prompt(store, "p@1")
        assert get_prompt(store, "p").text == text
    finally:
        store.close()


def test_threads_that_save_at_once_make_one_version_each(db):
    with ThreadPoolExecutor(8) as pool:
        saved = list(pool.map(lambda n: save_prompt(db, "p", f"text {n}"), range(40)))
    assert sorted(prompt.version for prompt in saved) == list(range(1, 41))
    assert all(get_prompt(db, f"p@{prompt.version}").text == prompt.text for prompt in saved)


def test_a_read_only_store_saves_nothing(tmp_path, db):
    save_prompt(db, "p", "a")
    reader = Database(tmp_path / "store.db", read_only=True)
    with pytest.raises(StoreReadOnlyError):
        save_prompt(reader, "p", "b")
    assert get_prompt(reader, "p").version == 1
    reader.close()


def test_a_note_is_on_a_conversation_a_turn_or_a_summary(db):
    build = Builder(db)
    a = build.conversation("a")
    turn = build.turn(a, "hi")
    build.fold(a, through=1)
    ids = [note(db, target, "hm", label="odd") for target in ("k-a", build.uid("turn", turn), "s-1")]
    ids.append(note(db, "a", "by name"))
    found = tables.notes(db)
    assert found["note_id"].tolist() == ids == sorted(ids)
    assert found["target_id"].tolist() == ["k-a", "t-1-1", "s-1", "k-a"]
    assert found["label"].isna().tolist() == [False, False, False, True]
    assert tables.notes(db, conversation=a)["text"].tolist() == ["hm", "hm", "hm", "by name"]


@pytest.mark.parametrize("target", ["nobody", "t-1-1.0", "", None, 5, "\ud800", "a\0"])
def test_a_note_on_nothing_is_refused(db, target):
    build = Builder(db)
    build.turn(build.conversation("a"), "hi")
    with pytest.raises(ParameterError, match="no conversation, turn or summary"):
        note(db, target, "hm")
    assert len(tables.notes(db)) == 0


@pytest.mark.parametrize(("text", "label"), [("", None), (None, None), ("x", ""), ("x", 5), ("\ud800", None)])
def test_a_note_that_says_nothing_is_refused(db, text, label):
    Builder(db).conversation("a")
    with pytest.raises(ParameterError):
        note(db, "a", text, label=label)
