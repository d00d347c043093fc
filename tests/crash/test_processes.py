"""Several processes and threads, forks and interrupts: what each leaves behind in one file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import voxnb
from tests.crash.world import (
    CONVERSATION,
    MODEL,
    TELLER,
    WAIT_S,
    answer,
    assert_sound,
    job,
    question,
    scripted,
    summaries_of,
    talk,
    turns_of,
)
from voxnb import testing

BIG = {"window_tokens": 8_000}
SMALL = {
    "window_tokens": 900,
    "reserve_output_tokens": 100,
    "fold_at_tokens": 330,
    "keep_last_turns": 1,
    "summary_max_tokens": 60,
}

PREAMBLE = f"""
import os, sys, time
import voxnb
base_url, api_key, path, number = sys.argv[1:]
number = int(number)
BIG, SMALL = {BIG!r}, {SMALL!r}
def talk(policy, **more):
    return voxnb.chat({MODEL!r}, base_url=base_url, api_key=api_key, store=path, conversation={CONVERSATION!r},
                      policy=voxnb.ContextPolicy(**policy), summary_model={TELLER!r}, **more)
def question(n):
    return f"Question #{{n}}: " + "what do you make of it? " * 4
"""


@pytest.fixture
def start():
    """Starts scripts, each in an interpreter of its own; those that still run at the test's end are killed."""
    started = []

    def begin(code, server, path, number=0):
        given = [server.base_url, server.api_key, str(path), str(number)]
        command = [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(code), *given]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process, timeout_s=WAIT_S):
    """Wait for a script; (code, output, errors)."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def line_of(process, wanted):
    """Read a script's output until a line begins so."""
    for line in process.stdout:
        if line.startswith(wanted):
            return line
    pytest.fail(f"no line {wanted!r}: {process.stderr.read()}")


# -- one after the other ----------------------------------------------------------------------


@pytest.mark.slow
def test_ten_scripts_of_one_turn_each_get_their_folds_committed(start, tmp_path):
    def slow_fold(request):
        return testing.Paced(answer(request), delay_s=0.3) if request.model == TELLER else answer(request)

    path = tmp_path / "store.db"
    with testing.server(slow_fold) as server:
        for n in range(1, 11):
            # No close(), no waiting: the interpreter's end is what waits for the fold.
            code, out, err = ended(start("print(talk(SMALL).ask(question(number)).result())", server, path, n))
            assert code == 0, err
            assert out.startswith(f"Answer to #{n}:")
        paid = [request for request in server.requests if request.model == TELLER]
    assert_sound(path)
    chain = summaries_of(path)
    assert len(chain) >= 2
    assert len(paid) == len(chain), "a fold was paid for and not committed"
    assert [seq for _, _, shown in chain for seq in shown] == list(range(1, chain[-1][1] + 1))
    assert [turn[2] for turn in turns_of(path)] == [question(n) for n in range(1, 11)]


