"""ChatGPT's export: the path that was seen, with its tools and thoughts; what else is in the tree is counted."""

from __future__ import annotations

import json

import pytest

from voxnb.store.context_store import ContextStore


@pytest.fixture
def store():
    with ContextStore(":memory:") as found:
        yield found


class Tree:
    """Writes a conversation as the export has it."""

    def __init__(self, title="Iris", key="6f0e", **more):
        self.value = {"title": title, "conversation_id": key, "create_time": 1714557600.0, "update_time": 1714557700.5,
                      "default_model_slug": "gpt-4o", "mapping": {}, "current_node": None, **more}  # fmt: skip
        self.node("root", None, None)

    def node(self, key, parent, message):
        self.value["mapping"][key] = {"id": key, "message": message, "parent": parent, "children": []}
        if parent is not None:
            self.value["mapping"][parent]["children"].append(key)
        self.value["current_node"] = self.last = key

    def say(self, role, *parts, key=None, parent=None, kind="text", recipient="all", metadata=None, at=None, **content):
        number = len(self.value["mapping"])
        key = key or f"n{number}"
        held = {"content_type": kind, **({"parts": list(parts)} if parts or not content else {}), **content}
        message = {"id": key, "author": {"role": role, "name": None, "metadata": {}}, "create_time": at or 1714557600.0 + number,
                   "content": held, "status": "finished_successfully", "weight": 1.0, "recipient": recipient,
                   "metadata": metadata or {}}  # fmt: skip
        self.node(key, parent or self.last, message)
        return key


def write(path, *trees):
    path.write_text(json.dumps([tree.value for tree in trees], ensure_ascii=False), encoding="utf-8")
    return path


def said(store):
    frame = store.messages()
    return list(zip(frame["role"], frame["content"], strict=True))


def test_the_path_that_was_seen_becomes_turns(store, tmp_path):
    tree = Tree()
    tree.say("system", "")
    tree.say("user", kind="user_editable_context", user_profile="I am Ann.", user_instructions="Be brief.",
             metadata={"is_visually_hidden_from_conversation": True})  # fmt: skip
    tree.say("user", "What is iris?", at=1714557603.25)
    tree.say("assistant", "A flower.", metadata={"model_slug": "gpt-4o-mini"})
    tree.say("user", "And setosa?")
    tree.say("assistant", "A species.", "Small petals.", metadata={"model_slug": "o3"})
    report = store.import_conversations(write(tmp_path / "conversations.json", tree))
    assert (report.format, report.conversations, report.turns) == ("chatgpt", 1, 2)
    assert report.skipped == report.remarks == ()
    assert said(store) == [("user", "What is iris?"), ("assistant", "A flower."), ("user", "And setosa?"),
                           ("assistant", "A species.\nSmall petals.")]  # fmt: skip
    assert store["Iris"].plan().messages[0] == {"role": "system", "content": "I am Ann.\n\nBe brief."}
    turns = store.turns()
    assert turns["model"].tolist() == ["gpt-4o-mini", "o3"]
    assert turns["created_at"].iloc[0].timestamp() == 1714557603.25
    (row,) = store.conversations().to_dict("records")
    assert (row["title"], row["model"], row["created_at"].timestamp()) == ("Iris", "gpt-4o", 1714557600.0)
    assert json.loads(row["metadata"])["imported"]["id"] == "6f0e"


def test_other_branches_are_counted(store, tmp_path):
    tree = Tree()
    first = tree.say("user", "Draft")
    tree.say("assistant", "First answer")
    tree.say("assistant", "Second answer", parent=first)
    tree.say("user", "Go on")
    tree.say("user", "Another beginning", parent="root")
    tree.say("assistant", "Yes?")
    tree.value["current_node"] = "n4"
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    assert said(store) == [("user", "Draft"), ("assistant", "Second answer"), ("user", "Go on")]
    assert "3 × messages of other branches" in str(report)


def test_without_a_current_node_the_newest_branch_counts(store, tmp_path):
    tree = Tree()
    first = tree.say("user", "Q")
    tree.say("assistant", "new", at=1714559999.0)
    tree.say("assistant", "old", parent=first, at=1714550000.0)
    del tree.value["current_node"]
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    assert said(store)[-1] == ("assistant", "new")
    assert "newest branch was taken" in str(report)


