"""Racing arms: who is proven behind another one, at whichever look that is asked.

Successive elimination (Even-Dar, Mannor & Mansour 2006, JMLR 7): arms are trained on a growing share of the rows, and
after each rung every arm is dropped that another one, which has learned, is proven to beat. Each decision is a test
by betting (Waudby-Smith & Ramdas 2024, doi:10.1093/jrsssb/qkad009), which assumes nothing about the shape of the
scores.

What is compared is the balance of two arms, the number that also chooses the knee of a frontier: the mean gain over
the new suites minus the mean loss over the old ones, a sum of independent bounded terms

    difference = sum_k E v_k,   v_k = weight of the suite * sum over a cluster's items of share_i d_i,   |v_k| <= b_k

For a fixed bet g in (0, 1), beta = g / max_k b_k, the capital

    K_g = prod_k (1 + beta v_k)

has E K_g = prod_k (1 + beta E v_k) <= exp(beta sum_k E v_k) <= 1 where the difference is not above 0: suites may have
any numbers of items. K, the mean over a grid of bets (a mixture, which needs no tuning and does not depend on the
order of items), is an e-value too, and so is its product over portions of items that are asked one after the other.
By Ville's inequality K ever reaches 1 / level with probability `level` at most, however often it is looked at. A lower
limit is the largest m for which "the difference is m at most" is rejected, with v_k - m b_k / sum b for v_k.

The level is divided evenly over all the rejections that could throw out one arm: its opponents and the old suites that
it may not lose, at each rung, because a rung trains new models. So an arm that nothing beats at any rung, and that
loses no more than allowed, is dropped with probability `alpha` at most. What no interval covers is that curves cross:
an arm that is behind on part of the rows may have won on all of them. `benchmarks.teach_race_simulation` simulates
all of this (docs/race.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.measure.composite import Part
from mnemos.measure.frontier import SuiteScores
from mnemos.measure.power import ALPHA
from mnemos.measure.spread import Spread, two_way

Floats = npt.NDArray[np.float64]

BETS: Floats = 0.9 * 2.0 ** (-np.arange(10) / 2)
"""The grid of bets, shares of the largest that cannot ruin: each is within a factor of 1.2 of the best one wherever
that lies above 0.03, which costs at most 3 % of the growth of capital, and log 10 = 2.3 once for the mixture."""


@dataclass(frozen=True)
class Terms:
    """The independent terms of a sum of weighted means. value: float[K], v_k. bound: float[K], how far each may lie
    from 0."""

    value: Floats
    bound: Floats

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Terms:
        """One term a cluster. Item values lie in [-1, 1] and stand for one model: several replicates are averaged."""
        values: list[npt.NDArray[Any]] = [np.zeros(0)]
        bounds: list[npt.NDArray[Any]] = [np.zeros(0)]
        for part in parts:
            item, units = part.d.mean(axis=0), int(part.group.max()) + 1
            values.append(part.weight * np.bincount(part.group, weights=part.share * item, minlength=units))
            bounds.append(abs(part.weight) * np.bincount(part.group, weights=part.share, minlength=units))
        return cls(np.concatenate(values), np.concatenate(bounds))

    def __sub__(self, other: Terms) -> Terms:
        """Of two arms on the same items: a difference of scores has the bound of a gain, as both start alike."""
        return Terms(self.value - other.value, self.bound)

    def __neg__(self) -> Terms:
        return Terms(-self.value, self.bound)


def log_evidence(portions: Sequence[Terms], least: float = 0.0) -> float:
    """ln K against "the sum of the weighted means is at most `least`"; 0 is no evidence, ln(1 / level) rejects.

    portions: the terms of each portion of items, in the order in which they were asked. -inf where `least` is the
    largest possible sum or above.
    """
    growth = np.zeros(len(BETS))
    for terms in portions:
        whole = float(terms.bound.sum())
        if least >= whole:
            return -math.inf
        # The term is at least -b_k (1 + least / whole), so that the largest bet keeps every factor above 0.1.
        stake = BETS / (float(terms.bound.max()) * (1 + least / whole))
        growth += np.log1p(stake[:, None] * (terms.value - least * terms.bound / whole)).sum(axis=1)
    top = float(growth.max())
    return top + math.log(float(np.exp(growth - top).mean()))


def lower_limit(portions: Sequence[Terms], level: float) -> float:
    """The limit above which the sum of the weighted means lies with confidence 1 - level, at every look at once."""
    whole = min(float(terms.bound.sum()) for terms in portions)
    low, high, wanted = -whole, whole, math.log(1 / level)
    # K falls as `least` grows: (v - m b / whole) / (1 + m / whole) does for every v >= -b.
    while high - low > 1e-6 * whole:
        middle = (low + high) / 2
        if log_evidence(portions, middle) < wanted:
            high = middle
        else:
            low = middle
    return low


def interval(portions: Sequence[Terms], level: float = ALPHA) -> tuple[float, float]:
    """Both limits, each at half the level: the confidence sequence at this look."""
    return lower_limit(portions, level / 2), -lower_limit([-terms for terms in portions], level / 2)


@dataclass(frozen=True)
class Rules:
    """What the level is divided by, fixed before the first look.

    arms: all that will ever run, combinations included. rungs: looks at newly trained models. suites: old ones that
    must not lose. max_loss: the largest loss of each, 0.02 is two points. alpha: of dropping an arm that is second to
    none and keeps within max_loss.
    """

    arms: int
    rungs: int
    suites: int
    max_loss: float
    alpha: float = ALPHA

    @property
    def level(self) -> float:
        """Of one rejection."""
        return self.alpha / (self.rungs * max(1, self.arms - 1 + self.suites))


@dataclass(frozen=True)
class Place:
    """Where an arm stands after a look. learned, forgotten, balance: means over its suites, 0.02 is two points.
    beaten_by: arms that have learned and are proven to have the better balance. lost: old suites that are proven to
    lose more than allowed. dropped: whether it leaves the race. proven: whether it is proven to have learned."""

    arm: str
    learned: float
    forgotten: float
    balance: float
    beaten_by: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    dropped: bool = False
    proven: bool = False


def look(portions: Sequence[Sequence[SuiteScores]], arms: Sequence[str], rules: Rules) -> list[Place]:
    """Every arm's place after a rung, in the order of `arms`.

    portions: the suites with all arms' scores, once for each portion of items. Only suites in points count, over items
    that every arm has a score for. Only an arm that has learned beats another one: who has learned nothing yet has
    lost little as well, and would throw out whoever is on the way. Arms whose losses are proven too large are dropped
    unless that leaves none: then the best of them go on, because what their losses cost is still to be told.
    """
    sides = [{arm: Terms.of(parts) for arm, parts in _balances(suites, arms).items()} for suites in portions]
    wanted = math.log(1 / rules.level)
    proven = {arm: _learned(portions, arm, arms) for arm in arms}
    beaten: dict[str, list[str]] = {arm: [] for arm in arms}
    for a, b in itertools.permutations(arms, 2):
        if proven[a] and _rejected([side[a] - side[b] for side in sides], wanted):
            beaten[b].append(a)
    lost = {arm: [name for name in _old(portions) if _lost(portions, name, arm, arms, rules, wanted)] for arm in arms}
    spared = all(lost.values())
    out = []
    for arm in arms:
        learned, forgotten = means(portions, arms, arm)
        gone = bool(beaten[arm]) or (bool(lost[arm]) and not spared)
        out.append(
            Place(arm, learned, forgotten, learned - forgotten, tuple(beaten[arm]), tuple(lost[arm]), gone, proven[arm])
        )
    # Each arm may be beaten by one that is dropped for its losses: somebody has to be left.
    if all(place.dropped for place in out):
        best = max(out, key=lambda place: place.balance)
        out = [replace(place, dropped=place.dropped and place is not best) for place in out]
    return out


def _learned(portions: Sequence[Sequence[SuiteScores]], arm: str, arms: Sequence[str]) -> bool:
    """Whether the mean gain over the new suites is proven, at the level of the whole race: it only lets the tests count
    that may drop an arm, which have levels of their own."""
    gains = []
    for suites in portions:
        own = _counted(suites, "new")
        found = [_gains(suite, arms, arm, 1.0 / len(own)) for suite in own]
        gains.append(Terms.of([part for part in found if part is not None]))
    return all(len(terms.value) for terms in gains) and _rejected(gains, math.log(1 / ALPHA))


def _rejected(portions: Sequence[Terms], wanted: float, least: float = 0.0) -> bool:
    """Whether the evidence reaches `wanted`. Most arms are seen to be far from it without a logarithm: as
    ln(1 + x) <= x, no bet has grown by more than the largest stake times the sum of the terms."""
    most = 0.0
    for terms in portions:
        whole = float(terms.bound.sum())
        if least >= whole:
            return False
        stake = float(BETS[0]) / (float(terms.bound.max()) * (1 + least / whole))
        most += stake * max(0.0, float(terms.value.sum()) - least)
    return most >= wanted and log_evidence(portions, least) >= wanted


def minus(a: Sequence[Part], b: Sequence[Part]) -> list[Part]:
    """The differences of two arms' parts, item by item."""
    return [replace(x, d=x.d - y.d) for x, y in zip(a, b, strict=True)]


