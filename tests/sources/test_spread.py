"""k-center against scipy and all subsets, the bound on likeness against an explicit loop, shares of a budget."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mnemos.core.errors import DataError
from mnemos.sources.similarity import apportioned
from mnemos.sources.spread import Unlike, grouped, k_center, quotas

few = settings(max_examples=25, deadline=None)


def cloud(seed: int, count: int, width: int = 5, copies: int = 0) -> Any:
    """Unit vectors, the last `copies` of them equal to the first."""
    points = np.random.default_rng(seed).normal(size=(count, width))
    if copies:
        points[-copies:] = points[:copies]
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def slow_k_center(points: Any, count: int) -> list[int]:
    distance = cdist(points, points, "sqeuclidean")
    chosen = [int(np.argmin(cdist(points, points.mean(0)[None], "sqeuclidean")[:, 0].round(9)))]
    while len(chosen) < count:
        left = [i for i in range(len(points)) if i not in chosen]
        chosen.append(max(left, key=lambda i: (round(distance[i, chosen].min(), 9), -i)))
    return chosen


def radius(points: Any, centres: Any) -> float:
    return float(cdist(points, points[list(centres)]).min(1).max())


@few
@given(st.integers(0, 10_000), st.integers(2, 40), st.data())
def test_centres_are_those_of_all_distances(seed: int, count: int, data: st.DataObject) -> None:
    points, wanted = cloud(seed, count), data.draw(st.integers(1, count))
    assert k_center(points, wanted) == slow_k_center(points, wanted)


@few
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_radius_is_at_most_twice_the_best(seed: int, count: int) -> None:
    points = cloud(seed, 10, width=2)
    best = min(radius(points, chosen) for chosen in itertools.combinations(range(10), count))
    assert radius(points, k_center(points, count)) <= 2 * best + 1e-9


def test_no_point_twice_where_several_lie_on_one_place() -> None:
    points = np.repeat(cloud(1, 2), 4, axis=0)
    assert sorted(k_center(points, 8)) == list(range(8))
    assert len({tuple(points[i]) for i in k_center(points, 2)}) == 2
    assert k_center(points, 0) == []


@few
@given(st.integers(0, 10_000), st.sampled_from([-0.2, 0.3, 0.9, 1.0]), st.integers(0, 30))
def test_a_point_is_compared_with_those_that_were_admitted(seed: int, bound: float, copies: int) -> None:
    points = cloud(seed, 60, width=3, copies=copies)
    unlike, admitted = Unlike(points, bound), []
    for place, one in enumerate(points):
        expected = all(round(float(one @ points[other]), 9) < bound for other in admitted)
        assert unlike.admit(place) == expected
        if expected:
            admitted.append(place)


def test_what_is_like_a_refused_point_alone_is_admitted() -> None:
    """a and b are alike, b and c are alike, a and c are not: c stays."""
    angles = np.deg2rad([0, 20, 40])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    unlike = Unlike(points, 0.9)
    assert [unlike.admit(place) for place in range(3)] == [True, False, True]


@few
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_shares_by_size_are_those_of_largest_remainders(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, sum(sizes)))
    assert list(quotas({str(i): size for i, size in enumerate(sizes)}, count).values()) == apportioned(sizes, count)


@few
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.floats(1, 50), st.data())
def test_shares_fill_the_budget_and_no_group_beyond_its_size(
    sizes: list[int], temperature: float, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, sum(sizes)))
    found = quotas({str(i): size for i, size in enumerate(sizes)}, count, temperature)
    assert sum(found.values()) == count
    assert all(0 <= found[str(i)] <= size for i, size in enumerate(sizes))


def test_a_temperature_makes_shares_more_even() -> None:
    """n^(1/3) of 1000 and 8 are 10 and 2: 5 to 1, where sizes are 125 to 1."""
    sizes = {"large": 1000, "small": 8}
    assert quotas(sizes, 36, 3) == {"large": 30, "small": 6}
    assert quotas(sizes, 126) == {"large": 125, "small": 1}
    assert quotas(sizes, 100, 1000) == {"large": 92, "small": 8}
    with pytest.raises(DataError, match="cannot be filled"):
        quotas(sizes, 1009)


def test_groups_stand_in_the_order_in_which_they_are_met() -> None:
    assert grouped(["b", 1, "b", None]) == {"b": [0, 2], "1": [1], "None": [3]}
