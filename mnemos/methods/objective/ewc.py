"""EWCPenalty weight consolidation: what old rows need holds still."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Source
from mnemos.core.plan import Plan, Stage, StepView
from mnemos.core.settings import DataRef, Seed
from mnemos.methods.memory import SelfText, old_rows

if TYPE_CHECKING:
    import torch

SELF_TOKENS = 128
"""Longest text that the model before writes for its own Fisher information, in tokens."""


@dataclass(frozen=True)
class Anchored:
    """coefficient / 2 * sum_i fisher_i * (theta_i - theta_i at the start)^2; fisher: by name."""

    coefficient: float
    fisher: Mapping[str, torch.Tensor]

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar, times the micro-batch's share of the step; summed in float32."""
        import torch

        # lambda / 2 * F_i (theta_i - theta*_i)^2 (arXiv:1612.00796, eq. 3). It knows nothing of the data, so a
        # micro-batch adds its share and the step adds the whole.
        start = view.references.start()
        moving = [(name, value) for name, value in view.model.named_parameters() if value.requires_grad]
        parts = [(self.fisher[name] * (value.float() - start[name].float()).square()).sum() for name, value in moving]
        return self.coefficient / 2 * view.share * torch.stack(parts).sum()


@dataclass(frozen=True)
class EWCPenalty:
    """What becomes an `Anchored` term when the stage begins."""

    holds: ClassVar[tuple[str, ...]] = ("start", "fisher")

    coefficient: float
    old: Source
    samples: int
    fisher: Literal["empirical", "model"]
    seed: int

    def begin(self, stage: Stage) -> Anchored:
        """Takes the diagonal Fisher information at the start weights from `samples` old rows."""
        rows = stage.rows(self.old)
        if self.samples < len(rows):
            drawn = np.random.default_rng(self.seed).choice(len(rows), self.samples, replace=False)
            rows = [rows[i] for i in sorted(drawn)]
        # name -> float32 in the parameter's shape: the mean of squares, one row at a time, never the square of a mean.
        fisher = stage.squared_gradients(rows, sampled=self.fisher == "model", seed=self.seed)
        return Anchored(self.coefficient, fisher)

    def loss(self, view: StepView) -> torch.Tensor:
        """Refused: `begin` comes first."""
        raise AssertionError("EWCPenalty has not begun")


@method(paper="arXiv:1612.00796", changes={"objective"}, off={"coefficient": 0.0})
def ewc(
    plan: Plan,
    *,
    coefficient: Annotated[float, Field(ge=0)] = 100.0,
    source: Literal["data", "past", "self"] | None = None,
    data: DataRef | None = None,
    data_format: str | None = None,
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 256,
    fisher: Literal["empirical", "model"] = "empirical",
    seed: Seed = 0,
) -> Plan:
    """Pull each weight back to where it stood, the harder the more old rows depend on it (EWC).

    coefficient: loss per half unit of Fisher-weighted squared distance; the term is
    coefficient / 2 * sum_i F_i (theta_i - theta_i at the start)^2.
    source: where old rows come from: data (the file), past (kept rows of the earlier tasks of a
    sequence) or self (text that the model before writes from nothing, where there are no old
    rows); data if a file is named, else past.
    data: file, Hugging Face dataset directory or hub id of old rows.
    data_format: the format of `data` by its name in `teach.format`; detected unless given.
    samples: how many old rows the Fisher information is taken from; all where there are fewer.
    fisher: empirical takes gradients of the tokens in the rows, model of tokens that the model
    draws itself at the same positions (the Fisher information in the strict sense).
    seed: added to the arm's seed where rows and tokens are drawn.

    F_i is the mean over rows of the squared gradient of a row's log-likelihood (summed over its
    supervised tokens), at the model before: of each row by itself, never of a batch's mean. It is
    taken once, as the stage begins, and costs about one pass of training over those rows.

    Trap: F grows with the number of supervised tokens in a row and shrinks where the model is
    certain, so no coefficient carries over between data sets; sweep it by factors of ten.

    Trap: beside the start weights, one more number per trainable weight stays in memory.

    Deviations from the paper: 1. in a sequence there is one F, of the rows of all earlier tasks at
    the latest model, and one anchor, in place of a pair for each task; each earlier task counts by
    its rows. 2. under lora, dora and ia3 the weights are the adapter's, as in SSR's baseline; where
    B starts at zero, F is zero for A. 3. self: the paper has old data.

    The first task of a sequence has no past: there, without data, the method changes nothing.

    Raises UsageError where there are no old rows, and when training begins under FSDP or DeepSpeed.
    """
    if coefficient == 0:
        return plan
    if data is not None and source not in (None, "data"):
        raise UsageError(f"ewc.source = {source}", f"and a file is named: data = {data!r}", "keep one of the two")
    if source == "data" and data is None:
        raise UsageError("ewc.data = null", "source: data needs a file", "name it in ewc.data")
    drawn = plan.seed + seed
    rows = (
        SelfText(plan.before, samples, SELF_TOKENS, drawn)
        if source == "self"
        else old_rows(plan, "ewc", data, data_format)
    )
    if rows is None:
        return plan
    return dataclasses.replace(plan, objective=(*plan.objective, EWCPenalty(coefficient, rows, samples, fisher, drawn)))
