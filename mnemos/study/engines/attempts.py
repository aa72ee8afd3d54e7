"""Attempts at a step, in files of the run's directory that driver and workers both see.

A driver numbers each attempt and writes its name before the step is handed over; the worker that has it writes how far
it is. A worker that finds another name there ends itself: its driver was killed and started again, or took its node for
lost and gave the step to another one, and two processes in one step's directory would spoil it. Driver and worker
write files of their own, so that neither can undo the other's word.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemos.core.progress import Status, Work

FOLDER = ".cluster"
"""Beside the steps, in the run's directory."""

LOOK_EVERY = 1.0
"""Seconds between a worker's looks at whether the attempt is still its own."""

TELL_EVERY = 3.0
"""Seconds between two words of a worker about how far it is."""


def begin(root: Path, key: str) -> str:
    """Name a new attempt at a step; whoever still works on an earlier one will end itself."""
    name = uuid.uuid4().hex[:16]
    _write(root / FOLDER / f"{key}.attempt", name)
    return name


def end(root: Path, key: str) -> None:
    """No attempt is wanted any more."""
    with contextlib.suppress(OSError):
        _write(root / FOLDER / f"{key}.attempt", "none")


def current(root: Path, key: str) -> str | None:
    """The name of the attempt that is wanted; None where no file says so."""
    try:
        return (root / FOLDER / f"{key}.attempt").read_text(encoding="utf-8")
    except OSError:
        return None


def last_word(root: Path, attempt: str) -> dict[str, Any] | None:
    """What the worker of an attempt last said: `nodes`, `pid` and `status`; None before its first word."""
    try:
        found = json.loads((root / FOLDER / f"{attempt}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def tell(root: Path, attempt: str, nodes: list[str], status: Status) -> None:
    """Say that this process works on an attempt, and how far it is."""
    word = {"nodes": nodes, "pid": os.getpid(), "status": dataclasses.asdict(status)}
    # A full disk, or a directory that is gone, is said by the step itself.
    with contextlib.suppress(OSError):
        _write(root / FOLDER / f"{attempt}.json", json.dumps(word))


def status_of(word: dict[str, Any] | None) -> Status:
    """How far an attempt is, of what its worker said."""
    if word is None:
        return Status("waiting for a place")
    known = {field.name for field in dataclasses.fields(Status)}
    return Status(**{key: value for key, value in dict(word.get("status") or {}).items() if key in known})


@contextlib.contextmanager
def attended(root: Path, key: str, attempt: str, nodes: list[str], work: Work) -> Iterator[None]:
    """Within it, a thread says how far `work` is, and ends this process once another attempt is wanted. nodes: ids of
    those that work on it."""
    over = threading.Event()

    def attend() -> None:
        last = time.monotonic()
        while not over.wait(LOOK_EVERY):
            if current(root, key) not in (attempt, None):
                os._exit(1)
            if time.monotonic() - last >= TELL_EVERY:
                tell(root, attempt, nodes, work.status())
                last = time.monotonic()

    tell(root, attempt, nodes, work.status())
    thread = threading.Thread(target=attend, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    # Whole or not at all: the other side reads at any time.
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
