"""The tables as DataFrames: which rows, which columns, which dtypes, and what a filter may be."""

from __future__ import annotations

import inspect
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import voxnb
from tests.store.builder import NOON, Builder
from voxnb.errors import ParameterError
from voxnb.events import NAMESPACES, ChatCompletionsAPIEvents
from voxnb.store import tables
from voxnb.store.columns import TABLES
from voxnb.store.database import Database
from voxnb.store.frames import frame, moment, times

# The design's columns, in its order; a table may have more of them behind these.
DESIGN = {
    "conversations": "conversation_id, name, title, api, model, parent_id, fork_seq, turn_count, token_count, folds, cost_usd, "
    "metadata, created_at, last_turn_at",
    "turns": "turn_id, conversation_id, seq, state, user_text, reply_text, tokens, model, finish_reason, pinned, covered_by, "
    "cost_usd, first_token_ms, duration_ms, error, created_at",
    "messages": "message_id, turn_id, conversation_id, turn_seq, position, role, content, parts, tool_name, tool_call_id, tokens, "
    "encoding, content_hash",
    "summaries": "summary_id, conversation_id, round, previous_id, state, text, tokens, first_seq, last_seq, turn_count, prompt_id, "
    "prompt_name, prompt_version, model, reason, tokens_before, tokens_after, cost_usd, duration_ms, created_at",
    "coverage": "summary_id, conversation_id, turn_id, seq, content_hash",
    "calls": "call_id, conversation_id, turn_id, summary_id, purpose, model, base_url_host, request_id, reply_id, estimated_prompt_tokens, "
    "prompt_tokens, completion_tokens, cached_tokens, token_error, cost_usd, retries, first_token_ms, duration_ms, status, error, "
    "created_at",
    "events": "event_id, conversation_id, turn_id, seq, name, payload, created_at",
    "media": "media_id, conversation_id, turn_id",
    "prompts": "prompt_id, name, version, text, created_at",
    "notes": "note_id, target_id, label, text, created_at",
}  # fmt: skip


@pytest.fixture
def full(build):
    """Two conversations, a fork of the first, folds, an undone turn, and a row in every table."""
    iris = build.conversation("iris", title="Iris", model="m", metadata='{"team": "a"}', instructions=build.value("[]"))
    for n in range(1, 6):
        build.turn(iris, f"ask {n}", f"answer {n}", model="m", cost_usd=0.5, duration_ms=7.0)
    build.pin(iris, build.turn_at(iris, 2))
    prompt = build.value("sum up")
    build.insert("prompt", name="short", version=1, value=prompt, created_at=NOON)
    build.fold(iris, through=2, prompt=prompt, prompt_name="short", prompt_version=1)
    build.fold(iris, through=3)
    fork = build.fork(iris, "iris-2", at=4)
    build.turn(fork, "else", "other")
    build.undo(iris, to=4)
    build.turn(iris, "ask 5 again", "answer 5 again")
    other = build.conversation("other")
    build.turn(other, "hello", "there")
    turn = build.turn_at(iris, 1)
    build.call(iris, turn=turn, estimated_prompt_tokens=100, prompt_tokens=110, cost_usd=0.25)
    build.call(iris, summary=1, purpose="fold", cost_usd=0.5)
    build.event(iris, "voxnb.Context.ContextPlanned", turn=turn)
    build.media(iris, turn=turn, sample_rate_hz=8000, bytes=320)
    build.insert("note", uid="n-1", target=build.uid("turn", turn), label="wrong", text="no", created_at=NOON)
    return {"iris": iris, "fork": fork, "other": other}


def column(found, name):
    return [None if pd.isna(value) else value for value in found[name]]


# -- shape ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_a_table_begins_with_the_columns_of_the_design(db, name):
    wanted = DESIGN[name].split(", ")
    assert list(getattr(tables, name)(db).columns)[: len(wanted)] == wanted


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_table_has_the_dtypes_of_a_full_one(db, build, name, request):
    empty = getattr(tables, name)(db)
    request.getfixturevalue("full")
    full = getattr(tables, name)(db)
    assert len(empty) == 0
    assert len(full) > 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


