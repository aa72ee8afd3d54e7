"""Who writes the answer that is learned from: one module for each value of `Plan.draw`, one row each in DRAWS.

A module has two names. ``prepare(plan, renderer) -> Prepared`` makes rows of the plan's examples before training; where
its rows are no chats and no texts, ``renderer(plan, tokenizer)`` makes what renders them. ``Batches`` is a class of
`batches.Batches`: what becomes of these rows at each optimiser step.
The trainer is composed with it and knows no draw by name; what else must be known of a draw stands in its row.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.plan import BinaryFeedback, PreferencePairs, SelfTaught, TeacherForcing, Transcripts
from mnemos.core.rollouts import Rollouts


@dataclass(frozen=True)
class Draw:
    """What is known of a kind of `Plan.draw` before its module is imported.

    module: imported when a stage is trained that way. in_data: all answers are in the data, none is written while
    training. likelihood: what is learned is the data's own answers, one by one, so that held-out rows of them can be
    evaluated and rates that are usual for it apply. holds: copies that it keeps in memory, as `core.plan.Term.holds`.
    hears: sounds are learned from, by a recogniser.
    """

    module: str
    in_data: bool = False
    likelihood: bool = False
    holds: tuple[str, ...] = ()
    hears: bool = False


DRAWS: dict[type, Draw] = {
    TeacherForcing: Draw("mnemos.train.draws.teacher_forcing", in_data=True, likelihood=True),
    Transcripts: Draw("mnemos.train.draws.transcripts", in_data=True, likelihood=True, hears=True),
    PreferencePairs: Draw("mnemos.train.draws.preference", in_data=True),
    BinaryFeedback: Draw("mnemos.train.draws.feedback", in_data=True),
    SelfTaught: Draw("mnemos.train.draws.self_distillation", holds=("teacher",)),
    Rollouts: Draw("mnemos.train.draws.policy"),
}
"""Class of `Plan.draw` -> what is known of it."""


def known(draw: Any) -> Draw:
    """The row of a plan's draw; UsageError where DRAWS has none of its class."""
    if type(draw) not in DRAWS:
        raise UsageError(f"draw = {draw!r}", "is not learned here", "leave the answers to the data")
    return DRAWS[type(draw)]


def find(draw: Any) -> Any:
    """The module of a plan's draw; UsageError as `known`."""
    return importlib.import_module(known(draw).module)
