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
    frame = table.to_frame() if not hasattr(table, "columns") else table
    rows = len(frame)

    def fits(shown: int) -> bool:
        return count(_text(frame, rows=rows, shown=shown, limit_tokens=limit_tokens)) <= limit_tokens

    # No row takes less than a token, so no more than limit_tokens rows can fit: the search starts small.
    low, high = 0, min(rows, max(limit_tokens, 1))
    step = 16
    while low < high:
        middle = min(high, low + step)
        if fits(middle):
            low, step = middle, step * 2
        else:
            high, step = middle - 1, max(1, (middle - low) // 2)
    if (low == 0 and rows) or (rows == 0 and not fits(0)):
        needed = count(_text(frame, rows=rows, shown=min(rows, 1), limit_tokens=limit_tokens))
        raise ParameterError(
            f"{where} is a table of {_shape(rows, frame.shape[1])} whose header and first row take {needed:,} tokens, "
            f"more than the {limit_tokens:,} a table may have; choose columns: df[['a', 'b']]",
            name="attach",
        )
    return _text(frame, rows=rows, shown=low, limit_tokens=limit_tokens)


def _text(frame: Any, *, rows: int, shown: int, limit_tokens: int) -> str:
    body = frame.iloc[:shown].to_csv(index=_index_says_something(frame.index), lineterminator="\n")
    if shown < rows:
        part = f"rows 1-{shown:,} of {rows:,} as CSV, cut to {limit_tokens:,} tokens"
    else:
        part = "as CSV"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", body)), default=0))
    return f"Table of {_shape(rows, frame.shape[1])}, {part}:\n{fence}csv\n{body}{fence}"


def _shape(rows: int, columns: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'} × {columns:,} {'column' if columns == 1 else 'columns'}"


def _index_says_something(index: Any) -> bool:
    """Whether the index is more than the numbers of the rows."""
    plain = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
    return not plain or index.name is not None
