"""Means of several suites: the estimate against loops, the bootstrap against its expectation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mnemos.measure.composite import Estimate, Part, estimate, replicate_draws, resampled
from mnemos.measure.uncertainty import cluster_numbers, unseen


def part(rng: np.random.Generator, replicates: int, items: int, weight: float, clusters: int | None = None) -> Part:
    d = rng.normal(0.2, 0.3, (replicates, items))
    share = rng.random(items) + 0.1
    names = None if clusters is None else [str(i % clusters) for i in range(items)]
    return Part(d, share / share.sum(), cluster_numbers(names, items), weight)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_one_replicate_is_the_sum_of_independent_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [part(rng, 1, 12, 0.5), part(rng, 1, 9, -0.25, clusters=4)]
    found = estimate(parts)
    mean = sum(p.weight * float(p.d[0] @ p.share) for p in parts)
    units, total = 0, 0.0
    for p in parts:
        centre = float(p.d[0] @ p.share)
        for group in range(p.group.max() + 1):
            own = p.group == group
            total += (p.weight * float((p.share[own] * (p.d[0][own] - centre)).sum())) ** 2
            units += 1
    half = float(stats.t.ppf(0.975, units - 1)) * math.sqrt(total * units / (units - 1))
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / math.sqrt(total * units / (units - 1)), units - 1))


def test_suites_of_different_levels_are_no_spread() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (1, 50))
    even = np.full(50, 1 / 50)
    near = [Part(noise + level, even, np.arange(50), 0.5) for level in (0.0, 0.0)]
    far = [Part(noise + level, even, np.arange(50), 0.5) for level in (-0.5, 0.5)]
    a, b = estimate(near), estimate(far)
    assert a.mean == pytest.approx(b.mean)
    assert (a.high or 0) - (a.low or 0) == pytest.approx((b.high or 0) - (b.low or 0))


def test_nothing_seen_is_never_a_point() -> None:
    found = estimate([Part(np.zeros((1, 40)), np.full(40, 1 / 40), np.arange(40), 1.0)])
    assert found == Estimate(0.0, -unseen(40), unseen(40), 1.0)
    assert estimate([Part(np.ones((1, 1)), np.ones(1), np.zeros(1, int), 1.0)]).low is None
    assert -Estimate(1.0, 0.5, 1.5, 0.1) == Estimate(-1.0, -1.5, -0.5, 0.1)


def test_resampling_keeps_arms_paired_and_has_the_spread_of_the_estimate() -> None:
    rng = np.random.default_rng(3)
    first = [part(rng, 1, 200, 1.0)]
    shifted = [Part(p.d + 0.1, p.share, p.group, p.weight) for p in first]
    draw = np.random.default_rng(0)
    rows = replicate_draws(1, 4000, draw)
    drawn = resampled([first, shifted], rows, draw)
    np.testing.assert_allclose(drawn[1] - drawn[0], 0.1)
    found = estimate(first)
    error = ((found.high or 0) - found.mean) / float(stats.t.ppf(0.975, 199))
    assert drawn[0].mean() == pytest.approx(found.mean, abs=4 * error / 60)
    assert drawn[0].std() == pytest.approx(error, rel=0.1)
    assert replicate_draws(3, 5, draw).sum(axis=1) == pytest.approx(np.ones(5))


def test_no_interval_of_points_passes_what_is_possible() -> None:
    """A whole of parts from -1 to 1 lies within the sum of their factors, whatever Student's t says."""
    d = np.array([[1.0, 1.0, 1.0, 0.2]])
    own = Part(d, np.full(4, 0.25), np.arange(4))
    found = estimate([own])
    assert found.high == 1.0
    assert found.low is not None
    assert found.low < 0.8
    assert (-estimate([own])).low == -1.0
    assert estimate([own, dataclasses.replace(own)]).high == 2.0
    free = estimate([own], bounded=False)
    assert free.high is not None
    assert free.high > 1.0