def _counted(suites: Sequence[SuiteScores], role: str) -> list[SuiteScores]:
    return [suite for suite in suites if suite.role == role and suite.unit == "points"]


def _old(portions: Sequence[Sequence[SuiteScores]]) -> list[str]:
    return [suite.name for suite in _counted(portions[0], "old")]


def _gains(suite: SuiteScores, arms: Sequence[str], arm: str, factor: float) -> Part | None:
    """The arm's gain on one suite; None without an item that every arm has a score for."""
    rows = np.vstack([suite.before, *(suite.after[one] for one in arms)])
    kept = np.asarray(np.isfinite(rows).all(axis=0))
    sign = -1.0 if suite.better == "lower" else 1.0
    return suite.part(sign * (suite.after[arm] - suite.before), kept, factor) if kept.any() else None


def _balances(suites: Sequence[SuiteScores], arms: Sequence[str]) -> dict[str, list[Part]]:
    """Arm -> its gains, each role's suites sharing a weight of 1: their weighted sum is the balance."""
    out: dict[str, list[Part]] = {arm: [] for arm in arms}
    for role in ("new", "old"):
        own = _counted(suites, role)
        for arm in arms:
            found = [_gains(suite, arms, arm, 1.0 / len(own)) for suite in own]
            out[arm] += [part for part in found if part is not None]
    return out


