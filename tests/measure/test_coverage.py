"""Do 95 % intervals cover? Simulation, with the truth known; bounds that a wrong method fails.

The whole table is made by `benchmarks.intervals`; here are other distributions: logits of difficulty and luck.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit

from mnemos.measure.uncertainty import paired

Case = tuple[np.ndarray, np.ndarray, np.ndarray | None, list[str] | None, float]
REPEATS = 500


def covered(draw: Callable[[np.random.Generator], Case], *, bounded: bool) -> float:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(REPEATS):
        x, y, weights, clusters, truth = draw(rng)
        found = paired(x, y, weights=weights, clusters=clusters, bounded=bounded, power=False)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    return hits / REPEATS


def flips(n: int, lost: float, gained: float) -> Callable[[np.random.Generator], Case]:
    def draw(rng: np.random.Generator) -> Case:
        kind = rng.choice(4, size=n, p=[lost, gained, 0.6, 0.4 - lost - gained])
        before, after = np.isin(kind, (0, 2)), np.isin(kind, (1, 2))
        return before.astype(float), after.astype(float)[None], None, None, gained - lost

    return draw


def trained(n: int, seeds: int, items: float, runs: float, clusters: int = 0) -> Callable[[np.random.Generator], Case]:
    """Right-or-wrong items of varying difficulty, seeds of varying luck, on the logit scale."""
    wide = np.random.default_rng(1)
    a, b = wide.normal(size=(2, 400_000)) * [[np.hypot(items, 1.0 if clusters else 0.0)], [runs]]
    truth = float(expit(-1 + a + b).mean() - expit(a).mean())

    def draw(rng: np.random.Generator) -> Case:
        group = rng.integers(clusters, size=n) if clusters else np.arange(n)
        hard = rng.normal(size=n) * items + (rng.normal(size=clusters)[group] if clusters else 0.0)
        luck = rng.normal(size=(seeds, 1)) * runs
        x = (rng.random(n) < expit(hard)).astype(float)
        y = (rng.random((seeds, n)) < expit(-1 + hard + luck)).astype(float)
        return x, y, None, [str(g) for g in group] if clusters else None, truth

    return draw


def graded(
    n: int, seeds: int, runs: float, clusters: int = 0, weighted: bool = False
) -> Callable[[np.random.Generator], Case]:
    def draw(rng: np.random.Generator) -> Case:
        group = rng.integers(clusters, size=n) if clusters else np.arange(n)
        shared = rng.normal(size=clusters)[group] if clusters else 0.0
        d = (
            0.3
            + shared
            + rng.exponential(size=n)
            - 1
            + rng.normal(size=(seeds, 1)) * runs
            + rng.normal(size=(seeds, n))
        )
        weights = rng.integers(50, 1000, size=n).astype(float) if weighted else None
        return np.zeros(n), d, weights, [str(g) for g in group] if clusters else None, 0.3

    return draw


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "bounded"),
    [
        (flips(50, 0.10, 0.02), True),
        (flips(100, 0.05, 0.05), True),
        (flips(300, 0.30, 0.05), True),
        (trained(100, 3, 2, 0), True),
        (trained(100, 3, 2, 0.5), True),
        (trained(100, 3, 2, 1.5), True),
        (trained(300, 5, 2, 0.5), True),
        (trained(300, 2, 2, 0.3), True),
        (trained(200, 1, 1, 0, clusters=20), True),
        (trained(200, 3, 1, 0.3, clusters=20), True),
        (graded(30, 1, 0), False),
        (graded(60, 1, 0, weighted=True), False),
        (graded(60, 3, 0.2, weighted=True), False),
        (graded(50, 3, 2), False),
        (graded(150, 1, 0, clusters=15), False),
        (graded(150, 3, 0.2, clusters=15), False),
    ],
)
def test_intervals_cover(draw: Callable[[np.random.Generator], Case], bounded: bool) -> None:
    """Nominal 0.95; the seed is fixed, and 500 repetitions have a standard error of 0.01."""
    assert 0.93 <= covered(draw, bounded=bounded) <= 0.998


@pytest.mark.slow
def test_ignoring_seeds_or_clusters_would_fail_these_bounds() -> None:
    """The bounds have teeth: the same data without what makes items dependent is covered too rarely."""
    draw = trained(200, 1, 1, 0, clusters=20)

    def naive(rng: np.random.Generator) -> Case:
        x, y, weights, _, truth = draw(rng)
        return x, y, weights, None, truth

    lucky = graded(50, 3, 2)

    def pooled(rng: np.random.Generator) -> Case:
        x, y, weights, clusters, truth = lucky(rng)
        return x, y.mean(axis=0, keepdims=True), weights, clusters, truth

    assert covered(pooled, bounded=False) < 0.6
    assert covered(naive, bounded=True) < covered(draw, bounded=True)
