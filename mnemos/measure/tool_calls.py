"""Does the model call the right functions? Tools handed over, calls read from the answer and compared.

Tools reach the model through its chat template where that takes tools, as JSON Schema; else in words before the
question, as they are written in the row, with the request to answer in Python's call syntax.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer, Frozen, Prompt, frozen, thawed
from mnemos.measure.items import Item
from mnemos.measure.settings import ToolCallsSettings
from mnemos.rewards.call_match import Expected, Function, expected_of, fault_of, functions_of, types_of
from mnemos.rewards.call_syntax import calls_in
from mnemos.rewards.verifiers import LONGEST

IN_WORDS = """\
You may call functions. Decide which of them, if any, the request needs, and answer with the calls alone, as a list in \
Python's syntax with every argument named:
[function(parameter=value, other=value), function(parameter=value)]
If none of them helps, or the request lacks what a required parameter needs, say so in words and call nothing.

The functions, as JSON:
{functions}

The request:
"""
"""What stands before the first user turn where the chat template takes no tools."""

_SCHEMA_WORDS = {"dict": "object", "float": "number", "tuple": "array", "list": "array", "any": "string"}
"""BFCL's words for types -> those of JSON Schema, which templates and servers expect."""


def offered(model: Any, item: Item) -> Prompt:
    """What the model is asked for an item: its prompt, with the tools handed over as `Item.tools_in` says. A model
    that does not say whether it takes tools is given them in words."""
    assert item.prompt is not None
    prompt = item.prompt
    if item.tools_in is None:
        return prompt
    as_schema = Prompt(prompt.turns, _as_schema(prompt.variables))
    takes = getattr(model, "takes_tools", lambda prompt: False)
    if item.tools_in == "template" or (item.tools_in == "auto" and takes(as_schema)):
        return as_schema
    return _in_words(prompt)


def _in_words(prompt: Prompt) -> Prompt:
    # Not in a system turn: some templates refuse one, and others have one of their own that it would replace.
    first = next((at for at, turn in enumerate(prompt.turns) if turn.role == "user"), 0)
    functions = [tool["function"] for tool in thawed(prompt.variables)["tools"]]
    listed = "\n".join(json.dumps(one, ensure_ascii=False) for one in functions)
    # Not by format(): a row's own braces are data.
    words = IN_WORDS.replace("{functions}", listed)
    asked = prompt.turns[first]
    turns = list(prompt.turns)
    turns[first] = dataclasses.replace(asked, content=words + asked.text)
    return Prompt(tuple(turns), tuple(pair for pair in prompt.variables if pair[0] != "tools"))


@lru_cache(maxsize=4096)
def _as_schema(variables: Frozen) -> Frozen:
    return frozen({name: _schema(value) if name == "tools" else value for name, value in thawed(variables).items()})


def _schema(value: Any) -> Any:
    """The same with the types of JSON Schema. JSON was checked for its depth where the row was read."""
    if isinstance(value, list):
        return [_schema(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    # A parameter may itself be called "type": it is then a schema, and no word.
    return {
        key: _SCHEMA_WORDS.get(one, one) if key == "type" and isinstance(one, str) else _schema(one)
        for key, one in value.items()
    }


@lru_cache(maxsize=4096)
def _functions(variables: Frozen) -> tuple[Function, ...]:
    return tuple(functions_of(thawed(variables).get("tools", [])))


def _expected(item: Item, functions: tuple[Function, ...], where: str) -> list[list[Expected]]:
    """The right calls, in each of the ways that the item allows."""
    return [expected_of(reference, functions, where=where) for reference in item.answers]


def check(settings: ToolCallsSettings, item: Item, where: str) -> None:
    """Raise DataError for an item without tools, or with a reference that no answer could meet."""
    functions = _functions(item.prompt.variables) if item.prompt is not None else ()
    if not functions:
        raise DataError(where, "offers no function", 'tools: [{"name": …, "description": …, "parameters": {…}}]')
    if settings.no_call and item.answers:
        raise UsageError(f"{where}: answer", "stands in a suite with no_call: true", "take out one of the two")
    if not settings.no_call and not item.answers:
        raise DataError(where, "names no right calls", "answer: [{name: {parameter: [values]}}], or [] for no call")
    _expected(item, functions, where)


def score(settings: ToolCallsSettings, item: Item, answer: Answer) -> tuple[float, str | None, float, str]:
    """1 where the calls are right, else 0 with the reason as its note; missing for an answer that is too long."""
    text = answer.text or ""
    if len(text) > LONGEST:
        return math.nan, f"an answer of more than {LONGEST:,} characters", 1.0, ""
    assert item.prompt is not None
    functions = _functions(item.prompt.variables)
    calls = calls_in(text, types_of(functions))
    ways = _expected(item, functions, item.id) or [[]]
    faults = [fault_of(calls, way) for way in ways]
    return (1.0, None, 1.0, "") if None in faults else (0.0, None, 1.0, faults[0] or "")


def as_asked(item: Item, settings: ToolCallsSettings) -> Item:
    """The item with the way in which its tools are handed over."""
    return dataclasses.replace(item, tools_in=settings.tools_in)
