"""How far a training is, in words, while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from mnemos.train.trainer import PlanTrainer


class Telling(TrainerCallback):  # type: ignore[misc]
    """Says the step after each one, and the loss that was logged last."""

    def __init__(self, trainer: PlanTrainer, say: Callable[[str], None]) -> None:
        self.trainer, self.say = trainer, say

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """One step is done."""
        losses = self.trainer.losses
        loss = f", loss {losses[-1][1]:.3f}" if losses else ""
        self.say(f"step {state.global_step:,} of {state.max_steps:,}{loss}")