def test_tools_are_calls_with_results(store, tmp_path):
    tree = Tree()
    tree.say("user", "2+2?")
    tree.say("assistant", kind="thoughts", thoughts=[{"summary": "s", "content": "add them"}])
    tree.say("assistant", kind="reasoning_recap", content="Thought for 2 s")
    call = tree.say("assistant", kind="code", recipient="python", language="python", text="2+2")
    tree.say("tool", kind="execution_output", text="4")
    tree.say("tool", kind="execution_output", text="done")
    tree.say("assistant", "4.")
    tree.say("user", "thanks")
    tree.say("assistant", kind="code", recipient="bio", language="unknown", text="remember")
    tree.say("assistant", "Welcome.")
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    messages = store["Iris"].messages()
    assert messages["role"].tolist() == ["user", "assistant", "tool", "assistant", "user", "assistant", "assistant"]
    (called,) = json.loads(messages["tool_calls"].iloc[1])
    assert called == {"id": call, "type": "function", "function": {"name": "python", "arguments": "2+2"}}
    assert (messages["tool_call_id"].iloc[2], messages["content"].iloc[2]) == (call, "4\ndone")
    assert messages["content"].iloc[5] == "[bio]\nremember"
    assert "result is not in the export, kept as text" in str(report)
    (extra,) = store.database.read(
        "SELECT json_extract(extra, '$.reasoning_content') FROM message WHERE position = 1 LIMIT 1"
    )
    assert extra == ("add them\nThought for 2 s",)
    assert set(store.turns()["state"]) == {"complete"}


def test_pictures_voices_and_hidden_messages(store, tmp_path):
    tree = Tree()
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1", "size_bytes": 9}
    tree.say("user", picture, "What is this?", kind="multimodal_text")
    tree.say("assistant", "secret", metadata={"is_visually_hidden_from_conversation": True})
    tree.say(
        "assistant",
        {"content_type": "audio_transcription", "text": "A cat.", "direction": "out"},
        kind="multimodal_text",
    )
    tree.say("tool", kind="tether_quote", text="said by nobody's call")
    tree.say("critic", "x")
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    assert said(store) == [("user", "[image: file-service://file-1]\nWhat is this?"), ("assistant", "A cat.")]
    text = str(report)
    for what in (
        "1 × pictures and files",
        "hidden messages",
        "'secret'",
        "without being called",
        "unknown author",
        "'critic'",
    ):
        assert what in text


ODD_CONTENTS = {
    "computer_output": ({"computer_id": "1", "screenshot": {"asset_pointer": "file-service://shot"}, "state": {"url": "WORD"}},
                        "contents of kind computer_output"),
    "system_error": ({"name": "Err", "text": "WORD"}, "system_error.name beside the text"),
    "sonic_webpage": ({"url": "u", "title": "t", "text": "WORD"}, "sonic_webpage.url beside the text"),
    "citable_code_output": ({"output_str": "WORD"}, None),
    "app_pairing_content": ({"workspaces": [], "shared_prompt": "WORD"}, "contents of kind app_pairing_content"),
    "never_seen": ({"rows": [{"deep": "WORD"}], "n": 0}, "contents of kind never_seen"),
    "text": ({"parts": [{"weird": "WORD"}, 5]}, "contents of kind part"),
    "multimodal_text": ({"parts": [{"content_type": "audio_asset_pointer", "asset_pointer": "WORD"}]}, "1 × pictures and files"),
    "real_time": ({"parts": [{"content_type": "real_time_user_audio_video_asset_pointer",
                              "audio_asset_pointer": {"asset_pointer": "WORD"}}]}, "1 × pictures and files"),
}  # fmt: skip


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
@pytest.mark.parametrize("kind", ODD_CONTENTS)
def test_a_content_of_any_kind_is_kept_as_text(store, tmp_path, role, kind):
    content, told_of = ODD_CONTENTS[kind]
    tree = Tree()
    tree.say("user", "Q")
    if role == "tool":
        tree.say("assistant", kind="code", recipient="web", text="look")
    tree.say(role, kind=kind, **content)
    tree.say("assistant", "A")
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    assert [(who, "WORD" in text) for who, text in said(store)].count((role, True)) == 1
    assert not store.search("WORD").empty
    assert told_of is None or told_of in str(report)
    assert store.verify()


