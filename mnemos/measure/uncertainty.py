"""What can be said about a difference from a finite number of items and seeds.

`paired` compares two score vectors of the same items. Which method it uses follows from the data:

right or wrong, one seed      McNemar's exact p, Newcombe's interval (method 10)
right or wrong, clusters or   Newcombe's interval at the effective sample size that two-way cluster variance
several seeds                 (items crossed with seeds) and Student's t leave
graded or weighted            items reweighed, with one unseen item added (`reweigh`, after Gaffke); several
                              seeds add their own spread with Student's t (MOVER, Zou & Donner 2008)

Intervals are two-sided at 95 %. p is the smallest level at which the same interval excludes 0, and the minimum
detectable change is that of the same test. No interval shrinks to a point when no item changed: not having
seen a change in n items is evidence about small changes only. Coverage, false claims and power of all of this
are simulated by `benchmarks.intervals` and printed in docs/intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from mnemos.measure.power import ALPHA as ALPHA
from mnemos.measure.power import detectable, mcnemar_detectable
from mnemos.measure.proportions import Z as Z
from mnemos.measure.proportions import mcnemar_p, newcombe
from mnemos.measure.proportions import wilson as wilson
from mnemos.measure.reweigh import Items
from mnemos.measure.spread import Spread as Spread
from mnemos.measure.spread import cluster_numbers as cluster_numbers
from mnemos.measure.spread import share_taken_off as share_taken_off
from mnemos.measure.spread import t_p as t_p
from mnemos.measure.spread import t_quantile as t_quantile
from mnemos.measure.spread import two_way as two_way

Floats = npt.NDArray[np.float64]

SMALL = 20
"""Right-or-wrong items below which Newcombe's interval covers too rarely, and is taken at fewer items."""
FEWEST = 9
"""Independent items below which nothing is said about scores without bounds."""
FLIPS = 12
"""Right-or-wrong items that must flip in a seed for several seeds to tell more than one, and for a minimum detectable
change of several seeds."""
EVEN = 100
"""Items of equal weight that would tell as much, from which on a minimum detectable change is told of scores without
bounds: fewer show too little of a long tail."""
LOPSIDED = 0.5
"""Skewness over the square root of the number of items, above which none is told of them either: one or two items make
most of the error, and what they did says too little about others."""
TOO_FEW = "too few items or seeds for this kind of score"


@dataclass(frozen=True)
class Paired:
    """A paired difference, in the scores' own scale (0 to 1 for points).

    before, after: means over items (and seeds), None without a score. delta = after - before. low, high: 95 %
    interval, None where none can be had. p: of no difference, two-sided, uncorrected. minimum_detectable: the
    size of change that this many items and seeds would have shown in 8 of 10 repetitions (80 % power at
    alpha = 0.05, before any correction for several suites). method: how, in words.
    """

    before: float | None
    after: float | None
    delta: float
    low: float | None
    high: float | None
    p: float | None
    minimum_detectable: float | None
    method: str


def paired(
    before: Sequence[float] | Floats,
    after: Sequence[Sequence[float]] | Floats,
    *,
    weights: Sequence[float] | Floats | None = None,
    clusters: Sequence[str | None] | None = None,
    bounded: bool = True,
    power: bool = True,
) -> Paired:
    """Compare n items before and after.

    before: float[n]. after: float[S, n], one row a seed. weights: float[n], the items' shares in the
    means (bytes for bits per byte). clusters: items with the same name are not independent; None is
    a cluster of its own. bounded: scores lie in [0, 1].
    power: False leaves the minimum detectable change out, which takes most of the time.
    Trap: one seed's interval is about that checkpoint; only several seeds tell about the way it was trained.
    Raises ValueError for empty or missing values: drop those first and count them.
    """
    x, y = np.asarray(before, dtype=float), np.atleast_2d(np.asarray(after, dtype=float))
    n = len(x)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if (
        n == 0
        or y.shape[1] != n
        or len(w) != n
        or not (np.isfinite(x).all() and np.isfinite(y).all() and (w > 0).all())
    ):
        raise ValueError("paired needs the same items on both sides, present, with positive weights")
    share = w / w.sum()
    d = y - x  # float[S, n]
    group = cluster_numbers(clusters, n)
    spread = two_way(d, share, group)
    means = float(share @ x), float(share @ y.mean(axis=0))
    # Of equal weight, too: the tables of McNemar and Newcombe count items.
    if bounded and np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all() and np.ptp(w) == 0:
        return _right_or_wrong(x, y, means, spread, len(d) == 1 and spread.units == n, power)
    return _graded(x, d, w, group, means, spread, bounded, power)


