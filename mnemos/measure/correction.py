"""What a judge's verdicts say after its own errors are taken off, by a small set of human labels.

A judge that calls 15 of 100 bad answers good and misses 10 of 100 good ones does not report the share of good answers.
Two corrections, both with intervals that know how many labels stand behind them:

- Rogan-Gladen with the interval of arXiv:2511.21140: needs right-or-wrong verdicts, and the judge's sensitivity and
  specificity from labels, which may be of other items.
- prediction-powered inference with power tuning (arXiv:2301.09633, arXiv:2311.01453): needs labels of a random part of
  the same items, and takes graded verdicts, ties as halves among them.

Trap: a judge's errors differ between models (its own answers, a style it likes), and then one correction for both says
something false about their difference: estimate them for each model. Coverage is simulated by
`python -m benchmarks judge_intervals`: docs/judges.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnemos.measure.proportions import Z, wilson
from mnemos.measure.spread import cluster_numbers, t_quantile, two_way
from mnemos.measure.uncertainty import independent

Floats = npt.NDArray[np.float64]

FEWEST = 10
"""Labels below which prediction-powered inference tells no interval: their variance is hardly known."""

MOST_LABELS = 1_000_000


@dataclass(frozen=True)
class Rates:
    """A judge's right verdicts on items that people labelled. sensitivity: share of the human-right that it calls
    right, of `right` items; specificity: share of the human-wrong that it calls wrong, of `wrong` items. NaN where
    there is no such item. sizes: how many independent items of each would tell as much, where several are of one
    cluster; intervals are those of so many."""

    sensitivity: float
    right: int
    specificity: float
    wrong: int
    sizes: tuple[float, float] | None = None

    @property
    def independent(self) -> tuple[float, float]:
        """Items of each kind, human-right and human-wrong, as far as they are independent."""
        return (self.right, self.wrong) if self.sizes is None else self.sizes

    @property
    def informative(self) -> bool:
        """Whether verdicts say anything: sensitivity + specificity above 1, which is what a coin has."""
        return self.sensitivity + self.specificity > 1

    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Wilson's 95 % intervals of sensitivity and specificity; NaN where there is no item."""
        none, (right, wrong) = (math.nan, math.nan), self.independent
        return (
            wilson(self.sensitivity, right) if self.right else none,
            wilson(self.specificity, wrong) if self.wrong else none,
        )


def rates(judged: Sequence[bool], human: Sequence[bool], clusters: Sequence[str | None] | None = None) -> Rates:
    """From verdicts and labels of the same items. clusters: items with the same name are not independent (two turns of
    a dialogue); None is a cluster of its own."""
    own = list(clusters) if clusters is not None else [None] * len(judged)
    rows = list(zip(judged, human, own, strict=True))
    right, wrong = [(j, c) for j, h, c in rows if h], [(j, c) for j, h, c in rows if not h]
    sizes = tuple(independent([j for j, _ in side], [c for _, c in side]) for side in (right, wrong))
    return Rates(
        sum(j for j, _ in right) / len(right) if right else math.nan,
        len(right),
        1 - sum(j for j, _ in wrong) / len(wrong) if wrong else math.nan,
        len(wrong),
        None if sizes == (len(right), len(wrong)) else (sizes[0], sizes[1]),
    )


@dataclass(frozen=True)
class Corrected:
    """A corrected share or mean with its 95 % interval, beside what the judge alone says. reason: why there is none,
    or why it has no interval. tuning: the weight of the verdicts in prediction-powered inference."""

    value: float
    low: float
    high: float
    naive: float
    naive_low: float
    naive_high: float
    reason: str | None = None
    tuning: float | None = None

    @property
    def width(self) -> float:
        """high - low."""
        return self.high - self.low


