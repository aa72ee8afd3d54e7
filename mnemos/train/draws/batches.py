"""What becomes of prepared rows at each optimiser step, beside the one loop of `train.trainer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemos.core.nouns import Tokens
from mnemos.core.outputs import Outputs
from mnemos.core.plan import Answers, References
from mnemos.core.rollouts import RolloutView
from mnemos.train.documents import MicroBatch, Way, find_way, outputs
from mnemos.train.resume import Mark
from mnemos.train.schedule import Loader

PROBED_ROWS, PROBED_TOKENS = 4, 64
"""How much is read of the examples to compare merged with adapted logits."""


class Batches:
    """The part of a training that depends on `Plan.draw`. The defaults read rows as they were prepared;
    each draw's module has a subclass of its own, and only these are made.

    Called in this order at every optimiser step: `of_step` once, then for each micro-batch `forward`,
    `answers`, `rollouts` and perhaps `teacher`, then `after_backward` once. `save` and
    `continue_from` bracket a stop in between, after which the same numbers must follow.
    """

    each_process_keeps = False
    """Whether `save` writes what only the process that wrote it can continue from."""

    def __init__(self, trainer: Any) -> None:
        # A `train.trainer.PlanTrainer`; Any, because that module imports this one.
        self.trainer = trainer

    def loader(self) -> Any:
        """What gives the micro-batches of an epoch, in the trainer's order."""
        return Loader(self.trainer.rows, self.trainer.schedule, self.trainer.args.dataloader_pin_memory)

    def way(self, longest: int, *, split: bool, chunks: bool) -> Way:
        """How micro-batches pass through the model in training; see `documents.find_way`."""
        return find_way(self.trainer.model, longest, split=split, chunks=chunks)

    def of_step(self, taken: list[Any]) -> list[dict[str, Any]]:
        """The micro-batches of one optimiser step, made of what the loader gave for it."""
        return taken

    def forward(self, model: Any, batch: MicroBatch) -> Outputs:
        """The logits of the model in training."""
        return outputs(model, batch, self.trainer.way)

    def answers(self, inputs: dict[str, Any], batch: MicroBatch, references: References) -> Answers | None:
        """Whole answers to compare, where rows have them."""
        return None

    def rollouts(self, inputs: dict[str, Any], batch: MicroBatch) -> RolloutView | None:
        """What is known of answers that the model has drawn itself, where it does."""
        return None

    def teacher(self, inputs: dict[str, Any], batch: MicroBatch) -> Outputs | None:
        """The logits of a teacher that moves with the training; None where there is none."""
        return None

    def probe(self, prepared: Any) -> dict[str, Any]:
        """A few prompts, int64[B, T], as the model's input on the CPU: what a merged adapter is checked on."""
        rows = [row[0].ids for row in prepared.rows[:PROBED_ROWS]]
        # Cut to the shortest, so that nothing has to be padded.
        width = min([PROBED_TOKENS, *map(len, rows)])
        return {"input_ids": torch.tensor([ids[:width].tolist() for ids in rows]), "use_cache": False}

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained beside the model, without weight decay."""
        return []

    def after_backward(self) -> None:
        """Runs between a whole step's gradients and its update."""

    def taught(self, one: Tokens) -> bool:
        """Whether a part of a row is learned from, for `read`."""
        return True

    def read(self) -> tuple[int, int]:
        """Tokens read over all steps and processes, without padding, and how many were supervised."""
        trainer = self.trainer
        lengths = [sum(map(len, row)) for row in trainer.rows]
        taught = [sum(_supervised(one) for one in row if self.taught(one)) for row in trainer.rows]
        read = list(trainer.schedule.read(trainer.state.global_step, trainer.args.gradient_accumulation_steps))
        return sum(lengths[index] for index in read), sum(taught[index] for index in read)

    def counted(self) -> dict[str, int]:
        """What was counted while training, beside what preparing the rows counted."""
        return {}

    def save(self, checkpoint: Path) -> None:
        """Write what is needed beside weights and optimiser to continue; every process comes here."""

    def continue_from(self, mark: Mark) -> None:
        """Take over what `save` wrote."""

    def close(self) -> None:
        """The training has ended; may raise what only its end can tell."""

    def file(self, checkpoint: Path, name: str) -> Path:
        """A file of this process within a checkpoint."""
        return checkpoint / f"{self.trainer.args.process_index}-{name}"

    def checkpoint(self, mark: Mark) -> Path:
        """The checkpoint that a training continues from."""
        return Path(self.trainer.args.output_dir) / f"checkpoint-{mark.step}"


def _supervised(one: Tokens) -> int:
    # The first token is predicted by nothing.
    return int(np.count_nonzero(one.weight[1:]))
