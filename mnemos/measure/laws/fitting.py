"""One core for laws that are fitted to few runs: a grid of starts, Huber loss, analytic slopes, a bootstrap over runs.

A law's surface has many local minima, and one start is not a fit: of the 4,500 starts that the Chinchilla law is
usually searched from, most end elsewhere. So all starts descend together (Levenberg-Marquardt on the whole batch,
reweighed for Huber's loss), and the best few are finished by L-BFGS. A bootstrap is the same descent, one problem a
draw, with the draw's counts as weights.

Trap: L-BFGS in scipy stops when the objective falls by less than `ftol * max(objective, 1)`. An objective of 0.001,
as the sum of Huber terms is here, then stops early: it is searched in units of delta^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from mnemos.core.errors import DataError

Floats = npt.NDArray[np.float64]
Curve = Callable[[Floats], tuple[Floats, Floats]]
"""theta float[S, p] -> the law's values float[S, n] at the n points, and their slopes float[S, n, p]."""

ROUNDS = ((8, 1.0), (12, 0.2), (40, 0.04))
"""Steps that the batch descends, and the share of all starts, the lowest so far, that take part in each round."""
FINISHED = 12
"""Best of the starts that L-BFGS finishes."""
FEWEST = 50
"""Starts that no round goes below."""
MOST = 4000
"""Steps of one L-BFGS search."""
NEAR = 0.01
"""Starts whose objective is within this share of the best are said to agree with it."""
REDRAWN = 25
"""Steps that the fits of a bootstrap descend together before each is finished."""
LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Minimum:
    """theta: float[p]. objective: sum of weighted Huber terms, in the residuals' own unit squared. agree: share of
    the searches of the last round that came within 1 % of it."""

    theta: Floats
    objective: float
    agree: float


@dataclass(frozen=True)
class Problem:
    """curve: the law. measured: float[n], what it should give. delta: from here on a residual counts by its size,
    no longer by its square; infinity is least squares. Raises DataError for fewer points than the law has numbers."""

    curve: Curve
    measured: Floats
    delta: float = np.inf

    @property
    def unit(self) -> float:
        """What the objective is divided by for the search, see the module's trap."""
        if np.isfinite(self.delta):
            return self.delta**2
        return float(((self.measured - self.measured.mean()) ** 2).mean()) or 1.0

    def objective(self, theta: Floats, weights: Floats) -> Floats:
        """float[S]. theta: float[S, p]. weights: float[n] or float[S, n]."""
        return self._huber(self.curve(theta)[0] - self.measured, weights)

    def _huber(self, residual: Floats, weights: Floats) -> Floats:
        size = np.abs(residual)
        # r^2 / 2 up to delta, then delta (|r| - delta / 2): equal in value and slope where they meet.
        with np.errstate(invalid="ignore"):
            terms = np.where(size <= self.delta, size**2 / 2, self.delta * (size - self.delta / 2))
            return np.asarray((weights * terms).sum(axis=-1))

    def _pulls(self, residual: Floats, weights: Floats) -> Floats:
        """psi(r) / r: the weights with which least squares has Huber's gradient."""
        with np.errstate(divide="ignore"):
            return np.asarray(weights * np.minimum(1.0, self.delta / np.abs(residual)))


def minimise(problem: Problem, starts: Floats, weights: Floats | None = None) -> Minimum:
    """The best of all starts. starts: float[S, p]. weights: float[n], how often each point counts."""
    enough(problem, starts)
    w = np.ones(len(problem.measured)) if weights is None else weights
    found, height = starts, np.zeros(len(starts))
    for steps, share in ROUNDS:
        keep = np.argsort(height, kind="stable")[: max(FEWEST, round(share * len(starts)))]
        found, height = descend(problem, found[keep], w, steps)
    best = np.argsort(height, kind="stable")[:FINISHED]
    finished = [_finish(problem, found[at], w) for at in best]
    theta, objective = min(finished, key=lambda one: one[1])
    # Starts count as agreeing by where the batch took them or, of the best few, where L-BFGS did.
    height[best] = np.minimum(height[best], [one[1] for one in finished])
    agree = float((height <= objective * (1 + NEAR) + 1e-300).mean())
    return Minimum(theta, objective, agree)


def enough(problem: Problem, starts: Floats) -> None:
    """Raise DataError where there are no more points than numbers: any such law fits."""
    points, numbers = len(problem.measured), starts.shape[1]
    if points <= numbers:
        raise DataError(
            f"{points} point{'s' * (points != 1)}",
            f"are too few for a law with {numbers} numbers",
            f"give at least {numbers + 1}, of several sizes and lengths",
        )


