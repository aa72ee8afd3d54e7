"""Are these the right calls? The rules of the Berkeley Function Calling Leaderboard's check of syntax trees.

Patil et al., "The Berkeley Function Calling Leaderboard" (ICML 2025, github.com/ShishirPatil/gorilla). A reference
lists the right calls, each as ``{name: {parameter: [allowed values]}}``; ``""`` among the values says that the
parameter may be left out. A call is right where its function is the one named, every required parameter is there, no
parameter is unknown to schema or reference, and each value is of the schema's type and one of those allowed.
Several calls may stand in any order.

Deviations from its code: 1. calls are paired with the reference so that as many as possible fit, where it takes the
first that fits and may so use up another one's; 2. true is never 1; 3. a name's dots may be underscores for every
model; 4. a tag that opens a call and holds none is a call, and a wrong one, where no call is right; 5. elements of an
array that may be left out are held to its type like those of any other; 6. what it crashes on, and so counts as wrong,
is compared (an array without items, types of JSON Schema).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError
from mnemos.rewards.call_syntax import Call, Types, same_name

LONGEST_REASON = 200
"""Characters of a reason why calls are wrong."""

_TYPES: Mapping[str, type] = {
    "string": str,
    "any": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "object": dict,
}
"""A schema's word -> the Python type of its values; BFCL's words beside those of JSON Schema."""

_UNHEARD = re.compile(r"[ ,./\-_*^]")
OMITTED = ""
"""Among allowed values: the parameter may be left out."""


@dataclass(frozen=True)
class Function:
    """What is offered. properties: parameter -> its schema. required: parameters that every call needs."""

    name: str
    properties: Mapping[str, Mapping[str, Any]]
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """One right call. allowed: parameter -> its allowed values."""

    function: Function
    allowed: Mapping[str, Sequence[Any]]


def functions_of(tools: Sequence[Mapping[str, Any]]) -> list[Function]:
    """The functions of a row's tools, as `sources.tools` has them. A schema that says nothing allows everything."""
    found = []
    for tool in tools:
        one = tool["function"]
        schema = one.get("parameters")
        schema = schema if isinstance(schema, Mapping) else {}
        properties, required = schema.get("properties"), schema.get("required")
        properties = properties if isinstance(properties, Mapping) else {}
        kept = {name: value if isinstance(value, Mapping) else {} for name, value in properties.items()}
        found.append(Function(one["name"], kept, tuple(required) if isinstance(required, list) else ()))
    return found


def types_of(functions: Sequence[Function]) -> Types:
    """What `calls_in` needs to know of them."""
    return {one.name: {name: schema.get("type") for name, schema in one.properties.items()} for one in functions}


def expected_of(reference: str, functions: Sequence[Function], *, where: str) -> list[Expected]:
    """The right calls that a reference lists: JSON, one call or a list of them, each in BFCL's spelling or as
    ``{"name": …, "arguments": {…}}``, whose values are then the only ones allowed. Raises DataError where no answer
    could meet it."""
    try:
        value = json.loads(reference)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: answer {reference[:200]!r}", "is no list of calls", _CURE) from None
    return [_expected(one, functions, where) for one in (value if isinstance(value, list) else [value])]


_CURE = "write [{name: {parameter: [allowed values]}}], or [] where no call is right"


def _expected(value: Any, functions: Sequence[Function], where: str) -> Expected:
    if isinstance(value, Mapping) and set(value) == {"name", "arguments"} and isinstance(value["arguments"], Mapping):
        name, allowed = value["name"], {key: [one] for key, one in value["arguments"].items()}
    elif isinstance(value, Mapping) and len(value) == 1:
        [(name, allowed)] = value.items()
    else:
        raise DataError(f"{where}: answer {json.dumps(value)[:200]}", "is no call", _CURE)
    function = next((one for one in functions if one.name == name), None)
    if function is None:
        there = ", ".join(one.name for one in functions)
        raise DataError(f"{where}: answer calls {name!r}", "which is not among the item's tools", f"there are: {there}")
    if not isinstance(allowed, Mapping) or not all(isinstance(one, list) for one in allowed.values()):
        raise DataError(f"{where}: answer {json.dumps(value)[:200]}", "names no list of allowed values", _CURE)
    lost = [one for one in function.required if one not in allowed]
    if lost:
        raise DataError(f"{where}: answer to {name}", f"allows no value of {lost[0]!r}, which is required", "add it")
    return Expected(function, allowed)


