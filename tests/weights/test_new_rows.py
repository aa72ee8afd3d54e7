"""Rows for new pieces: each way against numpy, and sparsemax against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mnemos.core.errors import DataError
from mnemos.weights.new_rows import neighbours, new_rows, sparsemax

OLD = np.random.default_rng(0).normal(0.3, 0.1, (30, 8))
PARTS = ((1, 2, 3), (4,), ())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_sparsemax_is_the_nearest_point_of_the_simplex(values: list[float]) -> None:
    z = np.array(values)
    found = sparsemax(z)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    start = np.full(len(z), 1 / len(z))
    best = minimize(lambda p: ((p - z) ** 2).sum(), start, bounds=[(0, 1)] * len(z),
                    constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, method="SLSQP")  # fmt: skip
    assert ((found - z) ** 2).sum() <= best.fun + 1e-6


def test_each_way_is_what_it_is_called() -> None:
    random = new_rows("random", OLD, [(0,)] * 2000, std=0.02)
    assert random.mean() == pytest.approx(0, abs=1e-3)
    assert random.std() == pytest.approx(0.02, rel=0.05)
    mean = new_rows("mean", OLD, PARTS)
    assert mean == pytest.approx(np.repeat(OLD.mean(axis=0)[None], 3, axis=0), abs=1e-3)
    assert not (mean[0] == mean[1]).all()
    below = new_rows("sub-pieces", OLD, PARTS)
    assert below[0] == pytest.approx(OLD[1:4].mean(axis=0))
    assert below[1] == pytest.approx(OLD[4])
    assert below[2] == pytest.approx(OLD.mean(axis=0))
    assert (new_rows("random", OLD, PARTS, seed=1) == new_rows("random", OLD, PARTS, seed=1)).all()


def test_focus_weighs_old_rows_by_likeness() -> None:
    known = np.zeros((30, 3))
    known[5], known[6] = (1, 0, 0), (0, 1, 0)
    new = np.array([[2.0, 0, 0], [1.0, 1.0, 0], [0, 0, 0]])
    rows = new_rows("focus", OLD, PARTS, vectors=(known, new))
    assert rows[0] == pytest.approx(OLD[5])
    assert rows[1] == pytest.approx((OLD[5] + OLD[6]) / 2)
    assert rows[2] == pytest.approx(OLD.mean(axis=0))  # no vector, no sub-pieces
    with pytest.raises(DataError, match="needs text"):
        new_rows("focus", OLD, PARTS)


def test_tokens_in_the_same_company_have_like_vectors() -> None:
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(300):
        group = int(rng.integers(2))
        texts.append([10 * group + int(one) for one in rng.integers(0, 5, 12)])
    found = neighbours(texts, 20)
    unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    within, across = unit[0] @ unit[1], unit[0] @ unit[11]
    assert within > across + 0.3
    assert not found[7].any()  # never seen
    assert neighbours([], 4).shape == (4, 1)
