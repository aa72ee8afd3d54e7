"""Which runs lie below the folder that is served, and whose answers each of them holds.

A run is named by its path below that folder. A name that comes from a browser is looked up here and nowhere else:
what leads out of the folder, by dots or by a link, is no run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.files import read_json
from mnemos.study.commands.clean import PLANNED

RESULTS = "results.json"
MARKS = (RESULTS, PLANNED)
"""One of these makes a folder a run."""

PARTS = frozenset({"steps", "arms", "before", "after", "tracking", "checkpoints"})
"""Folders of a run in which no other run is looked for."""

DEPTH = 3
"""Folders below the served one in which runs are looked for: teachings and sweeps hold runs of their own."""

MOST_FOLDERS = 20_000
"""Folders that are looked into."""

_TITLE = re.compile(r"(?P<arm>.+), seed (?P<seed>\d+): measure", re.DOTALL)


class AbsentError(MnemosError):
    """What was asked for is not there, or not any more."""


@dataclass(frozen=True)
class Run:
    """A run's folder. id: its path below the served folder with slashes, "." for that folder itself. changed: when
    the run last wrote what the page shows, in seconds since 1970."""

    id: str
    path: Path
    changed: float


@dataclass(frozen=True)
class Side:
    """One model of a run. name: "before", "after", or arm and seed as below arms/. answers: the folder of its answers.
    model: its directory, None where it is not known."""

    name: str
    answers: Path
    model: Path | None = None


def runs(root: Path) -> list[Run]:
    """Every run at or below `root`, the one that changed last first."""
    found = [run for path in _folders(root) if (run := _run(root, path)) is not None]
    return sorted(found, key=lambda run: (-run.changed, run.id))


def run_named(root: Path, name: str) -> Run:
    """The run of that id. Raises AbsentError for any other."""
    parts = name.split("/")
    if "\0" not in name and len(name) < 1000 and (name == "." or not {"", ".", ".."} & set(parts)):
        try:
            path = root if name == "." else root.joinpath(*parts)
            # No link may stand in the way: a folder below the served one could lead anywhere.
            found = _run(root, path) if path.resolve() == path else None
        except (OSError, RuntimeError):
            found = None
        if found is not None:
            return found
    raise AbsentError(
        f"run {name[:200]!r}", "is not below the folder that is served", "it may have been removed meanwhile"
    )


def _folders(root: Path) -> Iterator[Path]:
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST_FOLDERS:
        path, depth = waiting.pop()
        seen += 1
        yield path
        if depth >= DEPTH:
            continue
        try:
            with os.scandir(path) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        except OSError:  # removed, or not ours to read
            continue
        waiting += [(path / name, depth + 1) for name in names if name not in PARTS]


def _run(root: Path, path: Path) -> Run | None:
    times = [when for name in (*MARKS, "log.txt") if (when := _changed(path / name)) is not None]
    if not any((path / name).is_file() for name in MARKS):
        return None
    return Run(path.relative_to(root).as_posix(), path, max(times, default=0.0))


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def sides(root: Path, run: Run) -> list[Side]:
    """The models of a run whose answers are there, the one before first. While a study runs they are found by the
    titles of its steps, afterwards by the links that it leaves."""
    found = {name: _linked(root, run.path / name, name) for name in ("before", "after")}
    arms = run.path / "arms"
    if arms.is_dir():
        for place in sorted(arms.rglob("answers"), key=_natural):
            name = place.parent.relative_to(arms).as_posix()
            found[name] = _linked(root, place.parent, name)
    there = [side for side in found.values() if side is not None]
    known = {side.name for side in there}
    return there + [side for side in _measured(root, run) if side.name not in known]


def side_named(root: Path, run: Run, name: str) -> Side:
    """One of them. Raises AbsentError for another name."""
    for side in sides(root, run):
        if side.name == name:
            return side
    raise AbsentError(
        f"model {name[:200]!r}", f"has no answers in run {run.id!r}", "choose one of those that are listed"
    )


def suites(side: Side) -> list[str]:
    """Names of the files of answers, without their ending."""
    try:
        return sorted(path.stem for path in side.answers.iterdir() if path.suffix == ".jsonl" and path.is_file())
    except OSError:
        return []


def answers_file(side: Side, suite: str) -> Path:
    """The file of one suite's answers. Raises AbsentError for a name that is not in `suites`."""
    if suite not in suites(side):
        raise AbsentError(
            f"suite {suite[:200]!r}", f"has no answers of {side.name!r}", "choose one of those that are listed"
        )
    return side.answers / f"{suite}.jsonl"


def _natural(path: Path) -> list[tuple[int, str]]:
    # seed-2 before seed-10.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _linked(root: Path, place: Path, name: str) -> Side | None:
    answers, model = _inside(root, place / "answers"), _inside(root, place / "model")
    return None if answers is None else Side(name, answers, model)


def _measured(root: Path, run: Run) -> Iterator[Side]:
    try:
        planned = [str(key) for key in read_json(run.path / PLANNED)]
    except (OSError, ValueError, TypeError):
        return
    for key in planned:
        folder = run.path / "steps" / key
        answers = _inside(root, folder / "answers") if key.startswith("measure-") and "/" not in key else None
        if answers is None or not (folder / "done.json").is_file():
            continue
        try:
            title = str(read_json(folder / "step.json")["title"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        match = _TITLE.fullmatch(title)
        if title == "before: measure":
            yield Side("before", answers)
        elif match:
            yield Side(f"{match['arm']}/seed-{match['seed']}", answers)


def _inside(root: Path, path: Path) -> Path | None:
    """The folder that the path leads to, if it lies below `root`."""
    try:
        place = path.resolve()
        return place if place.is_dir() and place.is_relative_to(root) else None
    except (OSError, RuntimeError):
        return None


def served_folder(path: Path) -> Path:
    """The folder to serve, resolved. Raises UsageError where it is none."""
    if not path.is_dir():
        raise UsageError(f"{path}", "is not a folder", "name the folder that runs lie in, for example runs/")
    return path.resolve()
