"""Tasks of a stream: one module each, found by walking; each has a function `task(settings) -> Task`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.fingerprint import fingerprint
from mnemos.stream.task import SHOTS, Row, Task, TaskSettings


def names() -> list[str]:
    """The tasks that ship."""
    return sorted(one.name for one in pkgutil.iter_modules(__path__) if not one.name.startswith("_"))


def check_name(name: str) -> None:
    """Raise UsageError for what is neither a shipped task nor a Python file that is there."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UsageError(f"task {name}", "does not exist", "give a Python file with a function task(settings)")
    elif name not in names():
        raise UsageError(f"task {name!r}", "is not a known task", nearest(name, names()))


def open_task(settings: TaskSettings) -> Task:
    """The task with its rows checked, drawn and, where it names none itself, gold examples held back."""
    check_name(settings.name)
    if settings.name.endswith(".py"):
        spec = importlib.util.spec_from_file_location("a_users_task", settings.name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(f"{__name__}.{settings.name}")
    if not hasattr(module, "task"):
        raise UsageError(f"{settings.name}", "has no function task(settings)", "see docs/stream.md")
    made: Task = module.task(settings)
    return _drawn(_checked(made, settings), settings)


def _checked(task: Task, settings: TaskSettings) -> Task:
    seen: set[str] = set()
    for place, row in enumerate((*task.rows, *task.shots), 1):
        if row.id in seen:
            raise DataError(f"row {place} of task {task.name}", f"has the id {row.id!r} of another", "give it its own")
        seen.add(row.id)
        if not row.gold.strip():
            raise DataError(f"row {place} of task {task.name}", "has no gold answer", "give it one, or leave it out")
    if len(task.rows) < 2:
        raise DataError(f"task {task.name}", f"has {len(task.rows)} rows, a stream needs two", "give more")
    return task


def _drawn(task: Task, settings: TaskSettings) -> Task:
    """By hash of id and seed, so that adding a row moves no other."""
    ranked = sorted(task.rows, key=lambda row: fingerprint([settings.seed, row.id]))
    shots = task.shots
    if not shots and len(ranked) >= 4 * SHOTS:
        shots, ranked = tuple(ranked[:SHOTS]), ranked[SHOTS:]
    kept: list[Row] = ranked[: settings.items]
    tokens = settings.max_new_tokens or task.max_new_tokens
    return Task(task.name, tuple(kept), task.parse, task.verify, shots, tokens, task.show)
