"""What a study of recognisers that adapt works with: utterances, recogniser, file, language model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.progress import doing
from mnemos.measure.recognition import Errors, errors, units
from mnemos.sources.audio import Clip
from mnemos.stream.journal import Asked, Step
from mnemos.stream.store import Store
from mnemos.study.adaptations.settings import AdaptationStudy
from mnemos.study.adaptations.speech import Speech, sound_of

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

    def count(self, item: str, transcript: str) -> Errors:
        """Word errors of a transcript, as suites of kind wer count them."""
        how = {"normaliser": self.study.adapt.normaliser, "kind": "wer"}
        return errors(units(self.text(item), **how), units(transcript, **how))


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
