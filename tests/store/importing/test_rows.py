"""Rows of messages from frames and files: any order, any names, gaps and all."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from voxnb.errors import ParameterError, StoreFormatError
from voxnb.store.context_store import ContextStore
from voxnb.store.importing.clock import seconds_of


@pytest.fixture
def store():
    with ContextStore(":memory:") as found:
        yield found


FRAME = pd.DataFrame(
    {
        "session": ["a", "b", "a", "a", "b"],
        "who": ["customer", "customer", "agent", "customer", "agent"],
        "said": ["Hi", "Yo", "Hello.", "Bye", "Ho"],
        "at": pd.to_datetime(
            ["2024-05-01 10:00", "2024-05-01 10:01", "2024-05-01 10:02", None, "2024-05-01 10:04"], utc=True
        ),
        "engine": [None, None, "gpt-4o", None, "gpt-4"],
    }
)
COLUMNS = {"conversation": "session", "role": "who", "content": "said", "created_at": "at", "model": "engine"}
ROLES = {"customer": "user", "agent": "assistant"}


def written(path, frame):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet", "dicts", "generator"])
def test_rows_of_several_conversations_may_be_mixed(store, tmp_path, kind):
    source = {
        "frame": lambda: FRAME,
        "csv": lambda: written(tmp_path / "a.csv", FRAME),
        "parquet": lambda: written(tmp_path / "a.parquet", FRAME),
        "dicts": lambda: FRAME.to_dict("records"),
        "generator": lambda: iter(FRAME.to_dict("records")),
    }[kind]()
    report = store.import_conversations(source, columns=COLUMNS, roles=ROLES)
    assert (report.conversations, report.turns, report.messages) == (2, 3, 5)
    assert report.skipped == report.remarks == ()
    turns = store.turns()
    assert turns[["user_text", "reply_text"]].fillna("").to_numpy().tolist() == [
        ["Hi", "Hello."],
        ["Bye", ""],
        ["Yo", "Ho"],
    ]
    assert turns["model"].tolist()[::2] == ["gpt-4o", "gpt-4"]
    assert turns["created_at"].iloc[0].isoformat() == "2024-05-01T10:00:00+00:00"
    assert list(store) == ["a", "b"]
    again = store.import_conversations(FRAME, columns=COLUMNS, roles=ROLES)
    assert again.known == 2, "wherever they came from first"
    assert store.verify()


def test_well_known_names_are_found_without_being_said(store):
    frame = FRAME.rename(columns={"session": "Session_ID", "who": "Speaker", "said": "text", "at": "timestamp"})
    report = store.import_conversations(frame, roles=ROLES)
    assert report.conversations == 2
    assert store.turns()["created_at"].iloc[0].year == 2024


def test_without_a_conversation_column_it_is_one(store, tmp_path):
    frame = pd.DataFrame({"role": ["user", "assistant"], "content": ["Hi", "Ho"]})
    assert store.import_conversations(written(tmp_path / "call.csv", frame)).names == ("call",)
    assert store.import_conversations(frame, copy=True).names == ("frame",)


def test_our_own_tables_come_back(store, tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    store.append("a", [
        {"role": "user", "content": [{"type": "text", "text": "sieh"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "4\r\n2", "tool_call_id": "c1"},
        {"role": "assistant", "content": 'a "quoted", text\n'},
    ])  # fmt: skip
    store.append("b", [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "refusal": "no"},
    ])  # fmt: skip
    columns = [
        "turn_seq",
        "position",
        "role",
        "content",
        "parts",
        "tokens",
        "content_hash",
        "tool_calls",
        "tool_call_id",
        "reasoning",
        "refusal",
    ]
    for suffix in (".csv", ".parquet"):
        path = store.export_conversations(tmp_path / f"all{suffix}")
        with ContextStore(":memory:") as other:
            report = other.import_conversations(path)
            (made_anew,) = report.remarks
            assert made_anew.reason == "columns of our own table that are made anew (ids, counts, hashes)"
            assert made_anew.places[:3] == ("message_id", "turn_id", "conversation_id")
            assert report.skipped == ()
            assert list(other) == ["a", "b"]
            pd.testing.assert_frame_equal(other.messages(columns=columns), store.messages(columns=columns))


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_a_turn_that_only_answers_or_only_asks_stays_one(tmp_path, kind):
    def said(role, *texts):
        return [{"role": role, "content": text} for text in texts]

    with ContextStore(":memory:") as before, ContextStore(":memory:") as after:
        before.append("a", said("user", "Hi") + said("assistant", "Hello."))
        before.append("a", said("assistant", "Are you there?"))
        before.append("a", said("user", "", "Yes."))
        before.append("a", said("user", "Go on.") + said("assistant", ""))
        before.append("a", said("assistant", ""))
        source = before.messages() if kind == "frame" else before.export_conversations(tmp_path / f"a.{kind}").path
        after.import_conversations(source)
        columns = ["turn_seq", "position", "role", "content"]
        assert after.messages()[columns].equals(before.messages()[columns])
        assert after.turns()["seq"].tolist() == [1, 2, 3, 4, 5]


def test_a_position_that_is_not_that_in_a_turn_parts_nothing(store):
    rows = [{"role": role, "text": role, "position": 0} for role in ("user", "assistant", "user", "assistant")]
    rows.insert(2, {"role": "tool", "text": "3", "position": 0, "tool_call_id": "c"})
    rows[1]["tool_calls"] = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    store.import_conversations(rows)
    assert store.messages()["turn_seq"].tolist() == [1, 2, 2, 3, 4]


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet", "dicts"])
def test_columns_that_are_none_of_a_message_are_named(store, tmp_path, kind):
    frame = pd.DataFrame({"role": ["user", "assistant"], "content": ["Hi", "Ho"], "rating": [5, 4], "mail": ["x", "y"]})
    source = {
        "frame": lambda: frame,
        "csv": lambda: written(tmp_path / "a.csv", frame),
        "parquet": lambda: written(tmp_path / "a.parquet", frame),
        "dicts": lambda: [*frame[["role", "content", "rating"]].to_dict("records"), *frame.to_dict("records")],
    }[kind]()
    (remark,) = store.import_conversations(source).skipped
    assert str(remark) == "2 × columns that a message has no place for (rating; mail)"


def test_reasoning_and_refusals_have_columns(store):
    rows = [
        {"role": "user", "content": "Hi", "reasoning": None, "refusal": None},
        {"role": "assistant", "content": "", "reasoning": "hm", "refusal": "I will not."},
    ]
    assert store.import_conversations(rows).skipped == ()
    assert store.messages(columns=["reasoning", "refusal"]).iloc[1].tolist() == ["hm", "I will not."]


def test_a_frame_with_a_list_of_messages_per_row_is_conversations(store, tmp_path):
    rows = [[{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": "Ho"}] for n in range(3)]
    frame = pd.DataFrame({"id": [7, 8, 9], "messages": rows})
    assert store.import_conversations(frame).conversations == 3
    assert store.import_conversations(written(tmp_path / "a.parquet", frame), copy=True).turns == 3


def test_a_redacted_tool_loop_costs_only_the_rows_that_no_call_belongs_to(store, tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    store.append("a", [
        {"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"}, {"role": "assistant", "content": "42."},
    ])  # fmt: skip
    store.append("a", [{"role": "user", "content": "kept"}])
    store["a"].redact(1)
    path = store.export_conversations(tmp_path / "all.csv")
    with ContextStore(":memory:") as other:
        report = other.import_conversations(path)
        assert [str(remark) for remark in report.skipped] == [
            "1 × rows of tools that do not say which call they answer (line 4)"
        ]
        assert other.turns()["user_text"].tolist() == ["[redacted]", "kept"]
        assert other.verify()


def test_gaps_are_said_and_their_rows_passed_over(store):
    frame = pd.DataFrame(
        {
            "conversation": ["a", None, "a", "a", "a", "a"],
            "role": ["user", "user", None, "assistant", "user", "assistant"],
            "content": ["Hi", "x", "x", np.nan, pd.NA, 7.0],
            "created_at": [pd.NaT, None, None, "soon", np.nan, -5],
        },
        dtype=object,
    )
    report = store.import_conversations(frame)
    assert (report.conversations, report.messages) == (1, 2)
    text = str(report)
    for what in ("do not say whose message they are (row 2)", "rows without a role (row 3)", "rows without content (row 4; row 5)",
                 "times that are none (row 6: '-5')"):  # fmt: skip
        assert what in text, text
    assert store.messages()["content"].tolist() == ["Hi", "7"]


def test_numbers_and_tuples_as_conversation_ids(store):
    frame = pd.DataFrame({"conversation": [1.0, 2.0, 1.0], "role": ["user"] * 3, "content": list("abc")})
    assert store.import_conversations(frame).names == ("1", "2")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"rôle": "who"}, "did you mean 'role'"),
        ({"role": "wo"}, "did you mean 'who'"),
        ({"role": "who", "content": "sayd"}, "did you mean 'said'"),
        (None, "no column looks like 'role'"),
        ({"role": "who"}, "no column looks like 'content'"),
    ],
)
@pytest.mark.parametrize("kind", ["frame", "csv", "parquet"])
def test_wrong_columns_name_the_nearest(store, tmp_path, columns, said, kind):
    source = FRAME if kind == "frame" else written(tmp_path / f"a.{kind}", FRAME)
    with pytest.raises(ParameterError, match=said):
        store.import_conversations(source, columns=columns)
    assert len(store) == 0


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet"])
def test_a_column_that_is_there_twice_is_not_guessed(store, tmp_path, kind):
    twice = pd.DataFrame([["user", "Hi", "Ho"]], columns=["role", "text", "text"])
    if kind == "csv":
        twice.to_csv(tmp_path / "a.csv", index=False)
    if kind == "parquet":
        columns = [pa.array([value]) for value in ("user", "Hi", "Ho")]
        pq.write_table(pa.Table.from_arrays(columns, names=list(twice.columns)), tmp_path / "a.parquet")
    with pytest.raises(ParameterError, match="the column 'text' is there 2 times; rename all but one"):
        store.import_conversations(twice if kind == "frame" else tmp_path / f"a.{kind}")
    assert len(store) == 0


def test_columns_that_are_not_taken_may_have_one_name(store):
    report = store.import_conversations(pd.DataFrame([["user", "Hi", 1, 2]], columns=["role", "text", "x", "x"]))
    assert [(remark.count, remark.places) for remark in report.skipped] == [(2, ("x", "x"))]
    assert report.messages == 1


@pytest.mark.parametrize("kind", ["frame", "dicts"])
def test_messages_as_the_api_has_them_keep_their_parts(store, kind):
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "u"}}]
    said = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}]
    store.import_conversations(pd.DataFrame(said) if kind == "frame" else said)
    (held, none) = store.messages()["parts"]
    assert json.loads(held) == parts
    assert pd.isna(none)
    assert store.turns()["user_text"].tolist() == ["see"]


def test_columns_that_are_no_mapping_and_one_without_a_name_are_told(store, tmp_path):
    (tmp_path / "a.csv").write_text(",role,content\n0,user,Hi\n")
    for source in (tmp_path / "a.csv", FRAME, [{"role": "user", "content": "Hi"}]):
        with pytest.raises(ParameterError, match="expected a mapping like"):
            store.import_conversations(source, columns=["role"])
    (remark,) = store.import_conversations(tmp_path / "a.csv").skipped
    assert remark.places == ("one without a name",)


def test_an_empty_frame_has_no_conversation(store):
    assert store.import_conversations(FRAME.iloc[:0], columns=COLUMNS).conversations == 0
    assert store.import_conversations([]).conversations == 0


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_as_spreadsheets_write_it(store, tmp_path, delimiter, encoding):
    path = tmp_path / "a.csv"
    text = f'role{delimiter}content\r\nuser{delimiter}"Zürich; 1,5\r\nnext ""line"""\r\n\r\nassistant{delimiter}Ja\r\n'
    path.write_bytes(text.encode(encoding))
    report = store.import_conversations(path, format="csv")
    assert report.skipped == report.remarks == ()
    assert store.messages()["content"].tolist() == ['Zürich; 1,5\r\nnext "line"', "Ja"]


