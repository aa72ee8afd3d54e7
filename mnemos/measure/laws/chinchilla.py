"""L(N, D) = E + A / N^alpha + B / D^beta, and the compute-optimal model that follows (arXiv:2203.15556, approach 3).

theta is (a, b, e, alpha, beta) with A = exp a, B = exp b, E = exp e, so that the law is
ln L = logsumexp(a - alpha ln N, b - beta ln D, e). The loss of the fit is Huber's with delta = 1e-3 on ln L, its
terms added (not averaged), from the grid of 4,500 starts of the replication (arXiv:2404.10102).

Deviation: 1. the starts descend by Levenberg-Marquardt, and L-BFGS finishes the best (see `fitting`); the objective
is the same, and its minimum at or below that of L-BFGS from each start.

Traps: a few outliers of high loss decide beta, so that a fit is looked at with and without them; printed parameters
that are rounded (406.4, 410.7, 0.34, 0.28) give four times the objective of unrounded ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnemos.core.errors import DataError
from mnemos.measure.laws.fitting import Floats, Minimum, Problem, drawn_counts, grid, interval, minimise, redrawn
from mnemos.measure.laws.points import FLOPS_PER_TOKEN, Points

DELTA = 1e-3
NAMES = ("A", "B", "E", "alpha", "beta", "exponent")
DRAWS = 1000
SIZES = 3
"""Distinct sizes, and distinct numbers of tokens, below which the two terms cannot be told apart."""


@dataclass(frozen=True)
class Law:
    """E, A, B, alpha, beta of the loss in nats per token."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float

    @property
    def exponent(self) -> float:
        """a of N_opt = G (C / 6)^a: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def factor(self) -> float:
        """G of N_opt = G (C / 6)^a."""
        return float((self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta)))

    def loss(self, n: Floats, d: Floats) -> Floats:
        """Nats per token of n parameters after d tokens."""
        return np.asarray(self.E + self.A / n**self.alpha + self.B / d**self.beta)

    def optimum(self, compute: float) -> tuple[float, float]:
        """(N, D) of the lowest loss at so many FLOP, with C = 6 N D."""
        # The minimum of A / N^alpha + B / D^beta under N D = C / 6: N = G (C / 6)^(beta / (alpha + beta)).
        size = self.factor * (compute / FLOPS_PER_TOKEN) ** self.exponent
        return size, compute / FLOPS_PER_TOKEN / size

    @property
    def theta(self) -> Floats:
        """As the fit searches it."""
        return np.array([np.log(self.A), np.log(self.B), np.log(self.E), self.alpha, self.beta])

    @classmethod
    def of(cls, theta: Floats) -> Law:
        """From what the fit found."""
        a, b, e = np.exp(np.clip(theta[:3], -700, 700))
        return cls(float(a), float(b), float(e), float(theta[3]), float(theta[4]))


@dataclass(frozen=True)
class LawFit:
    """law: of all points. draws: float[B, 6], NAMES of each draw of the bootstrap. objective: sum of Huber terms.
    agree: share of the starts that found it. points: how many were fitted. r2: of ln L."""

    law: Law
    draws: Floats
    objective: float
    agree: float
    points: int
    r2: float

    def intervals(self) -> dict[str, tuple[float, float | None, float | None, float | None]]:
        """name -> (value, low, high, standard deviation over draws)."""
        out = {}
        for place, name in enumerate(NAMES):
            values = self.draws[:, place] if len(self.draws) else np.array([])
            low, high = interval(values)
            spread = float(np.nanstd(values, ddof=1)) if low is not None else None
            out[name] = (float(getattr(self.law, name)), low, high, spread)
        return out

    def optima(self, compute: float) -> dict[str, tuple[float, float | None, float | None]]:
        """parameters, tokens, and tokens per parameter at so many FLOP: (value, low, high)."""
        size, tokens = self.law.optimum(compute)
        drawn = np.array([Law(*map(float, row[:5])).optimum(compute) for row in self.draws]).reshape(-1, 2)
        return {
            "parameters": (size, *interval(drawn[:, 0])),
            "tokens": (tokens, *interval(drawn[:, 1])),
            "tokens_per_parameter": (tokens / size, *interval(drawn[:, 1] / drawn[:, 0])),
        }


def starts() -> Floats:
    """The replication's grid, float[4500, 5]."""
    found = grid(
        np.arange(0, 30, 5),
        np.arange(0, 30, 5),
        np.arange(-1, 1.5, 0.5),
        np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
    )
    return found


def log_loss(theta: Floats, log_n: Floats, log_d: Floats) -> tuple[Floats, Floats]:
    """ln L float[S, n] and its slopes float[S, n, 5]. theta: float[S, 5]. log_n, log_d: float[n]."""
    a, b, e, alpha, beta = (column[:, None] for column in theta.T)
    terms = np.stack(np.broadcast_arrays(a - alpha * log_n, b - beta * log_d, e), axis=-1)
    highest = terms.max(axis=-1, keepdims=True)
    shifted = np.exp(terms - highest)
    total = shifted.sum(axis=-1, keepdims=True)
    value = (highest + np.log(total))[..., 0]
    # The slope of a logsumexp by a term is that term's share of the sum.
    share = shifted / total
    slopes = np.stack(
        [share[..., 0], share[..., 1], share[..., 2], -share[..., 0] * log_n, -share[..., 1] * log_d], axis=-1
    )
    return value, slopes


def problem(points: Points) -> Problem:
    """The fit's problem; raises DataError where sizes or lengths are too few for it."""
    for what, values in (("model sizes", points.n), ("numbers of tokens", points.d)):
        distinct = len(np.unique(values.round(-int(np.log10(values.min())) + 3)))
        if distinct < SIZES:
            raise DataError(
                f"distinct {what} in {len(points)} point{'s' * (len(points) != 1)}",
                f"number {distinct}, which is too few: a law of size and tokens needs {SIZES} of each",
                "add runs, or fit what you have by hand",
            )
    log_n, log_d = np.log(points.n), np.log(points.d)
    return Problem(lambda theta: log_loss(theta, log_n, log_d), np.log(points.loss), DELTA)


def fit(points: Points, *, draws: int = DRAWS, seed: int = 0) -> LawFit:
    """Approach 3 with a bootstrap over runs. Raises DataError for too few points, sizes or lengths."""
    task = problem(points)
    best = minimise(task, starts())
    counts = drawn_counts(points.run, draws, seed)
    # A draw of too few distinct points has no fit of its own.
    enough = (counts > 0).sum(axis=1) > len(best.theta)
    found = np.full((draws, len(NAMES)), np.nan)
    if enough.any():
        laws = [Law.of(theta) for theta in redrawn(task, best.theta, counts[enough])]
        found[enough] = [[getattr(law, name) for name in NAMES] for law in laws]
    return LawFit(Law.of(best.theta), found, best.objective, best.agree, len(points), _r2(task, best))


def _r2(task: Problem, best: Minimum) -> float:
    predicted, measured = task.curve(best.theta[None])[0][0], task.measured
    return float(1 - ((predicted - measured) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())
