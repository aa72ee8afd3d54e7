"""Comparisons: before against after, suite by suite, with an interval and one of four verdicts."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnemos.core.errors import NotComparable, RunError
from mnemos.core.nouns import Score
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import Suite
from mnemos.measure.uncertainty import ALPHA, Paired, holm, mean_interval, paired

Verdict = Literal["gained", "lost", "kept", "cannot tell"]
Claim = Literal["about this checkpoint", "about this way of training"]


@dataclass(frozen=True)
class Comparison:
    """One suite of one arm against the model before.

    before, after, delta, low, high, minimum_detectable: in the suite's own scale, which is 0 to 1 where unit is
    "points"; times `scale` (100 for points, else 1) they are in `unit`, as every report prints them. delta =
    after - before, low and high its 95 % interval over items and seeds; both None with a delta where the items or
    seeds are too few for this kind of score (`method` says so). claim: one seed tells about the checkpoint that
    it made, only several tell about the way of training. items: compared pairs; missing: pairs left out because
    one side has no score. p: of no difference; p_holm: corrected for the arm's other suites of new and old;
    health suites decide nothing, so that they weaken no verdict, and are corrected among themselves. tolerance:
    in points for "points", in the unit otherwise. Numbers are None where nothing can be said. notices: warnings
    on how far the verdict can be trusted, such as a changed style of refusing.
    """

    arm: str
    suite: str
    role: str
    seeds: int
    items: int
    missing: int
    before: float | None
    after: float | None
    delta: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    minimum_detectable: float | None
    p: float | None
    p_holm: float | None
    tolerance: float
    unit: str
    better: Literal["higher", "lower"]
    method: str
    scale: float
    claim: Claim
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The entry of results.json."""
        return dataclasses.asdict(self)


def comparisons(
    suites: Iterable[Suite],
    before: Mapping[str, Sequence[Score]],
    after: Mapping[int, Mapping[str, Sequence[Score]]],
    *,
    arm: str,
    roles: Mapping[str, str],
    same_model: bool = False,
    unmoved: Collection[str] = (),
) -> list[Comparison]:
    """Every suite of one arm against the model before, Holm-corrected over the suites; health suites apart.

    before: suite -> scores. after: seed -> suite -> scores. roles: suite -> new, old or health ("old"
    where not named). same_model: both sides are the same checkpoint, so the difference is exactly 0;
    scores that differ all the same raise RunError, because then the measuring is not repeatable. unmoved: the suites of
    which that is known though the models differ, because nothing that answers them was trained in any seed.
    Raises NotComparable where the two sides hold different items or weights.
    """
    made = [_compare(suite, before, after, arm, roles, _why_same(suite, same_model, unmoved)) for suite in suites]
    corrected: list[float | None] = [None] * len(made)
    # Two families: health suites are corrected among themselves, and the others pay nothing for them.
    for family in (True, False):
        own = [place for place, comparison in enumerate(made) if (comparison.role == "health") == family]
        for place, p_holm in zip(own, holm([made[place].p for place in own]), strict=True):
            corrected[place] = p_holm
    return [_judged(comparison, p_holm) for comparison, p_holm in zip(made, corrected, strict=True)]


def unmoved_in(runs: Iterable[Collection[str]]) -> frozenset[str]:
    """The suites that all runs of an arm leave as they were, from those of each."""
    own = [frozenset(names) for names in runs]
    return frozenset.intersection(*own) if own else frozenset()


def _why_same(suite: Suite, same_model: bool, unmoved: Collection[str]) -> str | None:
    if same_model:
        return "identical model"
    return "nothing that answers was trained" if suite.name in unmoved else None


def claim_of(runs: int) -> Claim:
    """What a verdict over so many trained runs is about."""
    return "about this way of training" if runs > 1 else "about this checkpoint"


def _compare(
    suite: Suite,
    before: Mapping[str, Sequence[Score]],
    after: Mapping[int, Mapping[str, Sequence[Score]]],
    arm: str,
    roles: Mapping[str, str],
    same: str | None,
) -> Comparison:
    """same: why both sides must give the same answers, if they must."""
    first = before[suite.name]
    # One row a seed. Only items with a score on every side are kept: an item that went missing in one seed would
    # otherwise be compared with nothing.
    rows = [_aligned(suite, first, after[seed][suite.name]) for seed in sorted(after)]
    if same is not None:
        _same_scores(suite, first, rows)
    kept = [i for i, score in enumerate(first) if not any(math.isnan(s[i].value) for s in (first, *rows))]
    found = _paired(suite, first, rows, kept, same)
    return Comparison(
        arm=arm,
        suite=suite.name,
        role=roles.get(suite.name, "old"),
        seeds=len(rows),
        items=len(kept),
        missing=len(first) - len(kept),
        before=found.before if found else None,
        after=found.after if found else None,
        delta=found.delta if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        verdict="cannot tell",
        minimum_detectable=found.minimum_detectable if found else None,
        p=found.p if found else None,
        p_holm=None,
        tolerance=suite.tolerance,
        unit=suite.unit,
        better=suite.better,
        method=found.method if found else "no item has a score on both sides",
        scale=100.0 if suite.unit == "points" else 1.0,
        claim=claim_of(len(rows)),
        notices=() if same is not None else KINDS[suite.kind].notices(first, rows),
    )


