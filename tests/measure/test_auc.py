"""The area under the ROC curve against scikit-learn, and its interval against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from mnemos.core.errors import DataError
from mnemos.measure.auc import auc


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_the_area_is_scikit_learns(pairs: list[tuple[int, bool]]) -> None:
    scores, good = [float(s) for s, _ in pairs], [g for _, g in pairs]
    if len(set(good)) < 2:
        with pytest.raises(DataError, match="make no curve"):
            auc(scores, good)
        return
    area, low, high = auc(scores, good)
    assert area == pytest.approx(roc_auc_score(good, scores))
    assert 0 <= low <= area <= high <= 1


@pytest.mark.parametrize(("shift", "rule"), [(0.0, False), (1.0, False), (2.5, False), (0.7, True)])
def test_the_interval_covers(shift: float, rule: bool) -> None:
    """Normal scores, whose area is Phi(shift / sqrt 2); a rule is their sign, whose area is its mean of two shares."""
    rng = np.random.default_rng(3)
    truth = norm.cdf(shift / 2**0.5)
    if rule:
        truth = (norm.cdf(shift) + norm.cdf(0)) / 2
    hits, repeats = 0, 800
    good = np.arange(218) < 120
    for _ in range(repeats):
        scores = rng.standard_normal(218) + shift * good
        _, low, high = auc((scores > 0).astype(float) if rule else scores, good)
        hits += low <= truth <= high
    assert 0.925 <= hits / repeats <= 0.975


@pytest.mark.parametrize("few", [1, 2, 3, 5, 9])
def test_the_interval_covers_where_one_kind_is_rare(few: int) -> None:
    """With DeLong's variance alone it covers 14, 72, 83, 89 and 92 times of 100."""
    rng = np.random.default_rng(5)
    truth, hits, repeats = norm.cdf(1 / 2**0.5), 0, 400
    good = np.arange(few + 100) < few
    for _ in range(repeats):
        _, low, high = auc(rng.standard_normal(few + 100) + good, good)
        hits += low <= truth <= high
    assert hits / repeats >= 0.95


def test_missing_scores_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 scores: are missing"):
        auc([1.0, float("nan")], [True, False])
