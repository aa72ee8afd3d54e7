"""Walk a reproduction: prepare its data, run its parts in order, print every ordering with its verdict.

A part that ran before costs seconds: its steps are found in the reproduction's folder, so a stopped walk is
continued by the same call.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, MnemosError, UsageError, nearest
from mnemos.core.files import write_text
from mnemos.core.places import resolved
from mnemos.recipes.findings import Outcome, difference_words, load_findings, outcome, page
from mnemos.recipes.reproductions.registry import (
    REGISTRY,
    Reproduction,
    find_reproduction,
    load_reproductions,
    part_path,
    study_name,
)
from mnemos.study.engines import AskedEngine

if TYPE_CHECKING:
    from mnemos.study.adaptations.settings import AdaptationStudy
    from mnemos.study.config import Study
    from mnemos.study.streams.settings import StreamStudy

ROAD_VARIABLE, MODELS_VARIABLE = "MNEMOS_REPRODUCTION", "MNEMOS_MODELS"
OUT = Path("runs/reproductions")
STAND_IN = "mnemos:patients/chat"
"""What a dry run plans with where an earlier part will make the model, or a real model is absent."""
ROWS_STAND_IN = "mnemos:data/refusals.jsonl"
"""What a dry run plans with where a model has not written the rows yet."""


@dataclass(frozen=True)
class Absent:
    """Why a reproduction cannot be walked here: its data or its model are not there."""

    reason: str


def data_folder() -> Path:
    """Where third-party data lie: $MNEMOS_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("MNEMOS_DATA", Path(__file__).parents[3] / "shared" / "data")).resolve()


def models_folder() -> Path:
    """Where real models lie: $MNEMOS_MODELS, or a folder of the user's cache."""
    return Path(os.environ.get(MODELS_VARIABLE, Path.home() / ".cache" / "mnemos-models")).resolve()


def reproduction_lines(registry: Path = REGISTRY) -> list[str]:
    """The list of reproductions: name, minutes, papers, title."""
    reproductions = load_reproductions(registry)
    width = max((len(reproduction.name) for reproduction in reproductions), default=0)
    out = []
    for reproduction in reproductions:
        out.append(f"{reproduction.name:<{width}}  {reproduction.minutes:>3} min  {reproduction.title}")
        out.append(f"{'':<{width}}           {', '.join(reproduction.papers)}")
    return out


@contextlib.contextmanager
def _at(folder: Path) -> Iterator[None]:
    """$MNEMOS_REPRODUCTION names the reproduction's folder, $MNEMOS_MODELS that of real models, for study files and the
    processes of their steps."""
    given = {ROAD_VARIABLE: str(folder), MODELS_VARIABLE: str(models_folder())}
    earlier = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def model_absent(reproduction: Reproduction) -> Absent | None:
    """The first real model of a reproduction that is not there."""
    below = models_folder()
    for name in reproduction.models:
        if not (below / name).is_dir():
            return Absent(f"its model is absent: no {name} below {below} (set {MODELS_VARIABLE})")
    return None


def prepare(reproduction: Reproduction, folder: Path, *, dry: bool = False) -> Absent | None:
    """Write what the reproduction reads, but for what a model writes or learns if dry; a reason when the third-party
    data are not there."""
    for function in (reproduction.prepare, None if dry else reproduction.make):
        found = None if function is None else _called(function, folder)
        if isinstance(found, Absent):
            return found
    return None


def _called(function: str, folder: Path) -> Any:
    """What a function of the registry, module:function, returns for (data, folder); Absent where third-party data are
    not there."""
    module, _, name = function.partition(":")
    data = data_folder()
    try:
        return getattr(importlib.import_module(module), name)(data, folder)
    except FileNotFoundError as error:
        missing = Path(str(error.filename))
        if not missing.is_relative_to(data):
            raise
        return Absent(f"its data are absent: no {missing.relative_to(data)} below {data} (set MNEMOS_DATA)")


def numbered_parts(reproduction: Reproduction, only: Sequence[str] = ()) -> list[tuple[int, str]]:
    """The parts that are walked, each with its number, in the order of the registry. only: names of parts (the stems of
    their study files); all unless given. UsageError for a name that no part has."""
    parts = list(enumerate(reproduction.parts, 1))
    stems = [Path(part).stem for part in reproduction.parts]
    for name in only:
        if name not in stems:
            raise UsageError(f"--part {name}", f"is no part of {reproduction.name}", nearest(name, stems))
    return [(number, part) for number, part in parts if not only or Path(part).stem in only]


