"""Right-or-wrong items: McNemar's exact test, Wilson's and Newcombe's intervals."""

from __future__ import annotations

import math

from scipy import stats

from mnemos.measure.power import ALPHA

# 1.96, the normal quantile of a two-sided 95 % interval.
Z = float(stats.norm.ppf(1 - ALPHA / 2))


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact two-sided McNemar test: min(1, 2 * P[Binomial(gained + lost, 1/2) <= min(gained, lost)])."""
    # Items that did not change say nothing about the direction: given how many flipped, each went either way with
    # probability 1/2.
    flips = gained + lost
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), flips, 0.5))) if flips else 1.0


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; n may be an effective sample size."""
    # The roots p of (share - p)^2 = Z^2 p (1 - p) / n (Wilson 1927), so that the interval has a width at shares 0
    # and 1 too.
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def unpaired(share: float, n: float, other: float, m: float) -> tuple[float, float]:
    """95 % interval of share - other, the proportions of n items and of m other ones.

    Method 10 of Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I: Wilson
    intervals of both, squared and added.
    """
    (low, high), (least, most) = wilson(share, n), wilson(other, m)
    below = math.hypot(share - low, most - other)
    above = math.hypot(high - share, other - least)
    return share - other - below, share - other + above


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
    # phi = (both * neither - gained * lost) / sqrt(product of the margins' variances). A positive correlation
    # narrows the interval, so half an item is taken off it (Newcombe's correction, n / 2 in counts), and no more
    # than there is.
    cross = both * neither - gained * lost
    corrected = cross if cross < 0 else max(0.0, cross - 0.5 / n)
    phi = corrected / math.sqrt(product) if product > 0 else 0.0
    # lower: delta - sqrt((after - la)^2 - 2 phi (after - la)(ub - before) + (ub - before)^2); upper: the mirror image.
    below = (after - la) ** 2 - 2 * phi * (after - la) * (ub - before) + (ub - before) ** 2
    above = (ua - after) ** 2 - 2 * phi * (ua - after) * (before - lb) + (before - lb) ** 2
    delta = gained - lost
    return max(-1.0, delta - math.sqrt(max(0.0, below))), min(1.0, delta + math.sqrt(max(0.0, above)))
