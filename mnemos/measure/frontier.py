"""What each arm learned against what it forgot, which arms beat which, and where to stand.

learned     mean over the new suites of the gain against the model before
forgotten   mean over the old suites of the loss against it (negative: gained)

Both in points' own scale (0..1), each suite counting once, over the items that every side has a
score for. Suites in other units cannot be averaged with points and are left out by name.

The knee is chosen by one rule, fixed before looking: of the arms that are proven to have learned,
the one with the largest balance, points learned minus points forgotten; that is where a line of
slope 1 touches the frontier, so that from there on a point learned costs more than a point
forgotten. It needs no threshold and no end points, and more data make it surer, not different.
(The least forgetting among those not provably below the best learner would become the best
learner, whatever it forgot, as soon as the sample is large.) How sure the choice is, is said by a
bootstrap over items and replicates: the share of draws in which each arm would have been chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.measure.composite import Estimate, Part, estimate, replicate_draws, resampled
from mnemos.measure.uncertainty import ALPHA, cluster_numbers, holm

Floats = npt.NDArray[np.float64]

DRAWS = 2_000
RULE = "of the arms proven to have learned, the one with the largest balance: points learned minus points forgotten"
DIGITS = 6
"""Digits kept of a contrast in results.json, where there is one for each pair of arms and suite."""


@dataclass(frozen=True)
class SuiteScores:
    """One suite's scores on every side. before: float[n]. after: arm -> float[R, n], one row a
    replicate (a seed). NaN where an item has no score. weight: float[n], of the items. unmoved: the
    arms in which nothing that answers was trained, so that their scores are those before."""

    name: str
    role: str
    unit: str
    better: str
    before: Floats
    after: Mapping[str, Floats]
    weight: Floats
    clusters: Sequence[str | None]
    unmoved: Collection[str] = ()

    def part(self, values: Floats, kept: npt.NDArray[np.bool_], factor: float, arms: Sequence[str] = ()) -> Part:
        """`values` (float[R, n]) of the kept items as one part of a whole. arms: those that the values compare, where a
        suite may be unmoved in all of them."""
        share = self.weight[kept] / self.weight[kept].sum()
        names = [cluster for cluster, keep in zip(self.clusters, kept, strict=True) if keep]
        unmoved = bool(arms) and all(arm in self.unmoved for arm in arms)
        return Part(values[:, kept], share, cluster_numbers(names, int(kept.sum())), factor, unmoved)


def frontier(suites: Sequence[SuiteScores], arms: Sequence[str], *, seed: int = 0) -> dict[str, Any] | None:
    """The `frontier` of results.json over these arms; None without a new and an old suite in points.

    Returns rule, new and old (the suites' names), left_out ({suite, why}), items, points (one an arm:
    arm, learned, forgotten, balance, each {mean, low, high}; proven: its learning lies above 0;
    below_knee: its balance is provably smaller than the knee's (95 % interval of the paired
    difference); on_frontier: no arm's means are better in one and as good in the other;
    dominated_by and proven_by: the arms that are, and of them those for which one of the two
    differences is proven after Holm's correction over all of the arm's; chosen: the share of draws
    in which it is the knee), knee, why_not, likely (the fewest arms that hold 95 % of the draws) and
    draws.
    """
    used, left_out, kept = _usable(suites, arms)
    sides = {role: [suite for suite in used if suite.role == role] for role in ("new", "old")}
    if not sides["new"] or not sides["old"] or not arms:
        return None
    learned = {arm: _parts(sides["new"], kept, arm, 1.0) for arm in arms}
    forgotten = {arm: _parts(sides["old"], kept, arm, -1.0) for arm in arms}
    points: list[dict[str, Any]] = [
        {
            "arm": arm,
            "learned": estimate(learned[arm]),
            "forgotten": estimate(forgotten[arm]),
            "balance": estimate(_balance(learned[arm], forgotten[arm])),
        }
        for arm in arms
    ]
    differences: dict[tuple[str, str], tuple[Estimate, ...]] = {}
    for a, b in itertools.combinations(arms, 2):
        differences[a, b] = tuple(estimate(_minus(side[a], side[b])) for side in (learned, forgotten))
        # Both directions of one estimate, so that a beats b exactly by as much as b loses to a.
        differences[b, a] = tuple(-found for found in differences[a, b])
    _judge(points, differences)
    chosen = _knee(points, learned, forgotten, seed)
    for point in points:
        point["below_knee"] = _below(point["arm"], chosen["knee"], learned, forgotten)
        point.update({key: point[key].as_dict() for key in ("learned", "forgotten", "balance")})
    return {
        "rule": RULE,
        **{role: [suite.name for suite in sides[role]] for role in sides},
        "left_out": left_out,
        "items": sum(int(kept[suite.name].sum()) for suite in used),
        "points": points,
        **chosen,
    }


def _usable(
    suites: Sequence[SuiteScores], arms: Sequence[str]
) -> tuple[list[SuiteScores], list[dict[str, str]], dict[str, npt.NDArray[np.bool_]]]:
    used: list[SuiteScores] = []
    left_out: list[dict[str, str]] = []
    kept: dict[str, npt.NDArray[np.bool_]] = {}
    for suite in suites:
        if suite.role not in ("new", "old"):
            continue
        # float[1 + A R, n]: an item counts only where it has a score in every arm, so that all arms are compared on
        # the same items.
        rows = np.vstack([suite.before, *(suite.after[arm] for arm in arms)])
        kept[suite.name] = np.asarray(np.isfinite(rows).all(axis=0))
        if suite.unit != "points":
            left_out.append({"suite": suite.name, "why": f"is measured in {suite.unit}, not in points"})
        elif not kept[suite.name].any():
            left_out.append({"suite": suite.name, "why": "has no item that every side has a score for"})
        else:
            used.append(suite)
    return used, left_out, kept


def _parts(
    suites: Sequence[SuiteScores], kept: Mapping[str, npt.NDArray[np.bool_]], arm: str, sign: float
) -> list[Part]:
    """The arm's gains (times `sign`), one part a suite, each with the same weight."""
    return [
        # The difference of each run to the model before; where lower is better a gain is a fall.
        suite.part(
            (suite.after[arm] - suite.before) * (-sign if suite.better == "lower" else sign),
            kept[suite.name],
            1 / len(suites),
            [arm],
        )
        for suite in suites
    ]


