"""Training on single answers with a thumb up or down.

Where the loss asks for it a row has a second example, its prompt with another row's answer, which is read without
gradient before each step (`core.plan.Answers.drift`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import DataError
from mnemos.core.nouns import Tokens
from mnemos.core.outputs import Outputs, log_prob
from mnemos.core.plan import CHOSEN, DESIRABLE, REJECTED, UNDESIRABLE, Answers, Plan, References
from mnemos.train.documents import MicroBatch, micro_batch, outputs
from mnemos.train.draws import answers
from mnemos.train.draws.answers import MISMATCHED, Row, start_of
from mnemos.train.rows import Prepared


def prepare(plan: Plan, renderer: Any) -> Prepared:
    """See `answers.prepare`; DataError too where all thumbs point the same way."""
    return answers.prepare(plan, renderer, THUMBS)


def _thumbs(found: Sequence[Row], plan: Plan, counts: Counter[str]) -> list[Row]:
    """A row for each answer; the two of a pair stand apart, so that neither gets the other's prompt."""
    first = [row[0] for row in found]
    second = [row[1] for row in found if len(row) == 2]
    names = {CHOSEN: DESIRABLE, REJECTED: UNDESIRABLE}
    single = [dataclasses.replace(one, part=names.get(one.part, one.part)) for one in (*first, *second)]
    for part in (DESIRABLE, UNDESIRABLE):
        counts[f"{part} answers"] = sum(one.part == part for one in single)
    if single and len({one.part for one in single}) == 1:
        raise DataError(
            f"{plan.examples.describe()}: all {len(single)} answers are {single[0].part}",
            "kto needs both kinds of thumb",
            "give both kinds, or learn the good answers by likelihood without kto",
        )
    if not plan.draw.mismatched:
        return [(one,) for one in single]
    prompts = [one.ids[: start_of(one)].tobytes() for one in single]
    return [
        (one, _mismatched(one, single[_other(prompts, place)], plan.train.max_length))
        for place, one in enumerate(single)
    ]


def _other(prompts: Sequence[bytes], place: int) -> int:
    """The nearest row before `place`, counted round, that has another prompt; the one before if none has."""
    for back in range(1, len(prompts)):
        if prompts[place - back] != prompts[place]:
            return (place - back) % len(prompts)
    return (place - 1) % len(prompts)


def _mismatched(one: Tokens, other: Tokens, longest: int) -> Tokens:
    """The prompt of one answer with another answer, cut to `longest` tokens."""
    prompt, answer = one.ids[: start_of(one)], other.ids[other.output]
    ids = np.concatenate([prompt, answer])[:longest]
    output = np.arange(len(ids)) >= len(prompt)
    return Tokens(ids, output.astype(np.float32), output, one.example, one.origin, MISMATCHED)


THUMBS = answers.Compared(
    "kto",
    "thumbs",
    ("preference", "label"),
    'give {"prompt": …, "completion": …, "label": true}, or use another method',
    _thumbs,
)


class Batches(answers.Batches):
    """Measures before each step how far the model has moved, where the loss asks for it."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self.drift: torch.Tensor | None = None

    def of_step(self, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The step's micro-batches; counts its answers by part and measures how far the model has moved."""
        if self.trainer.plan.draw.mismatched:
            self.drift = self._drift(taken)
        return super().of_step(taken)

    def _drift(self, taken: Sequence[dict[str, Any]]) -> torch.Tensor:
        """Mean of ln p(model) - ln p(reference) over the step's mismatched pairs, at least 0."""
        trainer = self.trainer
        # Sum and number over the whole step and all processes, so that z is the same however the step was cut.
        sums = torch.zeros(2, device=trainer.args.device)
        training = trainer.model.training
        trainer.model.eval()
        try:
            for batch in taken:
                sums[0] += self._mismatched_ratio(trainer._prepare_inputs(batch["mismatched"]))
                sums[1] += batch["mismatches"]
        finally:
            trainer.model.train(training)
        if trainer.args.world_size > 1:
            sums = trainer.sum(sums)
        # A mean of few log-ratios may fall below 0, which no divergence does.
        return (sums[0] / sums[1].clamp(min=1)).clamp(min=0)

    def _mismatched_ratio(self, inputs: dict[str, Any]) -> torch.Tensor:
        trainer = self.trainer
        batch = micro_batch(inputs, trainer.way)
        with torch.no_grad(), trainer.accelerator.autocast():
            ours = outputs(trainer.model_wrapped, batch, trainer.way)
            theirs = self._reference(inputs, batch)
            logs = [one.each(log_prob, batch.targets) for one in (ours, theirs)]
        # ln p(model) - ln p(reference), summed over all mismatched answers.
        return (logs[0] - logs[1]).sum()

    def _reference(self, inputs: dict[str, Any], batch: MicroBatch) -> Outputs:
        trainer, named = self.trainer, self.trainer.plan.draw.reference
        with trainer.accelerator.autocast():
            found: Outputs = (
                trainer.before.outputs(batch) if named is None else trainer.stage.outputs_of(named, inputs, batch)
            )
        return found

    def answers(self, inputs: dict[str, Any], batch: MicroBatch, references: References) -> Answers:
        """With how far the model has moved."""
        return dataclasses.replace(super().answers(inputs, batch, references), drift=self.drift)

    def taught(self, one: Tokens) -> bool:
        """Mismatched pairs are read too, and teach nothing."""
        return one.part != MISMATCHED
