"""Mixtures: the amounts that caps leave, GPT-3's own table, and orders that read each text once."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.measure.laws import repetition
from mnemos.sources.mixture import drawn, plan
from mnemos.sources.order import neighbours, ordered, path


def test_gpt_3_s_table() -> None:
    """Weights of arXiv:2005.14165 over 300B tokens; its printed epochs follow from unrounded weights."""
    sizes = {"crawl": 410.0, "web": 19.0, "books1": 12.0, "books2": 55.0, "wiki": 3.0}
    weights = {"crawl": 0.60, "web": 0.22, "books1": 0.08, "books2": 0.08, "wiki": 0.03}
    found = {part.name: part for part in plan(sizes, 300, weights=weights)}
    for name, epochs in (("crawl", 0.44), ("web", 3.5), ("books1", 2.0), ("books2", 0.44), ("wiki", 3.0)):
        assert found[name].epochs == pytest.approx(epochs, rel=0.02)
    assert not any(part.warns for part in found.values())


def test_temperature_and_the_worth_of_repeated_tokens() -> None:
    even = plan({"a": 100, "b": 1}, 10, temperature=2)
    assert even[0].weight / even[1].weight == pytest.approx(10)
    assert even[1].warns is False
    often = plan({"a": 1e9}, 16e9)[0]
    assert often.warns
    law = repetition.effective(np.array([1e9]), np.array([16e9]), repetition.PAPER_R[0])[0]
    assert often.worth == pytest.approx(law)
    assert plan({"a": 10}, 5)[0].worth == 5


sizes = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(1, 1e6), min_size=1, max_size=5)


@settings(max_examples=150)
@given(sizes, st.floats(0.01, 0.999), st.floats(0.5, 8), st.floats(0.5, 5))
def test_caps_hold_and_the_mixture_is_filled(given: dict[str, float], part: float, cap: float, heat: float) -> None:
    total = part * cap * sum(given.values())
    found = plan(given, total, temperature=heat, max_epochs=cap)
    assert sum(one.amount for one in found) == pytest.approx(total)
    assert all(one.epochs <= cap * (1 + 1e-9) for one in found)
    # What is not capped keeps the proportion of its weights.
    free = [one for one in found if not one.capped]
    rates = [one.amount / given[one.name] ** (1 / heat) for one in free]
    assert rates == pytest.approx([rates[0]] * len(rates)) if rates else True
    with pytest.raises(DataError, match="cannot be filled"):
        plan(given, cap * sum(given.values()) * 1.01, max_epochs=cap)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": {"a": 1.0}}, "weight of b is missing|weight of b: is missing"),
        ({"weights": {"a": 1.0, "b": -1.0}}, "must be positive"),
        ({"weights": {"a": 1.0, "b": 1.0, "c": 1.0}}, "names no source"),
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"max_epochs": 0.0}, "max_epochs = 0.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan({"a": 1, "b": 2}, 1, **values)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is no size"):
        plan({"a": 0}, 1)
    with pytest.raises(UsageError, match="total = nan"):
        plan({"a": 1}, math.nan)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), max_size=20), st.floats(0, 500), st.integers(0, 9))
def test_rows_are_read_as_often_as_one_another(lengths: list[int], amount: float, seed: int) -> None:
    places = list(drawn(lengths, amount, random.Random(seed)))
    there = [place for place, length in enumerate(lengths) if length]
    counts = Counter(places)
    if there:
        often = [counts[place] for place in there]
        assert max(often) - min(often) <= 1
        assert abs(sum(lengths[place] for place in places) - amount) <= max(lengths)
    else:
        assert places == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_a_path_reads_each_text_once(count: int, near: int, seed: int) -> None:
    points = np.random.default_rng(seed).standard_normal((count, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    graph = neighbours(points, near)
    assert sorted(path(graph)) == list(range(count))
    for node, edges in enumerate(graph):
        assert all(graph[other][node] == value for other, value in edges.items())
        assert node not in edges


def test_the_path_begins_at_the_fewest_and_goes_to_the_most_similar() -> None:
    graph = [{1: 0.5, 2: 0.9}, {0: 0.5}, {0: 0.9, 3: 0.1}, {2: 0.1}]
    assert path(graph) == [1, 0, 2, 3]
    assert path([{}, {}]) == [0, 1]


def test_orders() -> None:
    texts = [f"{topic} {word}" for word in ("one", "two", "three", "four") for topic in ("river water boat fish",
             "stock market price bank")]  # fmt: skip
    for how in ("random", "length", "in-context"):
        assert sorted(ordered(texts, how)) == list(range(8))
        assert ordered(texts, how) == ordered(texts, how)
    lengths = [len(texts[place]) for place in ordered(texts, "length")]
    assert lengths == sorted(lengths)
    topics = [place % 2 for place in ordered(texts, "in-context")]
    assert sum(a != b for a, b in itertools.pairwise(topics)) == 1  # one topic, then the other
    assert ordered([], "in-context") == []
    assert ordered(["a"], "in-context") == [0]


def test_near_duplicates_are_no_neighbours() -> None:
    points = np.array([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6]])
    graph = neighbours(points)
    assert 1 not in graph[0]
    assert set(graph[0]) == {2}
