"""What a conversation's memory costs per turn, beside a raw SQLite reference and two well-known libraries.

Appends a turn and builds a 4,000-token request at 100 to 100,000 turns, then holds whole conversations of 500 and
2,000 turns. No model and no network: what is timed is the memory alone, with the same durability everywhere (WAL; the
user's message committed with ``synchronous=NORMAL``, the reply with ``FULL``).

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install openai-agents langchain langchain-community sqlalchemy greenlet tiktoken -e .
    /tmp/peers/bin/python tests/bench/bench_store.py                     # some minutes
    /tmp/peers/bin/python tests/bench/bench_store.py --max-turns 1000    # seconds
    /tmp/peers/bin/python tests/bench/bench_store.py --dir /dev/shm      # a disk that syncs for nothing

A peer that is not installed is left out. "turn" is everything a request needs of the memory: store what the user said,
count it, build the request, store the reply; "append" is the turn without the build. Ours does what a client's turn
does, on the store's own writer thread: content hashes, the search index (written for 32 messages at once: the dear
turn counts for its sixteenth), call and event rows, and in "build" the request's plan with its hash. Its folds are
made by the deterministic extract, outside of "turn" (a client folds while the user reads) and inside of the whole
conversations. On a busy machine compare the CPU times: waits for disk and processor are the same for all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.metadata
import itertools
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from voxnb import ContextPolicy, ContextStore
from voxnb.clients.writer import write_extract
from voxnb.memory.plan import choose_fold
from voxnb.messages import Message
from voxnb.store import folding, journal
from voxnb.store.ending import Ending, finish
from voxnb.store.ids import new_id
from voxnb.store.journal import Ask, Begun
from voxnb.store.owner import this_process
from voxnb.store.planner import Once, Planner, measure_for
from voxnb.store.rows import CallRecord

MODEL = "gpt-4o-mini"
BUDGET_TOKENS = 4_000
MESSAGE_CHARS = 600
POINTS = (100, 1_000, 5_000, 10_000, 100_000)
WHOLE = (500, 2_000)
LIMIT_ITEMS = 30
STRETCH = 25
AT_ONCE = 5
PERIOD = 16
"""Turns after which ours has written its search index once, for all of them together."""

LEAST_ROUNDS = 3
chance = random.Random(7)
count: Callable[[str], int] = measure_for(MODEL).count


def texts() -> Iterator[str]:
    """English prose in pieces of `MESSAGE_CHARS`, the same in every run of one Python; numbered, so that none repeats."""
    from pydoc_data.topics import topics

    prose = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
    for n in itertools.count():
        start = n * MESSAGE_CHARS % (len(prose) - MESSAGE_CHARS)
        yield f"{n}. {prose[start : start + MESSAGE_CHARS - 12]}"


class Memory:
    """What is compared: a conversation in a file."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{type(self).__name__}-{new_id('b')}.db"
        self.texts = texts()
        self.turns = 0
        self.build_s = 0.0  # of the last turn

    def turn(self) -> None:
        """Store what the user said, build the request, store the reply."""
        self.user(next(self.texts))
        began = time.perf_counter()
        self.build()
        self.build_s = time.perf_counter() - began
        self.reply(next(self.texts))
        self.turns += 1

    def after(self) -> None:
        """What is done once the user has the reply."""

    def user(self, text: str) -> None: ...

    def reply(self, text: str) -> None: ...

    def build(self) -> Any: ...

    def fill(self, turns: int) -> None:
        """Bring the conversation to that many turns; not timed."""

    def close(self) -> None: ...


