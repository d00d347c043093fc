"""Programs that talk and come to an end: ``python -m tests.crash.child <program> <arguments>``."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import voxnb
from tests.invariants.scripted import MODEL, TELLER, WAIT_S, small

TALK = "talk"
"""The conversation everybody speaks in."""


def client(path: str | Path, base_url: str, **parameters: Any) -> voxnb.ChatCompletionsAPIClient:
    """A chat in that conversation of that file, under a small budget."""
    given = {"policy": small(), "summary_model": TELLER, "timeout_s": WAIT_S, **parameters}
    return voxnb.chat(MODEL, conversation=TALK, store=str(path), base_url=base_url, api_key="test", **given)


def question(tag: int) -> str:
    """What is said about a tag."""
    return f"Tell me of #{tag}, " + "please " * 12


# -- killed at a statement --------------------------------------------------------------------


def warm() -> None:
    """Load what a first turn loads, so that a forked process begins at once; starts no thread."""
    import anyio._backends._asyncio  # noqa: F401 - of all of them: loaded, not used
    import openai.resources.chat.completions  # noqa: F401
    import sqlite_utils  # noqa: F401

    from voxnb.clients import sdk  # noqa: F401
    from voxnb.store.planner import measure_for

    measure_for(MODEL, count=None).count("a word")


def trace(step: Callable[[str], None]) -> None:
    """Call a function before every statement of every store's connection."""
    from voxnb.store.database import Database

    connect = Database._connect

    def traced(self: Any) -> Any:
        connection = connect(self)
        connection.set_trace_callback(step)
        return connection

    Database._connect = traced  # type: ignore[method-assign]  # SQLite itself calls; nothing of the store changes


def points(folder: str, base_url: str, tag: str, *numbers: str) -> None:
    """One turn and its fold in ``<n>.db`` for each n, in a process that dies before its n-th statement.

    It asks about the given tag plus n. ``<n>.heard`` says what its user had read, ``<n>.count`` (where it lived on) how many statements there were.
    """
    warm()
    for number in map(int, numbers):
        pid = os.fork()
        if pid == 0:
            _until(number, folder=Path(folder), base_url=base_url, tag=int(tag) + number)
            return  # and out through the interpreter's own exit
        _, status = os.waitpid(pid, 0)
        print(number, os.waitstatus_to_exitcode(status), flush=True)


def _until(number: int, *, folder: Path, base_url: str, tag: int) -> None:
    counter = itertools.count(1)
    count = 0

    def step(_: str) -> None:
        nonlocal count
        count = next(counter)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    trace(step)
    with client(folder / f"{number}.db", base_url) as chat:
        reply = chat.ask(question(tag)).result(WAIT_S)
        (folder / f"{number}.heard").write_text(reply.text)
        chat.idle().result(WAIT_S)
    chat.store.close()
    (folder / f"{number}.count").write_text(str(count))


# -- talking ----------------------------------------------------------------------------------


def turns(path: str, base_url: str, *tags: str) -> None:
    """Some turns and nothing else: no close(), no waiting for folds."""
    chat = client(path, base_url)
    for tag in tags:
        print(chat.ask(question(int(tag))).result(WAIT_S), flush=True)


def one_each(path: str, base_url: str, *tags: str) -> None:
    """The same, each turn in a process of its own, one after the other."""
    warm()
    for tag in tags:
        pid = os.fork()
        if pid == 0:
            turns(path, base_url, tag)
            return  # and out through the interpreter's own exit
        _, status = os.waitpid(pid, 0)
        assert status == 0


def stream(path: str, base_url: str, tag: str, way: str = "for") -> None:
    """One turn, printed as it comes, or waited for in one of the ways there are."""
    turn = client(path, base_url).ask(question(int(tag)))
    if way == "for":
        for delta in turn:
            print(delta, end="", flush=True)
        return
    print(next(iter(turn)), flush=True)
    if way == "result":
        turn.result()
    else:
        asyncio.run(_awaiting(turn))


async def _awaiting(turn: Any) -> None:
    await turn


# -- no room ----------------------------------------------------------------------------------


def limited(path: str, base_url: str, room_bytes: str) -> None:
    """Talk until no file may grow any more, then with room again; says what happened."""
    with client(path, base_url, policy=small(window_tokens=100_000, fold_at_tokens=90_000)) as chat:
        chat.ask(question(1)).result(WAIT_S)
        largest = max(Path(path + ending).stat().st_size for ending in ("", "-wal"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + int(room_bytes), resource.RLIM_INFINITY))
        error = talk_on(chat, first_tag=2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(type(error).__name__, type(error.__cause__).__module__)
        print(chat.ask(question(999)).result(WAIT_S))


def talk_on(chat: voxnb.ChatCompletionsAPIClient, *, first_tag: int) -> voxnb.VoxnbError:
    """Say long things until something goes wrong."""
    for tag in itertools.count(first_tag):
        try:
            chat.ask(question(tag) + "and more " * 500).result(WAIT_S)
        except voxnb.VoxnbError as error:
            return error
    raise AssertionError("unreachable: one counts for ever")


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    programs: dict[str, Callable[..., None]] = {
        "points": points, "turns": turns, "one_each": one_each, "stream": stream, "limited": limited
    }  # fmt: skip
    programs[program](*arguments)
