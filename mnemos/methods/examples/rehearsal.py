"""Stored text and refusals beside the new rows, and a loss of its own for part of the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from mnemos.core.method import method
from mnemos.core.nouns import Tokens
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import DataRef, Seed
from mnemos.methods.examples.replay import mixture
from mnemos.sources.read import read

PRETRAINING = "pretraining"
"""Origin of rows of earlier training text."""


@dataclass(frozen=True)
class LossBeside:
    """Makes the loss (mean over all other rows) + coefficient * (mean over rows of `origins`), both
    per token, up to a constant factor that the optimiser's step size does not depend on.

    Of rows of these origins, tokens that the model does not write itself get no weight.
    """

    origins: tuple[str, ...]
    coefficient: float

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        """The weights of rows of `origins` times one factor, such that they add up to `coefficient`
        times those of all other rows. Nothing changes where either kind is absent."""
        beside = [row.origin in self.origins for row in rows]
        given = [
            np.where(row.output, row.weight, np.float32(0)) if rehearsed else row.weight
            for row, rehearsed in zip(rows, beside, strict=True)
        ]
        # Sums of weights of both kinds. The first token of a row is predicted by nothing, so its weight is in no loss.
        mass = {True: 0.0, False: 0.0}
        for weight, rehearsed in zip(given, beside, strict=True):
            mass[rehearsed] += float(np.abs(weight[1:]).sum(dtype=np.float64))
        # With f mass[beside] = c mass[other], the weighted sum of all losses is S_other + f S_beside = mass[other] *
        # (mean_other + c mean_beside).
        factor = np.float32(self.coefficient * mass[False] / mass[True]) if mass[True] and mass[False] else 1
        return [
            dataclasses.replace(row, weight=(factor * weight).astype(np.float32)) if rehearsed else row
            for row, weight, rehearsed in zip(rows, given, beside, strict=True)
        ]


@method(paper="arXiv:2309.07875", changes={"examples"}, off={"share_of_final": 0.0}, example={"data": "refusals.jsonl"})
def safety_mix(
    plan: Plan,
    *,
    data: DataRef,
    share_of_final: Annotated[float, Field(ge=0, lt=1)] = 0.03,
    data_format: str | None = None,
    seed: Seed = 0,
    repeat: bool = False,
) -> Plan:
    """Mix a few stored refusals of harmful requests into the new rows, so that safety is not unlearned.

    data: file, Hugging Face dataset directory or hub id of harmful requests with safe answers.
    share_of_final: refusals as a share of all rows, in [0, 1). The paper finds that a few hundred
    beside 20,000 instructions (about 3 %) suffice, without a loss on other benchmarks.
    data_format: the format of `data` by its name in `teach.format`; detected unless given.
    seed: added to the arm's seed where refusals are chosen and the mixture is shuffled.
    repeat: use refusals several times where there are fewer than the share asks for; otherwise
    that is refused.

    Trap, exaggerated safety: at some 10 % of refusals a model also refuses harmless requests that
    only sound harmful (about half of XSTest's). Put such look-alikes with helpful answers into
    `data` beside the refusals, and measure both: a suite of refusals alone rewards refusing
    everything.

    Trap: refusals carry over poorly between forms. Questions to refuse do not teach to refuse
    instructions; keep both in `data`.

    Deviation from the paper: 1. refusals are added to rows of any task, not to instructions from
    which every refusal has been taken out.
    """
    if share_of_final == 0:
        return plan
    old = (read(data, format=data_format),)
    return dataclasses.replace(
        plan, examples=mixture(plan.examples, old, share_of_final, plan.seed + seed, repeat=repeat)
    )


@method(
    paper="arXiv:2203.02155",
    changes={"examples", "weigh"},
    off={"share_of_final": 0.0},
    example={"data": "pretraining.jsonl"},
)
def pretraining_mix(
    plan: Plan,
    *,
    data: DataRef,
    share_of_final: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    coefficient: Annotated[float, Field(gt=0)] | None = None,
    seed: Seed = 0,
    repeat: bool = False,
) -> Plan:
    """Go on learning earlier training text, whole and word by word, beside the new rows.

    data: file, Hugging Face dataset directory or hub id of text (a column `text`).
    share_of_final: texts as a share of all rows, in [0, 1).
    coefficient: the loss is (mean over tokens of all other rows) + coefficient * (mean over tokens
    of the texts). Unset, a token of a text counts like any other, so long texts have much of the
    loss. The paper has 27.8, beside a reward and not a likelihood.
    seed: added to the arm's seed where texts are chosen and the mixture is shuffled.
    repeat: use texts several times where there are fewer than the share asks for; otherwise that
    is refused.

    Trap: texts longer than train.max_length are left out and counted unless train.truncate is set:
    cut documents into pieces first.

    Deviations from the paper (InstructGPT's ptx term): 1. beside supervised learning instead of
    reinforcement learning. 2. the two means are over the whole set, not over each step. 3. with a
    coefficient c the whole loss is smaller by 1 + c, which changes no step of Adam but makes
    train.max_grad_norm bite later.
    """
    if share_of_final == 0:
        return plan
    old = (read(data, format="text"),)
    mixed = mixture(plan.examples, old, share_of_final, plan.seed + seed, repeat=repeat, origin=PRETRAINING)
    weigh = plan.weigh if coefficient is None else (*plan.weigh, LossBeside((PRETRAINING,), coefficient))
    return dataclasses.replace(plan, examples=mixed, weigh=weigh)
