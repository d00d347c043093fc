"""The llm command's logs in each of their three forms, read without touching them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from voxnb.errors import StoreFormatError
from voxnb.store.context_store import ContextStore

WHEN = "2024-05-01T10:00:00.500000+00:00"
PNG = b"\x89PNG\r\n\x1a\n"

OLDEST = """
CREATE TABLE logs (id INTEGER PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT,
  response TEXT, response_json TEXT, reply_to_id INTEGER, chat_id INTEGER, duration_ms INTEGER, datetime_utc TEXT);
INSERT INTO logs VALUES (1, 'gpt-3.5-turbo', 'Hi', 'Be kind', NULL, NULL, 'Hello.', NULL, NULL, NULL, 120, '2023-06-01 10:00:00');
INSERT INTO logs VALUES (2, 'gpt-4', 'Alone', NULL, NULL, NULL, 'Yes.', NULL, NULL, NULL, 90, '2023-06-01 10:01:00');
INSERT INTO logs VALUES (3, 'gpt-3.5-turbo', 'Bye', 'Be kind', NULL, NULL, 'Bye.', NULL, 1, 1, 80, '2023-06-01 10:02:00');
"""
FIRST = """
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT,
  response TEXT, response_json TEXT, conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT);
INSERT INTO conversations VALUES ('01a', 'Hi', 'gpt-4');
INSERT INTO responses VALUES ('01r', 'gpt-4', 'Hi', 'Be kind', NULL, NULL, 'Hello.', NULL, '01a', 120, '2024-05-01T10:00:00.500000');
INSERT INTO responses VALUES ('02r', 'gpt-4', 'Bye', 'Be curt', NULL, NULL, NULL, NULL, '01a', 80, '2024-05-01T10:00:05');
"""
LATER = """
ALTER TABLE responses ADD COLUMN reasoning TEXT;
ALTER TABLE responses ADD COLUMN resolved_model TEXT;
CREATE TABLE attachments (id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
CREATE TABLE fragments (id INTEGER PRIMARY KEY, hash TEXT, content TEXT);
CREATE TABLE prompt_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
CREATE TABLE system_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
CREATE TABLE tool_calls (id INTEGER PRIMARY KEY, response_id TEXT, tool_id INTEGER, name TEXT, arguments TEXT, tool_call_id TEXT);
CREATE TABLE tool_results (id INTEGER PRIMARY KEY, response_id TEXT, tool_id INTEGER, name TEXT, output TEXT, tool_call_id TEXT);
INSERT INTO responses VALUES ('03r', 'm', 'add', NULL, NULL, NULL, '', NULL, '01a', 1, '2024-05-01T10:00:06', 'hm', 'm-2');
INSERT INTO tool_calls VALUES (1, '03r', 1, 'add', '{"a":1}', NULL), (2, '03r', 1, 'mul', '{}', 'c2');
INSERT INTO responses VALUES ('04r', 'm', '', NULL, NULL, NULL, 'Three.', NULL, '01a', 1, '2024-05-01T10:00:07', NULL, NULL);
INSERT INTO tool_results VALUES (1, '04r', 1, 'add', '3', NULL), (2, '04r', 1, 'mul', '4', 'c2');
INSERT INTO responses VALUES ('05r', 'm', 'see', NULL, NULL, NULL, 'I see.', NULL, '01a', 1, '2024-05-01T10:00:08', NULL, NULL);
INSERT INTO attachments VALUES ('a1', 'image/png', NULL, NULL, x'89504e47'), ('a2', 'image/png', NULL, 'https://e.example/x.png', NULL),
  ('a3', 'text/x', '/nowhere/y', NULL, NULL);
INSERT INTO prompt_attachments VALUES ('05r', 'a1', 0), ('05r', 'a2', 1), ('05r', 'a3', 2);
INSERT INTO fragments VALUES (1, 'h', 'a long text');
INSERT INTO prompt_fragments VALUES ('05r', 1, 0);
"""
NEWEST = """
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT, provider_metadata TEXT);
CREATE TABLE parts (id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, tool_name TEXT, text TEXT, payload TEXT);
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT, forked_from TEXT, datetime_utc TEXT);
CREATE TABLE turns (id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT, model TEXT,
  resolved_model TEXT, options_json TEXT, duration_ms INTEGER, datetime_utc TEXT);
