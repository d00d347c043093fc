"""`Figure`: a picture with its numbers. Drawn by altair where it is installed, else as a plain SVG from the same description.

What is shown is a still picture inside ``text/html``, with a description and the numbers as a table below it: it needs no
script and no network, and what strips pictures leaves the table. `Figure.chart` is altair's chart, to go on with.
"""

from __future__ import annotations

import base64
import html
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voxnb.errors import NotSupportedError
from voxnb.notebook.render import framed
from voxnb.notebook.svg import draw
from voxnb.runtime.packages import import_apart

if TYPE_CHECKING:
    import pandas as pd

INSTALL: Final = "pip install 'voxnb[plots]'"
MOST_ROWS: Final = 60
"""Rows of the table below a picture; all of them are in `Figure.df`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of the bars.

    Attributes:
        name: what it is, in the legend.
        colour: ``#rrggbb``, told from its neighbours in light and dark, and by most who do not see all colours.
        heights: one per bar; 0 for none.
    """

    name: str
    colour: str
    heights: Sequence[float]


@dataclass(frozen=True, slots=True)
class Level:
    """A line across the bars.

    Attributes:
        name: what it is.
        value: where.
    """

    name: str
    value: float

    @property
    def label(self) -> str:
        """Its name with its value."""
        return f"{self.name} {self.value:,.0f}"


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars.

    Attributes:
        title: one line.
        across: what the bars are, below them.
        up: what their height is, with its unit.
        names: of the bars.
        parts: from the bottom up.
        levels: lines across.
    """

    title: str
    across: str
    up: str
    names: Sequence[str]
    parts: Sequence[Part]
    levels: Sequence[Level] = ()


class Figure:
    """A picture with its numbers; as a cell's last line it shows both, or in a sentence that there is nothing yet.

    Attributes:
        df: the numbers.
        summary: what the picture shows, in a sentence.
    """

    def __init__(self, bars: Bars, *, df: pd.DataFrame, summary: str) -> None:
        self._bars = bars
        self.df = df
        self.summary = summary

    @property
    def svg(self) -> str:
        """The picture as SVG: altair's where it is installed, else a plain one."""
        if any(importlib.util.find_spec(name) is None for name in ("altair", "vl_convert")):
            return draw(self._bars)
        import_apart("vl_convert")
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.chart.to_dict()))

    @property
    def chart(self) -> Any:
        """The same as an altair chart, to change or to combine.

        Raises:
            NotSupportedError: altair is not installed; it says how to.
        """
        try:
            import_apart("altair")
            import altair as alt
        except ImportError as error:
            raise NotSupportedError(
                f"chart needs altair; install it with: {INSTALL}", name="chart", instead=INSTALL
            ) from error
        return _chart(self._bars, alt)

    def __repr__(self) -> str:
        return f"<{self._bars.title}: {self.summary}>"

    def _repr_html_(self) -> str:
        head = f"<p><strong>{html.escape(self._bars.title)}</strong>: {html.escape(self.summary)}</p>"
        if not self._bars.names:  # axes without bars would say less than the sentence
            return framed(head)
        picture = base64.b64encode(self.svg.encode()).decode()
        told = html.escape(self.summary)
        shown = self.df.tail(MOST_ROWS)
        more = f", the last {MOST_ROWS} of {len(self.df):,}" if len(self.df) > MOST_ROWS else ""
        names = "".join(f"<th>{html.escape(str(name))}</th>" for name in shown.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>"
            for row in shown.itertuples(index=False, name=None)
        )
        return framed(
            f"{head}"
            f'<p><img src="data:image/svg+xml;base64,{picture}" alt="{told}"></p>'
            f"<details><summary>The numbers{more}</summary>"
            f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></details>"
        )


def _cell(value: Any) -> str:
    import pandas as pd

    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}"
    return html.escape(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _chart(bars: Bars, alt: Any) -> Any:
    import pandas as pd

    rows = [
        (name, n, part.name, place, value)
        for place, part in enumerate(bars.parts)
        for n, (name, value) in enumerate(zip(bars.names, part.heights, strict=True))
    ]
    data = pd.DataFrame(rows, columns=["bar", "order", "part", "place", "value"])
    # Many numbers below the bars cannot be read: altair leaves out those that would overlap.
    x = alt.X("bar:N", sort=list(bars.names), title=bars.across, axis=alt.Axis(labelOverlap=True, labelAngle=0))
    colours = alt.Scale(domain=[p.name for p in bars.parts], range=[p.colour for p in bars.parts])
    stack = (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=x,
            y=alt.Y("value:Q", title=bars.up),
            color=alt.Color("part:N", scale=colours, title=None),
            order=alt.Order("place:Q"),
            tooltip=["bar:N", "part:N", "value:Q"],
        )
    )
    layers = [stack]
    if bars.levels:
        lines = alt.Chart(pd.DataFrame([(v.label, v.value) for v in bars.levels], columns=["name", "value"]))
        layers += [
            lines.mark_rule(strokeDash=[5, 4], color="#555555").encode(y="value:Q"),
            lines.mark_text(align="left", baseline="bottom", dx=4, dy=-2, color="#555555").encode(
                x=alt.value(0), y="value:Q", text="name:N"
            ),
        ]
    width = max(320, min(720, 26 * len(bars.names)))
    return alt.layer(*layers).properties(title=bars.title, width=width, height=260, background="#ffffff")
