"""Message lists of other programs: OpenAI's lines, LangChain's shapes, ShareGPT's; once, in order, nothing dropped in silence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxnb.errors import ParameterError, StoreError, StoreFormatError
from voxnb.messages import group_turns, parse_messages, split_instructions
from voxnb.store.context_store import ContextStore

HI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def store():
    with ContextStore(":memory:") as found:
        yield found


def write(path, *values):
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values), encoding="utf-8")
    return path


# -- what is stored ---------------------------------------------------------------------------

PLAIN_MESSAGES = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "developer", "user", "assistant"]),
    st.text(max_size=60)
    | st.sampled_from(["<|endoftext|>", "a<|endoftext|><|im_start|>b", "1,234.5 x 99", "ünï 🦜‍🔥", "\0"]),
)
OTHER_MESSAGES = st.sampled_from(
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "user", "content": "x", "name": "ann"},
        {"role": "assistant", "content": "x", "refusal": None},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ]
)


@given(st.lists(PLAIN_MESSAGES | OTHER_MESSAGES, min_size=1, max_size=9))
def test_an_import_stores_what_append_would(messages):
    from voxnb.messages import unpaired

    parsed = parse_messages(messages)
    if any(unpaired(parsed)) or not split_instructions(parsed)[1]:
        return  # what does not pair is said below
    columns = ["turn_seq", "position", "role", "content", "parts", "tokens", "encoding", "content_hash", "tool_calls"]
    with ContextStore(":memory:") as store:
        store.append("a", messages)
        report = store.import_conversations([{"id": "1", "title": "b", "messages": messages}])
        assert report.skipped == ()
        mine, theirs = (store[name].messages(columns=columns) for name in ("b", "a"))
        assert mine.equals(theirs)
        facts = ("seq", "tokens", "pinned")
        assert store["b"].turns(columns=facts).equals(store["a"].turns(columns=facts))
        sql = "SELECT k.last_seq, k.instructions, k.pin_version, (SELECT count(*) FROM pin WHERE conversation = k.id), "
        sql += (
            "(SELECT group_concat(m.features) FROM turn t JOIN message m ON m.turn = t.id WHERE t.branch = k.branch) "
        )
        first, second = store.database.read(sql + "FROM conversation k ORDER BY id")
        assert first == second
        assert store["b"].plan("and?").messages == store["a"].plan("and?").messages
        assert store.verify()
        assert sum(1 for _ in group_turns(split_instructions(parsed)[1])) == len(store["b"])


def test_lines_of_conversations_become_conversations_named_after_file_and_line(store, tmp_path):
    path = write(
        tmp_path / "train.jsonl", {"messages": HI}, {"messages": [{"role": "system", "content": "s"}, *HI, *HI]}
    )
    report = store.import_conversations(path)
    assert (report.format, report.conversations, report.turns, report.messages) == ("openai", 2, 3, 6)
    assert list(store) == ["train line 1", "train line 2"]
    assert store["train line 2"].plan().messages[0]["content"] == "s"
    metadata = json.loads(store.conversations()["metadata"].iloc[1])
    assert metadata["imported"] == {"format": "openai", "source": str(path), "place": "line 2"}


def test_what_stands_beside_the_messages_is_kept(store, tmp_path):
    line = {
        "id": "x-7", "title": "A title", "model": "gpt-4", "created_at": "2024-05-01T10:00:00Z", "tools": [{"type": "function"}],
        "metadata": {"team": "blue"}, "messages": [{**HI[0], "timestamp": 1714557600500}, {**HI[1], "timestamp": None}],
    }  # fmt: skip
    store.import_conversations(write(tmp_path / "a.jsonl", line))
    (row,) = store.conversations().to_dict("records")
    assert (row["name"], row["title"], row["model"]) == ("A title", "A title", "gpt-4")
    assert row["created_at"].isoformat() == "2024-05-01T10:00:00+00:00"
    metadata = json.loads(row["metadata"])
    assert (metadata["tools"], metadata["team"], metadata["imported"]["id"]) == ([{"type": "function"}], "blue", "x-7")
    assert store.turns()["created_at"].iloc[0].isoformat() == "2024-05-01T10:00:00.500000+00:00"
    assert set(store.messages()["encoding"]) == {"cl100k_base"}, "gpt-4's own encoding"
    exported = store.export_conversations(tmp_path / "b.jsonl", format="openai")
    assert json.loads(exported.path.read_text())["tools"] == [{"type": "function"}]


def test_a_fine_tuning_line_comes_back_or_its_losses_are_told(store, tmp_path):
    line = {
        "messages": [
            {"role": "user", "content": "Hi", "custom": 1},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}, "weight": 0},
            {"role": "function", "name": "f", "content": "42"},
            {"role": "assistant", "content": "42.", "weight": 1},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": False,
        "functions": [{"name": "f", "parameters": {}}], "split": "train",
    }  # fmt: skip
    assert store.import_conversations(write(tmp_path / "a.jsonl", line)).skipped == ()
    report = store.export_conversations(tmp_path / "b.jsonl", format="openai")
    back = json.loads(report.path.read_text())
    told = {remark.reason for remark in report.left_out}
    assert {"the key 'custom' of messages", "'split' of the metadata"} <= told
    del line["split"], line["messages"][0]["custom"]
    assert back == line


@pytest.mark.parametrize(
    "layout", ["array", "indented", "one conversation", "lists per line", "messages per line", "utf-16", "bom"]
)
def test_a_list_may_be_laid_out_as_people_do(store, tmp_path, layout):
    path = tmp_path / "a.json"
    both = [{"messages": HI}, {"messages": [*HI, *HI]}]
    text = {
        "array": json.dumps(both),
        "indented": json.dumps(both, indent=2),
        "one conversation": json.dumps(HI, indent=1),
        "lists per line": f"{json.dumps(HI)}\n\n{json.dumps([*HI, *HI])}\n",
        "messages per line": "\n".join(map(json.dumps, HI)),
        "utf-16": "\n".join(map(json.dumps, both)),
        "bom": "\n".join(map(json.dumps, both)),
    }[layout]
    path.write_text(text, encoding={"utf-16": "utf-16", "bom": "utf-8-sig"}.get(layout, "utf-8"))
    report = store.import_conversations(path)
    assert report.format == "openai"
    assert report.turns == (1 if layout in ("one conversation", "messages per line") else 3)
    assert report.skipped == report.remarks == ()


def test_sharegpt_is_understood(store):
    line = {
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Ho"},
        ]
    }
    store.import_conversations([line])
    assert store.messages()["role"].tolist() == ["user", "assistant"]


# -- LangChain --------------------------------------------------------------------------------


def kwargs_of(kind, **more):
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", kind], "kwargs": more}


TOOL_CALL = {"name": "f", "args": {"x": 1}, "id": "c1", "type": "tool_call"}
TO_DICT = [
    {"type": "system", "data": {"content": "s", "type": "system", "additional_kwargs": {}}},
    {"type": "human", "data": {"content": "Hi", "type": "human", "name": "ann"}},
    {"type": "ai", "data": {"content": "", "tool_calls": [TOOL_CALL], "invalid_tool_calls": [], "type": "ai"}},
    {"type": "tool", "data": {"content": "42", "tool_call_id": "c1", "type": "tool", "name": "f"}},
    {"type": "AIMessageChunk", "data": {"content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "42."}]}},
    {"type": "chat", "data": {"content": "thanks", "role": "user"}},
]  # fmt: skip
DUMPED = [
    kwargs_of("SystemMessage", content="s", type="system"),
    kwargs_of("HumanMessage", content="Hi", name="ann"),
    kwargs_of("AIMessage", content="", tool_calls=[TOOL_CALL]),
    kwargs_of("ToolMessage", content="42", tool_call_id="c1", name="f"),
    kwargs_of("AIMessageChunk", content=[{"type": "text", "text": "It is "}, {"type": "text", "text": "42."}]),
    kwargs_of("ChatMessage", content="thanks", role="user"),
]
FLAT = [{**m["data"], "type": m["type"]} for m in TO_DICT]
FOREIGN = [  # as providers behind LangChain leave them
    TO_DICT[0],
    TO_DICT[1],
    {"type": "ai", "data": {"content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}], "additional_kwargs": {
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]}}},
    *TO_DICT[3:],
]  # fmt: skip


ANSWER = {
    "content": "No.", "id": "run-1", "example": False, "usage_metadata": {"input_tokens": 7},
    "additional_kwargs": {"refusal": "I will not.", "k": 1}, "response_metadata": {"model_name": "gpt-4o", "finish_reason": "stop", "seed": 3},
    "invalid_tool_calls": [{"name": "f", "args": "{", "id": "c9", "error": "not JSON", "type": "invalid_tool_call"}],
}  # fmt: skip


@pytest.mark.parametrize("shape", ["messages_to_dict", "dumpd", "flat", "one per line"])
def test_what_langchain_holds_beside_is_kept_or_named(store, tmp_path, shape):
    said = [("human", "HumanMessage", {"content": "Hi", "name": "ann", "additional_kwargs": {}}), ("ai", "AIMessage", ANSWER),
            ("tool", "ToolMessage", {"content": "x", "tool_call_id": "c9", "artifact": {"rows": 1}}),
            ("remove", "RemoveMessage", {"id": "run-1", "content": ""})]  # fmt: skip
    make = {
        "dumpd": lambda _, name, data: kwargs_of(name, **data),
        "flat": lambda kind, _, data: {**data, "type": kind},
    }
    messages = [make.get(shape, lambda kind, _, data: {"type": kind, "data": data})(*one) for one in said]
    path = write(tmp_path / "a.jsonl", *(messages if shape == "one per line" else [messages]))
    report = store.import_conversations(path)
    no_place = (
        "id",
        "usage_metadata",
        "additional_kwargs.k",
        "response_metadata.seed",
        "invalid_tool_calls.error",
        "artifact",
    )
    assert sorted(remark.reason for remark in report.skipped) == sorted(
        [f"{name} of messages: the API has no place for it" for name in no_place]
        + ["orders to take a message out again (LangChain's RemoveMessage)"]
    )
    assert {remark.count for remark in report.skipped} == {1}
    messages = store.messages()
    assert (messages["refusal"].iloc[1], json.loads(messages["tool_calls"].iloc[1])[0]["id"]) == ("I will not.", "c9")
    (turn,) = store.turns().to_dict("records")
    assert (turn["model"], turn["finish_reason"]) == ("gpt-4o", "stop")
    assert store.conversations()["model"].tolist() == ["gpt-4o"]


def test_langchain_parts_and_functions_are_kept_and_unknown_types_named(store, tmp_path):
    parts = [{"type": "text", "text": "Hi"}, {"type": "never_seen", "x": "kept"}]
    called = {"type": "ai", "data": {"content": [{"type": "tool_use", "id": "c1"}, {"type": "text", "text": "so"}]}}
    path = write(
        tmp_path / "a.jsonl",
        [{"type": "human", "data": {"content": parts}}, called,
         {"type": "function", "data": {"name": "f", "content": "42"}}],
        [{"type": "human", "data": {"content": "Hi"}}, {"type": "oracle", "data": {"content": "Ho"}}],
    )  # fmt: skip
    report = store.import_conversations(path)
    assert report.conversations == 1
    messages = store.messages()
    assert json.loads(messages["parts"].iloc[0])[1] == {"type": "never_seen", "x": "kept"}
    assert (messages["role"].iloc[2], messages["content"].iloc[2]) == ("function", "42")
    assert "content parts of type tool_use of messages" in str(report)
    assert "a role that is none (name what it means: roles={'agent': 'assistant'}) (line 2" in str(report)
    assert store.import_conversations(path, roles={"oracle": "assistant"}).conversations == 1


def test_langchains_own_words_for_pictures_sounds_and_files_become_the_apis(store, tmp_path):
    blocks = [
        {"type": "text", "text": "See"},
        {"type": "image", "base64": "aW1n", "mime_type": "image/jpeg"},
        {"type": "image", "source_type": "base64", "data": "aW1n", "mime_type": "image/png"},
        {"type": "image", "url": "https://e.example/x.png"},
        {"type": "audio", "base64": "c25k", "mime_type": "audio/mpeg"},
        {"type": "file", "base64": "cGRm", "mime_type": "application/pdf", "extras": {"filename": "a.pdf"}},
    ]
    said = [{"type": "human", "data": {"content": blocks}}, {"type": "ai", "data": {"content": "I do."}}]
    report = store.import_conversations(write(tmp_path / "a.jsonl", said))
    assert store[report.names[0]].plan().messages[0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aW1n"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n"}},
        {"type": "image_url", "image_url": {"url": "https://e.example/x.png"}},
        {"type": "input_audio", "input_audio": {"data": "c25k", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
    ]


@pytest.mark.parametrize("kind", ["reasoning", "thinking"])
def test_what_a_model_thought_is_not_among_what_langchain_says_it_said(store, tmp_path, kind):
    blocks = [{"type": kind, kind: "hm", "signature": "s", "index": 0}, {"type": "text", "text": "Yes."}]
    said = [{"type": "human", "content": "Well?"}, {"type": "ai", "content": blocks}]
    report = store.import_conversations(write(tmp_path / "a.jsonl", said))
    assert store[report.names[0]].plan().messages[1]["content"] == "Yes."
    assert [remark.reason for remark in report.skipped] == [
        f"{kind}.signature of messages: the API has no place for it"
    ]
    store.export_conversations(tmp_path / "out.jsonl")
    assert '"reasoning_content":"hm"' in (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize(
    "shape", [TO_DICT, DUMPED, FLAT, FOREIGN], ids=["messages_to_dict", "dumpd", "flat", "additional_kwargs"]
)
@pytest.mark.parametrize("layout", ["array", "line", "in messages"])
def test_langchain_messages_come_in_every_shape(store, tmp_path, shape, layout):
    path = tmp_path / "chain.json"
    value = {"messages": shape} if layout == "in messages" else shape
    path.write_text(json.dumps(value, indent=2 if layout == "array" else None))
    report = store.import_conversations(path)
    assert (report.format, report.conversations, report.turns) == ("langchain", 1, 2)
    assert report.skipped == ()
    plan = store[report.names[0]].plan().messages
    assert plan[:2] == [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi", "name": "ann"}]
    assert (plan[2]["content"], plan[2]["tool_calls"][0]["id"]) in ((None, "c1"), ([], "c1"))
    assert json.loads(plan[2]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}
    assert (plan[3]["role"], plan[3]["tool_call_id"], plan[3]["content"]) == ("tool", "c1", "42")
    assert plan[4]["content"] == "It is 42."
    assert plan[5] == {"role": "user", "content": "thanks"}


# -- twice, and what grew ---------------------------------------------------------------------


def test_the_same_file_twice_is_known(store, tmp_path):
    path = write(tmp_path / "a.jsonl", {"messages": HI}, {"id": 3, "messages": HI}, {"messages": HI})
    first = store.import_conversations(path)
    assert (first.conversations, first.known) == (2, 1), "lines 1 and 3 say the same and have no id"
    second = store.import_conversations(path)
    assert (second.conversations, second.turns, second.known) == (0, 0, 3)
    moved = store.import_conversations(write(tmp_path / "b.jsonl", {"messages": HI}))
    assert moved.known == 1
    copied = store.import_conversations(path, copy=True)
    assert copied.conversations == 3
    assert len(set(store.conversations()["conversation_id"])) == 5
    assert store.verify()


def test_two_stores_give_the_same_ids(tmp_path):
    path = write(tmp_path / "a.jsonl", {"id": "1", "messages": [*HI, *HI]}, {"messages": HI})
    ids = []
    for _ in range(2):
        with ContextStore(":memory:") as store:
            store.import_conversations(path)
            ids.append((store.conversations()["conversation_id"].tolist(), store.turns()["turn_id"].tolist()))
    assert ids[0] == ids[1]
    assert ids[0][1] == sorted(ids[0][1][:2]) + ids[0][1][2:]


def test_a_conversation_that_grew_gets_its_new_turns(store, tmp_path):
    system = {"role": "system", "content": "between"}
    store.import_conversations(write(tmp_path / "a.jsonl", {"id": "1", "messages": HI}))
    grown = {
        "id": "1",
        "messages": [*HI, system, {"role": "user", "content": "more"}, {"role": "assistant", "content": "yes"}],
    }
    report = store.import_conversations(write(tmp_path / "a.jsonl", grown))
    assert (report.conversations, report.extended, report.turns) == (0, 1, 1)
    assert store.turns()["user_text"].tolist() == ["Hi", "more"]
    assert len(store.search("more")) == 1
    assert store.database.read("SELECT pin_version FROM conversation") == [(1,)]
    assert store.import_conversations(tmp_path / "a.jsonl").known == 1
    changed = {"id": "1", "messages": [*HI, {"role": "user", "content": "else"}]}
    report = store.import_conversations(write(tmp_path / "a.jsonl", changed))
    assert "goes on otherwise; import with copy=True" in str(report)
    another = {"id": "1", "messages": [{"role": "user", "content": "another file's number 1"}]}
    assert store.import_conversations(write(tmp_path / "b.jsonl", another)).conversations == 1
    assert store.verify()


def test_names_that_are_taken_get_numbers(store):
    lines = [{"id": n, "title": "New chat", "messages": HI} for n in range(5)]
    store.append("New chat-3", HI)
    assert store.import_conversations(lines).names == (
        "New chat",
        "New chat-2",
        "New chat-4",
        "New chat-5",
        "New chat-6",
    )
    assert store.import_conversations([{"id": 9, "title": " New \n chat ", "messages": HI}]).names == ("New chat-7",)


# -- bad input --------------------------------------------------------------------------------


def test_every_bad_line_is_said_and_the_good_ones_are_stored(store, tmp_path):
    path = tmp_path / "bad.jsonl"
    lines = [
        json.dumps({"messages": HI}),
        '{"messages": [',
        '{"prompt": "x"}',
        json.dumps({"messages": []}),
        json.dumps({"messages": [{"role": "agent", "content": "x"}]}),
        json.dumps({"messages": [{"role": "user", "content": 7}]}),
        json.dumps({"messages": [{"role": "system", "content": "only"}]}),
        "[" * 100_000,
        "null",
        json.dumps({"messages": [7]}),
        '{"messages": [{"role": "user", "content": "\\ud800 half"}]}',
        '{"messages": [{"role": "user", "content": "x", "score": NaN}]}',
    ]
    path.write_bytes(
        "\n".join(lines).encode() + b'\n{"messages": [{"role": "user", "content": "caf\xe9"}]}\n\x00\x01\x02'
    )
    report = store.import_conversations(path)
    assert report.conversations == 4
    text = str(report)
    for what in ("not JSON (line 2", "no message list", "line 3", "no message in it (line 4)", "'agent'", "roles={", "line 6",
                 "nothing said in it (line 7)", "line 8", "line 9", "line 10", "line 14"):  # fmt: skip
        assert what in text, what
    assert "not Unicode" in str(report.remarks)
    assert "Windows-1252 (line 13)" in text
    assert store.messages()["content"].tolist() == [
        "Hi",
        "Hello.",
        "\N{REPLACEMENT CHARACTER} half".replace("�", "?"),
        "x",
        "café",
    ]
    assert store.verify()


def test_roles_can_be_named(store):
    line = {"messages": [{"role": "caller", "content": "Hi"}, {"role": "Agent", "content": "Ho"}]}
    assert "'caller'" in str(store.import_conversations([line]))
    store.import_conversations([line], roles={"caller": "user", "Agent": "assistant"})
    assert store.messages()["role"].tolist() == ["user", "assistant"]


def test_a_line_over_the_limit_is_passed_over(store, tmp_path):
    path = tmp_path / "a.jsonl"
    long = json.dumps({"messages": [{"role": "user", "content": "x" * 3_000_000}]})
    path.write_text(f"{json.dumps({'messages': HI})}\n{long}\n{json.dumps({'messages': [*HI, *HI]})}\n{long}")
    report = store.import_conversations(path, max_item_bytes=1_000_000)
    assert report.conversations == 2
    assert "longer than the limit (raise it with max_item_bytes=…) (line 2; line 4)" in str(report)


def test_an_array_that_breaks_off_keeps_what_came_before(store, tmp_path):
    whole = json.dumps([{"id": n, "messages": HI} for n in range(5)])
    for cut, kept in ((len(whole) - 1, 5), (len(whole) - 9, 4), (len(whole) // 2, 2), (1, 0)):
        path = tmp_path / "a.json"
        path.write_text(whole[:cut])
        with ContextStore(":memory:") as fresh:
            report = fresh.import_conversations(path, format="openai")
            assert report.conversations == kept
            assert report.skipped or report.remarks
            assert fresh.verify()


def test_an_item_over_the_limit_ends_the_reading_of_an_array(store, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps([{"messages": HI}, {"messages": [{"role": "user", "content": "x" * 9_000_000}]}], indent=1)
    )
    report = store.import_conversations(path, max_item_bytes=2_000_000)
    assert report.conversations == 1
    assert "item 2: longer than the limit" in str(report)


def test_tool_results_without_a_call_are_left_out_and_calls_without_a_result_end_their_turn(store):
    messages = [
        {"role": "tool", "content": "lost", "tool_call_id": "c0"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "user", "content": "never mind"},
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "c2"}]},
    ]
    report = store.import_conversations([{"id": "1", "messages": messages}])
    assert "tool results that no call waits for (item 1, message 0: 'c0')" in str(report)
    assert "their turns count as cut off (item 1)" in str(report)
    assert store.turns()["state"].tolist() == ["partial", "complete"], "the last one may still get its result"
    name = report.names[0]
    assert "tool_calls" not in str(
        store[name].plan([{"role": "tool", "content": "r", "tool_call_id": "c2"}]).messages[1]
    )


def test_a_clock_that_goes_backwards_changes_no_order(store):
    messages = [{**m, "created_at": at} for m, at in zip([*HI, *HI], (400.0, 300.0, 200.0, 100.0), strict=True)]
    report = store.import_conversations([{"id": "1", "messages": messages}])
    assert "clock goes backwards" in str(report.remarks)
    assert store.turns()["seq"].tolist() == [1, 2]
    assert [at.timestamp() for at in store.messages()["created_at"]] == [400, 300, 200, 100]
    assert store.conversations()["last_turn_at"].iloc[0].timestamp() == 400


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "[]", "[ ]\n"])
def test_an_empty_file_has_no_conversation(store, tmp_path, text):
    names = ("conversations.json", "a") if "[" in text else ("a.jsonl", "a.json", "a.csv", "a")
    for name in names:
        (tmp_path / name).write_text(text, encoding="utf-8")
        report = store.import_conversations(tmp_path / name)
        assert (report.conversations, report.skipped) == (0, ())


def test_what_is_no_source_is_a_typed_error(store, tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        store.import_conversations(tmp_path / "nowhere.jsonl")
    with pytest.raises(StoreError, match="directory"):
        store.import_conversations(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"\x7fELF\x02\x01")
    with pytest.raises(StoreFormatError, match="say format="):
        store.import_conversations(tmp_path / "a.bin")
    with pytest.raises(ParameterError, match="did you mean 'openai'"):
        store.import_conversations(tmp_path / "a.bin", format="opnai")
    for source in (7, None, b"x", object()):
        with pytest.raises(ParameterError, match="expected a path"):
            store.import_conversations(source)
    for settings, said in (
        ({"roles": 3}, "expected a mapping"), ({"roles": {"a": "assistent"}}, "did you mean 'assistant'"),
        ({"max_item_bytes": 0}, "expected a number of bytes"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=said):
            store.import_conversations([], **settings)
    with pytest.raises(ParameterError, match="is for rows"):
        store.import_conversations(write(tmp_path / "b.jsonl", {"messages": HI}), columns={"role": "who"})
    with pytest.raises(ParameterError, match="merge"):
        store.import_conversations(store)


def test_calls_that_nobody_answered_before_the_talk_went_on_are_a_cut_off_turn_also_where_their_id_comes_again(store):
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "content": "42", "tool_call_id": "c1"}
    messages = [called, *HI[1:], HI[0], called, result]
    store.append("a", messages)
    store.import_conversations([{"id": "1", "title": "b", "messages": messages}])
    for name in ("a", "b"):
        turns = store[name].turns()
        assert turns["state"].to_list() == ["partial", "complete"]
        assert turns["error"].to_list()[0] == "tool calls that have no result"
    assert store["b"].plan("and?").messages == store["a"].plan("and?").messages
    assert store.verify()


@pytest.mark.parametrize("tail", ['1,assistant,"The answer is 42, but you mus', '1,assistant,"a\n2,user,b\n3,user,c\n'])
def test_a_table_that_ends_inside_a_field_says_so(store, tmp_path, tail):
    (tmp_path / "t.csv").write_text("conversation,role,content\n1,user,hello\n" + tail)
    report = store.import_conversations(tmp_path / "t.csv")
    assert report.messages == 2
    assert store.messages()["content"].iloc[-1] == tail.partition('"')[2]
    assert "a quoted field that never ends" in str(report)
    assert "from line 3" in str(report)