CREATE TABLE IF NOT EXISTS fragments (id INTEGER PRIMARY KEY, hash TEXT, content TEXT);
CREATE TABLE IF NOT EXISTS attachments (id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
INSERT OR IGNORE INTO fragments VALUES (1, 'h', 'a long text');
INSERT OR IGNORE INTO attachments VALUES ('a1', 'image/png', NULL, NULL, x'89504e47');
"""
CHAIN = [
    ("system", [("text", None, "Be kind", None)]),
    ("user", [("text", None, None, {"text_ref": [{"fragment": 1}, {"literal": "\nsum it up"}]}), ("attachment", None, None, {"attachment": {"id": "a1"}})]),
    ("assistant", [("reasoning", None, "hm", None), ("tool_call", "add", None, {"name": "add", "arguments": {"a": 1}, "tool_call_id": "c1"}),
                   ("tool_call", "mul", None, {"name": "mul", "arguments": {}})]),
    ("tool", [("tool_result", "add", None, {"name": "add", "output": "3", "tool_call_id": "c1"}), ("tool_result", "mul", None, {"name": "mul", "output": "", "exception": "boom"})]),
    ("assistant", [("text", None, "Three.", None)]),
]  # fmt: skip


def add_threads(path):
    with closing(sqlite3.connect(path)) as c:
        c.executescript(NEWEST)
        parent = None
        for n, (role, parts) in enumerate(CHAIN):
            c.execute("INSERT INTO messages VALUES (?, ?, ?, NULL)", (f"b2:{n}", parent, role))
            parent = f"b2:{n}"
            for position, (kind, tool, text, payload) in enumerate(parts):
                held = None if payload is None else json.dumps(payload)
                c.execute(
                    "INSERT INTO parts VALUES (NULL, ?, ?, ?, ?, ?, ?)", (parent, position, kind, tool, text, held)
                )
        c.execute("INSERT INTO threads VALUES ('01t', 'A thread', ?, NULL, ?)", (parent, WHEN))
        c.execute("INSERT INTO turns VALUES ('1', '01t', 'b2:0', 'b2:2', 'm', NULL, NULL, 12, ?)", (WHEN,))
        c.execute(
            "INSERT INTO turns VALUES ('2', '01t', 'b2:2', 'b2:4', 'm', 'm-2', NULL, 13, '2024-05-01T10:00:09+00:00')"
        )
        c.execute(
            "INSERT INTO turns VALUES ('3', '01t', 'b2:2', 'b2:gone', 'm', 'm-2', NULL, 13, '2024-05-01T10:00:08+00:00')"
        )
        c.commit()


def log(path, *scripts):
    with closing(sqlite3.connect(path)) as c:
        for script in scripts:
            c.executescript(script)
    return path


@pytest.fixture
def store():
    with ContextStore(":memory:") as found:
        yield found


def test_the_first_tables_form(store, tmp_path):
    report = store.import_conversations(log(tmp_path / "logs.db", OLDEST))
    assert (report.format, report.conversations, report.turns) == ("llm", 2, 3)
    turns = store.turns()
    assert turns[["user_text", "reply_text"]].to_numpy().tolist() == [
        ["Hi", "Hello."],
        ["Bye", "Bye."],
        ["Alone", "Yes."],
    ]
    assert turns["model"].tolist() == ["gpt-3.5-turbo", "gpt-3.5-turbo", "gpt-4"]
    assert turns["duration_ms"].tolist() == [120, 80, 90]
    first = store[report.names[0]]
    assert first.plan().messages[0] == {"role": "system", "content": "Be kind"}


@pytest.mark.parametrize("later", [False, True])
def test_conversations_of_responses(store, tmp_path, later):
    report = store.import_conversations(log(tmp_path / "logs.db", FIRST, *[LATER] * later))
    assert report.names == ("Hi",)
    assert report.skipped == ()
    said = store["Hi"].plan().messages
    assert said[:2] == [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    roles = store.messages()["role"].tolist()
    assert roles[:5] == ["user", "assistant", "system", "user", "assistant"], (
        "a new system prompt stays where it was said"
    )
    assert store.turns()["created_at"].iloc[0].isoformat() == "2024-05-01T10:00:00.500000+00:00"
    if not later:
        return
    assert roles[5:] == ["user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
    messages = store.messages()
    calls = json.loads(messages["tool_calls"].iloc[6])
    assert [call["id"] for call in calls] == ["03r.0", "c2"]
    assert messages["tool_call_id"].iloc[7:9].tolist() == ["03r.0", "c2"]
    parts = json.loads(messages["parts"].iloc[10])
    assert [part["type"] for part in parts] == ["text", "image_url", "image_url", "text"]
    assert parts[0]["text"] == "a long text\nsee"
    assert parts[1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert parts[3]["text"] == "[text/x: /nowhere/y]"
    assert "attachments that are not in the log" in str(report)
    assert store.turns()["model"].tolist()[-2] == "m"
    assert store.verify()


STRAYS = """
INSERT INTO responses VALUES ('03r', 'gpt-4', 'One', NULL, NULL, '{"temperature": 1}', 'Eins.', '{"id": 1}', 'gone', 1, '2024-05-01T10:01:00');
INSERT INTO responses VALUES ('04r', 'gpt-4', 'Alone', NULL, NULL, '{}', 'Ja.', NULL, NULL, 1, '2024-05-01T10:01:01');
INSERT INTO responses VALUES ('05r', 'gpt-4', 'Alone too', NULL, NULL, '{}', 'Ja.', NULL, NULL, 1, '2024-05-01T10:01:02');
INSERT INTO responses VALUES ('06r', 'gpt-4', 'Two', NULL, NULL, '{}', 'Zwei.', NULL, 'gone', 1, '2024-05-01T10:01:03');
INSERT INTO conversations VALUES ('02a', 'Empty', 'gpt-4');
"""


def test_responses_whose_conversation_has_no_row_are_imported(store, tmp_path):
    path = log(tmp_path / "logs.db", FIRST, STRAYS)
    report = store.import_conversations(path)
    assert (report.conversations, report.turns) == (4, 6)
    asked = store.turns(columns=["conversation_id", "user_text"]).groupby("conversation_id")["user_text"].agg(list)
    assert sorted(asked) == [["Alone"], ["Alone too"], ["Hi", "Bye"], ["One", "Two"]]
    (remark,) = report.remarks
    assert (remark.count, remark.places) == (3, ("conversation 04r", "conversation 05r", "conversation gone"))
    assert [str(skipped) for skipped in report.skipped] == [
        "1 × conversations without a response (conversation 02a)",
        "1 × options_json of answers: a conversation has no place for it (response 03r)",
        "1 × response_json of answers: a conversation has no place for it (response 03r)",
    ]
    assert store.import_conversations(path).known == 4


def test_a_turn_whose_thread_has_no_row_is_reported(store, tmp_path):
    add_threads(tmp_path / "logs.db")
    log(
        tmp_path / "logs.db",
        "INSERT INTO turns VALUES ('9', 'gone', NULL, 'b2:4', 'm', NULL, '{\"top_p\": 1}', 1, NULL);",
        "UPDATE turns SET options_json = '{\"top_p\": 1}' WHERE id = '1'",
    )
    report = str(store.import_conversations(tmp_path / "logs.db"))
    assert "1 × turns whose thread has no row (turn 9)" in report
    assert "1 × options_json of answers: a conversation has no place for it (thread 01t, turn 1)" in report


def test_how_a_tool_failed_is_its_result(store, tmp_path):
    failed = "ALTER TABLE tool_results ADD COLUMN exception TEXT; UPDATE tool_results SET output = '', exception = 'boom' WHERE id = 1"
    store.import_conversations(log(tmp_path / "logs.db", FIRST, LATER, failed))
    assert store.messages()["content"].tolist()[7:9] == ["boom", "4"]


def test_threads_of_messages(store, tmp_path):
    add_threads(tmp_path / "logs.db")
    report = store.import_conversations(tmp_path / "logs.db")
    assert (report.conversations, report.turns, report.messages) == (1, 1, 5)
    assert "1 × answers that were tried again or left behind" in str(report)
    messages = store["A thread"].messages()
    assert messages["role"].tolist() == ["user", "assistant", "tool", "tool", "assistant"]
    parts = json.loads(messages["parts"].iloc[0])
    assert (parts[0]["text"], parts[1]["type"]) == ("a long text\nsum it up", "image_url")
    assert messages["content"].tolist()[2:] == ["3", "boom", "Three."]
    assert messages["created_at"].iloc[0].isoformat() == WHEN
    (turn,) = store.turns().to_dict("records")
    assert (turn["model"], turn["state"]) == ("m-2", "complete")
    assert store["A thread"].plan().messages[0]["content"] == "Be kind"


def test_what_a_thread_is_tied_together_by_is_no_loss(store, tmp_path):
    add_threads(tmp_path / "logs.db")
    tied = """
    CREATE TABLE part_attachments (part_id INTEGER, attachment_id TEXT, "order" INTEGER);
    CREATE TABLE part_fragments (part_id INTEGER, fragment_id INTEGER, "order" INTEGER);
    CREATE TABLE turn_fragments (turn_id TEXT, fragment_id INTEGER, "order" INTEGER, kind TEXT);
    CREATE TABLE turn_search (id INTEGER PRIMARY KEY, turn_id TEXT, prompt TEXT, response TEXT);
    INSERT INTO part_attachments VALUES (3, 'a1', 0);
    INSERT INTO part_fragments VALUES (2, 1, 0);
    INSERT INTO fragments VALUES (2, 'i', 'of the second turn alone');
    INSERT INTO turn_fragments VALUES ('1', 1, 0, 'prompt'), ('2', 2, 0, 'system');
    INSERT INTO turn_search VALUES (1, '1', 'sum it up', 'Three.');
    """
    report = store.import_conversations(log(tmp_path / "logs.db", tied))
    assert [(remark.reason, remark.count) for remark in report.skipped] == [
        ("answers that were tried again or left behind", 1),
        ("fragments of turns that are in no message", 1),
    ]


def test_all_forms_in_one_file_once(store, tmp_path):
    path = log(tmp_path / "logs.db", OLDEST, FIRST, LATER)
    add_threads(path)
    before = path.read_bytes()
    report = store.import_conversations(path)
    assert report.conversations == 4
    assert store.import_conversations(path).known == 4
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["logs.db"], "not even a log beside it"
    with closing(sqlite3.connect(path)) as c:
        c.execute("INSERT INTO threads SELECT '01a', name, tip_message_hash, NULL, datetime_utc FROM threads")
        c.commit()
    with ContextStore(":memory:") as other:
        assert other.import_conversations(path).conversations == 4, "a conversation that went on as a thread comes once"


def test_a_log_that_is_being_written_can_be_read(store, tmp_path):
    path = log(tmp_path / "logs.db", "PRAGMA journal_mode=WAL;", FIRST)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE conversations SET name = 'later'")
        assert store.import_conversations(path).names == ("Hi",)
        writer.rollback()


def test_what_is_no_log_is_a_typed_error(store, tmp_path):
    with pytest.raises(StoreFormatError, match="not a log of the llm command"):
        store.import_conversations(log(tmp_path / "a.db", "CREATE TABLE x (y);"))
    with ContextStore(tmp_path / "b.db"):
        pass
    with pytest.raises(StoreFormatError, match=r"store\.merge"):
        store.import_conversations(tmp_path / "b.db")
    (tmp_path / "c.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(StoreFormatError):
        store.import_conversations(tmp_path / "c.db")
    whole = log(tmp_path / "d.db", FIRST, LATER).read_bytes()
    (tmp_path / "d.db").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreFormatError, match=r"damaged|not a SQLite"):
        store.import_conversations(tmp_path / "d.db")
    assert store.verify()


# -- meetings ---------------------------------------------------------------------------------


def test_a_meeting_is_a_conversation_of_named_users(store, tmp_path):
    meeting = {
        "topic_list": [{"topic": "t"}], "general_query_list": [{"query": "q", "answer": "a"}], "specific_query_list": [],
        "meeting_transcripts": [{"speaker": "Project Manager", "content": "Welcome."}, {"speaker": "Grad A", "content": "Hi."}],
    }  # fmt: skip
    path = tmp_path / "ES1.json"
    path.write_text(json.dumps(meeting, indent=4))
    report = store.import_conversations(path)
    assert (report.format, report.names, report.turns) == ("qmsum", ("ES1",), 2)
    assert store["ES1"].plan().messages[1] == {"role": "user", "content": "Hi.", "name": "Grad_A"}
    metadata = json.loads(store.conversations()["metadata"].iloc[0])
    assert metadata["general_query_list"] == [{"query": "q", "answer": "a"}]
    lines = tmp_path / "train.jsonl"
    lines.write_text(f"{json.dumps(meeting)}\n{json.dumps({**meeting, 'meeting_transcripts': []})}\n{{}}\n")
    report = store.import_conversations(lines, format="qmsum")
    assert report.known == 1
    assert "no meeting_transcripts (line 3)" in str(report)


def test_what_a_newer_version_keeps_is_told(store, tmp_path):
    newer = """
    ALTER TABLE responses ADD COLUMN price REAL;
    UPDATE responses SET price = 0.5 WHERE id = '01r';
    CREATE TABLE future (id INTEGER PRIMARY KEY);
    INSERT INTO future VALUES (1), (2);
    CREATE TABLE empty (id INTEGER PRIMARY KEY);
    CREATE VIRTUAL TABLE responses_fts USING fts5(prompt);
    CREATE TABLE _llm_migrations (name TEXT);
    INSERT INTO _llm_migrations VALUES ('m1');
    """
    report = store.import_conversations(log(tmp_path / "logs.db", FIRST, newer))
    assert [(remark.reason.partition(":")[0], remark.count) for remark in report.skipped] == [
        ("price of responses", 1),
        ("rows of the table 'future'", 2),
    ]


def test_a_response_of_nothing_to_nothing_is_no_turn(store, tmp_path):
    empty = """
    INSERT INTO responses VALUES ('00r', 'gpt-4', NULL, NULL, NULL, NULL, NULL, NULL, '01a', 5, '2024-05-01T09:00:00');
    INSERT INTO responses VALUES ('09r', 'gpt-4', NULL, NULL, NULL, NULL, '', NULL, 'nowhere', 5, '2024-05-01T09:00:00');
    """
    report = store.import_conversations(log(tmp_path / "logs.db", FIRST, empty))
    assert (report.conversations, report.turns) == (1, 2)
    assert [(remark.count, remark.places) for remark in report.skipped] == [(2, ("response 00r", "response 09r"))]
    assert store.turns()["duration_ms"].tolist() == [120, 80]


def test_the_texts_of_one_answer_are_joined_as_llm_shows_them(store, tmp_path):
    """Without a line break that nobody wrote."""
    add_threads(tmp_path / "logs.db")
    with closing(sqlite3.connect(tmp_path / "logs.db")) as c:
        c.execute("INSERT INTO parts VALUES (NULL, 'b2:4', 1, 'text', NULL, ' Four.', NULL)")
        c.commit()
    store.import_conversations(tmp_path / "logs.db")
    assert store.turns()["reply_text"].iloc[-1] == "Three. Four."
