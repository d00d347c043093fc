"""Stacked bars as a plain SVG: on white, so that it reads in light and in dark, with real text and a description."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from voxnb.notebook.figure import Bars

WIDTH: Final = 760
PLOT_HEIGHT: Final = 230
LEFT: Final = 66
TOP: Final = 44
ROW: Final = 20
CHAR_PX: Final = 7.4
"""Width of a character of the legend, generously."""

INK: Final = "#222222"
SOFT: Final = "#555555"
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="12"'


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`.

    >>> ticks(870), ticks(0)
    ([0.0, 200.0, 400.0, 600.0, 800.0, 1000.0], [0.0, 1.0])
    """
    if most <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(most))
    step = next(power * f for f in (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5) if most / (power * f) <= 5)
    return [n * step for n in range(math.ceil(most / step - 1e-9) + 1)]


def draw(bars: Bars) -> str:
    """The bars as an SVG document.

    Args:
        bars: what to draw.
    """
    totals = [sum(part.heights[n] for part in bars.parts) for n in range(len(bars.names))]
    scale = ticks(max([*totals, *(level.value for level in bars.levels), 0]))
    legend = list(_legend(bars))
    height = TOP + PLOT_HEIGHT + 46 + ROW * (legend[-1][1] + 1 if legend else 0)
    body = "".join([*_axes(bars, scale), *_bars(bars, scale), *_levels(bars, scale), *_keys(legend)])
    title = html.escape(bars.title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" {_FONT}><title>{title}</title>'
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="600" fill="{INK}">{title}</text>{body}</svg>'
    )


def _y(value: float, scale: list[float]) -> float:
    return TOP + PLOT_HEIGHT * (1 - value / scale[-1])


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = SOFT, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{html.escape(text)}</text>'


def _axes(bars: Bars, scale: list[float]) -> Iterator[str]:
    for tick in scale:
        y = _y(tick, scale)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - 12}" stroke="#e3e3e3"/>'
        yield _text(LEFT - 8, y + 4, f"{tick:,.10g}", anchor="end")
    middle = TOP + PLOT_HEIGHT / 2
    yield _text(14, middle, bars.up, anchor="middle", more=f' transform="rotate(-90 14 {middle:.1f})"')
    yield _text(LEFT + (WIDTH - LEFT - 12) / 2, TOP + PLOT_HEIGHT + 38, bars.across, anchor="middle")


def _bars(bars: Bars, scale: list[float]) -> Iterator[str]:
    step = (WIDTH - LEFT - 12) / max(1, len(bars.names))
    wide = min(44.0, step * 0.72)
    widest = max((len(name) for name in bars.names), default=1) * CHAR_PX + 8
    every = max(1, math.ceil(widest / step))  # names that would overlap are left out
    for n, name in enumerate(bars.names):
        middle = LEFT + step * (n + 0.5)
        below = 0.0
        for part in bars.parts:
            value = part.heights[n]
            if value > 0:
                top, bottom = _y(below + value, scale), _y(below, scale)
                told = html.escape(f"{name}: {part.name} {value:,.0f}")
                yield (
                    f'<rect x="{middle - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{bottom - top:.1f}" '
                    f'fill="{part.colour}"><title>{told}</title></rect>'
                )
                below += value
        if n % every == 0:
            yield _text(middle, TOP + PLOT_HEIGHT + 17, name, anchor="middle")


def _levels(bars: Bars, scale: list[float]) -> Iterator[str]:
    for level in bars.levels:
        y = _y(level.value, scale)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - 12}" stroke="{SOFT}" stroke-dasharray="5 4"/>'
        yield _text(LEFT + 4, y - 4, level.label)


def _legend(bars: Bars) -> Iterator[tuple[float, int, str, str]]:
    """``(x, row, name, colour)`` of each entry, in as many rows as are needed."""
    x, row = float(LEFT), 0
    for part in bars.parts:
        wide = 24 + len(part.name) * CHAR_PX + 12
        if x + wide > WIDTH and x > LEFT:
            x, row = float(LEFT), row + 1
        yield x, row, part.name, part.colour
        x += wide


def _keys(legend: list[tuple[float, int, str, str]]) -> Iterator[str]:
    for x, row, name, colour in legend:
        y = TOP + PLOT_HEIGHT + 58 + ROW * row
        yield f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="13" height="13" rx="2" fill="{colour}"/>'
        yield _text(x + 19, y + 1, name, colour=INK)
