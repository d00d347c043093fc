"""Export: whole or not at all, exact in JSON Lines, harmless in Markdown."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.store.builder import NOON, Builder
from voxnb.errors import ParameterError, StoreError, StoreFullError, UnknownConversationError
from voxnb.messages import canonical
from voxnb.store import tables
from voxnb.store.context_store import ContextStore
from voxnb.store.database import Database
from voxnb.store.exporting.contents import lines
from voxnb.store.exporting.export import export
from voxnb.store.exporting.markdown import blocks, fenced, inline

TEXTS = st.text(st.characters(codec="utf-8")) | st.text(
    st.sampled_from(list("`~#*<>&[](){}!-+=|\\_ \t\n\r1.:/ab\"'\u2028"))
)


def export_conversation(db, conversation, path, **options):
    """The path of one conversation's export."""
    uids = [uid for (uid,) in db.read("SELECT uid FROM conversation WHERE id = ?", (conversation,))] or ["gone"]
    return export(db, path, conversations=uids, **options).path


@pytest.fixture(params=["file", "memory"])
def db(request, tmp_path):
    store = Database(tmp_path / "store.db" if request.param == "file" else ":memory:")
    yield store
    store.close()


@pytest.fixture
def build(db):
    return Builder(db)


@pytest.fixture
def fork(build):
    """A fork with a pin, two rounds of summaries (one inherited), a tool call, a call and a note."""
    said = canonical([[{"role": "system", "content": "be kind"}, 7, [1, 2]]])
    a = build.conversation("a", instructions=build.value(said))
    build.turn(a, "eins", "zwei")
    build.turn(a, "drei")
    build.fold(a, through=1, prompt=build.value("sum up"), flags='["short"]', request=build.value('{"temperature":0}'))
    key = build.fork(a, "b", at=2)
    build.run("UPDATE conversation SET instructions = (SELECT instructions FROM conversation WHERE id = ?)", a)
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    build.turn(
        key,
        {
            "role": "user",
            "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "u"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        state="partial",
        error="cut off",
        cost_usd=0.1,
    )
    build.pin(key, build.turn_at(key, 2))
    build.pin(key, build.turn_at(key, 3), position=1)
    build.fold(key, through=2, text="two turns")
    build.call(key, turn=build.turn_at(key, 3), prompt_tokens=5)
    build.insert("note", uid="n-1", target="s-2", text="good", created_at=NOON)
    build.turn(build.conversation("other"), "not mine")
    return key


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- JSON Lines -------------------------------------------------------------------------------


def test_json_lines_hold_everything_of_the_conversation(db, fork, tmp_path):
    path = export_conversation(db, fork, tmp_path / "b.jsonl")
    assert path == tmp_path / "b.jsonl"
    lines = read_lines(path)
    assert [line["type"] for line in lines] == ["conversation", *["turn"] * 3, *["summary"] * 2, "call", "note"]
    head, turns, summaries = lines[0], lines[1:4], lines[4:6]
    assert head["voxnb"] == 1
    assert (head["id"], head["name"], head["parent_id"], head["fork_seq"]) == ("k-b", "b", "k-a", 2)
    assert (head["head_id"], head["folded_to"], head["turn_count"]) == ("s-2", 2, 3)
    assert head["instructions"] == [
        {"message": {"role": "system", "content": "be kind"}, "tokens": 7, "features": [1, 2]}
    ]
    assert [turn["conversation_id"] for turn in turns] == ["k-a", "k-a", "k-b"]
    assert [turn["pinned"] for turn in turns] == [False, True, False]
    assert turns[2]["pinned_positions"] == [1]
    assert (turns[2]["state"], turns[2]["error"], turns[2]["cost_usd"]) == ("partial", "cut off", 0.1)
    assert [s["previous_id"] for s in summaries] == [None, "s-1"]
    assert (summaries[0]["prompt"], summaries[0]["request"], summaries[0]["flags"]) == (
        "sum up", {"temperature": 0}, ["short"]
    )  # fmt: skip
    stored = db.read(
        "SELECT t.uid, v.seq, v.hash FROM coverage v JOIN turn t ON t.id = v.turn ORDER BY v.summary, v.seq"
    )
    given = [(c["turn_id"], c["seq"], c["content_hash"]) for s in summaries for c in s["coverage"]]
    assert given == stored
    assert lines[6]["turn_id"] == turns[2]["id"]
    assert lines[7]["target_id"] == "s-2"


def test_json_lines_give_every_message_back_as_it_was(db, fork, tmp_path):
    turns = [line for line in read_lines(export_conversation(db, fork, tmp_path / "b.jsonl")) if line["type"] == "turn"]
    said = [m["message"] for turn in turns for m in turn["messages"]]
    assert said[:3] == [
        {"role": "user", "content": "eins"},
        {"role": "assistant", "content": "zwei"},
        {"role": "user", "content": "drei"},
    ]
    assert said[3]["content"][1]["image_url"] == {"url": "u"}
    assert (said[4]["content"], said[4]["tool_calls"][0]["id"]) == (None, "c1")
    assert said[5]["tool_call_id"] == "c1"
    hashes = [m["content_hash"] for turn in turns for m in turn["messages"]]
    assert hashes == tables.messages(db, conversation=fork)["content_hash"].tolist()
    times = [m["created_at"] for turn in turns for m in turn["messages"]]
    assert set(times) <= {at for (at,) in db.read("SELECT created_at FROM message")}


def test_what_was_undone_is_not_exported(db, build, tmp_path):
    a = build.conversation("a")
    build.turn(a, "kept")
    build.turn(a, "undone")
    build.undo(a, to=1)
    assert "undone" not in export_conversation(db, a, tmp_path / "a.jsonl").read_text()
    assert "undone" not in export_conversation(db, a, tmp_path / "a.md").read_text()
    assert "undone" not in export_conversation(db, a, tmp_path / "a.csv").read_text()


def test_an_export_is_one_state_of_the_store(tmp_path):
    store = Database(tmp_path / "store.db")
    build = Builder(store)
    a = build.conversation("a")
    build.many(a, 50)
    with store.snapshot() as c:
        found = lines(c, a)
        head = next(found)
        build.many(a, 50)
        assert head["turn_count"] == sum(line["type"] == "turn" for line in found) == 50
    store.close()


# -- many conversations, and what is not carried ----------------------------------------------


def test_every_conversation_goes_into_one_file_in_the_order_of_its_making(db, fork, tmp_path):
    report = export(db, tmp_path / "all.jsonl")
    heads = [line for line in read_lines(report.path) if line["type"] == "conversation"]
    assert [head["name"] for head in heads] == ["a", "b", "other"]
    assert (report.conversations, report.turns, report.messages) == (3, 2 + 3 + 1, 3 + 6 + 1)


def test_the_named_conversations_go_in_the_order_given_and_once(db, fork, tmp_path):
    report = export(db, tmp_path / "all.jsonl", conversations=["other", "k-a", "a"])
    assert [line["name"] for line in read_lines(report.path) if line["type"] == "conversation"] == ["other", "a"]
    with pytest.raises(UnknownConversationError, match="did you mean 'other'"):
        export(db, tmp_path / "b.jsonl", conversations=["othr"])
    assert not (tmp_path / "b.jsonl").exists()


def test_a_report_is_the_path_and_says_what_was_left_out(db, fork, build, tmp_path):
    build.turn(fork, "undone")
    build.undo(fork, to=3)
    report = export(db, tmp_path / "b.csv", conversations=["b"])
    assert os.fspath(report) == str(tmp_path / "b.csv")
    assert pd.read_csv(report)["role"].tolist()[:2] == ["user", "assistant"]
    left = {remark.reason: remark.count for remark in report.left_out}
    assert {k: left[k] for k in ("instructions", "summaries", "undone turns", "pins", "records of calls")} == {
        "instructions": 1, "summaries": 2, "undone turns": 1, "pins": 2, "records of calls": 1
    }  # fmt: skip
    assert "not carried:\n" in repr(report)
    assert "1 × undone turns (b)" in repr(report)
    assert json.loads(json.dumps(report.as_dict()))["left_out"][0]["reason"]


def test_json_lines_leave_out_only_what_is_not_on_the_path(db, fork, build, tmp_path):
    assert export(db, tmp_path / "all.jsonl").left_out == ()
    build.turn(fork, "undone")
    build.undo(fork, to=3)
    (remark,) = export(db, tmp_path / "b.jsonl").left_out
    assert (remark.reason, remark.count, remark.places) == ("undone turns", 1, ("b",))


def test_an_empty_store_gives_a_file_without_rows(db, tmp_path):
    assert export(db, tmp_path / "a.jsonl").path.read_bytes() == b""
    assert list(pd.read_csv(export(db, tmp_path / "a.csv")).columns)[:3] == ["conversation", "message_id", "turn_id"]
    assert len(pd.read_parquet(export(db, tmp_path / "a.parquet"))) == 0
    assert "0 conversations" in export(db, tmp_path / "a.html").path.read_text()


def test_progress_is_told_to_a_function(db, fork, tmp_path):
    seen = []
    export(db, tmp_path / "a.jsonl", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


# -- fine-tuning ------------------------------------------------------------------------------


def test_fine_tuning_lines_hold_instructions_and_complete_turns(db, build, tmp_path):
    said = canonical([[{"role": "system", "content": "be kind"}, 7, [1, 2]]])
    a = build.conversation("a", instructions=build.value(said))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    build.turn(a, "eins", "zwei")
    build.turn(
        a,
        {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "input_audio", "input_audio": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "annotations": []},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    )
    build.turn(a, "cut", "o", state="partial")
    tools = [{"type": "function", "function": {"name": "f"}}]
    value = build.value(canonical({"tools": tools}))
    build.call(a, plan=json.dumps({"tools": value}))
    report = export(db, tmp_path / "a.jsonl", format="openai")
    (line,) = read_lines(report.path)
    assert line == {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "eins"},
            {"role": "assistant", "content": "zwei"},
            {"role": "user", "content": [{"type": "text", "text": "see"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ],
        "tools": tools,
    }
    assert (report.turns, report.messages) == (2, 5)
    reasons = " ".join(str(remark) for remark in report.left_out)
    for what in ("partial turns", "'input_audio'", "'annotations'", "a, turn 3", "records of calls"):
        assert what in reasons


def test_turns_whose_beginning_a_format_cannot_show_are_named(db, build, tmp_path):
    a = build.conversation("a")
    build.turn(a, {"role": "assistant", "content": "by a prompt"})
    build.turn(a, {"role": "assistant", "content": "by another"})
    build.turn(a, state="failed")
    build.turn(a, "eins")
    build.turn(a, "zwei", "drei")
    told = [str(remark) for remark in export(db, tmp_path / "a.jsonl", format="openai").left_out]
    assert "2 × where turns begin that only answer, or follow an unanswered one (a, turn 2; a, turn 5)" in told
    for suffix in (".csv", ".parquet"):
        told = [str(remark) for remark in export(db, tmp_path / f"a{suffix}").left_out]
        assert "1 × turns without a message: there is a row per message (a)" in told


def test_a_conversation_without_an_answer_is_named(db, build, tmp_path):
    build.turn(build.conversation("mute"), "hello?")
    reasons = str(export(db, tmp_path / "a.jsonl", format="openai"))
    assert "without an answer: fine-tuning will refuse their lines (mute)" in reasons


def test_conversations_that_are_no_names_are_refused(db, tmp_path):
    with pytest.raises(ParameterError, match="conversations is 5, expected names in a list"):
        export(db, tmp_path / "a.jsonl", conversations=5)


def test_an_answer_that_was_all_items_is_named(db, build, tmp_path):
    a = build.conversation("a")
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    build.turn(a, "eins", {"role": "assistant", "content": None, "items": [search]})
    build.turn(a, "zwei", {"role": "assistant", "content": None, "refusal": "no"})
    told = [str(remark) for remark in export(db, tmp_path / "a.jsonl", format="openai").left_out]
    assert "1 × answers of which nothing is left: fine-tuning will refuse their lines (a, turn 1)" in told


# -- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_conversation_that_has_no_row_is_named(db, build, tmp_path, suffix):
    build.turn(build.conversation("a"), "eins")
    build.conversation("new")
    build.turn(build.conversation("mute"), state="failed")
    told = [str(remark) for remark in export(db, tmp_path / f"a{suffix}").left_out]
    assert "2 × conversations without a message: there is a row per message (new; mute)" in told


def test_csv_is_the_messages_one_row_each(db, fork, tmp_path):
    path = export_conversation(db, fork, tmp_path / "b.csv")
    found = pd.read_csv(path, dtype=str)
    frame = tables.messages(db, conversation=fork)
    assert list(found.columns) == ["conversation", *frame.columns]
    assert set(found["conversation"]) == {"b"}, "a fork's inherited turns are its own here"
    assert found["message_id"].tolist() == frame["message_id"].tolist()
    assert found["turn_seq"].tolist() == ["1", "1", "2", "3", "3", "3"]


@given(st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=4))
def test_any_text_survives_csv(tmp_path_factory, texts):
    store = Database(":memory:")
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    try:
        build = Builder(store)
        a = build.conversation("a")
        build.turn(a, *texts)
        export_conversation(store, a, path)
    finally:
        store.close()
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["content"] for row in csv.DictReader(file)] == texts


def test_parquet_keeps_the_dtypes(db, fork, tmp_path):
    path = export_conversation(db, fork, tmp_path / "b.parquet")
    found = pd.read_parquet(path)
    assert found.pop("conversation").tolist() == ["b"] * 6
    pd.testing.assert_frame_equal(found, tables.messages(db, conversation=fork))


@pytest.mark.slow
def test_parquet_without_pyarrow_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from voxnb.errors import StoreError\n"
        "from voxnb.store.database import Database\n"
        "from voxnb.store.exporting.export import export\n"
        "from tests.store.builder import Builder\n"
        "db = Database(':memory:'); build = Builder(db); a = build.conversation('a'); build.turn(a, 'hi')\n"
        "try: export(db, sys.argv[1])\n"
        "except StoreError as error: print(error)\n"
    )
    target = tmp_path / "a.parquet"
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert "voxnb[parquet]" in done.stdout
    assert list(tmp_path.iterdir()) == []


