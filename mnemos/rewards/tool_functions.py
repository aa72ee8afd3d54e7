"""Real functions that a model may call: read from a Python file, offered as tools, and run in the sandbox.

A file holds plain functions. Each that is public and takes `state` first is offered: its docstring says what it does,
its annotations and defaults which arguments it takes. `state` is a JSON object that is kept between calls, which the
function may change; what it gives back is shown to the model as JSON, and what it raises as an error.

    def add_stock(state, item: str, pieces: int) -> int:
        \"\"\"Put pieces of an item on the shelf, and give how many are there now.\"\"\"
        state["stock"][item] = state["stock"].get(item, 0) + pieces
        return state["stock"][item]
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.rewards.call_match import Function, functions_of
from mnemos.rewards.call_syntax import Call, same_name
from mnemos.rewards.sandbox.box import Functions, shared
from mnemos.rewards.sandbox.functions import LONGEST_STATE, MOST_CALLS

LONGEST_FILE = 200_000
"""Bytes of a file of functions."""
STATE = "state"
_WORDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}
_PYTHON: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}

REASONS = (
    "cannot be read",
    "no such function",
    "wrong arguments",
    "wrong type",
    "raises",
    "no result",
    "over a limit",
    "too many calls",
)
"""Why a call is bad, in the order in which it is looked for: the call itself cannot be read; its function is not
offered; an argument is unknown or missing; a value has another type; the function raised; it gave nothing that can be
shown; it took too long or too much memory; more than `MOST_CALLS` at once, or than the suite allows in all."""


@dataclass(frozen=True)
class Result:
    """What came of one call. text: what the model is shown, JSON or an error in words. fault: one of `REASONS`, or None
    for a call that worked."""

    text: str
    fault: str | None = None


@dataclass(frozen=True)
class Done:
    """What came of the calls of one turn. state: JSON of the state behind them. missing: why it cannot be known, for no
    fault of the model."""

    results: tuple[Result, ...]
    state: str
    missing: str | None = None


def read_source(path: str | Path) -> str:
    """The file's text. Raises DataError for what is no file of Python functions."""
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST_FILE + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"functions {path}", f"cannot be read ({error})", "name a Python file of functions") from None
    if len(data) > LONGEST_FILE:
        raise DataError(f"functions {path}", f"is over {LONGEST_FILE:,} bytes", "leave out what is not called")
    tools_in(text, str(path))
    return text


