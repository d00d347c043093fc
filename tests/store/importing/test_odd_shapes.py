"""Whatever a file holds: an import ends with a report or a typed error, and the store is whole."""

from __future__ import annotations

import contextlib
import copy
import json
import sqlite3
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.importing.test_chatgpt import Tree
from tests.store.importing.test_chats import CALL, DUMPED, HI, TO_DICT
from tests.store.importing.test_llm_logs import FIRST, LATER, add_threads, log
from voxnb.errors import VoxnbError
from voxnb.store.context_store import ContextStore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(10**400) | st.just(float("nan")) | st.text(max_size=3)
    | st.sampled_from(["\ud800", "user", "text", "n1", "2024-05-01", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def chatgpt():
    tree = Tree()
    tree.say("user", {"content_type": "image_asset_pointer", "asset_pointer": "x"}, "Q", kind="multimodal_text")
    tree.say("assistant", kind="thoughts", thoughts=[{"summary": "s", "content": "c"}])
    tree.say("assistant", kind="code", recipient="python", language="python", text="2+2")
    tree.say("tool", kind="execution_output", text="4")
    tree.say("assistant", "A", metadata={"model_slug": "m"})
    return [tree.value]


def own():
    with ContextStore(":memory:") as store:
        store.append("a", [{"role": "system", "content": "s"}, *HI, *HI])
        store["a"].pin(1)
        store.note(store["a"], "note")
        with store.database.snapshot() as c:
            from voxnb.store.exporting.contents import lines

            return list(lines(c, 1))


CHATS = [
    {"id": "1", "title": "t", "model": "gpt-4", "created_at": 5, "metadata": {"a": 1}, "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x"}], "timestamp": 7},
        {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "y"}]},
    {"conversations": [{"from": "human", "value": "Hi"}]},
]  # fmt: skip
SEEDS = {
    "openai": CHATS, "langchain": [TO_DICT, {"messages": DUMPED}], "chatgpt": chatgpt(), "jsonl": own(),
    "qmsum": [{"topic_list": [], "meeting_transcripts": [{"speaker": "A", "content": "x"}]}],
}  # fmt: skip


def places(value, path=()):
    """The path of every value in a value."""
    yield path
    if isinstance(value, dict | list):
        for key, held in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(held, (*path, key))


def changed(value, path, new):
    value = copy.deepcopy(value)
    if not path:
        return new
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return value


@settings(max_examples=100)
@given(st.data())
def test_one_odd_value_anywhere_harms_nothing(tmp_path_factory, data):
    form = data.draw(st.sampled_from(sorted(SEEDS)))
    seed = SEEDS[form]
    value = changed(seed, data.draw(st.sampled_from(list(places(seed))[1:])), data.draw(JSON))
    path = tmp_path_factory.mktemp("odd") / "a.json"
    lines = form == "jsonl"
    path.write_text("\n".join(map(json.dumps, value)) if lines else json.dumps(value), encoding="utf-8")
    with ContextStore(":memory:") as store:
        report = store.import_conversations(path, format=form)
        assert str(report)
        assert json.loads(json.dumps(report.as_dict(), allow_nan=False))
        assert store.verify()
        assert len(store.messages()) == report.messages
        assert len(store.conversations()) == report.conversations
        store.database.read("SELECT json(metadata) FROM conversation")


@given(st.binary(max_size=200) | st.text(st.sampled_from(list('{}[]",:0aé\n')), max_size=60).map(str.encode))
def test_any_bytes_end_in_a_report_or_a_typed_error(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("bytes") / "a.jsonl"
    path.write_bytes(raw)
    with ContextStore(":memory:") as store:
        for form in (None, "openai", "chatgpt", "jsonl", "csv", "parquet", "llm", "qmsum"):
            try:
                store.import_conversations(path, format=form)
            except VoxnbError as error:
                assert str(error)
        assert store.verify()


@settings(max_examples=25)
@given(st.data())
def test_one_odd_cell_in_a_log_harms_nothing(tmp_path_factory, data):
    path = log(tmp_path_factory.mktemp("log") / "logs.db", FIRST, LATER)
    add_threads(path)
    with closing(sqlite3.connect(path)) as c:
        tables = [t for (t,) in c.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        table = data.draw(st.sampled_from(tables))
        names = [name for _, name, *_ in c.execute(f"PRAGMA table_info({table})")]
        column = data.draw(st.sampled_from(names))
        value = data.draw(
            st.sampled_from([None, 7, -1.5, "x", "[]", '{"text_ref":[7]}', '{"text_ref":3}', b"\xff\x00", "2024"])
        )
        with contextlib.suppress(sqlite3.IntegrityError):  # a key that its table refuses
            c.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = (SELECT min(rowid) FROM {table})', (value,))
        c.commit()
    with ContextStore(":memory:") as store:
        store.import_conversations(path)
        assert store.verify()
