"""The `beside` of results.json: models that are asked the same suites and taught nothing."""

from __future__ import annotations

from typing import Any

from mnemos.measure.ask import load_measured
from mnemos.measure.compare import comparisons, summary, unmoved_in
from mnemos.measure.frontier import frontier
from mnemos.study.experiment import Experiment
from mnemos.study.results.standing import Scores, arms_of, replicates, suite_scores
from mnemos.study.steps import MeasureStep, as_before


def beside_of(experiment: Experiment) -> dict[str, Any]:
    """{beside: {name: {model, fingerprint, scores: {suite: summary}, comparisons}}}; empty where no model is named.

    comparisons: against the model before, paired by item. The two are other models, whose templates and tokenizers may
    differ: a difference is between the models as they are used, and no verdict is about a way of training.

    A model that was given new pieces and no training yet has `since` too: {arm: comparisons} of each arm that began
    from it, against it and not against the model before. What an arm learned is this: new pieces cost more at first
    than little text brings back. Where rows are drawn by the seed, it is the one of the arm's first run. So has the
    model that the study names under `since`, of all arms: what these go on from was taught already.
    """
    if not experiment.beside:
        return {}
    before = load_measured(experiment.root / "steps" / experiment.before_step.key / "answers")
    first = {name: one.scores for name, one in before.items()}
    found: dict[str, Any] = {}
    for name, step in experiment.beside:
        scores = {
            suite: one.scores for suite, one in load_measured(experiment.root / "steps" / step.key / "answers").items()
        }
        alike = as_before(step.key, experiment.root)
        compared = comparisons(step.suites, first, {0: scores}, arm=name, roles=experiment.roles, unmoved=alike)
        found[name] = {
            "model": step.model.path,
            "fingerprint": step.model.fingerprint,
            "scores": {suite.name: summary(scores[suite.name], suite) for suite in step.suites},
            "comparisons": [one.as_dict() for one in compared],
            **_since(experiment, name, step, scores),
        }
    return {"beside": found}


def _since(experiment: Experiment, name: str, step: MeasureStep, scores: Scores) -> dict[str, Any]:
    """The `since` of a model with new pieces, or of the one that the study names; empty for any other. With it comes
    `learned`, {arm: {mean, low, high}}, as the frontier has it: the mean change of new suites with its interval."""
    found: dict[str, Any] = {}
    for arm in arms_of(experiment):
        runs = [run for run in experiment.runs if run.arm == arm]
        if name != experiment.study.since and not any(one.key in step.needs for one in runs[0].stages[0].extends):
            continue
        after = [(run, load_measured(experiment.root / "steps" / run.last.measure.key / "answers")) for run in runs]
        # Both stand as the model before.
        unmoved = unmoved_in(as_before(key, experiment.root) for key in [step.key, *(r.last.measure.key for r in runs)])
        compared = comparisons(
            step.suites, scores, replicates(experiment, after), arm=arm, roles=experiment.roles, unmoved=unmoved
        )
        found[arm] = [one.as_dict() for one in compared]
    if not found:
        return {}
    points = (frontier(suite_scores(experiment, list(found), step), list(found)) or {}).get("points", ())
    return {"since": found, "learned": {point["arm"]: point["learned"] for point in points if "learned" in point}}
