"""The score matrix of a task sequence, and the metrics drawn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.report.facts import Facts, Grid
from mnemos.report.section import Figure, Table
from mnemos.report.svg import LIGHT, Drawing, Sheet, draw, fit
from mnemos.report.verdicts import METRICS, metric_interval, metric_words
from mnemos.report.words import clean, counted, figure, typeset

KEY = "sequence"
TITLE = "Task after task"
LEAD = (
    "Read down a column: how one task\u2019s score moves while the next ones are taught. A frame marks the task just "
    "taught. Points, mean over seeds."
)
LOUD = False


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Grid, ...] | str | None:
    """The grids of the `matrix` of results.json, which the headline reads too; else its `no_matrix`, why not."""
    return facts.grids or clean(results.get("no_matrix") or "") or None


def words(facts: Facts, record: Sequence[Grid] | str) -> list[str]:
    """Nothing beside the tables; why there are none."""
    return [record] if isinstance(record, str) else []


def tables(facts: Facts, record: Sequence[Grid] | str) -> Sequence[Table]:
    """One an arm (and order): rows before, after each task, joint; columns tasks."""
    return [] if isinstance(record, str) else [_table(grid) for grid in record]


def _table(grid: Grid) -> Table:
    rows = [("before", grid.before)]
    rows += [(grid.tasks[i] if i < len(grid.tasks) else str(i + 1), row) for i, row in enumerate(grid.rows)]
    rows += [("joint", grid.joint)] if grid.joint else []
    body = tuple((name, *(figure(cell, "points") for cell in cells)) for name, cells in rows)
    lines = tuple(
        (METRICS.get(name, name), f"{metric_words(name, mean)} {metric_interval(name, low, high)}".strip())
        for name, (mean, low, high) in grid.metrics.items()
    )
    over = counted(grid.seeds, "run" if grid.pooled else "seed")
    what = "all tasks" if grid.pooled else "score on each task after each task"
    title = f"{grid.title}: {what}, points, mean of {over}"
    return Table(title, lines=lines) if grid.pooled else Table(title, ("after learning", *grid.tasks), body, lines)


def figures(facts: Facts, record: Sequence[Grid] | str) -> Sequence[Figure]:
    """One heat map an arm (and order), in one size; a mean over orders has its metrics alone."""
    if isinstance(record, str):
        return [Figure(Drawing("", ""), lines=((record, "", ""),))]
    out = []
    for place, grid in enumerate(record):
        lines = tuple(
            (METRICS.get(name, name), metric_words(name, mean), metric_interval(name, low, high))
            for name, (mean, low, high) in grid.metrics.items()
        )
        svg = "" if grid.pooled else matrix_plot(grid, name=f"matrix-{place}")
        named = ", ".join(f"task {j}: {task}" for j, task in enumerate(grid.tasks, 1))
        out.append(Figure(Drawing(svg, ""), title=grid.title, lead=named, lines=lines))
    return out


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
        # Row 0 is before; row i stands after task i, whose own column is i - 1.
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
