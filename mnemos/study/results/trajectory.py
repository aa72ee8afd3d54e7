"""What was measured while the arms trained: the `trajectory` of results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnemos.core.nouns import Score
from mnemos.measure.ask import Measured, load_measured
from mnemos.measure.compare import summary
from mnemos.measure.suite import Suite
from mnemos.measure.trajectory import NOTED, ArmCurves, SuiteCurves, trajectories
from mnemos.study.experiment import ArmRun, Experiment, Stage
from mnemos.study.steps import result_of


def trajectory_of_run(experiment: Experiment, run: ArmRun) -> dict[str, Any]:
    """`trajectory` and its cost of one run: {step, noted, scores} before training, at the end of each stretch, and
    after it; nothing where the study does not ask for it."""
    suites = _suites(experiment)
    if not suites:
        return {}
    stage = run.last
    rows = [
        {
            "step": step,
            "noted": noted,
            "scores": {suite.name: summary(side[suite.name].scores, suite) for suite in suites},
        }
        for (step, noted), side in zip(_noted(experiment, stage), _sides(experiment, stage), strict=True)
    ]
    return {"trajectory": rows}


def measuring(experiment: Experiment, run: ArmRun) -> dict[str, float]:
    """Seconds that asking the suites along one run's training took; those that runs share count in full for each."""
    keys = [moment.measure.key for moment in run.last.moments]
    return {"trajectory_seconds": math.fsum(result_of(key, experiment.root)["seconds"] for key in keys)} if keys else {}


def trajectory_of(experiment: Experiment) -> dict[str, Any]:
    """`trajectory` of the whole study: {suites, moments, arms}, or nothing."""
    asked, suites = experiment.study.trajectory, _suites(experiment)
    if asked is None:
        return {}
    arms: dict[str, list[ArmRun]] = {}
    for run in experiment.runs:
        arms.setdefault(run.arm, []).append(run)
    found = trajectories([_arm(experiment, suites, arm, runs) for arm, runs in arms.items()])
    return {"trajectory": {"suites": [suite.name for suite in suites], "moments": asked.moments, "arms": found}}


def _suites(experiment: Experiment) -> list[Suite]:
    names = experiment.study.trajectory.suites if experiment.study.trajectory else []
    return [suite for suite in experiment.suites if suite.name in names]


def _noted(experiment: Experiment, stage: Stage) -> list[tuple[int, Mapping[str, float]]]:
    """(step, means of the stretch that ends there), for the model before and each moment."""
    found = result_of(stage.steps[-1].key, experiment.root)["moments"]
    return [(0, {}), *((step, {name: noted[name] for name in NOTED if name in noted}) for step, noted in found)]


def _sides(experiment: Experiment, stage: Stage) -> list[Mapping[str, Measured]]:
    """What the model before, at each moment, and after training said."""
    steps = [experiment.before_step, *(moment.measure for moment in stage.moments), stage.measure]
    return [load_measured(experiment.root / "steps" / step.key / "answers") for step in steps]


def _arm(experiment: Experiment, suites: Sequence[Suite], arm: str, runs: Sequence[ArmRun]) -> ArmCurves:
    noted = [_noted(experiment, run.last) for run in runs]
    sides = [_sides(experiment, run.last) for run in runs]
    return ArmCurves(
        name=arm,
        # float[runs, moments]; noted: float[runs, moments - 1], since nothing trains before the first.
        steps=np.array([[step for step, _ in rows] for rows in noted], dtype=float),
        noted={
            name: np.array([[means.get(name, math.nan) for _, means in rows[1:]] for rows in noted]) for name in NOTED
        },
        suites=[_suite(experiment, suite, sides) for suite in suites],
    )


def _suite(experiment: Experiment, suite: Suite, sides: Sequence[Sequence[Mapping[str, Measured]]]) -> SuiteCurves:
    first = sides[0][0][suite.name].scores

    def row(scores: Sequence[Score]) -> list[float]:
        by_item = {score.item: score.value for score in scores}
        return [by_item[score.item] for score in first]

    return SuiteCurves(
        name=suite.name,
        role=experiment.roles[suite.name],
        unit=suite.unit,
        better=suite.better,
        # float[runs, moments, items].
        values=np.array([[row(side[suite.name].scores) for side in moments] for moments in sides], dtype=float),
        weight=np.array([score.weight for score in first], dtype=float),
        clusters=[score.cluster for score in first],
    )
