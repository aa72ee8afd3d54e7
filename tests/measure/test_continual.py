"""Metrics of a sequence against loops written straight from the papers, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mnemos.core.errors import DataError
from mnemos.measure.continual import (
    METRICS,
    OrderScores,
    TaskItems,
    in_words,
    metric,
    pooled_metrics,
    sequence_metrics,
)

MATRICES = st.integers(2, 5).flatmap(lambda t: arrays(float, (t + 2, t), elements=st.floats(0, 1)))


def reference(r: np.ndarray, b: np.ndarray, a: np.ndarray) -> dict[str, float]:
    """Indices from 1, as printed: GEM (1706.08840) and Chaudhry et al. (1801.10112)."""
    t = len(r)

    def score(i: int, j: int) -> float:
        return float(r[i - 1][j - 1])

    return {
        "average_accuracy": sum(score(t, j) for j in range(1, t + 1)) / t,
        "backward_transfer": sum(score(t, i) - score(i, i) for i in range(1, t)) / (t - 1),
        "forward_transfer": sum(score(i - 1, i) - float(b[i - 1]) for i in range(2, t + 1)) / (t - 1),
        "forgetting": sum(max(score(k, j) for k in range(1, t)) - score(t, j) for j in range(1, t)) / (t - 1),
        "intransigence": sum(float(a[k - 1]) - score(k, k) for k in range(1, t + 1)) / t,
        "gap_to_joint": sum(float(a[j - 1]) - score(t, j) for j in range(1, t + 1)) / t,
    }


@given(MATRICES)
def test_every_metric_is_its_formula(rows: np.ndarray) -> None:
    r, b, a = rows[:-2], rows[-2], rows[-1]
    expected = reference(r, b, a)
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert metric(name, r.tolist(), b.tolist(), a.tolist()) == pytest.approx(value, abs=1e-12)


R = [[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.5, 0.7, 0.9]]
B = [0.1, 0.1, 0.1]


def test_by_hand() -> None:
    found = sequence_metrics([R], B, [0.9, 0.9, 0.9])
    assert found["average_accuracy"]["mean"] == pytest.approx(0.7)
    assert found["backward_transfer"]["mean"] == pytest.approx((-0.4 - 0.1) / 2)
    assert found["forward_transfer"]["mean"] == pytest.approx((0.1 + 0.2) / 2)
    assert found["forgetting"]["mean"] == pytest.approx((0.4 + 0.1) / 2)
    assert found["intransigence"]["mean"] == pytest.approx((0.0 + 0.1 + 0.0) / 3)
    assert found["forgetting"]["low"] is None


def test_several_seeds_give_students_t() -> None:
    others = [[[v + shift for v in row] for row in R] for shift in (0.0, 0.05, 0.02)]
    found = sequence_metrics(others, B)["average_accuracy"]
    values = [0.7, 0.75, 0.72]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((np.mean(values), low, high))


def test_what_is_missing_stays_missing() -> None:
    holes = [[0.9, None, 0.1], [0.6, 0.8, 0.3], [0.5, 0.7, 0.9]]
    found = sequence_metrics([holes], B)
    assert found["average_accuracy"]["mean"] == pytest.approx(0.7)
    assert found["forward_transfer"]["mean"] is None
    assert found["forgetting"]["mean"] is None
    assert found["intransigence"]["mean"] is None
    single = sequence_metrics([[[0.5]]], [0.1], [0.6])
    assert single["average_accuracy"]["mean"] == 0.5
    assert single["backward_transfer"]["mean"] is None
    assert single["intransigence"]["mean"] == pytest.approx(0.1)
    with pytest.raises(DataError, match="one column a task"):
        sequence_metrics([[[0.5, 0.5]]], [0.1, 0.1])


def items_of(
    rng: np.random.Generator, seeds: int, n: int, tasks: int
) -> tuple[list[TaskItems], list[list[list[float]]]]:
    hard = rng.normal(size=(tasks, n))
    luck = rng.normal(size=(seeds, 1, 1)) * 0.3
    out, matrices = [], np.zeros((seeds, tasks, tasks))
    for j in range(tasks):
        after = hard[j] + luck + rng.normal(size=(seeds, tasks, n))
        before = hard[j] - 1 + rng.normal(size=n)
        out.append(TaskItems(after, before, None, np.full(n, 1 / n)))
        matrices[:, :, j] = after.mean(axis=2)
    return out, matrices.tolist()


def test_with_item_scores_one_seed_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    tasks, matrices = items_of(rng, 1, 40, 3)
    before = [float(t.before.mean()) for t in tasks]
    found = sequence_metrics(matrices, before, items=tasks)["backward_transfer"]
    gone = [(t.after[0, 2] - t.after[0, j]) / 2 for j, t in enumerate(tasks[:2])]
    error = np.sqrt(sum(g.var(ddof=1) / 40 for g in gone))
    assert found["high"] is not None
    assert found["mean"] is not None
    # Two tasks are in it, each with its own 39 degrees of freedom.
    df = error**4 / sum((g.var(ddof=1) / 40) ** 2 / 39 for g in gone)
    assert found["high"] - found["mean"] == pytest.approx(stats.t.ppf(0.975, df) * error)


@pytest.mark.slow
def test_intervals_over_items_and_seeds_cover() -> None:
    rng, hits = np.random.default_rng(1), {"average_accuracy": 0, "backward_transfer": 0, "forward_transfer": 0}
    truth = {"average_accuracy": 0.0, "backward_transfer": 0.0, "forward_transfer": 1.0}
    for _ in range(300):
        tasks, matrices = items_of(rng, 3, 30, 3)
        found = sequence_metrics(matrices, [float(t.before.mean()) for t in tasks], items=tasks)
        for name in hits:
            low, high = found[name]["low"], found[name]["high"]
            assert low is not None
            assert high is not None
            hits[name] += low <= truth[name] <= high
    assert all(0.91 <= count / 300 <= 1 for count in hits.values()), hits


def test_signs_are_said() -> None:
    assert in_words("backward_transfer", -0.031) == "lost 3.1 points on earlier tasks"
    assert in_words("forgetting", 0.25) == "lost 25.0 points from the best that earlier tasks had"
    assert in_words("intransigence", 0.1).startswith("fell short by 10.0 points")
    assert in_words("gap_to_joint", 0.025).startswith("ended short by 2.5 points")
    assert in_words("average_accuracy", 0.7) == "70.0 points on average"


def order_of(tasks: str, seed: int, items: bool) -> OrderScores:
    """Two seeds of three tasks, each of whose items has its own probability."""
    rng = np.random.default_rng(seed)
    columns = []
    for _ in tasks:
        after = rng.integers(0, 2, (2, 3, 11)).astype(float)
        columns.append(TaskItems(after, rng.integers(0, 2, 11).astype(float), None, np.full(11, 1 / 11)))
    matrices = [[[float(c.after[s, i].mean()) for c in columns] for i in range(3)] for s in range(2)]
    before = [float(c.before.mean()) for c in columns]
    return OrderScores(list(tasks), matrices, before, None, columns if items else None)


@pytest.mark.parametrize("by", ["order", "seed"])
def test_metrics_over_orders_are_means_of_the_formula(by: str) -> None:
    orders = [order_of(tasks, n, items=False) for n, tasks in enumerate(("abc", "bca", "cab"))]
    found = pooled_metrics(orders, by)  # type: ignore[arg-type]
    for name in METRICS:
        table = [[metric(name, m, order.before) for m in order.matrices] for order in orders]
        if name in ("intransigence", "gap_to_joint"):
            assert found[name] == {"mean": None, "low": None, "high": None}
            continue
        values = np.array(table, dtype=float).mean(axis=1 if by == "order" else 0)
        low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
        assert (found[name]["mean"], found[name]["low"], found[name]["high"]) == pytest.approx(
            (values.mean(), low, high)
        )


def test_one_order_pools_to_itself_and_items_widen_the_interval() -> None:
    order = order_of("abc", 4, items=True)
    alone = sequence_metrics(order.matrices, order.before, None, order.items)
    pooled = pooled_metrics([order], "seed")
    for name in METRICS:
        assert pooled[name] == pytest.approx(alone[name]) if alone[name]["mean"] is not None else True
    orders = [order_of(tasks, 9, items=True) for tasks in ("abc", "bca", "cab")]
    found = pooled_metrics(orders, "order")["average_accuracy"]
    mean = np.mean([m[-1] for o in orders for m in o.matrices])
    assert found["mean"] == pytest.approx(mean)
    assert found["low"] is not None
    assert found["low"] < mean < (found["high"] or 0)


def test_intervals_of_scores_from_0_to_1_end_at_what_is_possible() -> None:
    found = sequence_metrics([[[0.95, 0.0], [0.1, 0.9]], [[0.6, 0.0], [0.5, 0.3]]], [0.0, 0.0])
    assert (found["average_accuracy"]["low"], found["average_accuracy"]["high"]) == (0.0, 1.0)
    assert (found["backward_transfer"]["low"], found["backward_transfer"]["high"]) == (-1.0, 1.0)
    bits = sequence_metrics([[[1.9, 2.0], [1.1, 1.9]], [[2.6, 2.0], [2.5, 1.3]]], [2.0, 2.0])
    assert bits["average_accuracy"]["high"] is not None
    assert bits["average_accuracy"]["high"] > 2.5, "bits have no such end"
