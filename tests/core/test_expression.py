"""Sums of checkpoints: parsed, normalised, refused with a caret; checked against plain arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.core.expression import Combination, parse

NAMES = ("after", "before", "chat", "base", "cp_2", "ä")
names = st.sampled_from(NAMES)
coefficients = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != 0)


@given(st.dictionaries(names, coefficients))
def test_the_normal_form_parses_back(terms: dict[str, float]) -> None:
    combination = Combination(tuple(terms.items()))
    assert parse(str(combination)) == combination


numbers = st.integers(-64, 64).map(lambda value: value / 8)
trees = st.recursive(
    names,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), inner, inner).map(lambda t: f"({t[1]} {t[0]} {t[2]})"),
        st.tuples(numbers, inner).map(lambda t: f"({t[0]})*{t[1]}"),
        st.tuples(inner, numbers).map(lambda t: f"{t[0]}*({t[1]})"),
        st.tuples(inner, st.sampled_from(["2", "4", "-8"])).map(lambda t: f"({t[0]})/{t[1]}"),
        inner.map(lambda t: f"-({t})"),
        inner.map(lambda t: f"+({t})"),
    ),
    max_leaves=12,
)


@given(trees, st.lists(st.integers(-100, 100), min_size=len(NAMES), max_size=len(NAMES)))
def test_it_means_what_arithmetic_means(text: str, values: list[int]) -> None:
    """Numbers in place of the checkpoints: the combination and Python agree. Binary fractions and
    small integers, so that neither rounds."""
    scope = dict(zip(NAMES, map(float, values), strict=True))
    combination = parse(text)
    got = math.fsum(coefficient * scope[name] for name, coefficient in combination.terms)
    assert got == pytest.approx(eval(text, {"__builtins__": {}}, scope), rel=1e-12, abs=1e-12)
    assert parse(str(combination)) == combination


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0.7*after + 0.3*before", "0.7*after + 0.3*before"),
        ("after + (chat - base)", "after + chat - base"),
        ("before - 2*(after - before)", "3.0*before - 2.0*after"),
        ("-after", "-after"),
        ("  after\n + before ", "after + before"),
        ("after - after", "0"),
        ("0", "0"),
        ("(1 + 1)/4*after", "0.5*after"),
        ("1e-5*after", "1e-05*after"),
    ],
)
def test_normal_forms(text: str, normal: str) -> None:
    assert str(parse(text)) == normal


def test_names_are_in_order_of_first_use_and_without_the_cancelled() -> None:
    assert parse("b + a - b + c").names == ("a", "c")


@pytest.mark.parametrize(
    ("text", "said", "under"),
    [
        ("after * before", "multiplies two checkpoints", "before"),
        ("ä * b", "multiplies two checkpoints", "b"),
        ("2 + after / 0", "divides by a checkpoint or by zero", "0"),
        ("1 / after", "divides by a checkpoint or by zero", "after"),
        ("after.x", "Attribute has no meaning", "after.x"),
        ("f(after)", "f is not a function here", "f(after)"),
        ("True * after", "Constant has no meaning", "True"),
        ("'a' * after", "Constant has no meaning", "'a'"),
        ("after ** 2", "BinOp has no meaning", "after ** 2"),
        ("0.5 after", "is not an expression", "after"),
        ("after before", "is not an expression", "before"),
        ("after # half", "has a comment", "# half"),
    ],
)
def test_mistakes_have_a_caret(text: str, said: str, under: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert said in caught.value.bound
    shown, caret = str(caught.value).split("\n")[-2:]
    assert shown.strip() == text
    assert caret.strip() == "^"
    assert caret.index("^") == shown.index(under)


@pytest.mark.parametrize(
    "text", ["", "after +", "(after", "after before", "a\0b", "lambda: a", "a := 2", "a if b else c"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 + after", "adds the bare number 3"),
        ("1e400*after", "coefficient of after is inf"),
        ("1e400*after - 1e400*after", "coefficient of after is nan"),
        ("1e400", "adds the bare number inf"),
        ("10" * 300 + "*after", "cannot be computed (OverflowError)"),
        ("+".join(["after"] * 20_000), "cannot be computed"),
        ("(" * 300 + "after" + ")" * 300, "is not an expression"),
    ],
)
def test_numbers_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"expression|adds") as caught:
        parse(text)
    assert said in caught.value.bound


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Never another exception than UsageError, never code that runs."""
    try:
        combination = parse(text)
    except UsageError:
        return
    assert parse(str(combination)) == combination
