"""Search by words, and SQL: what is found, what is refused, and that nothing typed is an operator."""

from __future__ import annotations

import _thread
import re
import sqlite3
import threading
import time

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.builder import NOON, Builder
from voxnb.errors import ParameterError, StoreError, StoreReadOnlyError
from voxnb.store import stretch, tables
from voxnb.store.columns import TABLES
from voxnb.store.database import Database
from voxnb.store.search import match_expression, search, search_statement, sql

COLUMNS = ["message_id", "conversation_id", "conversation", "turn_seq", "role", "snippet", "created_at"]


@pytest.fixture(params=["file", "memory"])
def db(request, tmp_path):
    store = Database(tmp_path / "store.db" if request.param == "file" else ":memory:")
    yield store
    store.close()


@pytest.fixture(scope="module")
def talk():
    store = Database(":memory:")
    build = Builder(store)
    build.turn(build.conversation("talk"), "Did you see New York?", "No, I saw Café Zoë near the river 🙂 北京天気")
    yield store
    store.close()


# -- search -----------------------------------------------------------------------------------


def test_found_messages_come_newest_first_with_where_they_are(db, build):
    a = build.conversation("iris")
    build.turn(a, "load iris", "done")
    build.turn(a, "plot it", "Iris is plotted")
    found = search(db, "IRIS")
    assert list(found.columns) == COLUMNS
    assert found["message_id"].tolist() == ["t-1-2.1", "t-1-1.0"]
    assert found["conversation"].tolist() == ["iris", "iris"]
    assert found["turn_seq"].tolist() == [2, 1]
    assert found["role"].tolist() == ["assistant", "user"]
    assert found["snippet"].tolist() == ["[Iris] is plotted", "load [iris]"]
    assert found["created_at"][1] == pd.Timestamp(NOON + 1, unit="s", tz="UTC")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("york new", 1),
        ('"new york"', 1),
        ('"york new"', 0),
        ("yor", 0),
        ("yor*", 1),
        ('"new yor"*', 1),
        ("cafe zoe", 1),
        ("new river", 0),
        ("北京天気", 1),
        ("北京", 0),
        ("北京*", 1),
        ('new "york', 1),
        ("New-York", 1),
    ],
)
def test_words_phrases_and_prefixes(talk, text, count):
    assert len(search(talk, text)) == count


@pytest.mark.parametrize(
    "text",
    ["", " ", "*", '"', '""', "?!", "🙂", "- - -", "\0", "NEAR(", "AND", "a OR", "NOT", "{text}: x", "text:new", "^new",
     "(((", "a + b", "'; DROP TABLE message; --", "\ud800", "new \ud800", '" " "', "x" * 100_000,
     " ".join(f"w{n}" for n in range(5000)), "ﷺ", "\u200b", "%", "new\0york"],
)  # fmt: skip
def test_no_text_is_an_error(talk, text):
    found = search(talk, text)
    assert list(found.columns) == COLUMNS
    assert len(search(talk, "new")) == 1


@given(st.text(max_size=60) | st.text(st.sampled_from(list('"*()^:+-AND ORnew{}')), max_size=30))
def test_nothing_typed_is_an_operator(talk, text):
    search(talk, text)
    search(talk, text, rank=True, conversation=1)


