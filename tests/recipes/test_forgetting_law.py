"""Laws of forgetting: known laws are found again, noise is told not to fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from mnemos.core.errors import DataError
from mnemos.core.files import write_json
from mnemos.recipes.reproductions.forgetting_law import (
    Point,
    bootstrapped,
    line,
    main,
    points,
    power,
    power_law,
    r_squared,
)

STEPS, PARAMETERS = (15, 45, 135), (1_000, 4_000, 16_000, 64_000)


def made(law: Any, noise: float = 0.0, seeds: int = 5) -> list[Point]:
    rng = np.random.default_rng(1)
    out = []
    for seed in range(seeds):
        for parameters in PARAMETERS:
            for steps in STEPS:
                loss = 3 - 0.2 * np.log(steps) - 0.1 * np.log(parameters) + 0.01 * rng.standard_normal()
                forgotten = law(parameters, steps, loss) + noise * rng.standard_normal()
                out.append(Point("s", f"lora{parameters}", parameters, steps, seed, float(loss), float(forgotten)))
    return out


@settings(max_examples=20, deadline=None)
@given(c=st.floats(0.1, 3), s=st.floats(0, 5), noise=st.floats(0, 0.2))
def test_the_line_is_scipys(c: float, s: float, noise: float) -> None:
    found = made(lambda p, n, loss: s - c * loss, noise)
    fit = line(found)
    reference = linregress([p.learned_loss for p in found], [p.forgotten for p in found])
    assert fit["c"] == pytest.approx(-reference.slope, abs=1e-8)
    assert fit["s"] == pytest.approx(reference.intercept, abs=1e-8)
    assert fit["r2"] == pytest.approx(reference.rvalue**2, abs=1e-8)


def test_a_power_law_is_found_again() -> None:
    theta = np.array([2.0, np.log(500.0), np.log(8.0), np.log(0.4), np.log(0.5), np.log(0.8)])
    found = made(lambda p, n, loss: power_law(theta, np.array([float(p)]), np.array([float(n)]))[0], noise=0.002)
    fit = power(found)
    assert fit["r2"] > 0.99
    again = np.array([fit["top"], *(np.log(fit[name]) for name in ("a", "b", "alpha", "beta", "rho"))])
    p, n = np.array([8_000.0]), np.array([80.0])  # between the points that were fitted
    assert power_law(again, p, n) == pytest.approx(power_law(theta, p, n), abs=0.02)


def test_power_law_by_hand() -> None:
    theta = np.array([1.0, np.log(4.0), np.log(9.0), np.log(0.5), np.log(0.5), 0.0])
    assert power_law(theta, np.array([16.0]), np.array([36.0]))[0] == pytest.approx(1 - (0.5 + 0.5))


def test_noise_does_not_fit_and_intervals_hold_the_truth() -> None:
    law = bootstrapped(made(lambda p, n, loss: 4 - 1.5 * loss, noise=0.02), line, draws=100)
    value, low, high = law.numbers["c"]
    assert low <= value <= high
    assert low <= 1.5 <= high
    assert law.fits
    assert not bootstrapped(made(lambda p, n, loss: 0.0, noise=1.0), line, draws=20).fits


def test_r_squared_of_the_mean_is_nought() -> None:
    y = np.array([1.0, 2.0, 4.0])
    assert r_squared(y, np.full(3, y.mean())) == pytest.approx(0)
    assert r_squared(y, y) == 1
    assert np.isnan(r_squared(np.ones(3), np.ones(3)))


def results(arms: dict[str, tuple[int, int]], suite: str = "moved") -> dict[str, Any]:
    return {
        "study": "lost-x",
        "arms": [
            {
                "arm": arm,
                "runs": [
                    {
                        "seed": seed,
                        "scores": {
                            "bits-per-byte:glossa": {"mean": 3 - 0.01 * steps + 0.01 * seed},
                            suite: {"mean": 0.001 * steps + 0.001 * seed},
                        },
                        "cost": {"trainable_parameters": parameters, "steps": steps},
                    }
                    for seed in range(3)
                ],
            }
            for arm, (parameters, steps) in arms.items()
        ],
    }


def test_points_and_page(tmp_path: Path) -> None:
    given = results({"plain": (99, 135), "full-15": (99, 15), "lora4-15": (7, 15), "lora4-45": (7, 45)})
    found = points(given)
    assert {(p.way, p.parameters) for p in found} == {("full", 99), ("lora4", 7)}
    assert found[0].learned_loss == pytest.approx((3 - 1.35) * np.log(2))
    write_json(tmp_path / "results.json", given)
    assert main(["--results", str(tmp_path / "results.json"), "--out", str(tmp_path / "law.md")]) == 0
    text = (tmp_path / "law.md").read_text()
    assert "| full | 99 | 135 |" in text
    assert "| all ways |" in text
    assert "fits" in text
    with pytest.raises(DataError, match="moved"):
        points(results({"plain": (1, 1)}, suite="other"))
