"""Calls of tools, read with Python's parser and compared argument by argument: BFCL simple, OpenFunctions v1.

As in the Berkeley Function Calling Leaderboard's check of syntax trees: the function's name must be right, every
argument must have one of its possible values, and one that may be left out says so by an empty text among them. Texts
are compared without case, white space and punctuation (as there); numbers as numbers. Nothing is ever called.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.reward import Rewarded
from mnemos.rewards import fences
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks._rows import object_rows, place_of, shipped_data

INSTRUCTION = (
    "Write one call of the function that answers the request, as Python with every argument by its name, such as "
    'name(first=1, second="two"). Write the call alone.'
)
MOST_CHARS = 20_000
"""Characters of a call that is parsed: Python's parser takes memory that grows with nesting."""
_CALL = re.compile(r"[A-Za-z_][\w.]*\s*\(")
_LOOSE = re.compile(r"[ ,./\-_*^()'\"]+")


def task(settings: TaskSettings) -> Task:
    """Rows of either set, told apart by their columns."""
    path = shipped_data("bfcl/simple_python.jsonl.gz", settings.data)
    rows = [_row(one, place_of(path, line), line) for line, one in object_rows(path)]
    return Task("calls", tuple(rows), parse, verify, max_new_tokens=128)


def _row(one: Mapping[str, Any], where: str, line: int) -> Row:
    try:
        if "possible_answer" in one:
            question, tool = one["question"][0][-1]["content"], one["function"][0]
            name, allowed = next(iter(one["possible_answer"][0].items()))
            first = {
                key: next((v for v in values if v != ""), None) for key, values in allowed.items() if "" not in values
            }
            gold = f"{name}({', '.join(f'{key}={value!r}' for key, value in first.items())})"
        else:
            question, tool, gold = one["question"], dict(one["function"]), one["model_answer"]
            tool["name"] = tool.pop("api_call", tool["name"])
            called = parsed_call(gold)
            if called is None:
                raise ValueError(gold)
            name, arguments = called
            allowed = {key: [value] for key, value in arguments.items()}
    except (KeyError, IndexError, TypeError, ValueError, StopIteration):
        raise DataError(where, "has not the columns of BFCL or OpenFunctions", "see docs/stream.md") from None
    description = json.dumps(tool, ensure_ascii=False)
    text = f"Function: {description}\nRequest: {question}\nCall:"
    return Row(str(one.get("id", line)), text, str(question), gold, INSTRUCTION, {"name": name, "allowed": allowed})


def parse(text: str) -> str | None:
    """The first call that stands in the text, however much prose is around it."""
    text = text.rpartition("Final answer:")[2][:MOST_CHARS]
    fenced = fences.ranked(text, ("python", "py"))
    for part in (*fenced[:5], text):
        for found in list(_CALL.finditer(part))[:20]:
            whole = _balanced(part, found.start())
            if whole is not None and parsed_call(whole) is not None:
                return whole
    return None


def _balanced(text: str, start: int) -> str | None:
    """From `start` to the bracket that closes the first one, brackets within quotes left out."""
    depth, quote, at = 0, "", start
    while at < len(text):
        letter = text[at]
        if quote:
            at += letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth == 0:
                return text[start : at + 1]
        at += 1
    return None


def parsed_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """The function's dotted name and its arguments by name; None for what is no single call of plain values."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args or any(word.arg is None for word in tree.keywords):
            return None
        return ast.unparse(tree.func), {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def verify(rows: Sequence[Row], answers: Sequence[str]) -> list[Rewarded]:
    """1 where function and arguments are right; else 0, with the first fault."""
    return [_checked(row.check, answer) for row, answer in zip(rows, answers, strict=True)]


def _checked(wanted: Mapping[str, Any], answer: str) -> Rewarded:
    called = parsed_call(answer)
    if called is None:
        return Rewarded(0.0, note="no call")
    name, arguments = called
    if name != wanted["name"]:
        return Rewarded(0.0, note="another function")
    for key, values in wanted["allowed"].items():
        if key not in arguments:
            if "" not in values:
                return Rewarded(0.0, note=f"lacks the argument {key}")
        elif not any(same(arguments[key], value) for value in values):
            return Rewarded(0.0, note=f"another value of {key}")
    surplus = set(arguments) - set(wanted["allowed"])
    return Rewarded(0.0, note=f"has the argument {min(surplus)} too much") if surplus else Rewarded(1.0)


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values of arguments are equal. In dictionaries of possible values each key has a list of them."""
    if isinstance(theirs, str) and isinstance(ours, str):
        return _LOOSE.sub("", ours).lower() == _LOOSE.sub("", theirs).lower()
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return abs(ours - theirs) <= 1e-9 * max(1.0, abs(theirs))
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return set(ours) <= set(theirs) and all(
            any(same(ours[key], one) for one in options)
            if key in ours and isinstance(options, list)
            else (key in ours and same(ours[key], options)) or (isinstance(options, list) and "" in options)
            for key, options in theirs.items()
        )
    return type(ours) is type(theirs) and bool(ours == theirs)
