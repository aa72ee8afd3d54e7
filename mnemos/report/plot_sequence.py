"""The score matrix of a sequence, and small loss curves."""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.report.facts import Arm, Facts, Grid
from mnemos.report.svg import LIGHT, Scale, Sheet, arm_colour, draw, fit, text_width, tick_text
from mnemos.report.verdicts import METRICS, metric_words
from mnemos.report.words import counted, figure, typeset

LONGEST_CURVE = 160
"""Points drawn of a loss curve; a longer one is averaged over equal stretches of steps."""


def matrix_plot(grid: Grid, *, name: str) -> str:
    """Heat map: rows before, after each task, joint; columns tasks; the task just taught framed."""
    n = len(grid.tasks)
    rows = [("before", grid.before), *((f"after task {i + 1}", row) for i, row in enumerate(grid.rows))]
    rows += [("joint", grid.joint)] if grid.joint else []
    label, cell, line = 92.0, max(56.0, min(110.0, 306.0 / max(n, 1))), 38.0
    width, height = label + cell * n + 4, 46 + line * len(rows) + 6
    words = [f"{METRICS.get(key, key)}: {metric_words(key, value[0])}" for key, value in grid.metrics.items()]
    return draw(
        lambda sheet: _matrix(sheet, grid, rows, label, cell, line),
        width,
        height,
        name=name,
        title=f"{grid.title}: score on each task after each task, points, mean of {counted(grid.seeds, 'seed')}",
        desc=typeset("; ".join(words)),
    )


def _matrix(
    sheet: Sheet,
    grid: Grid,
    rows: Sequence[tuple[str, Sequence[float | None]]],
    label: float,
    cell: float,
    line: float,
) -> None:
    for j, task in enumerate(grid.tasks):
        sheet.write(label + cell * (j + 0.5), 16, f"task {j + 1}", size=11, colour="muted", ha="center")
        sheet.write(label + cell * (j + 0.5), 33, fit(task, cell - 6, 11), size=11, ha="center")
    y = 44.0
    for i, (name, values) in enumerate(rows):
        reference = name in ("before", "joint")
        colour = "muted" if reference else "ink"
        sheet.write(0, y + line / 2 + 4, fit(name, label - 12, 12), size=12, colour=colour)
        for j, number in enumerate(values):
            x = label + cell * j
            share = 0.0 if number is None else min(max(number / 100, 0.0), 1.0)
            sheet.box(x + 1, y + 1, cell - 2, line - 2, fill="panel", zorder=0)
            sheet.box(x + 1, y + 1, cell - 2, line - 2, fill="gained", alpha=round(0.52 * share, 3), zorder=1)
            text = "missing" if number is None else figure(number, "points")
            sheet.write(x + cell / 2, y + line / 2 + 4.5, text, size=9.5 if number is None else 13, ha="center",
                        weight="bold" if j == i - 1 and not reference else "normal", zorder=3)  # fmt: skip
            if j == i - 1 and not reference:
                sheet.box(
                    x + 2, y + 2, cell - 4, line - 4, fill="none", edgecolor=LIGHT["ink"], linewidth=1.6, zorder=2
                )
        y += line


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
