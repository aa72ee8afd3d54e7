"""Who writes the answer that is learned from: one module for each value of `Plan.draw`, one row each in DRAWS.

A module has two names. ``prepare(plan, renderer) -> Prepared`` makes rows of the plan's examples before
training. ``Batches`` is a class of `batches.Batches`: what becomes of these rows at each optimiser step.
The trainer is composed with it and knows no draw by name.
"""

from __future__ import annotations

import importlib
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.plan import BinaryFeedback, PreferencePairs, SelfTaught, TeacherForcing
from mnemos.core.rollouts import Rollouts

DRAWS: dict[type, str] = {
    TeacherForcing: "mnemos.train.draws.teacher_forcing",
    PreferencePairs: "mnemos.train.draws.preference",
    BinaryFeedback: "mnemos.train.draws.preference",
    SelfTaught: "mnemos.train.draws.self_distillation",
    Rollouts: "mnemos.train.draws.policy",
}
"""Class of `Plan.draw` -> its module, imported when a stage is trained that way."""


def find(draw: Any) -> Any:
    """The module of a plan's draw; UsageError where no row of DRAWS has its class."""
    if type(draw) not in DRAWS:
        raise UsageError(f"draw = {draw!r}", "is not learned here", "leave the answers to the data")
    return importlib.import_module(DRAWS[type(draw)])
