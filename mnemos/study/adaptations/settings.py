"""The study file of a stream of speech: a recogniser, utterances, domains and their sequences, methods as arms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import validated
from mnemos.core.names import Name, check_name, refuse_clash
from mnemos.core.places import located
from mnemos.core.settings import DataRef, FileRef, ModelRef, Seed, Settings
from mnemos.stream.adaptation.listen import LONGEST
from mnemos.stream.adaptation.methods import METHODS, settings_of

REFERENCE = "source"
"""The arm that every study has: the model as it is."""
KEY = "adapt"
MOST_DOMAINS = 200
SNR = 5.0
"""Decibels of speech over noise that the papers' streams have."""


class Domain(Settings):
    """What is done to an utterance; nothing, unless something is given."""

    noise: FileRef | None = None
    """A recording of noise, mixed in at a place drawn by the utterance."""
    snr: float = Field(default=SNR, ge=-40, le=100)
    """Decibels of speech over noise, each at -25 dB of full scale before."""
    gaussian: float | None = Field(default=None, gt=0, le=1)
    """Standard deviation of white noise added to the samples, of which 1 is full scale."""

    @model_validator(mode="after")
    def _one_noise(self) -> Domain:
        if self.noise is not None and self.gaussian is not None:
            raise ValueError("noise and gaussian are both set; keep one")
        if self.noise is None and self.snr != SNR:
            raise ValueError(f"snr {self.snr:g} is set and there is no noise to lower; name a recording with noise")
        return self


class SpeechSettings(Settings):
    """What is heard."""

    data: DataRef
    """Utterances with their transcripts: rows with the columns audio and text, and speaker where it is known."""
    old: DataRef | None = None
    """Utterances of the domain that the recogniser was good at, transcribed before the stream and behind it with
    nothing learned from them; nothing is said of the old domain without."""
    domains: dict[str, Domain] = Field(default_factory=lambda: {"clean": Domain()}, min_length=1)
    """What an utterance goes through, by name."""
    utterances: int = Field(default=50, ge=1, le=100_000)
    """In each segment of a sequence, drawn by seed."""
    longest: float = Field(default=LONGEST, gt=0, le=3600)
    """Seconds; longer utterances are counted and left out."""
    normaliser: Literal["none", "basic", "english"] = "basic"
    """What is done to both texts before words are compared, as in suites of kind wer."""
    language_model: FileRef | None = None
    """For suta-lm: texts of which n-grams are counted (.txt, .jsonl), or the directory of a causal language model."""


class AdaptationStudy(Settings):
    """A study of recognisers that adapt."""

    model: ModelRef
    """A recogniser with a CTC head."""
    adapt: SpeechSettings
    """What it hears."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Methods by name of the arm: a method's name, or a mapping with method and its settings. source is always
    added."""
    orders: dict[str, list[str]] = Field(default_factory=dict)
    """Sequences of domains by name: a segment of each, one after the other; all domains in their order unless given."""
    seeds: list[Seed] = Field(default_factory=lambda: [0], min_length=1, max_length=100)
    """Each draws the utterances of every sequence, and what a method draws."""
    tolerance: float = Field(default=1.0, ge=0, le=100)
    """Points of word error rate within which a method counts as no different from the source model."""
    name: Name | None = None
    """The study's name; the file's stem unless given."""

    def arm(self, name: str) -> tuple[str, dict[str, Any]]:
        """(method, its settings) of an arm."""
        given = dict(self.arms[name])
        return given.pop("method"), given


def is_adaptation(raw: Mapping[str, Any]) -> bool:
    """Whether the keys of a study file are those of a recogniser that adapts."""
    return KEY in raw


def resolved_adaptation(raw: Mapping[str, Any], folder: Path) -> AdaptationStudy:
    """Check the keys and make places absolute. UsageError with key, value and the nearest known name."""
    values = dict(raw)
    speech = dict(validated_mapping(values.get(KEY), KEY))
    domains = validated_mapping(speech.get("domains") or {"clean": {}}, f"{KEY}.domains")
    speech["domains"] = {
        str(name): located(Domain, validated(Domain, one or {}, where=f"{KEY}.domains.{name}").model_dump(), folder)
        for name, one in domains.items()
    }
    values[KEY] = validated(SpeechSettings, located(SpeechSettings, speech, folder), where=KEY)
    values["arms"] = _arms(validated_mapping(values.get("arms") or {}, "arms"))
    values["orders"] = _orders(values.get("orders") or {"all": list(domains)}, list(domains))
    if isinstance(values.get("seeds"), int) and not isinstance(values["seeds"], bool):
        values["seeds"] = list(range(values["seeds"]))
    study: AdaptationStudy = validated(AdaptationStudy, values, where="study")
    for what, names in (("arms", study.arms), ("adapt.domains", study.adapt.domains), ("orders", study.orders)):
        for name in names:
            check_name(name, f"{what}: name")
        refuse_clash(names, what)
    if len(set(study.seeds)) != len(study.seeds):
        raise UsageError(f"seeds = {study.seeds}", "must differ from each other", "leave each seed once")
    return study.model_copy(update=located(AdaptationStudy, {"model": study.model}, folder))


def validated_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """The value, where it is a mapping. UsageError otherwise."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} = {value!r}", "must be a mapping", "see docs/speech.md")
    return value


def _arms(arms: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {REFERENCE: {"method": REFERENCE}}
    for name, value in arms.items():
        entry = {"method": value} if isinstance(value, str) else {} if value is None else value
        if not isinstance(entry, Mapping):
            raise UsageError(
                f"arms.{name} = {value!r}", "must be a method or a mapping", f"known: {', '.join(METHODS)}"
            )
        made = {"method": str(name), **entry}
        settings_of(made["method"], {key: one for key, one in made.items() if key != "method"})
        out[str(name)] = made
    if out[REFERENCE] != {"method": REFERENCE}:
        raise UsageError(f"arms.{REFERENCE}", "is the arm that all are compared with", "give yours another name")
    return out


def _orders(orders: Any, domains: list[str]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, segments in validated_mapping(orders, "orders").items():
        if not isinstance(segments, list) or not segments:
            raise UsageError(f"orders.{name} = {segments!r}", "must be a list of domains", "write [a, b]")
        for one in segments:
            if one not in domains:
                raise UsageError(f"orders.{name}: {one!r}", "is no domain", nearest(str(one), domains))
        out[str(name)] = [str(one) for one in segments]
    return out
