"""The frontier and its knee against brute force; contrasts against differences taken by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mnemos.measure.frontier import SuiteScores, choose, contrasts, frontier, likely


def suite(
    name: str, role: str, before: float, after: dict[str, float], n: int = 400, unit: str = "points", **more: Any
) -> SuiteScores:
    """Right-or-wrong items that share one difficulty, so that arms are paired."""
    rng = np.random.default_rng(len(name))
    level = rng.permutation(n) / n
    rows = {arm: np.stack([(level < rate) * 1.0 for _ in range(2)]) for arm, rate in after.items()}
    first = (level < before) * 1.0
    return SuiteScores(name, role, unit, more.get("better", "higher"), first, rows, np.ones(n), [None] * n)


ARMS = {"plain": (0.95, 0.3), "replay": (0.9, 0.85), "kl": (0.6, 0.89), "bad": (0.5, 0.4), "idle": (0.0, 0.9)}


def suites() -> list[SuiteScores]:
    return [
        suite("new", "new", 0.0, {arm: rates[0] for arm, rates in ARMS.items()}),
        suite("old", "old", 0.9, {arm: rates[1] for arm, rates in ARMS.items()}),
        suite("errors", "old", 0.1, {arm: 1 - rates[1] for arm, rates in ARMS.items()}, better="lower"),
        suite("bits", "old", 0.5, dict.fromkeys(ARMS, 0.5), unit="bits"),
        suite("drift", "health", 0.5, dict.fromkeys(ARMS, 0.5)),
    ]


def test_points_are_means_of_gains_and_the_knee_is_the_best_balance() -> None:
    found = frontier(suites(), list(ARMS))
    assert found is not None
    assert (found["new"], found["old"]) == (["new"], ["old", "errors"])
    assert [entry["suite"] for entry in found["left_out"]] == ["bits"]
    points = {point["arm"]: point for point in found["points"]}
    for arm, (new, old) in ARMS.items():
        assert points[arm]["learned"]["mean"] == pytest.approx(new, abs=0.01)
        assert points[arm]["forgotten"]["mean"] == pytest.approx(0.9 - old, abs=0.01)
        assert points[arm]["balance"]["mean"] == pytest.approx(new - 0.9 + old, abs=0.01)
    assert found["knee"] == "replay"
    assert points["replay"]["chosen"] == 1.0
    assert found["likely"] == ["replay"]
    assert {arm for arm, point in points.items() if point["on_frontier"]} == {"plain", "replay", "kl", "idle"}
    assert set(points["bad"]["proven_by"]) == {"replay", "kl"}
    assert not points["idle"]["proven"]
    assert points["kl"]["below_knee"]
    assert not points["replay"]["below_knee"]


def test_two_arms_that_cannot_be_told_apart_share_the_draws() -> None:
    rng = np.random.default_rng(1)
    level = rng.random(300)
    noisy = {arm: (np.clip(level + 0.2 * rng.standard_normal(300), 0, 1) < 0.7)[None] * 1.0 for arm in ("a", "b")}
    made = [
        SuiteScores("new", "new", "points", "higher", np.zeros(300), noisy, np.ones(300), [None] * 300),
        suite("old", "old", 0.9, {"a": 0.9, "b": 0.9}, n=300),
    ]
    made[1] = SuiteScores(**{**made[1].__dict__, "after": {arm: rows[:1] for arm, rows in made[1].after.items()}})
    found = frontier(made, ["a", "b"])
    assert found is not None
    assert found["likely"] == ["a", "b"]
    assert sum(point["chosen"] for point in found["points"]) == pytest.approx(1.0)
    assert not any(point["below_knee"] or point["proven_by"] for point in found["points"])


def test_nothing_learned_has_no_knee_and_missing_suites_no_frontier() -> None:
    idle = [suite("new", "new", 0.0, {"a": 0.0, "b": 0.0}), suite("old", "old", 0.9, {"a": 0.9, "b": 0.2})]
    found = frontier(idle, ["a", "b"])
    assert found is not None
    assert found["knee"] is None
    assert found["why_not"] == "no arm is proven to have learned"
    assert frontier(idle[:1], ["a", "b"]) is None


def test_items_without_a_score_anywhere_are_left_out_for_every_arm() -> None:
    made = suites()
    made[0].after["bad"][1, :100] = np.nan
    found = frontier(made, list(ARMS))
    assert found is not None
    assert found["items"] == 300 + 400 + 400
    kept = made[0].after["plain"][:, 100:].mean() - made[0].before[100:].mean()
    assert found["points"][0]["learned"]["mean"] == pytest.approx(kept)


@given(arrays(float, (2, 4, 5), elements=st.floats(-1, 1)), arrays(float, 4, elements=st.floats(0, 0.5)))
def test_the_rule_draw_by_draw(plane: np.ndarray, floor: np.ndarray) -> None:
    picks = choose(plane[0], plane[1], floor)
    for draw, pick in enumerate(picks):
        able = [arm for arm in range(4) if plane[0][arm, draw] > floor[arm]]
        if not able:
            assert pick == -1
            continue
        best = max(plane[0][arm, draw] - plane[1][arm, draw] for arm in able)
        assert pick in able
        assert plane[0][pick, draw] - plane[1][pick, draw] == pytest.approx(best, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_likely_is_the_fewest_that_hold_most_draws(weights: list[float]) -> None:
    total = sum(weights)
    if total == 0:
        assert likely(np.zeros(len(weights))) == []
        return
    shares = np.array(weights) / total
    taken = likely(shares)
    assert shares[taken].sum() >= 0.95 - 1e-9
    assert sum(sorted(shares, reverse=True)[: len(taken) - 1]) < 0.95


def test_contrasts_hold_every_pair_in_the_suites_own_scale() -> None:
    made = suites()
    found = contrasts(made, list(ARMS))
    assert found is not None
    assert found["arms"] == list(ARMS)
    rows = {(a, b): row for a, b, *row in found["suites"]["errors"]}
    assert len(rows) == 10
    assert rows[0, 1][0] == pytest.approx(0.7 - 0.15, abs=0.01)
    assert rows[0, 1][1] < rows[0, 1][0] < rows[0, 1][2]
    learned = {(a, b): row for a, b, *row in found["learned"]}
    forgotten = {(a, b): row for a, b, *row in found["forgotten"]}
    assert learned[0, 1][0] == pytest.approx(0.05, abs=0.01)
    assert forgotten[0, 1][0] == pytest.approx(0.55, abs=0.01)
    assert contrasts(made, ["plain"]) is None