@pytest.mark.parametrize("name", TABLES)
def test_the_dtypes_are_those_that_keep_missing_values_apart(db, name):
    for label, dtype in tables.select(db, name).dtypes.items():
        if label.endswith("_at"):
            assert dtype == "datetime64[us, UTC]"
        else:
            assert str(dtype) in {"str", "Int64", "Float64", "bool", "category"}, label


def test_only_closed_sets_are_categories(db):
    categories = {
        (name, label)
        for name in TABLES
        for label, dtype in tables.select(db, name).dtypes.items()
        if isinstance(dtype, pd.CategoricalDtype)
    }
    assert categories == {("turns", "state"), ("messages", "role"), ("summaries", "state"), ("calls", "purpose")}


@pytest.mark.parametrize("name", TABLES)
def test_a_column_alone_is_the_column_of_the_whole_table(db, full, name):
    for conversation in (None, full["iris"], full["fork"]):
        whole = tables.select(db, name, conversation=conversation)
        for label in whole:
            alone = tables.select(db, name, conversation=conversation, columns=[label])
            pd.testing.assert_frame_equal(alone, whole[[label]])


def test_columns_come_in_the_order_asked_for(db, full):
    assert list(tables.turns(db, columns=["seq", "turn_id", "seq"])) == ["seq", "turn_id"]
    assert list(tables.turns(db, columns="seq")) == ["seq"]


def test_a_value_that_a_newer_program_wrote_is_shown(db, build):
    build.call(build.conversation("a"), purpose="rehearse")
    assert tables.calls(db)["purpose"].tolist() == ["rehearse"]


# -- turns ------------------------------------------------------------------------------------


def test_without_a_conversation_every_turn_comes_once(db, full):
    found = tables.turns(db)
    assert found["turn_id"].is_unique
    assert len(found) == db.read("SELECT count(*) FROM turn")[0][0] == 8


def test_the_path_of_a_conversation_leaves_out_what_was_undone(db, full):
    found = tables.turns(db, conversation=full["iris"])
    assert found["seq"].tolist() == [1, 2, 3, 4, 5]
    assert found["user_text"].tolist() == ["ask 1", "ask 2", "ask 3", "ask 4", "ask 5 again"]


def test_the_path_of_a_fork_holds_the_turns_it_inherited(db, full):
    found = tables.turns(db, conversation=full["fork"])
    assert found["user_text"].tolist() == ["ask 1", "ask 2", "ask 3", "ask 4", "else"]
    assert found["conversation_id"].tolist() == ["k-iris"] * 4 + ["k-iris-2"]


def test_a_fork_of_a_fork_after_an_undo_has_its_own_path(db, build):
    a = build.conversation("a")
    for n in range(4):
        build.turn(a, f"a{n}")
    build.undo(a, to=2)
    build.turn(a, "a2'")
    b = build.fork(a, "b", at=3)
    build.turn(b, "b3")
    c = build.fork(b, "c", at=4)
    build.turn(c, "c4")
    build.undo(b, to=1)
    assert tables.turns(db, conversation=c)["user_text"].tolist() == ["a0", "a1", "a2'", "b3", "c4"]
    assert tables.turns(db, conversation=b)["user_text"].tolist() == ["a0"]
    assert tables.turns(db)["live"].tolist() == [True, True, False, False, True, True, True]


def test_live_is_false_only_where_no_conversation_has_the_turn(db, full):
    found = tables.turns(db)
    assert found.loc[~found["live"], "user_text"].tolist() == ["ask 5"]
    assert tables.turns(db, conversation=full["fork"])["live"].all()


def test_a_turn_is_covered_by_the_summary_of_the_chain_that_was_made_from_it(db, full):
    found = tables.turns(db, conversation=full["iris"])
    assert column(found, "covered_by") == ["s-1", "s-1", "s-2", None, None]


