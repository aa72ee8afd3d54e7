"""Run a study: plan it, train and measure every arm, write results.json and the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos import __version__
from mnemos.core.errors import UsageError
from mnemos.core.files import read_json, write_json, write_text
from mnemos.core.places import resolved
from mnemos.core.progress import doing
from mnemos.study import processes
from mnemos.study.adaptations.run import carry_out_adaptation
from mnemos.study.adaptations.run import plan_lines as adaptation_lines
from mnemos.study.adaptations.settings import is_adaptation, resolved_adaptation
from mnemos.study.commands.clean import note_steps, stale, stale_words
from mnemos.study.config import Study, dump_study, raw_study, resolved_study
from mnemos.study.engines import AskedEngine
from mnemos.study.engines import engine as engine_of
from mnemos.study.engines.failures import StepsFailedError
from mnemos.study.experiment import Experiment, build, describe, whole
from mnemos.study.first_look import FILE as FIRST_LOOK
from mnemos.study.lock import locked
from mnemos.study.preflight import preflight
from mnemos.study.progress import LOG, Log, logged, phase
from mnemos.study.reach import refuse_unreached
from mnemos.study.results.assemble import assemble
from mnemos.study.results.failed import failed_of
from mnemos.study.results.items import FILE as ITEMS
from mnemos.study.results.items import item_scores, write_items
from mnemos.study.steps import explained, surroundings
from mnemos.study.stopping import terminable
from mnemos.study.streams.run import carry_out_stream
from mnemos.study.streams.run import plan_lines as stream_lines
from mnemos.study.streams.settings import is_stream, resolved_stream


@dataclass(frozen=True)
class Record:
    """What a run or comparison found. results: the content of results.json (see the docs for its
    layout). directory: where it lies; None for a comparison that was not saved."""

    results: Mapping[str, Any]
    directory: Path | None = None

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """One entry per arm and suite: before, after, delta, low, high, verdict, …"""
        return list(self.results["comparisons"])

    def report(self, format: str = "text") -> str:
        """The report as html, md, json or text."""
        from mnemos.report import render

        return render(self.results, format)


def run(
    study: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    engine: AskedEngine = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Record:
    """Train and measure every arm of a study and return its record.

    study: path of the YAML file, ``mnemos:demo.yaml``, or a mapping with the same keys.
    out: run directory, runs/<name> unless given; finished steps found there are reused, a killed
    run continues. overrides: dotted key -> value. jobs: steps at a time, each in a process of its own
    (see `study.engines.pool`). engine: a name of ENGINES, keys of `EngineSettings` such as {"name": "ray",
    "address": "10.0.0.1:6379"}, or an `Engine` of your own; without it, the study's. Raises a
    MnemosError that names value, bound and cure; UsageError before anything is loaded when the study cannot be meant.
    With `keep_going` of the engine, StepsFailedError at the end of a run some of whose steps failed: its `record` is of
    the arms that are whole, None where there is none.
    """
    raw, folder = raw_study(study, overrides)
    if in_one_process(raw) and (engine not in (None, "local", {"name": "local"}) or jobs not in (None, 1)):
        raise UsageError(
            "--engine, --jobs and --keep-going",
            "are not for a stream, which is one process with one database of what came before",
            "leave them out, and start it on the machine that shall do it",
        )
    if is_stream(raw):
        return Record(*carry_out_stream(resolved_stream(raw, folder), out=out, quiet=quiet))
    if is_adaptation(raw):
        return Record(*carry_out_adaptation(resolved_adaptation(raw, folder), out=out, quiet=quiet))
    loaded = resolved_study(raw, folder)

    def look(experiment: Experiment) -> list[str]:
        return refuse_unreached(loaded, experiment.root, overrides)

    return carry_out(loaded, folder, out=out, engine=engine, jobs=jobs, quiet=quiet, look=look)


def in_one_process(raw: Mapping[str, Any]) -> bool:
    """Whether a study's keys are of a stream, of agents or of recognisers that adapt: it has no steps for an engine."""
    return is_stream(raw) or is_adaptation(raw)


def carry_out(
    loaded: Study,
    folder: Path,
    *,
    out: str | Path | None = None,
    engine: AskedEngine = None,
    jobs: int | None = None,
    quiet: bool = False,
    look: Callable[[Experiment], list[str]] | None = None,
    more: Callable[[Experiment], Mapping[str, Any]] | None = None,
) -> Record:
    """`run` for a study that is loaded already. look: may refuse the experiment before anything is done, and returns
    lines to say. more: further keys of results.json, from the finished experiment."""
    chosen = engine_of(engine, jobs=jobs, study=loaded.engine, quiet=quiet)
    root = resolved(Path(out) if out is not None else Path("runs") / str(loaded.name))
    silent = quiet or not processes.is_main()
    with phase("planning", silent=silent):
        doing("reading the files")
        experiment = build(loaded, folder, root)
        doing("checking the settings")
        notes = look(experiment) if look is not None else []
        notes += preflight(experiment)
        keys = [step.key for step in experiment.steps]
    if notes and not silent:
        print("\n".join(notes), file=sys.stderr)
    log = Log(root / LOG if processes.is_main() else None)
    with terminable(), locked(root), explained(root), logged(log, _begins(loaded, keys)):
        if processes.is_main():
            _note_changes(experiment, quiet)
            write_text(root / "study.yaml", dump_study(loaded))
            note_steps(root, keys)
        failure: StepsFailedError | None = None
        planned = experiment
        try:
            chosen.run(planned.steps, root)
        except StepsFailedError as error:
            failure, experiment = error, whole(planned, error.undone)
            if planned.before_step.key in error.undone or not experiment.runs:
                raise
        if not processes.is_main():
            # The other half of the main process's `agreed(results)` below: all processes return one record.
            return Record(processes.agreed({}), root)
        with phase("comparing", silent=silent, log=log):
            results = {**assemble(experiment), **(more(experiment) if more else {})}
            results |= failed_of(planned, failure) if failure else {}
            write_json(root / "manifest.json", results["manifest"])
            write_items(root / ITEMS, item_scores(experiment))
            # Before the report, which can be made again from it.
            write_json(root / "results.json", results)
            _link(experiment)
            record = Record(results, root)
            write_text(root / "report.html", record.report("html"))
        if failure:
            failure.record = record
            raise failure
        if not quiet:
            _name_stale(root)
        processes.agreed(results)
    return record


