"""The `recognition` of results.json: which errors a recogniser makes, before and after each arm."""

from __future__ import annotations

from typing import Any

from mnemos.measure.ask import Measured, load_measured
from mnemos.measure.recognition import totals
from mnemos.measure.suite import Suite
from mnemos.study.experiment import Experiment
from mnemos.study.results.standing import arms_of

BEFORE = "before"
RATES = ("WER", "CER")
"""Units of suites that count errors."""


def recognition_of(experiment: Experiment) -> dict[str, Any]:
    """{recognition: {suite: {before or arm: see `measure.recognition.totals`}}}, over all runs of an arm together;
    empty without a suite that counts errors."""
    suites = [suite for suite in experiment.suites if suite.unit in RATES]
    if not suites:
        return {}
    sides = {BEFORE: [experiment.before_step.key]}
    sides |= {arm: [run.last.measure.key for run in experiment.runs if run.arm == arm] for arm in arms_of(experiment)}
    found: dict[str, dict[str, Any]] = {suite.name: {} for suite in suites}
    for side, keys in sides.items():
        measured = [load_measured(experiment.root / "steps" / key / "answers") for key in keys]
        for suite in suites:
            one = _pooled(suite, [one[suite.name] for one in measured if suite.name in one])
            if one is not None:
                found[suite.name][side] = one
    return {"recognition": found}


def _pooled(suite: Suite, measured: list[Measured]) -> dict[str, Any] | None:
    items = {item.id: item for item in suite.items}
    answers = [answer for one in measured for answer in one.answers if answer.item in items]
    return totals(suite.settings, [items[answer.item] for answer in answers], answers)