# -- at once ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("window_tokens", [4_000, 430], ids=["folding in the background", "folding to make room"])
def test_four_processes_in_one_conversation_lose_nothing(nursery, tmp_path, window_tokens):
    path, each = tmp_path / "store.db", 8
    policy = {**SMALL, "window_tokens": window_tokens, "fold_at_tokens": 320}
    chats = scripted(lambda r: testing.Paced(answer(r), chunk_delay_s=0.01))
    with testing.server(chats) as server:
        with talk(server, path, policy) as chat:
            chat.ask(question(0)).result(WAIT_S)
            chat.store.close()
        jobs = [job(server, path, [question(100 * p + n) for n in range(each)], policy=policy) for p in range(1, 5)]
        children = nursery.run_all(jobs)
        assert [(c.code, c.raised) for c in children] == [(0, "")] * 4
        with talk(server, path, policy) as chat:
            chat.ask(question(999)).result(WAIT_S)
            chat.idle().result(WAIT_S)
            chat.store.close()
        folds = sum(request.model == TELLER for request in server.requests)
    assert_sound(path)
    turns = turns_of(path)
    said = [question(100 * p + n) for p in range(1, 5) for n in range(each)]
    assert sorted(turn[2] for turn in turns) == sorted([question(0), *said, question(999)])
    assert [turn[0] for turn in turns] == list(range(1, len(turns) + 1))
    assert {turn[1] for turn in turns} == {"complete"}
    for child, words in zip(children, (said[n : n + each] for n in range(0, 4 * each, each)), strict=True):
        assert [turn[3] for turn in turns if turn[2] in words] == child.replies
    chain = summaries_of(path)
    assert [seq for _, _, shown in chain for seq in shown] == list(range(1, chain[-1][1] + 1))
    with voxnb.ContextStore(path) as store:
        plans = [json.loads(p) for (p,) in store.database.read("SELECT plan FROM call WHERE plan IS NOT NULL")]
    assert any(plan["running"] for plan in plans), "no two turns overlapped: the test shows nothing"
    if window_tokens == 4_000:  # a request that has to wait does not look at the lease
        # The lease saves money, the swap keeps it right: a lost race now and then costs a call, never a turn.
        assert len(chain) <= folds <= 2 * len(chain), "the lease saves nothing"


@pytest.mark.slow
def test_an_overlapping_turn_is_a_recorded_drop_of_the_other(nursery, tmp_path):
    path = tmp_path / "store.db"
    both = threading.Barrier(2, timeout=WAIT_S)

    def reply(request):
        if "#1:" in request.text or "#2:" in request.text:
            both.wait()  # neither is answered before both have asked
        return answer(request)

    with testing.server(reply) as server:
        with talk(server, path, BIG) as chat:
            chat.ask(question(0)).result(WAIT_S)
            chat.store.close()
        children = nursery.run_all([job(server, path, [question(n)], policy=BIG) for n in (1, 2)])
        assert [c.raised for c in children] == ["", ""]
        with talk(server, path, BIG) as chat:
            chat.ask(question(3)).result(WAIT_S)
            drops = [d.reason for d in chat.conversation.explain(3).layout.drops]
            whole = chat.conversation.explain(4).layout
            chat.store.close()
    assert drops == ["still running elsewhere"]
    assert not whole.drops
    assert sum("Answer to" in str(m["content"]) for m in whole.messages) == 3
    assert_sound(path)


@pytest.mark.slow
@pytest.mark.parametrize("drafted", [False, True], ids=["nothing drafted", "with a draft"])
def test_a_reply_that_comes_after_its_turn_was_given_up_is_kept_beside_the_path(nursery, tmp_path, drafted):
    # A process that slept (a closed laptop) finds its turn closed by another one, and summarised meanwhile.
    path, closed = tmp_path / "store.db", threading.Event()

    def reply(request):
        def pieces():
            yield "The beginning, "
            closed.wait(WAIT_S)
            yield "the middle and the end."

        return pieces() if "#1:" in request.text else answer(request)

    with testing.server(reply) as server, talk(server, path, BIG) as chat:
        chat.ask(question(0)).result(WAIT_S)
        turn = chat.ask(question(1))
        next(iter(turn))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            if drafted:
                while not other.execute("SELECT 1 FROM draft").fetchone():
                    time.sleep(0.05)
            other.execute("UPDATE turn SET lease_until = 0 WHERE state = 'running'")
        child = nursery.run(server, path, [question(2)], policy=BIG)
        assert child.raised == ""
        closed.set()
        late = turn.result(WAIT_S)
        assert late.text == "The beginning, the middle and the end."
        assert any("another process" in warning for warning in late.warnings)
        chat.ask(question(3)).result(WAIT_S)
        sent = server.requests[-1].messages
        assert len(chat.store.search("middle")) == 1
        assert chat.conversation.explain(3).exact
        chat.store.close()
    assert_sound(path)
    assert [turn[1:3] for turn in turns_of(path)] == [
        ("complete", question(0)),
        ("partial" if drafted else "failed", question(1)),
        ("complete", question(2)),
        ("complete", question(3)),
    ]
    assert any("The beginning" in m["content"] for m in sent) == drafted
    assert not any("the middle" in m["content"] for m in sent)