def test_a_summary_that_is_no_longer_behind_the_head_covers_nothing(db, build):
    a = build.conversation("a")
    for n in range(4):
        build.turn(a, f"{n}")
    build.fold(a, through=2)
    build.fold(a, through=4, move=False)
    for conversation in (None, a):
        assert column(tables.turns(db, conversation=conversation), "covered_by") == ["s-1", "s-1", None, None]


def test_a_fork_from_before_a_fold_sees_its_turns_uncovered(db, build):
    a = build.conversation("a")
    for n in range(3):
        build.turn(a, f"{n}")
    build.fold(a, through=3)
    b = build.fork(a, "b", at=2)
    assert column(tables.turns(db, conversation=b), "covered_by") == [None, None]
    assert column(tables.turns(db, conversation=a), "covered_by") == ["s-1"] * 3


def test_only_a_whole_turn_that_is_still_pinned_counts_as_pinned(db, build):
    a = build.conversation("a")
    whole, part, gone = (build.turn(a, f"{n}") for n in range(3))
    build.pin(a, whole)
    build.pin(a, part, position=0)
    build.pin(a, gone, removed=2)
    b = build.fork(a, "b", at=3)
    for conversation in (None, a):
        assert tables.turns(db, conversation=conversation)["pinned"].tolist() == [True, False, False]
    assert tables.turns(db, conversation=b)["pinned"].tolist() == [False, False, False]


def test_user_text_joins_what_the_user_said_and_reply_text_is_the_last_answer(db, build):
    a = build.conversation("a")
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    build.turn(
        a,
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "first"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "let me see", "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "it is 42"},
    )
    build.turn(a, "nobody answers", state="failed")
    build.turn(a, {"role": "system", "content": "nobody asks"})
    found = tables.turns(db)
    assert column(found, "user_text") == ["first\n\nsecond", "nobody answers", None]
    assert column(found, "reply_text") == ["it is 42", None, None]


def test_missing_measures_are_missing_and_not_zero(db, build):
    build.turn(build.conversation("a"), "hi")
    (row,) = tables.turns(db)[["cost_usd", "first_token_ms", "duration_ms"]].to_numpy()
    assert all(value is pd.NA for value in row)


# -- messages ---------------------------------------------------------------------------------


