"""results.json of a study of recognisers that adapt: the layout of every study, and the part `adaptation`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.measure.compare import Comparison, judge
from mnemos.measure.flips import LONGEST
from mnemos.measure.ratios import difference_of_ratios
from mnemos.measure.uncertainty import Paired, holm, mean_interval, paired
from mnemos.stream.adaptation.listen import noted, summary
from mnemos.stream.adaptation.methods import carries, row, settings_of
from mnemos.study.adaptations.opened import Listened, Opened
from mnemos.study.adaptations.settings import REFERENCE, Domain

FORMAT = 1
ALL, OLD = "wer", "old-wer"
WINDOW = 20
"""Utterances of a moving window."""
FEW_SPEAKERS = 8
"""Up to so many are shown one by one."""
EACH = 3
GROWTH, RISE = "growth-of-gain", "rise-along"
"""Two contrasts with the source: the relative gain in the domains of the lowest SNR less that in those of the highest;
and the difference to the source in the later half of each sequence less that in the earlier one."""


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance of one stream by one arm, in place `at` of `length`."""

    key: tuple[str, int, str]
    domain: str
    utterance: str
    speaker: str
    errors: int
    words: int
    at: int
    length: int


class Errors:
    """Word errors of every arm, item by item; utterances that were not heard, or of no words, are in none."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.levels = levels(opened.study.adapt.domains)
        self.arms = {name: list(self._items(found)) for name, found in opened.found.items()}
        self.old = {name: list(self._panel(found)) for name, found in opened.found.items()}

    def _items(self, found: Sequence[Listened]) -> Iterator[Item]:
        for one in found:
            for step in one.steps:
                count = self.opened.count(step.item, step.answer)
                if step.value is not None and count.units:
                    domain, spoken = self.opened.speech.parts(step.item)
                    key = one.order, one.seed, step.item
                    place = step.step, len(one.steps)
                    yield Item(key, domain, spoken.id, spoken.speaker, count.total, count.units, *place)

    def _panel(self, found: Sequence[Listened]) -> Iterator[Item]:
        for one in found:
            for asked in one.panel:
                count = self.opened.count(asked.item, asked.answer)
                if asked.value is not None and count.units:
                    name = asked.item.partition("/")[2]
                    speaker = self.opened.speech.old[name].speaker
                    yield Item(
                        (one.order, one.seed, asked.item), OLD, asked.item, speaker, count.total, count.units, 0, 1
                    )

    def of(self, arm: str, suite: str) -> list[Item]:
        """The items of a suite: all, a domain's, or the old domain's."""
        if suite == OLD:
            return self.old[arm]
        return [item for item in self.arms[arm] if suite in (ALL, f"{ALL}:{item.domain}", self.levels.get(item.domain))]

    @property
    def suites(self) -> list[str]:
        """Their names: everything, levels, domains, the old domain."""
        used = {item.domain for item in self.arms[REFERENCE]}
        heard = [name for name in self.opened.study.adapt.domains if name in used]
        several = dict.fromkeys(self.levels[name] for name in heard if name in self.levels)
        return [ALL, *several, *(f"{ALL}:{name}" for name in heard), *([OLD] if self.old[REFERENCE] else [])]


def levels(domains: Mapping[str, Domain]) -> dict[str, str]:
    """Domain -> the suite of all domains of its SNR, where there are several."""
    snr = {name: one.snr for name, one in domains.items() if one.noise is not None}
    shared = Counter(snr.values())
    named = {name: f"{ALL}:{value:g} dB" for name, value in snr.items() if shared[value] > 1}
    return {name: suite for name, suite in named.items() if suite.partition(":")[2] not in domains}


def assemble(opened: Opened) -> dict[str, Any]:
    """The record of a finished study. Deterministic but for `created` and seconds."""
    errors = Errors(opened)
    study, suites = opened.study, errors.suites
    compared = {name: _comparisons(errors, name) for name in study.arms}
    return {
        "format": FORMAT,
        "study": study.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": "adaptation",
        "manifest": _manifest(opened, errors),
        "before": {suite: side(errors.of(REFERENCE, suite)) for suite in suites},
        "arms": [_arm(opened, errors, name) for name in study.arms],
        "comparisons": [one.as_dict() for many in compared.values() for one in many],
        "contrasts": _contrasts(errors),
        "flips": [flip for name in study.arms if name != REFERENCE for flip in _flips(opened, name)],
        "adaptation": {
            "window": WINDOW,
            "longest": study.adapt.longest,
            "arms": [_adapted(opened, errors, name) for name in study.arms],
        },
    }


def side(items: Sequence[Item]) -> dict[str, Any]:
    """{mean, low, high, items, missing, reasons} of word error rates: errors over words, both added up."""
    if not items:
        return {"mean": None, "low": None, "high": None, "items": 0, "missing": 0, "reasons": {}}
    rates, words = [item.errors / item.words for item in items], [float(item.words) for item in items]
    mean, low, high = mean_interval(rates, weights=words, clusters=[item.utterance for item in items], bounded=False)
    return {"mean": mean, "low": low, "high": high, "items": len(items), "missing": 0, "reasons": {}}


def difference(first: Sequence[Item], second: Sequence[Item], power: bool = False) -> Paired | None:
    """Of two arms on the same utterances, the second less the first; utterances are clusters, since one is heard in
    several domains. None without any on both sides."""
    other = {item.key: item for item in second}
    both = [(item, other[item.key]) for item in first if item.key in other]
    if not both:
        return None
    words = [float(a.words) for a, _ in both]
    return paired(
        [a.errors / a.words for a, _ in both],
        [[b.errors / b.words for _, b in both]],
        weights=words,
        clusters=[a.utterance for a, _ in both],
        bounded=False,
        power=power,
    )


def _comparisons(errors: Errors, arm: str) -> list[Comparison]:
    """Every suite of an arm against the source model, Holm-corrected over them."""
    restored = not carries(*errors.opened.study.arm(arm))
    found, exact = list[tuple[str, Paired | None]](), set[str]()
    for suite in errors.suites:
        own, reference = errors.of(arm, suite), errors.of(REFERENCE, suite)
        if arm == REFERENCE or (suite == OLD and restored and own == reference):
            exact.add(suite)
        found.append((suite, difference(reference, own)))
    p = [None if one is None else 1.0 if suite in exact else one.p for suite, one in found]
    return [
        _comparison(errors, arm, suite, one, (own_p, corrected), suite in exact)
        for (suite, one), own_p, corrected in zip(found, p, holm(p), strict=True)
    ]


def _comparison(
    errors: Errors, arm: str, suite: str, found: Paired | None, p: tuple[float | None, float | None], exact: bool
) -> Comparison:
    """exact: the same model was asked twice, so that the difference is 0 and no interval is needed to say so."""
    tolerance = errors.opened.study.tolerance
    low, high = (0.0, 0.0) if exact else (None, None) if found is None else (found.low, found.high)
    same = "the reference itself" if arm == REFERENCE else "restored before each utterance: the same model"
    return Comparison(
        arm=arm, suite=suite, role="old" if suite == OLD else "new", seeds=len(errors.opened.found[arm]),
        items=len(errors.of(arm, suite)), missing=0,
        before=None if found is None else found.before, after=None if found is None else found.after,
        delta=None if found is None else 0.0 if exact else found.delta, low=low, high=high,
        verdict=judge(low, high, p[1], margin=tolerance / 100, better="lower"),
        minimum_detectable=None, p=p[0], p_holm=p[1], tolerance=tolerance, unit="points", better="lower",
        method=same if exact else "no utterance was heard on both sides" if found is None else found.method,
        scale=100.0, claim="about this checkpoint",
    )  # fmt: skip


def _contrasts(errors: Errors) -> dict[str, Any]:
    """Every pair of arms on everything and on the old domain, and what is about an arm and the source alone."""
    names = list(errors.arms)
    rows: dict[str, list[list[Any]]] = {}
    for suite in [name for name in errors.suites if name in (ALL, OLD)]:
        for a, first in enumerate(names):
            for b, second in enumerate(names[:a]):
                found = difference(errors.of(second, suite), errors.of(first, suite))
                if found is not None:
                    rows.setdefault(suite, []).append([a, b, found.delta, found.low, found.high])
    reference = names.index(REFERENCE)
    for a, name in enumerate(names):
        for what, function in ((GROWTH, growth), (RISE, rise)):
            numbers = None if name == REFERENCE else function(errors, name)
            if numbers is not None:
                rows.setdefault(what, []).append([a, reference, *numbers])
    return {"arms": names, "suites": rows}


Numbers = tuple[float, float | None, float | None]


def growth(errors: Errors, arm: str) -> Numbers | None:
    """The relative gain (1 - WER / WER of the source) where noise is strongest less that where it is weakest, by the
    SNR of domains. None without two levels."""
    domains = errors.opened.study.adapt.domains
    snr = {name: one.snr for name, one in domains.items() if one.noise is not None}
    if len(set(snr.values())) < 2:
        return None
    loud, quiet = min(snr.values()), max(snr.values())

    def errors_in(pair: tuple[Item, Item], level: float | None) -> tuple[float, float]:
        source, own = pair
        return (own.errors, source.errors) if snr.get(source.domain) == level else (0, 0)

    # 1 - own/source there less 1 - own/source here is own/source here less own/source there.
    return _by_utterance(_pairs(errors, arm), lambda pair: errors_in(pair, quiet), lambda pair: errors_in(pair, loud))


def rise(errors: Errors, arm: str) -> Numbers | None:
    """How much more an arm errs than the source in the later halves of its sequences than in the earlier ones. Trap:
    other domains in both halves are only partly taken out by the source."""

    def errors_in(pair: tuple[Item, Item], late: bool) -> tuple[float, float]:
        source, own = pair
        there = (2 * source.at >= source.length) == late
        return (own.errors - source.errors, source.words) if there else (0, 0)

    return _by_utterance(_pairs(errors, arm), lambda pair: errors_in(pair, True), lambda pair: errors_in(pair, False))


def _pairs(errors: Errors, arm: str) -> list[tuple[Item, Item]]:
    own = {item.key: item for item in errors.arms[arm]}
    return [(item, own[item.key]) for item in errors.arms[REFERENCE] if item.key in own]


Part = Callable[[tuple[Item, Item]], tuple[float, float]]


def _by_utterance(pairs: Sequence[tuple[Item, Item]], first: Part, second: Part) -> Numbers | None:
    """The difference of two ratios of sums, with its interval over utterances."""
    place = {name: at for at, name in enumerate(dict.fromkeys(pair[0].utterance for pair in pairs))}
    sides = np.zeros((2, len(place), 2))
    for pair in pairs:
        for side, part in zip(sides, (first, second), strict=True):
            side[place[pair[0].utterance]] += part(pair)
    return difference_of_ratios(sides[0], sides[1])


def _manifest(opened: Opened, errors: Errors) -> dict[str, Any]:
    study, model = opened.study, opened.recogniser
    common = {"kind": "wer", "unit": "points", "better": "lower", "tolerance": study.tolerance}
    return {
        "model": {"path": Path(model.name).name, "fingerprint": model.fingerprint},
        "seeds": list(study.seeds),
        "suites": [
            {
                "name": suite, "role": "old" if suite == OLD else "new", **common,
                "items": len(errors.of(REFERENCE, suite)), "fingerprint": opened.speech.fingerprint,
                "settings": {"normaliser": study.adapt.normaliser, "orders": study.orders},
            }
            for suite in errors.suites
        ],
    }  # fmt: skip


def _arm(opened: Opened, errors: Errors, name: str) -> dict[str, Any]:
    method, given = opened.study.arm(name)
    step = {
        "method": method, "paper": row(method).paper,
        "settings": settings_of(method, given).model_dump(mode="json"), "off": False,
    }  # fmt: skip
    runs = []
    for one in opened.found[name]:
        chosen = {
            suite: [i for i in errors.of(name, suite) if i.key[:2] == (one.order, one.seed)] for suite in errors.suites
        }
        scores = {suite: side(items) for suite, items in chosen.items()}
        cost = {"seconds": summary(one.steps)["seconds"]}
        runs.append({"seed": one.seed, "order": [one.order], "scores": scores, "cost": cost})
    return {"arm": name, "history": [step], "runs": runs}


def _adapted(opened: Opened, errors: Errors, name: str) -> dict[str, Any]:
    """Rates by domain with their differences to the source, curves, collapse, cost, speakers."""
    found = opened.found[name]
    method, _ = opened.study.arm(name)
    return {
        "arm": name,
        "method": method,
        "deviations": list(row(method).deviations),
        "suites": {suite: side(errors.of(name, suite)) for suite in errors.suites},
        "orders": [_order(opened, one) for one in found],
        "left_out": dict(Counter(str(step.reason) for one in found for step in one.steps if step.value is None)),
        "speakers": _speakers(errors, name),
        "cost": dict(summary([step for one in found for step in one.steps])),
    }


def _order(opened: Opened, one: Listened) -> dict[str, Any]:
    """One sequence: the rate in a moving window, where each domain begins, resets, and where it collapsed."""
    kept = [(step, noted(step)) for step in one.steps]
    why = next(((step.step + 1, found.collapsed) for step, found in kept if found and found.collapsed), None)
    counts = [opened.count(step.item, step.answer) if step.value is not None else None for step in one.steps]
    points = []
    for end in range(min(WINDOW, len(counts)), len(counts) + 1):
        some = [count for count in counts[max(0, end - WINDOW) : end] if count is not None]
        words = sum(count.units for count in some)
        if words:
            points.append([end, sum(count.total for count in some) / words])
    segment = opened.study.adapt.utterances
    return {
        "order": one.order,
        "seed": one.seed,
        "curve": points,
        "segments": [[place * segment, name] for place, name in enumerate(opened.study.orders[one.order])],
        "resets": [step.step + 1 for step, found in kept if found and found.heard.reset],
        "collapsed": None if why is None else {"at": why[0], "why": why[1]},
    }


def _speakers(errors: Errors, name: str) -> list[dict[str, Any]]:
    """Rates speaker by speaker, where there are few: an interval over utterances says nothing of other speakers."""
    speakers = sorted({item.speaker for item in errors.arms[name]} - {""})
    if not 0 < len(speakers) <= FEW_SPEAKERS:
        return []
    out = []
    for speaker in speakers:
        own, source = ([i for i in errors.arms[arm] if i.speaker == speaker] for arm in (name, REFERENCE))
        found = difference(source, own)
        out.append(
            {
                "speaker": speaker, "utterances": len(own), "wer": side(own)["mean"],
                **({} if found is None else {"delta": found.delta, "low": found.low, "high": found.high}),
            }
        )  # fmt: skip
    return out


def _flips(opened: Opened, name: str) -> list[dict[str, Any]]:
    """Transcripts of the source and of an arm's first sequence, by rule: largest losses and gains."""
    first, source = opened.found[name][0], opened.found[REFERENCE][0]
    before = {step.item: step for step in source.steps}
    moved = []
    for step in first.steps:
        old = before[step.item]
        if step.value is not None and old.value is not None:
            a, b = (opened.count(step.item, one.answer) for one in (old, step))
            if a.units:
                moved.append(((b.total - a.total) / a.units, step, old))
    worse = [one for one in sorted(moved, key=lambda one: -one[0]) if one[0] > 0][:EACH]
    better = [one for one in sorted(moved, key=lambda one: one[0]) if one[0] < 0][:EACH]
    return [
        {
            "arm": name, "seed": first.seed, "suite": ALL, "item": step.item, "prompt": step.item,
            "gold": opened.text(step.item)[:LONGEST],
            "before": {"text": old.answer[:LONGEST], "score": None},
            "after": {"text": step.answer[:LONGEST], "score": None}, "why": why,
        }
        for why, some in (("largest loss", worse), ("largest gain", better))
        for _, step, old in some
    ]  # fmt: skip
