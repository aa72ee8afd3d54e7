"""Reward, drift and suites over the steps of training: one panel each, one line an arm."""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.report.facts import Along, AlongCurve, Facts
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, draw, fit, tick_text
from mnemos.report.trajectory import PANELS, hacking_words
from mnemos.report.words import figure, typeset

ROW, LEGEND = 232.0, 19.0
TOP, BOTTOM = 30.0, 186.0
"""Of a panel's field, from the panel's top."""


def along_plot(facts: Facts, *, width: float, name: str) -> str:
    """The picture; empty text where nothing was measured on the way."""
    along = facts.along
    if along is None or not any(len(curve.points) > 1 for curve in along.curves):
        return ""
    columns = min(2 if width >= 600 else 1, len(along.names))
    rows = -(-len(along.names) // columns)
    arms = sorted({curve.arm for curve in along.curves})
    across = 4 if width >= 600 else 2
    said = hacking_words(facts) or [_ends(facts, along)]
    return draw(
        lambda sheet: _paint(sheet, facts, along, arms, columns, across, width),
        width,
        ROW * rows + LEGEND * (-(-len(arms) // across)) + 8,
        name=name,
        title="What training saw and what was measured on the way, by step, one line an arm",
        desc=typeset(" ".join(said)),
    )


def _ends(facts: Facts, along: Along) -> str:
    told = [
        f"{curve.name}: {facts.arms[curve.arm].name} {_number(curve, curve.points[-1][1])}"
        for curve in along.curves
        if curve.points
    ]
    return f"At the end, {'; '.join(told)}"


def _number(curve: AlongCurve, value: float) -> str:
    return figure(value, curve.unit) if curve.unit else f"{value:.3g}"


def _paint(
    sheet: Sheet, facts: Facts, along: Along, arms: Sequence[int], columns: int, across: int, width: float
) -> None:
    cell = width / columns
    last = max(step for curve in along.curves for step, *_ in curve.points)
    for index, name in enumerate(along.names):
        curves = [curve for curve in along.curves if curve.name == name and curve.points]
        left = cell * (index % columns) + 48
        _panel(sheet, name, curves, (left, left + cell - 66), ROW * (index // columns), last)
    below = ROW * (-(-len(along.names) // columns)) + 12
    step = (width - 48) / across
    for index, arm in enumerate(arms):
        x, y = 48 + step * (index % across), below + LEGEND * (index // across)
        sheet.line([x, x + 20], [y - 4, y - 4], colour=arm_colour(arm), width=2)
        sheet.mark(x + 10, y - 4, arm_shape(arm), colour=arm_colour(arm), size=8)
        sheet.write(x + 27, y, fit(facts.arms[arm].name, step - 36, 12), size=12)


def _panel(
    sheet: Sheet, name: str, curves: Sequence[AlongCurve], sides: tuple[float, float], top: float, last: float
) -> None:
    left, right = sides
    values = [value for curve in curves for _, *span in curve.points for value in span if value is not None]
    unit = next((curve.unit for curve in curves), "")
    over = Scale(0, last or 1.0, left, right)
    # Bits of a language lie far from 0, which would flatten every line.
    up = Scale.over([*([0.0] if unit in ("", "points") else []), *values], top + BOTTOM, top + TOP)
    said = PANELS.get(name, f"{name}, {unit}")
    sheet.write(left - 48, top + 18, fit(said, right - left + 48, 12, "bold"), size=12, weight="bold")
    sheet.box(left, top + TOP, right - left, BOTTOM - TOP, fill="panel", zorder=0)
    for tick in up.ticks(4):
        sheet.line([left, right], [up(tick)] * 2, colour="rule" if tick else "ink", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    for tick in over.ticks(4):
        sheet.write(over(tick), top + BOTTOM + 16, tick_text(tick), size=11, colour="muted", ha="center")
    sheet.write((left + right) / 2, top + BOTTOM + 33, "step", size=11, colour="muted", ha="center")
    for place, curve in enumerate(curves):
        colour = arm_colour(curve.arm)
        # Arms that lie on each other would hide each other's intervals: a pixel apart is enough.
        shift = 2.0 * (place - (len(curves) - 1) / 2)
        xs = [over(step) + shift for step, *_ in curve.points]
        sheet.line(xs, [up(mean) for _, mean, _, _ in curve.points], colour=colour, width=1.8, zorder=3)
        for x, (_, mean, low, high) in zip(xs, curve.points, strict=True):
            if low is not None and high is not None:
                sheet.line([x, x], [up(low), up(high)], colour=colour, width=1.2, alpha=0.7, zorder=2)
            sheet.mark(x, up(mean), arm_shape(curve.arm), colour=colour, size=7, zorder=4, gid=f"mark-along {name}")
