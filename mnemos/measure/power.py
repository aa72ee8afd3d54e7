"""How large a change must be to be noticed: the minimum detectable change, of the very tests that are used."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
GRID = 64


def mcnemar_power(delta: float, discordance: float, n: int) -> float:
    """Probability that McNemar's exact test of n right-or-wrong items has p < 0.05, exactly.

    discordance: share of items that flip either way; delta: share gained minus share lost, within it.
    """
    # The test looks at the flips alone, so power is a mean over how many there will be: flips ~ Binomial(n,
    # discordance).
    flips = np.arange(1, n + 1)
    chance = stats.binom.pmf(flips, n, discordance)
    likely = chance > 1e-9
    flips, chance = flips[likely], chance[likely]
    if not len(flips):
        return 0.0
    # The largest smaller side that is still significant; -1 where none is.
    most = stats.binom.ppf(ALPHA / 2, flips, 0.5) - 1
    most += stats.binom.cdf(most + 1, flips, 0.5) < ALPHA / 2
    # Share of gains among the flips: gained - lost = delta and gained + lost = discordance.
    gained = 0.5 + delta / (2 * discordance)
    # Significant in either direction, both of which count as noticed; the two cannot happen at once, since `most` is
    # below half of the flips.
    found = stats.binom.cdf(most, flips, 1 - gained) + stats.binom.cdf(most, flips, gained)
    return float(chance @ found)


def mcnemar_detectable(discordance: float, n: int) -> float:
    """The change that n right-or-wrong items show with 80 % power by McNemar's exact test at 0.05.

    discordance: the observed share of items that flipped; where a change needs more flips than that, it makes
    them: a change cannot be smaller than the flips it is made of. At most 1, where no change would be.
    """
    # More flips make a change harder to see, so those that were seen are kept, and only a larger change adds to
    # them.
    return _smallest(lambda delta: mcnemar_power(delta, min(1.0, max(discordance, delta)), n), 1.0)


def detectable(
    half: Callable[[float], float],
    error: Callable[[float], float],
    *,
    seeds: int = 1,
    excess: float = 0.0,
    noise: Callable[[float], float] = lambda _: 0.0,
    kept: float = 0.0,
    most: float = math.inf,
) -> float:
    """The change that is noticed in 8 of 10 repetitions; at most `most`.

    half: by how much an estimate must exceed 0 to be proven by its items alone; error: the standard error that
    items make; both as functions of the change. Several seeds: excess, the variance of the mean that is the
    seeds' own; noise, what items leave in the variance of the seeds' mean; kept: the share of noise that is taken
    off again before the seeds' spread counts. The seeds' spread that will be found is itself a draw, so that power
    is averaged over its distribution.
    """
    level = 0.0
    drawn = np.zeros(1)
    if seeds > 1:
        level = float(special.stdtrit(seeds - 1, 1 - ALPHA / 2))
        # float[GRID]: s^2 / sigma^2 of so many seeds (chi-square over S - 1) at GRID equally likely places. Their
        # mean power is that of a future study, which will have a spread of its own; the power at the mean spread
        # would promise too much.
        drawn = special.chdtri(seeds - 1, 1 - (np.arange(GRID) + 0.5) / GRID) / (seeds - 1)

    def power(delta: float) -> float:
        size = math.sqrt(error(delta) ** 2 + excess)
        if size <= 0:
            return float(delta >= half(delta))
        left = noise(delta)
        # The variance that will be added for the seeds, by the very rule of `spread.two_way`: max(0, V_seeds - k
        # V_both).
        found = np.maximum(0.0, (left + excess) * drawn - kept * left)
        # P(estimate > sqrt(half^2 + t^2 found)) for an estimate that is normal around delta: proven means beyond
        # both parts of the interval.
        return float(special.ndtr((delta - np.sqrt(half(delta) ** 2 + level**2 * found)) / size).mean())

    top = most
    if not math.isfinite(top):
        # Without bounds nothing says where to stop: from one interval's width on, doubled until the change is seen.
        top = max(1e-300, half(0.0) + error(0.0) + math.sqrt(excess + noise(0.0)))
        while power(top) < POWER:
            top *= 2
    return _smallest(power, top)


def _smallest(power: Callable[[float], float], most: float) -> float:
    """The change at which power reaches 80 %; `most` where it does not."""
    if power(most) < POWER:
        return most
    return float(optimize.brentq(lambda delta: power(delta) - POWER, 1e-9 * most, most, xtol=1e-7 * most))
