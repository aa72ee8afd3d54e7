"""Evaluation on the way: the loss of held-out rows, the best weights kept, and training stopped where it gets worse.

A share of the taught rows (`held_out_share`, the same ones for every arm and seed) is not learned. At every evaluation
its loss, in nats per unit of weight, is noted as `held_out_loss` of the results. Everything that is decided follows
from those numbers, which a checkpoint keeps, so that a continued training decides as an unbroken one.

Deviations from transformers' callback of the same settings: 1. a tie keeps the earlier weights. 2. the loss is summed
over all held-out tokens, not averaged over batches. 3. every process evaluates a share of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Tokens
from mnemos.core.settings import TrainSettings
from mnemos.train.moments import moving

if TYPE_CHECKING:
    from mnemos.train.trainer import PlanTrainer

NOTED = "held_out_loss"
"""What the results call it."""


def best_of(points: Sequence[Sequence[float]], threshold: float = 0.0) -> tuple[int, int]:
    """(step of the best evaluation, evaluations since). points: [step, loss], at least one. A loss is better where it
    lies more than `threshold` below the best before it, so that of equal ones the first stays."""
    step, lowest, since = int(points[0][0]), points[0][1], 0
    for at, loss in points[1:]:
        if loss < lowest - threshold:
            step, lowest, since = int(at), loss, 0
        else:
            since += 1
    return step, since


class Evaluate(TrainerCallback):  # type: ignore[misc]
    """Evaluates at the end of the steps that are due, the last one included. Looks at a step before its checkpoint is
    written. Raises UsageError under FSDP and DeepSpeed, which cut parameters up."""

    def __init__(self, trainer: PlanTrainer, held: Sequence[Tokens], out: Path) -> None:
        self.trainer, self.held, self.out = trainer, list(held), out
        self.settings: TrainSettings = trainer.plan.train
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise UsageError(
                "train.eval_strategy",
                "evaluates and keeps whole weights while training, which FSDP and DeepSpeed cut up",
                "train on one process per whole model (plain torchrun), or leave it out",
            )

    @property
    def points(self) -> list[list[float]]:
        """[step, loss] of the evaluations so far."""
        return self.trainer.metrics.logged.setdefault(NOTED, [])

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Evaluate if it is due; keep the best weights; stop when it has been worse for too long."""
        if state.global_step % self._every() and state.global_step < state.max_steps:
            return
        self.points.append([state.global_step, self._loss()])
        best, since = best_of(self.points, self.settings.early_stopping_threshold)
        if self.settings.load_best_model_at_end and best == state.global_step and args.should_save:
            self._keep(best)
        patience = self.settings.early_stopping_patience
        if patience is not None and since >= patience:
            control.should_training_stop = True
            # A checkpoint of this step would be continued from, one step too far.
            control.should_save = False

    def restore(self) -> None:
        """Give the trainer's model the best weights, where they are asked for; the kept ones go away."""
        from safetensors.torch import load_file

        if not self.settings.load_best_model_at_end:
            return
        self.trainer.accelerator.wait_for_everyone()
        best, _ = best_of(self.points, self.settings.early_stopping_threshold)
        kept = load_file(self._file(best), device=str(self.trainer.args.device))
        with torch.no_grad():
            for name, value in moving(self.trainer.model).items():
                value.copy_(kept[name])

    def tidy(self) -> None:
        """Remove the kept weights, once no checkpoint is left that would be continued from."""
        for path in self.out.glob(".best-*.safetensors"):
            path.unlink()

    def _every(self) -> int:
        if self.settings.eval_strategy == "steps":
            return self.settings.eval_steps or self.settings.logging_steps
        args = self.trainer.args
        micro: int = -(-len(self.trainer.rows) // (args.per_device_train_batch_size * args.world_size))
        steps: int = -(-micro // args.gradient_accumulation_steps)
        return max(1, steps)

    def _loss(self) -> float:
        assert self.trainer.stage is not None
        return self.trainer.stage.loss_on(self.held)

    def _file(self, step: int) -> Path:
        return self.out / f".best-{step}.safetensors"

    def _keep(self, step: int) -> None:
        from safetensors.torch import save_file

        self.trainer.refuse_nonfinite()
        target = self._file(step)
        temporary = target.with_suffix(".tmp")
        save_file({name: value.contiguous() for name, value in moving(self.trainer.model).items()}, temporary)
        os.replace(temporary, target)
        for other in self.out.glob(".best-*.safetensors"):
            if other != target:
                other.unlink()
