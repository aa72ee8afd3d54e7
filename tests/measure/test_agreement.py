"""Agreement beyond chance, against published examples and definitions written out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.measure.agreement import (
    agreement,
    alpha_estimate,
    bootstrap,
    cohen_kappa,
    gwet_ac1,
    krippendorff_alpha,
)

DOT = None
PUBLISHED: list[list[Any]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, DOT, DOT, DOT],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, DOT, 3],
    [DOT, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, DOT],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, DOT],
]
"""Four observers, twelve units, some missing: Krippendorff (2011), section C."""


@pytest.mark.parametrize(("metric", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(metric: Any, value: float) -> None:
    assert krippendorff_alpha(PUBLISHED, metric) == pytest.approx(value, abs=5e-4)


def test_alpha_of_two_observers_of_binary_data_is_the_published_one() -> None:
    """Krippendorff (2011), section A: ten units, alpha .095."""
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha([first, second]) == pytest.approx(0.095, abs=5e-4)


def slow_alpha(ratings: list[list[Any]]) -> float:
    """Nominal alpha by its words: pairs of one unit that differ, beside pairs of all values that differ."""
    units = [[row[u] for row in ratings if row[u] is not None] for u in range(len(ratings[0]))]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    n = len(values)
    observed = sum(sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units) / n
    expected = sum(a != b for a, b in itertools.permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected if expected else math.nan


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from([None, "a", "b", "tie"]), min_size=6, max_size=6), min_size=2, max_size=4))
def test_alpha_is_what_its_words_say(ratings: list[list[Any]]) -> None:
    pairs = sum(sum(row[u] is not None for row in ratings) > 1 for u in range(6))
    if pairs:
        found, wanted = krippendorff_alpha(ratings), slow_alpha(ratings)
        assert (math.isnan(found) and math.isnan(wanted)) or found == pytest.approx(wanted)


def test_kappa_and_ac1_by_hand() -> None:
    """Gwet (2008), table 2's shape: 118 and 2 agree, 5 and 0 do not; kappa falls although 95 % agree."""
    table = np.array([[118.0, 5.0], [2.0, 0.0]])
    observed = 118 / 125
    first, second = 123 / 125, 120 / 125
    expected = first * second + (1 - first) * (1 - second)
    assert cohen_kappa(table) == pytest.approx((observed - expected) / (1 - expected))
    assert cohen_kappa(table) < 0 < 0.94 < gwet_ac1(table)
    pi = (first + second) / 2
    assert gwet_ac1(table) == pytest.approx((observed - 2 * pi * (1 - pi)) / (1 - 2 * pi * (1 - pi)))


def test_the_kappa_paradox() -> None:
    """95 % agreement with one class at 95 %: nothing beyond chance by kappa, nearly all by AC1."""
    table = np.array([[95.0, 0.0], [5.0, 0.0]])
    assert cohen_kappa(table) == pytest.approx(0.0)
    assert gwet_ac1(table) > 0.94


def test_one_label_alone_has_no_kappa() -> None:
    found = agreement(["tie"] * 20, ["tie"] * 20, ["a", "b", "tie"])
    assert math.isnan(found.kappa.value)
    assert found.kappa.reason is not None
    assert found.agree.value == pytest.approx(1.0)
    assert found.ties == 20
    assert math.isnan(found.without_ties.value)
    assert found.prevalence["tie"] == (1.0, 1.0)


def test_a_judge_that_always_ties_agrees_on_ties_alone() -> None:
    people = ["a"] * 8 + ["b"] * 8 + ["tie"] * 4
    found = agreement(people, ["tie"] * 20, ["a", "b", "tie"])
    assert found.agree.value == pytest.approx(0.2)
    assert found.kappa.value == pytest.approx(0.0)
    assert found.prevalence["tie"] == (0.2, 1.0)


def test_the_interval_is_that_of_a_bootstrap_over_items() -> None:
    rng = np.random.default_rng(1)
    first = rng.choice(["a", "b"], 60)
    second = np.where(rng.random(60) < 0.8, first, rng.choice(["a", "b"], 60))
    found = agreement(list(first), list(second), ["a", "b", "tie"])
    drawn = []
    for _ in range(400):
        at = rng.integers(0, 60, 60)
        table = np.array([[np.sum((first[at] == a) & (second[at] == b)) for b in "ab"] for a in "ab"], dtype=float)
        drawn.append(cohen_kappa(table))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert found.kappa.low == pytest.approx(low, abs=0.06)
    assert found.kappa.high == pytest.approx(high, abs=0.06)


def test_two_turns_of_a_dialogue_count_as_one() -> None:
    first, second = ["a", "b"] * 20, ["a", "b", "b", "a"] * 10
    alone = agreement(first, second, ["a", "b"])
    twice = agreement(
        [x for x in first for _ in (0, 1)],
        [x for x in second for _ in (0, 1)],
        ["a", "b"],
        clusters=[str(i) for i in range(40) for _ in (0, 1)],
    )
    assert twice.kappa.value == alone.kappa.value
    assert twice.kappa.low == pytest.approx(alone.kappa.low)
    assert twice.agree.high - twice.agree.low > 0.95 * (alone.agree.high - alone.agree.low)


def test_few_items_have_no_interval() -> None:
    assert agreement(["a", "b"], ["a", "a"], ["a", "b"]).kappa.reason is not None
    assert alpha_estimate([[None, None], [1, None]]).reason == "no item has two ratings"
    assert alpha_estimate([[None]]).reason == "no rating"
    with pytest.raises(ValueError, match="all known"):
        agreement(["a"], ["c"], ["a", "b"])
    assert bootstrap(np.eye(2)[None].repeat(12, 0), cohen_kappa).value == 1.0
