"""How long the arms of a study will train: by a few real steps of each, or by what a run folder holds already."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.errors import MnemosError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.plan import Plan
from mnemos.sources.generated import generated_in
from mnemos.sources.looks import size
from mnemos.study.experiment import Experiment
from mnemos.study.proposal import duration
from mnemos.study.room import shape_of
from mnemos.study.steps import TrainStep, is_done, result_of
from mnemos.train import draws


def times(experiment: Experiment, renderer: Any, *, probe: bool) -> list[str]:
    """A line for each arm. probe: train a few steps of each whose time is not known from finished steps."""
    return list(_lines(experiment, renderer, probe))


def _lines(experiment: Experiment, renderer: Any, probe: bool) -> Iterator[str]:
    known: dict[str, tuple[float, str]] = {}
    total, unknown = 0.0, 0
    for run in experiment.runs:
        seconds = 0.0
        for stage in run.stages:
            step = stage.steps[0]
            assert isinstance(step, TrainStep)
            if is_done(step.key, experiment.root):
                known.setdefault(run.arm, (_taken(experiment, step.key), "as its finished training took"))
                continue
            name = _same(step.plan)
            found = known.get(run.arm) or known.get(name) or (_probed(step.plan, renderer) if probe else None)
            if found is None:
                unknown += 1
                continue
            known.setdefault(name, found)
            seconds += found[0]
            if found[1]:
                yield f"time    {step.title}: about {duration(found[0])} ({found[1]})"
        total += seconds
    if total:
        rest = f", without {unknown} trainings whose time is not known" if unknown else ""
        yield f"time    about {duration(total)} of training in all{rest}; measuring and writing come on top"


def _taken(experiment: Experiment, key: str) -> float:
    found = result_of(key, experiment.root).get("seconds", math.nan)
    return float(found)


def _same(plan: Plan) -> str:
    """Trainings of one name take the same time: seeds, and arms that differ in rates alone."""
    settings = plan.train.model_copy(update={"learning_rate": 1.0, "lr_scheduler_type": "", "data_seed": None})
    return fingerprint([settings, plan.trainable, plan.objective, plan.gradient, plan.draw, plan.examples])


def _probed(plan: Plan, renderer: Any) -> tuple[float, str] | None:
    """Seconds of a training by its first steps; None where its rows or its model are still to be made."""
    from mnemos.train.speed import timed

    if generated_in(plan.examples) or not Path(plan.before.path).exists() or not draws.known(plan.draw).in_data:
        return None
    try:
        speed = timed(plan)
    except MnemosError:
        return None  # the run says what is wrong with it
    if plan.train.max_steps > 0:
        return plan.train.max_steps * speed.step_seconds, "by a few steps of it"
    tokens = plan.train.num_train_epochs * size(plan.examples) * _mean(plan, renderer)
    return tokens / speed.tokens_per_second, "by a few steps of it"


def _mean(plan: Plan, renderer: Any) -> float:
    """Tokens of a row, on average over the first ones."""
    kept: dict[str, list[tuple[int, int]]] = {}
    shape_of(plan, renderer, kept)
    lengths = next(iter(kept.values()))
    return float(np.mean([tokens for tokens, _ in lengths])) if lengths else float(plan.train.max_length)
