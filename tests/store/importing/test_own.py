"""Our own JSON Lines come back exactly, once, and whole or not at all."""

from __future__ import annotations

import json

import pytest

from tests.store.builder import NOON, Builder
from tests.store.importing.test_pipeline import check_index
from voxnb.errors import ParameterError
from voxnb.store import fresh
from voxnb.store.context_store import ContextStore

# What row keys are differs between stores; everything that has a public id must not.
SAME = {
    "conversation": "SELECT k.uid, k.name, k.title, k.api, k.model, p.uid, k.fork_seq, k.last_seq, v.text, s.uid, k.folded_to, "
    "k.metadata, k.created_at, k.last_turn_at FROM conversation k LEFT JOIN conversation p ON p.id = k.parent "
    "LEFT JOIN value v ON v.id = k.instructions LEFT JOIN summary s ON s.id = k.head ORDER BY k.uid",
    "path": "SELECT k.uid, t.uid, t.seq, o.uid FROM conversation k JOIN lineage l ON l.branch = k.branch JOIN turn t ON "
    "t.branch = l.source AND t.seq BETWEEN l.first_seq AND l.last_seq JOIN branch b ON b.id = t.branch "
    "JOIN conversation o ON o.id = b.conversation ORDER BY k.uid, t.seq",
    "turn": "SELECT uid, seq, state, tokens, hash, model, finish_reason, error, cost_usd, first_token_ms, duration_ms, created_at, redacted_at "
    "FROM turn ORDER BY uid",
    "message": "SELECT t.uid, position, role, text, extra, m.tokens, features, encoding, m.hash, m.created_at FROM message m "
    "JOIN turn t ON t.id = m.turn ORDER BY t.uid, position",
    "summary": "SELECT s.uid, k.uid, s.round, o.uid, s.mark, s.text, s.tokens, s.features, s.first_seq, s.last_seq, s.turn_count, "
    "p.text, s.prompt_name, s.prompt_version, r.text, s.model, s.reason, s.quality, s.flags, s.tokens_before, s.tokens_after, "
    "s.cost_usd, s.duration_ms, s.created_at FROM summary s JOIN conversation k ON k.id = s.conversation LEFT JOIN summary o "
    "ON o.id = s.previous LEFT JOIN value p ON p.id = s.prompt LEFT JOIN value r ON r.id = s.request ORDER BY s.uid",
    "coverage": "SELECT s.uid, v.seq, t.uid, v.hash FROM coverage v JOIN summary s ON s.id = v.summary JOIN turn t ON t.id = v.turn "
    "ORDER BY s.uid, v.seq",
    "pin": "SELECT k.uid, t.uid, position FROM pin JOIN conversation k ON k.id = pin.conversation JOIN turn t ON t.id = pin.turn "
    "WHERE removed IS NULL ORDER BY k.uid, t.uid, position",
    "call": "SELECT x.uid, k.uid, t.uid, s.uid, x.purpose, x.model, x.prompt_tokens, x.status, x.created_at FROM call x "
    "LEFT JOIN conversation k ON k.id = x.conversation LEFT JOIN turn t ON t.id = x.turn LEFT JOIN summary s ON s.id = x.summary "
    "ORDER BY x.uid",
    "event": "SELECT x.uid, k.uid, t.uid, x.seq, x.name, payload, x.created_at FROM event x JOIN conversation k ON k.id = x.conversation "
    "LEFT JOIN turn t ON t.id = x.turn ORDER BY x.uid",
    "media": "SELECT x.uid, k.uid, direction, tag, bytes, path FROM media x JOIN conversation k ON k.id = x.conversation ORDER BY x.uid",
    "note": "SELECT uid, target, label, text, created_at FROM note ORDER BY uid",
    "found": "SELECT t.uid, m.position FROM message_fts f JOIN message m ON m.id = f.rowid JOIN turn t ON t.id = m.turn "
    "WHERE message_fts MATCH 'zwei' ORDER BY 1, 2",
}  # fmt: skip


def contents(store):
    store.database.write(fresh.index_all).result()
    return {name: store.database.read(sql) for name, sql in SAME.items()}