class Ours(Memory):
    """The transactions of a client's turn, without HTTP."""

    name = "voxnb"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store = ContextStore(self.path)
        self.database = self.store.database
        policy = ContextPolicy(window_tokens=5_400, reserve_output_tokens=400, fold_at_tokens=BUDGET_TOKENS)
        self.planner = Planner(policy.limits(5_400), measure_for(MODEL), parameters={"model": MODEL})
        self.uid = new_id("k")
        self.begun: Begun | None = None
        self.said: Any = None
        self.folds = 0

    def ask(self, text: str) -> Ask:
        return Ask(
            ref="bench",
            uid=self.uid,
            name="bench",
            must_be_new=False,
            model=MODEL,
            metadata={},
            messages=[Message("user", text, {})],
            measure=Once(self.planner.measure),
            instructions=[],
            parameters=self.planner.parameters,
            tools=None,
            lay_out=self.planner.lay_out,
            owner=this_process(),
            host="api.openai.com",
        )

    def begin(self, c: Any, ask: Ask) -> Begun:
        with timed_plan(self):
            begun = journal.begin(c, ask, now=time.time())
        assert isinstance(begun, Begun)
        assert begun.call_id is not None
        return begun

    def ending(self, text: str) -> Ending:
        usage = {"prompt_tokens": 4_000, "completion_tokens": 150, "cached_tokens": 0}
        call = CallRecord(
            new_id("c"), "turn", MODEL, "api.openai.com", "req_1", 4_000, usage, None, 0, 200.0, 900.0, "complete", None
        )
        said = self.said = self.planner.measure(Message("assistant", text, {}))
        events = [("Chunk", {"count": 150}), ("ContentDone", {"characters": len(text)})]
        return Ending(state="complete", message=said, finish_reason="stop", error=None, call=call, events=events)

    def finish(self, c: Any, begun: Begun, outcome: Ending) -> None:
        finish(c, begun.conversation, begun.turn.id, begun.call_id, ending=outcome, now=time.time())

    def turn(self) -> None:
        ask = self.ask(next(self.texts))

        def job(c: Any) -> Begun:
            for message in ask.messages:
                ask.measure(message)  # before the transaction, as a client does
            return self.database.transaction(c, lambda c: self.begin(c, ask), durable=False)

        begun = self.begun = self.database.perform(job).result()
        ending = self.ending(next(self.texts))
        self.database.write(lambda c: self.finish(c, begun, ending), durable=True).result()
        self.turns += 1

    def choose(self, snapshot: Any) -> Any:
        return choose_fold(snapshot, limits=self.planner.limits, weigh=self.planner.weigh)

    def take(self, c: Any) -> Any:
        assert self.begun is not None
        row = self.begun.conversation.id
        owner, measure = this_process(), self.planner.measure
        return folding.take(c, row, choose=self.choose, owner=owner, now=time.time(), forced=False, measure=measure)

    def after(self) -> None:
        assert self.begun is not None
        if not folding.may_be_due(self.begun.layout, self.said, weigh=self.planner.weigh):
            return
        job = self.database.write(self.take).result()
        if job is not None:
            written = write_extract(job, self.planner)
            done = self.database.write(
                lambda c: folding.commit(c, job, written, now=time.time()), durable=True
            ).result()
            assert done
            self.folds += 1

    def fill(self, turns: int) -> None:
        def work(c: Any) -> None:
            for _ in range(min(1_000, turns - self.turns)):
                self.begun = self.begin(c, self.ask(next(self.texts)))
                self.finish(c, self.begun, self.ending(next(self.texts)))
                self.turns += 1
                job = self.take(c)
                if job is not None:
                    assert folding.commit(c, job, write_extract(job, self.planner), now=time.time())
                    self.folds += 1

        while self.turns < turns:
            self.database.write(work).result()

    def close(self) -> None:
        self.store.close()


@contextlib.contextmanager
def timed_plan(memory: Ours) -> Iterator[None]:
    """Take the time of the part of a turn that builds its request."""
    plan_call = journal.plan_call

    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return plan_call(*given, **named)
        finally:
            memory.build_s = time.perf_counter() - began

    journal.plan_call = timed
    try:
        yield
    finally:
        journal.plan_call = plan_call