def _begins(study: Study, keys: Sequence[str]) -> str:
    return f"mnemos {__version__}: {study.name}, {len(set(keys))} steps"


def _name_stale(root: Path) -> None:
    found = stale(root)
    if found:
        print(f"{stale_words(found)}: see mnemos runs clean {root}", file=sys.stderr)


def plan_lines(
    study: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    probe: bool = False,
) -> list[str]:
    """What `run` would do, line by line, without loading a model: steps, what they take of memory and disk, and time
    where finished steps under `out` tell it. A hub id that cannot be asked for, as offline, is said, and its steps'
    keys are then not those of a run. probe: load the model and train a few steps of every arm, to say how long each
    takes. Raises as `run` does before the first step, a plan that cannot fit this machine included."""
    from mnemos.weights.checkpoint import unresolved_hub_ids

    raw, folder = raw_study(study, overrides)
    if is_stream(raw):
        return stream_lines(resolved_stream(raw, folder))
    if is_adaptation(raw):
        return adaptation_lines(resolved_adaptation(raw, folder))
    loaded = resolved_study(raw, folder)
    with unresolved_hub_ids() as unresolved:
        root = resolved(Path(out) if out is not None else Path("runs") / str(loaded.name))
        experiment = build(loaded, folder, root)
        notes = refuse_unreached(loaded, experiment.root, overrides)
        lines = [*describe(experiment), *notes, *preflight(experiment, dry=True, probe=probe)]
    return [
        *(f"hub     {name}: not resolved ({why}); step keys will differ" for name, why in unresolved.items()),
        *lines,
    ]


AROUND = {"device": "the device", "dtype": "the dtype that is fast on the device"}
"""What stands in a step's key beside its inputs and is no version, in words."""


def _note_changes(experiment: Experiment, quiet: bool) -> None:
    """Say which inputs changed since the last run here: their steps are done again. Versions, device and dtype are in
    every key, so that a finished run begins anew under another one of them."""
    around = {AROUND.get(name, f"the version of {name}"): value for name, value in surroundings().items()}
    inputs = {
        "model": experiment.before.fingerprint,
        **{f"suite {suite.name}": suite.fingerprint for suite in experiment.suites},
        **{
            f"rows of {run.arm}, {stage.task}": stage.plan.examples.fingerprint
            for run in experiment.runs
            for stage in run.stages
        },
        **around,
    }
    path = experiment.root / "inputs.json"
    if path.exists() and not quiet:
        earlier = read_json(path)
        for name in [name for name in inputs if name in earlier and earlier[name] != inputs[name]]:
            # A fingerprint says nothing to people, a version does.
            then = f" ({earlier[name]} then, {inputs[name]} now)" if name in around else ""
            what = "every step" if name in around else "what depends on it"
            print(f"changed since the last run: {name}{then}; {what} is done again", file=sys.stderr)
    write_json(path, inputs)


def _link(experiment: Experiment) -> None:
    """Give finished steps the names people look for: before/ and arms/<arm>/seed-<n>/…"""
    root = experiment.root
    _symlink(root / "before", root / "steps" / experiment.before_step.key)
    for run in experiment.runs:
        for number, stage in enumerate(run.stages):
            place = root / "arms" / run.arm
            if len(experiment.study.task_orders) > 1:
                place = place / f"order-{run.order + 1}"
            place = place / f"seed-{run.seed}"
            if experiment.study.is_sequence:
                place = place / f"stage-{number}-{stage.task}"
            place.mkdir(parents=True, exist_ok=True)
            _symlink(place / "train", root / "steps" / stage.steps[0].key)
            for n, step in enumerate(stage.writes):
                _symlink(place / f"written-{n}", root / "steps" / step.key)
            _symlink(place / "model", Path(stage.model.path))
            _symlink(place / "answers", root / "steps" / stage.measure.key / "answers")
            if (root / "steps" / stage.measure.key / FIRST_LOOK).is_file():
                _symlink(place / FIRST_LOOK, root / "steps" / stage.measure.key / FIRST_LOOK)
            for n, moment in enumerate(stage.moments, 1):
                name = f"answers-{n}-of-{len(stage.moments) + 1}"
                _symlink(place / name, root / "steps" / moment.measure.key / "answers")
            plan = {
                "task": stage.task,
                "seed": run.seed,
                "fingerprint": stage.plan.fingerprint,
                "history": [
                    {"method": h.method, "paper": h.paper, "settings": dict(h.settings), "off": h.off}
                    for h in stage.plan.history
                ],
            }
            write_json(place / "plan.json", plan)


def _symlink(link: Path, target: Path) -> None:
    # Relative, so that the links of a run that is moved still lead into it.
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) == relative:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(relative)
