"""One step after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemos.core.errors import UsageError
from mnemos.core.progress import Work, working
from mnemos.study import processes
from mnemos.study.engines.engine import Engine, refuse_unread
from mnemos.study.engines.failures import Failures
from mnemos.study.progress import LOG, Log, Progress
from mnemos.study.sections import EngineSettings
from mnemos.study.steps import Step, distinct, execute, is_done, release


@dataclass(frozen=True)
class LocalEngine:
    """One step after the other in this process (all of its GPUs, under torchrun or accelerate). keep_going: as in
    `EngineSettings`; refused under a launcher, where the other processes would wait for the one that failed."""

    quiet: bool = False
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.keep_going and processes.count() > 1:
            raise UsageError(
                f"engine.keep_going under a launcher of {processes.count()} processes",
                "cannot be kept: the others would wait for a process that failed",
                "leave it out, or start mnemos without torchrun or accelerate",
            )

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Run what is not done, in the given order, which respects `needs`."""
        todo = [step for step in distinct(steps) if not is_done(step.key, root)]
        # Decided once: another process may look when the main one has just finished a step.
        todo_keys = processes.agreed([step.key for step in todo])
        by_key = {step.key: step for step in steps}
        reused = len(distinct(steps)) - len(todo_keys)
        failures = Failures([by_key[key] for key in todo_keys], self.keep_going)
        main = processes.is_main()
        log = Log(root / LOG if main else None)
        with Progress(todo_keys, reused, silent=self.quiet or not main, log=log) as progress:
            for key in todo_keys:
                if key in failures.undone:
                    continue
                work = Work(progress.note)
                progress.start(key, by_key[key].title, work.status)
                try:
                    # What a step says goes through `work`, which keeps it to the log where this shall be quiet.
                    with working(work):
                        execute(by_key[key], root, quiet=False)
                except Exception as error:
                    failures.add(by_key[key], error, progress)
                    release()
                    continue
                progress.finish(key)
            failures.refuse()


def make(settings: EngineSettings, quiet: bool) -> Engine:
    """Raises UsageError for several jobs, and for what is a cluster's."""
    refuse_unread(settings, "local", "jobs", "keep_going")
    if settings.jobs not in (None, 1):
        raise UsageError(
            f"jobs = {settings.jobs} with the engine local", "runs one step at a time", "--engine pool, or --jobs 1"
        )
    return LocalEngine(quiet, settings.keep_going)