def test_a_line_that_names_the_delimiter_is_none_of_names(store, tmp_path):
    (tmp_path / "a.csv").write_text("sep=|\nrole|content\nuser|a, b; c\n")
    store.import_conversations(tmp_path / "a.csv")
    assert store.turns()["user_text"].tolist() == ["a, b; c"]


def test_csv_of_mixed_encodings_and_lengths(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        "role,content\nuser,für\n".encode() + b"user,f\xfcr\nuser\nuser,a,b\nuser,a\0b\n" + b'assistant,"never closed\n'
    )
    report = store.import_conversations(path)
    assert store.messages()["content"].tolist() == ["für", "für", "a\0b", "never closed\n"]
    assert "Windows-1252 (line 3)" in str(report)
    assert "another number of fields (line 4: 1, expected 2; line 5: 3, expected 2)" in str(report)


def test_a_csv_line_over_the_limit_is_passed_over(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("role,content\nuser,Hi\nuser," + "x" * 500_000 + "\nassistant,Ho\n")
    report = store.import_conversations(path, max_item_bytes=200_000)
    assert store.messages()["content"].tolist() == ["Hi", "Ho"]
    assert "longer than the limit" in str(report)
    assert store.import_conversations(path, copy=True).messages == 3, "a long text is no error by itself"


def test_a_parquet_file_that_was_cut_off_is_a_typed_error(store, tmp_path):
    path = written(tmp_path / "a.parquet", FRAME)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreFormatError, match="Parquet"):
        store.import_conversations(path, columns=COLUMNS)


