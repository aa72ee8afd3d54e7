"""How far a mean over items and seeds may lie off by chance: variances of a crossed layout, Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from mnemos.measure.power import ALPHA

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Variance of a mean and its degrees of freedom. units: independent items or clusters.

    Of several seeds: by_seeds, the part of the variance that is added for their spread; excess, an estimate of the
    seeds' own variance, whose root is right on average; noise, what items leave in the seeds' means.
    """

    variance: float
    df: float
    units: int
    seeds: int = 1
    by_seeds: float = 0.0
    excess: float = 0.0
    noise: float = 0.0

    @property
    def by_items(self) -> float:
        """The part of the variance that items (or clusters) make."""
        return self.variance - self.by_seeds


@dataclass(frozen=True)
class Cells:
    """What items (or clusters) leave in a mean over items and seeds. items: the variance that their means make. both:
    that of items and seeds together, which `items` and the variance of the seeds' means hold once each; 0 for one
    seed. units: independent items or clusters. rounding: a variance up to this is none."""

    items: float
    both: float
    units: int
    rounding: float


def cells_of(d: Floats, share: Floats, group: npt.NDArray[np.int64]) -> Cells:
    """The variances of sum_i share_i * mean_s d[s, i] that items make, alone and with the seeds.

    d: float[S, n]. share: float[n], sum 1. group: int[n], cluster numbers from 0. Without two units `items` is
    infinite.
    """
    # S seeds, n items, C clusters. Model: d[s, i] = delta + item_i + seed_s + both_si, each drawn at random.
    seeds, units = len(d), int(group.max()) + 1
    # Squares of what floating-point sums leave of items that all moved alike; taken for a variance, they would give
    # an interval of no width.
    rounding = (1e-12 * float(np.abs(d).max())) ** 2
    if units < 2:
        return Cells(math.inf, 0.0, units, rounding)
    per_seed = d @ share  # float[S]
    delta = per_seed.mean()
    item = d.mean(axis=0)  # float[n]
    # float[C]: what each cluster adds to the mean's distance from itself. Items of one cluster are summed before
    # they are squared, so that their covariance counts; C / (C - 1) makes up for the mean being taken from the same
    # clusters.
    by_unit = np.bincount(group, weights=share * (item - delta), minlength=units)
    factor = units / (units - 1)
    items = factor * float(by_unit @ by_unit)
    if seeds == 1:
        return Cells(items if items > rounding else 0.0, 0.0, units, rounding)
    # float[S, n]: the interaction alone, d[s, i] minus the means of its item and of its seed plus the mean of all.
    rest = share * (d - item - per_seed[:, None] + delta)
    cells = np.stack([np.bincount(group, weights=row, minlength=units) for row in rest])
    # (S - 1) (C - 1) degrees of freedom are left to it, of the S C cells.
    both = factor * float((cells**2).sum()) / (seeds * (seeds - 1))
    return Cells(items if items > rounding else 0.0, both, units, rounding)


def seeds_spread(means: Floats, both: float) -> tuple[float, float]:
    """Of the means of S seeds (float[S]): what their spread adds to the variance of the mean, and an estimate of the
    seeds' own variance. both: what items and seeds together leave in those means; 0 and 0 for one seed."""
    seeds = len(means)
    if seeds == 1:
        return 0.0, 0.0
    # Both the items' variance and v_seeds hold the interaction once: E v_items = V(item) + V(both), E v_seeds =
    # V(seed) + V(both), as variances of the mean. Their sum counts it twice, so it comes off once.
    v_seeds = float(means.var(ddof=1)) / seeds
    return max(0.0, v_seeds - share_taken_off(seeds) * both), max(0.0, v_seeds - both) / unbiased(seeds) ** 2


