"""Killed at every statement of a turn and of a fold: the file opens, nothing said is lost, the next turn goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import voxnb
from tests.crash.world import (
    CONVERSATION,
    MODEL,
    WAIT_S,
    answer,
    assert_sound,
    question,
    scripted,
    summaries_of,
    talk,
    turns_of,
)
from voxnb import testing
from voxnb.store.owner import RENEW_S

pytestmark = pytest.mark.slow

BIG = {"window_tokens": 8_000}
SMALL = {
    "window_tokens": 900,
    "reserve_output_tokens": 100,
    "fold_at_tokens": 330,
    "keep_last_turns": 1,
    "summary_max_tokens": 60,
}
TIGHT = {**SMALL, "window_tokens": 420, "fold_at_tokens": 310}
"""The next request does not fit: it waits for a fold."""

MOST = 400
"""Nothing here has as many statements; a loop that gets so far counts something else."""

ENDED = {"complete", "partial", "failed"}


@pytest.fixture(scope="module")
def server():
    def reply(request):
        if request.text.startswith("Look up"):
            return {"tool_calls": [{"id": "call_1", "name": "look", "arguments": {"for": "#1"}}]}
        return answer(request)

    with testing.server(reply) as running:
        yield running


@pytest.fixture(scope="module")
def seed(server, tmp_path_factory):
    """A conversation of four turns."""
    path = tmp_path_factory.mktemp("seed") / "store.db"
    with talk(server, path, BIG) as chat:
        for n in range(1, 5):
            chat.ask(question(n)).result(WAIT_S)
        chat.store.close()
    assert not path.with_name("store.db-wal").exists()
    return path


@pytest.fixture(scope="module")
def open_seed(server, seed, tmp_path_factory):
    """The same with a fifth turn whose tool call waits for its result."""
    path = tmp_path_factory.mktemp("open") / "store.db"
    shutil.copy(seed, path)
    with talk(server, path, BIG) as chat:
        assert chat.ask("Look up #5.").result(WAIT_S).tool_calls
        chat.store.close()
    return path


def sweep(nursery, server, seed, tmp_path, say, *, policy, step=1, first=1):
    """Kill a child at one statement after the other until one lives; each time its file, its end and where it was."""
    for n in range(first, MOST, step):
        path = tmp_path / f"{n}.db"
        if seed is not None:
            shutil.copy(seed, path)
        since = len(server.requests)
        child = nursery.run(server, path, say, policy=policy, kill_at=n)
        assert child.killed or child.code == 0, child.raised
        asked = [r.text for r in server.requests[since:] if r.model == MODEL]
        yield path, child, asked, f"killed at statement {n}: {child.at}"
        for file in tmp_path.glob(f"{n}.db*"):
            file.unlink()
        if not child.killed:
            return
    pytest.fail("no child came to its end")


def go_on(server, path, policy, *, first, last):
    """A new client asks on; afterwards all holds."""
    with talk(server, path, policy) as chat:
        for n in range(first, last + 1):
            assert str(chat.ask(question(n)).result(WAIT_S)).startswith(f"Answer to #{n}:")
        chat.idle().result(WAIT_S)
        chat.store.close()
    assert_sound(path)


def test_a_turn_and_its_fold_survive_a_kill_at_every_statement(nursery, server, seed, tmp_path):
    at = []
    for path, child, asked, where in sweep(nursery, server, seed, tmp_path, [question(5)], policy=SMALL):
        at.append(child.at)
        assert_sound(path)
        before = turns_of(path)
        assert [turn[1:3] for turn in before[:4]] == [("complete", question(k)) for k in range(1, 5)], where
        if asked:  # what was sent was stored before it was sent
            assert [turn[2] for turn in before[4:]] == [question(5)], where
        if child.replies:  # what was shown as the reply is stored
            assert before[4][1::2] == ("complete", child.replies[0]), where
        go_on(server, path, SMALL, first=6, last=7)
        after = turns_of(path)
        assert {turn[1] for turn in after} <= ENDED, where
        assert [turn[2] for turn in after] == [*(turn[2] for turn in before), question(6), question(7)], where
        assert summaries_of(path), f"no fold after being {where}"
    # The turn's two, the fold's two, and what the summary model's usage taught.
    assert sum("COMMIT" in statement for statement in at) == 5, at
    assert any("INSERT INTO summary" in statement for statement in at), at


def test_a_request_that_waits_for_a_fold_survives_a_kill(nursery, server, seed, tmp_path):
    at = []
    for path, child, asked, where in sweep(
        nursery, server, seed, tmp_path, [question(5)], policy=TIGHT, step=2, first=12
    ):
        at.append(child.at)
        assert_sound(path)
        before = turns_of(path)
        assert [turn[1:3] for turn in before[:4]] == [("complete", question(k)) for k in range(1, 5)], where
        if asked:
            assert before[4][2] == question(5), where
            assert summaries_of(path), where
        go_on(server, path, TIGHT, first=6, last=7)
        assert {turn[1] for turn in turns_of(path)} <= ENDED, where
    assert len(at) > 20


def test_a_tool_loop_survives_a_kill(nursery, server, open_seed, tmp_path):
    say = [[{"role": "tool", "tool_call_id": "call_1", "content": "#5 is 42."}]]
    for path, child, asked, where in sweep(nursery, server, open_seed, tmp_path, say, policy=BIG, first=12):
        assert_sound(path)
        before = turns_of(path)
        assert len(before) == 5, where
        if child.replies:
            assert before[4][1] == "complete", where
            assert before[4][3].endswith(child.replies[0]), where
        with voxnb.ContextStore(path) as store:
            results = store.database.read("SELECT text FROM message WHERE role = 'tool'")
        assert results == [("#5 is 42.",)] if asked else len(results) <= 1, where
        go_on(server, path, BIG, first=6, last=6)
        sent = server.requests[-1].messages
        # Whatever became of the loop: calls are sent with their results or not at all (the server refuses else).
        assert [m["role"] for m in sent].count("tool") == sum(len(m.get("tool_calls") or ()) for m in sent), where


def test_a_first_opening_survives_a_kill(nursery, server, tmp_path):
    for path, _, _, where in sweep(nursery, server, None, tmp_path, [], policy=BIG, step=3):
        with voxnb.ContextStore(path) as store:
            assert store.verify(), where
            assert len(store) == 0, where
            store.append("t", [{"role": "user", "content": "Hi"}])


def planned(talk: voxnb.Conversation) -> str:
    return str(talk.plan("And?").messages)


def forked(talk: voxnb.Conversation) -> str:
    return str(talk.fork().turns().reply_text.tolist())


def written(talk: voxnb.Conversation) -> str:
    return Path(talk.export(Path(talk.store.path).with_suffix(".md"))).read_text(encoding="utf-8")


def test_a_stream_that_is_killed_keeps_what_had_come(nursery, tmp_path):
    words = [f"word{n} " for n in range(2_000)]
    slow = scripted(lambda r: testing.Paced(words, chunk_delay_s=0.02) if "#1" in r.text else answer(r))
    path, end_s = tmp_path / "store.db", RENEW_S + 1.2
    with testing.server(slow) as server:
        child = nursery.run(server, path, [question(1)], policy=BIG, kill_after_s=end_s)
        assert child.killed
        assert [turn[1] for turn in turns_of(path)] == ["running"]
        for look in (planned, forked, written):
            with voxnb.ContextStore(path) as store:
                copy = store.backup(tmp_path / f"{look.__name__}.db")
            with voxnb.ContextStore(copy) as store:
                assert words[0] + words[1] in look(store[CONVERSATION]), "whoever looks, the turn has ended as it was"
                assert store.turns().state.unique().tolist() == ["partial"]
        go_on(server, path, BIG, first=2, last=2)
        sent = server.requests[-1].messages
    (first, second) = turns_of(path)
    assert (first[1], second[1]) == ("partial", "complete")
    came = "".join(delta for _, delta in child.deltas)
    sure = "".join(delta for at_s, delta in child.deltas if at_s < end_s - RENEW_S - 0.3)
    assert sure
    assert first[3].startswith(sure)
    assert came.startswith(first[3])
    # The next request shows the model what had come, and says that it was cut off.
    assert sent[1]["content"].startswith(sure)
    assert "cut off" in sent[1]["content"]
