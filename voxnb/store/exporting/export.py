"""Conversations to a file, in any of the formats; see `export`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

from voxnb.errors import ParameterError
from voxnb.params import did_you_mean, nearest
from voxnb.runtime import config
from voxnb.runtime.progress import Progress, following
from voxnb.store import ledger
from voxnb.store.database import Database
from voxnb.store.ending import close_left
from voxnb.store.exporting.contents import holdings
from voxnb.store.exporting.finetuning import FineTuning
from voxnb.store.exporting.jsonl import JsonLines
from voxnb.store.exporting.markdown import Markdown
from voxnb.store.exporting.page import Page
from voxnb.store.exporting.sink import Sink
from voxnb.store.exporting.table import Csv, Parquet
from voxnb.store.exporting.whole_file import write_whole
from voxnb.store.report import ExportReport, Remarks

SINKS: Final[dict[str, type[Sink]]] = {
    "jsonl": JsonLines, "openai": FineTuning, "csv": Csv, "parquet": Parquet, "md": Markdown, "html": Page
}  # fmt: skip
"""Format → what writes it."""


def export(
    db: Database,
    path: str | Path,
    /,
    *,
    conversations: Iterable[Any] | None = None,
    format: str | None = None,  # noqa: A002 - the word users know from pandas
    overwrite: bool = False,
    progress: Progress = None,
) -> ExportReport:
    """Write conversations' current paths to a file: one state of the store, conversation by conversation.

    The file appears whole or not at all, readable by its owner only; an interrupt leaves none.

    Args:
        db: the store.
        path: where to; the suffix says the format.
        conversations: names, ids or `Conversation` objects, in the order wanted; None for all, oldest first.
        format: see `SINKS`; whatever the suffix.
        overwrite: replace a file that is there.
        progress: see `voxnb.runtime.progress.Progress`; counts conversations.

    Raises:
        ParameterError: an unknown format.
        UnknownConversationError: there is no such conversation.
        StoreError: the file is there, or cannot be written; for Parquet also that pyarrow is missing.
        StoreFullError: the disk is full.
    """
    target = config.expanded(path)
    name = _format(target, format)
    remarks = Remarks()
    close_left(db, now=time.time())
    done: list[Sink] = []

    def write(file: IO[bytes]) -> None:
        sink = SINKS[name](file, remarks, path=db.path)
        done.append(sink)
        with closing(sink), db.snapshot() as c:
            rows = _chosen(c, conversations)
            with following(progress, title=target.name, total=len(rows), unit="conversation", after_s=1.0) as step:
                _write_all(c, sink, rows, step)

    write_whole(target, write, overwrite=overwrite)
    (sink,) = done
    return ExportReport(
        path=target,
        format=name,
        conversations=sink.conversations,
        turns=sink.turns,
        messages=sink.messages,
        left_out=remarks.all(),
    )


def _chosen(c: sqlite3.Connection, wanted: Any) -> list[tuple[int, str]]:
    """(row id, name) of the conversations to write, each once."""
    if wanted is None:
        return [(int(row), str(name)) for row, name in c.execute("SELECT id, name FROM conversation ORDER BY id")]
    if not isinstance(wanted, Iterable) and not hasattr(wanted, "id"):
        raise ParameterError(f"conversations is {wanted!r}, expected names in a list", name="conversations")
    given = [wanted] if isinstance(wanted, str) or hasattr(wanted, "id") else list(wanted)
    found = [ledger.need(c, str(getattr(ref, "id", ref))) for ref in given]
    return list(dict.fromkeys((row.id, row.name) for row in found))


def _write_all(c: sqlite3.Connection, sink: Sink, rows: list[tuple[int, str]], step: Callable[[int], None]) -> None:
    sink.begin([name for _, name in rows])
    for number, (row, name) in enumerate(rows, 1):
        sink.add(c, row, name)
        sink.conversations += 1
        for kind, count in holdings(c, row).items():
            if count and kind not in sink.carries:
                sink.remarks.add(kind, name, count=count)
        step(number)
    sink.end()


def _format(target: Path, given: Any) -> str:
    name = (target.suffix if given is None else str(given)).lower().removeprefix(".")
    if name not in SINKS:
        where = f"the suffix of {target.name!r}" if given is None else f"format={given!r}"
        raise ParameterError(
            f"{where} names no format{did_you_mean(name, SINKS)}; known are {', '.join(SINKS)}",
            name="format",
            nearest=nearest(name, SINKS),
        )
    return name