def rogan_gladen(p: float, n: float, found: Rates) -> Corrected:
    """theta = clip((p + q0 - 1) / (q0 + q1 - 1)), q0 specificity, q1 sensitivity; interval as in arXiv:2511.21140,
    eq. 8 to 12: add-on smoothing of p by z^2 / 2 and of q0, q1 by one right and one wrong label each, a shift of the
    centre, and the delta method's variance.

    p: share judged right of n items, or of as many as `independent` says of clustered ones. NaN with a reason where the
    judge is no better than a coin, or labels are missing.
    """
    naive = (p, *wilson(p, n))
    if not found.right or not found.wrong:
        return Corrected(math.nan, math.nan, math.nan, *naive, "no human label of one of the two kinds")
    q0, q1, (m1, m0) = found.specificity, found.sensitivity, found.independent
    if not found.informative:
        return Corrected(
            math.nan, math.nan, math.nan, *naive, "sensitivity + specificity is at most 1: no better than a coin"
        )
    theta = min(1.0, max(0.0, (p + q0 - 1) / (q0 + q1 - 1)))
    z2 = Z * Z
    ps, ns = (n * p + z2 / 2) / (n + z2), n + z2
    q0s, q1s, m0s, m1s = (m0 * q0 + 1) / (m0 + 2), (m1 * q1 + 1) / (m1 + 2), m0 + 2, m1 + 2
    if q0s + q1s <= 1:
        return Corrected(theta, 0.0, 1.0, *naive, "too few labels to tell the judge from a coin")
    centre = min(1.0, max(0.0, (ps + q0s - 1) / (q0s + q1s - 1)))
    v0, v1 = q0s * (1 - q0s) / m0s, q1s * (1 - q1s) / m1s
    shift = 2 * z2 * (-(1 - centre) * v0 + centre * v1)
    error = math.sqrt(ps * (1 - ps) / ns + (1 - centre) ** 2 * v0 + centre**2 * v1) / (q0s + q1s - 1)
    low, high = (min(1.0, max(0.0, centre + shift + side * Z * error)) for side in (-1, 1))
    return Corrected(theta, low, high, *naive)


def prediction_powered(
    labelled: Sequence[float],
    verdicts: Sequence[float],
    others: Sequence[float],
    *,
    clusters: Sequence[str | None] | None = None,
    other_clusters: Sequence[str | None] | None = None,
) -> Corrected:
    """The mean of human labels over all items, from labels of some and verdicts on all.

    labelled: float[n], human values in [0, 1] of a random sample; verdicts: float[n], the judge's on the same;
    others: float[N], the judge's on the items without a label. clusters, other_clusters: of the labelled items and of
    the others; items with the same name in either are not independent. With tuning t:

        theta = mean(labelled) + t (mean(others) - mean(verdicts)),  t = cov(y, f) / ((1 + n / N) var(f)) in [0, 1]

    and variance t^2 var(f) / N + var(y - t f) / n, Student's t with n - 1 degrees of freedom. Of clustered items the
    residuals of a cluster are summed before they are squared, and clusters are counted for items.
    Deviations from the papers: 1. Student's quantile for the normal one, since labels are few; 2. t is cut to [0, 1],
    so that a judge that says nothing leaves the plain mean of the labels; 3. the interval is that of the labels and
    one more of 0 and one of 1, whose verdicts are the mean verdict (as Agresti and Coull add to a proportion): without
    them 30 labels of which 28 agree cover in 78 of 100 samples, with them in 97.
    """
    y, f, u = (np.asarray(one, dtype=float) for one in (labelled, verdicts, others))
    n, more = len(y), len(u)
    group = cluster_numbers(_names(clusters, n) + _names(other_clusters, more), n + more)
    # Clusters among the labelled items, and among the others.
    units, more_units = len(np.unique(group[:n])), len(np.unique(group[n:]))
    every = np.concatenate([f, u])
    naive_mean = float(every.mean()) if len(every) else math.nan
    half = _half(every, group)
    naive = (naive_mean, naive_mean - half, naive_mean + half)
    if n < 2:
        return Corrected(math.nan, math.nan, math.nan, *naive, "fewer than two human labels")
    tuning = 0.0
    # One cluster of others does not show how far their mean may lie off.
    if more and (more_units > 1 or more == 1):
        spread = float(np.concatenate([f, u]).var(ddof=1))
        if spread > 0:
            tuning = float(np.clip(np.cov(y, f, ddof=1)[0, 1] / ((1 + n / more) * spread), 0.0, 1.0))
    value = float(y.mean()) + (tuning * float(u.mean() - f.mean()) if more else 0.0)
    value = min(1.0, max(0.0, value))
    if units < FEWEST:
        labels = "labels" if units == n else "independent labels"
        return Corrected(value, math.nan, math.nan, *naive, f"fewer than {FEWEST} {labels}: no interval", tuning)
    ys, fs = np.append(y, (0.0, 1.0)), np.append(f, (f.mean(), f.mean()))
    # The two that are added weigh what a cluster does on average, which is one item where none shares one.
    share = np.append(np.ones(n), [n / units] * 2)
    share /= share.sum()
    centre = float(share @ ys) + (tuning * float(u.mean() - share @ fs) if more else 0.0)
    # float[n + 2] and float[N]: what each item adds to the estimate's distance from itself. C / (C - 1) makes up for
    # means that are taken from the same clusters.
    rest = ys - tuning * fs
    own = share * (rest - share @ rest) * math.sqrt((units + 2) / (units + 1))
    others_own = (
        (u - u.mean()) * (tuning / more * math.sqrt(more_units / (more_units - 1))) if more_units > 1 else 0 * u
    )
    alone = int(group.max()) + 1
    sums = np.bincount([*group[:n], alone, alone + 1, *group[n:]], weights=np.concatenate([own, others_own]))
    half = t_quantile(units + 1) * math.sqrt(float(sums @ sums))
    return Corrected(value, max(0.0, centre - half), min(1.0, centre + half), *naive, None, tuning)


