"""The arms that a run could not do, beside the report of those that are whole."""

from __future__ import annotations

from typing import Any

from mnemos.study.engines.failures import StepsFailedError
from mnemos.study.experiment import Experiment


def failed_of(experiment: Experiment, error: StepsFailedError) -> dict[str, Any]:
    """The `failed` of results.json: an entry for each arm, and each model beside them, that is not whole. runs: of the
    arm; whole: how many of them are measured; why: what its steps failed with, in words.

    Of an arm that lost one seed of three nothing is compared: two seeds beside the others' three claim something else.
    """
    rows = []
    arms: dict[str, list[tuple[str, ...]]] = {}
    for run in experiment.runs:
        arms.setdefault(run.arm, []).append(run.keys)
    for name, step in experiment.beside:
        # A model with new pieces needs the step that gave it some.
        arms.setdefault(name, []).append((*step.needs, step.key))
    for name, runs in arms.items():
        lost = [keys for keys in runs if not error.undone.isdisjoint(keys)]
        if lost:
            keys = dict.fromkeys(key for one in lost for key in one)
            why = [error.failed[key] for key in keys if key in error.failed]
            rows.append({"arm": name, "runs": len(runs), "whole": len(runs) - len(lost), "why": why})
    return {"failed": rows}