def _aligned(suite: Suite, first: Sequence[Score], second: Sequence[Score]) -> list[Score]:
    """`second` in the order of `first`."""
    by_item = {score.item: score for score in second}
    if len(by_item) != len(second) or {score.item for score in first} != set(by_item):
        raise NotComparable(
            f"suite {suite.name!r}", "holds different items before and after", "measure both sides on the same files"
        )
    out = [by_item[score.item] for score in first]
    for a, b in zip(first, out, strict=True):
        # A missing item has no weight of its own (tokens of an answer that is not there).
        both = not math.isnan(a.value) and not math.isnan(b.value)
        if both and not math.isclose(a.weight, b.weight):
            raise NotComparable(
                f"suite {suite.name!r}: item {a.item!r}",
                f"weighs {a.weight:g} before and {b.weight:g} after",
                "measure both sides on the same files",
            )
    return out


def _same_scores(suite: Suite, first: Sequence[Score], rows: Iterable[Sequence[Score]]) -> None:
    for row in rows:
        for a, b in zip(first, row, strict=True):
            if a.value != b.value and not (math.isnan(a.value) and math.isnan(b.value)):
                raise RunError(
                    f"suite {suite.name!r}: item {a.item!r}",
                    f"scores {a.value:g} and {b.value:g} although all that answers is the same in both models",
                    "measure with temperature: 0 on one device; what is not repeatable cannot be compared",
                )


def _paired(
    suite: Suite, first: Sequence[Score], rows: Sequence[Sequence[Score]], kept: Sequence[int], same: str | None
) -> Paired | None:
    x = [first[i].value for i in kept]
    weights = [first[i].weight for i in kept]
    if same is not None:
        mean = math.fsum(v * w for v, w in zip(x, weights, strict=True)) / math.fsum(weights) if kept else None
        # No interval but a fact: the same weights give the same answers. p = 1, as nothing can be found.
        return Paired(mean, mean, 0.0, 0.0, 0.0, 1.0, 0.0, same)
    if not kept:
        return None
    return paired(
        x,
        [[row[i].value for i in kept] for row in rows],
        weights=weights,
        clusters=[first[i].cluster for i in kept],
        bounded=suite.unit == "points",
    )


def _judged(comparison: Comparison, p_holm: float | None) -> Comparison:
    # low and high are shares from 0 to 1 where the tolerance is in points.
    margin = comparison.tolerance / comparison.scale
    verdict = judge(comparison.low, comparison.high, p_holm, margin=margin, better=comparison.better)
    return dataclasses.replace(comparison, p_holm=p_holm, verdict=verdict)


def judge(low: float | None, high: float | None, p_holm: float | None, *, margin: float, better: str) -> Verdict:
    """kept: the interval lies within [-margin, +margin]. gained, lost: it excludes 0 on that side and
    p_holm < 0.05. Otherwise cannot tell."""
    if low is None or high is None:
        return "cannot tell"
    # Before any claim of change: a change that is proven but lies within the tolerance is still one that may be
    # called kept.
    if -margin <= low and high <= margin:
        return "kept"
    proven = p_holm is not None and p_holm < ALPHA
    if proven and (low > 0 or high < 0):
        return "gained" if (low > 0) == (better == "higher") else "lost"
    return "cannot tell"


def summary(scores: Sequence[Score], suite: Suite) -> dict[str, Any]:
    """One side alone: {mean, low, high, items, missing, reasons}; mean None where no item scored."""
    # Missing ones are counted by reason beside the mean; as zeros they would make a silent model a wrong one.
    present = [score for score in scores if not math.isnan(score.value)]
    reasons = Counter(str(score.reason) for score in scores if math.isnan(score.value))
    mean = low = high = None
    if present:
        mean, low, high = mean_interval(
            [score.value for score in present],
            weights=[score.weight for score in present],
            clusters=[score.cluster for score in present],
            bounded=suite.unit == "points",
        )
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "items": len(present),
        "missing": len(scores) - len(present),
        "reasons": dict(sorted(reasons.items())),
    }
