"""Engines execute steps. The interface is one call, so that a cluster can stand behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mnemos.core.errors import UsageError
from mnemos.study.sections import EngineSettings
from mnemos.study.steps import Step


class Engine(Protocol):
    """Brings every step to done. A step may start once its `needs` are done; equal keys are one
    step; finished steps are not run again. A failed step raises and leaves the others resumable."""

    def run(self, steps: Sequence[Step], root: Path) -> None:
        """Return when every step is done; `steps` respects `needs`."""
        ...


def refuse_unread(settings: EngineSettings, name: str, *read: str) -> None:
    """Raise UsageError for a setting that the engine `name` has no use for; it reads those of `read`."""
    unread = [key for key in settings.model_dump(exclude_defaults=True) if key not in ("name", *read)]
    if unread:
        value = getattr(settings, unread[0])
        value = f"{value:g}" if isinstance(value, float) else value
        raise UsageError(
            f"engine.{unread[0]} = {value}",
            f"is nothing that the engine {name} reads",
            "name the engine ray, or leave it out",
        )