def test_many_threads_share_a_client_and_a_store(tmp_path):
    path, threads, each = tmp_path / "store.db", 8, 5
    with testing.server(answer) as server, talk(server, path, SMALL) as chat:

        def work(number):
            for n in range(each):
                tag = 100 * number + n
                assert str(chat.ask(question(tag)).result(WAIT_S)).startswith(f"Answer to #{tag}:")
                chat.conversation.plan("And now?")
                assert len(chat.store) == 1
                assert len(chat.conversation.turns()) > n
            return True

        with ThreadPoolExecutor(threads) as pool:
            assert all(pool.map(work, range(1, threads + 1)))
        chat.idle().result(WAIT_S)
        chat.store.close()
    assert_sound(path)
    turns = turns_of(path)
    assert sorted(turn[2] for turn in turns) == sorted(
        question(100 * t + n) for t in range(1, threads + 1) for n in range(each)
    )
    assert {turn[1] for turn in turns} == {"complete"}
    with voxnb.ContextStore(path) as store:
        plans = [json.loads(p) for (p,) in store.database.read("SELECT plan FROM call WHERE plan IS NOT NULL")]
    assert not any(plan["running"] for plan in plans), "within a process turns wait for each other"


# -- forks ------------------------------------------------------------------------------------

FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork with threads
def say(*words):  # one write: parent and child share a pipe, and an unbuffered print writes word by word
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
chat = talk(SMALL)
for n in (1, 2, 3):
    chat.ask(question(n)).result(20)
pid = os.fork()
if pid == 0:
    try:
        try:
            chat.ask("from the child")
        except voxnb.errors.ClientClosedError as error:
            say("refused:", error)
        mine = talk(SMALL)
        say("child:", mine.ask(question(10)).result(20).text[:13], len(chat.conversation))
        mine.close()
    finally:
        os._exit(0)
