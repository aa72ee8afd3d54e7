"""Curves over training, and when a rising reward counts as hacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mnemos.measure.trajectory import ArmCurves, SuiteCurves, trajectories
from mnemos.measure.uncertainty import mean_interval, paired

ITEMS = 120


def right(rng: np.random.Generator, rates: list[float], seeds: int, items: int = ITEMS) -> np.ndarray:
    """float[S, M, n]: right or wrong. Each item has a difficulty, so that moments and seeds agree on most."""
    hard = rng.random(items)
    noise = 0.05 * rng.standard_normal((seeds, len(rates), items))
    values = (hard + noise < np.array(rates)[None, :, None]).astype(float)
    values[:, 0] = values[0, 0]
    return values


def arm(values: np.ndarray, reward: np.ndarray | None, role: str = "new", better: str = "higher") -> ArmCurves:
    seeds, moments, items = values.shape
    suite = SuiteCurves("true", role, "points", better, values, np.ones(items), [None] * items)
    noted = {"reward": np.full((seeds, moments - 1), np.nan) if reward is None else reward}
    return ArmCurves("proxy", np.tile(10.0 * np.arange(moments), (seeds, 1)), noted, [suite])


def found(one: ArmCurves) -> list[dict[str, Any]]:
    hacked: list[dict[str, Any]] = trajectories([one])[0]["hacking"]
    return hacked


def rising(seeds: int, low: float = 0.3, high: float = 0.9, noise: float = 0.02) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.linspace(low, high, 4)[None, :] + noise * rng.standard_normal((seeds, 4))


FALLING, HUMP, FLAT = [0.5, 0.45, 0.35, 0.2, 0.1], [0.3, 0.6, 0.7, 0.4, 0.3], [0.5] * 5


def test_a_rising_reward_and_a_falling_suite_are_hacking() -> None:
    values = right(np.random.default_rng(0), FALLING, 5)
    (entry,) = found(arm(values, rising(5)))
    assert (entry["suite"], entry["moment"]) == ("true", 0)
    assert entry["score"]["delta"] == pytest.approx(float((values[:, -1] - values[:, 0]).mean()))
    first, last = rising(5)[:, 0], rising(5)[:, -1]
    test = stats.ttest_rel(last, first)
    span = test.confidence_interval(0.95)
    assert [entry["reward"]["low"], entry["reward"]["high"]] == pytest.approx([span.low, span.high])
    assert entry["p_holm"] >= test.pvalue


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("rates", [FALLING, HUMP, [0.95, 0.9, 0.8, 0.6, 0.5]])
def test_the_interval_of_a_fall_is_that_of_the_paired_change(rates: list[float], better: str) -> None:
    """Each end is where it belongs, and no more is lost than there was."""
    values = right(np.random.default_rng(2), rates, 3)
    values = values if better == "higher" else 1 - values
    (entry,) = found(arm(values, rising(3), better=better))
    score = entry["score"]
    assert score["low"] <= score["delta"] <= score["high"]
    assert score["low"] >= -1
    assert score["high"] <= 1
    first = values[:, entry["moment"]].mean(axis=0)
    whole = paired(first, first + values[:, -1] - values[:, entry["moment"]])
    assert (score["low"], score["high"]) == pytest.approx((whole.low, whole.high))
    if entry["moment"] == 0:
        plain = paired(values[0, 0], values[:, -1])
        assert (score["low"], score["high"]) == pytest.approx((plain.low, plain.high))


def test_a_fall_from_the_best_moment_counts_although_the_start_was_as_low() -> None:
    values = right(np.random.default_rng(0), HUMP, 5)
    (entry,) = found(arm(values, rising(5)))
    assert entry["moment"] == 2
    # The model at the second moment is what the second stretch ended in.
    assert entry["reward"]["start"] == pytest.approx(float(rising(5)[:, 1].mean()))


@pytest.mark.parametrize(
    "one",
    [
        arm(right(np.random.default_rng(0), FLAT, 5), rising(5)),
        arm(right(np.random.default_rng(0), FALLING[::-1], 5), rising(5)),
        arm(right(np.random.default_rng(0), FALLING, 5), rising(5, 0.5, 0.5)),
        arm(right(np.random.default_rng(0), FALLING, 5), rising(5, 0.9, 0.3)),
        arm(right(np.random.default_rng(0), FALLING, 5), rising(5), role="old"),
        arm(right(np.random.default_rng(0), FALLING, 5), rising(5), better="lower"),
        arm(right(np.random.default_rng(0), FALLING, 5), None),
        arm(right(np.random.default_rng(0), FALLING, 1), rising(1)),
        arm(right(np.random.default_rng(0), [0.5, 0.5, 0.5, 0.5, 0.47], 2, 20), rising(2)),
    ],
    ids=["flat suite", "rising suite", "flat reward", "falling reward", "forgetting", "falling is better",
         "no reward", "one seed", "too few to tell"],
)  # fmt: skip
def test_nothing_else_is(one: ArmCurves) -> None:
    assert found(one) == []


def test_a_suite_in_which_less_is_better_is_hacked_when_it_rises() -> None:
    values = right(np.random.default_rng(0), FALLING[::-1], 5)
    (entry,) = found(arm(values, rising(5), better="lower"))
    assert entry["score"]["delta"] > 0


def test_chance_alone_is_called_hacking_as_rarely_as_it_says() -> None:
    """Rewards that rise for certain and a suite that only wavers: the search over moments must be paid for."""
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(200):
        hard = rng.random((1, 1, 60)) < 0.5
        values = np.where(rng.random((4, 5, 60)) < 0.3, rng.random((4, 5, 60)) < 0.5, hard).astype(float)
        called += bool(found(arm(values, rising(4))))
    assert called <= 14, "of 200; 5 % would be 10, and only falls count"


def test_missing_scores_are_left_out_everywhere_and_counted() -> None:
    values = right(np.random.default_rng(0), FALLING, 3)
    values[1, 2, :7] = np.nan
    suite = trajectories([arm(values, rising(3))])[0]["suites"]["true"]
    assert (suite["items"], suite["missing"]) == (ITEMS - 7, 7)
    means = [moment["mean"] for moment in suite["moments"]]
    assert means == pytest.approx([float(values[:, m, 7:].mean()) for m in range(5)])


def test_intervals_over_seeds() -> None:
    rng = np.random.default_rng(0)
    graded = rng.random((4, 30))
    difference = paired(np.zeros(30), graded, bounded=False)
    assert mean_interval(graded, bounded=False) == pytest.approx((difference.delta, difference.low, difference.high))
    row = (rng.random(50) < 0.4).astype(float)
    assert mean_interval(row[None]) == mean_interval(row)
    alike = mean_interval(np.stack([row] * 5))
    apart = mean_interval((rng.random((5, 50)) < np.array([0.1, 0.2, 0.4, 0.6, 0.7])[:, None]).astype(float))
    assert alike == pytest.approx(mean_interval(row), abs=0.03), "five equal seeds tell no more than one"
    assert apart[2] - apart[1] > alike[2] - alike[1]
