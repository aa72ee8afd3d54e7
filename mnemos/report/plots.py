"""Every figure of the report as SVG text, each in a wide and in a narrow drawing.

Those of analyses are drawn by their sections. Empty text: there is nothing to draw.
"""

from __future__ import annotations

from functools import partial

from mnemos.report.facts import Facts
from mnemos.report.plot_curve import curve_plot, sweep_curves
from mnemos.report.plot_forest import forest, panels
from mnemos.report.plot_plane import plane_plot
from mnemos.report.svg import Drawing, both


def learning_forgetting(facts: Facts) -> Drawing:
    """x: mean loss over the old suites; y: mean gain over the new ones; both in points."""
    return both(partial(plane_plot, facts), "plane")


def deltas(facts: Facts, *roles: str) -> list[Drawing]:
    """The forest plot of the comparisons with these roles: one drawing per role and unit, so that
    a page can break between them. The first carries the key."""
    out = []
    for place, panel in enumerate(panels(facts, roles)):
        out.append(both(partial(forest, facts, panel, key=place == 0), f"forest-{'-'.join(roles)}-{place}"))
    return out


def sweep(facts: Facts) -> list[tuple[str, str, Drawing]]:
    """(key, other keys' values, drawing) for each line through a sweep's grid."""
    out = []
    for place, curve in enumerate(sweep_curves(facts)):
        drawing = both(partial(curve_plot, facts, curve), f"sweep-{place}")
        if drawing:
            out.append((curve.axis, curve.also, drawing))
    return out