class Raw(Memory):
    """One table, one index, the token count beside the text: the floor."""

    name = "raw sqlite3"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.c = sqlite3.connect(self.path, isolation_level=None)
        self.c.execute("PRAGMA journal_mode=WAL")
        self.c.execute("PRAGMA synchronous=NORMAL")
        self.c.execute(
            "CREATE TABLE message (id INTEGER PRIMARY KEY, conversation INTEGER, role TEXT, content TEXT, tokens INTEGER)"
        )
        self.c.execute("CREATE INDEX message_conversation ON message(conversation, id)")

    def insert(self, role: str, text: str) -> None:
        self.c.execute(
            "INSERT INTO message (conversation, role, content, tokens) VALUES (1, ?, ?, ?)",
            (role, text, count(text) + 4),
        )

    def user(self, text: str) -> None:
        self.c.execute("BEGIN IMMEDIATE")
        self.insert("user", text)
        self.c.execute("COMMIT")

    def reply(self, text: str) -> None:
        self.c.execute("PRAGMA synchronous=FULL")
        self.c.execute("BEGIN IMMEDIATE")
        self.insert("assistant", text)
        self.c.execute("COMMIT")
        self.c.execute("PRAGMA synchronous=NORMAL")

    def build(self) -> Any:
        out, left = [], BUDGET_TOKENS
        for role, content, tokens in self.c.execute(
            "SELECT role, content, tokens FROM message WHERE conversation = 1 ORDER BY id DESC"
        ):
            left -= tokens
            if left < 0:
                break
            out.append({"role": role, "content": content})
        return out[::-1]

    def fill(self, turns: int) -> None:
        self.c.execute("BEGIN IMMEDIATE")
        for _ in range(self.turns, turns):
            self.insert("user", next(self.texts))
            self.insert("assistant", next(self.texts))
        self.c.execute("COMMIT")
        self.turns = max(turns, self.turns)

    def close(self) -> None:
        self.c.close()


class Agents(Memory):
    """openai-agents: all items are read, the newest that fit are kept by counting them. Items as its runner stores them."""

    name = "openai-agents, all items"
    limit: int | None = None

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from agents import SQLiteSession

        class Session(SQLiteSession):
            """Its connections with the durability of the others."""

            mode = "NORMAL"

            def _get_connection(self) -> sqlite3.Connection:
                connection = super()._get_connection()
                connection.execute(f"PRAGMA synchronous={self.mode}")
                return connection

        self.loop = asyncio.new_event_loop()
        self.session = Session("bench", self.path)

    def add(self, items: list[Any], mode: str) -> None:
        self.session.mode = mode
        self.loop.run_until_complete(self.session.add_items(items))

    def item(self, role: str, text: str) -> Any:
        if role == "user":
            return {"role": "user", "content": text}
        part = {"annotations": [], "text": text, "type": "output_text", "logprobs": []}
        name = f"msg_{self.turns:050}"
        return {"id": name, "content": [part], "role": "assistant", "status": "completed", "type": "message"}

    def user(self, text: str) -> None:
        self.add([self.item("user", text)], "NORMAL")

    def reply(self, text: str) -> None:
        self.add([self.item("assistant", text)], "FULL")

    def build(self) -> Any:
        items: list[Any] = self.loop.run_until_complete(self.session.get_items(limit=self.limit))
        left, start = BUDGET_TOKENS, len(items)
        while start:
            content = items[start - 1]["content"]
            left -= count(content if isinstance(content, str) else content[0]["text"]) + 4
            if left < 0:
                break
            start -= 1
        return items[start:]

    def fill(self, turns: int) -> None:
        while self.turns < turns:
            n = min(1_000, turns - self.turns)
            self.add([self.item(role, next(self.texts)) for _ in range(n) for role in ("user", "assistant")], "NORMAL")
            self.turns += n

    def close(self) -> None:
        self.session.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class AgentsLimited(Agents):
    """The same with its own limit: as fast, and older turns are forgotten without a trace."""

    name = f"openai-agents, limit={LIMIT_ITEMS}"
    limit = LIMIT_ITEMS


class LangChain(Memory):
    """LangChain's SQL history, cut by trim_messages with its fastest counter (about 4 characters a token)."""

    name = "LangChain, trim_messages"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import sqlalchemy
        from langchain_community.chat_message_histories import SQLChatMessageHistory
        from langchain_core.messages import AIMessage, HumanMessage, trim_messages

        self.mode = "NORMAL"
        self.human, self.ai, self.trim = HumanMessage, AIMessage, trim_messages
        self.engine = sqlalchemy.create_engine(f"sqlite:///{self.path}")

        @sqlalchemy.event.listens_for(self.engine, "checkout")
        def _(connection: Any, *_: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self.mode}")

        self.history = SQLChatMessageHistory("bench", connection=self.engine)

    def user(self, text: str) -> None:
        self.mode = "NORMAL"
        self.history.add_message(self.human(text))

    def reply(self, text: str) -> None:
        self.mode = "FULL"
        self.history.add_message(self.ai(text))

    def build(self) -> Any:
        return self.trim(
            self.history.messages,
            max_tokens=BUDGET_TOKENS,
            strategy="last",
            token_counter="approximate",
            start_on="human",
        )

    def fill(self, turns: int) -> None:
        while self.turns < turns:
            n = min(1_000, turns - self.turns)
            self.history.add_messages(
                [m for _ in range(n) for m in (self.human(next(self.texts)), self.ai(next(self.texts)))]
            )
            self.turns += n

    def close(self) -> None:
        self.engine.dispose()


