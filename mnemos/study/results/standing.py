"""How the arms of a finished study stand to each other: replicates, frontier, contrasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mnemos.core.nouns import Score
from mnemos.measure.ask import Measured, load_measured
from mnemos.measure.compare import unmoved_in
from mnemos.measure.frontier import SuiteScores, contrasts, frontier
from mnemos.measure.kl_forgetting import kl_forgetting
from mnemos.study.experiment import JOINT, ArmRun, Experiment
from mnemos.study.steps import MeasureStep, as_before

Scores = Mapping[str, Sequence[Score]]
"""Suite -> the scores of one side."""


def unit_of(experiment: Experiment) -> Literal["order", "seed"]:
    """What counts as a replicate. seed: each run, or with every order of a sequence run, each seed's
    mean over the orders. order: where orders are chosen from more, each order's mean over seeds."""
    study = experiment.study
    several = len(study.task_orders) > 1
    return "order" if several and not (study.every_order and len(study.seeds) > 1) else "seed"


def replicates(experiment: Experiment, sides: Sequence[tuple[ArmRun, Mapping[str, Measured]]]) -> dict[int, Scores]:
    """One arm's scores by replicate (see `unit_of`). An item without a score in one of the runs that
    are averaged has none."""
    by_order = unit_of(experiment) == "order"
    groups: dict[int, list[Mapping[str, Measured]]] = {}
    for run, side in sides:
        groups.setdefault(run.order if by_order else run.seed, []).append(side)
    return {key: {name: mean_of([s[name].scores for s in own]) for name in own[0]} for key, own in groups.items()}


def mean_of(sides: Sequence[Sequence[Score]]) -> Sequence[Score]:
    """Item by item over runs; an item without a score in one of them has none."""
    if len(sides) == 1:
        return sides[0]
    rows = [{score.item: score for score in side} for side in sides]
    out = []
    for first in sides[0]:
        found = [row[first.item] for row in rows]
        # A mean over the runs that have a score would be about other runs for each item.
        missing = next((score for score in found if score.reason is not None), None)
        value = math.nan if missing else math.fsum(score.value for score in found) / len(found)
        reason = missing.reason if missing else None
        out.append(Score(first.suite, first.item, value, reason, first.weight, first.cluster))
    return out


def suite_scores(experiment: Experiment, arms: Sequence[str], start: MeasureStep | None = None) -> list[SuiteScores]:
    """Every suite on every side, item by item. start: of the model in whose place the model before stands; its suites
    alone."""
    before = _measured(experiment, (start or experiment.before_step).key)
    sides: dict[str, dict[int, Scores]] = {}
    for arm in arms:
        runs = [run for run in experiment.runs if run.arm == arm]
        measured = [(run, _measured(experiment, run.last.measure.key)) for run in runs]
        sides[arm] = replicates(experiment, measured)
    unmoved = {
        arm: unmoved_in(as_before(run.last.measure.key, experiment.root) for run in experiment.runs if run.arm == arm)
        for arm in arms
    }
    out = []
    for suite in experiment.suites if start is None else start.suites:
        first = before[suite.name].scores
        out.append(
            SuiteScores(
                name=suite.name,
                role=experiment.roles[suite.name],
                unit=suite.unit,
                better=suite.better,
                before=np.array([score.value for score in first], dtype=float),
                after={
                    arm: np.array([_values(first, side[suite.name]) for side in by.values()], dtype=float)
                    for arm, by in sides.items()
                },
                weight=np.array([score.weight for score in first], dtype=float),
                clusters=[score.cluster for score in first],
                # Held against another start, what an arm left as it was may have moved all the same.
                unmoved=[] if start else [arm for arm in arms if suite.name in unmoved[arm]],
            )
        )
    return out


def _values(first: Sequence[Score], second: Sequence[Score]) -> list[float]:
    by_item = {score.item: score.value for score in second}
    return [by_item[score.item] for score in first]


def _measured(experiment: Experiment, key: str) -> dict[str, Measured]:
    return load_measured(experiment.root / "steps" / key / "answers")


def arms_of(experiment: Experiment) -> list[str]:
    """Every arm but the joint one, which is a reference and no way to teach a sequence."""
    return list(dict.fromkeys(run.arm for run in experiment.runs if run.arm != JOINT))


def frontier_of(experiment: Experiment, arms: Sequence[str]) -> dict[str, Any] | None:
    """The frontier of some arms (see `measure.frontier.frontier`)."""
    return frontier(suite_scores(experiment, arms), arms)


def standing(experiment: Experiment) -> dict[str, Any]:
    """The `frontier`, `contrasts` and `kl_forgetting` of results.json, over every arm but the joint one."""
    arms = arms_of(experiment)
    scores = suite_scores(experiment, arms)
    curve = kl_forgetting(scores, _on_new_prompts(experiment), arms)
    return {
        "frontier": frontier(scores, arms),
        "contrasts": contrasts(scores, arms),
        **({"kl_forgetting": curve} if curve else {}),
    }


def _on_new_prompts(experiment: Experiment) -> list[str]:
    """The suites of KL(before || after) on prompts of a new suite, or that are new ones themselves."""
    roles = experiment.roles
    kl = [suite for suite in experiment.suites if suite.kind == "kl"]
    return [suite.name for suite in kl if "new" in (roles[suite.name], roles.get(suite.of or ""))]
