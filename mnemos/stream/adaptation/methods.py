"""Methods that adapt a recogniser, by name: one row each, with its paper, its settings and where it deviates.

Two things hold for all of them. A: every tensor moves once a step, where the published collection of SUTA's code names
some of them up to four times; `duplicates: true` does as it does. B: an utterance without any frame that is not blank
has an entropy of 0 instead of a mean over nothing. A deviation below is of that method alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import validated
from mnemos.core.settings import Settings
from mnemos.stream.adaptation.settings import (
    AwmcSettings,
    CeaSettings,
    ChoiceSettings,
    FastSlowSettings,
    LameSettings,
    NoSettings,
    StepSettings,
)

SUTA, DSUTA = "arXiv:2203.14222", "arXiv:2406.11064"


@dataclass(frozen=True)
class Row:
    """A method. make: module and class, and what it is given beside the settings. settings: their type. values:
    those that differ from the type's own. deviations: from the paper, in their order."""

    make: tuple[str, Mapping[str, Any]]
    settings: type[Settings]
    summary: str
    paper: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()


def _steps(objective: str) -> tuple[str, Mapping[str, Any]]:
    return "adapters.Stepwise", {"objective": objective}


FAST_SLOW: tuple[str, Mapping[str, Any]] = ("several.FastSlow", {})

METHODS: Mapping[str, Row] = {
    "source": Row(("adapters.Source", {}), NoSettings, "the model as it is"),
    "tent": Row(
        _steps("entropy"), StepSettings, "one step down the entropy of each utterance, norms alone, on and on",
        "arXiv:2006.10726", {"steps": 1, "moves": "norms", "episodic": False, "temperature": 1.0},
        ("the entropy is that of frames which are not blank, as in re-runs for speech; images have no blank",),
    ),
    "suta": Row(
        _steps("suta"), StepSettings, "ten steps down entropy and class confusion, restored before each utterance", SUTA
    ),
    "csuta": Row(
        _steps("suta"), StepSettings, "as suta, one step an utterance and never restored", DSUTA,
        {"steps": 1, "episodic": False},
    ),
    "sdpl": Row(
        _steps("own transcript"), StepSettings, "ten steps towards its own greedy transcript, taken anew each step",
        SUTA, {},
        (
            "the softmax runs over labels; the published one runs over time (as_published: true)",
            "its learning rate is suta's, 2e-5, where the script of the baseline has 1e-4 unless told",
        ),
    ),
    "sgem": Row(
        _steps("sgem"), StepSettings, "Renyi entropy and negative sampling, the front alone", "arXiv:2306.01981",
        {"learning_rate": 4e-5, "final_learning_rate": 2e-5, "moves": "front"},
        (
            "the transcript is greedy; the published one is of a beam of 5 with a 4-gram of weight 0.3",
            "the front alone moves, as the published settings have it, where a re-run counts the norms in",
        ),
    ),
    "suta-lm": Row(
        ("adapters.Chosen", {}), ChoiceSettings, "as suta; the transcript is that of the step that reads best",
        "arXiv:2506.11121", {},
        (
            "without a language model the step of the lowest loss is taken",
            "a language model's score is divided by the characters, so that short transcripts are not preferred",
            "where no step is sure enough the last one stands",
        ),
    ),
    "dsuta": Row(FAST_SLOW, FastSlowSettings, "a slow model, and a fast copy for each utterance", DSUTA),
    "dsuta-fixed": Row(
        FAST_SLOW, FastSlowSettings, "as dsuta, begun again every 50 utterances", DSUTA, {"reset": "fixed"}
    ),
    "dsuta-dynamic": Row(
        FAST_SLOW, FastSlowSettings, "as dsuta, begun again when its gain has gone", DSUTA,
        {"reset": "dynamic"},
        ("where all losses of the domain gained equally, any other gain counts as far off",),
    ),
    "dsuta-oracle": Row(
        FAST_SLOW, FastSlowSettings, "as dsuta, begun again at each border of domains, which it is told", DSUTA,
        {"reset": "oracle"},
        ("a border within a buffer resets at the end of that buffer; published borders are multiples of it",),
    ),
    "awmc": Row(
        ("several.Awmc", {}), AwmcSettings,
        "a chaser that learns the transcripts of a frozen anchor and of a slow leader", DSUTA, {},
        ("an empty transcript is a target of no labels; the re-run takes one blank",),
    ),
    "cea": Row(
        ("adapters.Cea", {}), CeaSettings, "unsure frames count more; then neighbouring frames are drawn together",
        "arXiv:2310.09505", {},
        (
            "coherence is that of the last hidden states: of the convolutions, as in a re-run, it has no gradient for "
            "the norms, which alone move in that phase",
        ),
    ),
    "lame": Row(
        ("adapters.Lame", {}), LameSettings,
        "frames of an utterance agree with their nearest neighbours; no weight moves", "arXiv:2201.05718", {},
        ("the samples are the frames of one utterance that are not blank, as in a re-run for speech",),
    ),
}  # fmt: skip
"""Every method, by the name used in a study and on the command line."""


def row(name: str) -> Row:
    """The row called `name`; UsageError with the nearest name otherwise."""
    if name not in METHODS:
        raise UsageError(f"method {name!r}", "is none that adapts a recogniser", nearest(name, METHODS))
    return METHODS[name]


def settings_of(name: str, given: Mapping[str, Any] | None = None) -> Settings:
    """A method's settings with those given in place of its own. UsageError for one that it does not have."""
    found = row(name)
    made: Settings = validated(found.settings, {**found.values, **(given or {})}, where=name)
    return made


def carries(name: str, given: Mapping[str, Any] | None = None) -> bool:
    """Whether anything is left of an utterance when the next one comes; else the source stands behind a stream."""
    return row(name).make[0].startswith("several.") or not getattr(settings_of(name, given), "episodic", True)


def make(
    name: str,
    recogniser: Any,
    given: Mapping[str, Any] | None = None,
    *,
    borders: tuple[int, ...] = (),
    seed: int = 0,
    language: Callable[[str], float] | None = None,
) -> Any:
    """An adapter (`adapters.Adapter`) that has heard nothing yet.

    borders: utterances heard when each domain ends, for the oracle. seed: of dropout. language: ln p of a text, for
    suta-lm. The recogniser is the adapter's until its ears are closed; then it is as it came.
    """
    place, more = row(name).make
    module, _, cls = place.partition(".")
    how = settings_of(name, given)
    found = getattr(import_module(f"{__package__}.{module}"), cls)
    return found(recogniser, how, borders=borders, seed=seed, language=language, **more)
