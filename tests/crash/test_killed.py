"""kill -9 in a store's first turn, and while a reply comes: what was said is there, and nobody waits for the dead."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import voxnb
from tests.crash.child import client, question
from tests.crash.scene import BUSY_S, check_folds, end, ended, run, said, start, store_holds, until
from tests.invariants.scripted import MODEL, WAIT_S, scripted, told
from voxnb import testing

MOST_POINTS = 40
ENDS = 10
NEXT, LAST, KILLED = 101, 102, 1000
"""Tags: of the turns after, and of the process that is killed."""


def sampled(count: int) -> list[int]:
    """Which statements of so many to be killed at: all, or the first, the last and some between."""
    if count <= MOST_POINTS:
        return list(range(1, count + 1))
    inner = MOST_POINTS - 2 * ENDS
    step = (count - 2 * ENDS) / inner
    between = {ENDS + 1 + int(step * n) for n in range(inner)}
    return sorted({*range(1, ENDS + 1), *between, *range(count - ENDS + 1, count + 1)})


def look_at(path: Path, server: testing.Server, *, killed: int) -> None:
    """What must hold of a file whose process was killed in its first turn."""
    asked = any(killed in told(r.text) for r in server.requests if r.model == MODEL)
    heard = path.with_suffix(".heard")
    with voxnb.ContextStore(path) as store:
        store_holds(store)
    with client(path, server.base_url) as chat:
        for tag in (NEXT, LAST):
            chat.ask(question(tag)).result(WAIT_S)
        rows = said(chat.store)
        questions = [text for _, _, role, text in rows if role == "user"]
        assert [q for q in questions if q != question(killed)] == [question(NEXT), question(LAST)]
        assert questions.count(question(killed)) <= 1
        if asked:
            assert question(killed) in questions
        if heard.exists():
            assert (1, "complete", "assistant", heard.read_text()) in rows
        assert {state for _, state, _, _ in rows} <= {"complete", "failed", "partial"}
        # What is left of the dead does not keep the others from folding.
        assert chat.conversation.fold(through=-1).result(WAIT_S) is not None
        assert check_folds(chat.store) == max(seq for seq, _, _, _ in rows)
    chat.store.close()


@pytest.mark.slow
def test_a_new_store_whose_maker_is_killed_at_any_statement_is_a_store_for_the_next(tmp_path):
    with testing.server(scripted()) as server:
        assert run("points", tmp_path, server.base_url, KILLED, 0) == "0 0\n"
        count = int((tmp_path / "0.count").read_text())
        assert count > 2 * ENDS  # else nothing was traced
        numbers = [*sampled(count), 2 * count]
        with ended(*(start("points", tmp_path, server.base_url, KILLED, *numbers[k::2]) for k in (0, 1))) as halves:
            codes = dict(map(int, line.split()) for half in halves for line in end(half).splitlines())
        assert set(codes.values()) == {0, -signal.SIGKILL}
        assert codes[2 * count] == 0
        # Which statement is the last one depends a little on how readers and writers come to be mixed.
        assert [n for n in numbers if codes[n] == 0 and n <= count - ENDS] == []
        for number in numbers:
            look_at(tmp_path / f"{number}.db", server, killed=KILLED + number)


@pytest.mark.slow
def test_a_process_killed_while_a_reply_comes_leaves_what_had_come(tmp_path):
    path = tmp_path / "store.db"
    answer = " ".join(f"word{n}" for n in range(20_000))
    with (
        testing.server(scripted(chat=answer), chunk_delay_s=0.01) as server,
        ended(start("stream", path, server.base_url, KILLED)) as (process,),
    ):
        until(lambda: path.exists() and drafts(path))
        process.kill()
        out, _ = process.communicate(timeout=BUSY_S)
        assert process.returncode == -signal.SIGKILL
    with testing.server(scripted()) as server, client(path, server.base_url) as chat:
        chat.ask(question(NEXT)).result(WAIT_S)
        asked, (seq, state, role, kept), *_ = said(chat.store)
        assert asked[3] == question(KILLED)
        assert (seq, state, role) == (1, "partial", "assistant")
        assert kept
        assert answer.startswith(kept)
        assert answer.startswith(out)
        # And the model is told of it, and that it is not whole.
        assert any(m["content"].startswith(kept) for m in server.requests[-1].messages if m["role"] == "assistant")
        store_holds(chat.store)


@pytest.mark.slow
def test_the_turn_of_a_killed_process_that_its_parent_has_not_looked_for_is_not_waited_for(tmp_path):
    path = tmp_path / "store.db"
    with (
        testing.server(scripted(chat=testing.Hang(after_events=3))) as server,
        ended(start("stream", path, server.base_url, KILLED)) as (process,),
    ):
        process.stdout.read(1)
        process.kill()
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z")
        with testing.server(scripted()) as other, client(path, other.base_url) as chat:
            chat.ask(question(NEXT)).result(WAIT_S)
            assert {state for _, state, _, _ in said(chat.store)} == {"failed", "complete"}


def drafts(path: Path) -> int:
    """How many replies are written half."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM draft").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0
