"""When a training saves a checkpoint that nobody asked for by number of steps: by the clock.

Any step can be continued from exactly, so which ones are saved changes no result. A checkpoint is due when
SAVE_SECONDS have passed since the last one, and COST times as long as the last one took to write, so that saving
stays below a twentieth of the time; and only while the disk has room for several of its size.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from mnemos.train.trainer import PlanTrainer

SAVE_SECONDS = 300.0
"""Seconds of training that a stop may cost."""

COST = 20.0
"""Training goes on for at least so many times as long as the last checkpoint took to write."""

ROOM = 4
"""Checkpoints' worth of free space below which none is written: two are kept, and the model comes after them."""


class SaveByTime(TrainerCallback):  # type: ignore[misc]
    """Asks for a checkpoint at the end of a step when one is due. All processes save together: the first decides."""

    def __init__(self, trainer: PlanTrainer, out: Path) -> None:
        self.trainer, self.out = trainer, out
        self.last = self.asked = time.monotonic()
        self.took = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The clock starts when the first step does."""
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Save now?"""
        due = args.process_index == 0 and self._due()
        if args.world_size > 1:
            # The others have 0: the sum is what the first decided.
            flag = torch.tensor([int(due)], device=args.device)
            due = bool(self.trainer.accelerator.reduce(flag, "sum").item())
        if due and state.global_step < state.max_steps:
            self.asked = time.monotonic()
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A checkpoint is written."""
        self.last = time.monotonic()
        self.took = self.last - self.asked

    def _due(self) -> bool:
        return time.monotonic() - self.last >= max(SAVE_SECONDS, COST * self.took) and self._room()

    def _room(self) -> bool:
        # Weights, and two moments of each of those that move, in single precision.
        size = 4 * self.trainer.total_parameters + 8 * self.trainer.trainable_parameters
        place = next((one for one in (self.out, *self.out.parents) if one.is_dir()), None)
        return place is not None and shutil.disk_usage(place).free >= ROOM * size
