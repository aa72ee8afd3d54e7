"""JSON out of what a model wrote, compared and checked against schemas in bounded time."""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.patterns import SECONDS, Overtime, compiled, search
from mnemos.rewards import fences

DEEPEST = 500
"""How deep arrays and objects may be nested."""
LONGEST_INTEGER = 4000
"""Digits of an integer that is read."""

LONGEST_UNEVALUATED = 20_000
"""Characters of an answer that is checked against a schema with unevaluatedProperties, whose time grows with the
square of the properties."""

_UNEVALUATED = {"unevaluatedProperties", "unevaluatedItems"}
_BETWEEN = re.compile(r"[\s,;]+")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


class Unreadable(ValueError):  # noqa: N818 - reads as what it says
    """JSON, it may be, but beyond what is read here: nested too deep, too long an integer, no double."""


def parse_json(text: str) -> Any:
    """The JSON value that the whole text is, alone or inside one Markdown fence.

    Raises ValueError where it is none, `Unreadable` where it may be one. NaN and Infinity are refused, because
    they are not JSON.
    """
    # Only where the fence is all: JSON beside prose is not what a program could read.
    inner = fences.alone(text)
    text = text if inner is None else inner
    _refuse_deep(text)
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_double)
    except RecursionError:
        raise Unreadable("nested too deep") from None


