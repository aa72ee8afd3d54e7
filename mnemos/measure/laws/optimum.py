"""The compute-optimal size without a law of the loss: the envelope of training curves and IsoFLOP parabolas.

Approaches 1 and 2 of arXiv:2203.15556. Both give pairs (C, N_opt), through which ln N_opt = ln G + a ln C is fitted
by least squares; D_opt = C / (6 N_opt) has the exponent 1 - a.

Deviations: 1. computes at which the lowest loss is that of the smallest or of the largest size that was trained so
far give no pair: the optimum may lie beyond it, which would bend the line; the paper keeps them. 2. sizes within 2 %
of one another are one size, and points of an IsoFLOP budget may differ by 12 % in compute, because points are often
read off a figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mnemos.core.errors import DataError
from mnemos.measure.laws.fitting import Floats, drawn_counts, interval
from mnemos.measure.laws.points import FLOPS_PER_TOKEN, Points

SAME_SIZE, SAME_BUDGET = 0.02, 0.12
"""Sizes, and computes, within this much of ln are one."""
COMPUTES = 400
"""Computes at which the envelope is looked at (the paper: 1,500), evenly in ln C."""
FEWEST = 4
"""Sizes that a parabola needs: three fit any."""
Pairs = tuple[Floats, Floats]


@dataclass(frozen=True)
class Frontier:
    """compute, size: float[K], FLOP and the size of lowest loss there. exponent, factor: a and G of
    N_opt = G C^a. draws: float[B, 2], (a, ln G) of each draw. left_out: budgets or computes without an optimum."""

    compute: Floats
    size: Floats
    exponent: float
    factor: float
    draws: Floats
    left_out: int

    def optimum(self, compute: float) -> tuple[float, float]:
        """(N, D) at so many FLOP."""
        size = self.factor * compute**self.exponent
        return size, compute / FLOPS_PER_TOKEN / size

    def intervals(self) -> tuple[float, float | None, float | None]:
        """The exponent with its 95 % interval."""
        return (self.exponent, *interval(self.draws[:, 0]))

    def optima(self, compute: float) -> dict[str, tuple[float, float | None, float | None]]:
        """As `chinchilla.LawFit.optima`."""
        size, tokens = self.optimum(compute)
        sizes = np.exp(self.draws[:, 1] + self.draws[:, 0] * np.log(compute))
        many = compute / FLOPS_PER_TOKEN / sizes
        return {
            "parameters": (size, *interval(sizes)),
            "tokens": (tokens, *interval(many)),
            "tokens_per_parameter": (tokens / size, *interval(many / sizes)),
        }


def envelope(points: Points, *, draws: int = 1000, seed: int = 0) -> Frontier:
    """Approach 1: at each compute the size whose curve is lowest. Raises DataError where fewer than three sizes have
    a curve of two points, or where their curves give no two optima."""
    size = groups(np.log(points.n), SAME_SIZE)
    curves = [at for at in (np.flatnonzero(size == one) for one in np.unique(size)) if len(at) > 1]
    if len(curves) < 3:
        raise DataError(
            f"{len(curves)} sizes with two points or more",
            "are too few for an envelope of training curves",
            "give points along each training, or use another approach",
        )
    ends = np.log(points.compute)
    # Between the first and the last compute at which two sizes can be compared.
    computes = np.linspace(float(np.quantile(ends, 0.02)), float(np.quantile(ends, 0.98)), COMPUTES)
    return _frontier(points, draws, seed, lambda counts: _envelope(points, curves, computes, counts))


def _envelope(points: Points, curves: list[np.ndarray], computes: Floats, counts: Floats) -> tuple[Pairs, int]:
    log_c, log_l = np.log(points.compute), np.log(points.loss)
    losses, sizes = [], []
    for at in curves:
        there = at[counts[at] > 0]
        order = there[np.argsort(log_c[there])]
        if len(np.unique(log_c[order])) < 2:
            continue
        # Between two points of a curve, ln L is taken to be straight in ln C; beyond its ends there is no curve.
        losses.append(np.interp(computes, log_c[order], log_l[order], left=np.inf, right=np.inf))
        sizes.append(float(np.exp(np.log(points.n[order]).mean())))
    if len(losses) < 3:
        return (np.array([]), np.array([])), len(computes)
    table, size = np.array(losses), np.array(sizes)  # float[curves, computes], float[curves]
    covered = np.isfinite(table)
    best = table.argmin(axis=0)
    smallest = np.where(covered, size[:, None], np.inf).min(axis=0)
    largest = np.where(covered, size[:, None], -np.inf).max(axis=0)
    inside = (covered.sum(axis=0) > 2) & (size[best] > smallest) & (size[best] < largest)
    return (np.exp(computes[inside]), size[best[inside]]), int((~inside).sum())


def isoflop(points: Points, *, draws: int = 1000, seed: int = 0) -> Frontier:
    """Approach 2: for each compute budget the vertex of a parabola of the loss in ln N. Raises DataError where fewer
    than two budgets have one."""
    found = budgets(points)
    if len(found) < 2:
        raise DataError(
            f"{len(found)} compute budget{'s' * (len(found) != 1)} with {FEWEST} sizes",
            "are too few for IsoFLOP parabolas",
            "train several sizes to the same compute, or use another approach",
        )
    return _frontier(points, draws, seed, lambda counts: _vertices(points, found, counts))


def budgets(points: Points) -> list[np.ndarray]:
    """Places of the points of each budget, by growing compute: the fullest windows of ln C first."""
    log_c = np.log(points.compute)
    order = np.argsort(log_c, kind="stable")
    free, found = list(order), []
    while True:
        values = log_c[free]
        # [first, last) of the points within SAME_BUDGET above each point.
        last = np.searchsorted(values, values + SAME_BUDGET, side="right")
        if not len(values):
            break
        first = int((last - np.arange(len(values))).argmax())
        chosen = free[first : last[first]]
        if len(chosen) < FEWEST:
            break
        del free[first : last[first]]
        if len(np.unique(groups(np.log(points.n[chosen]), SAME_SIZE))) >= FEWEST:
            found.append(np.array(chosen))
    return sorted(found, key=lambda at: float(log_c[at].mean()))


def _vertices(points: Points, found: list[np.ndarray], counts: Floats) -> tuple[Pairs, int]:
    computes, sizes, without = [], [], 0
    for at in found:
        there, weight = at[counts[at] > 0], counts[at][counts[at] > 0]
        log_n = np.log(points.n[there])
        if len(np.unique(groups(log_n, SAME_SIZE))) < FEWEST:
            without += 1
            continue
        centre = log_n.mean()
        # Weights of polyfit multiply residuals before they are squared.
        c2, c1, _ = np.polyfit(log_n - centre, points.loss[there], 2, w=np.sqrt(weight))
        vertex = centre - c1 / (2 * c2) if c2 > 0 else np.inf
        # A parabola that opens downwards has no minimum, and one beyond the sizes that were trained is a guess.
        if not log_n.min() <= vertex <= log_n.max():
            without += 1
            continue
        computes.append(np.exp(np.average(np.log(points.compute[there]), weights=weight)))
        sizes.append(np.exp(vertex))
    return (np.array(computes), np.array(sizes)), without


def _frontier(points: Points, draws: int, seed: int, pairs: Callable[[Floats], tuple[Pairs, int]]) -> Frontier:
    (compute, size), left_out = pairs(np.ones(len(points)))
    line = _line(compute, size)
    if not np.isfinite(line).all():
        raise DataError(
            f"{len(compute)} computes with an optimum inside the sizes that were trained",
            "give no line through them",
            "train smaller and larger sizes at these computes",
        )
    drawn = [_line(*pairs(counts)[0]) for counts in drawn_counts(points.run, draws, seed)]
    return Frontier(compute, size, float(line[0]), float(np.exp(line[1])), np.array(drawn).reshape(-1, 2), left_out)


def _line(compute: Floats, size: Floats) -> Floats:
    """(a, ln G) of ln N = ln G + a ln C by least squares; NaN without two distinct computes."""
    if len(np.unique(compute)) < 2:
        return np.full(2, np.nan)
    x = np.log(compute)
    centred = x - x.mean()
    slope = float(centred @ np.log(size) / (centred @ centred))
    return np.array([slope, float(np.log(size).mean() - slope * x.mean())])


def groups(values: Floats, width: float) -> np.ndarray:
    """int[n]: a number for each run of sorted values with no gap above `width`."""
    order = np.argsort(values, kind="stable")
    number = np.concatenate([[0], np.cumsum(np.diff(values[order]) > width)])
    out = np.empty(len(values), dtype=np.int64)
    out[order] = number
    return out
