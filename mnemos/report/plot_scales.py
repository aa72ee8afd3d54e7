"""What a model scores at several scales of its adapters: a line a suite, a panel a unit, one axis of scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, draw, fit, tick_text
from mnemos.report.words import typeset

WIDTH, TOP, ROW, FIELD = 560.0, 8.0, 232.0, 170.0
"""Pixels across, above the panels, of one panel, and from its top to its axis."""
AXIS, NAMES = 44.0, 150.0
"""Pixels left of the field, and right of it for the suites' names."""
LINE = 15.0
"""Pixels between two names at least."""

Points = Sequence[tuple[float, Mapping[str, Any]]]
Curve = tuple[str, Points]


def scales_plot(found: Mapping[str, Any]) -> str:
    """An `<svg>` of what `mnemos listen sweep` measures ({scales, suites: {name: {unit, scores}}}), with the interval
    of each point; empty where no suite has a score at two scales."""
    panels: dict[str, list[Curve]] = {}
    for name, one in found["suites"].items():
        pairs = zip(found["scales"], one["scores"], strict=True)
        curve = sorted((pair for pair in pairs if pair[1]["mean"] is not None), key=lambda pair: pair[0])
        if len(curve) > 1:
            panels.setdefault(one["unit"], []).append((name, curve))
    if not panels:
        return ""
    last = [f"{name}: {curve[0][1]['mean']:.3f} to {curve[-1][1]['mean']:.3f}" for one in panels.values()
            for name, curve in one]  # fmt: skip
    return draw(
        lambda sheet: _panels(sheet, panels),
        WIDTH,
        TOP + ROW * len(panels),
        name="scales",
        title="Scores by the scale of the adapters",
        desc=typeset("; ".join(last)),
    )


def _panels(sheet: Sheet, panels: Mapping[str, Sequence[Curve]]) -> None:
    for place, (unit, curves) in enumerate(panels.items()):
        top = TOP + ROW * place
        scores = [score for _, curve in curves for _, score in curve]
        ends = [score[key] for score in scores for key in ("mean", "low", "high") if score[key] is not None]
        scales = [scale for _, curve in curves for scale, _ in curve]
        across = Scale(min(scales), max(scales), AXIS + 8, WIDTH - NAMES)
        shares = unit == "points"
        up = Scale(0, 1, top + FIELD, top + 22) if shares else Scale.over(ends, top + FIELD, top + 22)
        sheet.write(2, top + 12, "score" if shares else unit, size=11.5, weight="bold")
        _axes(sheet, across, up)
        for number, (_, curve) in enumerate(curves):
            _curve(sheet, number, curve, across, up)
        _names(sheet, curves, up, WIDTH - NAMES + 12)


def _axes(sheet: Sheet, across: Scale, up: Scale) -> None:
    left, right, bottom = across.start - 8, across.end + 4, up.start
    sheet.box(left, up.end, right - left, bottom - up.end, fill="panel", zorder=0)
    for tick in up.ticks(4):
        sheet.line([left, right], [up(tick)] * 2, colour="rule", width=0.8, zorder=1)
        sheet.write(left - 6, up(tick) + 4, tick_text(tick), size=10.5, colour="muted", ha="right")
    for tick in across.ticks(5):
        sheet.line([across(tick)] * 2, [bottom, bottom + 4], colour="muted", width=0.9, zorder=2)
        sheet.write(across(tick), bottom + 16, tick_text(tick), size=10.5, colour="muted", ha="center")
    middle = (left + right) / 2
    sheet.write(middle, bottom + 32, "scale of the adapters (1: as trained)", size=10.5, colour="muted", ha="center")


def _curve(sheet: Sheet, number: int, curve: Points, across: Scale, up: Scale) -> None:
    colour = arm_colour(number)
    # Side by side, or intervals of suites that score alike would lie on each other.
    xs = [across(scale) + 3 * (number % 3 - 1) for scale, _ in curve]
    sheet.line(xs, [up(score["mean"]) for _, score in curve], colour=colour, width=1.4, zorder=3)
    for x, (_, score) in zip(xs, curve, strict=True):
        if score["low"] is not None:
            sheet.line([x, x], [up(score["low"]), up(score["high"])], colour=colour, width=0.9, alpha=0.6, zorder=3)
        sheet.mark(x, up(score["mean"]), arm_shape(number), colour=colour, size=6)


def _names(sheet: Sheet, curves: Sequence[Curve], up: Scale, left: float) -> None:
    """Each suite's name where its line ends, moved down where another stands already."""
    above = float("-inf")
    for number, (name, curve) in sorted(enumerate(curves), key=lambda one: up(one[1][1][-1][1]["mean"])):
        above = max(up(curve[-1][1]["mean"]) + 4, above + LINE)
        sheet.mark(left, above - 4, arm_shape(number), colour=arm_colour(number), size=6)
        sheet.write(left + 10, above, fit(name, NAMES - 26, 11), size=11)
