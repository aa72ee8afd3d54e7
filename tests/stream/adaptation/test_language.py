"""n-grams: a distribution, by hand and by properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.stream.adaptation.language import END, NGrams

TEXTS = st.lists(st.text("ab ", min_size=1, max_size=8), min_size=1, max_size=4).filter(
    lambda t: any(x.strip() for x in t)
)


def test_by_hand() -> None:
    # "a b": a unigram of 3 units counted (a, b, end), each of 3 kinds; one unknown beside them: V is 4.
    model = NGrams(["a b"], order=1, unit="word")
    assert model.probability("a", ()) == pytest.approx((1 + 3 / 4) / (3 + 3))
    assert model.probability("z", ()) == pytest.approx((0 + 3 / 4) / (3 + 3))
    two = NGrams(["a b"], order=2, unit="word")
    assert two.probability("b", ("a",)) == pytest.approx((1 + 1 * two.probability("b", ())) / (1 + 1))
    assert two.log_prob("a b") == pytest.approx(
        math.log(two.probability("a", (END,))) + math.log(two.probability("b", ("a",)))
        + math.log(two.probability(END, ("b",)))
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.integers(1, 4), st.text("ab ", max_size=5))
def test_it_is_a_distribution(texts: list[str], order: int, before: str) -> None:
    model = NGrams(texts, order)
    history = tuple(before[-(order - 1) :]) if order > 1 else ()
    known = {unit for text in texts for unit in model.units(text)} | {END, "unknown"}
    total = sum(model.probability(unit, history) for unit in known)
    assert total == pytest.approx(1.0)


def test_it_likes_what_it_read() -> None:
    model = NGrams(["four two", "two one four", "one two"] * 3)
    assert model.log_prob("two four") > model.log_prob("tqo fuor")
    words = NGrams(["the birch canoe slid"] * 2, unit="word")
    assert words.log_prob("THE birch") > words.log_prob("birch the")


def test_nothing_to_read() -> None:
    with pytest.raises(DataError, match="no word"):
        NGrams(["", "  "])
