"""Near-duplicates against all pairs, quotas and nearest points against explicit loops."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.sources import similarity as near


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of 12 words, every second one a slight change of an earlier one."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghij", k=rng.randint(3, 8))) for _ in range(300)]
    made: list[str] = []
    for i in range(count):
        if i % 2 and made:
            tokens = rng.choice(made).split()
            for _ in range(rng.randint(0, 4)):
                tokens[rng.randrange(len(tokens))] = rng.choice(vocabulary)
        else:
            tokens = rng.choices(vocabulary, k=12)
        made.append(" ".join(tokens))
    return made


def slow_distinct(texts: list[str], similarity: float) -> list[int]:
    def pieces(text: str) -> set[str]:
        plain = " ".join(text.lower().split())
        return {plain[i : i + 5] for i in range(len(plain) - 4)} or {plain}

    kept: list[int] = []
    sets = [pieces(text) for text in texts]
    for i, one in enumerate(sets):
        if all(Fraction(len(one & sets[j]), len(one | sets[j])) < Fraction(similarity) for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("similarity", [0.7, 0.8, 1.0])
def test_distinct_is_what_all_pairs_say(similarity: float) -> None:
    texts = sentences(300)
    kept = near.distinct(texts, similarity)
    assert kept == slow_distinct(texts, similarity)
    assert 150 < len(kept) < 300


def test_case_and_spaces_do_not_tell_texts_apart() -> None:
    assert near.distinct(["What is  IT?", "what is it?", "what was it?", "", " "], 1.0) == [0, 2, 3]


def test_the_similarity_is_inclusive_and_of_shingles() -> None:
    one, other = "abcdefgh", "abcdefghi"
    shared = near.jaccard(near.shingles(one), near.shingles(other))
    assert shared == 4 / 5
    assert near.distinct([one, other], 0.8) == [0]
    assert near.distinct([one, other], 0.81) == [0, 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=9), st.data())
def test_quotas_are_largest_remainders(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    if not total:
        return
    count = data.draw(st.integers(0, total))
    quotas = near.apportioned(sizes, count)
    assert sum(quotas) == count
    ideal = [Fraction(count * size, total) for size in sizes]
    assert all(math.floor(exact) <= quota <= math.ceil(exact) for quota, exact in zip(quotas, ideal, strict=True))
    up = [exact % 1 for quota, exact in zip(quotas, ideal, strict=True) if quota > exact]
    down = [exact % 1 for quota, exact in zip(quotas, ideal, strict=True) if quota < exact]
    assert not up or not down or min(up) >= max(down)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 2**16), st.data())
def test_nearest_takes_each_clusters_nearest(points: int, clusters: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    at, centres = rng.normal(size=(points, 3)), rng.normal(size=(clusters, 3))
    labels = rng.integers(0, clusters, points)
    count = data.draw(st.integers(0, points))
    chosen = near.nearest(at, labels, centres, count)
    expected = []
    for cluster, quota in enumerate(near.apportioned([int((labels == c).sum()) for c in range(clusters)], count)):
        members = [i for i in range(points) if labels[i] == cluster]
        members.sort(key=lambda i: (math.dist(at[i], centres[cluster]), i))
        expected += members[:quota]
    assert chosen == sorted(expected)


TOPICS = ("river mill bridge water stone", "chess king queen board pawn", "flour oven bread yeast dough")


def test_a_small_set_spreads_over_the_topics() -> None:
    rng = random.Random(1)
    sizes = (60, 30, 10)
    texts = [
        " ".join(rng.choices(topic.split(), k=8))
        for topic, size in zip(TOPICS, sizes, strict=True)
        for _ in range(size)
    ]
    chosen = near.representative(texts, 10, clusters=3)
    counts = [sum(low <= place < low + size for place in chosen) for low, size in ((0, 60), (60, 30), (90, 10))]
    assert counts == [6, 3, 1]
    assert near.representative(texts, 10, clusters=3) == chosen
    assert near.representative(texts[:5], 5) == [0, 1, 2, 3, 4]


def test_embeddings_have_length_one_and_like_lies_by_like() -> None:
    points = near.embed([TOPICS[0], TOPICS[0] + " river", TOPICS[1], "", "河水"])
    norms = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(norms[[0, 1, 2, 4]], 1, rtol=1e-9)
    assert norms[3] == 0
    assert points[0] @ points[1] > 0.5 > points[0] @ points[2]
    assert near.words("我爱 you all") == ["我", "爱", "you", "all"]


def test_texts_without_a_word_can_be_chosen_from() -> None:
    assert len(near.representative(["", "  ", "", "a b", "\n"], 2)) == 2
