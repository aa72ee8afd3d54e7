"""An engine from outside the package: the steps in reverse where their needs allow it, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemos.study.engines.engine import Engine
from mnemos.study.sections import EngineSettings
from mnemos.study.steps import Step, distinct, execute, is_done

MADE: list[Backwards] = []


@dataclass
class Backwards:
    jobs: int | None
    quiet: bool
    done: list[str] = field(default_factory=list)

    def run(self, steps: Sequence[Step], root: Path) -> None:
        waiting = [step for step in reversed(distinct(steps)) if not is_done(step.key, root)]
        while waiting:
            step = next(one for one in waiting if all(is_done(need, root) for need in one.needs))
            execute(step, root, quiet=self.quiet)
            self.done.append(step.key)
            waiting.remove(step)


def make(settings: EngineSettings, quiet: bool) -> Engine:
    MADE.append(Backwards(settings.jobs, quiet))
    return MADE[-1]
