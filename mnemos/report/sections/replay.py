"""How much replay is enough: learned and forgotten against the share of stored old rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.plot_curve import Curve, curve_plot, replay_curves
from mnemos.report.section import Figure, Table
from mnemos.report.svg import both

KEY = "replay"
TITLE = "How much replay is enough"
LEAD = "The same training with a growing share of stored old rows. Small marks are single runs."
LOUD = False


def read(results: Mapping[str, Any], facts: Facts) -> list[Curve] | None:
    """Groups of arms that differ in nothing but their share; None where there is none."""
    return replay_curves(facts) or None


def words(facts: Facts, record: Sequence[Curve]) -> list[str]:
    """Nothing beside the figure: the ledger has the numbers."""
    return []


def tables(facts: Facts, record: Sequence[Curve]) -> Sequence[Table]:
    """None: the ledger has the numbers."""
    return ()


def figures(facts: Facts, record: Sequence[Curve]) -> Sequence[Figure]:
    """One for each group of arms that have their other methods in common."""
    drawn = [
        Figure(
            both(partial(curve_plot, facts, curve), f"replay-{place}"),
            lead=f"Always with {curve.also}." if curve.also else "",
        )
        for place, curve in enumerate(record)
    ]
    return [one for one in drawn if one.drawing]
