"""Checkpoints within a stage: which one a stopped training continues from.

transformers writes a checkpoint file by file. A small file of ours, written last and atomically,
says that it is complete and which training it belongs to; a checkpoint without it, or of another
plan, is not continued from.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.files import read_json, write_json
from mnemos.core.inputs import refuse_changed

MARK = "mnemos.json"


@dataclass(frozen=True)
class Mark:
    """training: fingerprint of the plan. step: optimiser steps done. losses: logged so far. window: losses of the
    steps since the last logged one. metrics: see `metrics.Notes`. terms: for each term of the objective what it keeps
    (`core.plan.Remembers`), None of one that keeps nothing. processes: how many wrote it."""

    training: str
    step: int
    losses: list[list[float]]
    window: list[float]
    metrics: dict[str, Any] = field(default_factory=dict)
    terms: list[Any] = field(default_factory=list)
    processes: int = 1


def write_mark(checkpoint: Path, mark: Mark) -> None:
    """Declare a checkpoint complete. Raises RunError if a file that the training reads was changed before."""
    refuse_changed()
    write_json(checkpoint / MARK, asdict(mark))


def latest(checkpoints: Path, training: str) -> tuple[Path, Mark] | None:
    """The newest complete checkpoint of this training, or None."""
    found = [(path, _mark(path)) for path in _folders(checkpoints)]
    own = [(path, mark) for path, mark in found if mark is not None and mark.training == training]
    # By the number: sorted as text, step 1000 would stand before step 200.
    return max(own, key=lambda pair: pair[1].step, default=None)


def clear(checkpoints: Path, keep: Path | None = None) -> None:
    """Remove every checkpoint but `keep`; tracker logs stay."""
    for path in _folders(checkpoints):
        if path != keep:
            # The mark goes first: half of a checkpoint must never look complete.
            (path / MARK).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
    if checkpoints.is_dir() and not any(checkpoints.iterdir()):
        checkpoints.rmdir()


def _folders(checkpoints: Path) -> list[Path]:
    return sorted(checkpoints.glob("checkpoint-*"))


def _mark(path: Path) -> Mark | None:
    try:
        return Mark(**read_json(path / MARK))
    # TypeError: the mark of another version, which has other fields.
    except (OSError, ValueError, TypeError):
        return None
