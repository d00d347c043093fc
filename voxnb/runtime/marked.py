"""Tables that are ours: a mark by which a notebook draws them in voxnb's way; see `voxnb.notebook.frame_html`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voxnb.runtime import cells, config

if TYPE_CHECKING:
    import pandas as pd

MARK: Final = "voxnb"
"""In ``attrs`` of a table that is ours."""


def marked(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, which a notebook draws as voxnb's tables are drawn: long texts folded, times that read."""
    table.attrs[MARK] = True
    if cells.shell() is not None:
        config.load("draw_tables")()
    return table
