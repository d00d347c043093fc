"""How voxnb's tables look in a notebook: long texts folded, times that read, NA as nothing; no style, no script.

A table is an ordinary DataFrame with a mark in its ``attrs``, which pandas passes on to what is made of it. Only marked tables
are drawn here; every other DataFrame looks as it always did, and so do marked ones once somebody else draws DataFrames.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from voxnb.clients.reply import plain
from voxnb.notebook.render import framed
from voxnb.runtime import cells
from voxnb.runtime.marked import MARK

if TYPE_CHECKING:
    import pandas as pd

LONG: Final = 90
"""Characters of a text that stand in the table; the rest is folded under them."""

UNBROKEN: Final = 32
"""Characters of a text that stay on one line; longer ones wrap."""

WIDE_EM: Final = 16
"""How wide a column of longer texts is at least: a browser would rather shrink it to its longest word than scroll."""

MOST: Final = 2_000
"""Characters of a text that are folded; all of it is in the table itself."""

ID_ENDS: Final = 6
_IDS: Final = ("_id", "covered_by", "content_hash")


def install() -> None:
    """Draw marked tables in this notebook's shell; where DataFrames are drawn by somebody else already, they go on."""
    shell = cells.shell()
    formatter = None if shell is None else shell.display_formatter.formatters.get("text/html")
    if formatter is None:
        return
    import pandas as pd

    if pd.DataFrame not in formatter.type_printers:
        formatter.for_type(pd.DataFrame, draw)


def draw(df: pd.DataFrame) -> Any:
    """A DataFrame as HTML: ours if it is marked, pandas' own else."""
    import pandas as pd

    simple = not isinstance(df.columns, pd.MultiIndex) and not isinstance(df.index, pd.MultiIndex)
    if not (df.attrs.get(MARK) and simple):
        return df._repr_html_()  # type: ignore[operator]  # pandas' stubs do not know it
    return table_html(df)


def table_html(df: pd.DataFrame, *, title: str = "", whole: bool = False) -> str:
    """A table as it is drawn here.

    Args:
        df: with a plain index and plain columns.
        title: a line above it.
        whole: draw all rows; else as many as pandas would.
    """
    import pandas as pd

    most, least = (None, None) if whole else (pd.get_option("display.max_rows"), pd.get_option("display.min_rows"))
    numbered = isinstance(df.index, pd.RangeIndex) and df.index.name is None
    drawers = [_drawer(str(name), df.iloc[:, n]) for n, name in enumerate(df.columns)]
    shown, half = list(range(len(df))), 0
    if most and len(df) > most:
        half = max(1, (least or most) // 2)
        shown = [*shown[:half], *shown[-half:]]
    heads = [_head(str(name), df.iloc[shown, n]) for n, name in enumerate(df.columns)]
    if not numbered:
        heads.insert(0, html.escape(plain(str(df.index.name or ""))))
    rows = []
    for place, n in enumerate(shown):
        if half and place == half:
            rows.append(f"<tr>{'<td>…</td>' * len(heads)}</tr>")
        index = "" if numbered else f"<th>{html.escape(plain(str(df.index[n])))}</th>"
        values = "".join(f"<td>{draw_it(df.iloc[n, i])}</td>" for i, draw_it in enumerate(drawers))
        rows.append(f"<tr>{index}{values}</tr>")
    size = f"<p><small>{len(df):,} rows × {len(df.columns)} columns</small></p>" if half else ""
    head = "".join(f"<th>{name}</th>" for name in heads)
    above = f"<p>{html.escape(plain(title))}</p>" if title else ""
    return framed(f"{above}<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{size}")


def _head(name: str, column: pd.Series[Any]) -> str:
    zone = " (UTC)" if str(column.dtype).endswith(", UTC]") else ""
    head = f"{html.escape(plain(name))}{zone}"
    if _drawer(name, column) is not _SAID:
        return head
    if column.dtype in ("str", "object") and any(len(str(value)) > UNBROKEN for value in column):
        head = f"<nobr>{head}{'&emsp;' * max(0, WIDE_EM - len(name) // 2)}</nobr>"
    return f'<div align="left">{head}</div>'


def _drawer(name: str, column: pd.Series[Any]) -> Callable[[Any], str]:
    """How the cells of a column are drawn."""
    import pandas as pd

    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column.dtype):
        # A column whose times are all of one day still tells the day: rows are read alone.
        return _known(lambda value: _unbroken(f"{value:%Y-%m-%d %H:%M:%S}"))
    if kinds.is_bool_dtype(column.dtype):
        return _known(lambda value: "yes" if value else "")
    if kinds.is_integer_dtype(column.dtype):
        return _known(lambda value: f"{value:,}")
    if kinds.is_float_dtype(column.dtype):
        digits = 0 if name.endswith("_ms") else 6 if name.endswith("_usd") else 3
        return _known(lambda value: f"{value:,.{digits}f}")
    if name.endswith(_IDS):
        return _known(_short_id)
    return _SAID


def _known(draw_it: Callable[[Any], str]) -> Callable[[Any], str]:
    import pandas as pd

    def drawn(value: Any) -> str:
        return "" if pd.api.types.is_scalar(value) and pd.isna(value) else draw_it(value)

    return drawn


def _short_id(value: Any) -> str:
    """The kind and the end of an id: what tells it from its neighbours, which begin alike."""
    text = plain(str(value))
    kind, dash, rest = text.partition("-")
    if dash and len(rest) > 2 * ID_ENDS:
        return _unbroken(f"{kind}-…{rest[-ID_ENDS:]}")
    return _unbroken(text if len(text) <= 2 * ID_ENDS + 4 else f"…{text[-ID_ENDS:]}")


def _text(value: Any) -> str:
    text = plain(str(value))
    line = " ".join(text.split())
    if len(line) <= LONG:
        return f'<div align="left">{_unbroken(line)}</div>'
    cut = line[:LONG].rsplit(" ", 1)[0] or line[:LONG]
    more = f" … ({len(text):,} characters)" if len(text) > MOST else ""
    whole = html.escape(text[:MOST] + more).replace("\n", "<br>")
    return f'<div align="left"><details><summary>{html.escape(cut)} …</summary>{whole}</details></div>'


def _unbroken(line: str) -> str:
    """A line as HTML that wraps only where it is long; `nobr` does it without a style."""
    text = html.escape(line)
    return f"<nobr>{text}</nobr>" if len(line) <= UNBROKEN and (" " in line or "-" in line) else text


_SAID: Final = _known(_text)
"""Draws what is said; it stands at the left, as its head does."""
