"""Arithmetic on the weights once training is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mnemos.core.errors import UsageError, nearest
from mnemos.core.expression import parse
from mnemos.core.method import method
from mnemos.core.plan import Plan

SCOPE = ("after", "before")
"""The checkpoints that an expression may name: the model as trained so far, and the one before
the stage."""


@dataclass(frozen=True)
class WeightExpression:
    """A linear combination of checkpoints, in the normal form of `core.expression`."""

    expression: str


@method(paper="arXiv:2109.01903", changes={"after"}, off={"expression": "after"})
def weights(plan: Plan, *, expression: str = "0.5*after + 0.5*before") -> Plan:
    """Replace the trained weights by a sum of checkpoints, for example half-way back to before.

    expression: sums of `after` (the trained model) and `before` (the model at the start of the
    stage) with ``+ - * /`` and numbers, for example ``0.7*after + 0.3*before``. It costs no
    training, only one pass over the weights. Halving is where WiSE-FT and the safeguard by
    merging (arXiv:2412.19512: best at 0.5 to 0.6 for `after`) start.

    Several such steps are taken in order; in a later one, `after` is the result of the earlier.
    Adapters are merged into the model first, so the result is a full model.

    Trap: coefficients are used as they stand. With a sum other than 1 every weight, norms
    included, is scaled by it, which rarely leaves a working model; forgetting a task by negation
    (arXiv:2212.04089) is ``2*before - after`` and sums to 1 as well.

    Deviation from the paper: 1. there, image classifiers are interpolated; the formula is the same.

    Raises UsageError where the expression cannot be read, names another checkpoint, or cancels
    `after` and with it the training.
    """
    combination = parse(expression)
    strangers = [name for name in combination.names if name not in SCOPE]
    if strangers:
        raise UsageError(
            f"weights.expression = {expression!r}: {strangers[0]}",
            "names no checkpoint here",
            nearest(strangers[0], SCOPE),
        )
    if "after" not in combination.names:
        raise UsageError(
            f"weights.expression = {expression!r}",
            "leaves nothing of the training",
            "give `after` a coefficient other than 0",
        )
    if str(combination) == "after":
        return plan
    return dataclasses.replace(plan, after=(*plan.after, WeightExpression(str(combination))))