@pytest.mark.parametrize("content", [None, "", "WORD", ["WORD"], {"content_type": "text", "parts": ["WORD"]}])
def test_a_content_that_is_bare_is_its_parts(store, tmp_path, content):
    tree = Tree()
    tree.say("user", "Q", key="q")
    tree.say("user", "more", key="more")
    tree.value["mapping"]["more"]["message"]["content"] = content
    store.import_conversations(write(tmp_path / "c.json", tree))
    assert said(store)[1:] == ([("user", "WORD")] if content else [])


def test_what_has_no_place_is_reported(store, tmp_path):
    tree = Tree(gizmo_id="g-1", is_archived=False, safe_urls=[])
    tree.say("user", {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}, kind="multimodal_text",
             metadata={"attachments": [{"id": "file-1", "name": "a.png"}, {"id": "file-2", "name": "b.pdf"}]})  # fmt: skip
    tree.say("assistant", "Seen.", metadata={"citations": [{"url": "https://e.example"}], "content_references": []})
    tree.say("assistant", kind="thoughts", thoughts=[{"summary": "s", "content": "and then"}])
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    reasons = {remark.reason: remark for remark in report.skipped}
    assert reasons["attached files that are not in the export"].places == ("conversation 1 'Iris': b.pdf",)
    assert reasons["lists of the sources that answers cite"].count == 1
    assert reasons["reasoning that no answer followed"].places == ("conversation 1 'Iris': 'and then'",)
    metadata = json.loads(store.conversations()["metadata"].iloc[0])
    assert (metadata["gizmo_id"], metadata["is_archived"]) == ("g-1", False)


def test_kinds_without_end_are_counted_in_bounded_memory(store, tmp_path):
    tree = Tree()
    for n in range(250):
        tree.say("user", kind=f"kind {n}", held=n)
    report = store.import_conversations(write(tmp_path / "c.json", tree))
    assert (len(report.remarks), report.remarks[-1].reason, report.remarks[-1].count) == (201, "of further kinds", 50)


def test_an_export_a_month_later_brings_what_is_new(store, tmp_path):
    first, second = Tree(), Tree(title="Plots", key="7a11")
    for tree in (first, second):
        tree.say("user", "Q")
        tree.say("assistant", "A")
    store.import_conversations(write(tmp_path / "may.json", first))
    first.say("user", "more")
    first.say("assistant", "yes")
    report = store.import_conversations(write(tmp_path / "june.json", first, second))
    assert (report.conversations, report.extended, report.turns) == (1, 1, 2)
    assert [len(store[name]) for name in ("Iris", "Plots")] == [2, 1]
    assert store.verify()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(mapping=7),
        lambda v: v["mapping"].update(n1=None),
        lambda v: v["mapping"]["n1"].update(parent="n1"),
        lambda v: v["mapping"]["n1"].update(message=[]),
        lambda v: v["mapping"]["n1"]["message"].update(content="text"),
        lambda v: v["mapping"]["n1"]["message"].update(author=None, metadata=3),
        lambda v: v["mapping"]["n1"]["message"]["content"].update(parts=[None, 7, {}]),
        lambda v: v["mapping"]["n1"]["message"].update(create_time="yesterday"),
        lambda v: v.update(title=3, create_time=None, current_node=4),
        lambda v: v.update(mapping={}),
    ],
)
def test_a_broken_tree_harms_no_other(store, tmp_path, change):
    broken, whole = Tree(key="bad"), Tree(title="Whole")
    for tree in (broken, whole):
        tree.say("user", "Q")
        tree.say("assistant", "A")
    change(broken.value)
    store.import_conversations(write(tmp_path / "c.json", broken, whole))
    assert len(store["Whole"]) == 1
    assert store.verify()
