"""A row per message: CSV and Parquet, written some thousand rows at a time."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import StoreError
from voxnb.runtime.packages import import_apart
from voxnb.store import ledger, tables
from voxnb.store.columns import MESSAGES
from voxnb.store.exporting.sink import Sink
from voxnb.store.frames import frame
from voxnb.store.paths import PATH
from voxnb.store.schema import MAX_SEQ

if TYPE_CHECKING:
    import pandas as pd

ROWS: Final = 10_000
SILENT: Final = f"SELECT count(*) {PATH} AND NOT EXISTS (SELECT 1 FROM message m WHERE m.turn = t.id)"
"""Turns in which nobody said anything: a request by a prompt's id that was never answered."""

NO_PLACE: Final = "states, models and costs of turns, titles and metadata: the format has no place for them"


OTHER_KEYS: Final = (
    f"SELECT k.key, count(*) {PATH.replace(' WHERE ', ' JOIN message m ON m.turn = t.id JOIN json_each(m.extra) k WHERE ')} "
    "AND m.extra IS NOT NULL AND k.value IS NOT NULL AND k.key NOT IN ('content', 'name', 'tool_calls', 'tool_call_id', "
    "'refusal', 'reasoning_content') GROUP BY k.key ORDER BY k.key"
)
"""What messages say beside what the table has columns for."""


class _Table(Sink):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rows: list[tuple[Any, ...]] = []
        self._sql = tables.statement(MESSAGES, MESSAGES.columns, conversation=True)

    def begin(self, names: list[str]) -> None:  # noqa: ARG002 - every row names its conversation
        """Write the columns."""
        self.write(_frame([]))

    def add(self, c: sqlite3.Connection, conversation: int, name: str) -> None:
        """Take one conversation's rows; a DataFrame of few rows costs as much as one of thousands."""
        self.remarks.add(NO_PLACE)
        before = self.messages
        row = ledger.by_id(c, conversation)  # raises where it was deleted meanwhile
        self.turns += row.last_seq
        for key, count in c.execute(OTHER_KEYS, {"branch": row.branch, "low": 1, "high": MAX_SEQ}):
            self.remarks.add(f"the key {key!r} of messages: there is no column for it", name, count=count)
        (silent,) = c.execute(SILENT, {"branch": row.branch, "low": 1, "high": MAX_SEQ}).fetchone()
        self.remarks.add("turns without a message: there is a row per message", name, count=silent)
        with closing(c.execute(self._sql, {"conversation": conversation})) as cursor:
            for row in cursor:
                self.messages += 1
                self._rows.append((name, *row))
                if len(self._rows) >= ROWS:
                    self._flush()
        if self.messages == before:
            self.remarks.add("conversations without a message: there is a row per message", name)

    def end(self) -> None:
        """Write what is left."""
        self._flush()

    def _flush(self) -> None:
        if self._rows:
            self.write(_frame(self._rows))
            self._rows = []

    def write(self, rows: pd.DataFrame) -> None:
        raise NotImplementedError


def _frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Some rows of the messages table, each with the conversation it was exported with: a fork's inherited turns too."""
    return frame({"conversation": "str", **{name: of.kind for name, of in MESSAGES.columns.items()}}, rows)


class Csv(_Table):
    """Comma-separated, UTF-8, every text in quotes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._headed = False

    def write(self, rows: pd.DataFrame) -> None:
        """Write some rows, the column names before the first."""
        rows.to_csv(
            self.file,
            index=False,
            header=not self._headed,
            encoding="utf-8",
            lineterminator="\n",
            # Every text in quotes: a lone carriage return would end the row for most readers.
            quoting=csv.QUOTE_NONNUMERIC,
        )
        self._headed = True


class Parquet(_Table):
    """Apache Parquet with the DataFrame's dtypes; needs pyarrow."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._writer: Any = None
        try:
            import_apart("pyarrow", "pyarrow.parquet")
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise StoreError(
                "writing Parquet needs pyarrow; install it with pip install 'voxnb[parquet]', or export to .csv or .jsonl",
                path=self.path,
            ) from error
        self._arrow, self._parquet = pa, pq

    def write(self, rows: pd.DataFrame) -> None:
        """Write some rows as a group."""
        table = self._arrow.Table.from_pandas(rows, preserve_index=False)
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self.file, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        """Write the file's footer; a writer that is left open complains of the file when it is collected."""
        if self._writer is not None:
            self._writer.close()