say("parent:", chat.ask(question(4)).result(20).text[:12])
say("status:", os.waitpid(pid, 0)[1])
say("parent:", chat.ask(question(5)).result(20).text[:12])
"""


@pytest.mark.slow
def test_a_fork_leaves_parent_and_child_able_to_talk(start, tmp_path):
    path = tmp_path / "store.db"
    with testing.server(answer) as server:
        code, out, err = ended(start(FORK, server, path))
    assert code == 0, err
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("parent")] == ["parent: Answer to #4", "parent: Answer to #5"]
    assert any(line.startswith("refused:") and "after" not in line for line in lines), out
    assert any(line.startswith("child: Answer to #10") for line in lines), out
    assert "status: 0" in lines
    assert_sound(path)
    assert sorted(turn[2] for turn in turns_of(path)) == sorted(question(n) for n in (1, 2, 3, 4, 5, 10))


# -- Ctrl-C -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "wait",
    [
        "for delta in turn: print('got', delta, flush=True)",
        "turn.result()",
        "import asyncio\nasync def main(): await turn\nasyncio.run(main())",
    ],
    ids=["iterating", "result", "await"],
)
def test_an_interrupt_in_a_stream_keeps_what_had_come(start, tmp_path, wait):
    path = tmp_path / "store.db"
    slow = scripted(lambda r: testing.Paced([f"word{n} " for n in range(5_000)], chunk_delay_s=0.02))
    script = (
        "turn = talk(BIG).ask(question(1))\n"
        "while turn.state in ('queued', 'running') and len(turn.partial) < 60: time.sleep(0.02)\n"
        "print('streaming', flush=True)\n"
    )
    with testing.server(slow) as server:
        process = start(script + wait, server, path)
        line_of(process, "streaming")
        time.sleep(0.3)  # into the wait itself
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process, 10)
        took_s = time.monotonic() - began
    assert code != 0
    assert "KeyboardInterrupt" in err
    assert took_s < 4, err
    ((_, state, said, reply),) = turns_of(path)
    assert (state, said) == ("partial", question(1))
    assert reply.startswith("word0 word1 word2 ")
    assert_sound(path)


@pytest.mark.slow
def test_a_script_that_ends_in_a_stream_keeps_what_had_come(start, tmp_path):
    path = tmp_path / "store.db"
    slow = scripted(lambda r: testing.Paced([f"word{n} " for n in range(5_000)], chunk_delay_s=0.02))
    script = "turn = talk(BIG).ask(question(1))\nwhile turn.state in ('queued', 'running') and len(turn.partial) < 60: time.sleep(0.02)\nprint(turn.partial)"
    with testing.server(slow) as server:
        code, out, err = ended(start(script, server, path))
    assert (code, err) == (0, "")
    ((_, state, said, reply),) = turns_of(path)
    assert (state, said) == ("partial", question(1))
    assert reply.startswith(out.strip())
    assert_sound(path)


@pytest.mark.slow
def test_an_interrupt_while_the_exit_waits_for_a_fold_ends_the_wait(start, tmp_path):
    path = tmp_path / "store.db"
    hanging = [True]

    def reply(request):
        if request.model == TELLER and hanging:
            return testing.Hang()
        return answer(request)

    script = "chat = talk(SMALL)\nfor n in range(1, 6): chat.ask(question(n)).result(20)\nprint('done', flush=True)"
    with testing.server(reply) as server:
        process = start(script, server, path)
        line_of(process, "done")
        while not any(request.model == TELLER for request in server.requests):
            time.sleep(0.02)
        time.sleep(1.0)  # the interpreter is at its end and waits
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, _, err = ended(process, 10)
        took_s = time.monotonic() - began
        assert took_s < 4, err
        assert "waiting for a running summary" in err
        assert_sound(path)
        assert not summaries_of(path)
        assert [turn[1] for turn in turns_of(path)] == ["complete"] * 5
        # The lease of the fold that was given up does not hold the next one.
        hanging.clear()
        with talk(server, path, SMALL) as chat:
            chat.ask(question(6)).result(WAIT_S)
            chat.idle().result(WAIT_S)
            chat.store.close()
    assert summaries_of(path)
    assert_sound(path)


@pytest.mark.slow
def test_a_summary_model_that_never_answers_lets_a_script_end(start, tmp_path):
    path = tmp_path / "store.db"
    script = "chat = talk(SMALL)\nfor n in range(1, 6): chat.ask(question(n)).result(20)\nprint('done', flush=True)"
    with testing.server(lambda r: testing.Hang() if r.model == TELLER else answer(r)) as server:
        process = start(script, server, path)
        line_of(process, "done")
        began = time.monotonic()
        code, _, err = ended(process)
        took_s = time.monotonic() - began
    assert code == 0, err
    assert 5 < took_s < 16
    assert err.count("\n") == 1, err
    assert_sound(path)
    assert [turn[1] for turn in turns_of(path)] == ["complete"] * 5


@pytest.mark.slow
def test_a_terminated_process_does_not_hold_the_conversation(start, tmp_path):
    path = tmp_path / "store.db"
    slow = scripted(lambda r: testing.Hang() if "#1:" in r.text else answer(r))
    with testing.server(slow) as server:
        process = start("talk(BIG).ask(question(1)).result()", server, path)
        server.wait_for(1, timeout_s=WAIT_S)
        while not any(request.model == MODEL for request in server.requests):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
        ended(process)
        began = time.monotonic()
        with talk(server, path, BIG) as chat:
            chat.ask(question(2)).result(WAIT_S)
            chat.store.close()
        assert time.monotonic() - began < 5, "the dead process's lease was waited for"
    assert [turn[1] for turn in turns_of(path)] == ["failed", "complete"]
    assert_sound(path)
