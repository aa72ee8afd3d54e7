"""What suites about sounds say beside their scores: labels by dimension, controls, and three forms of instructions.

Suites that ask the same items with other sounds, or in other forms, find each other by their items: same kind, names,
questions and answers. Differences are paired by item within a model, over the means of its runs; intervals are those of
`uncertainty.paired`, about these items and these checkpoints, with no spread over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.core.nouns import Score
from mnemos.measure import dynamic_superb, speech_ifeval
from mnemos.measure.ask import Measured
from mnemos.measure.bbh import balanced
from mnemos.measure.settings import HeardSettings, SpeechIFEvalSettings
from mnemos.measure.suite import Suite
from mnemos.measure.uncertainty import paired

Sides = Mapping[str, Sequence[Mapping[str, Measured]]]
"""Side (before, an arm, another model) -> what each of its runs said, by suite."""

REFERENCES = ("description", "text")
"""Forms against which the others are held, the first that there is: what is known of the sound in words, as
Speech-IFEval asks its reference, else the question alone."""


def listening(suites: Sequence[Suite], sides: Sides) -> dict[str, Any]:
    """{labels, controls, forms} for results.json; empty where no suite asks about sounds."""
    asking = [suite for suite in suites if isinstance(suite.settings, HeardSettings) and suite.of is None]
    if not asking:
        return {}
    labels = [one for suite in asking if suite.kind == "dynamic_superb" for one in _labels(suite, sides)]
    forms = [suite for suite in asking if suite.kind == "speech_ifeval"]
    return {
        "listening": {
            "labels": labels,
            "controls": [one for suite in asking for one in _controls(suite, asking, sides)],
            "forms": [one for suite in forms for one in _forms(suite, forms, sides)],
        }
    }


def _labels(suite: Suite, sides: Sides) -> list[dict[str, Any]]:
    """A row for each side and dimension; see `dynamic_superb.totals`."""
    items = {item.id: item for item in suite.items}
    out = []
    for side, runs in sides.items():
        answers = [one for run in runs if suite.name in run for one in run[suite.name].answers if one.item in items]
        found = dynamic_superb.totals([items[one.item] for one in answers], answers)
        beside = {"suite": suite.name, "audio": _settings(suite).audio, "side": side}
        out += [{**beside, "dimension": name, **one} for name, one in sorted(found.items())]
    return out


def _settings(suite: Suite) -> HeardSettings:
    assert isinstance(suite.settings, HeardSettings)
    return suite.settings


def _is_own(suite: Suite) -> bool:
    """Whether items are asked with their own sounds."""
    settings = _settings(suite)
    form = settings.form if isinstance(settings, SpeechIFEvalSettings) else "audio"
    return settings.audio == "heard" and form == "audio"


def _controls(suite: Suite, others: Sequence[Suite], sides: Sides) -> list[dict[str, Any]]:
    """The suite's scores minus those of each suite that asks the same with another sound, or none."""
    if not _is_own(suite):
        return []
    found = []
    for other in others:
        how = _settings(other).audio
        if how == "heard" or other.kind != suite.kind or _question(other) != _question(suite):
            continue
        for side, runs in sides.items():
            one = _difference(suite, other, runs, alike=suite.settings.balanced)
            if one is not None:
                found.append({"suite": suite.name, "control": other.name, "audio": how, "side": side, **one})
    return found


def _question(suite: Suite) -> list[Any]:
    """What is asked and what is right, without the sounds; settings that change scores count."""
    reading = getattr(suite.settings, "reading", None)
    return [reading, suite.decoding, [(item.id, item.prompt, item.answers) for item in suite.items]]


def _difference(
    suite: Suite, other: Suite, runs: Sequence[Mapping[str, Measured]], *, alike: bool
) -> dict[str, Any] | None:
    """Suite minus other, by item: {value, other, delta, low, high, items}; None where no item has a score in both.
    alike: every category counts the same, however many items it has."""
    own, theirs = (_means(one.name, runs) for one in (suite, other))
    items = [item for item in suite.items if item.id in own and item.id in theirs]
    if not items:
        return None
    each = [1.0] * len(items)
    found = paired(
        [theirs[item.id] for item in items],
        [[own[item.id] for item in items]],
        weights=balanced(items, each) if alike else each,
        clusters=[item.cluster for item in items],
        power=False,
    )
    numbers = {"value": found.after, "other": found.before, "delta": found.delta, "low": found.low, "high": found.high}
    return {**numbers, "items": len(items)}


def _means(name: str, runs: Sequence[Mapping[str, Measured]]) -> dict[str, float]:
    """Item -> mean score over runs; items that miss one are left out."""
    rows: list[Mapping[str, Score]] = [{one.item: one for one in run[name].scores} for run in runs if name in run]
    if not rows:
        return {}
    return {
        item: math.fsum(row[item].value for row in rows) / len(rows)
        for item in rows[0]
        if all(item in row and row[item].reason is None for row in rows)
    }


def _forms(suite: Suite, others: Sequence[Suite], sides: Sides) -> list[dict[str, Any]]:
    """A row for each side: rates in both readings, and the change against the reference form."""
    assert isinstance(suite.settings, SpeechIFEvalSettings)
    reference = _reference(suite, others)
    items = {item.id: item for item in suite.items}
    out = []
    for side, runs in sides.items():
        answers = [one for run in runs if suite.name in run for one in run[suite.name].answers if one.item in items]
        found = speech_ifeval.totals([items[one.item] for one in answers], answers)
        if found is None:
            continue
        row = {"suite": suite.name, "form": suite.settings.form, "audio": suite.settings.audio, "side": side, **found}
        # Of the rates beside it, which are means over categories where every item has one of the benchmark's.
        alike = all(item.category in speech_ifeval.GROUPS for item in suite.items)
        change = None if reference is None else _difference(suite, reference, runs, alike=alike)
        if reference is not None and change is not None:
            relative = speech_ifeval.relative_change(change["value"], change["other"])
            row |= {"reference": reference.name, "change": {**change, "relative": _finite(relative)}}
        out.append(row)
    return out


def _reference(suite: Suite, others: Sequence[Suite]) -> Suite | None:
    """The suite of the reference form that asks the same rows; None for itself and where there is none."""
    own = _rows(suite)
    for form in REFERENCES:
        for other in others:
            if getattr(other.settings, "form", None) == form and _rows(other) == own:
                return None if other is suite else other
    return None


def _rows(suite: Suite) -> list[Any]:
    reading = getattr(suite.settings, "reading", None)
    return [reading, suite.decoding, [(item.id, item.answers) for item in suite.items]]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