def _minus(a: Sequence[Part], b: Sequence[Part]) -> list[Part]:
    return [Part(x.d - y.d, x.share, x.group, x.weight, x.zero and y.zero) for x, y in zip(a, b, strict=True)]


def _balance(learned: Sequence[Part], forgotten: Sequence[Part]) -> list[Part]:
    """Learned minus forgotten."""
    return [*learned, *(replace(part, weight=-part.weight) for part in forgotten)]


def _judge(points: list[dict[str, Any]], differences: Mapping[tuple[str, str], tuple[Estimate, ...]]) -> None:
    """Add who has learned and who is dominated by whom."""
    for point in points:
        arm, learned = point["arm"], point["learned"]
        others = [other["arm"] for other in points if other["arm"] != arm]
        # Two p values for each other arm, learned and then forgotten; hence places 2k and 2k + 1 below. One family
        # an arm: it asks whether any arm beats it.
        corrected = holm([difference.p for other in others for difference in differences[other, arm]])
        better = [other for other in others if _dominates(differences[other, arm])]
        proven = [
            other
            for place, other in enumerate(others)
            if other in better and any(p is not None and p < ALPHA for p in corrected[2 * place : 2 * place + 2])
        ]
        point["proven"] = learned.low is not None and learned.low > 0
        point["on_frontier"] = not better
        point["dominated_by"], point["proven_by"] = better, proven


def _dominates(difference: Sequence[Estimate]) -> bool:
    """Whether the first arm learned at least as much and forgot at most as much, and differs."""
    more, less = difference[0].mean, -difference[1].mean
    return more >= 0 and less >= 0 and more + less > 0


def _below(
    arm: str, knee: str | None, learned: Mapping[str, Sequence[Part]], forgotten: Mapping[str, Sequence[Part]]
) -> bool:
    """Whether an arm's balance is provably smaller than the knee's."""
    if knee is None or arm == knee:
        return False
    difference = estimate(_balance(_minus(learned[arm], learned[knee]), _minus(forgotten[arm], forgotten[knee])))
    return difference.high is not None and difference.high < 0