def test_a_message_says_its_parts_and_its_tools(db, build):
    a = build.conversation("a")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    call = {"id": "c1", "type": "function", "function": {"name": "look_ü", "arguments": "{}"}}
    build.turn(
        a,
        {"role": "user", "content": [{"type": "text", "text": "see"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "tool", "content": "43", "tool_call_id": "c2"},
        {"role": "function", "content": "44", "name": "old"},
    )
    found = tables.messages(db)
    assert found["message_id"].tolist() == [f"t-1-1.{n}" for n in range(5)]
    assert found["content"].tolist() == ["see", "", "42", "43", "44"]
    assert '"image_url"' in found["parts"][0]
    assert column(found, "parts")[1:] == [None] * 4
    assert column(found, "tool_name") == [None, None, "look_ü", None, "old"]
    assert column(found, "tool_call_id") == [None, None, "c1", "c2", None]
    assert '"look_ü"' in found["tool_calls"][1]


def test_messages_of_a_path_come_in_the_order_they_were_said(db, full):
    found = tables.messages(db, conversation=full["fork"])
    assert found["content"].tolist()[-4:] == ["ask 4", "answer 4", "else", "other"]
    assert found["position"].tolist() == [0, 1] * 5


# -- summaries --------------------------------------------------------------------------------


def test_a_summary_is_live_where_it_is_the_head(db, build):
    a = build.conversation("a")
    for n in range(6):
        build.turn(a, f"{n}")
    build.fold(a, through=2)
    build.fold(a, through=4)
    build.fold(a, through=6, move=False)
    build.fold(a, through=6, move=False, kind="trial")
    build.fold(a, through=6, move=False, kind="stale")
    found = tables.summaries(db)
    assert found["state"].tolist() == ["superseded", "live", "superseded", "trial", "stale"]
    assert column(found, "previous_id") == [None, "s-1", "s-2", "s-2", "s-2"]


def test_a_summary_can_be_live_in_a_fork_and_superseded_where_it_was_made(db, build):
    a = build.conversation("a")
    for n in range(4):
        build.turn(a, f"{n}")
    build.fold(a, through=2)
    build.fold(a, through=4)
    b = build.fork(a, "b", at=3)
    assert tables.summaries(db)["state"].tolist() == ["live", "live"]
    assert tables.summaries(db, conversation=a)["state"].tolist() == ["superseded", "live"]
    of_fork = tables.summaries(db, conversation=b)
    assert of_fork[["summary_id", "conversation_id", "state"]].to_numpy().tolist() == [["s-1", "k-a", "live"]]
    assert tables.coverage(db, conversation=b)["turn_id"].tolist() == ["t-1-1", "t-1-2"]


def test_a_summary_names_its_prompt_by_what_the_prompt_says(db, full):
    prompts = tables.prompts(db)
    assert column(tables.summaries(db), "prompt_id") == [prompts["prompt_id"][0], None]
    assert tables.prompts(db, conversation=full["iris"])["name"].tolist() == ["short"]
    assert tables.prompts(db, conversation=full["other"])["name"].tolist() == []


def test_coverage_lists_what_each_summary_was_newly_shown(db, full):
    found = tables.coverage(db)
    assert found[["summary_id", "seq"]].to_numpy().tolist() == [["s-1", 1], ["s-1", 2], ["s-2", 3]]
    assert found["content_hash"].tolist() == [h for (h,) in db.read("SELECT hash FROM turn WHERE id <= 3 ORDER BY id")]


# -- conversations and calls ------------------------------------------------------------------


def test_a_conversation_counts_its_path_and_the_folds_behind_its_head(db, full):
    found = tables.conversations(db).set_index("name")
    assert found["turn_count"].to_dict() == {"iris": 5, "iris-2": 5, "other": 1}
    assert found["token_count"].to_dict() == {"iris": 100, "iris-2": 100, "other": 20}
    assert found["folds"].to_dict() == {"iris": 2, "iris-2": 2, "other": 0}
    assert found.loc["iris-2", ["parent_id", "fork_seq"]].tolist() == ["k-iris", 4]
    assert found.loc["iris", "cost_usd"] == 0.75
    assert found.loc["other", "cost_usd"] is pd.NA


def test_token_error_is_how_far_the_estimate_was_off(db, build):
    a = build.conversation("a")
    for estimated, reported in ((100, 110), (100, 90), (100, None), (0, 10), (None, 10)):
        build.call(a, estimated_prompt_tokens=estimated, prompt_tokens=reported)
    assert tables.calls(db)["token_error"].tolist()[:2] == pytest.approx([0.1, -0.1])
    assert tables.calls(db)["token_error"].isna().tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("name", ["calls", "events", "media"])
def test_what_belongs_to_an_inherited_turn_comes_with_the_fork(db, build, name):
    a = build.conversation("a")
    shared, later = build.turn(a, "1"), build.turn(a, "2")
    fork = build.fork(a, "b", at=1)
    own = build.turn(fork, "3")
    add = {"calls": build.call, "events": lambda k, turn=None: build.event(k, "E", turn=turn), "media": build.media}[
        name
    ]
    add(a, turn=shared)
    add(a, turn=later)
    add(a)
    add(fork, turn=own)
    select = getattr(tables, name)
    assert len(select(db)) == 4
    assert column(select(db, conversation=a), "turn_id") == ["t-1-1", "t-1-2", None]
    assert column(select(db, conversation=fork), "turn_id") == ["t-1-1", build.uid("turn", own)]


def test_notes_of_a_conversation_are_those_on_anything_in_it(db, full, build):
    for n, target in enumerate(("k-iris", "s-1", "k-other"), 2):
        build.insert("note", uid=f"n-{n}", target=target, text="x", created_at=NOON)
    assert tables.notes(db, conversation=full["iris"])["note_id"].tolist() == ["n-1", "n-2", "n-3"]
    assert tables.notes(db, conversation=full["fork"])["note_id"].tolist() == ["n-1", "n-3"]
    assert len(tables.notes(db)) == 4


# -- filters ----------------------------------------------------------------------------------


def test_a_limit_keeps_the_newest_rows_in_order(db, full):
    assert tables.turns(db, conversation=full["iris"], limit=2)["seq"].tolist() == [4, 5]
    assert tables.messages(db, limit=1)["content"].tolist() == ["there"]
    assert len(tables.turns(db, limit=0)) == 0
    assert len(tables.turns(db, limit=10**6)) == 8


@pytest.mark.parametrize("limit", [-1, 1.5, "3", True, 1 << 63])
def test_a_limit_that_is_no_number_of_rows_is_refused(db, limit):
    with pytest.raises(ParameterError, match="limit is") as caught:
        tables.turns(db, limit=limit)
    assert caught.value.name == "limit"


@pytest.mark.parametrize("name", TABLES)
def test_since_and_until_part_a_table_without_gap_or_overlap(db, full, name):
    select = getattr(tables, name)
    whole = len(select(db))
    for step in (0, 3, 5, 8, 10, 30):
        at = datetime.fromtimestamp(NOON + step, UTC)
        assert len(select(db, until=at)) + len(select(db, since=at)) == whole
    assert len(select(db, since="2026-07-31", until="2026-08-01")) == whole
    assert len(select(db, until=date(2026, 7, 31))) == 0


def test_a_window_works_beside_conversation_and_limit(db, build):
    a = build.conversation("a")
    for day in (1, 2, 3, 4):
        build.turn(a, f"{day}", created_at=datetime(2026, 1, day, tzinfo=UTC).timestamp())
    found = tables.turns(db, conversation=a, since="2026-01-02", until="2026-01-04", limit=1)
    assert found["user_text"].tolist() == ["3"]


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 7, 31, 12),  # noqa: DTZ001 - naive on purpose
        datetime(2026, 7, 31, 14, tzinfo=timezone(timedelta(hours=2))),
        "2026-07-31T12:00",
        "2026-07-31 12:00:00Z",
        "2026-07-31T07:30-04:30",
        pd.Timestamp("2026-07-31T12:00"),
        pd.Timestamp("2026-07-31T12:00", tz="UTC"),
    ],
)
def test_a_moment_may_be_written_in_many_ways(value):
    assert moment(value, name="since") == NOON


