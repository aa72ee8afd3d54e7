"""Functions that a model may call: what is offered, what a call gives, and what is wrong with a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.rewards.call_syntax import Call
from mnemos.rewards.sandbox.functions import LONGEST_RESULT, LONGEST_STATE, MOST_CALLS
from mnemos.rewards.tool_functions import REASONS, carry_out, read_source, tools_in

SOURCE = '''
"""A shelf."""
import dataclasses
import os

def put(state, item: str, pieces: int = 1, *, heavy: bool = False) -> int:
    """Put pieces
    on the shelf."""
    state.setdefault(item, 0)
    state[item] += pieces
    if pieces < 0:
        raise ValueError(f"no {pieces} pieces")
    return state[item]

def share(state, parts: list[str], of: float, rest: dict[str, int]):
    return {"parts": parts, "of": of, "rest": rest}

def fail(state, how: str):
    if how == "json":
        return object()
    if how == "loop":
        while True:
            pass
    if how == "exit":
        os._exit(0)
    if how == "fill":
        state["x"] = "é" * 30_000
    if how == "file":
        return open("/etc/passwd").read()
    return "x" * 5_000

def _hidden(state): ...
def other(no_state: int): ...
'''


def one(name: str, **arguments: object) -> tuple[str, str | None, str]:
    """Text, fault and state of one call on {"lamp": 1}."""
    (done,) = carry_out(SOURCE, [('{"lamp": 1}', [Call(name, arguments)])])
    assert done.missing is None
    return done.results[0].text, done.results[0].fault, done.state


def test_what_is_offered_stands_in_the_file() -> None:
    put, share, fail = map(json.loads, tools_in(SOURCE))
    assert put["description"] == "Put pieces on the shelf."
    assert put["parameters"]["required"] == ["item"]
    assert {name: row["type"] for name, row in put["parameters"]["properties"].items()} == {
        "item": "string",
        "pieces": "integer",
        "heavy": "boolean",
    }
    assert [row["type"] for row in share["parameters"]["properties"].values()] == ["array", "number", "object"]
    assert fail["description"] == "fail"


def test_calls_change_the_state_one_after_another() -> None:
    calls = [Call("put", {"item": "lamp"}), Call("put", {"item": "lamp", "pieces": 2}), Call("put", {"item": "ä"})]
    (done, other) = carry_out(SOURCE, [('{"lamp": 1}', calls), ("{}", [Call("put", {"item": "lamp"})])])
    assert [result.text for result in done.results] == ["2", "4", "1"]
    assert json.loads(done.state) == {"lamp": 4, "ä": 1}
    assert json.loads(other.state) == {"lamp": 1}
    text, fault, _ = one("share", parts=("a", "b"), of=3, rest={"c": 1})
    assert (json.loads(text), fault) == ({"parts": ["a", "b"], "of": 3, "rest": {"c": 1}}, None)


@pytest.mark.parametrize(
    ("name", "arguments", "fault", "words"),
    [
        ("puts", {}, "no such function", "there is no function puts; there are put, share, fail"),
        ("_hidden", {}, "no such function", "_hidden"),
        ("put", {}, "wrong arguments", "put: it needs item"),
        ("put", {"item": "a", "state": {}}, "wrong arguments", "it takes no state"),
        ("put", {"item": "a", "pieces": "2"}, "wrong type", "pieces must be of type integer"),
        ("put", {"item": "a", "pieces": True}, "wrong type", "of type integer"),
        ("put", {"item": "a", "pieces": -1}, "raises", "ValueError: no -1 pieces"),
        ("fail", {"how": "json"}, "no result", "no JSON"),
        ("fail", {"how": "fill"}, "no result", f"over {LONGEST_STATE:,} bytes"),
        ("fail", {"how": "exit"}, "over a limit", "left early"),
        ("fail", {"how": "file"}, "raises", "FileNotFoundError"),
    ],
)
def test_a_bad_call_says_why_and_changes_nothing(name: str, arguments: dict[str, Any], fault: str, words: str) -> None:
    text, found, state = one(name, **arguments)
    assert found == fault
    assert found in REASONS
    assert words in text
    assert json.loads(state) == {"lamp": 1}, "what a function changed before it raised is undone"


@pytest.mark.slow
def test_a_function_that_does_not_end_is_stopped() -> None:
    assert one("fail", how="loop")[1] == "over a limit"


def test_long_results_are_cut_and_calls_at_once_are_bounded() -> None:
    assert len(one("fail", how="")[0]) == LONGEST_RESULT + 1
    (done,) = carry_out(SOURCE, [("{}", [Call("put", {"item": "a"})] * (MOST_CALLS + 2))])
    assert [result.fault for result in done.results] == [None] * MOST_CALLS + ["too many calls"] * 2
    (done,) = carry_out(SOURCE, [("{}", [Call("", {}, "a call that cannot be read")])])
    assert done.results[0].fault == "cannot be read"
    # As much as may come of one turn passes.
    (done,) = carry_out(
        'def f(state): return "\\U0001F600" * 5000',
        [(json.dumps({"x": "é" * 3_900}), [Call("f", {})] * MOST_CALLS)],
    )
    assert {result.fault for result in done.results} == {None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(state", "is no Python"),
        ("def f(a: int): ...", "offers no function with state"),
        ("def f(state, a): ...", "f\\(a\\).*write one of str, int"),
        ("def f(state, a: set): ...", "not annotated with a type that JSON has"),
        ("def f(state, *a: int): ...", "no names"),
        ("", "offers no function"),
    ],
)
def test_files_that_offer_nothing_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "f.py").write_text(text)
    with pytest.raises(DataError, match=f"(?s){words}"):
        read_source(tmp_path / "f.py")


def test_a_file_that_fails_when_it_is_run_is_refused() -> None:
    with pytest.raises(DataError, match=r"(?s)cannot be run: ModuleNotFoundError.*mend"):
        carry_out("import mnemos\ndef f(state): return 1", [("{}", [Call("f", {})])])
