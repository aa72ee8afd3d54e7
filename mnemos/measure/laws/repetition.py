"""What tokens are worth that were read before (arXiv:2305.16264).

U distinct tokens read D / U times count as D' = U + U R*_D (1 - exp(-R_D / R*_D)) fresh ones, R_D = D / U - 1; a model
larger than U tokens deserve, N > U_N, counts as N' = U_N + U_N R*_N (1 - exp(-R_N / R*_N)), R_N = N / U_N - 1. With
them, L = E + A / N'^alpha + B / D'^beta.

Fitted in two stages, as in the paper: E, A, B, alpha, beta to the runs that read nothing twice (or given), then R*_D
and R*_N to all runs, both by Huber's loss with delta = 1e-3 on ln L.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnemos.core.errors import DataError
from mnemos.measure.laws import chinchilla
from mnemos.measure.laws.chinchilla import DELTA, Law
from mnemos.measure.laws.fitting import Floats, Problem, drawn_counts, grid, interval, minimise, redrawn
from mnemos.measure.laws.points import Points

PAPER = Law(A=521.0, B=1488.0, E=1.87, alpha=0.35, beta=0.35)
"""The paper's law of its own data (C4), rounded as printed."""
PAPER_R = (15.39, 5.31)
"""The paper's R*_D and R*_N."""
REPEATED = 0.02
"""Epochs above one, and size above U_N, from which on a run tells something about repetition."""


@dataclass(frozen=True)
class Repetition:
    """base: the law of fresh tokens. r_tokens, r_size: R*_D and R*_N. draws: float[B, 2] of both. r_size is None
    where no run is larger than its tokens deserve: then nothing is known of it."""

    base: Law
    r_tokens: float
    r_size: float | None
    draws: Floats
    points: int

    def intervals(self) -> dict[str, tuple[float | None, float | None, float | None]]:
        """name -> (value, low, high)."""
        first = (self.r_tokens, *interval(self.draws[:, 0]))
        second = (self.r_size, *interval(self.draws[:, 1])) if self.r_size is not None else (None, None, None)
        return {"R*_D": first, "R*_N": second}


def effective(unique: Floats, seen: Floats, rate: float | Floats) -> Floats:
    """Fresh tokens (or useful parameters) that `seen` are worth when only `unique` are distinct; the same where
    nothing repeats."""
    extra = np.maximum(seen / unique - 1, 0.0)
    return np.asarray(np.minimum(unique, seen) + unique * rate * -np.expm1(-extra / rate))


def deserved(law: Law, unique: Floats) -> Floats:
    """U_N: the size for which so many tokens are compute-optimal."""
    # From N = G (C/6)^a and D = (C/6)^b / G: N = G (D G)^(beta / alpha).
    return np.asarray(law.factor * (unique * law.factor) ** (law.beta / law.alpha))


def loss(law: Law, n: Floats, seen: Floats, unique: Floats, r_tokens: float, r_size: float) -> Floats:
    """Nats per token, float[n]."""
    right = np.minimum(deserved(law, unique), n)
    return law.loss(effective(right, n, r_size), effective(unique, seen, r_tokens))


def fit(points: Points, *, base: Law | None = None, draws: int = 1000, seed: int = 0) -> Repetition:
    """The repetition law with a bootstrap over runs; the base law is held fixed in it where it is given.

    Raises DataError where no run repeats, or where too few read nothing twice and no base is given.
    """
    repeats = points.d > points.unique * (1 + REPEATED)
    if not repeats.any():
        raise DataError(
            f"{len(points)} points", "repeat no token", "give a column unique_tokens and runs of several epochs"
        )
    fresh = points.where(~repeats)
    if base is None:
        base = chinchilla.fit(fresh, draws=0).law
    task, starts, sized = _second(points, base)
    best = minimise(task, starts)
    counts = drawn_counts(points.run, draws, seed)
    drawn = np.full((draws, 2), np.nan)
    shows = counts[:, repeats].sum(axis=1) > 0
    if shows.any():
        drawn[shows, : starts.shape[1]] = np.exp(redrawn(task, best.theta, counts[shows]))
    found = np.exp(best.theta)
    return Repetition(base, float(found[0]), float(found[1]) if sized else None, drawn, len(points))


def _second(points: Points, base: Law) -> tuple[Problem, Floats, bool]:
    """The problem in (ln R*_D, ln R*_N), its starts, and whether any run is larger than its tokens deserve."""
    right = np.minimum(deserved(base, points.unique), points.n)
    sized = bool((points.n > right * (1 + REPEATED)).any())
    # Each part of L: its two terms, with what they are powers of.
    sides = [(points.unique, points.d, base.B, base.beta), (right, points.n, base.A, base.alpha)]

    def curve(theta: Floats) -> tuple[Floats, Floats]:
        total = np.full((len(theta), len(points)), base.E)
        slopes = []
        for place, (unique, seen, scale, exponent) in enumerate(sides):
            if place < theta.shape[1]:
                rate = np.exp(np.clip(theta[:, place : place + 1], -20, 20))
                worth = effective(unique, seen, rate)
                extra = np.maximum(seen / unique - 1, 0.0) / rate
                # dX'/d ln R = U R (1 - e^-x - x e^-x) with x = extra / R; then d(S X'^-k) = -k S X'^(-k-1) dX'.
                moved = unique * rate * (-np.expm1(-extra) - extra * np.exp(-extra))
                term = scale * worth**-exponent
                slopes.append(-exponent * term / worth * moved)
            else:
                term = np.broadcast_to(scale * seen**-exponent, total.shape)
            total = total + term
        return np.log(total), np.stack(slopes, axis=-1) / total[:, :, None]

    axis = np.log(np.geomspace(0.5, 100, 8))
    starts = grid(axis, axis) if sized else grid(axis)
    return Problem(curve, np.log(points.loss), DELTA), starts, sized
