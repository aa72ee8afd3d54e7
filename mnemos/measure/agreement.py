"""How far raters agree, beyond what chance would do: kappa, AC1, alpha, each with the prevalence that it hangs on.

One number is not enough. With 95 of 100 items in one class, two raters who agree on 95 % may have kappa 0 (the kappa
paradox), and AC1 near .95: so raw agreement, both coefficients and the shares of the classes are printed side by side.
All take a table of counts that is a sum over items, so that a bootstrap over items reweighs rows of one array.
Intervals are simulated by `python -m benchmarks judge_intervals`: docs/judges.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnemos.measure.uncertainty import mean_interval

Floats = npt.NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval"]
Label = str | float

RESAMPLES = 2_000
"""Bootstrap samples of an interval."""

FEWEST = 10
"""Items below which no interval of a coefficient is told: the bootstrap covers too rarely."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where it is not defined, and then `reason` says why."""

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str | None = None


@dataclass(frozen=True)
class Agreement:
    """Two raters on the same items.

    items: rated by both. agree: share of equal labels, ties included; without_ties: of items that neither calls a
    tie (ties: how many were left out). kappa, ac1, alpha: Cohen's, Gwet's, Krippendorff's (nominal). prevalence:
    each rater's share of every label.
    """

    items: int
    agree: Estimate
    without_ties: Estimate
    ties: int
    kappa: Estimate
    ac1: Estimate
    alpha: Estimate
    prevalence: Mapping[str, tuple[float, float]]


def cohen_kappa(table: Floats) -> float:
    """(p_o - p_e) / (1 - p_e), p_e = sum_k p_k. p_.k. table: float[K, K], counts of (first, second); NaN where p_e is
    1, that is, where both raters know one label alone."""
    p = table / table.sum()
    expected = float(p.sum(axis=1) @ p.sum(axis=0))
    return _beyond(float(np.trace(p)), expected)


def gwet_ac1(table: Floats) -> float:
    """Gwet's AC1 (doi:10.1348/000711006X126600): as kappa, with p_e = sum_k pi_k (1 - pi_k) / (K - 1), pi_k the
    mean share of label k. table as for `cohen_kappa`; K is the number of labels that exist, used or not."""
    p = table / table.sum()
    pi = (p.sum(axis=1) + p.sum(axis=0)) / 2
    expected = float(pi @ (1 - pi)) / (len(pi) - 1) if len(pi) > 1 else 1.0
    return _beyond(float(np.trace(p)), expected)


def _beyond(observed: float, expected: float) -> float:
    return math.nan if math.isclose(expected, 1.0) else (observed - expected) / (1 - expected)


def coincidences(ratings: Sequence[Sequence[Label | None]], labels: Sequence[Label]) -> Floats:
    """float[U, K, K], one table a unit: o_ck = n_c (n_k - [c = k]) / (m - 1) of its m ratings.

    ratings: one row a rater, one column a unit, None where the rater gave none. Units with fewer than two ratings
    pair with nothing, and their tables are 0.
    """
    place = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(ratings[0]), len(labels)))
    for row in ratings:
        for unit, label in enumerate(row):
            if label is not None:
                counts[unit, place[label]] += 1
    m = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - np.eye(len(labels)) * counts[:, :, None]
    return np.asarray(pairs / np.maximum(m - 1, 1)[:, None, None] * (m >= 2)[:, None, None])


def alpha_of(table: Floats, labels: Sequence[Label], metric: Metric = "nominal") -> float:
    """Krippendorff's alpha = 1 - D_o / D_e of a summed coincidence table, float[K, K]; NaN without variation.

    D_o = sum o_ck delta_ck^2 / n, D_e = sum n_c n_k delta_ck^2 / (n (n - 1)). labels: in their order, numbers for
    metrics other than nominal.
    """
    each = table.sum(axis=0)  # n_k: how often label k stands in a pair
    n = float(each.sum())
    delta = _distances(each, labels, metric)
    if n <= 1:
        return math.nan
    expected = float(each @ delta @ each) / (n * (n - 1))
    return math.nan if expected == 0 else 1 - float((table * delta).sum()) / n / expected


def _distances(each: Floats, labels: Sequence[Label], metric: Metric) -> Floats:
    if metric == "nominal":
        return np.asarray(1.0 - np.eye(len(labels)))
    # interval: (c - k)^2. ordinal: the ranks between the two, half of each end's own: (sum_{g=c..k} n_g - (n_c + n_k)
    # / 2)^2, which is the squared difference of the labels' mid-ranks.
    at = np.array(labels, dtype=float) if metric == "interval" else np.cumsum(each) - each / 2
    return np.asarray((at[:, None] - at[None, :]) ** 2)


def krippendorff_alpha(ratings: Sequence[Sequence[Label | None]], metric: Metric = "nominal") -> float:
    """Alpha of several raters, some of whose ratings may be missing (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). ratings as for `coincidences`."""
    labels = _labels(ratings, metric)
    return alpha_of(coincidences(ratings, labels).sum(axis=0), labels, metric) if labels else math.nan


