"""A number made of several suites' means, with its interval over items and replicates.

Each suite is centred on its own mean first, so that suites of different levels do not count as
spread between items; the variance is that of `uncertainty.two_way`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnemos.measure.uncertainty import t_p, t_quantile, two_way, unseen

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One suite's item values. d: float[R, n], one row a replicate (a seed). share: float[n], the
    items' shares in the suite's mean, summing to 1. group: int[n], cluster numbers from 0. weight:
    the factor of this suite's mean in the whole."""

    d: Floats
    share: Floats
    group: npt.NDArray[np.int64]
    weight: float = 1.0

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

    bounded: item values lie in [-1, 1]. Where no item differs from its suite's mean the interval is
    the bound on the share of items that may do so unseen, never a point. Its ends are cut to what is possible.
    """
    # `two_way` knows one weighted mean, so K suites become one long row: shares divided by K sum to 1 over all
    # suites, and values times K make up for it. Each suite is centred; `whole` is added back to every item, so that
    # the mean of row s is the whole of replicate s.
    count = len(parts)
    whole = np.sum([part.weight * part.means for part in parts], axis=0)  # float[R]
    columns = [count * part.weight * (part.d - part.means[:, None]) for part in parts]  # K times float[R, n_k]
    groups, first = [], 0
    for part in parts:
        # A cluster of one suite is none of another's: items of two suites are independent.
        groups.append(part.group + first)
        first += int(part.group.max()) + 1
    d = np.concatenate(columns, axis=1) + whole[:, None]
    share = np.concatenate([part.share / count for part in parts])
    spread = two_way(d, share, np.concatenate(groups))
    mean = math.fsum(whole) / len(whole)
    if spread.units < 2:
        return Estimate(mean, None, None, None)
    size = 1.0 if bounded else max(float(np.abs(part.d).max()) for part in parts)
    # A variance at the level of rounding error is none, whatever the size of the scores.
    if spread.variance <= (1e-12 * max(size, 1e-300)) ** 2:
        # No item differs, so all that is known is how many could without having been seen; each of them by at most
        # `size` in every suite.
        half = unseen(spread.units) * size * sum(abs(part.weight) for part in parts)
    else:
        half = t_quantile(spread.df) * math.sqrt(spread.variance)
    most = sum(abs(part.weight) for part in parts) if bounded else math.inf
    return Estimate(mean, max(-most, mean - half), min(most, mean + half), t_p(mean, spread))


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
