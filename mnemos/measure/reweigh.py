"""Limits of a mean from reweighing its items, with one item added that has not been seen.

The lower limit of a mean of values in [a, b] is a low quantile of sum(E_i v_i) / sum(E_i), where the E are
independent exponential weights and a is added to the values as one more item; the upper limit adds b.
Gaffke's bound (Learned-Miller & Thomas, arXiv:1905.06208; Phan, Thomas & Learned-Miller, arXiv:2106.03163): it
assumes nothing about the distribution, is Clopper and Pearson's limit for right-or-wrong items, and knows that a
rare item which loses everything may not be among the few that were drawn; Student's t and the bootstrap do not.

Quantiles are not drawn but computed: P(sum(E_i z_i) <= 0) by the saddlepoint approximation (Lugannani & Rice
1980, in Barndorff-Nielsen's form), whose error is below one part in a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

Floats = npt.NDArray[np.float64]

REACH = 3.0
"""Scores without bounds: the added item lies REACH / sqrt(n) times further out than the most extreme of n."""


def quantile_of_zero(z: Floats) -> float:
    """The standard normal quantile of P(sum(E_i z_i) <= 0), E_i independent exponentials of mean 1.

    Infinite where no z is negative (-inf) or none is positive (+inf).
    """
    return _quantile(z, 0.0)[0]


def _quantile(z: Floats, t: float) -> tuple[float, float]:
    """`quantile_of_zero`, and the saddlepoint; t: where to start looking for it."""
    least, most = float(z.min()), float(z.max())
    if least >= 0:
        return -math.inf, 0.0
    if most <= 0:
        return math.inf, 0.0
    # K(t) = -sum_i log(1 - t z_i), the cumulant generating function of sum(E_i z_i), is there only where every 1 - t
    # z_i is positive; t = 0 always lies within.
    if t * most >= 1 or t * least >= 1:
        t = 0.0
    for _ in range(80):  # minimise -sum log(1 - t z), self-concordant: damped Newton cannot leave its domain
        # first = K'(t), size = sqrt(K''(t)), step: the Newton decrement. Below 1/4 a full step converges
        # quadratically, above it only a damped one is sure to stay within the domain.
        slope = z / (1 - t * z)
        first, size = float(slope.sum()), math.sqrt(float(slope @ slope))
        step = abs(first) / size
        t -= first / (size * size) / (1 + step if step > 0.25 else 1)
        if step < 1e-4:  # the next one would be its square
            break
    left = 1 - t * z
    slope = z / left
    # r = sign(t) sqrt(-2 K(t)) at the saddlepoint, where K'(t) = 0.
    root = math.copysign(math.sqrt(max(0.0, 2 * float(np.log(left).sum()))), t)
    # There u / r is 0 / 0 in floating point; r* tends to K'''(0) / (6 K''(0)^1.5) - K'(0) / sqrt(K''(0)), with K'(0)
    # = sum z, K''(0) = sum z^2, K'''(0) = 2 sum z^3.
    if abs(root) < 1e-3:  # the saddlepoint at the mean itself: the limit of the formula below
        spread = math.sqrt(float(z @ z))
        return float((z**3).sum()) / (3 * spread**3) - float(z.sum()) / spread, t
    # r* = r + log(u / r) / r with u = t sqrt(K''(t)); P(sum(E_i z_i) <= 0) is close to Phi(r*).
    return root + math.log(t * math.sqrt(float(slope @ slope)) / root) / root, t


@dataclass(frozen=True)
class Items:
    """Independent units (items, or clusters of them) behind one weighted mean.

    sums, sizes: float[C], weighted values and weights of each unit. bounds: what a value can be; None where there
    are no bounds, and then the added item is extrapolated from the most extreme unit.
    """

    sums: Floats
    sizes: Floats
    bounds: tuple[float, float] | None

    @classmethod
    def of(
        cls, values: Floats, weights: Floats, group: npt.NDArray[np.int64], bounds: tuple[float, float] | None
    ) -> Items:
        """values, weights: float[n]. group: int[n], cluster numbers from 0."""
        units = int(group.max()) + 1
        totals = (np.bincount(group, weights=row, minlength=units) for row in (weights * values, weights))
        sums, sizes = (total.astype(float) for total in totals)
        return cls(sums, sizes, bounds)

    @property
    def mean(self) -> float:
        """The weighted mean of all values."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def effective(self) -> float:
        """How many units of equal weight would tell as much."""
        # Kish's effective size: (sum w)^2 / sum w^2.
        return float(self.sizes.sum()) ** 2 / float(self.sizes @ self.sizes)

    @property
    def lopsided(self) -> float:
        """Skewness of what the units contribute, without its sign, over the square root of their number."""
        # float[C]: weighted distance of each unit from the mean; they sum to 0.
        off = self.sums - self.mean * self.sizes
        second = float(off @ off)
        return abs(float((off**3).sum())) / second**1.5 if second > 0 else 0.0

    def unsteady(self, quantile: float) -> float:
        """The standard error of a limit over that of the mean, on the side of the longer tail.

        Samples that hold few of the extreme items have both a mean and an error that are too small:
        var(m + q s) = var(m) (1 + q skewness / sqrt(n) + q^2 (kurtosis - 1) / (4 n)).
        """
        off = self.sums - self.mean * self.sizes
        second = float(off @ off)
        if second <= 0:
            return 1.0
        # kurtosis / n - 1 / n
        fourth = float((off**2) @ (off**2)) / second**2 - 1 / len(off)
        return math.sqrt(1 + quantile * self.lopsided + quantile**2 / 4 * fourth)

    def shifted(self, by: float) -> Items:
        """The same items, each value moved by as much; bounds stay where they are."""
        return Items(self.sums + by * self.sizes, self.sizes, self.bounds)

    def level(self, at: float, side: int) -> float:
        """At which normal quantile the limit of one side (-1 lower, +1 upper) lies at `at`: increasing in `at`."""
        # The mean of the reweighed units lies below `at` exactly where sum(E_c z_c) <= 0, which turns the quantile
        # of a ratio into one of a sum.
        z = self.sums - at * self.sizes
        return quantile_of_zero(np.append(z, self._unseen(at, side)))

    def _unseen(self, at: float, side: int) -> float:
        """What the added item contributes, of a unit's mean weight."""
        size = float(self.sizes.mean())
        if self.bounds is not None:
            return size * (self.bounds[0 if side < 0 else 1] - at)
        off = self.sums - self.mean * self.sizes
        extreme = float(off.min() if side < 0 else off.max())
        # Without bounds the added item is fixed by the sample, beyond its most extreme unit; only its distance from
        # `at` changes.
        return extreme * (1 + REACH / math.sqrt(self.effective)) + size * (self.mean - at)

    def limit(self, quantile: float, side: int) -> float:
        """The lower (side -1) or upper (side +1) limit at a normal quantile (1.96 for one of a 95 % interval)."""
        mean, size = self.mean, float(self.sizes.mean())
        end = mean + self._unseen(mean, side) / size  # the added item's own value
        if abs(end - mean) <= 1e-12 * max(1.0, abs(mean)):
            return mean
        # `start` carries the saddlepoint from one candidate to the next: neighbours lie close, and Newton begins
        # there.
        wanted, start = quantile * side, 0.0

        def excess(at: float) -> float:
            nonlocal start
            found, start = _quantile(np.append(self.sums - at * self.sizes, self._unseen(at, side)), start)
            # The quantile is infinite where no reweighing reaches `at`; brentq needs finite ends, and 50 is beyond
            # any level.
            return min(50.0, max(-50.0, found)) - wanted

        # From next to the mean to next to the most extreme value there is.
        extreme = self.sums / self.sizes
        far = min(end, float(extreme.min())) if side < 0 else max(end, float(extreme.max()))
        low, high = sorted((mean, far))
        return _crossing(excess, low, high, 1e-6 * (high - low))


def _crossing(function: Callable[[float], float], low: float, high: float, edge: float) -> float:
    """Where an increasing function is 0 between low and high; the nearer end where it is not."""
    if function(low + edge) >= 0:
        return low
    if function(high - edge) <= 0:
        return high
    return float(optimize.brentq(function, low + edge, high - edge, xtol=max(1e-15, edge)))