def _knee(
    points: list[dict[str, Any]],
    learned: Mapping[str, Sequence[Part]],
    forgotten: Mapping[str, Sequence[Part]],
    seed: int,
) -> dict[str, Any]:
    """The choice, and how often each arm would have been it."""
    arms = [point["arm"] for point in points]
    # What an arm's learning must exceed to be proven, as measured.
    floor = np.array([_half(point["learned"]) for point in points])
    # two of float[A, 1]: one draw, the measured one
    means = [np.array([[point[side].mean] for point in points]) for side in ("learned", "forgotten")]
    (chosen,) = choose(means[0], means[1], floor)
    rng = np.random.default_rng(seed)
    # The same rows for both sides: what a seed learned and what it forgot are one training.
    rows = replicate_draws(learned[arms[0]][0].d.shape[0], DRAWS, rng)
    # two of float[A, DRAWS]
    drawn = [resampled([side[arm] for arm in arms], rows, rng) for side in (learned, forgotten)]
    picks = choose(drawn[0], drawn[1], floor)
    shares = np.array([(picks == place).mean() for place in range(len(arms))])
    for point, share in zip(points, shares, strict=True):
        point["chosen"] = float(share)
    return {
        "knee": arms[chosen] if chosen >= 0 else None,
        "why_not": None if chosen >= 0 else "no arm is proven to have learned",
        "likely": [arms[place] for place in likely(shares)],
        "draws": DRAWS,
    }


def _half(found: Estimate) -> float:
    return math.inf if found.low is None or found.high is None else (found.high - found.low) / 2


def choose(learned: Floats, forgotten: Floats, floor: Floats) -> npt.NDArray[np.int64]:
    """The rule, column by column: int[draws], the place of the knee or -1 where none has learned.

    learned, forgotten: float[A, draws]. floor: float[A], what each arm must have learned to be
    proven. Ties go to the arm that forgot less, then to the earlier one.
    """
    # float[A, draws]. The floor stays as measured: a draw says what would have been chosen, not how sure it would
    # have been of it.
    able = learned > floor[:, None]
    balance = np.where(able, learned - forgotten, -np.inf)
    # 1e-12: means of right-or-wrong items are multiples of 1 / n, and equal ones differ by rounding alone.
    tied = able & (balance >= balance.max(axis=0) - 1e-12)
    picked = np.where(tied, forgotten, np.inf).argmin(axis=0)
    return np.where(able.any(axis=0), picked, -1)


def likely(shares: Floats, level: float = 1 - ALPHA) -> list[int]:
    """The fewest places, in their order, whose shares together reach `level` (all that were ever
    chosen, where they do not)."""
    order = np.argsort(-shares, kind="stable")
    taken, total = [], 0.0
    # Greedily from the largest share: no other set that reaches the level is smaller.
    for place in order:
        if total >= level - 1e-12 or shares[place] <= 0:
            break
        taken.append(int(place))
        total += float(shares[place])
    return sorted(taken)


def contrasts(suites: Sequence[SuiteScores], arms: Sequence[str]) -> dict[str, Any] | None:
    """The `contrasts` of results.json: every pair of arms, suite by suite; None for fewer than two.

    Returns arms, suites (name -> rows [a, b, difference, low, high], the arms by their place:
    score of a - score of b in the suite's own scale, its 95 % interval paired by item and
    replicate, over items both have a score for) and learned, forgotten (the same for the means
    over the new and old suites in points, over the items that every arm has a score for).
    """
    if len(arms) < 2:
        return None
    pairs = list(itertools.combinations(range(len(arms)), 2))
    rows = {suite.name: [row for a, b in pairs if (row := _contrast(suite, arms, a, b))] for suite in suites}
    used, _, kept = _usable(suites, arms)
    means: dict[str, list[list[float | None]]] = {}
    for name, role, sign in (("learned", "new", 1.0), ("forgotten", "old", -1.0)):
        own = [suite for suite in used if suite.role == role]
        side = [_parts(own, kept, arm, sign) for arm in arms]
        means[name] = [_row(a, b, estimate(_minus(side[a], side[b]))) for a, b in pairs] if own else []
    return {"arms": list(arms), "suites": rows, **means}


def _contrast(suite: SuiteScores, arms: Sequence[str], a: int, b: int) -> list[float | None] | None:
    d = suite.after[arms[a]] - suite.after[arms[b]]
    kept = np.asarray(np.isfinite(d).all(axis=0))
    if not kept.any():
        return None
    return _row(a, b, estimate([suite.part(d, kept, 1.0, [arms[a], arms[b]])], bounded=suite.unit == "points"))


def _row(a: int, b: int, found: Estimate) -> list[float | None]:
    numbers = (found.mean, found.low, found.high)
    return [a, b, *(None if number is None else round(number, DIGITS) for number in numbers)]