@given(
    st.lists(
        st.text(st.characters(categories=["L", "N"], codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=5
    )
)
def test_a_message_is_found_by_its_own_words(words):
    store = Database(":memory:")
    try:
        build = Builder(store)
        build.turn(build.conversation("a"), " ".join(words))
        assert len(search(store, " ".join(words))) == 1
        assert len(search(store, f'"{" ".join(words)}"')) == 1
    finally:
        store.close()


def test_a_text_without_a_word_finds_nothing_and_keeps_the_dtypes(talk):
    assert search(talk, "").dtypes.to_dict() == search(talk, "new").dtypes.to_dict()
    assert len(search(talk, "?!")) == 0


def test_ranking_puts_the_best_first(db, build):
    a = build.conversation("a")
    build.turn(a, "rain rain rain")
    build.turn(a, "there was some rain in the middle of a long sentence about many other things")
    assert search(db, "rain")["turn_seq"].tolist() == [2, 1]
    assert search(db, "rain", rank=True)["turn_seq"].tolist() == [1, 2]


def test_a_conversation_is_searched_along_its_path(db, build):
    a = build.conversation("a")
    for n in range(3):
        build.turn(a, f"rain {n}")
    b = build.fork(a, "b", at=2)
    build.turn(b, "rain in b")
    build.undo(a, to=1)
    assert len(search(db, "rain")) == 4
    assert search(db, "rain", conversation=a)["snippet"].tolist() == ["[rain] 0"]
    assert search(db, "rain", conversation=b)["snippet"].tolist() == ["[rain] in b", "[rain] 1", "[rain] 0"]
    assert search(db, "rain", conversation=b)["conversation"].tolist() == ["b", "a", "a"]


def test_a_search_stops_at_its_limit_and_keeps_to_its_window(db, build):
    a = build.conversation("a")
    for n in range(60):
        build.turn(a, f"rain {n}", created_at=NOON + n)
    assert len(search(db, "rain")) == 50
    assert len(search(db, "rain", limit=None)) == 60
    assert search(db, "rain", limit=1)["snippet"].tolist() == ["[rain] 59"]
    assert search(db, "rain", until="2026-07-31T12:00:02")["snippet"].tolist() == ["[rain] 1", "[rain] 0"]
    assert len(search(db, "rain", since="2026-07-31T12:00:58")) == 2
    with pytest.raises(ParameterError, match="since"):
        search(db, "rain", since="then")
    with pytest.raises(ParameterError, match="limit"):
        search(db, "rain", limit=-1)


def test_a_search_for_something_else_than_text_is_refused(db):
    with pytest.raises(ParameterError, match="expected str"):
        search(db, 5)


def test_a_long_message_gives_a_short_snippet(db, build):
    build.turn(build.conversation("a"), "begin " + "so " * 500 + "needle " + "and " * 500)
    (snippet,) = search(db, "needle")["snippet"]
    assert "[needle]" in snippet
    assert len(snippet) < 200


@pytest.mark.parametrize("rank", [False, True])
@pytest.mark.parametrize("conversation", [False, True])
def test_a_search_reads_the_index_and_never_scans_what_it_finds(db, build, conversation, rank):
    build.many(build.conversation("a"), 50)
    statement = search_statement(conversation=conversation, conditions=["m.created_at >= :since"], rank=rank)
    params = {"query": "rain", "conversation": 1, "since": 0.0, "limit": 5, "first": 1, "last": 90}
    details = [detail for *_, detail in db.read(f"EXPLAIN QUERY PLAN {statement}", params)]
    # M: by its words. < and >: between two rows, whichever way it is walked.
    assert re.match(r"SCAN message_fts VIRTUAL TABLE INDEX \d+:" + ("M" if rank else "<?>?<?M"), details[0])
    assert rank or {"<", ">"} <= set(details[0])
    assert [d for d in details[1:] if d.startswith("SCAN")] == []
    assert not any("TEMP B-TREE" in d for d in details)


@pytest.mark.parametrize("query", [stretch.PARTS, stretch.FIRST_ROW, stretch.NEWEST_ROW])
def test_where_to_look_is_told_by_index_searches(db, build, query):
    build.many(build.conversation("a"), 50)
    details = [d for *_, d in db.read(f"EXPLAIN QUERY PLAN {query}", (1,) * query.count("?"))]
    assert [d for d in details if "SCAN" in d or "TEMP B-TREE" in d] == []
    assert all("USING" in d for d in details if d.startswith("SEARCH"))


def test_the_times_of_a_thousand_messages_are_one_row(db, build):
    build.many(build.conversation("a"), 3_000)
    assert db.read("SELECT count(*) FROM message_zone") == [(6,)]
    (detail,) = [d for *_, d in db.read(f"EXPLAIN QUERY PLAN {stretch.ZONES}", {"since": 0, "until": 1})]
    assert detail == "SCAN message_zone"


class Steps:
    """How many steps SQLite's machine makes, in tens: what a search costs, without a clock."""

    def __init__(self, db):
        self.db = db

    def of(self, text, **options):
        made = 0

        def count():
            nonlocal made
            made += 1
            return 0

        with self.db.reader() as c:
            c.set_progress_handler(count, 10)
            try:
                found = search(self.db, text, **options)
            finally:
                c.set_progress_handler(None, 0)
        return made, len(found)


@pytest.mark.parametrize(
    ("text", "options", "rows"),
    [
        ("weather", {}, 50),
        ("nowhere", {}, 0),
        ("weather nowhere", {}, 0),
        ("weather", {"conversation": "old"}, 8),
        ("weather", {"conversation": "middle"}, 8),
        ("weather", {"conversation": "fork"}, 10),
        ("rare", {"conversation": "middle"}, 1),
        ("nowhere", {"conversation": "middle"}, 0),
        ("rare", {"conversation": "empty"}, 0),
        ("weather", {"until": "2020-01-03", "since": "2020-01-01"}, 2),
        ("weather", {"until": "1970-01-02"}, 0),
        ("weather", {"since": "2100-01-01"}, 0),
        ("weather", {"conversation": "middle", "until": "2020-01-01"}, 0),
    ],
)
def test_a_search_costs_the_same_in_a_store_ten_times_as_long(sizes, text, options, rows):
    """Also for a word in every message, in a few of them: nothing is walked that cannot be wanted."""
    (few, found), (many, found_again) = (
        Steps(store).of(text, **options | {k: names[v] for k, v in options.items() if k == "conversation"})
        for store, names in sizes
    )
    assert (found, found_again) == (rows, rows)
    assert many <= few + 100


@pytest.fixture(scope="module")
def sizes():
    """The same few conversations in a store of 2,000 and one of 20,000 messages."""
    made = []
    for turns in (1_000, 10_000):
        store = Database(":memory:")
        build = Builder(store)
        names = {"old": build.conversation("old")}
        build.many(names["old"], 4, words="the weather in")
        names["empty"] = build.conversation("empty")
        build.turn(build.conversation("early"), "weather", "weather", created_at=1_577_923_200.0)  # 2020-01-02
        huge = build.conversation("huge")
        build.many(huge, 5, words="the weather rare")
        names["fork"] = build.fork(huge, "fork", at=5)
        build.many(huge, turns // 2, words="the weather rare")
        names["middle"] = build.conversation("middle")
        build.turn(names["middle"], "the weather is rare", "weather")
        build.many(names["middle"], 3, words="the weather")
        build.many(build.conversation("crowd"), turns // 2, words="the weather rare")
        made.append((store, names))
    yield made
    for store, _ in made:
        store.close()


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_finds_what_a_scan_finds(data):
    """Whatever order messages came in, whosever they are, wherever the clock stood: newest row first, up to the limit."""
    store = Database(":memory:")
    build = Builder(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretch, "CLOSE_ROWS", data.draw(st.sampled_from([0, 3, 2_000])))
        patch.setattr(stretch, "MOST_STRETCHES", data.draw(st.sampled_from([1, 2, 32])))
        patch.setattr(stretch, "COUNTED_TURNS", data.draw(st.sampled_from([0, 2, 20_000])))
        keys = [build.conversation("c0")]
        for n in range(data.draw(st.integers(1, 25))):
            key = data.draw(st.sampled_from(keys))
            length = build.one("SELECT last_seq FROM conversation WHERE id = ?", key)
            match data.draw(st.sampled_from(["turn", "turn", "turn", "new", "fork", "undo"])):
                case "turn":
                    at = data.draw(st.sampled_from([0.0, -7_200.0, 3_599.0, 3_600.0, 90_000.0])) + NOON
                    build.turn(
                        key, data.draw(st.sampled_from(["rain", "rain sun", "sun k1", "k1 k2"])), "rain", created_at=at
                    )
                case "new":
                    keys.append(build.conversation(f"n{n}"))
                case "fork":
                    keys.append(build.fork(key, f"f{n}", at=data.draw(st.integers(0, length))))
                case "undo" if length:
                    build.undo(key, to=data.draw(st.integers(0, length - 1)))
        word = data.draw(st.sampled_from(["rain", "sun", "k1", "snow"]))
        key = data.draw(st.none() | st.sampled_from(keys))
        since, until = (
            data.draw(st.none() | st.sampled_from([-7_200.0, 0.0, 1.0, 3_600.0, 90_001.0])) for _ in range(2)
        )
        limit = data.draw(st.sampled_from([None, 0, 1, 3]))
        if since is not None and until is not None and since > until:
            since, until = until, since
        moments = {
            k: None if v is None else pd.Timestamp(NOON + v, unit="s", tz="UTC")
            for k, v in (("since", since), ("until", until))
        }
        found = search(store, word, conversation=key, limit=limit, **moments)
        path = "" if key is None else (
            "AND EXISTS (SELECT 1 FROM conversation p JOIN lineage l ON l.branch = p.branch WHERE p.id = :key "
            "AND l.source = t.branch AND t.seq BETWEEN l.first_seq AND l.last_seq)"
        )  # fmt: skip
        wanted = store.read(
            "SELECT t.uid || '.' || m.position FROM message m JOIN turn t ON t.id = m.turn "
            "WHERE ' ' || m.text || ' ' LIKE '% ' || :word || ' %' AND m.created_at >= coalesce(:since, m.created_at) "
            f"AND m.created_at < coalesce(:until, 1e12) {path} ORDER BY m.id DESC LIMIT :limit",
            {
                "word": word,
                "since": None if since is None else NOON + since,
                "until": None if until is None else NOON + until,
                "limit": -1 if limit is None else limit,
                "key": key,
            },
        )
        assert found["message_id"].tolist() == [uid for (uid,) in wanted]
        ranked = search(store, word, conversation=key, limit=None, rank=True, **moments)
        assert limit is not None or sorted(ranked["message_id"]) == sorted(found["message_id"])
    store.close()


def test_the_index_of_whose_a_message_is_cannot_be_searched_by_words(db, build):
    build.turn(build.conversation("a"), "hello there")
    assert len(search(db, "k1")) == 0
    assert len(search(db, "k1", conversation=1)) == 0
    build.turn(1, "the answer is k1")
    assert search(db, "k1", conversation=1)["snippet"].tolist() == ["the answer is [k1]"]


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("hi there hi", '"hi" "there"'),
        ('say "a b" c*', '"say" "a b" "c"*'),
        ("**", ""),
        ("a** b", '"a"* "b"'),
        ("a*b", '"a*b"'),
        ('"a b"*', '"a b"*'),
    ],
)
def test_an_expression_quotes_everything(text, expression):
    assert match_expression(text) == expression


# -- SQL --------------------------------------------------------------------------------------


def test_sql_gives_a_frame_with_the_names_of_the_query(db, build):
    build.turn(build.conversation("a"), "hi", "ho")
    found = sql(db, "SELECT role, count(*) AS n FROM message GROUP BY role ORDER BY role")
    assert found.to_dict("list") == {"role": ["assistant", "user"], "n": [1, 1]}
    assert sql(db, "SELECT ? AS a, ? AS a", (1, 2)).to_numpy().tolist() == [[1, 2]]
    assert sql(db, "SELECT :x AS x", {"x": "y"})["x"].tolist() == ["y"]
    assert list(sql(db, "SELECT 1 AS a WHERE 0").columns) == ["a"]


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_have_the_names_of_the_frames(db, build, name):
    a = build.conversation("a")
    build.turn(a, "hi", "ho")
    build.fold(a, through=1)
    build.media(a, tag="x")
    build.call(a)
    build.event(a, "E")
    frame = tables.select(db, name)
    found = sql(db, f"SELECT * FROM {name}")
    assert list(found.columns) == list(frame.columns)
    same = found.astype(frame.dtypes.to_dict())
    pd.testing.assert_frame_equal(same, frame, check_dtype=False)


def test_the_names_of_the_frames_can_be_joined(db, build):
    a = build.conversation("a")
    build.turn(a, "hi", "ho")
    build.fold(a, through=1)
    found = sql(
        db,
        "WITH asked AS (SELECT * FROM turns) SELECT s.text, t.user_text FROM coverage v JOIN summaries s USING (summary_id) "
        "JOIN asked t USING (turn_id)",
    )
    assert found.to_numpy().tolist() == [["so far", "hi"]]


def test_the_names_last_only_as_long_as_the_query(db, build):
    build.turn(a := build.conversation("a"), "hi")
    build.fold(a, through=1)
    for _ in range(2):
        assert "summary_id" in sql(db, "SELECT * FROM coverage")
        assert db.read("SELECT summary, seq FROM coverage") == [(1, 1)]
        assert db.read("SELECT count(*) FROM sqlite_temp_schema") == [(0,)]
    with pytest.raises(StoreError):
        sql(db, "SELECT nothing FROM turns")
    assert db.read("SELECT summary FROM coverage") == [(1,)]
    build.turn(a, "writing goes on")


def test_times_come_back_as_timestamps(db, build):
    build.turn(build.conversation("a"), "hi")
    found = sql(db, "SELECT created_at, created_at AS t, NULL AS none_at, 'x' AS text_at FROM turns")
    assert found["created_at"].dtype == "datetime64[us, UTC]"
    assert found["t"].dtype == "float64"
    assert found["text_at"].tolist() == ["x"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM turn",
        "DELETE FROM turn RETURNING id",
        "UPDATE conversation SET name = 'x'",
        "INSERT INTO value (hash, text) VALUES ('a', 'b') RETURNING id",
        "DROP TABLE turn",
        "CREATE TABLE x (a)",
        "CREATE TEMP TABLE x (a)",
        "ALTER TABLE turn RENAME TO turned",
        "WITH a AS (SELECT 1) INSERT INTO value SELECT 9, 'h', 't' FROM a",
        "INSERT INTO message_fts (message_fts) VALUES ('optimize')",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 99",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint",
        "PRAGMA writable_schema = ON",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "RELEASE named_views",
        "ATTACH 'other.db' AS other",
        "DETACH main",
    ],
)
def test_a_statement_that_would_change_something_is_refused(db, build, statement, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build.turn(build.conversation("a"), "hi")
    mode = db.read("PRAGMA journal_mode")
    with pytest.raises(StoreReadOnlyError, match="only reads"):
        sql(db, statement)
    assert sql(db, "SELECT user_text FROM turns")["user_text"].tolist() == ["hi"]
    assert db.read("PRAGMA journal_mode") == mode
    assert not (tmp_path / "other.db").exists()
    build.turn(1, "and writing still works")


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA table_info(turn)", "PRAGMA user_version", "EXPLAIN QUERY PLAN SELECT * FROM turns", "VALUES (1)"],
)
def test_a_statement_that_only_tells_something_is_allowed(db, statement):
    assert len(sql(db, statement)) > 0


@pytest.mark.parametrize(
    ("statement", "params", "message"),
    [
        ("SELEC 1", (), 'near "SELEC"'),
        ("SELECT * FROM messagse", (), "did you mean 'messages'"),
        ("SELECT nme FROM conversations", (), "no such column: nme"),
        ("SELECT 1; SELECT 2", (), "one statement"),
        ("", (), "no rows"),
        ("-- nothing", (), "no rows"),
        ("SELECT ?", (), "binding"),
        ("SELECT ?", ([1],), "type 'list'"),
        ("SELECT count(*) FROM message WHERE message_fts MATCH 'x'", (), "message_fts"),
        ("SELECT load_extension('x')", (), "not authorized"),
        ("SELECT '\ud800'", (), "surrogates"),
        ("VACUUM", (), "VACUUM"),
        ("SELECT 1 AS a\0", (), "null character"),
        ("SELECT ?", (1 << 70,), "too large"),
        ("SELECT abs(-9223372036854775808)", (), "integer overflow"),
    ],
)
def test_a_statement_that_is_none_says_what_is_wrong(db, statement, params, message):
    with pytest.raises(StoreError, match=message):
        sql(db, statement, params)
    assert sql(db, "SELECT 1 AS one")["one"].tolist() == [1]


def test_a_query_that_is_no_text_is_refused(db):
    with pytest.raises(ParameterError, match="expected SQL"):
        sql(db, None)


def test_an_interrupt_ends_a_long_query(db):
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS i FROM n"
    began = time.monotonic()
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sql(db, forever)
    timer.join()
    assert time.monotonic() - began < 20
    assert sql(db, "SELECT 1 AS one")["one"].tolist() == [1]


def test_a_read_only_store_answers_sql(tmp_path):
    Database(tmp_path / "store.db").close()
    store = Database(tmp_path / "store.db", read_only=True)
    assert sql(store, "SELECT * FROM turns").shape == (0, len(TABLES["turns"].columns))
    store.close()


def test_sql_inside_a_snapshot_leaves_the_snapshot_alone(tmp_path):
    store = Database(tmp_path / "store.db")
    build = Builder(store)
    build.turn(build.conversation("a"), "hi")
    with store.snapshot() as c:
        assert c.execute("SELECT count(*) FROM turn").fetchone() == (1,)
        build.turn(1, "ho")
        assert len(sql(store, "SELECT * FROM turns")) == 1
        assert c.in_transaction
        assert c.execute("SELECT count(*) FROM turn").fetchone() == (1,)
    assert len(sql(store, "SELECT * FROM turns")) == 2
    store.close()


def test_a_query_sees_one_state_of_the_store_while_others_write(tmp_path):
    store = Database(tmp_path / "store.db")
    build = Builder(store)
    a = build.conversation("a")
    stop = threading.Event()

    def write():
        while not stop.is_set():
            build.many(a, 1)  # one transaction

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            found = sql(store, "SELECT (SELECT max(seq) FROM turns) AS a, (SELECT turn_count FROM conversations) AS b")
            assert found["a"].fillna(0).tolist() == found["b"].tolist()
    finally:
        stop.set()
        writer.join()
    store.close()


def test_errors_of_sqlite_stay_as_the_cause(db):
    with pytest.raises(StoreError) as caught:
        sql(db, "SELEC")
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert caught.value.path == db.path