@pytest.mark.parametrize("value", ["yesterday", "", 5, 1e9, pd.NaT, True, b"2026-01-01", ["2026-01-01"], "2026-13-01"])
def test_what_is_no_moment_is_refused_by_name(db, value):
    with pytest.raises(ParameterError, match="until is") as caught:
        tables.turns(db, until=value)
    assert caught.value.name == "until"


def test_a_window_that_ends_before_it_begins_is_refused(db):
    with pytest.raises(ParameterError, match="swap"):
        tables.turns(db, since="2026-02-01", until="2026-01-01")


def test_columns_that_are_no_names_are_refused(db):
    with pytest.raises(ParameterError, match="columns is 5, expected names of columns in a list"):
        tables.turns(db, columns=5)


def test_an_unknown_column_names_the_nearest(db):
    with pytest.raises(ParameterError, match="did you mean 'user_text'") as caught:
        tables.turns(db, columns=["seq", "usertext"])
    assert caught.value.nearest[0] == "user_text"
    with pytest.raises(ParameterError, match="empty"):
        tables.turns(db, columns=[])


# -- cost -------------------------------------------------------------------------------------


def plan(db, name, **options):
    conditions = options.pop("conditions", ())
    sql = tables.statement(TABLES[name], TABLES[name].columns, conditions=conditions, **options)
    rows = db.read(f"EXPLAIN QUERY PLAN {sql}", {"conversation": 1, "limit": 5, "since": 0.0})
    return [detail for *_, detail in rows]


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("name", ["turns", "messages", "calls", "events"])
def test_one_conversation_is_found_by_index_and_comes_sorted(db, full, name, newest):
    details = plan(db, name, conversation=True, newest=newest)
    grow = {"t", "m", "v", "s", "l", "p", "x", "y", "call", "event"}
    assert [d for d in details if d.startswith("SCAN") and d.split()[1] in grow] == []
    assert not any("ORDER BY" in d for d in details)


