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
from mnemos.measure.uncertainty import cluster_numbers, t_p, t_quantile, two_way, unseen


def part(rng: np.random.Generator, replicates: int, items: int, weight: float, clusters: int | None = None) -> Part:
    d = rng.normal(0.2, 0.3, (replicates, items))
    share = rng.random(items) + 0.1
    names = None if clusters is None else [str(i % clusters) for i in range(items)]
    return Part(d, share / share.sum(), cluster_numbers(names, items), weight)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_one_replicate_is_welch_s_sum_of_independent_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [part(rng, 1, 12, 0.5), part(rng, 1, 9, -0.25, clusters=4)]
    found = estimate(parts)
    mean, variances, freedom = 0.0, [], []
    for p in parts:
        centre = float(p.d[0] @ p.share)
        mean += p.weight * centre
        units = int(p.group.max()) + 1
        total = 0.0
        for group in range(units):
            own = p.group == group
            total += (p.weight * float((p.share[own] * (p.d[0][own] - centre)).sum())) ** 2
        variances.append(total * units / (units - 1))
        freedom.append(units - 1)
    error = math.sqrt(sum(variances))
    df = sum(variances) ** 2 / sum(v**2 / f for v, f in zip(variances, freedom, strict=True))
    half = float(stats.t.ppf(0.975, df)) * error
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, df), rel=1e-6)


def test_two_suites_of_single_items_are_welch_s_test() -> None:
    """The difference of two independent means, as scipy has it."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.1, 0.1, 9), rng.normal(0.0, 0.4, 30)
    parts = [Part(x[None], np.full(len(x), 1 / len(x)), np.arange(len(x)), w) for x, w in ((a, 1.0), (b, -1.0))]
    theirs = stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    found = estimate(parts, bounded=False)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6)


@pytest.mark.parametrize("replicates", [1, 2, 3])
def test_one_suite_is_the_two_way_interval(replicates: int) -> None:
    rng = np.random.default_rng(replicates)
    own = part(rng, replicates, 20, 1.0, clusters=7)
    spread = two_way(own.d, own.share, own.group)
    mean = float(own.means.mean())
    half = t_quantile(spread.df) * math.sqrt(spread.variance)
    found = estimate([own], bounded=False)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-6)
    assert found.p == pytest.approx(t_p(mean, spread), rel=1e-6)


@pytest.mark.parametrize(
    ("suites", "replicates", "least"),
    [
        (((4, 20), (300, 1)), 1, 0.93),  # 0.83 with one factor and one count of degrees of freedom
        (((3, 30), (300, 1)), 1, 0.90),  # 0.76
        (((12, 1), (500, 1)), 1, 0.93),
        (((5, 20), (300, 1)), 3, 0.92),
    ],
)
def test_small_suites_and_few_clusters_are_covered(
    suites: tuple[tuple[int, int], ...], replicates: int, least: float
) -> None:
    """suites: clusters and items of each. Items of a cluster move alike 7 times of 10; the true mean is 0.1."""
    rng = np.random.default_rng(11)
    hits, draws = 0, 600
    for _ in range(draws):
        parts = []
        for clusters, items in suites:
            shared = np.where(
                rng.random((clusters, items)) < 0.7, rng.random((clusters, 1)), rng.random((clusters, items))
            )
            again = rng.random((replicates, clusters, items)) < 0.8
            place = np.where(again, shared, rng.random((replicates, clusters, items)))
            d = np.where(place < 0.25, 1.0, np.where(place > 0.85, -1.0, 0.0)).reshape(replicates, -1)
            n = clusters * items
            parts.append(Part(d, np.full(n, 1 / n), np.repeat(np.arange(clusters), items), 1 / len(suites)))
        found = estimate(parts)
        hits += found.low is not None and found.high is not None and found.low <= 0.1 <= found.high
    assert hits / draws >= least


def test_suites_of_different_levels_are_no_spread() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (1, 50))
    even = np.full(50, 1 / 50)
    near = [Part(noise + level, even, np.arange(50), 0.5) for level in (0.0, 0.0)]
    far = [Part(noise + level, even, np.arange(50), 0.5) for level in (-0.5, 0.5)]
    a, b = estimate(near), estimate(far)
    assert a.mean == pytest.approx(b.mean)
    assert (a.high or 0) - (a.low or 0) == pytest.approx((b.high or 0) - (b.low or 0))


def still(items: int, weight: float = 1.0, value: float = 0.0, *, zero: bool = False) -> Part:
    return Part(np.full((1, items), value), np.full(items, 1 / items), np.arange(items), weight, zero)


def test_nothing_seen_is_never_a_point() -> None:
    found = estimate([still(40)])
    assert (found.mean, found.low, found.high, found.p) == (
        0.0,
        pytest.approx(-unseen(40)),
        pytest.approx(unseen(40)),
        1.0,
    )
    assert estimate([still(1, value=1.0)]).low is None
    assert -Estimate(1.0, 0.5, 1.5, 0.1) == Estimate(-1.0, -1.5, -0.5, 0.1)


def test_what_a_still_suite_may_hide_is_added_once() -> None:
    """Of two still suites the one counts in which an unseen item would move the whole most."""
    rng = np.random.default_rng(2)
    moving = part(rng, 1, 50, 0.5)
    alone, beside = estimate([moving]), estimate([moving, still(30, 0.25), still(400, 0.25)])
    assert alone.high is not None
    assert beside.high is not None
    assert beside.high - beside.mean == pytest.approx(math.hypot(alone.high - alone.mean, 0.25 * unseen(30)))
    whole = estimate([still(30, 0.5), still(30, 0.5)])
    assert whole.high == pytest.approx(unseen(30) / 2)


def test_what_is_known_to_be_0_hides_nothing() -> None:
    found = estimate([still(40, zero=True)])
    assert found == Estimate(0.0, 0.0, 0.0, 1.0)
    moving = part(np.random.default_rng(2), 1, 50, 0.5)
    assert estimate([moving, still(1, 0.5, zero=True)]).as_dict() == pytest.approx(estimate([moving]).as_dict())


def test_a_suite_of_one_unit_leaves_no_interval() -> None:
    """One item says nothing about how far its suite's mean may lie off."""
    found = estimate([part(np.random.default_rng(3), 1, 200, 0.5), still(1, 0.5, 0.9)])
    assert (found.low, found.high, found.p) == (None, None, None)


def test_units_that_all_moved_alike_are_a_sign_test() -> None:
    assert estimate([still(6, 0.5, 1.0), still(9, 0.5, 1.0), still(2, 0.5)]).p == pytest.approx(2 * 0.5**6)


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
