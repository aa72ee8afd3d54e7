"""What can be said about a difference from a finite number of items and seeds.

`paired` compares two score vectors of the same items. Which method it uses follows from the data:

right or wrong, one seed      McNemar's exact p, Newcombe's interval (method 10)
graded or weighted, one seed  bootstrap over items (BCa, 10,000), p of the paired t statistic
clusters or several seeds     two-way cluster variance (items crossed with seeds), Student's t; for
                              right-or-wrong items the same variance sets the effective sample size of
                              Newcombe's interval

Intervals are two-sided at 95 %. None of them shrinks to a point when no item changed: not having
seen a change in n items is evidence about small changes only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 10_000
Z = float(stats.norm.ppf(1 - ALPHA / 2))
SMALL = 10
"""Items below which too few resamples differ for a bootstrap, and Student's t is used instead."""


@dataclass(frozen=True)
class Paired:
    """A paired difference, in the scores' own scale.

    before, after: means over items (and seeds), None without a score. delta = after - before. low, high: 95 % interval,
    None where none can be had. p: of no difference, two-sided, uncorrected. minimum_detectable: the
    size of change that this many items would have shown in 8 of 10 repetitions (80 % power at
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


@dataclass(frozen=True)
class Spread:
    """Variance of a mean and its degrees of freedom. units: independent items or clusters."""

    variance: float
    df: float
    units: int


def paired(
    before: Sequence[float] | Floats,
    after: Sequence[Sequence[float]] | Floats,
    *,
    weights: Sequence[float] | Floats | None = None,
    clusters: Sequence[str | None] | None = None,
    bounded: bool = True,
    seed: int = 0,
) -> Paired:
    """Compare n items before and after.

    before: float[n]. after: float[S, n], one row a seed. weights: float[n], the items' shares in the
    means (bytes for bits per byte). clusters: items with the same name are not independent; None is
    a cluster of its own. bounded: scores lie in [0, 1]. seed: of the bootstrap.
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
    d = y - x
    group = cluster_numbers(clusters, n)
    spread = two_way(d, share, group)
    means = float(share @ x), float(share @ y.mean(axis=0))
    plain = len(d) == 1 and spread.units == n
    if bounded and np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all() and np.ptp(w) == 0:
        return _right_or_wrong(x, y, means, spread, plain)
    return _graded(d, share, means, spread, plain, bounded, max(np.abs(x).max(), np.abs(y).max()), seed)


