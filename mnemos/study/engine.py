"""Engines execute steps. The interface is one call, so that a cluster can stand behind it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mnemos.study import processes
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
        progress = Progress(len(todo_keys), reused, self.quiet or not processes.is_main())
        for key in todo_keys:
            step = by_key[key]
            progress.start(step.title)
            began = time.monotonic()
            execute(step, root, quiet=not progress.live)
            progress.finish(step.title, time.monotonic() - began)
        progress.close()


class Progress:
    """One line a finished step when piped; a bar with the time left on a terminal."""

    def __init__(self, total: int, reused: int, silent: bool) -> None:
        self.total, self.silent, self.done = total, silent, 0
        self.began = time.monotonic()
        self.live = sys.stderr.isatty() and not silent
        if not silent and reused:
            print(f"{reused} finished steps reused", file=sys.stderr)

    def start(self, title: str) -> None:
        """Say what is being done."""
        if self.live:
            print(f"\r\033[K[{self.done}/{self.total}] {title} … {self._left()}", end="", file=sys.stderr, flush=True)

    def finish(self, title: str, seconds: float) -> None:
        """Count a step that took so many seconds."""
        self.done += 1
        if self.silent:
            return
        start = "\r\033[K" if self.live else ""
        left = f"  {self._left()}" if self.done < self.total else ""
        print(f"{start}[{self.done}/{self.total}] {title}  {seconds:.1f} s{left}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        if not self.done:
            return ""
        seconds = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        return f"about {int(seconds // 60)}:{int(seconds % 60):02d} left"

    def close(self) -> None:
        """Leave the terminal's line."""
        if self.live and not self.done:
            print(file=sys.stderr)
