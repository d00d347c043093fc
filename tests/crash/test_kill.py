"""Killed at every statement of a turn and of a fold: the file opens, nothing said is lost, the next turn goes on."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.crash.world import (
    MODEL,
    TELLER,
    WAIT_S,
    answer,
    assert_sound,
    question,
    summaries_of,
    talk,
    turns_of,
)
from voxnb import testing

pytestmark = pytest.mark.slow

BIG = {"window_tokens": 8_000}
SMALL = {
    "window_tokens": 900,
    "reserve_output_tokens": 100,
    "fold_at_tokens": 330,
    "keep_last_turns": 1,
    "summary_max_tokens": 60,
}
MOST = 400
"""No turn has as many statements; a loop that gets here counts something else."""


@pytest.fixture(scope="module")
def server():
    with testing.server(answer) as running:
        yield running


@pytest.fixture(scope="module")
def seed(server, tmp_path_factory):
    """A conversation of four turns that the fifth one folds."""
    path = tmp_path_factory.mktemp("seed") / "store.db"
    with talk(server, path, BIG) as chat:
        for n in range(1, 5):
            chat.ask(question(n)).result(WAIT_S)
        chat.store.close()
    assert not path.with_name("store.db-wal").exists()
    return path


def asked_of(server, since):
    """What users said in the requests that reached the server."""
    return [r.text for r in server.requests[since:] if r.model == MODEL]


def test_a_turn_and_its_fold_survive_a_kill_at_every_statement(nursery, server, seed, tmp_path):
    t0 = time.time()
    seen = []
    for n in range(1, MOST):
        path = tmp_path / f"{n}.db"
        shutil.copy(seed, path)
        since = len(server.requests)
        child = nursery.run(server, path, [question(5)], policy=SMALL, kill_at=n)
        assert child.killed or child.code == 0, child.raised
        before = turns_of(path)
        assert_sound(path)
        where = f"killed at statement {n}: {child.at}"
        seen.append(child.at)
        # What was said before the kill is there.
        assert [t[1:3] for t in before[:4]] == [("complete", question(k)) for k in range(1, 5)], where
        if asked_of(server, since):
            assert before[4:] and before[4][2] == question(5), where
        if child.replies:
            assert before[4][1] == "complete", where
            assert before[4][3] == child.replies[0], where
        # The next turn works, and so does the next fold.
        with talk(server, path, SMALL) as chat:
            chat.ask(question(6)).result(WAIT_S)
            chat.ask(question(7)).result(WAIT_S)
            chat.idle().result(WAIT_S)
            chat.store.close()
        assert_sound(path)
        after = turns_of(path)
        assert {state for _, state, _, _ in after} <= {"complete", "partial", "failed"}, where
        assert [said for _, _, said, _ in after[-2:]] == [question(6), question(7)], where
        assert [said for _, _, said, _ in after].count(question(5)) == len(before[4:]), where
        assert summaries_of(path), f"no fold after being {where}"
        path.unlink()
        if not child.killed:
            break
    else:
        pytest.fail("no child came to its end")
    print(n, "statements", time.time() - t0)
    for k, s in enumerate(seen, 1):
        print(k, s)
    assert n > 60
    assert any("COMMIT" in at for at in seen)