# -- Markdown ---------------------------------------------------------------------------------


def test_markdown_reads_from_top_to_bottom(db, fork, tmp_path):
    text = export_conversation(db, fork, tmp_path / "b.md").read_text(encoding="utf-8")
    order = [
        "# b",
        "## Instructions",
        "be kind",
        "## Turn 1",
        "eins",
        "zwei",
        "## Turn 2",
        "drei",
        "## Turn 3 (partial)",
    ]
    order += [
        "**user**",
        "see",
        "image_url",
        "**assistant**",
        "tool_calls",
        "**tool**",
        "42",
        "cut off",
        "## Summary 1",
    ]
    order += ["so far", "## Summary 2, turns 2 to 2", "two turns"]
    at = 0
    for piece in order:
        at = text.index(piece, at)


def structure(text):
    """Block structure as CommonMark sees it, and the texts in fences."""
    tokens = MarkdownIt("commonmark").parse(text)
    return [t.type for t in tokens], [t.content for t in tokens if t.type == "fence"], tokens


def renders(text):
    """A text as CommonMark reads it: one kind of line end, no NUL."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


@given(name=TEXTS.filter(str.strip), said=st.lists(TEXTS, min_size=2, max_size=2), error=TEXTS, summary=TEXTS)
def test_no_stored_text_becomes_structure(name, said, error, summary):
    store = Database(":memory:")
    try:
        build = Builder(store)
        key = build.conversation(name, model=error or None)
        build.turn(key, *said, error=error or "x")
        build.fold(key, through=1, text=summary, model=error)
        with store.snapshot() as c:
            text = "\n\n".join(blocks(c, key))
        store.read("SELECT 1")
        hostile = structure(text)
        plain = Builder(store)
        twin = plain.conversation("plain", model="m" if inline(error) else None)
        plain.turn(twin, *("x" if content else "" for content in said), error="x" if inline(error or "x") else "\n")
        plain.fold(twin, through=1, text="x", model="m" if inline(error) else "\n")
        with store.snapshot() as c:
            harmless = structure("\n\n".join(blocks(c, twin)))
    finally:
        store.close()
    assert hostile[0] == harmless[0]
    fences = [renders(f"{content}\n") for content in (*filter(None, said), summary)]
    assert hostile[1] == fences
    inner = {child.type for token in hostile[2] for child in token.children or []}
    assert inner <= {"text", "text_special", "softbreak", "strong_open", "strong_close"}


@given(TEXTS)
def test_a_fence_holds_its_text_and_nothing_after_it(text):
    tokens = MarkdownIt("commonmark").parse(f"{fenced(text)}\n\nafter")
    assert [t.type for t in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].content == renders(f"{text}\n")


# -- HTML -------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</pre></div><script>x</script>", "<style>*{}</style>",
    "[a](javascript:alert(1))", "![a](https://tracker.example/x.png)", "<iframe src=//x></iframe>", "[b](/api/kernels)",
    "\u202egnp.exe", "</style><script>", "&lt;b&gt;", '"><svg onload=x>',
)  # fmt: skip


def test_a_page_reads_from_top_to_bottom(db, fork, tmp_path):
    text = export_conversation(db, fork, tmp_path / "b.html").read_text(encoding="utf-8")
    at = 0
    for piece in ("be kind", "Turn 1", "eins", "zwei", "Turn 2", "pinned", "drei", "Turn 3", "partial", "see", "tool_calls",
                  "42", "cut off", "Summary 1 of turns 1 to 1", "so far", "Summary 2", "two turns", "good"):  # fmt: skip
        at = text.index(piece, at)


@pytest.mark.parametrize("said", HOSTILE)
def test_nothing_on_a_page_runs_or_fetches(db, build, tmp_path, said):
    a = build.conversation(f"a {said}", model=said, title=said)
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{said}"}}
    build.turn(a, {"role": "user", "content": [{"type": "text", "text": said}, picture]}, said, error=said)
    build.fold(a, through=1, text=said, model=said)
    build.insert("note", uid="n-1", target=f"k-a {said}", text=said, label=said, created_at=NOON)
    build.turn(build.conversation("second"), {"role": "user", "content": "x", "name": said})
    page = Tags(export(db, tmp_path / "a.html").path.read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "img", "svg", "object", "embed", "link", "form", "base"}
    assert [tag for tag, _ in page.tags].count("style") == 1
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        assert re.match(r"(https?:|mailto:|#c\d)", attrs.get("href", "#c1"))
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_a_picture_that_travels_in_the_message_is_shown(db, build, tmp_path):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    vector = {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zz4="}}
    build.turn(build.conversation("a"), {"role": "user", "content": [part, vector]})
    page = Tags(export(db, tmp_path / "a.html").path.read_text(encoding="utf-8"))
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == ["data:image/png;base64,iVBORw0KGgo="]


def test_what_an_answer_is_beside_text_is_shown_too(db, build, tmp_path):
    picture = "iVBORw0KGgo="
    items = [
        {"type": "image_generation_call", "id": "ig_1", "result": picture},
        {"type": "code_interpreter_call", "id": "ci_1", "code": "<b>1</b>", "outputs": None},
    ]
    a = build.conversation("a")
    build.turn(a, "eins", {"role": "assistant", "content": "Here.", "items": items})
    build.turn(a, "zwei", {"role": "assistant", "content": None, "refusal": "I *will* not."})
    text = export(db, tmp_path / "a.html").path.read_text(encoding="utf-8")
    pictures = [attrs for tag, attrs in Tags(text).tags if tag == "img"]
    assert pictures == [{"alt": "an image, PNG, 8 bytes", "src": f"data:image/png;base64,{picture}"}]
    assert '<p class="note">ran code: &lt;b&gt;1&lt;/b&gt;</p>' in text
    assert "I <em>will</em> not." in text


def test_only_the_models_text_is_read_as_markdown(db, build, tmp_path):
    build.turn(build.conversation("a"), "**mine**", "**its**")
    text = export(db, tmp_path / "a.html").path.read_text(encoding="utf-8")
    assert "<pre>**mine**</pre>" in text
    assert "<strong>its</strong>" in text


# -- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "md", "html"])
def test_a_file_that_is_there_is_kept_unless_told_otherwise(db, fork, tmp_path, suffix):
    path = tmp_path / f"b.{suffix}"
    path.write_text("mine")
    with pytest.raises(StoreError, match="overwrite=True"):
        export_conversation(db, fork, path)
    assert path.read_text() == "mine"
    export_conversation(db, fork, path, overwrite=True)
    assert path.read_bytes() != b"mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {p.suffix for p in tmp_path.iterdir()} <= {f".{suffix}", ".db", ".db-wal", ".db-shm"}


def test_a_format_may_be_said_beside_the_name(db, fork, tmp_path):
    path = export_conversation(db, fork, tmp_path / "notes.txt", format="md")
    assert path.read_text().startswith("# b")
    assert export_conversation(db, fork, tmp_path / "B.JSONL").exists()
    assert export_conversation(db, fork, str(tmp_path / "c.x"), format=".csv").exists()


@pytest.mark.parametrize(
    ("name", "format_"), [("a.txt", None), ("a", None), ("a.md", "word"), ("a.jsnl", None), ("a.md", 5)]
)
def test_an_unknown_format_lists_the_known_ones(db, fork, tmp_path, name, format_):
    with pytest.raises(ParameterError, match="jsonl, openai, csv, parquet, md, html"):
        export_conversation(db, fork, tmp_path / name, format=format_)
    assert not (tmp_path / name).exists()


def test_a_misspelt_format_names_the_nearest(db, fork, tmp_path):
    with pytest.raises(ParameterError, match="did you mean 'parquet'"):
        export_conversation(db, fork, tmp_path / "a.parqet")


def test_a_folder_in_the_place_of_the_file_is_refused(db, fork, tmp_path):
    (tmp_path / "a.md").mkdir()
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="exists"):
            export_conversation(db, fork, tmp_path / "a.md", overwrite=overwrite)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_what_is_no_file_is_not_replaced_by_one(db, fork, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(StoreError, match="choose a file's name"):
        export(db, tmp_path / "pipe.jsonl", overwrite=True)
    assert stat.S_ISFIFO((tmp_path / "pipe.jsonl").stat().st_mode)


def test_a_folder_that_is_not_there_is_named(db, fork, tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        export_conversation(db, fork, tmp_path / "nowhere" / "a.md")


def test_a_tilde_is_the_home_folder(db, fork, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export_conversation(db, fork, "~/a.md") == tmp_path / "a.md"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "md", "html"])
def test_a_conversation_that_is_gone_leaves_no_file(db, tmp_path, suffix):
    with pytest.raises(UnknownConversationError):
        export_conversation(db, 99, tmp_path / f"a.{suffix}")
    assert [p for p in tmp_path.iterdir() if p.suffix == f".{suffix}" or p.name.startswith(".voxnb")] == []


def test_a_disk_that_is_full_leaves_no_file(tmp_path):
    store = Database(":memory:")
    build = Builder(store)
    a = build.conversation("a")
    build.many(a, 2000)
    # The limit counts for every file of the process, so it is set around the export alone.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        for suffix in ("jsonl", "csv", "md", "html"):
            with pytest.raises(StoreFullError, match=r"cannot write .*a\."):
                export_conversation(store, a, tmp_path / f"a.{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
        store.close()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_file(tmp_path, monkeypatch):
    store = Database(":memory:")
    build = Builder(store)
    a = build.conversation("a")
    build.many(a, 10)
    real = os.fsync

    def interrupted(descriptor):
        real(descriptor)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_conversation(store, a, tmp_path / "a.md")
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_reports_what_messages_say_beside_its_columns(tmp_path, suffix):
    items = [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]
    with ContextStore(":memory:") as store:
        said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "items": items}]
        talk = store.append("a", said)
        report = talk.export(tmp_path / f"a.{suffix}")
    assert "the key 'items' of messages" in str(report)
