"""Corrections of a judge by human labels: the published worked example, other ways to the same number, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from mnemos.measure.correction import Rates, divided, labels_needed, prediction_powered, rates, rogan_gladen

PILOT = Rates(sensitivity=0.90, right=100, specificity=0.85, wrong=100)


def test_the_worked_example() -> None:
    """arXiv:2511.21140's setting: .70 of 1,000 judged right is .733 [.664, .816]."""
    found = rogan_gladen(0.70, 1000, PILOT)
    assert found.value == pytest.approx(0.7333, abs=5e-5)
    assert (found.low, found.high) == (pytest.approx(0.664, abs=6e-4), pytest.approx(0.816, abs=6e-4))
    assert (found.naive, found.naive_low, found.naive_high) == (
        0.70, pytest.approx(0.67, abs=3e-3), pytest.approx(0.73, abs=3e-3),
    )  # fmt: skip


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.55, 1), st.floats(0.55, 1))
def test_what_a_judge_would_report_is_undone(theta: float, q0: float, q1: float) -> None:
    reported = theta * q1 + (1 - theta) * (1 - q0)
    found = rogan_gladen(reported, 500, Rates(q1, 60, q0, 60))
    assert found.value == pytest.approx(theta, abs=1e-9)
    assert 0 <= found.low <= found.high <= 1
    assert found.low - 0.05 <= theta <= found.high + 0.05


def test_a_perfect_judge_with_many_labels_is_left_alone() -> None:
    found = rogan_gladen(0.4, 1000, Rates(1.0, 10**6, 1.0, 10**6))
    assert found.value == pytest.approx(0.4)
    assert found.low == pytest.approx(found.naive_low, abs=2e-4)
    assert found.high == pytest.approx(found.naive_high, abs=2e-4)


@pytest.mark.parametrize("found", [Rates(0.5, 50, 0.5, 50), Rates(0.0, 20, 1.0, 20), Rates(0.9, 9, math.nan, 0)])
def test_a_judge_like_a_coin_corrects_nothing(found: Rates) -> None:
    made = rogan_gladen(0.6, 200, found)
    assert math.isnan(made.value)
    assert made.reason is not None
    assert made.naive == 0.6


def test_rates_are_those_of_a_table() -> None:
    judged = [True] * 9 + [False] * 1 + [True] * 3 + [False] * 7
    found = rates(judged, [True] * 10 + [False] * 10)
    assert (found.sensitivity, found.right, found.specificity, found.wrong) == (0.9, 10, 0.7, 10)
    low, high = found.intervals()[0]
    reference = stats.binomtest(9, 10).proportion_ci(method="wilson")
    assert (low, high) == (pytest.approx(reference.low), pytest.approx(reference.high))
    assert math.isnan(rates([True], [True]).specificity)


def test_prediction_power_without_others_is_the_mean_of_the_labels() -> None:
    y = np.random.default_rng(0).random(40)
    found = prediction_powered(y, 1 - y, [])
    more = np.append(y, (0, 1))
    half = stats.t.ppf(0.975, 41) * more.std(ddof=1) / math.sqrt(42)
    assert found.value == pytest.approx(y.mean())
    assert (found.low, found.high) == (pytest.approx(more.mean() - half), pytest.approx(more.mean() + half))


def test_the_tuning_makes_the_variance_smallest() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(200)
    f, u = np.clip(y + rng.normal(0, 0.2, 200), 0, 1), rng.random(1000)
    found = prediction_powered(y, f, u)
    every = np.concatenate([f, u]).var(ddof=1)

    def variance(t: float) -> float:
        return t**2 * every / 1000 + (y.var(ddof=1) - 2 * t * np.cov(y, f)[0, 1] + t**2 * every) / 200

    best = optimize.minimize_scalar(variance, bounds=(0, 1), method="bounded").x
    assert found.tuning == pytest.approx(best, abs=1e-4)
    plain = prediction_powered(y, f, [])
    assert found.width < plain.width


def test_a_judge_that_always_says_the_same_leaves_the_labels() -> None:
    y = [0.0, 1.0] * 15
    found = prediction_powered(y, [0.5] * 30, [0.5] * 500)
    assert (found.value, found.tuning) == (0.5, 0.0)
    assert found.naive == 0.5


def test_copies_of_a_cluster_say_what_one_of_them_says() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(40) < 0.6).astype(float)
    f, u = np.where(rng.random(40) < 0.85, y, 1 - y), (rng.random(100) < 0.6).astype(float)
    names, others = [f"l{i}" for i in range(40)], [f"o{i}" for i in range(100)]
    once = prediction_powered(y, f, u)
    assert prediction_powered(y, f, u, clusters=names, other_clusters=others) == once
    often = prediction_powered(
        np.repeat(y, 6), np.repeat(f, 6), np.repeat(u, 6),
        clusters=list(np.repeat(names, 6)), other_clusters=list(np.repeat(others, 6)),
    )  # fmt: skip
    assert (often.value, often.width) == (pytest.approx(once.value, abs=0.005), pytest.approx(once.width, rel=0.03))
    few = prediction_powered(np.repeat(y, 6), np.repeat(f, 6), [], clusters=[str(i % 9) for i in range(240)])
    assert few.reason == "fewer than 10 independent labels: no interval"
    found = rates(np.repeat(f, 6) == 1, np.repeat(y, 6) == 1, np.repeat(names, 6))
    assert found.independent[0] < found.right / 5


def test_few_labels_are_said() -> None:
    assert prediction_powered([1.0], [1.0], [1.0]).reason == "fewer than two human labels"
    assert math.isnan(prediction_powered([1.0, 0.0], [1.0, 0.0], [1.0]).low)
    alike = prediction_powered([1.0] * 30, [1.0] * 30, [1.0] * 100)
    assert alike.low < 0.95
    assert alike.high == pytest.approx(1.0)


def test_more_labels_narrow_the_interval_and_the_budget_is_the_smallest() -> None:
    needed = labels_needed(0.12, 0.7, 2000, PILOT)
    assert needed is not None

    def width(labels: int) -> float:
        wrong, right = divided(labels, 0.7, PILOT)
        q0, q1 = (100 * 0.85 + 1) / 102, (100 * 0.9 + 1) / 102
        return rogan_gladen(0.7, 2000, Rates(q1, right, q0, wrong)).width

    assert width(needed) <= 0.12 < width(needed - 2)
    assert labels_needed(0.01, 0.7, 200, PILOT) is None  # 200 judged items alone leave more
    assert labels_needed(0.2, 0.7, 200, Rates(0.5, 50, 0.4, 50)) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        labels_needed(0.0, 0.7, 200, PILOT)


def test_the_budget_is_divided_where_the_variance_is_smallest() -> None:
    pilot = Rates(sensitivity=0.95, right=10_000, specificity=0.70, wrong=10_000)
    p = 0.6
    wrong, right = divided(1000, p, pilot)
    ratio = right / wrong
    # m1 / m0 = p / ((1 - p) sqrt(kappa)), kappa = (1 - q0) / (1 - q1)
    assert ratio == pytest.approx(p / ((1 - p) * math.sqrt(0.30 / 0.05)), rel=0.01)
