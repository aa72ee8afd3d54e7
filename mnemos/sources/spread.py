"""Few of many that stand for all: farthest-first centres, a bound on likeness, and shares of a budget by group.

Nothing here asks a model. Of 100,000 points of 64 numbers, 1,000 centres take some seconds on one core and 60 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mnemos.sources.mixture import plan
from mnemos.sources.similarity import Points

ROUNDING = 1e-9


def k_center(points: Points, count: int) -> list[int]:
    """Places of `count` centres, in the order in which they were found.

    points: float64[N, D]. The first is the point nearest to the mean, each further one the point farthest from all
    before (Gonzalez 1985; the greedy choice of arXiv:1708.00489): the largest distance from a point to its nearest
    centre is then at most twice the smallest possible. Equal distances are resolved in favour of the earlier point, and
    fewer centres are always a beginning of more. count: at most N.
    """
    if not count:
        return []
    squared = np.einsum("nd,nd->n", points, points)
    chosen = [int(np.argmin(_squared_distances(points, squared, points.mean(0))))]
    nearest = _squared_distances(points, squared, points[chosen[0]])
    while len(chosen) < count:
        # Below every distance, so that no point is chosen twice where several lie on one place.
        nearest[chosen[-1]] = -1
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _squared_distances(points, squared, points[chosen[-1]]))
        nearest[chosen[:-1]] = -1
    return chosen


def _squared_distances(points: Points, squared: Points, one: Points) -> Points:
    # |p - c|^2 = |p|^2 + |c|^2 - 2 p c, without an N x D copy for each centre; rounding may leave it below 0.
    # Nine digits take rounding for no difference, so that equal distances are seen as equal.
    found: Points = np.maximum(squared + one @ one - 2 * (points @ one), 0).round(9)
    return found


class Unlike:
    """Admits a point whose cosine to every point admitted before is below a bound.

    points: float64[N, D], rows of length 1. bound: cosine, in (0, 1].

    Trap: points are compared with those that were admitted, in order, and never with those that were refused: a filter
    by batches also drops what is like a refused one (as the authors' code of arXiv:2312.15685 does).
    """

    def __init__(self, points: Points, bound: float) -> None:
        self.points, self.bound = points, bound
        self._admitted = np.zeros((16, points.shape[1]))
        self._count = 0

    def admit(self, place: int) -> bool:
        """Whether the point of that place is admitted; it is then compared with all later ones."""
        one = self.points[place]
        # The cosine of a point to itself may come out a rounding below 1.
        if self._count and float((self._admitted[: self._count] @ one).max()) >= self.bound - ROUNDING:
            return False
        if self._count == len(self._admitted):
            # Twice as large each time: a row costs a constant number of copies, whatever the budget.
            self._admitted = np.concatenate([self._admitted, np.zeros_like(self._admitted)])
        self._admitted[self._count] = one
        self._count += 1
        return True


def quotas(sizes: Mapping[str, int], count: int, temperature: float = 1.0) -> dict[str, int]:
    """How many of each group make `count`: in proportion to size^(1 / temperature), none above its size.

    Whole numbers by largest remainders, the earlier of equal ones first. Raises DataError where the groups have fewer
    than `count` together.
    """
    parts = plan({name: float(size) for name, size in sizes.items()}, count, temperature=temperature, max_epochs=1.0)
    given = {part.name: min(int(part.amount), sizes[part.name]) for part in parts}
    # Rounded, so that remainders which differ by rounding alone are equal.
    order = sorted(parts, key=lambda part: -round(part.amount - given[part.name], 9))
    open_ones = [part.name for part in order if given[part.name] < sizes[part.name]]
    for name in open_ones[: count - sum(given.values())]:
        given[name] += 1
    return given


def grouped(values: Iterable[Any]) -> dict[str, list[int]]:
    """Places by the text of their value, groups in the order in which they are first met."""
    found: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        found.setdefault(str(value), []).append(place)
    return found
