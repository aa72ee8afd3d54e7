"""Calls of a user's own functions on a state, and what they give back."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_RESULT = 1_000
"""Characters of one result, as JSON; what is longer is cut."""
LONGEST_STATE = 24_000
"""Bytes of the state as JSON: state and results must pass the sandbox's report."""
MOST_CALLS = 8
"""Calls that are carried out at once."""


def functions(job: Mapping[str, Any]) -> bytes:
    """Run a file of functions, then call some of them, one after another, each with the state as its first argument.

    What came of it: passed with JSON {"results": [[fault or null, text], …], "state": …}, or tests with why the file
    cannot be run. A fault is "raises": the function raised, and text says what; "no result": what it gave back, or left
    in the state, is no JSON or too large, and the state stays as it was.
    """
    # Among the modules, where dataclasses look for the names of annotations.
    module = sys.modules["functions"] = types.ModuleType("functions")
    try:
        exec(compile(job["source"], "<functions>", "exec"), module.__dict__)
    except BaseException as error:
        return f"tests the file of functions cannot be run: {type(error).__name__}: {error}".encode(errors="replace")
    state, results = str(job["state"]), []
    for name, arguments in json.loads(job["calls"])[:MOST_CALLS]:
        fault, text, state = _called(module.__dict__[name], state, arguments)
        results.append([fault, text])
    # As letters, not as escapes of six bytes each: at most 56 KB, within the 64 of a report.
    found = json.dumps({"results": results, "state": json.loads(state)}, ensure_ascii=False)
    return b"passed " + found.encode(errors="replace")


def _called(function: Callable[..., Any], state: str, arguments: Mapping[str, Any]) -> tuple[str | None, str, str]:
    """(fault or None, what is shown, the state behind it)."""
    # From text each time: what a function changed before it raised is undone.
    now = json.loads(state)
    try:
        value = function(now, **arguments)
    except Exception as error:
        return "raises", f"{type(error).__name__}: {error}"[:LONGEST_RESULT], state
    try:
        shown, left = json.dumps(value, ensure_ascii=False), json.dumps(now, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return "no result", f"what the function gave is no JSON: {error}"[:LONGEST_RESULT], state
    if len(left.encode()) > LONGEST_STATE:
        return "no result", f"the state would be over {LONGEST_STATE:,} bytes", state
    return None, shown if len(shown) <= LONGEST_RESULT else f"{shown[:LONGEST_RESULT]}…", left