def _names(clusters: Sequence[str | None] | None, n: int) -> list[str | None]:
    return [None] * n if clusters is None else list(clusters)


def _half(values: Floats, group: npt.NDArray[np.int64]) -> float:
    """Half the interval of a mean: of the normal distribution, of Student's where clusters take the place of items."""
    n = len(values)
    if n < 2:
        return math.nan
    units = int(group.max()) + 1
    if units == n:
        return Z * float(values.std(ddof=1)) / math.sqrt(n)
    if units < 2:
        return math.nan
    return t_quantile(units - 1) * math.sqrt(two_way(values[None], np.full(n, 1 / n), group).variance)


def divided(labels: int, p: float, found: Rates) -> tuple[int, int]:
    """How a budget of labels is best spent: (human-wrong, human-right), by m1 = m / (1 + (1 / p - 1) sqrt(kappa)),
    kappa = (1 - q0) / (1 - q1), from a pilot's smoothed rates (arXiv:2511.21140). Each gets at least one."""
    q0, q1 = _smoothed(found)
    share = min(max(p, 1e-6), 1 - 1e-6)
    right = labels / (1 + (1 / share - 1) * math.sqrt((1 - q0) / (1 - q1)))
    right_labels = min(labels - 1, max(1, round(right)))
    return labels - right_labels, right_labels


def _smoothed(found: Rates) -> tuple[float, float]:
    return (
        (found.wrong * found.specificity + 1) / (found.wrong + 2),
        (found.right * found.sensitivity + 1) / (found.right + 2),
    )


def labels_needed(width: float, p: float, n: float, found: Rates) -> int | None:
    """Smallest number of human labels, spent as `divided` says, for an interval of this width; None where no number
    does, because the n judged items alone leave a wider one (or the judge is no better than a coin).

    p, found: from a pilot; n as for `rogan_gladen`. Labels are counted as if each were of a cluster of its own.
    Trap: the pilot's own error is in the answer; take it as a size, not as a promise.
    """
    if not 0 < width < 1:
        raise ValueError(f"width = {width}: between 0 and 1")
    if not found.right or not found.wrong or not found.informative:
        return None
    q0, q1 = _smoothed(found)

    def expected(labels: int) -> float:
        wrong, right = divided(labels, p, found)
        return rogan_gladen(p, n, Rates(q1, right, q0, wrong)).width

    low, high = 2, MOST_LABELS
    if expected(high) > width:
        return None
    # The width falls with the number of labels, but for rounding to whole ones.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if expected(middle) <= width else (middle, high)
    return high
