"""Differences of checkpoints by layer: a table and a heat map."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from mnemos.report.svg import Sheet, draw, fit, text_width
from mnemos.report.words import typeset

LINE, CELL, TOP = 18.0, 92.0, 58.0


def columns(comparison: Any) -> list[tuple[str, str, list[float]]]:
    """(kind, label, value of each layer): norms, then cosines and sign conflicts by pair.

    comparison: a `weights.vectors.Comparison`.
    """
    count = len(comparison.vectors)
    found = [("norm", f"v{i + 1}", [row.norms[i] for row in comparison.layers]) for i in range(count)]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for kind, name in (("cosine", "cosines"), ("sign conflict", "conflicts")):
        found += [
            (kind, f"v{i + 1} v{j + 1}", [getattr(row, name)[i, j] for row in comparison.layers]) for i, j in pairs
        ]
    return found


def table(comparison: Any) -> str:
    """The figures as text, a layer a line; the vectors are named above."""
    cols = columns(comparison)
    lines = [f"v{i + 1} = {text}" for i, text in enumerate(comparison.vectors)]
    lines.append("")
    lines.append(f"{'layer':<12}" + "".join(f"{kind + ' ' + label:>22}" for kind, label, _ in cols))
    for at, row in enumerate(comparison.layers):
        cells = "".join(f"{_figure(kind, values[at]):>22}" for kind, _, values in cols)
        lines.append(f"{row.layer:<12}{cells}")
    if comparison.left_out:
        lines.append(f"left out, because not every checkpoint has them alike: {', '.join(comparison.left_out)}")
    return "\n".join(lines)


def heat_map(comparison: Any) -> str:
    """The same as an `<svg>`: darker is longer, more alike, more in conflict; a minus is the other way."""
    cols = columns(comparison)
    rows = [row.layer for row in comparison.layers]
    label = max(text_width(row, 11) for row in rows) + 12
    return draw(
        lambda sheet: _paint(sheet, cols, rows, label),
        label + CELL * len(cols) + 6,
        TOP + LINE * len(rows) + 8,
        name="vectors",
        title="Differences of checkpoints by layer",
        desc=typeset("; ".join(f"v{i + 1}: {text}" for i, text in enumerate(comparison.vectors))),
    )


def _paint(sheet: Sheet, cols: Sequence[tuple[str, str, list[float]]], rows: Sequence[str], label: float) -> None:
    for j, (kind, name, _) in enumerate(cols):
        sheet.write(label + CELL * (j + 0.5), 20, kind, size=11, colour="muted", ha="center")
        sheet.write(label + CELL * (j + 0.5), 38, fit(name, CELL - 6, 11), size=11, ha="center")
    for i, row in enumerate(rows):
        y = TOP + LINE * i
        sheet.write(0, y + 13, row, size=11, colour="muted" if row == "all" else "ink")
        for j, (kind, _, values) in enumerate(cols):
            # Without the last row, "all", whose norm is longer than any layer's and would make them all pale.
            share = _share(kind, values[i], values[:-1])
            x = label + CELL * j
            colour = "lost" if kind == "sign conflict" or values[i] < 0 else "gained"
            sheet.box(x + 1, y + 1, CELL - 2, LINE - 2, fill="panel", zorder=0)
            sheet.box(x + 1, y + 1, CELL - 2, LINE - 2, fill=colour, alpha=round(0.55 * share, 3), zorder=1)
            sheet.write(x + CELL / 2, y + 13, _figure(kind, values[i]), size=10, ha="center", zorder=3)


def _share(kind: str, value: float, column: Sequence[float]) -> float:
    if math.isnan(value):
        return 0.0
    largest = max((v for v in column if not math.isnan(v)), default=0.0) if kind == "norm" else 1.0
    return min(abs(value) / largest, 1.0) if largest > 0 else 0.0


def _figure(kind: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return (
        f"{100 * value:.1f} %"
        if kind == "sign conflict"
        else f"{value:.4g}"
        if kind == "norm"
        else typeset(f"{value:.3f}")
    )


def page(comparison: Any) -> str:
    """A small HTML page with the heat map and the table."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Differences of checkpoints</title>'
        "<style>body{font-family:system-ui,sans-serif;margin:2rem;max-width:100%}pre{overflow-x:auto}</style>"
        f"<h1>Differences of checkpoints</h1>{heat_map(comparison)}<pre>{html.escape(table(comparison))}</pre></html>\n"
    )
