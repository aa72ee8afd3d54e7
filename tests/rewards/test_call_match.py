"""The leaderboard's rules, each by a hand-made case; the order of parallel calls does not count."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.rewards.call_match import expected_of, fault_of, functions_of
from mnemos.rewards.call_syntax import Call

PROPERTIES: dict[str, dict[str, Any]] = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "height": {"type": "float"},
    "exact": {"type": "boolean"},
    "units": {"type": "array", "items": {"type": "string"}},
    "counts": {"type": "array", "items": {"type": "integer"}},
    "shares": {"type": "array", "items": {"type": "float"}},
    "place": {"type": "tuple", "items": {"type": "float"}},
    "box": {"type": "dict"},
    "boxes": {"type": "array", "items": {"type": "dict"}},
    "free": {},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "dict", "properties": PROPERTIES, "required": required},
        },
    }
    for name, required in (("get.it", []), ("needs", ["city"]))
]
FUNCTIONS = functions_of(TOOLS)


def right(
    arguments: dict[str, Any], allowed: dict[str, list[Any]], name: str = "get.it", meant: str = "get.it"
) -> bool:
    expected = expected_of(json.dumps([{meant: allowed}]), FUNCTIONS, where="here")
    return fault_of([Call(name, arguments)], expected) is None


@pytest.mark.parametrize(
    ("name", "value", "allowed", "verdict"),
    [
        # texts: case, spaces and ,./-_*^ are not heard; a single quote is a double one
        ("city", "new york", ["New York"], True),
        ("city", "New-York,", ["new york"], True),
        ("city", "it's", ['It"s'], True),
        ("city", "NYC", ["New York", "NYC"], True),
        ("city", "New Yorks", ["New York"], False),
        ("city", "a+b", ["a b"], False),
        ("city", 5, ["5"], False),
        # integers stay integers, an integer may stand for a float, and a boolean for neither
        ("days", 3, [3], True),
        ("days", 3.0, [3], False),
        ("days", "3", [3], False),
        ("days", True, [1], False),
        ("days", None, [3, ""], False),
        ("height", 3, [3.0], True),
        ("height", 3, [3], True),
        ("height", 3.5, [3.5], True),
        ("height", True, [1.0], False),
        ("exact", True, [True], True),
        ("exact", 1, [True], False),
        ("exact", "true", [True], False),
        # a reference of another type than the schema's is a variable: as it stands, without leniency
        ("days", "n_days", ["n_days"], True),
        ("days", "N_days", ["n_days"], False),
        # lists: in order, elements of the schema's type, texts within as texts are
        ("units", ["Mm", "k_g"], [["mm", "kg"]], True),
        ("units", ["kg", "mm"], [["mm", "kg"]], False),
        ("units", ["kg", "mm"], [["mm", "kg"], ["kg", "mm"]], True),
        ("units", ("mm", "kg"), [["mm", "kg"]], False),
        ("units", "mm", [["mm"]], False),
        ("units", [], [["mm"], ""], True),
        ("units", [], [["mm"]], False),
        ("counts", [1, 2], [[1, 2]], True),
        ("counts", [1, 2.0], [[1, 2]], False),
        ("counts", [True, 2], [[1, 2]], False),
        ("shares", [1, 2.0], [[1, 2]], True),
        ("place", (1.5, 2.5), [[1.5, 2.5]], True),
        ("place", [1.5, 2.5], [[1.5, 2.5]], True),
        # objects: allowed values key by key, "" for a key that may be left out
        ("box", {"a": "X y"}, [{"a": ["xy", "z"], "b": [1, ""]}], True),
        ("box", {"a": "xy", "b": 1}, [{"a": ["xy"], "b": [1, ""]}], True),
        ("box", {"a": "xy", "b": 2}, [{"a": ["xy"], "b": [1, ""]}], False),
        ("box", {"b": 1}, [{"a": ["xy"], "b": [1, ""]}], False),
        ("box", {"a": "xy", "c": 1}, [{"a": ["xy"]}], False),
        ("box", {"a": True}, [{"a": [1]}], False),
        ("boxes", [{"a": 1}, {"a": 2}], [[{"a": [1]}, {"a": [2, 3]}]], True),
        ("boxes", [{"a": 2}, {"a": 1}], [[{"a": [1]}, {"a": [2, 3]}]], False),
        ("boxes", [{"a": 1}], [[{"a": [1]}, {"a": [2]}]], False),
        # without a type in the schema the reference decides
        ("free", "A b", ["ab"], True),
        ("free", 2, [2.0], True),
    ],
)
def test_a_value_is_of_its_type_and_among_those_allowed(
    name: str, value: Any, allowed: list[Any], verdict: bool
) -> None:
    assert right({name: value}, {name: allowed}) is verdict


def test_parameters_may_be_left_out_only_where_the_reference_says_so() -> None:
    assert right({}, {"days": [3, ""]})
    assert not right({}, {"days": [3]})
    assert not right({"days": 3, "city": "Ulm"}, {"days": [3]})
    assert not right({"days": 3, "unknown": 1}, {"days": [3], "unknown": [1]})
    # what the schema requires is required, whatever the reference says
    assert not right({}, {"city": ["Ulm", ""]}, "needs", "needs")


def test_the_name_counts_and_its_dots_may_be_underscores() -> None:
    assert right({"days": 3}, {"days": [3]}, "get_it")
    assert not right({"days": 3}, {"days": [3]}, "get.its")
    assert not right({"city": "Ulm"}, {"city": ["Ulm"]}, "needs")


def fault(calls: list[Call], reference: Any) -> str | None:
    return fault_of(calls, expected_of(json.dumps(reference), FUNCTIONS, where="here"))


def test_the_first_reason_is_named() -> None:
    asked = [{"needs": {"city": ["Ulm"], "days": [3]}}]
    assert fault([], asked) == "0 calls, where 1 are right"
    assert fault([Call("needs", {"days": 3})], asked) == "the required parameter city is missing"
    assert fault([Call("needs", {"city": "Ulm"})], asked) == "the parameter days is missing"
    assert fault([Call("needs", {"city": "Ulm", "days": 4})], asked) == "days = 4 is not allowed"
    assert fault([Call("get.it", {})], asked) == "calls get.it, where needs is right"
    assert fault([Call("needs", {"city": "Ulm", "days": 3}, "a positional argument")], asked) == "a positional argument"
    assert len(fault([Call("x" * 10_000, {})], asked) or "") <= 200
    assert fault([], []) is None
    assert fault([Call("get.it", {})], []) == "1 calls, where 0 are right"


DAYS = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@given(DAYS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_parallel_calls_stand_in_any_order(days: list[int], rng: Any) -> None:
    calls = [Call("get.it", {"days": day}) for day in days]
    rng.shuffle(calls)
    asked = [{"get.it": {"days": [day]}} for day in days]
    assert fault(calls, asked) is None
    assert fault([*calls[1:], Call("get.it", {"days": 5})], asked) is not None
    assert fault(calls[1:], asked) is not None
    assert fault([*calls, calls[0]], asked) is not None


@given(st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_call_that_fits_twice_takes_nobody_elses_place(allowed: list[set[int]], rng: Any) -> None:
    """Against all orders: right where any pairing of calls and references fits."""
    from itertools import permutations

    days = [rng.randrange(5) for _ in allowed]
    fits = any(all(day in one for day, one in zip(order, allowed, strict=True)) for order in permutations(days))
    asked = [{"get.it": {"days": sorted(one)}} for one in allowed]
    assert (fault([Call("get.it", {"days": day}) for day in days], asked) is None) is fits


def test_a_reference_may_be_written_as_a_call() -> None:
    asked = [{"name": "needs", "arguments": {"city": "Ulm"}}]
    assert fault([Call("needs", {"city": "ulm"})], asked) is None
    assert fault([Call("needs", {"city": "Bonn"})], asked) is not None


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("get.it()", "is no list of calls"),
        ("[3]", "is no call"),
        ('[{"other": {}}]', "not among the item's tools"),
        ('[{"get.it": {"days": 3}}]', "names no list of allowed values"),
        ('[{"needs": {"days": [3]}}]', "allows no value of 'city'"),
        ("[" * 5000, "is no list of calls"),
    ],
)
def test_a_reference_that_no_answer_could_meet_is_refused(reference: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        expected_of(reference, FUNCTIONS, where="here")
