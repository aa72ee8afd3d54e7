"""Training on pairs of a chosen and a rejected answer: a row is two examples, read in one micro-batch."""

from __future__ import annotations

import dataclasses
from typing import Any

from mnemos.core.plan import Answers, Plan, References
from mnemos.train.documents import MicroBatch
from mnemos.train.draws import answers
from mnemos.train.rows import Prepared

PAIRS = answers.Compared(
    "dpo",
    "pairs",
    ("preference",),
    'give {"prompt": …, "chosen": …, "rejected": …}; kto learns from single answers',
)


def prepare(plan: Plan, renderer: Any) -> Prepared:
    """See `answers.prepare`."""
    return answers.prepare(plan, renderer, PAIRS, plan.draw.soft_label)


class Batches(answers.Batches):
    """Some pairs may be less sure than others."""

    def answers(self, inputs: dict[str, Any], batch: MicroBatch, references: References) -> Answers:
        """With how sure each pair is, where the plan names a column for it."""
        found = super().answers(inputs, batch, references)
        sure = self.trainer.plan.draw.soft_label is None
        return found if sure else dataclasses.replace(found, soft_labels=inputs["soft_labels"])
