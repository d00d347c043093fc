"""A value of a type that nobody wrote is named with its row and column, whoever meets it first."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import pytest

import voxnb
from voxnb import testing
from voxnb.errors import StoreFormatError, VoxnbError
from voxnb.store.damage import wrong_values

TABLES = "conversations turns messages summaries coverage calls events media prompts notes".split()
FILLED = "value conversation branch lineage turn message summary coverage pin call event prompt note".split()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with something in every table."""
    path = tmp_path_factory.mktemp("whole") / "store.db"
    policy = voxnb.ContextPolicy(window_tokens=8_000, keep_last_turns=1)
    replies = ["One.", "Two.", "Three.", "They talked about the weather.", "Four."]
    with (
        testing.server(replies) as server,
        voxnb.ContextStore(path) as store,
        voxnb.chat(
            "m",
            base_url=server.base_url,
            store=store,
            conversation="c",
            summary_model="m",
            policy=policy,
            instructions="Be brief.",
        ) as chat,
    ):
        for question in ("Rain? " * 30, "Wind? " * 30, "Snow? " * 30):
            chat.ask(question).result()
        chat.conversation.fold().result()
        chat.ask("Sun?").result()
        chat.conversation.pin(1)
        store.save_prompt("p", "Sum up {{messages}}")
        store.note(chat.conversation, "a note")
    with contextlib.closing(sqlite3.connect(path)) as c:
        c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert list(wrong_values(c)) == []
        assert all(c.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in FILLED)
    return path


def damages(table):
    """A value of the wrong type for every column of a table."""
    with voxnb.ContextStore(":memory:") as store, store.database.reader() as c:
        for _, name, kind, *_, key in c.execute(f"PRAGMA table_info({table})").fetchall():
            if kind != "TEXT" and not (key and name == "id"):
                yield name, "'words'"
            if kind == "TEXT":
                yield name, "x'ff00'"


def damage(whole, path, *statements):
    shutil.copy(whole, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as c:
        for (trigger,) in c.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            c.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            c.execute(statement)


def looks(store):
    """All that a person asks of a store."""
    yield lambda: [repr(store["c"]), repr(store.latest()), list(store)]
    for table in TABLES:
        yield lambda table=table: getattr(store, table)()
    for table in TABLES[1:]:
        yield lambda table=table: getattr(store["c"], table)()
    yield lambda: [show(store["c"].plan("And fog?"))]
    yield from (lambda turn=turn: show(store["c"].explain(turn)) for turn in (1, -1))
    yield lambda: show(store["c"].explain(store["c"].summary()))
    yield lambda: [repr(store["c"].receipt()), store["c"].summary().diff(), store["c"].page()]
    yield lambda: [store.search("weather"), repr(store.prompt("p")), store.sql("SELECT * FROM turns")]


def show(plan):
    return repr(plan), plan.df, plan.request


@pytest.mark.parametrize("table", FILLED)
def test_whatever_is_asked_of_a_damaged_store_raises_nothing_of_pythons_own(whole, tmp_path, table):
    for column, value in damages(table):
        path = tmp_path / f"{column}.db"
        damage(whole, path, f"UPDATE OR IGNORE {table} SET {column} = {value}")
        with voxnb.ContextStore(path, read_only=True) as store:
            for look in looks(store):
                with contextlib.suppress(VoxnbError):
                    look()
            assert any(f"{table} row" in problem and repr(column) in problem for problem in store.verify().problems)


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["UPDATE turn SET seq = 'words' WHERE id = 2"], "turn row 2 has text in 'seq', expected a whole number"),
        (["UPDATE message SET role = x'ff' WHERE id = 3"], "message row 3 has bytes in 'role', expected text"),
        (["UPDATE message SET tokens = 1.5 WHERE id = 3"], "message row 3 has a fraction in 'tokens'"),
        (["UPDATE coverage SET hash = x'00' WHERE seq = 2"], "coverage row 1, 2 has bytes in 'hash'"),
        (["UPDATE message SET created_at = 'noon' WHERE id = 1"], "message row 1 has text in 'created_at', expected a number"),
        (
            [
                "PRAGMA writable_schema = ON",
                "UPDATE sqlite_schema SET sql = replace(sql, 'role TEXT NOT NULL', 'role TEXT')",
                "PRAGMA writable_schema = RESET",
                "UPDATE message SET role = NULL WHERE id = 1",
                "PRAGMA writable_schema = ON",
                "UPDATE sqlite_schema SET sql = replace(sql, 'role TEXT', 'role TEXT NOT NULL')",
            ],
            "message row 1 has nothing in 'role', expected text",
        ),
    ],
)  # fmt: skip
def test_the_error_names_row_and_column_and_verify_does_too(whole, tmp_path, statements, told):
    damage(whole, tmp_path / "a.db", *statements)
    with voxnb.ContextStore(tmp_path / "a.db", read_only=True) as store:
        assert any(told in problem for problem in store.verify().problems)
        if "fraction" not in told and "hash" not in told:
            with pytest.raises(
                StoreFormatError, match=r"a\.db' is damaged \(.* restore a backup, or ask verify\(\)"
            ) as raised:
                [store.turns(), store.messages(), store["c"].plan()]
            assert told in str(raised.value)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_cannot_be_opened_is_not_sent_to_verify(whole, tmp_path, read_only):
    path = tmp_path / "a.db"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(StoreFormatError, match=r"a\.db' is damaged \(.*restore a backup, .*\.recover") as raised:
        voxnb.ContextStore(path, read_only=read_only)
    assert "verify" not in str(raised.value)


def test_verify_tells_of_damaged_pages_instead_of_raising(whole, tmp_path):
    data = bytearray(whole.read_bytes())
    with contextlib.closing(sqlite3.connect(whole)) as c:
        (page_bytes,) = c.execute("PRAGMA page_size").fetchone()
        (page,) = c.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'call'").fetchone()
    data[(page - 1) * page_bytes : page * page_bytes] = b"\xff" * page_bytes
    (tmp_path / "a.db").write_bytes(data)
    with voxnb.ContextStore(tmp_path / "a.db") as store:
        assert "the file cannot be read to its end (" in store.verify().problems[-1]
        with pytest.raises(StoreFormatError, match="restore a backup"):
            store.calls()
        assert len(store.turns()) == 4, "what lies elsewhere is read"


def test_a_fraction_among_the_counts_of_a_picture_is_damage_that_is_named(whole, tmp_path):
    damage(whole, tmp_path / "a.db", "UPDATE call SET estimated_prompt_tokens = 3.5 WHERE id = 1")
    with (
        voxnb.ContextStore(tmp_path / "a.db", read_only=True) as store,
        pytest.raises(StoreFormatError, match="call row 1 has a fraction in 'estimated_prompt_tokens'"),
    ):
        store["c"].plot_tokens()


def test_an_error_of_the_callers_own_stays_what_it_is(whole):
    with (
        voxnb.ContextStore(whole, read_only=True) as store,
        pytest.raises(KeyError, match="mine"),
        store.database.reader(),
    ):
        raise KeyError("mine")


def test_a_table_that_somebody_added_may_hold_what_it_likes(whole, tmp_path):
    damage(whole, tmp_path / "a.db", "CREATE TABLE theirs (n INTEGER)", "INSERT INTO theirs VALUES ('words')")
    with voxnb.ContextStore(tmp_path / "a.db") as store:
        assert store.verify()