def walk(
    reproduction: Reproduction,
    out: Path = OUT,
    *,
    overrides: Mapping[str, Any] | None = None,
    engine: AskedEngine = None,
    jobs: int | None = None,
    quiet: bool = False,
    registry: Path = REGISTRY,
    only: Sequence[str] = (),
) -> list[Outcome] | Absent:
    """Run every part of a reproduction below out/NAME and test its findings; also written to findings.md there. Its
    table is printed, and written to table.txt there.

    overrides: dotted key -> value, for each part. engine, jobs: of the parts that have steps. only: names of the parts
    that are run, and whose findings are tested; the table is left out then. Raises what `mnemos.run` raises.
    """
    from mnemos.study.config import raw_study
    from mnemos.study.run import in_one_process, run

    parts = numbered_parts(reproduction, only)
    folder = resolved(out / reproduction.name)
    absent = model_absent(reproduction) or prepare(reproduction, folder)
    if absent:
        return absent
    results: dict[str, Mapping[str, Any]] = {}
    with _at(folder):
        for number, part in parts:
            path = part_path(part, registry)
            if not quiet:
                print(
                    f"reproduction {reproduction.name}, part {number} of {len(reproduction.parts)}: {path.stem}",
                    file=sys.stderr,
                )
            # Whoever asks for several jobs of a road, or of all of them, does not mean its streams.
            alone = in_one_process(raw_study(path, overrides)[0])
            ways: dict[str, Any] = {} if alone else {"engine": engine, "jobs": jobs}
            record = run(path, out=folder / path.stem, overrides=overrides, quiet=quiet, **ways)
            results[study_name(part, registry)] = record.results
    if reproduction.table is not None and not only:
        found = _called(reproduction.table, folder)
        if isinstance(found, Absent):
            return found
        text = "\n".join(found)
        write_text(folder / "table.txt", f"{text}\n")
        print(text, flush=True)
    outcomes = [outcome(finding, results) for finding in load_findings() if finding.study in results]
    if results:
        write_text(folder / "findings.md", page(outcomes, results))
    return outcomes


def outcome_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Every ordering of a reproduction: verdict, the paper's number, ours with its interval."""
    if not outcomes:
        return ["no published ordering is registered for this reproduction"]
    out = []
    for one in outcomes:
        out.append(f"{one.verdict}: {one.finding.id}: {one.finding.statement}")
        out.append(f"    paper  {one.finding.paper}: {one.finding.numbers}")
        out += [f"    here   {difference_words(difference)} [95 %]" for difference in one.differences]
        out += [f"    here   {one.reason}"] if one.reason else []
    return out


def dry_lines(
    reproduction: Reproduction,
    out: Path = OUT,
    *,
    overrides: Mapping[str, Any] | None = None,
    registry: Path = REGISTRY,
    only: Sequence[str] = (),
) -> list[str]:
    """What `walk` would do, part by part, without loading a model.

    What an earlier part will make is not there yet, a real model and what it writes perhaps neither: such a part is
    planned with the chat patient and its rows in their place, and the lines say so. Data files are prepared, since a
    plan hashes them.
    """
    parts = numbered_parts(reproduction, only)
    folder = resolved(out / reproduction.name)
    absent = prepare(reproduction, folder, dry=True)
    if absent:
        return [f"reproduction {reproduction.name}: {absent.reason}"]
    lines = []
    with _at(folder):
        for number, part in parts:
            lines.append(f"reproduction {reproduction.name}, part {number} of {len(reproduction.parts)}: {part}")
            lines += [f"  {line}" for line in _part_lines(part_path(part, registry), folder, overrides)]
    if reproduction.table is not None and not only:
        lines.append(f"reproduction {reproduction.name}: a table by {reproduction.table}")
    return lines