@pytest.mark.parametrize("name", TABLES)
def test_the_newest_rows_of_all_are_not_sorted_for(db, full, name):
    assert not any("ORDER BY" in d for d in plan(db, name, newest=True))


@pytest.mark.parametrize("name", ["conversations", "summaries", "coverage", "calls", "events", "media"])
def test_what_belongs_to_a_conversation_is_found_by_index(db, full, name):
    details = plan(db, name, conversation=True)
    assert [d for d in details if d.startswith(("SCAN x", "SCAN s", "SCAN k", "SCAN call", "SCAN event"))] == []


def test_thousands_of_turns_and_summaries_cost_a_moment(db, build):
    # Quadratic cost (a chain walked per turn) took a minute at this size.
    big = build.conversation("big")
    build.many(big, 20_000)
    rows = [(n, f"s-{n}", big, n, n - 1 or None, 10 * n - 9, 10 * n) for n in range(1, 1901)]

    def work(c):
        c.executemany(
            "INSERT INTO summary (id, uid, conversation, round, previous, mark, text, tokens, first_seq, last_seq, turn_count, "
            "model, reason, tokens_before, tokens_after, created_at) VALUES (?,?,?,?,?,'m','t',1,?,?,10,'m','r',1,1,0)",
            rows,
        )
        c.execute("INSERT INTO coverage SELECT (seq + 9) / 10, seq, id, hash FROM turn WHERE seq <= 19000")
        c.execute("UPDATE conversation SET head = 1900, folded_to = 19000")

    db.write(work).result()
    steps = 0

    def count():
        nonlocal steps
        steps += 1
        return 0

    for conversation in (None, big):
        with db.reader() as c:
            c.set_progress_handler(count, 1000)
        try:
            found = tables.turns(db, conversation=conversation)
        finally:
            with db.reader() as c:
                c.set_progress_handler(None, 0)
        assert found["covered_by"].count() == 19_000
        assert found["covered_by"].iloc[-1001] == "s-1900"
        # Machine steps, which do not depend on how busy the machine is: some hundred per turn and column.
        assert steps * 1000 < 20_000 * 1000
        steps = 0


# -- frames -----------------------------------------------------------------------------------

SECONDS = st.none() | st.floats(-1e10, 1e10, allow_nan=False)


@settings(max_examples=200)
@given(st.lists(SECONDS, max_size=20))
def test_times_are_the_microseconds_of_the_seconds(seconds):
    found = times(seconds)
    assert found.dtype == "datetime64[us, UTC]"
    for value, at in zip(seconds, found, strict=True):
        if value is None:
            assert at is pd.NaT
        else:
            assert abs(at.asm8.view("i8") / 1e6 - value) < 2e-6


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.text(st.characters(codec="utf-8")),
            st.none() | st.sampled_from(["a", "b", "new"]),
        ),
        max_size=12,
    )
)
def test_a_frame_holds_what_the_rows_hold(rows):
    kinds = {"n": "Int64", "x": "Float64", "s": "str", "c": ("a", "b")}
    found = frame(kinds, rows)
    assert [str(dtype) for dtype in found.dtypes] == ["Int64", "Float64", "str", "category"]
    back = [tuple(None if pd.isna(v) else v for v in row) for row in found.itertuples(index=False)]
    assert back == rows


