"""Area under the ROC curve with an interval: how well scores put good items above others.

The variance is DeLong's (1988), the interval that of the logit, so that it stays within (0, 1); at an area of 0 or 1,
where that variance is 0, the bound is that of the smaller class having shown no exception. With fewer than FEW items in
the smaller class the variance itself is hardly known (of one item not at all), and the interval is at least as wide as
that bound on either side. Coverage is simulated in tests/measure/test_auc.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError
from mnemos.measure.power import ALPHA
from mnemos.measure.proportions import Z

FEW = 10
"""Items of the smaller class from which DeLong's variance alone is believed."""

Floats = npt.NDArray[np.float64]


def auc(scores: Sequence[float] | Floats, good: Sequence[bool] | npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """(area, low, high): the chance that a good item has the higher score than another, ties half.

    Raises DataError for missing scores, and where there is only one kind of item.
    """
    x, label = np.asarray(scores, dtype=float), np.asarray(good, dtype=bool)
    if not np.isfinite(x).all():
        raise DataError(f"{int((~np.isfinite(x)).sum())} of {len(x)} scores", "are missing", "leave these items out")
    first, second = x[label], x[~label]
    if not len(first) or not len(second):
        raise DataError(f"{len(first)} good items and {len(second)} others", "make no curve", "give both kinds")
    # Placement values: of a good item the share of others below it, of another the share of good items above it.
    above = (_below(second, first) + _below(second, first, or_equal=True)) / (2 * len(second))
    under = 1 - (_below(first, second) + _below(first, second, or_equal=True)) / (2 * len(first))
    area = float(above.mean())
    variance = sum(float(v.var(ddof=1)) / len(v) for v in (above, under) if len(v) > 1)
    smaller = min(len(first), len(second))
    exception = 1 - (ALPHA / 2) ** (1 / smaller)
    widest = max(0.0, area - exception), min(1.0, area + exception)
    if variance <= 0 or not 0 < area < 1:
        return area, *widest
    half = Z * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-(logit + way * half))) for way in (-1, 1))
    return (area, low, high) if smaller >= FEW else (area, min(low, widest[0]), max(high, widest[1]))


def _below(values: Floats, than: Floats, *, or_equal: bool = False) -> Floats:
    """float[n]: how many of `values` are below each of `than`."""
    side: Literal["left", "right"] = "right" if or_equal else "left"
    return np.asarray(np.searchsorted(np.sort(values), than, side=side), dtype=float)
