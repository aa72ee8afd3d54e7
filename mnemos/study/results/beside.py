"""The `beside` of results.json: models that are asked the same suites and taught nothing."""

from __future__ import annotations

from typing import Any

from mnemos.measure.ask import load_measured
from mnemos.measure.compare import comparisons, summary
from mnemos.study.experiment import Experiment


def beside_of(experiment: Experiment) -> dict[str, Any]:
    """{beside: {name: {model, fingerprint, scores: {suite: summary}, comparisons}}}; empty where no model is named.

    comparisons: against the model before, paired by item. The two are other models, whose templates and tokenizers may
    differ: a difference is between the models as they are used, and no verdict is about a way of training.
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
        compared = comparisons(step.suites, first, {0: scores}, arm=name, roles=experiment.roles)
        found[name] = {
            "model": step.model.path,
            "fingerprint": step.model.fingerprint,
            "scores": {suite.name: summary(scores[suite.name], suite) for suite in step.suites},
            "comparisons": [one.as_dict() for one in compared],
        }
    return {"beside": found}
