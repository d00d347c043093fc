"""Processes to kill, a model by script, and what must hold of a file whatever was killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import voxnb
from voxnb import testing
from voxnb.store import fresh
from voxnb.testing.request import text_of

HERE = Path(__file__).resolve().parent
MODEL = "gpt-4o-mini"
TELLER = "gpt-4o"
"""The model that writes summaries; whatever is asked of it is a fold."""

CONVERSATION = "the talk"
WAIT_S = 30


class Nursery:
    """Starts children that are killed; see `nursery.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(None)

    def _ask(self, job: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if job is not None:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def run(self, server: testing.Server, path: Path, say: Sequence[Any], **more: Any) -> Child:
        """One child that says these things; waits until it has ended."""
        return Child(self._ask(job(server, path, say, **more)))

    def run_all(self, jobs: list[dict[str, Any]]) -> list[Child]:
        """Children side by side."""
        return [Child(found) for found in self._ask(jobs)]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def job(
    server: testing.Server, path: Path, say: Sequence[Any], *, policy: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """What a child is told to do."""
    return {
        "model": MODEL,
        "teller": TELLER,
        "base_url": server.base_url,
        "api_key": server.api_key,
        "path": str(path),
        "conversation": CONVERSATION,
        "say": list(say),
        "policy": policy,
        **more,
    }


class Child:
    """How a child ended, and what it told before."""

    def __init__(self, found: dict[str, Any]) -> None:
        status, told = found["status"], found["told"]
        self.killed = status & 0x7F == 9
        self.code = status >> 8
        self.replies: list[str] = [fact["reply"] for fact in told if "reply" in fact]
        self.at: str = next((fact["killed"] for fact in told if "killed" in fact), "")
        self.raised: str = next((fact["raised"] for fact in told if "raised" in fact), "")
        self.deltas: list[tuple[float, str]] = [(fact["at_s"], fact["delta"]) for fact in told if "delta" in fact]


def told_of(request: testing.Request) -> str:
    """A short summary of what a request shows."""
    tags = sorted({int(n) for m in request.messages for n in re.findall(r"#(\d+)", text_of(m.get("content")))})
    return f"They spoke of {len(tags)} things, from #{tags[0]} to #{tags[-1]}."


def answer(request: testing.Request) -> Any:
    """Chats are answered with their question's tag, folds in one sentence."""
    if request.model == TELLER:
        return told_of(request)
    tags = re.findall(r"#(\d+)", request.text)
    return f"Answer to #{tags[0] if tags else '?'}: " + "and so it goes on, " * 5


def scripted(chat: Callable[[testing.Request], Any]) -> Callable[[testing.Request], Any]:
    """Chats answered by a function, folds as ever."""
    return lambda request: answer(request) if request.model == TELLER else chat(request)


def question(n: int) -> str:
    """What a user says: a tag and some length."""
    return f"Question #{n}: " + "what do you make of it? " * 4


def talk(server: testing.Server, path: Path, policy: dict[str, Any], **more: Any) -> voxnb.ChatCompletionsAPIClient:
    """A client of this process in the conversation."""
    return voxnb.chat(
        MODEL,
        base_url=server.base_url,
        api_key=server.api_key,
        store=path,
        conversation=CONVERSATION,
        policy=voxnb.ContextPolicy(**policy),
        summary_model=TELLER,
        **more,
    )


def turns_of(path: Path) -> list[tuple[int, str, str, str]]:
    """(number, state, what the user said, what was answered) of every turn of the conversation's path."""
    with voxnb.ContextStore(path) as store:
        rows = store.database.read(
            "SELECT t.seq, t.state, "
            "(SELECT text FROM message m WHERE m.turn = t.id AND m.role = 'user' ORDER BY position LIMIT 1), "
            "(SELECT group_concat(text, '|') FROM message m WHERE m.turn = t.id AND m.role = 'assistant') "
            "FROM conversation k JOIN lineage l ON l.branch = k.branch "
            "JOIN turn t ON t.branch = l.source AND t.seq BETWEEN l.first_seq AND l.last_seq ORDER BY t.seq"
        )
    return [(seq, state, said or "", reply or "") for seq, state, said, reply in rows]


def summaries_of(path: Path) -> list[tuple[int, int, list[int]]]:
    """(first, last, turns shown) of every summary of the live chain, oldest first."""
    with voxnb.ContextStore(path) as store:
        found = []
        ((head,),) = store.database.read("SELECT head FROM conversation")
        while head is not None:
            ((first, last, previous),) = store.database.read(
                "SELECT first_seq, last_seq, previous FROM summary WHERE id = ?", (head,)
            )
            shown = [
                s for (s,) in store.database.read("SELECT seq FROM coverage WHERE summary = ? ORDER BY seq", (head,))
            ]
            found.append((first, last, shown))
            head = previous
    return found[::-1]


def assert_sound(path: Path) -> None:
    """The file opens, nothing in it contradicts anything else, and no turn is covered twice."""
    with voxnb.ContextStore(path) as store:
        verdict = store.verify()
        check = "INSERT INTO message_fts(message_fts) VALUES ('integrity-check')"
        store.database.write(lambda c: c.execute(check)).result()
        store.database.write(fresh.index_all).result()
        indexed = store.database.read("SELECT id FROM message_fts_docsize ORDER BY id")
        assert indexed == store.database.read("SELECT id FROM message WHERE text <> '' ORDER BY id")
    assert verdict, verdict
    shown = [seq for _, _, seqs in summaries_of(path) for seq in seqs]
    assert len(shown) == len(set(shown))