# right or wrong -----------------------------------------------------------------------------


def _right_or_wrong(
    x: Floats, y: Floats, means: tuple[float, float], spread: Spread, plain: bool, power: bool
) -> Paired:
    n = len(x)
    # Shares of all S n pairs of item and seed; of one seed, the shares of items.
    gained, lost = float(((y == 1) & (x == 0)).mean()), float(((y == 0) & (x == 1)).mean())
    both = float(((y == 1) & (x == 1)).mean())
    table = (both, gained, lost, max(0.0, 1 - both - gained - lost))
    delta = means[1] - means[0]
    if plain:
        size, p = float(n), mcnemar_p(round(gained * n), round(lost * n))
        if n < SMALL:
            # Newcombe's interval is built on the normal distribution: at (Z / t)^2 as many items it widens as
            # Student's would.
            size = max(1.0, n * (Z / t_quantile(n - 1)) ** 2) if n > 1 else 1.0
        method = "McNemar exact, Newcombe"
        smallest = mcnemar_detectable(gained + lost, n) if power else None
    else:
        size, p = _effective(table, n, len(y), spread), t_p(delta, spread)
        method = f"{_clustering(spread, n, len(y))}, Newcombe at n = {size:.0f}"
        smallest = _flips_detectable(table, n, spread) if power else None
    low, high = newcombe(table, size)
    return Paired(*means, delta, low, high, p, smallest, method)


def _effective(table: tuple[float, float, float, float], n: int, seeds: int, spread: Spread) -> float:
    """Independent right-or-wrong items that would tell as much: n / design effect, reduced for few
    degrees of freedom (Korn & Graubard 1998), never above n * seeds; above n only where a dozen items flipped
    in a seed, because fewer do not show whether the seeds flip the same ones."""
    _, gained, lost, _ = table
    # The variance of the mean if all n items were independent: a difference is +1, 0 or -1, so its second moment is
    # gained + lost.
    naive = (gained + lost - (gained - lost) ** 2) / n
    if spread.units < 2:
        return 1.0
    # n / design effect = n naive / V, with V the variance that clusters and seeds leave; (Z / t)^2 for the few
    # degrees of freedom of V.
    few = (Z / t_quantile(spread.df)) ** 2
    if spread.variance <= 0 or naive <= 0:
        return max(1.0, spread.units * few)  # nothing varied: as if whole clusters moved together
    most = n * seeds if n * (gained + lost) >= FLIPS else n
    return float(np.clip(n * naive / spread.variance, 1.0, most)) * few


def _flips_detectable(table: tuple[float, float, float, float], n: int, spread: Spread) -> float | None:
    """The minimum detectable change of clustered items or several seeds; None where fewer than a dozen items flipped
    in a seed, which tells too little of how they will. A change makes flips of its own where
    it is larger than those that were seen; they have the design effect of these, half of one item's where none was."""
    both, gained, lost, neither = table
    if not stated(spread) or (spread.seeds > 1 and n * (gained + lost) < FLIPS):
        return None
    # effect: variance of the mean by items, per variance of one item (1 / n of independent ones); mixed: the same of
    # what items leave in the seeds' means. Both stay what they were when a change makes further flips.
    seen = _flip_variance(gained + lost, gained - lost)
    effect = spread.by_items / seen if seen > 0 and spread.by_items > 0 else 1 / spread.units
    mixed = spread.noise / seen if seen > 0 else 1 / (2 * n * spread.seeds)

    def error(change: float) -> float:
        return math.sqrt(effect * _flip_variance(max(gained + lost, change), change))

    def half(change: float) -> float:
        flips = max(gained + lost, change)
        # Items that do not flip keep their proportion of right to wrong, so that the table sums to 1.
        still = (1 - flips) / max(1e-12, both + neither)
        changed = (both * still, (flips + change) / 2, (flips - change) / 2, neither * still)
        size = (Z / t_quantile(spread.units - 1)) ** 2 / effect
        # The harder direction: the table as it is, and mirrored, with gained and lost exchanged. Newcombe's interval
        # is not symmetric.
        return max(
            change - newcombe(changed, size)[0],
            newcombe((*changed[:1], *changed[2:0:-1], changed[3]), size)[1] + change,
        )

    return detectable(
        half,
        error,
        most=1.0,
        **_of_seeds(spread, lambda change: mixed * _flip_variance(max(gained + lost, change), change)),
    )


def _flip_variance(flips: float, change: float) -> float:
    """Variance of one right-or-wrong item's difference."""
    return max(0.0, flips - change * change)


