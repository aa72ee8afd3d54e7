"""Figures of laws: loss by compute, the optimal size by compute, and one set of outputs under several metrics."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, draw, fit, tick_text
from mnemos.report.words import typeset

WIDTH, HEIGHT = 640.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 30.0, 54.0
PIECES = 60
"""Pieces that a curve is drawn in."""
MOST_MARKS = 2000
"""Points that are drawn; of more, evenly chosen ones."""
Line = tuple[str, Callable[[float], float], Sequence[tuple[float, float]]]
"""A name, y by x, and the points that it was drawn through."""


def loss_plot(
    compute: Sequence[float], loss: Sequence[float], size: Sequence[float], best: Callable[[float], float]
) -> str:
    """Runs by FLOP and loss, coloured by size, with the lowest loss that the law gives for each compute."""
    every = max(1, -(-len(compute) // MOST_MARKS))
    x, y, n = (np.log10(np.asarray(values, float)[::every]) for values in (compute, loss, size))
    # Eight shades from the smallest to the largest size.
    shade = np.clip(((n - n.min()) / (float(np.ptp(n)) or 1.0) * 8).astype(int), 0, 7)

    def paint(sheet: Sheet) -> None:
        across, up = _scales(x, y)
        _axes(sheet, across, up, "training FLOP", "loss, nats per token", _loss_text)
        for at in range(len(x)):
            sheet.mark(across(x[at]), up(y[at]), "o", colour=arm_colour(int(shade[at])), edge="none", size=5, alpha=0.8)
        xs = np.linspace(x.min(), x.max(), PIECES)
        sheet.line([across(v) for v in xs], [up(math.log10(best(10**v))) for v in xs], colour="ink", width=1.6)
        sheet.write(LEFT + 8, HEIGHT - BOTTOM - 10, "line: the law at the best size for each compute", size=11)

    return draw(
        paint, WIDTH, HEIGHT, name="loss", title="Loss by compute and size",
        desc=f"{len(compute):,} points of {_engineering(min(size))} to {_engineering(max(size))} parameters.",
    )  # fmt: skip


def optimum_plot(lines: Sequence[Line], compute: tuple[float, float], title: str = "Optimal size by compute") -> str:
    """ln N_opt against ln C, a line an approach. compute: first and last FLOP that are drawn."""
    xs = np.linspace(math.log10(compute[0]), math.log10(compute[1]), PIECES)
    curves = [[math.log10(best(10**v)) for v in xs] for _, best, _ in lines]
    marks = [[(math.log10(c), math.log10(n)) for c, n in pairs] for _, _, pairs in lines]
    heights = [*(v for curve in curves for v in curve), *(n for one in marks for _, n in one)]

    def paint(sheet: Sheet) -> None:
        across, up = _scales(xs, np.array(heights))
        _axes(sheet, across, up, "training FLOP", "parameters", _engineering_log)
        for place, (name, _, _) in enumerate(lines):
            colour = arm_colour(place)
            sheet.line([across(v) for v in xs], [up(v) for v in curves[place]], colour=colour, width=1.8, zorder=3)
            for c, n in marks[place]:
                sheet.mark(across(c), up(n), arm_shape(place), colour=colour, edge="none", size=6, alpha=0.7)
            sheet.write(LEFT + 10, TOP + 18 + 17 * place, fit(name, 300, 12), size=12, colour=colour, weight="bold")

    named = "; ".join(name for name, _, _ in lines)
    return draw(paint, WIDTH, HEIGHT, name="optimum", title=title, desc=typeset(named))


def emergence_plot(curves: Sequence[Any]) -> str:
    """A panel a metric, each mean with its 95 % interval. curves: `measure.emergence.Curve`."""
    cell, tall = 300.0, 230.0
    columns = 2

    def paint(sheet: Sheet) -> None:
        for place, one in enumerate(curves):
            left, top = cell * (place % columns) + 46, tall * (place // columns) + 30
            x = np.log10(one.sizes)
            ends = [*one.low, *one.high] if np.isfinite(one.low).all() else list(one.means)
            across, up = _scales(x, np.array(ends), (left, left + cell - 66, top + tall - 74, top))
            _axes(sheet, across, up, "", "", tick_text)
            sheet.write(left, top - 8, one.name.replace("_", " "), size=12, weight="bold")
            sheet.line([across(v) for v in x], [up(v) for v in one.means], colour="arm-1", width=1.4, zorder=3)
            for at, v in enumerate(x):
                if np.isfinite(one.low[at]):
                    sheet.line([across(v)] * 2, [up(one.low[at]), up(one.high[at])], colour="muted", width=1.2)
                sheet.mark(across(v), up(one.means[at]), "o", colour="arm-1", edge="none", size=5)

    rows = -(-len(curves) // columns)
    text = "; ".join(f"{one.name}: {one.means[0]:.3g} to {one.means[-1]:.3g}" for one in curves)
    return draw(
        paint, cell * columns, tall * rows, name="emergence", title="The same outputs by size under each metric",
        desc=typeset(text),
    )  # fmt: skip


def page(title: str, figures: Sequence[str], text: str, notes: Mapping[str, Any] | None = None) -> str:
    """A small HTML page that stands alone: figures and the figures as text."""
    beside = "".join(f"<p>{html.escape(f'{name}: {value}')}</p>" for name, value in (notes or {}).items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font-family:system-ui,sans-serif;margin:2rem;max-width:60rem}pre{overflow-x:auto}</style>"
        f"<h1>{html.escape(title)}</h1>{''.join(figures)}{beside}<pre>{html.escape(text)}</pre></html>\n"
    )


def _scales(x: Any, y: Any, field: tuple[float, float, float, float] | None = None) -> tuple[Scale, Scale]:
    left, right, bottom, top = field or (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP)
    return Scale.over(map(float, x), left, right, 0.03), Scale.over(map(float, y), bottom, top, 0.06)


def _axes(
    sheet: Sheet, across: Scale, up: Scale, bottom: str, left: str, label: Callable[[float], str]
) -> None:  # fmt: skip
    sheet.box(across.start, up.end, across.end - across.start, up.start - up.end, fill="panel", zorder=0)
    for tick in up.ticks(5):
        sheet.line([across.start, across.end], [up(tick)] * 2, colour="rule", width=0.8, zorder=1)
        sheet.write(across.start - 6, up(tick) + 4, label(tick), size=10.5, colour="muted", ha="right")
    for tick in (t for t in across.ticks(6) if t == int(t)):
        sheet.line([across(tick)] * 2, [up.start, up.start + 4], colour="muted", width=0.9)
        sheet.write(across(tick), up.start + 18, f"1e{int(tick)}", size=10.5, colour="muted", ha="center")
    sheet.write((across.start + across.end) / 2, up.start + 38, bottom, size=11.5, weight="bold", ha="center")
    sheet.write(0, up.end - 12, left, size=11.5, weight="bold")


def _loss_text(log: float) -> str:
    return tick_text(round(10**log, 2))


def _engineering_log(log: float) -> str:
    return _engineering(10**log)


def _engineering(value: float) -> str:
    """1.4e9 as 1.4B."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"