# -- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1714557600, 1714557600.0), (1714557600.5, 1714557600.5), (1714557600500, 1714557600.5), (1714557600500000, 1714557600.5),
        (1714557600500000000, 1714557600.5), ("1714557600", 1714557600.0), ("2024-05-01T10:00:00+00:00", 1714557600.0),
        ("2024-05-01 12:00:00+02:00", 1714557600.0), ("2024-05-01 10:00:00 UTC", 1714557600.0), ("2024-05-01", 1714521600.0),
        (pd.Timestamp("2024-05-01 10:00"), 1714557600.0), (np.int64(1714557600), 1714557600.0), (pd.NaT, None), (np.nan, None),
        (float("inf"), None), (-1, None), (0, None), (True, None), ("", None), ("yesterday", None), (1e40, None), ([], None),
    ],
)  # fmt: skip
def test_points_in_time(value, seconds):
    assert seconds_of(value) == seconds


def test_rows_say_what_json_they_hold(store):
    row = {
        "role": "assistant",
        "content": "",
        "tool_calls": json.dumps([{"id": "c", "type": "function", "function": {"name": "f"}}]),
    }
    store.import_conversations(
        [{"role": "user", "content": "x"}, row, {"role": "tool", "content": "1", "tool_call_id": "c"}]
    )
    assert store.messages()["tool_call_id"].fillna("").tolist() == ["", "", "c"]
    store.import_conversations([{"role": "user", "content": "x", "tool_calls": "not json"}])
    assert store.verify()


def test_dicts_may_lack_what_they_do_not_need(store):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    items = [
        {"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "c"}, {"content": "whose?"}, {"role": "user"}, "text", 7,
    ]  # fmt: skip
    report = store.import_conversations(items)
    assert report.messages == 3
    assert "without a role (item 4)" in str(report)
    assert "without content (item 5)" in str(report)
    assert "neither a dict nor a list of dicts (item 6: str; item 7: int)" in str(report)
    with pytest.raises(ParameterError, match="did you mean 'role'"):
        store.import_conversations(items, columns={"role": "rle"})