def json_values(text: str) -> list[Any]:
    """The JSON values that the text is, one behind another, with white space, commas or semicolons between; none of
    an empty text. Raises as `parse_json`."""
    _refuse_deep(text)
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer, parse_float=_double)
    found: list[Any] = []
    at = _between(text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError:
            raise Unreadable("nested too deep") from None
        found.append(value)
        at = _between(text, at)
    return found


def _between(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def _refuse_deep(text: str) -> None:
    # Before it is read: whether json's recursion meets the limit depends on how deep the caller stands, and a score
    # must not.
    if _depth(text) > DEEPEST:
        raise Unreadable(f"nested more than {DEEPEST} deep")


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        mark = match[0]
        depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
        deepest = max(deepest, depth)
    return deepest


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER:
        raise Unreadable(f"an integer of more than {LONGEST_INTEGER:,} digits")
    return int(digits)


def _double(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Unreadable(f"{digits[:20]} is beyond a double")
    return value


def key(value: Any) -> Any:
    """What is equal exactly for equal JSON values: 1 == 1.0, but true != 1; the order of keys does not count.

    A tuple of tokens, made without recursion, so that nothing is too deep for it.
    """
    out: list[Any] = []
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            # With the length in front no closing token is needed, and no value can pass for the end of another.
            out += ["{", len(one)]
            # Reversed, because the last one put on the stack is taken first: names come out in the alphabet's order.
            for name, item in sorted(one.items(), reverse=True):
                waiting += [item, name]
        elif isinstance(one, list):
            out += ["[", len(one)]
            waiting += reversed(one)
        else:
            # Python calls True and 1 equal, and 1 and 1.0: the type's name parts the first two and leaves the others
            # together.
            out.append((type(one).__name__ if isinstance(one, bool | str) else "", one))
    return tuple(out)


def json_equal(answer: str, reference: str) -> float:
    """1 where both are the same JSON value: order of keys and white space do not count; 1 == 1.0,
    but true != 1."""
    try:
        return float(key(parse_json(answer)) == key(parse_json(reference)))
    except ValueError:
        return 0.0


def json_schema(answer: str, schema: Mapping[str, Any]) -> float:
    """1 where the whole answer is JSON that the schema accepts.

    The dialect is the one that ``$schema`` names, 2020-12 otherwise. References to other documents
    are not fetched; an answer that needs one scores 0. Raises `Unreadable` for JSON that is not read here,
    `Overtime` and RecursionError for a schema that takes too long on the answer.
    """
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        value = parse_json(answer)
    except Unreadable:
        raise
    except ValueError:
        return 0.0
    # Asked of the schema only for long answers, since looking for keywords walks through all of it.
    if len(answer) > LONGEST_UNEVALUATED and _UNEVALUATED & set(_keywords(schema)):
        raise Unreadable(f"more than {LONGEST_UNEVALUATED:,} characters under unevaluatedProperties")
    # Time of this thread alone: a busy machine must not turn a score into a missing one.
    _clock.end = time.thread_time() + SECONDS
    try:
        return float(_bounded(_dialect(schema))(schema, registry=Registry()).is_valid(value))
    except Unresolvable:
        return 0.0


def check_schema(schema: Any, *, where: str) -> None:
    """Raise DataError where `schema` is not a valid JSON schema."""
    import jsonschema

    if not isinstance(schema, Mapping):
        raise DataError(f"{where}: schema {schema!r}", "must be a mapping", "write a JSON schema, e.g. {type: object}")
    try:
        _dialect(schema).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise DataError(f"{where}: schema", f"is not valid: {error.message}", "see json-schema.org") from None
    except RecursionError:
        raise DataError(f"{where}: schema", "is nested too deep", "write a flatter one") from None
    if {"unevaluatedProperties", "patternProperties"} <= set(_keywords(schema)):
        raise DataError(
            f"{where}: schema",
            "has unevaluatedProperties beside patternProperties, which cannot be checked in bounded time",
            "use additionalProperties",
        )
    # References inside the document may name one of its own $ids, whole or by their end.
    known = tuple(_texts(schema, "$id"))
    for reference in (*_texts(schema, "$ref"), *_texts(schema, "$dynamicRef")):
        outside = reference.partition("#")[0]
        if outside and not any(name.endswith(outside) for name in known):
            bound = f"points to {reference!r}, which is not within it"
            raise DataError(f"{where}: schema", bound, "write what it points to under $defs; nothing is fetched")
    for pattern in _patterns(schema):
        try:
            compiled(pattern)
        except ValueError as error:
            raise DataError(
                f"{where}: pattern {pattern!r}", f"is no regular expression ({error})", "escape special characters"
            ) from None


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), Mapping):
            yield from map(str, schema["patternProperties"])
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    yield from itertools.chain.from_iterable(map(_patterns, inner))


def _texts(schema: Any, key: str) -> Iterator[str]:
    """The texts that stand under a key, wherever in a schema."""
    if isinstance(schema, Mapping) and isinstance(schema.get(key), str):
        yield schema[key]
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    yield from itertools.chain.from_iterable(_texts(one, key) for one in inner)


def _keywords(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        yield from map(str, schema)
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    yield from itertools.chain.from_iterable(map(_keywords, inner))


def _dialect(schema: Mapping[str, Any]) -> Any:
    import jsonschema

    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)


class _Clock(threading.local):
    end = math.inf


# One clock a thread: validators are made once and shared, and the time of an answer must not be another's.
_clock = _Clock()

Rule = Callable[[Any, Any, Any, Any], Any]


@lru_cache(maxsize=16)
def _bounded(dialect: Any) -> Any:
    """The dialect with every keyword watching the clock, and those whose time the answer could blow up replaced:
    patterns, and uniqueItems, which compares all objects with each other."""
    import jsonschema

    rules = {name: _watched(rule) for name, rule in dialect.VALIDATORS.items()}
    for name, rule in (("pattern", _pattern), ("uniqueItems", _unique), ("patternProperties", _pattern_properties)):
        rules[name] = rule
    rules["additionalProperties"] = _watched(_additional(dialect.VALIDATORS["additionalProperties"]))
    return jsonschema.validators.extend(dialect, rules)


def _found(pattern: str, text: str) -> bool:
    return search(pattern, text, _clock.end - time.thread_time())


def _watched(rule: Rule) -> Rule:
    def watched(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if time.thread_time() > _clock.end:
            raise Overtime
        return rule(validator, value, instance, schema)

    return watched


def _wrong(message: str) -> Any:
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)


def _pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not _found(value, instance):
        yield _wrong("does not match")


def _unique(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if value and isinstance(instance, list) and len(set(map(key, instance))) < len(instance):
        yield _wrong("has elements that are equal")


def _pattern_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        for pattern, inner in value.items():
            for name, item in instance.items():
                if _found(pattern, name):
                    yield from validator.descend(item, inner, path=name, schema_path=pattern)


def _additional(rule: Rule) -> Rule:
    """The rule with properties that a pattern names taken out beforehand, so that it searches none itself."""

    # The stock rule joins all patterns to one expression and searches each name with it, where nothing bounds the
    # time.
    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        patterns = schema.get("patternProperties") or {}
        if patterns and isinstance(instance, dict):
            instance = {n: item for n, item in instance.items() if not any(_found(p, n) for p in patterns)}
            schema = {name: item for name, item in schema.items() if name != "patternProperties"}
        return rule(validator, value, instance, schema)

    return additional
