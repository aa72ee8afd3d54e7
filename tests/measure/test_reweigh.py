"""Limits from reweighed items against independent references: the binomial's exact limits, and drawn weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mnemos.measure.reweigh import Items, quantile_of_zero

UNIT = (0.0, 1.0)


def items(values: np.ndarray, bounds: tuple[float, float] | None = UNIT) -> Items:
    return Items.of(values, np.ones(len(values)), np.arange(len(values)), bounds)


@pytest.mark.parametrize("n", [9, 40, 400])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_of_right_or_wrong_items_they_are_clopper_and_pearsons(n: int, share: float) -> None:
    right = round(share * n)
    own = items(np.array([1.0] * right + [0.0] * (n - right)))
    low, high = proportion_confint(right, n, method="beta")
    if right:
        assert own.limit(1.96, -1) == pytest.approx(low, abs=0.008)
    if right < n:
        assert own.limit(1.96, 1) == pytest.approx(high, abs=0.008)


@pytest.mark.parametrize("kind", ["even", "skewed", "alike"])
def test_they_are_quantiles_of_drawn_weights(kind: str) -> None:
    """Gaffke's bound by its definition: a low quantile of the reweighed mean with 0 added."""
    rng = np.random.default_rng(0)
    values = {"even": rng.random(20), "skewed": rng.beta(0.4, 3, 20), "alike": np.full(20, 0.5)}[kind]
    weights = rng.dirichlet(np.ones(21), 200_000)
    for side, bound, level in ((-1, 0.0, 0.025), (1, 1.0, 0.975)):
        drawn = np.quantile(weights @ np.append(values, bound), level)
        assert items(values).limit(1.96, side) == pytest.approx(drawn, abs=0.006)


def test_the_quantile_of_zero_is_that_of_drawn_sums() -> None:
    rng = np.random.default_rng(1)
    for size in (3, 12, 60):
        z = rng.normal(0.1, 1.0, size)
        share = float((rng.exponential(size=(200_000, size)) @ z <= 0).mean())
        assert quantile_of_zero(z) == pytest.approx(float(stats.norm.ppf(share)), abs=0.06)
    assert quantile_of_zero(np.array([0.0, 1.0])) == -np.inf
    assert quantile_of_zero(np.array([0.0, -1.0])) == np.inf


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(10, 60))
def test_limits_hold_the_mean_widen_and_mirror(seed: int, bounded: bool, n: int) -> None:
    values = np.random.default_rng(seed).beta(0.5, 2, n)
    own = items(values, UNIT if bounded else None)
    mirrored = items(1 - values, UNIT if bounded else None)
    for side in (-1, 1):
        near, far = own.limit(1.0, side), own.limit(2.5, side)
        assert side * (near - own.mean) >= 0
        assert side * (far - near) >= 0
        assert mirrored.limit(2.0, -side) == pytest.approx(1 - own.limit(2.0, side), abs=1e-4)
        assert own.level(far, side) == pytest.approx(2.5 * side, abs=0.02)
        if bounded:
            assert 0 <= far <= 1
