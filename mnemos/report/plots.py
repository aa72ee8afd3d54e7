"""Every figure of the report as SVG text, each in a wide and in a narrow drawing.

A figure that is merely scaled down is unreadable on a phone, so it is drawn twice and the page
shows the one that fits. Empty text: there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mnemos.report.facts import Facts
from mnemos.report.plot_curve import curve_plot, replay_curves, sweep_curves
from mnemos.report.plot_forest import forest, panels
from mnemos.report.plot_kl_forgetting import razor_plot
from mnemos.report.plot_notes import notes_plot
from mnemos.report.plot_plane import plane_plot
from mnemos.report.plot_sequence import losses_plot, matrix_plot
from mnemos.report.plot_trajectory import along_plot

WIDE, NARROW = 860, 340


@dataclass(frozen=True)
class Drawing:
    """The same figure at WIDE and NARROW pixels."""

    wide: str
    narrow: str

    def __bool__(self) -> bool:
        return bool(self.wide)


def _both(make: Callable[..., str], name: str) -> Drawing:
    """make: takes the keywords width (pixels) and name (prefix of ids)."""
    return Drawing(make(width=WIDE, name=f"{name}-wide"), make(width=NARROW, name=f"{name}-narrow"))


def learning_forgetting(facts: Facts) -> Drawing:
    """x: mean loss over the old suites; y: mean gain over the new ones; both in points."""
    return _both(partial(plane_plot, facts), "plane")


def deltas(facts: Facts, *roles: str) -> list[Drawing]:
    """The forest plot of the comparisons with these roles: one drawing per role and unit, so that
    a page can break between them. The first carries the key."""
    out = []
    for place, panel in enumerate(panels(facts, roles)):
        out.append(_both(partial(forest, facts, panel, key=place == 0), f"forest-{'-'.join(roles)}-{place}"))
    return out


def score_matrices(facts: Facts) -> list[str]:
    """One heat map per arm (and order) of a sequence, in one size; empty text for a mean over orders."""
    return ["" if grid.pooled else matrix_plot(grid, name=f"matrix-{place}") for place, grid in enumerate(facts.grids)]


def replay(facts: Facts) -> list[tuple[str, Drawing]]:
    """(other methods in common, drawing) for each group of arms with two or more replay shares."""
    out = []
    for place, curve in enumerate(replay_curves(facts)):
        drawing = _both(partial(curve_plot, facts, curve), f"replay-{place}")
        if drawing:
            out.append((curve.also, drawing))
    return out


def sweep(facts: Facts) -> list[tuple[str, str, Drawing]]:
    """(key, other keys' values, drawing) for each line through a sweep's grid."""
    out = []
    for place, curve in enumerate(sweep_curves(facts)):
        drawing = _both(partial(curve_plot, facts, curve), f"sweep-{place}")
        if drawing:
            out.append((curve.axis, curve.also, drawing))
    return out


def losses(facts: Facts) -> Drawing:
    """Training loss, one small panel per arm."""
    return _both(partial(losses_plot, facts), "losses")


def notes(facts: Facts) -> Drawing:
    """What training noted beside the loss, one small panel a name."""
    return _both(partial(notes_plot, facts), "notes")


def along(facts: Facts) -> Drawing:
    """Reward and suites over the steps of training, one panel each, one line an arm."""
    return _both(partial(along_plot, facts), "along")


def razor(facts: Facts) -> Drawing:
    """x: KL(before || after) on the new prompts; y: points forgotten; the curve through all arms."""
    return _both(partial(razor_plot, facts), "razor")
