"""How much each token counts."""

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


@dataclass(frozen=True)
class PromptWeight:
    """Multiplies the weight of every token that the model would not write itself."""

    prompt_weight: float

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        """Row by row: weight[t] where output[t], prompt_weight * weight[t] elsewhere."""
        factor = np.float32(self.prompt_weight)
        return [
            dataclasses.replace(row, weight=np.where(row.output, row.weight, factor * row.weight).astype(np.float32))
            for row in rows
        ]


@method(paper="arXiv:2401.13586", changes={"weigh"}, off={"prompt_weight": 1.0})
def output_only(plan: Plan, *, prompt_weight: Annotated[float, Field(ge=0, le=1)] = 0.0) -> Plan:
    """Learn only the tokens that the model would write itself when it is used.

    prompt_weight: how much each prompt token (system and user turns, tool results, the turns'
    markers) counts beside an output token, in [0, 1]; 0 masks prompts, 1 learns them as fully as
    answers. The paper finds 0.01 to 0.1 of use where answers are shorter than prompts, and no
    effect elsewhere; learning prompts fully is instruction modelling (arXiv:2405.14394).

    The mask comes from how the conversation was rendered, never from searching the text, and
    the end-of-turn token belongs to the output. Documents (kind text) are all output, so this
    changes nothing for them.

    Deviation from the paper: 1. the loss is normalised by the sum of weights of a whole step
    (`core.plan.Likelihood`), so prompts take part of the answers' share instead of adding to it.

    Trap: the method holds once. Applied again, the later prompt_weight takes the place of the
    earlier one instead of multiplying with it (and 1.0, being off, leaves the earlier one).
    """
    if prompt_weight == 1:
        return plan
    mine = PromptWeight(prompt_weight)
    if any(isinstance(step, PromptWeight) for step in plan.weigh):
        weigh = tuple(mine if isinstance(step, PromptWeight) else step for step in plan.weigh)
    else:
        weigh = (*plan.weigh, mine)
    return dataclasses.replace(plan, weigh=weigh)
