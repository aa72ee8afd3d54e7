"""The score matrix against averages taken by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from mnemos.core.nouns import Answer, Score
from mnemos.measure.ask import Measured
from mnemos.study.results.sequence import of_accuracies, score_matrices, score_matrix


def measured(suite: str, values: Sequence[float], weights: Sequence[float] | None = None) -> Measured:
    scores = [
        Score(suite, str(i), value, "gone" if math.isnan(value) else None, weight=weights[i] if weights else 1.0)
        for i, value in enumerate(values)
    ]
    return Measured(suite, [Answer(suite, score.item) for score in scores], scores)


def side(seed: int, missing: int | None = None) -> dict[str, Measured]:
    rng = np.random.default_rng(seed)
    values = {"a": rng.integers(0, 2, 9).astype(float), "b": rng.random(7), "c": rng.random(5)}
    if missing is not None:
        values["b"][missing] = math.nan
    weights = {"c": [1.0, 2.0, 3.0, 4.0, 5.0]}
    return {name: measured(name, row.tolist(), weights.get(name)) for name, row in values.items()}


TASKS = {"first": ("a",), "second": ("b", "c")}


def test_a_task_is_the_mean_of_its_suites_over_items_that_every_side_has() -> None:
    arms = {"plain": {0: [side(1), side(2, missing=3)], 5: [side(3), side(4)]}, "joint": {0: [side(5)]}}
    found = score_matrix(TASKS, side(0), arms)
    assert found["tasks"] == ["first", "second"]
    assert set(found["arms"]) == {"plain"}

    def mean(given: dict[str, Measured], name: str) -> float:
        kept = [s for i, s in enumerate(given[name].scores) if name != "b" or i != 3]
        return float(np.average([s.value for s in kept], weights=[s.weight for s in kept]))

    def row(given: dict[str, Measured]) -> list[float]:
        return [mean(given, "a"), (mean(given, "b") + mean(given, "c")) / 2]

    plain = found["arms"]["plain"]
    np.testing.assert_allclose(plain["before"], row(side(0)))
    np.testing.assert_allclose(plain["joint"], row(side(5)))
    for seed, stages in arms["plain"].items():
        np.testing.assert_allclose(plain["seeds"][str(seed)], [row(stage) for stage in stages])
    matrices = np.array([plain["seeds"]["0"], plain["seeds"]["5"]])
    backward = (matrices[:, 1, 0] - matrices[:, 0, 0]).mean()
    forward = (matrices[:, 0, 1] - plain["before"][1]).mean()
    assert plain["metrics"]["average_accuracy"]["mean"] == pytest.approx(matrices[:, 1].mean())
    assert plain["metrics"]["backward_transfer"]["mean"] == pytest.approx(backward)
    assert plain["metrics"]["forgetting"]["mean"] == pytest.approx(-backward)
    assert plain["metrics"]["forward_transfer"]["mean"] == pytest.approx(forward)
    assert plain["metrics"]["backward_transfer"]["low"] < backward < plain["metrics"]["backward_transfer"]["high"]


def test_without_the_joint_arm_there_is_no_intransigence() -> None:
    found = score_matrix(TASKS, side(0), {"plain": {0: [side(1), side(2)]}})["arms"]["plain"]
    assert found["joint"] is None
    assert found["metrics"].get("intransigence", {"mean": None})["mean"] is None


def test_several_orders_have_a_matrix_each_and_their_mean() -> None:
    orders = [["first", "second"], ["second", "first"]]
    arms = {
        "plain": [{0: [side(1), side(2)]}, {0: [side(3), side(4, missing=3)]}],
        "joint": [{0: [side(5)]}],
    }
    found = score_matrices(orders, TASKS, side(0), arms)
    assert found["tasks"] == ["first", "second"]
    assert [order["tasks"] for order in found["orders"]] == orders
    assert found["over"] == "order"
    assert set(found["arms"]) == {"plain"}
    each = [order["arms"]["plain"] for order in found["orders"]]
    assert each[0]["before"] == each[1]["before"][::-1]
    assert each[0]["joint"] == each[1]["joint"][::-1]
    b = [float(score.value) for i, score in enumerate(side(3)["b"].scores) if i != 3]
    c = np.average([s.value for s in side(3)["c"].scores], weights=[1, 2, 3, 4, 5])
    # In the second order the column of the second task comes first, over the items that every run has.
    assert each[1]["seeds"]["0"][0][0] == pytest.approx((np.mean(b) + c) / 2)
    for name in ("average_accuracy", "backward_transfer", "forgetting", "intransigence", "gap_to_joint"):
        mean = np.mean([entry["metrics"][name]["mean"] for entry in each])
        pooled = found["arms"]["plain"]["metrics"][name]
        assert pooled["mean"] == pytest.approx(mean)
        assert pooled["low"] < mean < pooled["high"]


def test_only_accuracies_stand_in_a_matrix() -> None:
    """Bits per byte stood there as points, and were said to be lost where they fell."""
    suites = [
        SimpleNamespace(name="a", unit="points", better="higher"),
        SimpleNamespace(name="b", unit="points", better="lower"),
        SimpleNamespace(name="c", unit="bits", better="lower"),
    ]
    assert of_accuracies({"one": ["a", "b", "c"], "two": ["a"]}, suites) == ({"one": ("a",), "two": ("a",)}, "")
    for name, unit in (("b", "points"), ("c", "bits")):
        _, why = of_accuracies({"one": ["a"], "two": [name]}, suites)
        assert why.startswith(f"No score matrix: {name} of the task two is in {unit}, of which less is better")
    assert of_accuracies({"one": []}, suites)[1] == ""