KINDS: tuple[type[Memory], ...] = (Raw, Ours, Agents, AgentsLimited, LangChain)


def installed() -> list[type[Memory]]:
    """What can be compared here; says what cannot."""
    missing = {}
    for kind, modules in {
        Agents: ("agents",),
        LangChain: ("sqlalchemy", "langchain_community.chat_message_histories"),
    }.items():
        try:
            for module in modules:
                importlib.import_module(module)
        except ImportError as error:
            missing[kind] = error
            print(f"{kind.name} is left out: {error}")
    return [kind for kind in KINDS if not any(issubclass(kind, gone) for gone in missing)]


# -- timing -----------------------------------------------------------------------------------


class Took(NamedTuple):
    """Milliseconds of a turn, of what builds its request, of the rest, and of CPU time of the whole turn."""

    turn: float
    build: float
    append: float
    cpu: float


def interleaved(memories: list[Memory], *, rounds: int, budget_s: float = 8.0) -> dict[str, Took]:
    """What a turn costs each of them.

    A few turns of each, then of the next one, so that what else the machine does meets all of them. Of all turns with
    the same place in a period (see `PERIOD`) the median counts, of these the mean: one turn of a period may be dearer.
    """
    took: dict[str, dict[int, list[tuple[float, float, float, float]]]] = {memory.name: {} for memory in memories}
    spent = dict.fromkeys(took, 0.0)
    for _ in range(0, rounds, AT_ONCE):
        # In another order each time: a sync also pays for what the one before left unwritten.
        for memory in chance.sample(memories, len(memories)):
            times = took[memory.name]
            for n in range(AT_ONCE + 1):
                if len(times) >= LEAST_ROUNDS and spent[memory.name] > budget_s:
                    break
                began, cpu_began = time.perf_counter(), time.process_time()
                memory.turn()
                turn, cpu = time.perf_counter() - began, time.process_time() - cpu_began
                if n:  # the first fills caches that the others have emptied
                    times.setdefault(memory.turns % PERIOD, []).append(
                        (turn, memory.build_s, turn - memory.build_s, cpu)
                    )
                    spent[memory.name] += turn
                memory.after()

    def typical(times: Iterable[list[tuple[float, float, float, float]]], column: int) -> float:
        return statistics.mean(statistics.median(t[column] for t in same) for same in times) * 1e3

    return {name: Took(*(typical(times.values(), column) for column in range(4))) for name, times in took.items()}


def at_points(kinds: list[type[Memory]], folder: Path, *, max_turns: int, rounds: int) -> dict[int, dict[str, Took]]:
    """What a turn costs, by number of turns and store."""
    memories = [kind(folder) for kind in kinds]
    found: dict[int, dict[str, Took]] = {}
    for point in (p for p in POINTS if p <= max_turns):
        for memory in memories:
            memory.fill(point)
        gc.collect()
        found[point] = interleaved(memories, rounds=rounds)
        ours, raw = found[point][Ours.name], found[point][Raw.name]
        print(
            f"\n{point:,} turns".ljust(30)
            + "      turn     build    append  CPU of a turn, ms;  build / ours  append / raw  CPU / raw   file, MB"
        )
        for memory in memories:
            took = found[point][memory.name]
            size = memory.path.stat().st_size / 1e6
            print(
                f"  {memory.name:<28}{took.turn:>9.2f} {took.build:>9.2f} {took.append:>9.2f} {took.cpu:>14.2f} "
                f"{took.build / ours.build:>18.1f} {took.append / raw.append:>13.1f} {took.cpu / raw.cpu:>10.1f} {size:>10.1f}"
            )
    for memory in memories:
        memory.close()
    return found


