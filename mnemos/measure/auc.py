"""Area under the ROC curve with an interval: how well scores put good items above others.

The variance is DeLong's (1988), the interval that of the logit, so that it stays within (0, 1); at an area of 0 or 1,
where that variance is 0, the bound is that of the smaller class having shown no exception. Coverage is simulated in
tests/measure/test_auc.py.
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
    if variance <= 0:
        exception = 1 - (ALPHA / 2) ** (1 / min(len(first), len(second)))
        return area, max(0.0, area - exception), min(1.0, area + exception)
    half = Z * math.sqrt(variance) / (area * (1 - area)) if 0 < area < 1 else math.inf
    logit = math.log(area / (1 - area)) if 0 < area < 1 else 0.0
    return area, 1 / (1 + math.exp(-(logit - half))), 1 / (1 + math.exp(-(logit + half)))


def _below(values: Floats, than: Floats, *, or_equal: bool = False) -> Floats:
    """float[n]: how many of `values` are below each of `than`."""
    side: Literal["left", "right"] = "right" if or_equal else "left"
    return np.asarray(np.searchsorted(np.sort(values), than, side=side), dtype=float)
