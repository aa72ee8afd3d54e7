"""A number made of several suites' means, with its interval over items and replicates.

Each suite has a variance of its own, by its own items or clusters, and its own degrees of freedom: a suite of four
passages beside one of 300 items says little about its mean, however many items there are in all. One factor and one
count of degrees of freedom over all items covered 85 % there, and 78 % with three passages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from mnemos.measure.power import ALPHA
from mnemos.measure.spread import cells_of, seeds_spread
from mnemos.measure.uncertainty import unseen

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One suite's item values. d: float[R, n], one row a replicate (a seed). share: float[n], the
    items' shares in the suite's mean, summing to 1. group: int[n], cluster numbers from 0. weight:
    the factor of this suite's mean in the whole. zero: the values are known to be
    0, and not only seen to be, as where nothing that answers was trained."""

    d: Floats
    share: Floats
    group: npt.NDArray[np.int64]
    weight: float = 1.0
    zero: bool = False

    @property
    def means(self) -> Floats:
        """float[R]: the suite's mean in each replicate."""
        return np.asarray(self.d @ self.share)


@dataclass(frozen=True)
class Estimate:
    """mean with its 95 % interval; p: of being 0, two-sided, uncorrected. None where nothing can be
    said, which needs two independent items."""

    mean: float
    low: float | None
    high: float | None
    p: float | None

    def __neg__(self) -> Estimate:
        """The same of the negated number."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Estimate(-self.mean, low, high, self.p)

    def as_dict(self) -> dict[str, float | None]:
        """{mean, low, high}, as results.json has it."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def estimate(parts: Sequence[Part], *, bounded: bool = True) -> Estimate:
    """sum_k weight_k * mean of part k, over items and replicates.

    The half-width squared is t(nu)^2 V_items + t(R - 1)^2 V_seeds + still^2. V_items sums the parts' variances, each
    with its small-sample factor; nu are the degrees of freedom of such a sum (Welch 1947,
    doi:10.1093/biomet/34.1-2.28). V_seeds is what the replicates add, by the rule of `spread.two_way`. still is for
    parts of which no item differs from its suite's mean: not a point, but the bound on the share of items that may do
    so unseen, in the part where that would move the whole most.

    bounded: item values lie in [-1, 1]; the ends are cut to what is possible. None without two independent items in
    every part.
    """
    size = max(float(np.abs(part.d).max()) for part in parts)
    mean, half, p = _interval(parts, 1.0 if bounded else size)
    if half is None:
        return Estimate(mean, None, None, None)
    most = sum(abs(part.weight) for part in parts) if bounded else math.inf
    return Estimate(mean, max(-most, mean - half), min(most, mean + half), p)


def half_width(parts: Sequence[Part]) -> float | None:
    """Half of the interval of `estimate`, not cut to what is possible; item values lie in [-1, 1], or as they do."""
    return _interval(parts, max(1.0, *(float(np.abs(part.d).max()) for part in parts)))[1]


def _interval(parts: Sequence[Part], scale: float) -> tuple[float, float | None, float | None]:
    """Mean, half-width and p; scale: how far an item may lie from its suite's mean without having been seen."""
    whole = np.sum([part.weight * part.means for part in parts], axis=0)  # float[R]
    mean = math.fsum(whole) / len(whole)
    found = [(part, cells_of(part.d, part.share, part.group)) for part in parts if not part.zero]
    if any(own.units < 2 for _, own in found):
        return mean, None, None
    if not found:
        return mean, 0.0, 1.0
    # A variance at the level of rounding error is none, whatever the size of the scores.
    none = (1e-12 * max(scale, 1e-300)) ** 2
    moved = [(part.weight**2 * own.items, own.units - 1) for part, own in found if own.items > none]
    still = [(abs(part.weight) * scale, own.units) for part, own in found if own.items <= none]
    v_items = math.fsum(variance for variance, _ in moved)
    nu = v_items**2 / math.fsum(variance**2 / df for variance, df in moved) if moved else math.inf
    v_seeds, _ = seeds_spread(whole, math.fsum(part.weight**2 * own.both for part, own in found))
    v_seeds = v_seeds if v_seeds > none else 0.0

    def squared(level: float) -> float:
        """The half-width squared of the interval at 1 - level."""
        items = float(special.stdtrit(nu, 1 - level / 2)) ** 2 * v_items if moved else 0.0
        seeds = float(special.stdtrit(len(whole) - 1, 1 - level / 2)) ** 2 * v_seeds if v_seeds else 0.0
        # Several still parts may hide something, and are likeliest to have hidden it where it all lies in the part of
        # which an item moves the whole most.
        hidden = max((weight * unseen(units, level) for weight, units in still), default=0.0)
        return items + seeds + hidden**2

    moving = [own.units for part, own in found if abs(float(part.means.mean())) > 1e-15]
    p = _p(mean, squared) if moved or v_seeds else _sign(moving)
    return mean, math.sqrt(squared(ALPHA)), p


def _sign(units: Sequence[int]) -> float:
    """The p of parts of which all units moved alike, or not at all: the exact sign test of the smallest that moved."""
    return min(1.0, 2 * 0.5 ** min(units)) if units else 1.0


def _p(mean: float, squared: Callable[[float], float]) -> float:
    """The smallest level at which the interval excludes 0, at least 1e-12."""

    # In logarithms, because p runs over a dozen orders of magnitude.
    def excess(log_level: float) -> float:
        return squared(math.exp(log_level)) - mean**2

    least, greatest = math.log(1e-12), -1e-9
    if excess(least) <= 0:
        return 1e-12
    return math.exp(float(optimize.brentq(excess, least, greatest))) if excess(greatest) < 0 else 1.0


def cells(part: Part) -> tuple[Floats, Floats]:
    """What a bootstrap over clusters needs: float[R, C] summed values and float[C] summed shares."""
    units = int(part.group.max()) + 1
    # Sums and shares apart, because a resampled mean is a ratio: clusters drawn twice count twice in both.
    sums = np.stack([np.bincount(part.group, weights=row, minlength=units) for row in part.d * part.share])
    return sums.astype(float), np.bincount(part.group, weights=part.share, minlength=units).astype(float)


def replicate_draws(replicates: int, draws: int, rng: np.random.Generator) -> Floats:
    """float[draws, R]: how much each replicate counts in each draw; rows sum to 1."""
    return rng.multinomial(replicates, np.full(replicates, 1 / replicates), size=draws) / replicates


def resampled(parts: Sequence[Sequence[Part]], rows: Floats, rng: np.random.Generator) -> Floats:
    """float[A, draws]: the whole of each arm under resampling of items (or clusters) and replicates.

    parts: arm -> its parts; all arms hold the same items and replicates, and every draw takes the
    same of them for all arms, so that arms stay paired. rows: from `replicate_draws`.
    Trap: with two or three replicates their spread is hardly known, and a bootstrap shows too little.
    """
    out = np.zeros((len(parts), len(rows)))
    for place, first in enumerate(parts[0]):
        units = int(first.group.max()) + 1
        # float[draws, C]: how often each cluster is drawn, one draw for all arms
        taken = rng.multinomial(units, np.full(units, 1 / units), size=len(rows)).astype(float)
        for arm, own in enumerate(parts):
            sums, shares = cells(own[place])
            size = np.maximum(taken @ shares, 1e-300)
            # taken @ sums.T: float[draws, R]; rows weighs the replicates, size: float[draws] the items
            out[arm] += own[place].weight * ((taken @ sums.T) * rows).sum(axis=1) / size
    return out
