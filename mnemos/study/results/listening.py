"""The `listening` of results.json: what suites about sounds say beside their scores, of every side of a study."""

from __future__ import annotations

from typing import Any

from mnemos.measure.ask import Measured, load_measured
from mnemos.measure.listening import listening
from mnemos.study.experiment import Experiment
from mnemos.study.results.standing import arms_of

BEFORE = "before"


def listening_of(experiment: Experiment) -> dict[str, Any]:
    """See `measure.listening.listening`; empty without a suite about sounds."""
    if not listening(experiment.suites, {}):
        return {}

    def answers_of(keys: list[str]) -> list[dict[str, Measured]]:
        return [load_measured(experiment.root / "steps" / key / "answers") for key in keys]

    sides = {BEFORE: answers_of([experiment.before_step.key])}
    for arm in arms_of(experiment):
        sides[arm] = answers_of([run.last.measure.key for run in experiment.runs if run.arm == arm])
    sides |= {name: answers_of([step.key]) for name, step in experiment.beside}
    return listening(experiment.suites, sides)