def stated(spread: Spread) -> bool:
    """Whether a minimum detectable change can be told: twenty independent items, and one seed or at least three,
    because the spread of two is hardly known."""
    return spread.units >= SMALL and spread.seeds != 2


def _of_seeds(spread: Spread, noise: Callable[[float], float] | None = None) -> dict[str, Any]:
    return {
        "seeds": spread.seeds,
        "excess": spread.excess,
        "noise": noise or (lambda _: spread.noise),
        "kept": share_taken_off(spread.seeds) if spread.seeds > 1 else 0.0,
    }


# graded -------------------------------------------------------------------------------------


def _graded(
    x: Floats,
    d: Floats,
    w: Floats,
    group: npt.NDArray[np.int64],
    means: tuple[float, float],
    spread: Spread,
    bounded: bool,
    power: bool,
) -> Paired:
    delta = means[1] - means[0]
    if spread.units < 2:
        whole = (-1.0, 1.0) if bounded else (None, None)
        return Paired(*means, delta, whole[0], whole[1], None, None, "one independent item: no interval")
    if not bounded and spread.units < FEWEST:
        return Paired(*means, delta, None, None, None, None, TOO_FEW)
    clustered = _clustering(spread, d.shape[1], len(d))
    # float[n], means over seeds: a difference of two scores in [0, 1] lies in [-1, 1].
    items = Items.of(d.mean(axis=0), w, group, (-1.0, 1.0) if bounded else None)
    scale = max(float(np.abs(x).max()), float(np.abs(x + d).max()))
    if not bounded and spread.variance <= (1e-12 * max(scale, 1e-300)) ** 2:
        # A variance at the level of rounding error is none: items that all moved alike.
        half, alike = unseen(spread.units) * scale, "all items moved alike: bound on the share that would not"
        return Paired(*means, delta, delta - half, delta + half, t_p(delta, spread), half, alike)
    low, high = (with_seeds(items, side, spread) for side in (-1, 1))
    if bounded:
        # The interval of differences does not know how high the score before was.
        low, high = _possible(low, high, Items.of(x, w, group, (0.0, 1.0)))
    smallest = _graded_detectable(items, spread) if power else None
    return Paired(*means, delta, low, high, _graded_p(items, spread), smallest, f"{clustered}, reweighed")


def _possible(low: float, high: float, before: Items) -> tuple[float, float]:
    """No more can be lost than the score before had, and no more gained than it lacked. What it had is known by
    its own interval: at its mean the ends would be cut through the truth where everything was lost."""
    if low < -before.mean:
        low = max(low, -before.limit(Z, 1))
    if high > 1 - before.mean:
        high = min(high, 1 - before.limit(Z, -1))
    return low, high


def with_seeds(items: Items, side: int, spread: Spread, z: float = Z) -> float:
    """One limit of the mean over items and seeds (MOVER): the distances of the two, squared and added."""
    # MOVER (Zou & Donner 2008): limit = mean -/+ sqrt((mean - items' limit)^2 + (t_{S-1} sqrt(V_seeds))^2), both at
    # the level of z. Each side keeps its own distance, so that a skewed interval stays skewed.
    own = items.limit(z, side)
    if spread.by_seeds <= 0:
        return own
    seeds = float(special.stdtrit(spread.seeds - 1, special.ndtr(z))) ** 2 * spread.by_seeds
    return items.mean + side * math.sqrt((own - items.mean) ** 2 + seeds)


def _graded_p(items: Items, spread: Spread) -> float:
    """The smallest level at which the interval excludes 0."""
    # The limit on the side of 0 decides: the lower one of a gain, the upper one of a loss.
    mean, side = items.mean, -1 if items.mean > 0 else 1
    z = side * items.level(0.0, side)
    if mean == 0 or z <= 0:
        return 1.0
    if spread.by_seeds > 0:

        def beyond(part: float) -> float:
            """Positive where the items' own limit, at this part of the way from the mean to 0, leaves no room for
            the seeds."""
            level = special.ndtr(side * items.level(mean * (1 - part), side))
            seeds = float(special.stdtrit(spread.seeds - 1, min(float(level), 1 - 1e-15)))
            return (part * mean) ** 2 + max(0.0, seeds) ** 2 * spread.by_seeds - mean**2

        # Both distances grow with the level, so that they cross once.
        if beyond(1e-6) >= 0:
            return 1.0
        part = float(optimize.brentq(beyond, 1e-6, 1.0, xtol=1e-6))
        z = side * items.level(mean * (1 - part), side)
    return float(2 * special.ndtr(-z)) if z > 0 else 1.0


