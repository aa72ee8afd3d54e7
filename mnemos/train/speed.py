"""How fast a stage trains here: a few real steps of it, timed."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.nouns import Source
from mnemos.core.plan import Plan

STEPS = 3
"""Steps of a training that is timed; the first one, in which kernels are chosen and memory is taken, is left out."""


@dataclass(frozen=True)
class First:
    """The first rows of a source."""

    source: Source
    count: int

    @property
    def fingerprint(self) -> str:
        """Of the source and how many of it."""
        from mnemos.core.fingerprint import fingerprint

        return fingerprint([self.source, self.count])

    def describe(self) -> str:
        """One line for people."""
        return f"the first {self.count} of {self.source.describe()}"

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self.source), self.count)


@dataclass(frozen=True)
class Speed:
    """Of a few steps. tokens_per_second: read in training, padding left out. step_seconds: of an optimiser step.
    peak_memory_bytes: as `train.likelihood.TrainResult` has it."""

    tokens_per_second: float
    step_seconds: float
    peak_memory_bytes: int


def timed(plan: Plan, steps: int = STEPS) -> Speed:
    """Train `steps` steps of a stage on its first rows into a folder that is thrown away. Raises as `train` does."""
    from transformers import TrainerCallback

    from mnemos.train.likelihood import train

    class Clock(TrainerCallback):  # type: ignore[misc]
        """When each step ended."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.monotonic())

    changed = {"max_steps": steps, "save_steps": 0, "logging_steps": steps, "eval_strategy": "no", "report_to": ()}
    settings = plan.train.model_copy(
        update={**changed, "load_best_model_at_end": False, "early_stopping_patience": None}
    )
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    # Packing joins rows, and rows that are too long are left out: more than the steps will read.
    some = First(plan.examples, 4 * steps * batch)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        begun = dataclasses.replace(plan, examples=some, train=settings, after=())
        result = train(begun, Path(scratch), quiet=True, callbacks=[clock])
    taken = max((clock.ends[-1] - clock.ends[0]) / max(1, len(clock.ends) - 1), 1e-6)
    return Speed(result.tokens / max(1, result.steps) / taken, taken, result.peak_memory_bytes)
