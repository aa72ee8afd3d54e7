"""Run a study of recognisers that adapt: every method hears every sequence; results and report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemos import __version__
from mnemos.core.errors import UsageError
from mnemos.core.files import write_json, write_text
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.places import resolved
from mnemos.core.progress import doing
from mnemos.core.yaml_text import dump_yaml
from mnemos.sources.audio import Clip
from mnemos.stream.adaptation.listen import Listening
from mnemos.stream.adaptation.methods import make, row, settings_of
from mnemos.stream.journal import Asked, Journal, Step
from mnemos.stream.store import Store
from mnemos.study.adaptations.settings import REFERENCE, AdaptationStudy
from mnemos.study.adaptations.speech import Speech, sound_of
from mnemos.study.adaptations.words import Counted, counted
from mnemos.study.lock import locked
from mnemos.study.progress import LOG, Log, logged, phase
from mnemos.study.stopping import terminable

FILE = "stream.db"
OLD = "old/"
"""Before the name of an utterance of the old domain."""


@dataclass(frozen=True)
class Listened:
    """One arm on one sequence. steps: in their order. panel: the old domain behind it."""

    order: str
    seed: int
    steps: list[Step]
    panel: list[Asked]


@dataclass
class Opened:
    """What a study works with, and what it has found."""

    study: AdaptationStudy
    speech: Speech
    recogniser: Any
    store: Store
    language: Callable[[str], float] | None = None
    found: dict[str, list[Listened]] = field(default_factory=dict)

    def text(self, item: str) -> str:
        """What was spoken."""
        if item.startswith(OLD):
            return self.speech.old[item.removeprefix(OLD)].text
        return self.speech.parts(item)[1].text

    def clip(self, item: str) -> Clip:
        """How it sounds."""
        if item.startswith(OLD):
            return sound_of(self.speech.old[item.removeprefix(OLD)])
        return self.speech.clip(item)

    def count(self, item: str, transcript: str) -> Counted:
        """Errors of a transcript."""
        return counted(self.text(item), transcript)


def carry_out_adaptation(
    study: AdaptationStudy, *, out: str | Path | None = None, quiet: bool = False
) -> tuple[dict[str, Any], Path]:
    """Bring every stream to its end, and return results and run directory. Committed steps found there are kept."""
    from mnemos.report import render
    from mnemos.study.adaptations.results import assemble

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


def open_study(study: AdaptationStudy, root: Path, stack: ExitStack) -> Opened:
    """Read the rows, load the recogniser and open the file. stack: closes it."""
    from mnemos.models.recognisers.load import load

    doing("reading the rows")
    speech = Speech(study.adapt)
    doing("loading the recogniser")
    recogniser = load(study.model)
    if recogniser.kind != "ctc":
        raise UsageError(f"model = {study.model}", "writes token by token", "name a model with a CTC head")
    store = Store(root / FILE)
    stack.callback(store.close)
    return Opened(study, speech, recogniser, store, language_of(study.adapt.language_model))


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
                lambda item, text: opened.count(item, text).errors == 0, study.adapt.longest, panel,
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


def language_of(place: str | None) -> Callable[[str], float] | None:
    """ln p of a text: n-grams of a file's texts, or the causal language model of a directory."""
    if place is None:
        return None
    if Path(place).is_dir():
        from mnemos.models.load import handle

        model = handle(place).load()
        return lambda text: -model.nats([text])[0][0]
    from mnemos.sources.read import read as read_rows
    from mnemos.stream.adaptation.language import NGrams

    doing("counting n-grams")
    return NGrams(turn.text for row in read_rows(place) for turn in row.turns).log_prob


def named(place: str) -> str:
    """What changes with the content of a file, or of a model's directory."""
    if not Path(place).is_dir():
        return file_fingerprint(place)
    from mnemos.models.load import handle

    return handle(place).fingerprint


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
