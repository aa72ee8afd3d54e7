"""Step folders that nothing needs any more: found, named with their sizes, and removed when somebody says so.

A study whose data, models or settings changed leaves the steps of its earlier versions behind, trained models
among them. A step is needed, and never touched, if the last run of the directory planned it (`steps.json`), if
`results.json` names it, or if a link under before/ or arms/ points to it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemos.core.errors import UsageError
from mnemos.core.files import read_json, write_json
from mnemos.report.words import counted, size
from mnemos.study.lock import locked

PLANNED = "steps.json"
_KEY = re.compile(r"\b(?:train|write|extend|weights|measure)-[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Stale:
    """One folder that nothing needs. title: the step's name, its key where that was not kept. size: in bytes."""

    path: Path
    title: str
    size: int


def note_steps(root: Path, keys: Sequence[str]) -> None:
    """Write down which steps the present run plans."""
    write_json(root / PLANNED, sorted(set(keys)))


def stale(root: Path) -> list[Stale]:
    """The folders under root/steps that nothing needs, largest first. Raises UsageError where `root` is not the
    directory of a run, so that nothing of somebody else's is called stale."""
    steps = root / "steps"
    known = (root / PLANNED).is_file() or (root / "results.json").is_file()
    if not known or not steps.is_dir():
        raise UsageError(
            f"{root}",
            f"is not the directory of a run (it holds no steps/ beside {PLANNED} or results.json)",
            "name one, for example runs/my-study",
        )
    if steps.is_symlink():
        # Shared with other studies, as the rungs of a teaching share theirs: what this one does not need, they may.
        return []
    needed = _needed(root)
    found = [
        Stale(path, _title(path), _size(path))
        for path in sorted(steps.iterdir())
        if path.is_dir() and not path.is_symlink() and _KEY.fullmatch(path.name) and path.name not in needed
    ]
    return sorted(found, key=lambda one: -one.size)


def remove(root: Path) -> list[Stale]:
    """Remove what `stale` finds and return it. Raises RunError while a run works in the directory."""
    stale(root)  # refuses what is no run before anything is written there
    with locked(root):
        found = stale(root)
        for one in found:
            # First what says that it is finished: half of a step must never look whole.
            (one.path / "done.json").unlink(missing_ok=True)
            shutil.rmtree(one.path)
    return found


def _needed(root: Path) -> set[str]:
    keys: set[str] = set()
    if (root / PLANNED).is_file():
        keys |= {str(key) for key in read_json(root / PLANNED)}
    if (root / "results.json").is_file():
        # As text: wherever the file names a step, it is needed, without knowing the file's layout.
        keys |= set(_KEY.findall((root / "results.json").read_text(encoding="utf-8")))
    for link in _links(root):
        keys |= set(_KEY.findall(os.readlink(link)))
    return keys


def _links(root: Path) -> Iterator[Path]:
    if (root / "before").is_symlink():
        yield root / "before"
    for folder, directories, files in os.walk(root / "arms"):
        yield from (path for name in (*directories, *files) if (path := Path(folder) / name).is_symlink())


def _title(path: Path) -> str:
    for name in ("done.json", "step.json"):
        if (path / name).is_file():
            try:
                return str(read_json(path / name)["title"])
            except (ValueError, KeyError, TypeError):
                continue
    return path.name


def _size(path: Path) -> int:
    return sum(os.lstat(Path(folder) / name).st_size for folder, _, files in os.walk(path) for name in files)


def stale_words(found: Sequence[Stale]) -> str:
    """Like "3 step folders (1.20 GB) that no arm needs any more"."""
    return f"{counted(len(found), 'step folder')} ({size(sum(one.size for one in found))}) that no arm needs any more"
