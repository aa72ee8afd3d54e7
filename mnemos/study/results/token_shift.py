"""The `token_shift` of results.json: which tokens each arm's answers have that the model before would not write."""

from __future__ import annotations

from typing import Any

from mnemos.measure.ask import load_measured
from mnemos.measure.token_shift import pooled
from mnemos.study.experiment import Experiment
from mnemos.study.results.standing import arms_of


def token_shift_of(experiment: Experiment) -> dict[str, Any]:
    """{token_shift: {suite: {arm: see `measure.token_shift.pooled`}}}, over all runs of an arm together; empty without
    a suite of this kind."""
    names = [suite.name for suite in experiment.suites if suite.kind == "token_shift"]
    if not names:
        return {}
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for arm in arms_of(experiment):
        runs = [run for run in experiment.runs if run.arm == arm]
        sides = [load_measured(experiment.root / "steps" / run.last.measure.key / "answers") for run in runs]
        for name in names:
            one = pooled([answer for side in sides if name in side for answer in side[name].answers])
            if one is not None:
                found[name][arm] = one
    return {"token_shift": found}
