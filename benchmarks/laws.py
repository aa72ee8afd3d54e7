"""Fitting a law of the loss: the time of the whole grid with 1,000 bootstraps, and whether the intervals cover.

    python -m benchmarks laws

Points are made up: 240 runs of a known law with the noise that the Chinchilla runs show around theirs. The time's peer
is its bound, 180 s of processor time on one core. Coverage: REPEATS sets of points of the same truth, DRAWS bootstraps
each, how often the 95 % interval of each number holds the truth; the peer is 95, the bound 0.97.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.common import Result, compared
from mnemos.measure.laws import chinchilla, fitting
from mnemos.measure.laws.points import Points, made

TRUTH = chinchilla.Law(A=482.0, B=2085.0, E=1.817, alpha=0.3478, beta=0.3658)
RUNS, NOISE = 240, 0.012
REPEATS, DRAWS = 200, 200
SECONDS = 180.0


def points(seed: int, runs: int = RUNS) -> Points:
    """Sizes and tokens drawn evenly in logarithms over the ranges of the Chinchilla runs."""
    rng = np.random.default_rng(seed)
    n = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), runs))
    d = np.exp(rng.uniform(np.log(1e9), np.log(3e11), runs))
    return made(n, d, TRUTH.loss(n, d) * np.exp(NOISE * rng.standard_normal(runs)))


def run() -> Iterator[Result]:
    """Seconds, then coverage."""
    yield seconds()
    yield covered()


def seconds() -> Result:
    started = time.process_time()
    fitted = chinchilla.fit(points(0), draws=1000)
    taken = time.process_time() - started
    found = {name: value for name, (value, *_) in fitted.intervals().items()}
    return compared("laws-fit", ([taken], [SECONDS]), unit="s", direction="lower is better", bound=1.0,
                    details={"runs": RUNS, "draws": 1000, "found": found, "agree": fitted.agree})  # fmt: skip


def covered() -> Result:
    table = {str(runs): coverage(runs) for runs in (40, RUNS)}
    lowest = min(value for row in table.values() for value in row.values())
    return compared("laws-coverage", ([lowest], [95.0]), unit="%", direction="higher is better", bound=0.97,
                    details={"repeats": REPEATS, "draws": DRAWS, "coverage": table})  # fmt: skip


def coverage(runs: int) -> dict[str, Any]:
    """Of each number, the share of intervals that hold the truth, in percent."""
    hits = np.zeros(len(chinchilla.NAMES))
    starts = TRUTH.theta + np.random.default_rng(1).normal(0, [2, 2, 0.2, 0.1, 0.1], (8, 5))
    for seed in range(1, REPEATS + 1):
        some = points(seed, runs)
        task = chinchilla.problem(some)
        best = fitting.minimise(task, np.vstack([TRUTH.theta[None], starts]))
        drawn = fitting.redrawn(task, best.theta, fitting.drawn_counts(some.run, DRAWS, seed))
        laws = [chinchilla.Law.of(theta) for theta in drawn]
        for place, name in enumerate(chinchilla.NAMES):
            low, high = fitting.interval(np.array([getattr(law, name) for law in laws]))
            hits[place] += low is not None and high is not None and low <= getattr(TRUTH, name) <= high
    return {name: 100 * float(hit) / REPEATS for name, hit in zip(chinchilla.NAMES, hits, strict=True)}