def whole(kinds: list[type[Memory]], folder: Path, *, max_turns: int) -> dict[int, dict[str, float]]:
    """Seconds for the memory of whole conversations, folds included; stretch by stretch in turns, as above."""
    found: dict[int, dict[str, float]] = {}
    for turns in (n for n in WHOLE if n <= max_turns):
        memories = [kind(folder) for kind in kinds if turns <= WHOLE[0] or kind is not LangChain]  # minutes
        took = found[turns] = dict.fromkeys((memory.name for memory in memories), 0.0)
        cpu = dict.fromkeys(took, 0.0)
        for _ in range(turns // STRETCH):
            for memory in chance.sample(memories, len(memories)):
                began, cpu_began = time.perf_counter(), time.process_time()
                for _ in range(STRETCH):
                    memory.turn()
                    memory.after()
                took[memory.name] += time.perf_counter() - began
                cpu[memory.name] += time.process_time() - cpu_began
        print(f"\na whole conversation of {turns:,} turns".ljust(42) + "s   ms a turn    / ours   CPU, ms    / ours")
        for memory in memories:
            folds = f"   {memory.folds} folds" if isinstance(memory, Ours) else ""
            s, busy = took[memory.name], cpu[memory.name]
            print(
                f"  {memory.name:<28}{s:>12.2f} {s / turns * 1e3:>11.2f} {s / took[Ours.name]:>9.1f} "
                f"{busy / turns * 1e3:>9.2f} {busy / cpu[Ours.name]:>9.1f}{folds}"
            )
            memory.close()
    return found


def verdicts(
    points: dict[int, dict[str, Took]], wholes: dict[int, dict[str, float]]
) -> Iterator[tuple[str, float, float, bool]]:
    """(what, ratio, target, whether it is reached)."""
    ours, first, last = Ours.name, min(points), max(points)
    grown = points[last][ours].turn / points[first][ours].turn
    yield f"a turn at {last:,} turns against one at {first:,}", grown, 2.0, grown <= 2.0
    for n, row in points.items():
        ratio = row[ours].append / row[Raw.name].append
        yield f"append at {n:,} turns against raw sqlite3", ratio, 3.0, ratio <= 3.0
    for peer, least in ((Agents.name, 20.0), (LangChain.name, 200.0)):
        if 5_000 in points and peer in points[5_000]:
            ratio = points[5_000][peer].build / points[5_000][ours].build
            yield f"building a request at 5,000 turns, {peer}", ratio, least, ratio >= least
    for n, least in ((500, 4.0), (2_000, 10.0)):
        if n in wholes and Agents.name in wholes[n]:
            ratio = wholes[n][Agents.name] / wholes[n][ours]
            yield f"a whole conversation of {n:,} turns, {Agents.name}", ratio, least, ratio >= least


def sync_ms(folder: Path) -> float:
    """What one sync of this disk costs."""
    path, times = folder / "sync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def main() -> int:
    """Run, print, and end with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--max-turns", type=int, default=POINTS[-1], help="stop at this many turns")
    parser.add_argument("--rounds", type=int, default=160, help="turns timed per number")
    parser.add_argument("--dir", type=Path, help="folder on the disk to measure (default: the temporary one)")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="voxnb-bench-", dir=given.dir))
    packages = (
        "voxnb",
        "openai-agents",
        "langchain",
        "langchain-core",
        "langchain-community",
        "sqlalchemy",
        "tiktoken",
    )
    try:
        print(
            f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, one sync {sync_ms(folder):.2f} ms"
        )
        kinds = installed()
        versions = []
        for name in packages:
            try:
                versions.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                continue
        print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(versions)}")
        next(texts())
        count("the encoding is read once")
        points = at_points(kinds, folder, max_turns=max(given.max_turns, POINTS[0]), rounds=given.rounds)
        wholes = whole(kinds, folder, max_turns=given.max_turns)
        print("\ntargets")
        reached = True
        for what, ratio, target, good in verdicts(points, wholes):
            reached &= good
            print(f"  {'reached' if good else 'MISSED '} {ratio:>9.2f} (target {target:g})  {what}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