@lru_cache(maxsize=64)
def tools_in(source: str, where: str = "functions") -> tuple[str, ...]:
    """Each function that is offered, as JSON of a tool with its schema; nothing is run. Raises DataError for a file
    that is no Python or offers nothing, and for a parameter that cannot be described."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}", f"is no Python ({error})", "mend the file of functions") from None
    found = [_tool(one, where) for one in tree.body if isinstance(one, ast.FunctionDef) and _offered(one)]
    if not found:
        cure = "write def name(state, argument: str): …, with a docstring"
        raise DataError(f"{where}", f"offers no function with {STATE} as its first parameter", cure)
    return tuple(found)


def _offered(function: ast.FunctionDef) -> bool:
    first = [*function.args.posonlyargs, *function.args.args][:1]
    return not function.name.startswith("_") and bool(first) and first[0].arg == STATE


def _tool(function: ast.FunctionDef, where: str) -> str:
    taken = function.args
    if taken.vararg or taken.kwarg or len(taken.posonlyargs) > 1:
        bound = "takes arguments that have no names"
        raise DataError(f"{where}:{function.lineno}: {function.name}", bound, "name each: def f(state, a: int, b: str)")
    plain = taken.args if taken.posonlyargs else taken.args[1:]
    optional = {one.arg for one in plain[len(plain) - len(taken.defaults) :]} if taken.defaults else set()
    optional |= {one.arg for one, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if value is not None}
    named = [*plain, *taken.kwonlyargs]
    properties = {one.arg: {"type": _type(one, function, where)} for one in named}
    schema = {"type": "object", "properties": properties, "required": [n for n in properties if n not in optional]}
    words = " ".join((ast.get_docstring(function) or function.name).split())
    return json.dumps({"name": function.name, "description": words, "parameters": schema}, ensure_ascii=False)


def _type(one: ast.arg, function: ast.FunctionDef, where: str) -> str:
    node = one.annotation.value if isinstance(one.annotation, ast.Subscript) else one.annotation
    name = node.id if isinstance(node, ast.Name) else None
    if name not in _WORDS:
        known = ", ".join(_WORDS)
        bound = "is not annotated with a type that JSON has"
        raise DataError(f"{where}:{one.lineno}: {function.name}({one.arg})", bound, f"write one of {known}")
    return _WORDS[name]


@lru_cache(maxsize=64)
def signatures(source: str) -> tuple[Function, ...]:
    """The functions that are offered, with their parameters."""
    return tuple(functions_of([{"function": json.loads(one)} for one in tools_in(source)]))


def carry_out(source: str, turns: Sequence[tuple[str, Sequence[Call]]]) -> list[Done]:
    """The calls of several dialogues, one turn each: (JSON of the state, calls) -> what came of them. Within a turn
    calls are carried out in their order. Raises DataError where the file cannot be run, UsageError where this machine
    gives no sandbox."""
    known = signatures(source)
    checked = [[_checked(call, at, known) for at, call in enumerate(calls)] for _, calls in turns]
    jobs = [
        Functions(source, state, json.dumps([one for one in calls if not isinstance(one, Result)]))
        for (state, _), calls in zip(turns, checked, strict=True)
    ]
    # A turn of nothing but bad calls runs nothing.
    running = [at for at, job in enumerate(jobs) if job.calls != "[]"]
    outcomes = dict(zip(running, shared().run([jobs[at] for at in running]), strict=True))
    found = []
    for at, ((state, _), calls) in enumerate(zip(turns, checked, strict=True)):
        outcome = outcomes.get(at)
        if outcome is None:
            found.append(Done(tuple(one for one in calls if isinstance(one, Result)), state))
        elif outcome.status == "bad reference":
            raise DataError("functions", outcome.detail, "mend the file of functions")
        elif outcome.status in ("busy", "broken"):
            found.append(Done((), state, f"the sandbox failed: {outcome.status}"))
        else:
            found.append(_done(calls, state, outcome.status, outcome.detail))
    return found


def _done(calls: Sequence[Any], state: str, status: str, detail: str) -> Done:
    if status != "passed":
        # Which of the turn's calls did it is not known: none of them is carried out.
        lost = Result(f"error: over a limit of time or memory ({status})", "over a limit")
        return Done(tuple(one if isinstance(one, Result) else lost for one in calls), state)
    came = json.loads(detail)
    given = iter(came["results"])
    results = [one if isinstance(one, Result) else _result(*next(given)) for one in calls]
    return Done(tuple(results), json.dumps(came["state"]))


def _result(fault: str | None, text: str) -> Result:
    return Result(text if fault is None else f"error: {text}", fault)


def _checked(call: Call, at: int, known: Sequence[Function]) -> tuple[str, Mapping[str, Any]] | Result:
    """The call as it is carried out, or what is wrong with it before anything runs."""
    if call.fault is not None:
        return Result(f"error: {call.fault}", "cannot be read")
    function = next((one for one in known if same_name(one.name, call.name)), None)
    if function is None:
        there = ", ".join(one.name for one in known)
        return Result(f"error: there is no function {call.name[:100]}; there are {there}", "no such function")
    unknown = [name for name in call.arguments if name not in function.properties]
    lacking = [name for name in function.required if name not in call.arguments]
    if unknown or lacking:
        words = f"it takes no {str(unknown[0])[:100]}" if unknown else f"it needs {lacking[0]}"
        return Result(f"error: {function.name}: {words}", "wrong arguments")
    for name, value in call.arguments.items():
        word = function.properties[name]["type"]
        # true is no number, though Python takes it for one.
        if not isinstance(value, _PYTHON[word]) or (isinstance(value, bool) and word != "boolean"):
            return Result(f"error: {function.name}: {name} must be of type {word}", "wrong type")
    if at >= MOST_CALLS:
        return Result(f"error: more than {MOST_CALLS} calls at once", "too many calls")
    try:
        json.dumps(call.arguments, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return Result(f"error: {function.name}: a value that JSON has no word for", "wrong type")
    return function.name, call.arguments


def check_state(state: Any, where: str) -> None:
    """Raise DataError for a state that cannot be handed to functions."""
    if not isinstance(state, Mapping):
        raise DataError(f"{where}: state = {state!r}"[:300], "must be an object", "state: {…}, which functions read")
    if len(json.dumps(state).encode()) > LONGEST_STATE:
        raise DataError(f"{where}: state", f"is over {LONGEST_STATE:,} bytes of JSON", "make it smaller")
