"""Which directions are allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from mnemos.core.method import method
from mnemos.core.nouns import Source, Tokens
from mnemos.core.plan import Plan, Stage
from mnemos.core.settings import DataRef, Seed
from mnemos.methods.memory import old_rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Projection:
    """Removes from a step's gradient what would raise the loss of a batch of old rows.

    g - (g . r) / (r . r) * r where g . r < 0, g elsewhere; r: the old rows' gradient.
    """

    stage: Stage
    rows: Sequence[Tokens]
    batch: int
    seed: int

    def apply(self, model: torch.nn.Module, step: int) -> None:
        """Change `.grad` of the trainable parameters; the old rows of a step depend on its number only."""
        # Of seed and step alone: a continued training draws what an unbroken one would.
        rng = np.random.default_rng([self.seed, step])
        drawn = rng.choice(len(self.rows), min(self.batch, len(self.rows)), replace=False)
        reference = self.stage.gradient_on([self.rows[i] for i in drawn])
        # The projection is the same at any length of r: over its largest element, r . r neither
        # vanishes nor overflows.
        largest = max((float(r.abs().max()) for r in reference.values()), default=0.0)
        if largest == 0:
            return
        reference = {name: r.float() / largest for name, r in reference.items()}
        pairs = [
            (value.grad, reference[name])
            for name, value in model.named_parameters()
            if value.requires_grad and value.grad is not None
        ]
        # g . r over all parameters together: they are one vector, projected once, not tensor by tensor.
        product = sum(_dot(g, r) for g, r in pairs)
        length = sum(_dot(r, r) for r in reference.values())
        # g - (g . r) / (r . r) r (arXiv:1812.00420, eq. 11).
        if product < 0:
            for g, r in pairs:
                g.sub_(r.to(g.dtype), alpha=product / length)


def _dot(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one.flatten().float() @ other.flatten().float())


@dataclass(frozen=True)
class AveragedMemory:
    """What becomes a `Projection` when the stage begins."""

    holds: ClassVar[tuple[str, ...]] = ("gradient",)

    old: Source
    batch: int
    seed: int

    def begin(self, stage: Stage) -> Projection:
        """Reads the old rows."""
        return Projection(stage, stage.rows(self.old), self.batch, self.seed)

    def apply(self, model: torch.nn.Module, step: int) -> None:
        """Refused: `begin` comes first."""
        raise AssertionError("AveragedMemory has not begun")


@method(paper="arXiv:1812.00420", changes={"gradient"}, off={"batch": 0})
def a_gem(
    plan: Plan,
    *,
    batch: Annotated[int, Field(ge=0, le=1_000_000)] = 8,
    data: DataRef | None = None,
    data_format: str | None = None,
    seed: Seed = 0,
) -> Plan:
    """Take no step that would raise the loss of a batch of old rows (A-GEM).

    batch: old rows drawn anew at each optimiser step; 0 turns the method off.
    data: file, Hugging Face dataset directory or hub id of old rows. Without it, in a sequence of
    tasks, the kept rows of all earlier tasks together.
    data_format: the format of `data` by its name in `teach.format`; detected unless given.
    seed: added to the arm's seed where old rows are drawn.

    The old rows are never learned: where the step's gradient g and theirs, r, point apart
    (g . r < 0), g becomes g - (g . r) / (r . r) r, at a right angle to r; else it stays.

    Trap: each step costs one more forward and backward pass over `batch` rows; as many rows as the
    step itself reads double it.

    Trap: the promise is about the gradient. Clipping keeps it, Adam's division by each weight's own
    scale bends it.

    Deviations from the paper: 1. the old rows' gradient is taken without dropout. 2. g holds
    whatever the arm's objective is; r is the gradient of the likelihood alone. 3. the memory holds
    all old rows given, not a fixed number for each task.

    The first task of a sequence has no past: there, without data, the method changes nothing.

    Raises UsageError where there are no old rows, and when training begins under FSDP or DeepSpeed.
    """
    if batch == 0:
        return plan
    rows = old_rows(plan, "a_gem", data, data_format)
    if rows is None:
        return plan
    return dataclasses.replace(plan, gradient=(*plan.gradient, AveragedMemory(rows, batch, plan.seed + seed)))