def _part_lines(path: Path, folder: Path, overrides: Mapping[str, Any] | None) -> list[str]:
    from mnemos.study.adaptations.run import plan_lines
    from mnemos.study.adaptations.settings import AdaptationStudy
    from mnemos.study.config import raw_study
    from mnemos.study.experiment import build, describe
    from mnemos.study.streams.run import plan_lines as stream_lines
    from mnemos.study.streams.settings import StreamStudy

    raw, here = raw_study(path, overrides)
    filled, missing = with_stand_in(raw, folder)
    lines = [f"planned with {stand_in(name)} in place of {name}, which does not exist yet" for name in missing]
    study = resolved_part(filled, here)
    if isinstance(study, AdaptationStudy):
        return lines + plan_lines(study)
    if isinstance(study, StreamStudy):
        return lines + stream_lines(study)
    return lines + describe(build(study, here, folder / path.stem))


def resolved_part(raw: Mapping[str, Any], folder: Path) -> Study | AdaptationStudy | StreamStudy:
    """The study of a part, checked: one that trains, one of recognisers that adapt, or one of agents on a stream."""
    from mnemos.study.adaptations.settings import is_adaptation, resolved_adaptation
    from mnemos.study.config import resolved_study
    from mnemos.study.streams.settings import is_stream, resolved_stream

    if is_stream(raw):
        return resolved_stream(raw, folder)
    return resolved_adaptation(raw, folder) if is_adaptation(raw) else resolved_study(raw, folder)


def stand_in(name: str) -> str:
    """What a plan has in the place of a model or file that is not there."""
    return ROWS_STAND_IN if name.endswith(".jsonl") else STAND_IN


def with_stand_in(raw: Any, folder: Path, models: Path | None = None) -> tuple[Any, list[str]]:
    """A study's keys with the chat patient, or its rows, wherever they name something that is not there, below the
    reproduction's folder or below that of real models (`models_folder` unless given), and those names."""
    missing: dict[str, None] = {}
    places = {f"${ROAD_VARIABLE}/": folder, f"${MODELS_VARIABLE}/": models or models_folder()}

    def filled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        for prefix, below in places.items():
            if (
                isinstance(value, str)
                and value.startswith(prefix)
                and not (below / value.removeprefix(prefix)).exists()
            ):
                missing[value] = None
                return stand_in(value)
        return value

    return filled(raw), list(missing)


def reproduce(
    names: Sequence[str] | None,
    out: Path = OUT,
    *,
    overrides: Mapping[str, Any] | None = None,
    engine: AskedEngine = None,
    jobs: int | None = None,
    quiet: bool = False,
    registry: Path = REGISTRY,
    only: Sequence[str] = (),
) -> int:
    """Walk the named reproductions, or all of them unattended, and print each one's orderings; returns the exit code.

    only: parts of the one that is named, as in `walk`.
    With names, the first failure is raised. For all (None), a reproduction whose data are absent is skipped, one that
    fails does not stop the others, both are said again at the end, and a failure makes the exit code 1.
    """
    reproductions = load_reproductions(registry)
    chosen = reproductions if names is None else [find_reproduction(name, reproductions) for name in names]
    notes: list[str] = []
    failed = False
    for reproduction in chosen:
        print(f"\n{reproduction.name}: {reproduction.title} (about {reproduction.minutes} minutes)", flush=True)
        try:
            given: dict[str, Any] = {"engine": engine, "jobs": jobs, "quiet": quiet, "registry": registry}
            found = walk(reproduction, out, overrides=overrides, only=only, **given)
        except Exception as error:
            if names is not None:
                raise
            failed = True
            what = str(error) if isinstance(error, MnemosError) else f"{type(error).__name__}: {error}"
            lines, note = [f"FAILED: {what}"], f"FAILED: {what}"
        else:
            if isinstance(found, Absent):
                if names is not None:
                    raise DataError(
                        f"reproduction {reproduction.name}", found.reason, "mnemos reproduce --list names the others"
                    )
                lines, note = [f"skipped: {found.reason}"], f"skipped: {found.reason}"
            else:
                # A table has printed its own lines.
                lines, note = outcome_lines(found) if reproduction.parts else [], _count(found)
        print("\n".join(lines), flush=True)
        notes.append(f"{reproduction.name}: {note}")
    if len(chosen) > 1:
        print("\n" + "\n".join(notes))
    return int(failed)


def _count(outcomes: Sequence[Outcome]) -> str:
    verdicts = [one.verdict for one in outcomes]
    counted = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
    return ", ".join(counted) or "done; no published ordering is registered for it"