def redrawn(problem: Problem, best: Floats, counts: Floats) -> Floats:
    """float[B, p]: the fit to each draw of a bootstrap, begun at the fit to all points.

    counts: float[B, n], how often each point was drawn.
    """
    found, _ = descend(problem, np.repeat(best[None], len(counts), axis=0), counts, REDRAWN)
    return np.array([_finish(problem, theta, row)[0] for theta, row in zip(found, counts, strict=True)])


def drawn_counts(groups: Sequence[object], draws: int, seed: int = 0) -> Floats:
    """float[draws, n]: how often each point counts when its groups (runs) are drawn with replacement.

    groups: of each point, what it belongs to. Trap: points of one run are not independent; drawing them one by one
    makes intervals too narrow.
    """
    names = list(dict.fromkeys(groups))
    place = {name: at for at, name in enumerate(names)}
    member = np.array([place[name] for name in groups])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.asarray(drawn[:, member], dtype=float)


def interval(values: Floats) -> tuple[float | None, float | None]:
    """95 % percentiles of a bootstrap's values; None where fewer than half of the draws gave one."""
    there = values[np.isfinite(values)]
    if len(there) < max(2, len(values) / 2):
        return None, None
    low, high = np.percentile(there, LEVEL)
    return float(low), float(high)


def grid(*axes: Sequence[float] | npt.NDArray[Any]) -> Floats:
    """float[S, p]: every combination of the axes' values."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1).astype(float)


def descend(problem: Problem, starts: Floats, weights: Floats, steps: int) -> tuple[Floats, Floats]:
    """Where a batch of searches is after some steps of Levenberg-Marquardt: theta float[S, p], objective float[S].

    weights: float[n], or float[S, n], one row a search. A search that meets an overflow stays where it was.
    """
    theta = starts.astype(float).copy()
    w = np.broadcast_to(weights, (len(theta), len(problem.measured)))
    height = _finite(problem.objective(theta, w))
    damping, alive = np.full(len(theta), 1e-2), np.isfinite(height)
    for _ in range(steps):
        at = np.flatnonzero(alive)
        if not len(at):
            break
        trial = theta[at] + _step(problem, theta[at], w[at], damping[at])
        new = _finite(problem.objective(trial, w[at]))
        better = new < height[at]
        # What falls by less than a billionth, or cannot be damped further, is left to L-BFGS.
        done = np.where(better, height[at] - new <= 1e-9 * height[at], damping[at] > 1e8)
        theta[at[better]], height[at[better]] = trial[better], new[better]
        damping[at] = np.where(better, np.maximum(damping[at] / 5, 1e-12), damping[at] * 5)
        alive[at[done]] = False
    return theta, height


def _step(problem: Problem, theta: Floats, weights: Floats, damping: Floats) -> Floats:
    value, slope = problem.curve(theta)
    residual = value - problem.measured
    pull = problem._pulls(residual, weights)  # float[S, n]
    # (J^T q J + damping diag) step = -J^T q r, with q the reweighed residuals' weights: float[S, p, p], float[S, p].
    weighted = slope * pull[:, :, None]
    normal = np.matmul(weighted.transpose(0, 2, 1), slope)
    gradient = np.matmul(residual[:, None, :], weighted)[:, 0, :]
    diagonal = np.einsum("spp->sp", normal)
    with np.errstate(invalid="ignore", over="ignore"):
        scale = diagonal * damping[:, None] + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    normal = normal + scale[:, :, None] * np.eye(theta.shape[1])
    good = np.isfinite(normal).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1)
    step = np.zeros_like(theta)
    if good.any():
        step[good] = -np.linalg.solve(normal[good], gradient[good, :, None])[:, :, 0]
    return np.nan_to_num(step, nan=0.0, posinf=0.0, neginf=0.0)


def _finite(height: Floats) -> Floats:
    return np.where(np.isfinite(height), height, np.inf)


def _finish(problem: Problem, start: Floats, weights: Floats) -> tuple[Floats, float]:
    """L-BFGS from one place, in units of delta^2."""

    def height_and_slope(theta: Floats) -> tuple[float, Floats]:
        value, slope = problem.curve(theta[None])
        residual = value[0] - problem.measured
        height = float(problem._huber(residual, weights))
        if not np.isfinite(height):
            return 1e300, np.zeros_like(theta)
        return height / problem.unit, (problem._pulls(residual, weights) * residual) @ slope[0] / problem.unit

    found = optimize.minimize(
        height_and_slope, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST, "ftol": 1e-12, "gtol": 1e-7}
    )
    return np.asarray(found.x), float(found.fun) * problem.unit