@pytest.fixture
def full(tmp_path):
    """A store with a source, a fork of it, summaries, pins, calls, events, media, notes, and states of every kind."""
    store = ContextStore(tmp_path / "full.db")
    system = [{"role": "system", "content": "be kind"}]
    said = [
        {"role": "user", "content": "eins"}, {"role": "assistant", "content": "zwei"},
        {"role": "user", "content": [{"type": "text", "text": "sieh"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "zweiundvierzig 🦜 " + "x" * 2000},
        {"role": "user", "content": "drei"}, {"role": "assistant", "content": "vier"},
    ]  # fmt: skip
    store.append("a", system + said)
    build = Builder(store.database)
    key = build.one("SELECT id FROM conversation")
    build.run("UPDATE turn SET state = 'failed', error = 'no line' WHERE seq = 3")
    build.run("UPDATE conversation SET title = 'T', model = 'gpt-4o', metadata = '{\"a\":[1]}'")
    build.fold(
        key, through=1, prompt=build.value("sum up"), flags='["short"]', request=build.value('{"temperature":0}')
    )
    store["a"].pin(2)
    fork = store["a"].fork(at=2, name="b")
    store.append("b", [{"role": "user", "content": "fünf"}, {"role": "assistant", "content": "sechs"}])
    store.append("b", [{"role": "system", "content": "in between"}, {"role": "user", "content": "x"}])
    other = build.one("SELECT id FROM conversation WHERE name = 'b'")
    build.fold(other, through=2, text="two turns")
    build.call(key, turn=build.turn_at(key, 2), prompt_tokens=5)
    build.event(key, "ContentDone", turn=build.turn_at(key, 2))
    build.media(key, path="a.wav", bytes=7)
    store.note(store["a"], "good", label="+")
    store.note(fork.turns()["turn_id"].tolist()[2], "sechs?")
    assert store.verify()
    yield store
    store.close()


@pytest.fixture
def empty(tmp_path):
    store = ContextStore(tmp_path / "empty.db")
    yield store
    store.close()


def test_a_whole_store_comes_back_as_it_was(full, empty, tmp_path):
    path = full.export_conversations(tmp_path / "all.jsonl")
    report = empty.import_conversations(path)
    assert (report.format, report.conversations, report.turns, report.messages) == ("jsonl", 2, 5, 11)
    assert report.skipped == report.remarks == ()
    assert report.names == ("a", "b")
    assert contents(empty) == contents(full)
    assert empty.verify()
    again = empty.export_conversations(tmp_path / "again.jsonl")
    assert again.path.read_bytes() == path.path.read_bytes()


@pytest.mark.parametrize("name", ["two\nlines  of it ", "long " * 100])
def test_a_name_comes_back_to_the_letter(empty, tmp_path, name):
    with ContextStore(":memory:") as store:
        path = store.append(name, [{"role": "user", "content": "Hi"}]).export(tmp_path / "odd.jsonl").path
    report = empty.import_conversations(path)
    assert (report.names, report.remarks) == ((name,), ())
    assert empty[name].name == name


def test_what_was_imported_is_in_the_index_once(full, empty, tmp_path):
    path = full.export_conversations(tmp_path / "all.jsonl")
    empty.import_conversations(path)
    # A message without words is not in the index, which SQLite's own check takes for damage.
    for store in (full, empty):
        Builder(store.database).run("DELETE FROM message WHERE text = ''")
        check_index(store)


def test_a_second_import_adds_nothing(full, empty, tmp_path):
    path = full.export_conversations(tmp_path / "all.jsonl")
    empty.import_conversations(path)
    before = contents(empty)
    report = empty.import_conversations(path)
    assert (report.conversations, report.turns, report.known) == (0, 0, 2)
    assert contents(empty) == before
    assert full.import_conversations(path).known == 2


def test_a_fork_may_travel_before_its_source(full, empty, tmp_path):
    fork = full["b"].export(tmp_path / "b.jsonl")
    source = full["a"].export(tmp_path / "a.jsonl")
    first = empty.import_conversations(fork)
    assert (first.conversations, first.turns) == (1, 4)
    assert "source is not in the store" in str(first.remarks)
    second = empty.import_conversations(source)
    assert (second.conversations, second.turns) == (1, 1), "two of its three turns came with the fork"
    for name in ("a", "b"):
        ours, theirs = (s[name].turns()[["turn_id", "seq", "state", "user_text", "covered_by"]] for s in (empty, full))
        assert ours.equals(theirs)
    assert empty.verify()
    empty.append("b", [{"role": "user", "content": "goes on"}])
    empty.append("a", [{"role": "user", "content": "goes on too"}])
    assert [len(empty[name]) for name in ("a", "b")] == [4, 5]
    assert empty.verify()


def test_calls_and_events_of_turns_that_a_fork_holds_are_there_once(full, empty, tmp_path):
    source = full["a"].export(tmp_path / "a.jsonl")
    empty.import_conversations(full["b"].export(tmp_path / "b.jsonl"))
    empty.import_conversations(source)
    with_fork = empty["b"].export(tmp_path / "with calls.jsonl")
    full.append("a", [{"role": "user", "content": "noch"}])
    empty.import_conversations(full["a"].export(tmp_path / "longer.jsonl"))
    full.import_conversations(with_fork)
    with ContextStore(tmp_path / "third.db") as third:
        third.import_conversations(source)
        third.import_conversations(with_fork)
        for store in (full, empty, third):
            assert [len(store.calls()), len(store.events())] == [1, 1]


def test_a_conversation_that_went_on_elsewhere_is_not_overwritten(full, empty, tmp_path):
    path = full["a"].export(tmp_path / "a.jsonl")
    empty.import_conversations(path)
    empty.append("a", [{"role": "user", "content": "longer"}])
    assert empty.import_conversations(path).known == 1
    empty["a"].undo(2)
    report = empty.import_conversations(path)
    assert report.known == 0
    assert "another course" in str(report)
    assert len(empty["a"]) == 2
    empty.append("a", [{"role": "user", "content": "other"}])
    assert "another course" in str(empty.import_conversations(path))
    assert len(empty["a"]) == 3


def test_a_later_export_brings_what_came_since(full, empty, tmp_path):
    empty.import_conversations(full.export_conversations(tmp_path / "first.jsonl"))
    full.append("a", [{"role": "system", "content": "be brief"}, {"role": "user", "content": "zwei?"}])
    full.append("a", [{"role": "user", "content": "noch"}, {"role": "system", "content": "aside"}])
    build = Builder(full.database)
    key = build.one("SELECT id FROM conversation WHERE name = 'a'")
    build.fold(key, through=3, text="three turns")
    full["a"].pin(5)
    build.call(key, turn=build.turn_at(key, 4), prompt_tokens=5)
    build.event(key, "ContentDone", turn=build.turn_at(key, 4))
    build.media(key, path="b.wav", bytes=7)
    full.note(full["a"], "later")
    path = full.export_conversations(tmp_path / "second.jsonl")
    report = empty.import_conversations(path)
    assert (report.conversations, report.extended, report.known, report.turns) == (0, 1, 1, 2)
    assert (report.skipped, report.remarks) == ((), ())
    assert contents(empty) == contents(full)
    assert empty.verify()
    assert empty.import_conversations(path).known == 2
    empty.append("a", [{"role": "user", "content": "on"}])
    empty["a"].undo()
    assert empty.verify()


def test_a_later_export_brings_the_pins_of_turns_that_a_fork_brought_before(full, empty, tmp_path):
    empty.import_conversations(full.export_conversations(tmp_path / "first.jsonl"))
    full.append("a", [{"role": "user", "content": "noch"}, {"role": "system", "content": "aside"}])
    full["a"].pin(-1)
    fork = full["a"].fork(name="later")
    empty.import_conversations(fork.export(tmp_path / "fork.jsonl"))
    report = empty.import_conversations(full["a"].export(tmp_path / "second.jsonl"))
    assert (report.extended, report.turns) == (1, 0)
    assert contents(empty)["pin"] == contents(full)["pin"]
    assert empty.verify()


def test_inherited_turns_that_a_fork_went_back_before_stay_undone(full, empty, tmp_path):
    fork = full["a"].fork(name="back")
    path = full.export_conversations(tmp_path / "all.jsonl")
    empty.import_conversations(path)
    empty["back"].undo()
    report = empty.import_conversations(path)
    assert (report.extended, len(empty["back"])) == (0, len(fork) - 1)
    assert "another course" in str(report)


def test_a_later_export_leaves_a_summary_that_was_made_here_meanwhile(full, empty, tmp_path):
    empty.import_conversations(full["b"].export(tmp_path / "first.jsonl"))
    build = Builder(empty.database)
    build.fold(build.one("SELECT id FROM conversation"), through=3, text="ours")
    build.run("UPDATE summary SET uid = 's-ours' WHERE text = 'ours'")
    full.append("b", [{"role": "user", "content": "noch"}])
    theirs = Builder(full.database)
    theirs.fold(theirs.one("SELECT id FROM conversation WHERE name = 'b'"), through=4, text="theirs")
    report = empty.import_conversations(full["b"].export(tmp_path / "second.jsonl"))
    assert report.extended == 1
    assert "folded otherwise since" in str(report.remarks)
    assert empty["b"].summary().text == "ours"
    assert len(empty["b"]) == len(full["b"]) == 5
    assert empty.verify()


def test_a_taken_name_gets_a_number(full, empty, tmp_path):
    path = full["a"].export(tmp_path / "a.jsonl")
    empty.append("a", [{"role": "user", "content": "mine"}])
    report = empty.import_conversations(path)
    assert report.names == ("a-2",)
    assert "the name is taken" in str(report.remarks)
    assert empty["a-2"].id == full["a"].id


def test_a_turn_that_still_ran_counts_as_ended(empty, tmp_path):
    with ContextStore(tmp_path / "other.db") as other:
        other.append("a", [{"role": "user", "content": "hello?"}])
        Builder(other.database).run("UPDATE turn SET state = 'running', owner = 'x', lease_until = 1e12")
        path = other.export_conversations(tmp_path / "a.jsonl")
        assert "still run" in str(path)
    report = empty.import_conversations(path)
    assert "count as ended" in str(report)
    assert empty["a"].turns()["state"].tolist() == ["failed"]


def test_a_redacted_turn_travels_without_its_words(full, empty, tmp_path):
    full["a"].redact(1)
    path = full.export_conversations(tmp_path / "all.jsonl")
    assert "eins" not in path.path.read_text(encoding="utf-8")
    report = empty.import_conversations(path)
    assert report.skipped == ()
    mine, theirs = contents(empty), contents(full)
    for name in set(SAME) - {"summary", "coverage"}:  # what quoted the words is stale, and on no path any more
        assert mine[name] == theirs[name], name
    assert "older and trial summaries" in str(path)
    assert empty.verify()
    tuning = full.export_conversations(tmp_path / "tuning.jsonl", format="openai")
    assert "redacted turns" in str(tuning)
    for suffix in ("md", "html"):
        assert "redacted" in full["a"].export(tmp_path / f"a.{suffix}").path.read_text(encoding="utf-8")


# -- damage -----------------------------------------------------------------------------------


def damaged(full, tmp_path, change):
    path = full.export_conversations(tmp_path / "all.jsonl").path
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    return path


def test_a_file_that_was_cut_off_gives_whole_conversations_only(full, empty, tmp_path):
    size = len(full.export_conversations(tmp_path / "whole.jsonl").path.read_bytes())
    whole = (tmp_path / "whole.jsonl").read_bytes()
    for cut in range(0, size, max(1, size // 23)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        report = empty.import_conversations(path, format="jsonl")
        assert empty.verify()
        for name in report.names:
            assert len(empty[name]) == len(full[name])
        for name in list(empty)[::-1]:
            empty[name].delete(forks=True) if name in list(empty) else None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:2] + lines[3:], "lines are not all there"),
        (lambda lines: [line for line in lines if '"type":"summary"' not in line], "lines are not all there"),
        (lambda lines: [line.replace("eins", "uno") for line in lines], "is not what its hash says"),
        (lambda lines: [line.replace('"seq":2', '"seq":7') for line in lines], "stands where turn 2 should"),
        (
            lambda lines: [line.replace('"state":"complete"', '"state":"done"') for line in lines],
            "has the state 'done'",
        ),
        (lambda lines: [line.replace('"messages":[', '"messages":[7,') for line in lines], "contradict"),
        (lambda lines: [line.replace('"tokens":', '"tokens":null,"was":') for line in lines], "contradict"),
        (lambda lines: [line.replace('"voxnb":1', '"voxnb":2') for line in lines], "update voxnb"),
        (lambda lines: lines[1:2] + lines, "belong to no conversation"),
        (lambda lines: [*lines, '{"type":"poem"}', "[]", "{", "\x00"], "unknown type"),
    ],
)
def test_what_does_not_go_together_is_left_out_and_said(full, empty, tmp_path, change, said):
    report = empty.import_conversations(damaged(full, tmp_path, change), format="jsonl")
    assert said in str(report)
    assert empty.verify()
    assert "line " in str(report.skipped[0])


def test_a_turn_that_says_something_else_here_is_never_mixed_in(full, empty, tmp_path):
    path = full["a"].export(tmp_path / "a.jsonl")
    empty.append("mine", [{"role": "user", "content": "another first turn"}])
    uid = full["a"].turns()["turn_id"].iloc[0]
    Builder(empty.database).run("UPDATE turn SET uid = ?", uid)
    report = empty.import_conversations(path)
    assert "says something else" in str(report)
    assert list(empty) == ["mine"]


def test_settings_for_foreign_files_are_refused(full, empty, tmp_path):
    path = full.export_conversations(tmp_path / "all.jsonl")
    for settings in ({"copy": True}, {"columns": {"role": "who"}}, {"roles": {"agent": "assistant"}}):
        with pytest.raises(ParameterError, match=r"has no use|is for rows"):
            empty.import_conversations(path, **settings)
    assert NOON
    assert json.loads(path.path.read_text(encoding="utf-8").splitlines()[0])["voxnb"] == 1