def _graded_detectable(items: Items, spread: Spread) -> float | None:
    """The change that is just proven by items alone, in the harder direction, then power as in `power`."""
    free = items.bounds is None
    if not stated(spread) or (free and (items.effective < EVEN or items.lopsided > LOPSIDED)):
        return None
    most = 1.0 if items.bounds is not None else math.inf
    # The shape that was seen, moved to a mean of 0: what the items would look like without a change.
    centred = items.shifted(-items.mean)

    def just(side: int) -> float:
        """How far the centred items must be moved for the limit of `side` to reach 0."""
        # Without bounds the added item moves along, so the limit's distance does not depend on where the items lie.
        # With bounds they come nearer to the end of the scale as they move, and the shift has to be searched for.
        if items.bounds is None:
            return abs(centred.limit(Z, side))

        def excess(by: float) -> float:
            return min(50.0, max(-50.0, side * centred.shifted(-side * by).level(0.0, side) - Z))

        return 1.0 if excess(1.0) <= 0 else float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-6))

    half = max(just(-1), just(1))
    error = math.sqrt(spread.by_items) * items.unsteady(Z if free else Z / 2)  # half is the end of the scale's
    return detectable(lambda _: half, lambda _: error, most=most, **_of_seeds(spread))


def unseen(units: int, level: float = ALPHA) -> float:
    """Largest share of items that may behave otherwise although none of `units` did (97.5 %, or 1 - level / 2)."""
    # (1 - share)^units = 0.025: the chance that none of so many shows it (Clopper & Pearson's limit at no success)
    return float(1 - (level / 2) ** (1 / units))


def _clustering(spread: Spread, n: int, seeds: int) -> str:
    units = f"{spread.units} clusters" if spread.units < n else f"{n} items"
    return f"{units} x {seeds} seeds" if seeds > 1 else units


# one side, several suites -------------------------------------------------------------------


def mean_interval(
    values: Sequence[float] | Sequence[Sequence[float]] | Floats,
    *,
    weights: Sequence[float] | Floats | None = None,
    clusters: Sequence[str | None] | None = None,
    bounded: bool = True,
) -> tuple[float, float | None, float | None]:
    """(mean, low, high) of one side's scores: Wilson for right-or-wrong items (at the effective
    sample size where they are clustered or there are seeds), reweighed items otherwise. Interval
    None for fewer than two independent items (nine, without bounds). values: float[n], or float[S, n], one
    row a seed. Raises ValueError for no values."""
    v = np.atleast_2d(np.asarray(values, dtype=float))
    n = v.shape[1]
    if not n:
        raise ValueError("no values")
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    share, group = w / w.sum(), cluster_numbers(clusters, n)
    mean, spread = float(share @ v.mean(axis=0)), two_way(v, share, group)
    if bounded and np.isin(v, (0, 1)).all() and np.ptp(w) == 0:
        size = float(n)
        if spread.units < n or len(v) > 1:
            # The table of a comparison with "all wrong before": gained = mean, whose variance mean - mean^2 is that
            # of a proportion.
            size = _effective((0.0, mean, 0.0, 1 - mean), n, len(v), spread)
        return mean, *wilson(mean, size)
    if spread.units < 2 or (not bounded and spread.units < FEWEST):
        return mean, None, None
    items = Items.of(v.mean(axis=0), w, group, (0.0, 1.0) if bounded else None)
    if not bounded and spread.variance == 0:
        half = unseen(spread.units) * abs(mean)
        return mean, mean - half, mean + half
    low, high = (with_seeds(items, side, spread) for side in (-1, 1))
    return (mean, max(0.0, low), min(1.0, high)) if bounded else (mean, low, high)


def independent(values: Sequence[float] | Floats, clusters: Sequence[str | None] | None) -> float:
    """How many independent right-or-wrong items would tell as much about their mean: their number where no two share
    a cluster, at most that otherwise. values: 0 or 1. clusters as for `paired`."""
    v, group = np.asarray(values, dtype=float), cluster_numbers(clusters, len(values))
    n = len(v)
    units = int(group.max()) + 1 if n else 0
    if units == n:
        return float(n)
    mean = float(v.mean())
    return _effective((0.0, mean, 0.0, 1 - mean), n, 1, two_way(v[None], np.full(n, 1 / n), group))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): p values such that all those below 0.05 together have at
    most 5 % chance of one false alarm. None, where nothing was tested, stays None."""
    order = sorted((value, index) for index, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    # p_holm of the k-th smallest of m: the largest of (m - j + 1) p_(j) over j <= k, so that the order of the p
    # values is kept.
    highest = 0.0
    for rank, (value, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        out[index] = highest
    return out