def means(portions: Sequence[Sequence[SuiteScores]], arms: Sequence[str], arm: str) -> tuple[float, float]:
    """Learned and forgotten over all portions, each weighted by its items."""
    found = []
    for role in ("new", "old"):
        own = [_counted(suites, role) for suites in portions]
        suite_means = []
        for same in zip(*own, strict=True):
            parts = [part for suite in same if (part := _gains(suite, arms, arm, 1.0)) is not None]
            size = sum(len(part.share) for part in parts)
            suite_means.append(
                sum(float(part.means.mean()) * len(part.share) for part in parts) / size if size else 0.0
            )
        found.append(sum(suite_means) / len(suite_means) if suite_means else 0.0)
    return found[0], 0.0 - found[1]


def _lost(
    portions: Sequence[Sequence[SuiteScores]],
    name: str,
    arm: str,
    arms: Sequence[str],
    rules: Rules,
    wanted: float,
) -> bool:
    losses = []
    for suites in portions:
        part = _gains(next(one for one in suites if one.name == name), arms, arm, -1.0)
        if part is not None:
            losses.append(Terms.of([part]))
    return bool(losses) and _rejected(losses, wanted, rules.max_loss)


def spread_of(parts: Sequence[Part]) -> float:
    """Standard error of the sum of the parts' weighted means, over items."""
    variance = 0.0
    for part in parts:
        found: Spread = two_way(part.d.mean(axis=0)[None], part.share, part.group)
        variance += part.weight**2 * (found.variance if math.isfinite(found.variance) else 1.0)
    return math.sqrt(variance)


def choice(
    suites: Sequence[SuiteScores], arms: Sequence[str], *, max_loss: float, ranks: Mapping[str, tuple[float, ...]]
) -> str:
    """The arm to prove: of those whose old suites lose at most `max_loss` in the mean (of all, where none does), the
    one with the largest balance, or a simpler one within a standard error of it (the one-standard-error rule of
    Breiman et al. 1984, of the paired difference). ranks: arm -> what makes it simpler, compared in turn, smaller
    first."""
    side = _balances(suites, arms)
    balance = {arm: sum(part.weight * float(part.means.mean()) for part in side[arm]) for arm in arms}

    def kept(arm: str) -> bool:
        losses = [_gains(suite, arms, arm, -1.0) for suite in _counted(suites, "old")]
        return all(float(part.means.mean()) <= max_loss + 1e-12 for part in losses if part is not None)

    able = [arm for arm in arms if kept(arm)] or list(arms)
    best = max(able, key=lambda arm: balance[arm])
    level = [arm for arm in able if balance[best] - balance[arm] <= spread_of(minus(side[best], side[arm])) + 1e-12]
    return min(level, key=lambda arm: (ranks[arm], -balance[arm], arms.index(arm)))