def cluster_numbers(clusters: Sequence[str | None] | None, n: int) -> npt.NDArray[np.int64]:
    """Cluster names as numbers 0..C-1; None is a cluster of one item."""
    names: list[Any] = list(clusters) if clusters is not None else [None] * n
    keys = [("own", index) if name is None else ("named", name) for index, name in enumerate(names)]
    number = {key: count for count, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def two_way(d: Floats, share: Floats, group: npt.NDArray[np.int64]) -> Spread:
    """Variance of sum_i share_i * mean_s d[s, i], with items (or clusters of them) and seeds both
    drawn at random.

    V = V_items + max(0, V_seeds - V_both) (Cameron, Gelbach & Miller 2011, doi:10.1198/jbes.2010.07136;
    for balanced items the variance components of a crossed two-way layout), each with its
    small-sample factor. Degrees of freedom: those whose t quantile is Cochran's, the mean of the
    squared quantiles weighted by the two variances; Satterthwaite's are too many for few seeds.
    Simulated coverage of 95 %: 94 to 97 for three seeds or more, 91 to 97 for two, whose spread is
    hardly known. One seed leaves the clustered standard error of Miller (arXiv:2411.00640).
    d: float[S, n]. share: float[n], sum 1. group: int[n], cluster numbers from 0.
    """
    seeds, units = len(d), int(group.max()) + 1
    per_seed = d @ share
    delta = per_seed.mean()
    item = d.mean(axis=0)
    by_unit = np.bincount(group, weights=share * (item - delta), minlength=units)
    factor = units / (units - 1) if units > 1 else math.inf
    v_items = factor * float(by_unit @ by_unit) if units > 1 else math.inf
    rounding = (1e-12 * float(np.abs(d).max())) ** 2
    v_items = v_items if v_items > rounding else 0.0
    if seeds == 1:
        return Spread(v_items, units - 1, units)
    v_seeds = float(per_seed.var(ddof=1)) / seeds
    rest = share * (d - item - per_seed[:, None] + delta)
    cells = np.stack([np.bincount(group, weights=row, minlength=units) for row in rest])
    v_both = factor * float((cells**2).sum()) / (seeds * (seeds - 1)) if units > 1 else 0.0
    more = max(0.0, v_seeds - v_both)
    if not math.isfinite(v_items) or more <= rounding:
        return Spread(v_items, units - 1, units)
    total, q_items, q_seeds = v_items + more, t_quantile(units - 1), t_quantile(seeds - 1)
    return Spread(total, _df(math.sqrt((q_items**2 * v_items + q_seeds**2 * more) / total)), units)


def t_quantile(df: float) -> float:
    """The 97.5 % quantile of Student's t."""
    return float(special.stdtrit(df, 1 - ALPHA / 2))


def _df(quantile: float) -> float:
    """Degrees of freedom at which `t_quantile` is `quantile`."""
    if quantile <= t_quantile(1e6):
        return 1e6
    return float(optimize.brentq(lambda df: t_quantile(df) - quantile, 1.0, 1e6)) if quantile < t_quantile(1.0) else 1.0


# right or wrong -----------------------------------------------------------------------------


def _right_or_wrong(x: Floats, y: Floats, means: tuple[float, float], spread: Spread, plain: bool) -> Paired:
    n = len(x)
    gained, lost = float(((y == 1) & (x == 0)).mean()), float(((y == 0) & (x == 1)).mean())
    both = float(((y == 1) & (x == 1)).mean())
    table = (both, gained, lost, max(0.0, 1 - both - gained - lost))
    if plain:
        size, p = float(n), mcnemar_p(round(gained * n), round(lost * n))
        method = "McNemar exact, Newcombe"
    else:
        size, p = _effective(table, n, len(y), spread), t_p(means[1] - means[0], spread)
        method = f"{_clustering(spread, n, len(y))}, Newcombe at n = {size:.0f}"
    low, high = newcombe(table, size)
    return Paired(*means, means[1] - means[0], low, high, p, mcnemar_detectable(gained + lost, size), method)


def _effective(table: tuple[float, float, float, float], n: int, seeds: int, spread: Spread) -> float:
    """Independent right-or-wrong items that would tell as much: n / design effect, reduced for few
    degrees of freedom (Korn & Graubard 1998), never above n * seeds."""
    _, gained, lost, _ = table
    naive = (gained + lost - (gained - lost) ** 2) / n
    if spread.units < 2:
        return 1.0
    few = (Z / t_quantile(spread.df)) ** 2
    if spread.variance <= 0 or naive <= 0:
        return max(1.0, spread.units * few)  # nothing varied: as if whole clusters moved together
    return float(np.clip(n * naive / spread.variance, 1.0, n * seeds)) * few


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact two-sided McNemar test: min(1, 2 * P[Binomial(gained + lost, 1/2) <= min(gained, lost)])."""
    flips = gained + lost
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), flips, 0.5))) if flips else 1.0


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; n may be an effective sample size."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def newcombe(table: tuple[float, float, float, float], n: float) -> tuple[float, float]:
    """95 % interval of p_after - p_before for paired proportions.

    Method 10 of Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C:
    Wilson intervals of both margins, squared and added with the (continuity-corrected) correlation.
    table: shares (right twice, right after only, right before only, wrong twice), summing to 1.
    """
    both, gained, lost, neither = table
    after, before = both + gained, both + lost
    (la, ua), (lb, ub) = wilson(after, n), wilson(before, n)
    product = after * (1 - after) * before * (1 - before)
    cross = both * neither - gained * lost
    corrected = cross if cross < 0 else max(0.0, cross - 0.5 / n)
    phi = corrected / math.sqrt(product) if product > 0 else 0.0
    below = (after - la) ** 2 - 2 * phi * (after - la) * (ub - before) + (ub - before) ** 2
    above = (ua - after) ** 2 - 2 * phi * (ua - after) * (before - lb) + (before - lb) ** 2
    delta = gained - lost
    return max(-1.0, delta - math.sqrt(max(0.0, below))), min(1.0, delta + math.sqrt(max(0.0, above)))


def mcnemar_detectable(discordance: float, n: float) -> float:
    """The change that n right-or-wrong items show with 80 % power at two-sided alpha 0.05.

    Solves n = (z_a sqrt(psi) + z_b sqrt(psi - delta^2))^2 / delta^2 for delta (Connor 1987,
    doi:10.2307/2531961) with psi the observed share of items that flipped, or delta where that is
    larger: a change cannot be smaller than the flips that make it up. At most 1.
    """
    z_a, z_b = Z, float(stats.norm.ppf(POWER))

    def excess(delta: float) -> float:
        psi = max(discordance, delta)
        return z_a * math.sqrt(psi) + z_b * math.sqrt(max(0.0, psi - delta * delta)) - delta * math.sqrt(n)

    return 1.0 if excess(1.0) >= 0 else float(optimize.brentq(excess, 1e-12, 1.0))


# graded -------------------------------------------------------------------------------------


def _graded(
    d: Floats,
    share: Floats,
    means: tuple[float, float],
    spread: Spread,
    plain: bool,
    bounded: bool,
    scale: float,
    seed: int,
) -> Paired:
    delta, n = means[1] - means[0], d.shape[1]
    if spread.units < 2:
        whole = (-1.0, 1.0) if bounded else (None, None)
        return Paired(*means, delta, whole[0], whole[1], None, None, "one independent item: no interval")
    p = t_p(delta, spread)
    # A variance at the level of rounding error is none: items that all moved alike.
    if spread.variance <= (1e-12 * max(scale, 1e-300)) ** 2:
        half = unseen(spread.units) * (1.0 if bounded else scale)
        low, high, method = delta - half, delta + half, "all items moved alike: bound on the share that would not"
        detectable = half
    elif plain and n >= SMALL:
        low, high = bca(d[0], share, seed, t_quantile(n - 1) * math.sqrt(n / (n - 1)))
        method, detectable = "bootstrap over items (BCa)", _t_detectable(spread)
    else:
        half = t_quantile(spread.df) * math.sqrt(spread.variance)
        low, high, method = delta - half, delta + half, f"{_clustering(spread, n, len(d))}, Student t"
        detectable = _t_detectable(spread)
    if bounded:
        low, high = max(-1.0, low), min(1.0, high)
    return Paired(*means, delta, low, high, p, detectable, method)


def unseen(units: int) -> float:
    """Largest share of items that may behave otherwise although none of `units` did (97.5 %)."""
    return float(1 - (ALPHA / 2) ** (1 / units))


def bca(d: Floats, share: Floats, seed: int, quantile: float = Z) -> tuple[float, float]:
    """Bias-corrected accelerated bootstrap interval (Efron 1987, doi:10.2307/2289144) of the weighted
    mean difference sum(share * d) / sum(share) over items drawn with replacement; 10,000 draws.

    quantile: 1.96 is the published interval; `paired` passes sqrt(n / (n - 1)) times that of
    Student's t, because resampling alone is too narrow for small n (Hesterberg 2015,
    arXiv:1411.5279). Deterministic in `seed`.
    """
    n, delta = len(d), float(share @ d)
    rng = np.random.default_rng(seed)
    draws = np.empty(RESAMPLES)
    step, even = max(1, 1_000_000 // n), np.ptp(share) == 0
    for start in range(0, RESAMPLES, step):
        picked = rng.integers(n, size=(min(step, RESAMPLES - start), n), dtype=np.int32)
        whole = len(picked[0]) * share[0] if even else share[picked].sum(axis=1)
        draws[start : start + len(picked)] = (share * d)[picked].sum(axis=1) / whole
    tolerance = 1e-12 * max(1e-300, float(np.abs(d).max()))
    below = ((draws < delta - tolerance).mean() + (draws <= delta + tolerance).mean()) / 2
    z0 = float(stats.norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)))
    jack = (delta - share * d) / (1 - share)
    bend = jack.mean() - jack
    scale = float((bend**2).sum()) ** 1.5
    a = float((bend**3).sum()) / (6 * scale) if scale > 0 else 0.0
    levels = [float(stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))) for z in (-quantile, quantile)]
    low, high = np.quantile(draws, levels)
    return float(low), float(high)


def t_p(delta: float, spread: Spread) -> float:
    """Two-sided p of no difference: Student's t, or the sign test where every unit moved alike."""
    if spread.units < 2:
        return 1.0
    if spread.variance <= 0:  # every unit moved alike: the exact sign test
        return 1.0 if abs(delta) < 1e-15 else min(1.0, 2 * 0.5**spread.units)
    return float(2 * special.stdtr(spread.df, -abs(delta) / math.sqrt(spread.variance)))


def _t_detectable(spread: Spread) -> float:
    """(t_{1-alpha/2} + t_{power}) standard errors."""
    return (t_quantile(spread.df) + float(stats.t.ppf(POWER, spread.df))) * math.sqrt(spread.variance)


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
    sample size where they are clustered or there are seeds), Student's t over clusters otherwise. Interval
    None for fewer than two independent items. values: float[n], or float[S, n], one row a seed. Raises
    ValueError for no values."""
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
            size = _effective((0.0, mean, 0.0, 1 - mean), n, len(v), spread)
        return mean, *wilson(mean, size)
    if spread.units < 2:
        return mean, None, None
    half = t_quantile(spread.df) * math.sqrt(spread.variance)
    if half == 0:
        half = unseen(spread.units) * (1.0 if bounded else abs(mean))
    low, high = mean - half, mean + half
    return (mean, max(0.0, low), min(1.0, high)) if bounded else (mean, low, high)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): p values such that all those below 0.05 together have at
    most 5 % chance of one false alarm. None, where nothing was tested, stays None."""
    order = sorted((value, index) for index, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        out[index] = highest
    return out
