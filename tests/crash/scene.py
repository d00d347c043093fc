"""What the tests of processes that end share: starting them, and looking at what they left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import voxnb
from tests.crash.child import TALK
from tests.invariants.scripted import told

ROOT = Path(__file__).resolve().parent.parent.parent

BUSY_S = 60
"""Longest wait for a process; the machine may be busy."""


def start(program: str, *arguments: Any) -> subprocess.Popen[str]:
    """A process that runs one of the programs of `child`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.child", program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], *, code: int | None = 0) -> str:
    """What it printed, once it has ended."""
    out, err = process.communicate(timeout=BUSY_S)
    assert code is None or process.returncode == code, err
    return out


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[tuple[subprocess.Popen[str], ...]]:
    """Processes that are ended with the block, whatever happens in it."""
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def run(program: str, *arguments: Any) -> str:
    """What a process prints that comes to a good end."""
    with ended(start(program, *arguments)) as (process,):
        return end(process)


def until(found: Callable[[], Any], *, timeout_s: float = BUSY_S) -> Any:
    """What a function finds, asked again and again until it finds something."""
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


def said(store: voxnb.ContextStore) -> list[tuple[int, str, str, str]]:
    """(turn, state of the turn, role, text) of the conversation."""
    return store.database.read(
        "SELECT t.seq, t.state, m.role, m.text FROM conversation k JOIN lineage l ON l.branch = k.branch "
        "JOIN turn t ON t.branch = l.source AND t.seq BETWEEN l.first_seq AND l.last_seq "
        "JOIN message m ON m.turn = t.id WHERE k.name = ? ORDER BY t.seq, m.position",
        (TALK,),
    )


def check_folds(store: voxnb.ContextStore) -> int:
    """Every answered turn up to where the folds reach is covered once and told of; how far they reach."""
    store_holds(store)
    talk = store[TALK]
    row = talk.row()
    covered: list[int] = []
    summary = talk.summary()
    text = summary.text if summary else ""
    while summary is not None:
        covered = [*summary.turns, *covered]
        summary = summary.previous
    answered = sorted({seq for seq, state, _, _ in said(store) if state in ("complete", "partial")})
    assert covered == [seq for seq in answered if seq <= row.folded_to]
    meant = {tag for seq, _, role, what in said(store) if role == "user" and seq in covered for tag in told(what)}
    assert meant <= told(text)
    return row.folded_to


def store_holds(store: voxnb.ContextStore) -> None:
    """What `verify` proves."""
    verdict = store.verify()
    assert verdict, str(verdict)
