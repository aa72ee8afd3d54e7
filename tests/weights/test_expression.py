"""Sums of checkpoints: parsed, normalised, refused with a caret; checked against plain arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.weights.expression import Combination, Depth, names_in, parse

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
    ("text", "message", "under"),
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
def test_mistakes_have_a_caret(text: str, message: str, under: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in caught.value.bound
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
    ("text", "message"),
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
def test_numbers_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=r"expression|adds") as caught:
        parse(text)
    assert message in caught.value.bound


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Never another exception than UsageError, never code that runs."""
    try:
        combination = parse(text)
    except UsageError:
        return
    assert parse(str(combination)) == combination


# --- operators, schedules, named numbers ------------------------------------------------------------

small = st.floats(-4, 4, width=16).filter(lambda value: value != 0)
schedules = st.lists(small, min_size=2, max_size=4).filter(lambda points: len(set(points)) > 1)
weights = st.one_of(small.map(repr), schedules.map(lambda points: f"depth({', '.join(map(repr, points))})"))


def calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Every operator over expressions."""
    several = st.lists(inner, min_size=1, max_size=3).map(", ".join)
    share = st.floats(0, 1, width=16)
    return st.one_of(
        st.tuples(weights, inner).map(lambda t: f"({t[0]})*({t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]}) - ({t[1]})"),
        several.map(lambda models: f"mean({models})"),
        st.tuples(inner, inner, weights).map(lambda t: f"slerp({t[0]}, {t[1]}, {t[2]})"),
        st.tuples(inner, several, share, weights).map(
            lambda t: f"ties({t[0]}, {t[1]}, density={t[2]!r}, scale={t[3]})"
        ),
        st.tuples(st.sampled_from(["dare", "dare_ties"]), inner, several, st.integers(0, 9)).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]}, drop=0.5, seed={t[3]})"
        ),
        st.tuples(inner, several).map(lambda t: f"della({t[0]}, {t[1]}, spread=0.1)"),
        st.tuples(inner, several).map(lambda t: f"breadcrumbs({t[0]}, {t[1]}, largest=0.02)"),
        st.tuples(inner, inner, several).map(lambda t: f"model_stock({t[0]}, {t[1]}, {t[2]})"),
        st.tuples(st.sampled_from(["mlp", r"layers\\.0\\.", "a|b", "it's"]), inner, inner).map(
            lambda t: f"where({t[0]!r}, {t[1]}, {t[2]})"
        ),
    )


@given(st.recursive(names, calls, max_leaves=6))
def test_operators_print_back(text: str) -> None:
    try:
        combination = parse(text)
    except UsageError as error:
        words = error.bound
        combination = None
    if combination is None:  # products of schedules are the only thing that these can get wrong
        assert "two schedules" in words or "points" in words
        return
    assert parse(str(combination)) == combination
    assert set(combination.names) <= set(names_in(text))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("mean(a, b, c, a)", "0.5*a + 0.25*b + 0.25*c"),
        ("slerp(a, b, t=0.3)", "slerp(a, b, 0.3)"),
        ("2*slerp(a, b, 0.5) - slerp(a, b, 1/2)", "slerp(a, b, 0.5)"),
        ("ties(base, a, b, density=0.2, scale=1)", "ties(base, a, b)"),
        ("ties(base, base + 0.5*(a - base))", "ties(base, 0.5*base + 0.5*a)"),
        ("dare(base, a, seed=7, drop=0.5)", "dare(base, a, drop=0.5, seed=7)"),
        ("where('mlp', a, 0)", "where('mlp', a, 0)"),
        ("depth(0.2, 0.8)*a + depth(0.8, 0.2)*b", "depth(0.2, 0.8)*a + depth(0.8, 0.2)*b"),
        ("(1 - depth(0, 1))*a + depth(0, 1)*b", "depth(1.0, 0.0)*a + depth(0.0, 1.0)*b"),
        ("depth(0, 1)*a + depth(0, 0, 1)*a", "depth(0.0, 0.5, 2.0)*a"),
        ("depth(0.5, 0.5)*a", "0.5*a"),
        ("cp + rho*(chat - base)", "cp + 0.5*chat - 0.5*base"),
        ("slerp(a, b, rho)", "slerp(a, b, 0.5)"),
    ],
)
def test_normal_forms_of_operators(text: str, normal: str) -> None:
    assert str(parse(text, {"rho": 0.5})) == normal
    assert str(parse(normal)) == normal


@pytest.mark.parametrize(
    ("text", "message", "under"),
    [
        ("tise(base, a)", "did you mean 'ties'?", "tise"),
        ("a + ties(base)", "ties takes at least 2", "ties"),
        ("ties(base, a, dense=0.2)", "did you mean 'density'?", "0.2"),
        ("ties(base, a, density=1.5)", "density must be a number in [0, 1]", "1.5"),
        ("dare(base, a, drop=1)", "drop must be a number in [0, 1)", "1"),
        ("dare(base, a, seed=0.5)", "seed must be an integer", "0.5"),
        ("dare(base, a, drop=depth(0, 0.5))", "one number, not a schedule", "depth"),
        ("slerp(a, b)", "slerp needs t", "slerp"),
        ("slerp(a, b, c)", "t must be a number", "c"),
        ("slerp(a, b, 0.1, 0.2)", "one argument too many", "0.2"),
        ("slerp(a, b, 0.1, t=0.2)", "t is given twice", "0.2"),
        ("ties(base, 2)", "adds the bare number 2", "2"),
        ("where(mlp, a, b)", "must be a pattern in quotes", "mlp"),
        ("where('(', a, b)", "not a regular expression", "'('"),
        ("where('a b', a, b)", "has spaces", "'a b'"),
        ("depth(1)*a", "depth takes at least two", "depth"),
        ("depth(0, a)*a", "depth takes numbers", "a)*"),
        ("depth(0, 1)*depth(1, 0)*a", "multiplies two schedules", "depth(1"),
        ("a / depth(1, 2)", "divides by a schedule", "depth"),
        ("della(a, b, drop=0.95, spread=0.2)", "with a chance between 0.85 and 1.05", "della"),
        ("breadcrumbs(a, b, smallest=0.9, largest=0.2)", "at most 1", "breadcrumbs"),
        ("mean()", "takes checkpoints", "mean"),
        ("ties(*a)", "Starred has no meaning", "*a"),
        ("a.b(c)", "Call has no meaning", "a.b"),
    ],
)
def test_mistakes_of_operators_have_a_caret(text: str, message: str, under: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in caught.value.bound
    shown, caret = str(caught.value).split("\n")[-2:]
    assert caret.index("^") == shown.index(under)


def test_a_schedule_takes_its_values_where_they_belong() -> None:
    ramp = Depth((0.0, 1.0, 0.0))
    assert [ramp.at(place) for place in (-1, 0, 0.25, 0.5, 0.75, 1, 2)] == [0, 0, 0.5, 1, 0.5, 0, 0]


def test_names_are_found_without_knowing_what_they_are() -> None:
    assert names_in("cp + rho*slerp(chat, base, t)") == ("cp", "rho", "chat", "base", "t")
    assert names_in("cp +") == ()
