"""How far a training is, while it runs."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from mnemos.core.progress import Count, doing

if TYPE_CHECKING:
    from mnemos.train.trainer import PlanTrainer


class Counted(TrainerCallback):  # type: ignore[misc]
    """Moves `count` after each optimiser step, with the mean loss of as many steps as a logged one has, and the
    tokens read."""

    def __init__(self, trainer: PlanTrainer, count: Count) -> None:
        self.trainer, self.count = trainer, count
        self._read = 0
        self._recent: deque[float] = deque(maxlen=trainer.args.logging_steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The first step, or the one of a checkpoint."""
        doing("")
        self.count.total = state.max_steps
        self.count.to(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """One step is done."""
        trainer = self.trainer
        self._recent.append(trainer.window[-1])
        self.count.loss = math.fsum(self._recent) / len(self._recent)
        # Processes read about as much each; none of them waits for the others' numbers.
        self.count.read((trainer.tokens_read - self._read) * args.world_size)
        self._read = trainer.tokens_read
        self.count.to(state.global_step)
