"""A DataFrame or Series as CSV, cut between rows to a number of tokens, saying so."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from voxnb.errors import ParameterError

Count = Callable[[str], int]


def render_table(table: Any, *, count: Count, limit_tokens: int, where: str = "attach") -> str:
    """A pandas table as text for a model.

    Rows are taken from the top as long as the whole text, heading included, has at most `limit_tokens`. Only as much
    of the table is written as CSV as may fit, whatever its length.

    Args:
        table: a DataFrame or Series.
        count: tokens of a text.
        limit_tokens: how long the text may be.
        where: what the table is called in an error.

    Raises:
        ParameterError: not even the header and one row fit.
    """
    frame = table.to_frame() if table.ndim == 1 else table
    rows = len(frame)

    def tokens(shown: int) -> int:
        return count(_text(frame, rows=rows, shown=shown, limit_tokens=limit_tokens))

    # Doubled while it fits, then halved: of a long table only about twice the limit is ever written out.
    low, high = 0, min(rows, 16)
    while tokens(high) <= limit_tokens:
        if high == rows:
            return _text(frame, rows=rows, shown=rows, limit_tokens=limit_tokens)
        low, high = high, min(rows, high * 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tokens(middle) <= limit_tokens else (low, middle)
    if low == 0:
        raise ParameterError(
            f"{where} is a table of {_shape(rows, frame.shape[1])} whose header and first row take "
            f"{tokens(min(rows, 1)):,} tokens, more than the {limit_tokens:,} a table may have; choose columns: "
            "df[['a', 'b']]",
            name="attach",
        )
    return _text(frame, rows=rows, shown=low, limit_tokens=limit_tokens)


def _text(frame: Any, *, rows: int, shown: int, limit_tokens: int) -> str:
    body = frame.iloc[:shown].to_csv(index=_index_says_something(frame.index), lineterminator="\n")
    cut = f"rows 1-{shown:,} of {rows:,} as CSV, cut to {limit_tokens:,} tokens"
    part = cut if shown < rows else "as CSV"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", body)), default=0))
    return f"Table of {_shape(rows, frame.shape[1])}, {part}:\n{fence}csv\n{body}{fence}"


def _shape(rows: int, columns: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'} × {columns:,} {'column' if columns == 1 else 'columns'}"


def _index_says_something(index: Any) -> bool:
    """Whether the index is more than the numbers of the rows."""
    plain = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
    return not plain or index.name is not None