def alpha_estimate(
    ratings: Sequence[Sequence[Label | None]],
    metric: Metric = "nominal",
    seed: int = 0,
    *,
    clusters: Sequence[str | None] | None = None,
) -> Estimate:
    """Alpha with its bootstrap interval over units. clusters: units with the same name are drawn together."""
    labels = _labels(ratings, metric)
    if not labels:
        return Estimate(math.nan, reason="no rating")
    tables = coincidences(ratings, labels)
    there = [int(place) for place in np.flatnonzero(tables.sum(axis=(1, 2)) > 0)]
    if not there:
        return Estimate(math.nan, reason="no item has two ratings")
    own = list(clusters) if clusters is not None else [None] * len(tables)
    paired = _by_cluster(tables[there], [own[place] for place in there])
    return bootstrap(paired, lambda table: alpha_of(table, labels, metric), seed=seed)


def _labels(ratings: Sequence[Sequence[Label | None]], metric: Metric) -> list[Label]:
    found = {label for row in ratings for label in row if label is not None}
    return sorted(found, key=str if metric == "nominal" else float)


def agreement(
    first: Sequence[str],
    second: Sequence[str],
    labels: Sequence[str],
    *,
    tie: str = "tie",
    clusters: Sequence[str | None] | None = None,
    seed: int = 0,
) -> Agreement:
    """Everything about two raters' labels of the same items. labels: all that exist; tie: the one that is a tie.
    clusters: items with the same name are not independent (two turns of a dialogue). ValueError for other labels or
    no items."""
    if not first or len(first) != len(second) or not {*first, *second} <= set(labels):
        raise ValueError("two raters' labels of the same items, all known")
    place = {label: index for index, label in enumerate(labels)}
    tables = np.zeros((len(first), len(labels), len(labels)))
    for unit, (a, b) in enumerate(zip(first, second, strict=True)):
        tables[unit, place[a], place[b]] = 1.0
    own = list(clusters) if clusters is not None else [None] * len(first)
    no_tie = [i for i, pair in enumerate(zip(first, second, strict=True)) if tie not in pair]
    whole = tables.sum(axis=0)
    both = [[a == b for a, b in zip(first, second, strict=True)][i] for i in no_tie]
    units = _by_cluster(tables, own)
    symmetric = np.asarray(units + units.transpose(0, 2, 1))
    return Agreement(
        items=len(first),
        agree=_share([float(a == b) for a, b in zip(first, second, strict=True)], own),
        without_ties=_share([float(one) for one in both], [own[i] for i in no_tie]),
        ties=len(first) - len(no_tie),
        kappa=bootstrap(units, cohen_kappa, seed=seed),
        ac1=bootstrap(units, gwet_ac1, seed=seed, rare=False),
        alpha=bootstrap(symmetric, lambda table: alpha_of(table, labels), seed=seed),
        prevalence={
            label: (float(whole[k].sum() / whole.sum()), float(whole[:, k].sum() / whole.sum()))
            for label, k in place.items()
        },
    )


def _share(values: Sequence[float], clusters: Sequence[str | None]) -> Estimate:
    if not values:
        return Estimate(math.nan, reason="no such item")
    mean, low, high = mean_interval(values, clusters=clusters)
    return Estimate(mean, math.nan if low is None else low, math.nan if high is None else high)


def _by_cluster(tables: Floats, clusters: Sequence[str | None]) -> Floats:
    """One table a cluster, the sum of its items': what is drawn together in a bootstrap."""
    numbers: dict[object, int] = {}
    group = [
        numbers.setdefault(("alone", i) if name is None else name, len(numbers)) for i, name in enumerate(clusters)
    ]
    out = np.zeros((len(numbers), *tables.shape[1:]))
    np.add.at(out, group, tables)
    return out


def bootstrap(units: Floats, statistic: Callable[[Floats], float], *, seed: int = 0, rare: bool = True) -> Estimate:
    """statistic(sum of tables), with its percentile interval over resampled units, float[U, K, K].

    Resamples without a value (one label alone was drawn) are left out; where they are more than one in twenty, or the
    units fewer than `FEWEST`, there is no interval. rare: nor where fewer than `FEWEST` units have another label than
    the most common one, on which kappa and alpha hang: of 20 units with 3 such, 72 of 100 intervals cover.
    """
    value = statistic(units.sum(axis=0))
    if math.isnan(value):
        return Estimate(value, reason="one label alone: chance agreement is 1, or nothing varies")
    n = len(units)
    if n < FEWEST:
        return Estimate(value, reason=f"fewer than {FEWEST} independent items: no interval")
    whole = units.sum(axis=0)
    common = float((whole.sum(axis=0) + whole.sum(axis=1)).max() / (2 * whole.sum()))
    if rare and (1 - common) * n < FEWEST:
        return Estimate(value, reason=f"fewer than {FEWEST} items of the rarer labels: no interval")
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    # int[B, U] @ float[U, K * K]: every resample's table in one product.
    tables = (weights @ units.reshape(n, -1)).reshape(RESAMPLES, *units.shape[1:])
    drawn = np.array([statistic(table) for table in tables])
    there = drawn[np.isfinite(drawn)]
    if len(there) < 0.95 * RESAMPLES:
        return Estimate(value, reason="too few items of the rarer label: no interval")
    low, high = np.quantile(there, (0.025, 0.975))
    return Estimate(value, float(low), float(high))