def fault_of(calls: Sequence[Call], expected: Sequence[Expected]) -> str | None:
    """Why the calls are not the right ones, the first reason found; None where they are."""
    if len(calls) != len(expected):
        return f"{len(calls)} calls, where {len(expected)} are right"[:LONGEST_REASON]
    faults = [[_fault(call, one) for call in calls] for one in expected]
    partner = _paired([[fault is None for fault in row] for row in faults])
    left = next((at for at in range(len(expected)) if at not in partner.values()), None)
    if left is None:
        return None
    # Of the calls that no other reference took: one of them was meant for this.
    spare = next(at for at in range(len(calls)) if at not in partner)
    return (faults[left][spare] or f"{expected[left].function.name} is called once too few")[:LONGEST_REASON]


def _paired(fits: Sequence[Sequence[bool]]) -> dict[int, int]:
    """call -> reference, as many pairs as there can be: augmenting paths (Kuhn 1955), one reference at a time."""
    partner: dict[int, int] = {}

    def placed(row: int, tried: set[int]) -> bool:
        for call, fit in enumerate(fits[row]):
            if fit and call not in tried:
                tried.add(call)
                # A call that is taken is freed where its reference finds another.
                if call not in partner or placed(partner[call], tried):
                    partner[call] = row
                    return True
        return False

    for row in range(len(fits)):
        placed(row, set())
    return partner


def _fault(call: Call, expected: Expected) -> str | None:
    function, allowed = expected.function, expected.allowed
    if call.name and not same_name(call.name, function.name):
        return f"calls {call.name}, where {function.name} is right"
    if call.fault is not None:
        return call.fault
    for name in function.required:
        if name not in call.arguments:
            return f"the required parameter {name} is missing"
    for name, value in call.arguments.items():
        if name not in function.properties or name not in allowed:
            return f"the parameter {name} is not expected"
        if not _right(value, function.properties[name], allowed[name]):
            return f"{name} = {value!r} is not allowed" if len(repr(value)) < 100 else f"{name} is not allowed"
    for name, values in allowed.items():
        if name not in call.arguments and OMITTED not in values:
            return f"the parameter {name} is missing"
    return None


def _right(value: Any, schema: Mapping[str, Any], allowed: Sequence[Any]) -> bool:
    word = schema.get("type")
    meant = _TYPES.get(word) if isinstance(word, str) else None
    if word == "tuple" and isinstance(value, tuple):
        # JSON has no tuples, so those of the reference are lists.
        value = list(value)
    if meant is float and type(value) is int:
        value = float(value) if abs(value) < 2**53 else value
    others = [one for one in allowed if one != OMITTED]
    # A reference of another type than the schema's is the name of a variable, or an expression: it is compared as it
    # stands, and so is a value of the reference's type in place of the schema's.
    variable = bool(others) and meant is not None and type(others[0]) is not meant
    if meant is not None and type(value) is not meant:
        if not others or type(value) is not type(others[0]):
            return False
        variable = True
    if variable:
        return any(_same(value, one) for one in allowed)
    if isinstance(value, dict):
        return any(_same_object(value, one) for one in others)
    if isinstance(value, list):
        kind = _TYPES.get(str(_items(schema).get("type")))
        # An empty list says as little as a parameter that is left out.
        return any(_same_list(value, one, kind) for one in others) or (not value and OMITTED in allowed)
    return any(_same(_heard(value), _heard(one)) for one in allowed)


def _heard(value: Any) -> Any:
    """A text without case, spaces and the punctuation that BFCL does not hear (,./-_*^); other values as they are."""
    return _UNHEARD.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON values: 1 is 1.0, true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    return bool(a == b)


def _items(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("items")
    return found if isinstance(found, Mapping) else {}


def _same_list(value: list[Any], meant: Any, kind: type | None) -> bool:
    """Element by element, in order; objects within by their own lists of allowed values. kind: what the schema says
    of elements; one of another type must have that of the reference's first."""
    if not isinstance(meant, list) or len(value) != len(meant):
        return False
    kinds = (kind, type(meant[0])) if meant else (kind,)
    return (kind is None or all(type(one) in kinds for one in value)) and all(
        _same_object(a, b) if isinstance(a, dict) and isinstance(b, dict) else _same(_heard(a), _heard(b))
        for a, b in zip(value, meant, strict=True)
    )


def _same_object(value: dict[Any, Any], meant: Any) -> bool:
    """An object whose reference lists, key by key, the allowed values; "" among them says that the key may be left
    out. What is within them is compared as it stands."""
    if not isinstance(meant, dict) or not all(isinstance(one, list) for one in meant.values()):
        return _same(value, meant)
    known = all(
        key in meant and any(_same(_heard(one), _heard(right)) for right in meant[key]) for key, one in value.items()
    )
    return known and all(key in value or OMITTED in right for key, right in meant.items())
