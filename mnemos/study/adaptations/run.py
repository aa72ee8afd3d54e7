"""Run a study of recognisers that adapt: every method hears every sequence; results and report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mnemos import __version__
from mnemos.core.files import write_json, write_text
from mnemos.core.fingerprint import fingerprint
from mnemos.core.places import resolved
from mnemos.core.progress import doing
from mnemos.core.yaml_text import dump_yaml
from mnemos.stream.adaptation.listen import Listening
from mnemos.stream.adaptation.methods import make, row, settings_of
from mnemos.stream.journal import Journal
from mnemos.study.adaptations.opened import OLD, Listened, Opened, named, open_study
from mnemos.study.adaptations.results import assemble
from mnemos.study.adaptations.settings import REFERENCE, AdaptationStudy
from mnemos.study.adaptations.speech import Speech
from mnemos.study.lock import locked
from mnemos.study.progress import LOG, Log, logged, phase
from mnemos.study.stopping import terminable


def carry_out_adaptation(
    study: AdaptationStudy, *, out: str | Path | None = None, quiet: bool = False
) -> tuple[dict[str, Any], Path]:
    """Bring every stream to its end, and return results and run directory. Committed steps found there are kept."""
    from mnemos.report import render

    root = resolved(Path(out) if out is not None else Path("runs") / str(study.name))
    log = Log(root / LOG)
    with terminable(), locked(root), logged(log, f"mnemos {__version__}: adapt {study.name}"), ExitStack() as stack:
        write_text(root / "study.yaml", dump_yaml(study.model_dump(mode="json", exclude_none=True)))
        with phase("listening", silent=quiet, log=log):
            opened = open_study(study, root, stack)
            for name in study.arms:
                opened.found[name] = [
                    _listened(opened, name, order, seed) for order in study.orders for seed in study.seeds
                ]
        with phase("comparing", silent=quiet, log=log):
            results = assemble(opened)
            write_json(root / "manifest.json", results["manifest"])
            write_json(root / "results.json", results)
            write_text(root / "report.html", render(results, "html"))
    return results, root


def _listened(opened: Opened, arm: str, order: str, seed: int) -> Listened:
    """One arm on one sequence, continued where the file has it."""
    study, speech = opened.study, opened.speech
    method, given = study.arm(arm)
    items = speech.order(study.orders[order], seed)
    panel = [f"{OLD}{name}" for name in speech.old]
    what = fingerprint(
        {
            "method": [method, settings_of(method, given)],
            "speech": speech.fingerprint,
            "model": opened.recogniser.fingerprint,
            "items": items,
            "seed": seed,
            "language": None if study.adapt.language_model is None else named(study.adapt.language_model),
        }
    )
    journal = Journal(opened.store, f"{arm}, {order}, seed {seed} [{what}]", what)
    segment = study.adapt.utterances
    borders = tuple(range(segment, len(items), segment))
    doing(f"{arm} hears {order}, seed {seed}")
    if journal.done() < len(items) or len(journal.panels()) < len(panel):
        adapter = make(method, opened.recogniser, given, borders=borders, seed=seed, language=opened.language)
        try:
            Listening(
                adapter, items, opened.clip, journal, _source(opened, order, seed, arm),
                lambda item, text: opened.count(item, text).total == 0, study.adapt.longest, panel,
            ).run()  # fmt: skip
        finally:
            adapter.ears.close()
    return Listened(order, seed, journal.steps(), journal.panels())


def _source(opened: Opened, order: str, seed: int, arm: str) -> Callable[[str], str]:
    """The source model's transcripts of a sequence: of the arm that has heard it before all others."""
    if arm == REFERENCE:
        return lambda item: ""
    heard = next(one for one in opened.found[REFERENCE] if (one.order, one.seed) == (order, seed))
    texts = {step.item: step.answer for step in heard.steps}
    return lambda item: texts[item]


def plan_lines(study: AdaptationStudy) -> list[str]:
    """What `carry_out_adaptation` would do; reads the rows, and loads no model."""
    speech = Speech(study.adapt)
    lines = [f"speech  {len(speech.stream):,} utterances, {len(speech.old):,} of the old domain"]
    for name, domain in study.adapt.domains.items():
        what = domain.model_dump(exclude_none=True)
        how = (
            f"{Path(domain.noise).stem} at {domain.snr:g} dB"
            if domain.noise
            else f"white noise of {what.get('gaussian')}"
        )
        lines.append(f"domain  {name}: {how if domain.noise or domain.gaussian else 'as it is'}")
    for name in study.arms:
        method, given = study.arm(name)
        words = ", ".join(f"{key} = {value}" for key, value in given.items())
        lines.append(f"arm     {name}: {method}{f' ({words})' if words else ''}; {row(method).summary}")
    for name, segments in study.orders.items():
        lines.append(f"order   {name}: {study.adapt.utterances} utterances each of {', '.join(segments)}")
    heard = sum(len(segments) for segments in study.orders.values()) * study.adapt.utterances
    lines.append(f"steps   {heard * len(study.arms) * len(study.seeds):,} utterances heard")
    return lines
