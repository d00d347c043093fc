"""A program that has imported everything and forks a child per job: each is a process of its own that can be killed.

Reads jobs as JSON lines and answers each with a JSON line: ``{"status": wait status, "told": [what the child told]}``.
A list of jobs is done at once, by as many children.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import httpx2  # noqa: F401 - so that no child spends its time importing
import openai  # noqa: F401
import sqlite_utils  # noqa: F401

import voxnb
from voxnb.clients import chat  # noqa: F401
from voxnb.runtime import encodings
from voxnb.store.database import Database


class Fuse:
    """Counts the statements of this process and kills it before the given one runs."""

    def __init__(self, tell: Any, *, at: int) -> None:
        self.tell, self.at, self.seen = tell, at, 0

    def __call__(self, statement: str) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.tell({"killed": " ".join(statement.split())[:100]})
            os.kill(os.getpid(), signal.SIGKILL)

    def lay(self) -> None:
        """Watch every connection that is opened from now on."""
        connect = Database._connect

        def watched(database: Database, *kind: type[sqlite3.Connection]) -> Any:
            connection = connect(database, *kind)
            connection.set_trace_callback(self)
            return connection

        Database._connect = watched  # type: ignore[method-assign]  # the point of it


def converse(job: dict[str, Any], tell: Any) -> None:
    """Say some things, wait for folds, close."""
    fuse = Fuse(tell, at=job.get("kill_at", 0))
    fuse.lay()
    talk = voxnb.chat(
        job["model"],
        base_url=job["base_url"],
        api_key=job["api_key"],
        store=job["path"],
        conversation=job["conversation"],
        policy=voxnb.ContextPolicy(**job["policy"]),
        summary_model=job["teller"],
    )
    for said in job["say"]:
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        turn = talk.create_chat_completions(messages=messages)
        if "kill_after_s" in job:
            follow(turn, tell, end_s=job["kill_after_s"])
        tell({"reply": turn.result(60).text})
    if job.get("wait", True):
        talk.idle().result(60)
        tell({"idle": True})
    if job.get("close", True):
        talk.close()
    tell({"statements": fuse.seen})


def follow(turn: voxnb.Turn, tell: Any, *, end_s: float) -> None:
    """Tell each piece of a reply as it comes, with its time; die some seconds after the first."""
    first = None
    for delta in turn:
        now = time.monotonic()
        first = first or now
        tell({"delta": delta, "at_s": now - first})
        if now - first > end_s:
            os.kill(os.getpid(), signal.SIGKILL)


def child(job: dict[str, Any], pipe: int) -> None:
    """Do a job and end, as an interpreter ends."""

    def tell(fact: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(fact).encode() + b"\n")

    code = 1
    try:
        converse(job, tell)
        code = 0
    except BaseException:
        tell({"raised": traceback.format_exc()})
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def start(job: dict[str, Any]) -> tuple[int, int]:
    """Fork a child; its id, and the end of the pipe it tells on."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(job, write)
    os.close(write)
    return pid, read


def finish(pid: int, read: int) -> dict[str, Any]:
    """Wait for a child."""
    with os.fdopen(read) as pipe:
        told = [json.loads(line) for line in pipe]
    return {"status": os.waitpid(pid, 0)[1], "told": told}


def main() -> None:
    """Serve jobs until the input ends."""
    encodings.load("o200k_base")
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        jobs = json.loads(line)
        if isinstance(jobs, dict):
            answer: Any = finish(*start(jobs))
        else:
            started = [start(job) for job in jobs]
            answer = [finish(*one) for one in started]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    main()
