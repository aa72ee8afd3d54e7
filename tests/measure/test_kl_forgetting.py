"""The quadratic of forgetting against divergence, against numpy and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from mnemos.measure.frontier import SuiteScores
from mnemos.measure.kl_forgetting import kl_forgetting, r_squared


def suites(kl: dict[str, list[float]], forgotten: dict[str, list[float]]) -> list[SuiteScores]:
    """Two items a suite whose means are the given numbers, and a missing score in the divergence."""
    weight = np.array([3.0, 1.0, 2.0])
    divergence = {arm: np.array([[x, x, np.nan] for x in values]) for arm, values in kl.items()}
    lost = {arm: np.array([[0.9 - y, 0.9 - y, 0.9 - y] for y in values]) for arm, values in forgotten.items()}
    zero, before = np.zeros(3), np.full(3, 0.9)
    nothing: list[str | None] = [None] * 3
    return [
        SuiteScores("kl:new", "health", "nats per token", "lower", zero, divergence, weight, nothing),
        SuiteScores("old-1", "old", "points", "higher", before, lost, weight, nothing),
        SuiteScores("old-2", "old", "points", "lower", before, {a: 1.8 - lost[a] for a in lost}, np.ones(3), nothing),
        SuiteScores("english", "old", "bits", "lower", before, {a: 9 * lost[a] for a in lost}, weight, nothing),
    ]


def made(bend: float, noise: float = 0.0, off: float = 0.0) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    draw = np.random.default_rng(0)
    kl = {f"arm-{i}": [float(0.1 * i + 0.02 * s) for s in range(4)] for i in range(6)}
    forgotten = {
        arm: [float(0.2 * x + bend * x * x + noise * draw.normal() + (off if arm == "arm-3" else 0)) for x in values]
        for arm, values in kl.items()
    }
    return kl, forgotten


def found(kl: dict[str, list[float]], forgotten: dict[str, list[float]]) -> dict[str, Any]:
    result = kl_forgetting(suites(kl, forgotten), ["kl:new"], list(kl))
    assert result is not None
    return result


def test_a_quadratic_is_found_again() -> None:
    result = found(*made(0.5))
    assert result["old"] == ["old-1", "old-2"]
    assert len(result["points"]) == 24
    fit = result["fit"]
    assert np.allclose(fit["coefficients"], [0.0, 0.2, 0.5], atol=1e-9)
    assert fit["r2"]["mean"] == pytest.approx(1)
    assert (fit["r2"]["low"], fit["r2"]["high"]) == (pytest.approx(1), pytest.approx(1))
    assert fit["spearman"] == pytest.approx(1)


def test_numbers_are_numpys() -> None:
    kl, forgotten = made(0.5, noise=0.02)
    x, y = (np.concatenate(list(side.values())) for side in (kl, forgotten))
    curve = np.poly1d(np.polyfit(x, y, 2))
    expected = 1 - ((y - curve(x)) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    fit = found(kl, forgotten)["fit"]
    assert fit["r2"]["mean"] == pytest.approx(expected) == pytest.approx(r_squared(x, y))
    assert fit["r2"]["low"] < expected < fit["r2"]["high"] <= 1
    assert fit["spearman"] == pytest.approx(spearmanr(x, y).statistic)
    assert found(kl, forgotten) == found(kl, forgotten)


def test_an_arm_off_the_curve_of_the_others_is_seen() -> None:
    fit = found(*made(0.5, noise=0.002, off=0.3))["fit"]
    gaps = {one["arm"]: one for one in fit["off"]}
    assert gaps["arm-3"]["low"] > 0.28
    assert gaps["arm-3"]["mean"] == pytest.approx(0.3, abs=0.01)
    straight = found(*made(0.5, noise=0.002))["fit"]
    inside = [one for one in straight["off"] if one["low"] <= 0 <= one["high"]]
    assert len(inside) >= 4


@pytest.mark.parametrize(
    ("kl", "forgotten", "why"),
    [
        ({"a": [0.1, 0.2]}, {"a": [0.0, 0.1]}, "2 points, a quadratic needs 5"),
        ({"a": [0.1] * 5}, {"a": [0.0, 0.1, 0.2, 0.3, 0.4]}, "fewer than 3 divergences"),
        ({"a": [0.1, 0.2, 0.3, 0.4, 0.5]}, {"a": [0.1] * 5}, "every run forgot the same"),
    ],
)
def test_what_cannot_be_fitted_is_said(kl: Any, forgotten: Any, why: str) -> None:
    result = found(kl, forgotten)
    assert result["fit"] is None
    assert why in result["why_not"]


def test_without_its_suites_there_is_none() -> None:
    kl, forgotten = made(0.5)
    assert kl_forgetting(suites(kl, forgotten), [], list(kl)) is None
    assert kl_forgetting(suites(kl, forgotten)[:1], ["kl:new"], list(kl)) is None
