"""Training loss by step: one panel an arm, with axes."""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.report.facts import Arm, Facts
from mnemos.report.svg import Scale, Sheet, arm_colour, draw, fit, tick_text
from mnemos.report.words import typeset

TOP, ROW, FIELD = 20.0, 188.0, 142.0
"""Pixels above the panels, of one panel, and from its top to the axis of steps."""

AXIS, GAP = 42.0, 18.0
"""Pixels left of a panel's field, and between two panels."""

FEW = 25
"""Points up to which each is marked."""

LONGEST_CURVE = 160
"""Points drawn of a loss curve; a longer one is averaged over equal stretches of steps."""


def losses_plot(facts: Facts, *, width: float, name: str) -> str:
    """One panel per arm, one line per seed, the same scale in all; empty without losses."""
    arms = [(place, arm) for place, arm in enumerate(facts.arms) if any(len(run.losses) > 1 for run in arm.runs)]
    if not arms:
        return ""
    columns = min(3 if width >= 600 else 2 if len(arms) > 6 else 1, len(arms))
    last = "; ".join(f"{arm.name}: last loss {_last(arm):.3f}" for _, arm in arms)
    return draw(
        lambda sheet: _losses(sheet, arms, columns, width),
        width,
        TOP + ROW * -(-len(arms) // columns),
        name=name,
        title="Training loss by step, one line per seed",
        desc=typeset(last),
    )


def _last(arm: Arm) -> float:
    ends = [run.losses[-1][1] for run in arm.runs if run.losses]
    return sum(ends) / len(ends)


def stretched(losses: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve with growing steps and at most LONGEST_CURVE points. A sequence's tasks each count
    from one: they are put end to end."""
    shift, previous, joined = 0.0, float("-inf"), []
    for step, loss in losses:
        # A step that does not grow begins the next task: its steps count on from where the last one ended.
        if step <= previous:
            shift += previous
        previous = step
        joined.append((step + shift, loss))
    size = -(-len(joined) // LONGEST_CURVE) or 1
    parts = [joined[start : start + size] for start in range(0, len(joined), size)]
    return [(sum(s for s, _ in part) / len(part), sum(v for _, v in part) / len(part)) for part in parts]


def _losses(sheet: Sheet, arms: Sequence[tuple[int, Arm]], columns: int, width: float) -> None:
    curves = {place: [stretched(run.losses) for run in arm.runs if len(run.losses) > 1] for place, arm in arms}
    everything = [point for group in curves.values() for curve in group for point in curve]
    steps = max(step for step, _ in everything)
    lowest, highest = min(loss for _, loss in everything), max(loss for _, loss in everything)
    # From zero where that leaves the curves room. A policy-gradient loss may be negative.
    ends = [highest, min(0.0, lowest) if lowest < highest / 2 else lowest]
    sheet.write(0, 13, "loss, nats per unit of weight", size=11.5, weight="bold")
    cell = (width + GAP) / columns
    for index, (place, arm) in enumerate(arms):
        left, top = cell * (index % columns) + AXIS, TOP + ROW * (index // columns)
        right = cell * (index % columns + 1) - GAP - 12
        across = Scale(0, steps, left, right)
        up = Scale.over(ends, top + FIELD, top + 24, margin=0.04)
        roomy = right - left > 180
        _axes(sheet, across, up, ticks=4 if roomy else 2)
        room = right - left - (64 if roomy else 0)
        sheet.write(left, top + 14, fit(arm.name, room, 11.5, "bold"), size=11.5, weight="bold")
        if roomy:
            sheet.write(right, top + 14, f"last {_last(arm):.3f}", size=10.5, colour="muted", ha="right")
        for curve in curves[place]:
            # A curve of few points shows them: between two points nothing was measured.
            marks = {"marker": "o", "markersize": 3} if len(curve) <= FEW else {}
            xs, ys = [across(step) for step, _ in curve], [up(loss) for _, loss in curve]
            sheet.line(xs, ys, colour=arm_colour(place), width=1.3, alpha=0.85, zorder=3, **marks)


def _axes(sheet: Sheet, across: Scale, up: Scale, *, ticks: int) -> None:
    """The field. ticks: about so many steps are named."""
    left, right, bottom = across.start, across.end, up.start
    sheet.box(left, up.end, right - left, bottom - up.end, fill="panel", zorder=0)
    for tick in up.ticks(4):
        sheet.line([left, right], [up(tick)] * 2, colour="rule", width=0.8, zorder=1)
        sheet.write(left - 6, up(tick) + 4, tick_text(tick), size=10.5, colour="muted", ha="right")
    sheet.line([left, left, right], [up.end, bottom, bottom], colour="muted", width=0.9, zorder=2)
    for tick in (tick for tick in across.ticks(ticks) if tick == int(tick)):
        sheet.line([across(tick)] * 2, [bottom, bottom + 4], colour="muted", width=0.9, zorder=2)
        sheet.write(across(tick), bottom + 16, tick_text(tick), size=10.5, colour="muted", ha="center")
    sheet.write((left + right) / 2, bottom + 30, "step", size=10.5, colour="muted", ha="center")