def cluster_numbers(clusters: Sequence[str | None] | None, n: int) -> npt.NDArray[np.int64]:
    """Cluster names as numbers 0..C-1; None is a cluster of one item."""
    names: list[Any] = list(clusters) if clusters is not None else [None] * n
    keys = [("own", index) if name is None else ("named", name) for index, name in enumerate(names)]
    number = {key: count for count, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def two_way(d: Floats, share: Floats, group: npt.NDArray[np.int64]) -> Spread:
    """Variance of sum_i share_i * mean_s d[s, i], with items (or clusters of them) and seeds both
    drawn at random.

    V = V_items + max(0, V_seeds - k V_both) (Cameron, Gelbach & Miller 2011, doi:10.1198/jbes.2010.07136; with
    k = 1 the variance components of a crossed two-way layout), each with its small-sample factor. Two to five
    seeds cannot tell their own spread from what items leave in it, and with k = 1 the interval covers 86 % in
    the worst case; `share_taken_off` is the largest k that covers 93 %. Degrees of freedom: those whose t quantile
    is Cochran's, the mean of the squared quantiles weighted by the two variances, which makes the interval that of
    MOVER; Satterthwaite's are too many for few seeds. One seed leaves the clustered standard error of Miller
    (arXiv:2411.00640).
    d: float[S, n]. share: float[n], sum 1. group: int[n], cluster numbers from 0.
    """
    found = cells_of(d, share, group)
    seeds, units, v_items = len(d), found.units, found.items
    if seeds == 1:
        return Spread(v_items, units - 1, units)
    more, excess = seeds_spread(d @ share, found.both)
    # No spread of the seeds beyond that of the items: their few degrees of freedom must not widen the interval
    # either.
    if not math.isfinite(v_items) or more <= found.rounding:
        return Spread(v_items, units - 1, units, seeds, 0.0, excess, found.both)
    total, q_items, q_seeds = v_items + more, t_quantile(units - 1), t_quantile(seeds - 1)
    # t(df)^2 (v_items + more) = t(C - 1)^2 v_items + t(S - 1)^2 more: the half-width squared of MOVER.
    df = _df(math.sqrt((q_items**2 * v_items + q_seeds**2 * more) / total))
    return Spread(total, df, units, seeds, more, excess, found.both)


def share_taken_off(seeds: int) -> float:
    """How much of what items leave in the spread of `seeds` means is taken off again: 0.1 for two, near 1 for
    many. Chosen by simulation of normal items and seeds, as the most for which no mixture of the two is
    covered less than 93 % of the time."""
    return 1 - 0.9 / (seeds - 1)


def unbiased(seeds: int) -> float:
    """c4: the standard deviation of so many normal numbers over the true one, on average."""
    return math.sqrt(2 / (seeds - 1)) * math.gamma(seeds / 2) / math.gamma((seeds - 1) / 2)


def t_quantile(df: float) -> float:
    """The 97.5 % quantile of Student's t."""
    return float(special.stdtrit(df, 1 - ALPHA / 2))


def _df(quantile: float) -> float:
    """Degrees of freedom at which `t_quantile` is `quantile`."""
    # The ends of what brentq can search: the normal distribution on one side, one degree of freedom on the other.
    if quantile <= t_quantile(1e6):
        return 1e6
    return float(optimize.brentq(lambda df: t_quantile(df) - quantile, 1.0, 1e6)) if quantile < t_quantile(1.0) else 1.0


def t_p(delta: float, spread: Spread) -> float:
    """Two-sided p of no difference: the smallest level at which Student's interval excludes 0, or the sign test
    where every unit moved alike."""
    if spread.units < 2:
        return 1.0
    if spread.variance <= 0:  # every unit moved alike: the exact sign test
        return 1.0 if abs(delta) < 1e-15 else min(1.0, 2 * 0.5**spread.units)
    if spread.by_seeds <= 0:
        return float(2 * special.stdtr(spread.df, -abs(delta) / math.sqrt(spread.variance)))

    # The half-width squared at level p = exp(log_level), minus delta squared: its root is the level whose interval
    # ends at 0. In logarithms, because p runs over a dozen orders of magnitude.
    def excess(log_level: float) -> float:
        level = 1 - math.exp(log_level) / 2
        items, seeds = (float(special.stdtrit(df, level)) for df in (spread.units - 1, spread.seeds - 1))
        return items**2 * spread.by_items + seeds**2 * spread.by_seeds - delta**2

    least = math.log(1e-12)
    if excess(least) <= 0:
        return 1e-12
    return math.exp(float(optimize.brentq(excess, least, -1e-9))) if excess(-1e-9) < 0 else 1.0
