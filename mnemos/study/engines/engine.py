"""Engines execute steps. The interface is one call, so that a cluster can stand behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mnemos.study.steps import Step


class Engine(Protocol):
    """Brings every step to done. A step may start once its `needs` are done; equal keys are one
    step; finished steps are not run again. A failed step raises and leaves the others resumable."""

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Return when every step is done; `steps` respects `needs`."""
        ...
