"""Arithmetic on the weights once training is over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import method
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import ModelRef
from mnemos.models.load import handle
from mnemos.weights.combination import Combination
from mnemos.weights.expression import names_in, parse

SCOPE = ("after", "before")
"""The checkpoints that every expression may name: the model as trained so far, and the one before
the stage."""

NoNames: dict[str, str] = {}
NoNumbers: dict[str, float] = {}


@dataclass(frozen=True)
class WeightExpression:
    """A step of arithmetic. expression: in the normal form of `weights.expression`, numbers filled in.
    models: (name, handle) of each checkpoint that it names beside `after` and `before`."""

    expression: str
    models: tuple[tuple[str, ModelHandle], ...] = ()
    embeddings: Literal["same", "align", "skip"] = "same"


@method(paper="arXiv:2109.01903", changes={"after"}, off={"expression": "after"})
def weights(
    plan: Plan,
    *,
    expression: str = "0.5*after + 0.5*before",
    models: dict[str, ModelRef] = NoNames,
    numbers: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = NoNumbers,
    embeddings: Literal["same", "align", "skip"] = "same",
) -> Plan:
    """Replace the trained weights by an expression over checkpoints, for example half-way back to before.

    expression: over `after` (the trained model), `before` (the model at the start of the stage)
    and the names of `models`, with ``+ - * /``, numbers and operators, for example
    ``0.7*after + 0.3*before``, ``after + rho*(chat - base)`` (a chat vector, arXiv:2310.04799) or
    ``ties(before, after, other, density=0.2)``. It costs no training, only passes over the weights.
    Halving is where WiSE-FT and the safeguard by merging (arXiv:2412.19512: best at 0.5 to 0.6 for
    `after`) start.
    models: name -> directory or hub id of further checkpoints (full models, adapters, differences
    saved by ``mnemos vector save``).
    numbers: name -> value of numbers that the expression names, so that a sweep can set them.
    embeddings: what happens where a model's vocabulary differs from that of `after`: same refuses
    it, align adds the rows of equal tokens and keeps the others, skip keeps the embeddings of `after`.

    Several such steps are taken in order; in a later one, `after` is the result of the earlier.
    Adapters are merged into the model first, so the result is a full model with the tokenizer,
    chat template and head of `after`.

    Trap: coefficients are used as they stand. With a sum other than 1 every weight, norms
    included, is scaled by it, which rarely leaves a working model; forgetting a task by negation
    (arXiv:2212.04089) is ``2*before - after`` and sums to 1 as well.

    Deviation from the paper: 1. there, image classifiers are interpolated; the formula is the same.

    Raises UsageError where the expression cannot be read, names another checkpoint, leaves a named
    one unused, or cancels `after` and with it the training.
    """
    combination = parse(expression, numbers)
    # Compared in normal form, so that `after + before - before` changes nothing either.
    if str(combination) == "after":
        return plan
    _check(expression, combination, models, numbers)
    handles = tuple((name, handle(models[name])) for name in sorted(models))
    return dataclasses.replace(plan, after=(*plan.after, WeightExpression(str(combination), handles, embeddings)))


def _check(expression: str, combination: Combination, models: dict[str, str], numbers: dict[str, float]) -> None:
    where = f"weights.expression = {expression!r}"
    known = (*SCOPE, *models)
    strangers = [name for name in combination.names if name not in known]
    if strangers:
        raise UsageError(f"{where}: {strangers[0]}", "names no checkpoint here", nearest(strangers[0], known))
    taken = [name for name in (*models, *numbers) if name in SCOPE or (name in models and name in numbers)]
    if taken:
        raise UsageError(f"weights: {taken[0]}", "has a meaning already", "give it another name")
    written = names_in(expression)
    idle = [name for name in (*models, *numbers) if name not in written]
    if idle:
        raise UsageError(f"{where}: {idle[0]}", "is given but not used", nearest(idle[0], written))
    # Greedy soups choose ingredients by a suite, and no method may see a suite.
    if any(call.operator == "soup" for call in combination.calls):
        raise UsageError(where, "soup chooses by measuring, which training cannot", "use `mnemos merge --suites`")
    if "after" not in combination.names:
        raise UsageError(where, "leaves nothing of the training", "give `after` a coefficient other than 0")
