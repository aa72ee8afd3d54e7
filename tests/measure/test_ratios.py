"""Differences of two ratios of sums: Student's interval where denominators are even, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mnemos.measure.ratios import FEWEST, difference_of_ratios


def sides(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    shared = draw.random(count)
    first, second = (
        np.stack([draw.binomial(9, shared * share).astype(float), np.full(count, 9.0)], 1) for share in (0.9, 0.5)
    )
    return first, second


def test_with_even_denominators_it_is_students_interval_of_paired_items() -> None:
    first, second = sides(40)
    found = difference_of_ratios(first, second)
    assert found is not None
    each = (first[:, 0] - second[:, 0]) / 9
    expected = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert found == pytest.approx((each.mean(), expected.low, expected.high))
    # A unit that is counted twice as long weighs twice: of one sum, nothing depends on the unit of its terms.
    assert difference_of_ratios(10 * first, 10 * second) == pytest.approx(found)


def test_the_variance_is_that_of_leaving_one_unit_out() -> None:
    draw = np.random.default_rng(1)
    first, second = (draw.integers(1, 30, (400, 2)).astype(float) for _ in range(2))
    value, low, high = difference_of_ratios(first, second) or (0.0, None, None)
    without = [difference_of_ratios(*(np.delete(side, at, 0) for side in (first, second))) for at in range(400)]
    left = np.array([one[0] for one in without if one is not None])
    error = np.sqrt(399 / 400 * ((left - left.mean()) ** 2).sum())
    assert low is not None
    assert high is not None
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 399) * error, rel=0.01)
    assert (low + high) / 2 == pytest.approx(value)


def test_nothing_is_stated_of_too_few_units_or_of_none_that_vary() -> None:
    first, second = sides(FEWEST)
    assert None not in (difference_of_ratios(first, second) or (None,))
    elsewhere = second.copy()
    elsewhere[0] = 0.0  # one unit less in the second ratio
    value, low, high = difference_of_ratios(first, elsewhere) or (None, 0.0, 0.0)
    assert value is not None
    assert (low, high) == (None, None)
    assert difference_of_ratios(first, first) == (0.0, None, None)
    assert difference_of_ratios(first, np.zeros_like(second)) is None
