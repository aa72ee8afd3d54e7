"""Moments of a training: the moving weights kept on the way, so that the model can be measured as it was then.

A training in n moments is kept at the end of each of n equal stretches of its optimiser steps but the last,
whose end is the trained model. While it runs, what moves lies in `out/moments/<k>.safetensors`; complete
models are made of it in `out/moments/<k>/model` when the training has ended.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from mnemos.core.errors import UsageError

if TYPE_CHECKING:
    from mnemos.train.trainer import PlanTrainer


def places(moments: int, steps: int) -> list[int]:
    """The optimiser step at the end of each stretch, the training's end included. Raises UsageError where
    there are more stretches than steps."""
    if moments > steps:
        raise UsageError(
            f"trajectory.moments = {moments}",
            f"is more than the {steps} steps of this training",
            f"give at most {steps}, or train for longer",
        )
    # In whole numbers, so that stretches differ by one step at most and the last ends with the training.
    return [steps * number // moments for number in range(1, moments + 1)]


class Keep(TrainerCallback):  # type: ignore[misc]
    """Keeps the weights that move, and closes the metrics, at the end of each stretch.

    A step's weights are written before its checkpoint is, so that a training which continues from a
    checkpoint finds those of every moment before it.
    """

    def __init__(self, trainer: PlanTrainer, out: Path, moments: int) -> None:
        self.trainer, self.folder, self.moments = trainer, out / "moments", moments
        self.at: dict[int, int] = {}
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise UsageError(
                "trajectory",
                "keeps whole weights while training, which FSDP and DeepSpeed cut up",
                "train on one process per whole model (plain torchrun), or leave trajectory out",
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Choose the steps."""
        ends = places(self.moments, state.max_steps)
        # The last stretch ends with the trained model, which is written anyway.
        self.at = {step: number for number, step in enumerate(ends[:-1], 1)}

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Keep the step's weights if they are due."""
        number = self.at.get(state.global_step)
        if number is None:
            return
        self.trainer.refuse_nonfinite()
        self.trainer.metrics.end_moment(state.global_step)
        if args.should_save:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self.folder / f"{number}.safetensors", moving(self.trainer.model))

    def restore(self, number: int) -> None:
        """Give the trainer's model the weights of a moment."""
        from safetensors.torch import load_file

        kept = load_file(self.folder / f"{number}.safetensors", device=str(self.trainer.args.device))
        with torch.no_grad():
            for name, value in moving(self.trainer.model).items():
                value.copy_(kept[name])

    def tidy(self) -> None:
        """Remove the moving weights, once no checkpoint is left that would be continued from."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink()


def moving(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """name -> each parameter that may move."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def _write(target: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Atomically."""
    from safetensors.torch import save_file

    temporary = target.with_name(f".{target.name}.tmp")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    os.replace(temporary, target)
