"""Engines execute steps. The interface is one call, so that a cluster can stand behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mnemos.study import processes
from mnemos.study.progress import Progress, listening
from mnemos.study.steps import Step, distinct, execute, is_done


class Engine(Protocol):
    """Brings every step to done. A step may start once its `needs` are done; equal keys are one
    step; finished steps are not run again. A failed step raises and leaves the others resumable."""

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Return when every step is done; `steps` respects `needs`."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """One step after the other in this process (all of its GPUs, under torchrun or accelerate)."""

    quiet: bool = False

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Run what is not done, in the given order, which respects `needs`."""
        todo = [step for step in distinct(steps) if not is_done(step.key, root)]
        todo_keys = processes.agreed([step.key for step in todo])
        by_key = {step.key: step for step in steps}
        reused = len(distinct(steps)) - len(todo_keys)
        with Progress(len(todo_keys), reused, self.quiet or not processes.is_main()) as progress:
            for key in todo_keys:
                progress.start(key, by_key[key].title)
                with listening(partial(progress.at, key)):
                    execute(by_key[key], root, quiet=self.quiet)
                progress.finish(key)
