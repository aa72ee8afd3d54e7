"""How training went: the loss by step, and what training noted beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.plot_losses import losses_plot
from mnemos.report.plot_notes import noted_names, notes_plot
from mnemos.report.section import Figure, Table
from mnemos.report.svg import both

KEY = "losses"
TITLE = "How training went"
LEAD = (
    "One panel an arm, one line a seed, the same scale in all; each point is the mean since the one before it. A loss "
    "is that of what the arm learns from: arms with other rows, weights or objectives have other losses, and which of "
    "them is the better model is seen in the suites alone."
)
LOUD = False

Record = tuple[bool, bool]


def read(results: Mapping[str, Any], facts: Facts) -> Record | None:
    """(whether there are curves of the loss, of something beside it); None where there are none."""
    losses = any(len(run.losses) > 1 for arm in facts.arms for run in arm.runs)
    noted = bool(noted_names(facts))
    return (losses, noted) if losses or noted else None


def words(facts: Facts, record: Record) -> list[str]:
    """Nothing beside the curves."""
    return []


def tables(facts: Facts, record: Record) -> Sequence[Table]:
    """None: a curve is no table."""
    return ()


def figures(facts: Facts, record: Record) -> Sequence[Figure]:
    """x: optimiser step; y: loss, and below it each noted value."""
    losses, noted = record
    out = [Figure(both(partial(losses_plot, facts), KEY))] if losses else []
    return (*out, Figure(both(partial(notes_plot, facts), "notes"), "What training noted by step")) if noted else out
