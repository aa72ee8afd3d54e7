"""Run a study of streams: open the task, load the models, bring every stream to its end, write results and report."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mnemos import __version__
from mnemos.core.files import read_json, write_json, write_text
from mnemos.core.fingerprint import fingerprint
from mnemos.core.places import resolved
from mnemos.core.progress import doing
from mnemos.core.yaml_text import dump_yaml
from mnemos.stream.agents import row
from mnemos.stream.examiner import Examiner
from mnemos.stream.loop import run as run_streams
from mnemos.study.lock import locked
from mnemos.study.progress import LOG, Log, logged, phase
from mnemos.study.stopping import terminable
from mnemos.study.streams.asking import ask_for_help, check_help
from mnemos.study.streams.opened import Arms, Opened, open_study, streams_of
from mnemos.study.streams.results import assemble
from mnemos.study.streams.settings import REFERENCE, StreamStudy

HELP = "help.json"
"""What asking for help gave, beside the streams' file."""


def carry_out_stream(
    study: StreamStudy, *, out: str | Path | None = None, quiet: bool = False
) -> tuple[dict[str, Any], Path]:
    """Bring every stream to its end, and return results and run directory. Committed steps found there are kept."""
    from mnemos.report import render

    root = resolved(Path(out) if out is not None else Path("runs") / str(study.name))
    log = Log(root / LOG)
    with terminable(), locked(root), logged(log, f"mnemos {__version__}: stream {study.name}"), ExitStack() as stack:
        write_text(root / "study.yaml", dump_yaml(study.model_dump(mode="json", exclude_none=True)))
        with phase("streaming", silent=quiet, log=log):
            doing("opening the task")
            opened = open_study(study, root, stack)
            check_help(study, opened.examiner)
            arms = streams_of(opened)
            _prepare_weights(opened, arms, root)
            doing("streaming")
            run_streams(
                arms.every, opened.questions, opened.examiner, opened.answering, opened.encoder, together=study.lockstep
            )
            _run_weights(opened, arms)
        asked = None
        if study.help is not None:
            with phase("asking for help", silent=quiet, log=log):
                asked = _help(opened, arms, root)
        with phase("comparing", silent=quiet, log=log):
            results = assemble(opened, arms, asked)
            write_json(root / "manifest.json", results["manifest"])
            write_json(root / "results.json", results)
            write_text(root / "report.html", render(results, "html"))
    return results, root


def _help(opened: Opened, arms: Arms, root: Path) -> dict[str, Any]:
    """What was asked for help, found again where it was asked of the same stream with the same settings."""
    assert opened.study.help is not None
    # A stream's name holds the fingerprint of everything that decides its steps.
    key = fingerprint([opened.study.help.model_dump(mode="json"), arms.stateful[REFERENCE][0].name])
    path = root / HELP
    kept = read_json(path) if path.is_file() else {}
    if kept.get("key") != key:
        kept = {"key": key, "help": ask_for_help(opened, arms)}
        write_json(path, kept)
    return dict(kept["help"])


def _prepare_weights(opened: Opened, arms: Arms, root: Path) -> None:
    """Refuse what cannot be trained or measured before anything is streamed."""
    if opened.study.weights:
        from mnemos.study.streams.training import weights_of  # loads what trains

        arms.weights = weights_of(opened, root)


def _run_weights(opened: Opened, arms: Arms) -> None:
    """Bring the arms whose weights change to their ends, one after the other: each has a model of its own."""
    for name, many in arms.weights.items():
        for one in many:
            one.run(opened.examiner)
        arms.stateful[name] = [one.stream for one in many]
        # Reset before every item, its weights are those of the beginning: zero-shot.
        arms.reset[name] = arms.stateful[REFERENCE]


def plan_lines(study: StreamStudy) -> list[str]:
    """What `carry_out_stream` would do; opens the task, and loads no model."""
    with Examiner(study.stream) as examiner:
        count = len(examiner.questions)
        lines = [f"stream  {examiner.name}: {count:,} questions, {len(examiner.shots)} gold examples held back"]
    resets = 0
    for name in study.arms:
        agent, settings, control = study.arm(name)
        beside = {**settings, **{key: value for key, value in control.items() if value not in ("real", "keep", 1.0)}}
        words = ", ".join(f"{key} = {value}" for key, value in beside.items())
        lines.append(f"arm     {name}: {agent}{f' ({words})' if words else ''}; {row(agent).summary}")
        resets += not row(agent).steady
    for name, weights in study.weights.items():
        guard = "guarded by the suites" if weights.guard else "not guarded"
        lines.append(f"weights {name}: trained after every {weights.every} right answers, {guard}")
    orders = len(study.orders)
    sides = resets * (orders if study.decoding.temperature else 1)
    steps = count * ((len(study.arms) + len(study.weights)) * orders + sides)
    lines.append(f"orders  {', '.join(map(str, study.orders))}")
    lines.append(f"steps   {steps:,} at most, {sides} of the streams reset before every question")
    return lines
