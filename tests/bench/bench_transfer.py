"""What importing a million messages costs, in time and memory, beside sqlite-utils with the same rows.

    python tests/bench/bench_transfer.py
    python tests/bench/bench_transfer.py --messages 100000

The file is JSON Lines as OpenAI's chat API has it, ten messages of about thirty words to a conversation. Each contender runs
in a process of its own and reads that same file:

- ``voxnb``: `ContextStore.import_conversations`. Conversations, turns, messages, with token counts, content hashes, unique
  ids, indexes, foreign keys and full-text search by conversation; a transaction per 8,000 messages, read and counted on
  one core while the one before is written on another, and made durable at the end.
- ``sqlite-utils with search``: ``insert_all`` into a table of conversations and a table of messages with a foreign key and a
  unique index on (conversation, position), then ``enable_fts`` on the text, which is faster than triggers from the start.
- ``sqlite-utils, rows alone``: the same two ``insert_all`` and nothing else.

The targets: at most twice the time of sqlite-utils with search, and memory that does not grow with the file. Exports of the
same store are timed too. The processor time is about twice theirs, so on a machine whose second core is busy the first target
is near; the load is printed for that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = 2.0
MEMORY_TARGET_MB = 400.0
PER_CONVERSATION = 10
WORDS = (
    "the of and to in a is that for it as was with be by on not he but at are this have from or had an they which one you "
    "were all there would their we him been has when who will no more if out so up said what its about than into them can "
    "only other time new some could these two may first then do any like my now over such our most made after also did "
    "many before must well back through years much where your way down should because long each just state those people "
    "table missing value median query index winter summer riders station data frame group mean plot figure column average"
).split()


def generate(path: Path, messages: int) -> None:
    """Write the file; the same one every time."""
    chance = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(0, messages, PER_CONVERSATION):
            said = []
            for position in range(min(PER_CONVERSATION, messages - number)):
                text = " ".join(chance.choices(WORDS, k=chance.randint(5, 55)))
                if position % 5 == 0:
                    text += f" {chance.randint(1, 99_999)}"
                said.append({"role": "assistant" if position % 2 else "user", "content": text})
            file.write(json.dumps({"messages": said}) + "\n")


# -- contenders: each runs alone in a process -------------------------------------------------


def run_voxnb(source: Path, db: Path) -> dict[str, float]:
    """Our import, then our exports."""
    from voxnb.store.context_store import ContextStore

    with ContextStore(db) as store:
        began = time.perf_counter()
        report = store.import_conversations(source, progress=False)
        took = time.perf_counter() - began
        peak = peak_mb()
        out: dict[str, float] = {"seconds": took, "peak_mb": peak, "rows": report.messages}
        for name, form in (("all.jsonl", None), ("tuning.jsonl", "openai"), ("all.csv", None)):
            began = time.perf_counter()
            store.export_conversations(db.parent / name, format=form, progress=False)
            out[f"export {name}"] = time.perf_counter() - began
        out["peak_after_exports_mb"] = peak_mb()
        began = time.perf_counter()
        again = store.import_conversations(source, progress=False)
        out["import again"] = time.perf_counter() - began
        assert again.conversations == 0
        assert again.known == report.conversations
    return out


def run_sqlite_utils(source: Path, db: Path, *, search: bool) -> dict[str, float]:
    """sqlite-utils' insert_all of the same rows."""
    from sqlite_utils import Database

    began = time.perf_counter()
    store = Database(db)
    store.enable_wal()
    store["conversation"].insert_all(conversation_rows(source), pk="id")
    store["message"].create(
        {"id": int, "conversation": int, "position": int, "role": str, "text": str, "created_at": float},
        pk="id",
        foreign_keys=[("conversation", "conversation", "id")] if search else [],
    )
    if search:
        store["message"].create_index(["conversation", "position"], unique=True)
    store["message"].insert_all(message_rows(source))
    if search:
        store["message"].enable_fts(["text"], create_triggers=True)
    took = time.perf_counter() - began
    return {"seconds": took, "peak_mb": peak_mb(), "rows": store["message"].count}


def conversation_rows(source: Path) -> Iterator[dict[str, Any]]:
    """A row per line."""
    with source.open(encoding="utf-8") as file:
        for number, _ in enumerate(file, 1):
            yield {"id": number, "name": f"line {number}", "created_at": 1.0}


def message_rows(source: Path) -> Iterator[dict[str, Any]]:
    """A row per message."""
    key = 0
    with source.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            for position, said in enumerate(json.loads(line)["messages"]):
                key += 1
                yield {
                    "id": key, "conversation": number, "position": position, "role": said["role"], "text": said["content"],
                    "created_at": 1.0,
                }  # fmt: skip


def peak_mb() -> float:
    """The most memory this process has held."""
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


CONTENDERS = {
    "voxnb": run_voxnb,
    "sqlite-utils with search": lambda source, db: run_sqlite_utils(source, db, search=True),
    "sqlite-utils, rows alone": lambda source, db: run_sqlite_utils(source, db, search=False),
}


def contend(name: str, source: Path, folder: Path) -> dict[str, float]:
    """What a contender measured, in a process of its own and an empty folder."""
    folder.mkdir()
    command = [sys.executable, __file__, "--contender", name, str(source), str(folder / "store.db")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    found["file_mb"] = sum(p.stat().st_size for p in folder.iterdir() if p.name.startswith("store.db")) / 1e6
    return found


def main() -> int:
    """Run, print, and end with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--contender", nargs=3, metavar=("NAME", "SOURCE", "DB"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        name, source, db = given.contender
        print(json.dumps(CONTENDERS[name](Path(source), Path(db))))
        return 0
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory(prefix="voxnb-bench-") as name:
        folder = Path(name)
        source = folder / "chat.jsonl"
        generate(source, given.messages)
        small = folder / "small.jsonl"
        generate(small, max(PER_CONVERSATION, given.messages // 5))
        print(f"{given.messages:,} messages, {source.stat().st_size / 1e6:.0f} MB of JSON Lines")
        found = {}
        for number, contender in enumerate(CONTENDERS):
            found[contender] = took = contend(contender, source, folder / f"run{number}")
            print(
                f"{contender:26} {took['seconds']:6.1f} s  {took['rows'] / took['seconds']:9,.0f} messages/s  "
                f"peak {took['peak_mb']:5.0f} MB  file {took['file_mb']:5.0f} MB  load {os.getloadavg()[0]:.1f}"
            )
        ours, theirs = found["voxnb"], found["sqlite-utils with search"]
        fifth = contend("voxnb", small, folder / "fifth")
    for what, seconds in ours.items():
        if what.startswith(("export", "import again")):
            print(f"  voxnb {what}: {seconds:.1f} s")
    print(
        f"  voxnb peak after the exports: {ours['peak_after_exports_mb']:.0f} MB; of a fifth of the file: {fifth['peak_mb']:.0f} MB"
    )
    ratio, plain = (ours["seconds"] / found[name]["seconds"] for name in list(CONTENDERS)[1:])
    print(
        f"{'reached' if ratio <= TARGET else 'MISSED '} {ratio:.2f} × sqlite-utils with search, target {TARGET:g} ({plain:.2f} × rows alone)"
    )
    bounded = ours["peak_mb"] <= MEMORY_TARGET_MB
    print(f"{'reached' if bounded else 'MISSED '} peak {ours['peak_mb']:.0f} MB, target {MEMORY_TARGET_MB:g}")
    assert ours["rows"] == theirs["rows"] == given.messages
    return 0 if ratio <= TARGET and bounded else 1


if __name__ == "__main__":
    sys.exit(main())
