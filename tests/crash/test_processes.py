"""Several processes and one conversation; scripts that end, and scripts that are interrupted."""

from __future__ import annotations

import signal
import time

import pytest

import voxnb
from tests.crash.child import TALK, question
from tests.crash.scene import check_folds, end, ended, run, said, start, store_holds
from tests.invariants.scripted import scripted, told
from voxnb import testing
from voxnb.clients.chat import FOLD_WAIT_S

SOON_S = 10
"""Longest time from Ctrl-C to the end of a script, on a busy machine."""


@pytest.mark.slow
def test_folds_of_scripts_that_ask_once_and_end_are_committed(tmp_path):
    path = tmp_path / "store.db"
    with testing.server(scripted()) as server:
        assert run("one_each", path, server.base_url, *range(1, 11)).count("Noted") == 10
    with voxnb.ContextStore(path) as store:
        rows = said(store)
        assert [text for _, _, role, text in rows if role == "user"] == [question(tag) for tag in range(1, 11)]
        assert {state for _, state, _, _ in rows} == {"complete"}
        # No process lived longer than one turn, so whatever is folded was waited for at an exit.
        assert check_folds(store) >= 6
        assert len(store[TALK].summaries()) >= 2


@pytest.mark.slow
def test_processes_that_talk_and_fold_at_once_lose_nothing(tmp_path):
    path = tmp_path / "store.db"
    each = 5
    with testing.server(scripted()) as server:
        starts = range(100, 500, 100)
        with ended(*(start("turns", path, server.base_url, *range(n, n + each)) for n in starts)) as talking:
            for process in talking:
                assert end(process).count("Noted") == each
    with voxnb.ContextStore(path) as store:
        rows = said(store)
        assert {state for _, state, _, _ in rows} == {"complete"}
        assert [seq for seq, _, role, _ in rows if role == "user"] == list(range(1, each * len(starts) + 1))
        asked = [min(told(text)) for _, _, role, text in rows if role == "user"]
        for n in starts:  # each in its own order
            assert [tag for tag in asked if n <= tag < n + 100] == list(range(n, n + each))
        answered = [min(told(text)) for _, _, role, text in rows if role == "assistant"]
        assert answered == asked
        assert check_folds(store) > each


@pytest.mark.slow
@pytest.mark.parametrize("way", ["for", "result", "await"])
def test_ctrl_c_ends_a_script_soon_and_keeps_what_had_come(tmp_path, way):
    path = tmp_path / "store.db"
    answer = " ".join(f"word{n}" for n in range(20_000))
    with (
        testing.server(scripted(chat=answer), chunk_delay_s=0.01) as server,
        ended(start("stream", path, server.base_url, 1, way)) as (process,),
    ):
        process.stdout.read(1)
        (request,) = server.wait_for(1)
        assert question(1) == request.text
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest = end(process, code=None)
        assert time.monotonic() - began < SOON_S
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    with voxnb.ContextStore(path) as store:
        store_holds(store)
        (_, state, _, _), (_, _, role, kept) = said(store)
        assert (state, role) == ("partial", "assistant")
        assert answer.startswith(kept)
        assert kept
        if way == "for":
            assert answer[1:].startswith(rest)


@pytest.mark.slow
def test_ctrl_c_at_the_end_of_a_script_skips_a_summary_that_does_not_come(tmp_path):
    path = tmp_path / "store.db"
    with (
        testing.server(scripted(fold=testing.Hang())) as server,
        ended(start("turns", path, server.base_url, *range(1, 8))) as (process,),
    ):
        assert "Ctrl-C skips it" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert end(process, code=None).count("Noted") == 7
        assert time.monotonic() - began < FOLD_WAIT_S / 2
    with voxnb.ContextStore(path) as store:
        assert check_folds(store) == 0
        assert {state for _, state, _, _ in said(store)} == {"complete"}
        assert store[TALK].row().fold_owner is None
