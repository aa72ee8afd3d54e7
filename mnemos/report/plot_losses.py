"""Training loss by step: small panels."""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.report.facts import Arm, Facts
from mnemos.report.svg import Scale, Sheet, arm_colour, draw, fit, text_width, tick_text
from mnemos.report.words import typeset

LONGEST_CURVE = 160
"""Points drawn of a loss curve; a longer one is averaged over equal stretches of steps."""


def losses_plot(facts: Facts, *, width: float, name: str) -> str:
    """One small panel per arm, one line per seed, the same scale in all; empty without losses."""
    arms = [(place, arm) for place, arm in enumerate(facts.arms) if any(len(run.losses) > 1 for run in arm.runs)]
    if not arms:
        return ""
    columns = min(4 if width >= 600 else 2, len(arms))
    rows = -(-len(arms) // columns)
    last = "; ".join(f"{arm.name}: last loss {_last(arm):.3f}" for _, arm in arms)
    return draw(
        lambda sheet: _losses(sheet, arms, columns, width),
        width,
        12 + 132 * rows,
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
    highest, steps = max(loss for _, loss in everything), max(step for step, _ in everything)
    # A policy-gradient loss may be negative.
    lowest = min(0.0, min(loss for _, loss in everything))
    cell = (width - 34) / (columns if columns > 1 else 2)
    for index, (place, arm) in enumerate(arms):
        left, top = 34 + cell * (index % columns), 12 + 132.0 * (index // columns)
        across = Scale(0, steps, left, left + cell - 22)
        up = Scale(lowest, highest * 1.04 or 1.0, top + 104, top + 22)
        sheet.write(left, top + 12, fit(arm.name, cell - 70, 11.5, "bold"), size=11.5, weight="bold")
        sheet.write(left + cell - 22, top + 12, f"{_last(arm):.3f}", size=11, colour="muted", ha="right")
        for tick in up.ticks(3):
            sheet.line([left, left + cell - 22], [up(tick)] * 2, colour="rule", width=0.8, zorder=0)
            if index % columns == 0:
                sheet.write(left - 6, up(tick) + 4, tick_text(tick), size=10.5, colour="muted", ha="right")
        for curve in curves[place]:
            sheet.line(
                [across(s) for s, _ in curve], [up(v) for _, v in curve], colour=arm_colour(place), width=1.1, alpha=0.8
            )
        end = tick_text(steps)
        sheet.write(left, top + 119, "step 0", size=10.5, colour="muted")
        if text_width(end, 10.5) + 60 < cell:
            sheet.write(left + cell - 22, top + 119, end, size=10.5, colour="muted", ha="right")