def test_a_number_that_a_float_cannot_hold_stays_exact():
    assert frame({"n": "Int64"}, [(None,), ((1 << 53) + 1,)])["n"][1] == (1 << 53) + 1


# -- events -----------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", NAMESPACES.values(), ids=list(NAMESPACES))
def test_a_namespace_is_a_table(namespace):
    found = tables.event_table(namespace)
    assert list(found.columns) == ["constant", "value", "wire_type"]
    assert found["value"].tolist() == [event.value for event in namespace]
    assert {str(dtype) for dtype in found.dtypes} == {"str"}


def test_a_namespace_shows_its_own_table():
    found = ChatCompletionsAPIEvents.table().set_index("constant")
    assert found.loc["ContentDelta", "wire_type"] == "content.delta"
    assert pd.isna(found.loc["Unknown", "wire_type"])


# -- a law ------------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(st.sampled_from(["say", "undo", "fork", "fold"]), st.integers(0, 99), st.integers(0, 99)), max_size=25
)


@settings(max_examples=60)
@given(MOVES)
def test_whatever_is_forked_undone_and_folded_the_tables_know_each_path(moves):
    store = Database(":memory:")
    try:
        build = Builder(store)
        paths = {build.conversation("c0"): []}
        said = []
        covered: dict[int, int] = dict.fromkeys(paths, 0)
        for n, (move, a, b) in enumerate(moves):
            key = list(paths)[a % len(paths)]
            at = b % (len(paths[key]) + 1)
            if move == "say":
                build.turn(key, f"said {n}")
                said.append(f"said {n}")
                paths[key] = [*paths[key], f"said {n}"]
            elif move == "undo":
                build.undo(key, to=at)
                paths[key] = paths[key][:at]
            elif move == "fork":
                fork = build.fork(key, f"fork {n}", at=at)
                paths[fork] = paths[key][:at]
            elif at > covered.get(key, 0):
                build.fold(key, through=at)
            covered = dict(store.read("SELECT id, folded_to FROM conversation"))
        every = tables.turns(store)
        assert sorted(every["user_text"]) == sorted(said)
        alive = {text for path in paths.values() for text in path}
        assert set(every.loc[every["live"], "user_text"]) == alive
        for key, path in paths.items():
            found = tables.turns(store, conversation=key)
            assert found["user_text"].tolist() == path
            assert found["seq"].tolist() == list(range(1, len(path) + 1))
            assert found["covered_by"].notna().tolist() == [seq <= covered[key] for seq in found["seq"]]
            assert tables.messages(store, conversation=key)["content"].tolist() == path
    finally:
        store.close()


@pytest.mark.parametrize("home", [voxnb.ContextStore, voxnb.Conversation])
def test_the_tooltip_of_a_table_names_its_columns_and_filters(home):
    for name, spec in TABLES.items():
        if name == "conversations" and home is voxnb.Conversation:
            continue
        method = getattr(home, name)
        assert [c for c in spec.columns if c not in inspect.getdoc(method)] == []
        assert list(inspect.signature(method).parameters)[-4:] == ["since", "until", "limit", "columns"]


@pytest.mark.parametrize("thought", ["a\0b", "\0", r"a\u0000b", "a\0" + r"\\u0000", "a\0\\n\\", "a\ufdd0"])
def test_a_thought_and_a_refusal_are_whole_also_beyond_a_nul(thought):
    said = {"role": "assistant", "content": "x", "reasoning_content": thought, "refusal": thought}
    with voxnb.ContextStore(":memory:") as store:
        store.append("a", [{"role": "user", "content": "Hi"}, said])
        assert store.messages()[["reasoning", "refusal"]].to_numpy().tolist()[1] == [thought, thought]
        assert store.sql("SELECT reasoning FROM messages")["reasoning"].tolist()[1] == thought
