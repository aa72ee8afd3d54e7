"""Calls are read from every spelling that models use, nothing is run, and words are no calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.rewards.call_syntax import Call, calls_in

TYPES = {
    "weather.get": {"city": "string", "days": "integer", "units": "array", "exact": "boolean"},
    "area": {"base": "float", "height": "float", "box": "dict"},
}
RAIN = Call("weather.get", {"city": "Ulm", "days": 3})
AREA = Call("area", {"base": -1.5, "height": 2})


def python(calls: list[Call]) -> str:
    return ", ".join(f"{c.name}({', '.join(f'{k}={v!r}' for k, v in c.arguments.items())})" for c in calls)


def objects(calls: list[Call], key: str = "arguments") -> list[dict[str, Any]]:
    return [{"name": c.name, key: c.arguments} for c in calls]


def spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def qwen_coder(call: Call) -> str:
    inner = "".join(f"<parameter={k}>\n{spelt(v)}\n</parameter>\n" for k, v in call.arguments.items())
    return f"<tool_call>\n<function={call.name}>\n{inner}</function>\n</tool_call>"


def glm(call: Call) -> str:
    pairs = "".join(f"\n<arg_key>{k}</arg_key>\n<arg_value>{spelt(v)}</arg_value>" for k, v in call.arguments.items())
    return f"<tool_call>{call.name}{pairs}\n</tool_call>"


def tagged(calls: list[Call], before: str, after: str) -> str:
    return "\n".join(f"{before}{json.dumps(one)}{after}" for one in objects(calls))


SPELLINGS: dict[str, Callable[[list[Call]], str]] = {
    "python": python,
    "python list": lambda calls: f"[{python(calls)}]",
    "python lines": lambda calls: "\n".join(python([one]) for one in calls),
    "python fence": lambda calls: f"Here it is:\n```python\n{python(calls)}\n```\nDone.",
    "tool_code fence": lambda calls: f"```tool_code\n[{python(calls)}]\n```",
    "json list": lambda calls: json.dumps(objects(calls), indent=1),
    "json lines": lambda calls: "\n".join(json.dumps(one) for one in objects(calls)),
    "json, semicolons": lambda calls: "; ".join(json.dumps(one) for one in objects(calls, "parameters")),
    "json fence": lambda calls: f"Sure.\n```json\n{json.dumps(objects(calls))}\n```",
    "json of the leaderboard": lambda calls: json.dumps([{c.name: c.arguments} for c in calls]),
    "tool_calls of OpenAI": lambda calls: json.dumps(
        {
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                for c in calls
            ]
        }
    ),
    "hermes": lambda calls: tagged(calls, "<tool_call>\n", "\n</tool_call>"),
    "hermes, words before": lambda calls: "I will look.\n" + tagged(calls, "<tool_call>", "</tool_call>"),
    "hermes, unclosed": lambda calls: tagged(calls, "<tool_call>\n", ""),
    "hermes after thoughts": lambda calls: "<think>f(x=1)</think>" + tagged(calls, "<tool_call>", "</tool_call>"),
    "llama": lambda calls: "".join(f"<function={c.name}>{json.dumps(c.arguments)}</function>" for c in calls),
    "llama, python tag": lambda calls: "<|python_tag|>" + "; ".join(map(json.dumps, objects(calls, "parameters"))),
    "mistral": lambda calls: f"[TOOL_CALLS]{json.dumps(objects(calls))}",
    "mistral, named": lambda calls: "".join(f"[TOOL_CALLS]{c.name}[ARGS]{json.dumps(c.arguments)}" for c in calls),
    "phi": lambda calls: f"<|tool_call|>{json.dumps(objects(calls))}<|/tool_call|>",
    "functools": lambda calls: f" functools{json.dumps(objects(calls))}",
    "nemotron": lambda calls: f"<TOOLCALL>{json.dumps(objects(calls))}</TOOLCALL>",
    "qwen coder": lambda calls: "\n".join(map(qwen_coder, calls)),
    "glm": lambda calls: "\n".join(map(glm, calls)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("calls", [[RAIN], [RAIN, AREA, RAIN]], ids=["one", "three"])
def test_every_spelling_says_the_same(spelling: str, calls: list[Call]) -> None:
    assert calls_in(SPELLINGS[spelling](calls), TYPES) == calls


# Few letters, those that quoting, tags and fences are made of among them.
LETTERS = st.text("aé中😀 \n\"'\\<>/{}[](),=`#", max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | LETTERS | st.floats(-1e9, 1e9)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(LETTERS, st.lists(SCALARS, max_size=2), max_size=2)
WRITTEN = st.builds(
    Call,
    st.sampled_from(list(TYPES)),
    st.dictionaries(st.sampled_from(["city", "days", "units", "exact", "x"]), VALUES, max_size=3),
)


@given(st.lists(WRITTEN, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_any_values_come_back(calls: list[Call]) -> None:
    for name in ("python list", "python lines", "json list", "json lines", "tool_calls of OpenAI"):
        assert calls_in(SPELLINGS[name](calls), TYPES) == calls, name


TAGS = ["<tool_call>", "</tool_call>", "<function=f>", "<parameter=a>", "[TOOL_CALLS]", "```", "```python\n"]
SIGNS = [*"()[]{}\"'=,:-é\n", "f(", "a=1", "lambda", "**", "9" * 50, '{"name": "f", "arguments": ']


@given(st.lists(st.sampled_from(TAGS + SIGNS), max_size=25).map("".join))
@settings(max_examples=150, deadline=None)
def test_nothing_that_a_model_writes_raises(text: str) -> None:
    assert all(isinstance(one, Call) for one in calls_in(text, TYPES))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that with these functions.",
        "You could call `weather.get(city='Ulm')` if you had a key.",
        "Use area(base=1, height=2). It gives the area.",
        "42",
        "[]",
        '{"city": "Ulm", "name": "Ann"}',
        "Like so:\n```python\nprint(6 * 7)\n```",
        "```python\nfor x in range(3):\n    area(base=x, height=1)\n```",
        "x = area(base=1, height=2)",
        "<think>area(base=1, height=2)</think>No.",
    ],
)
def test_words_are_no_calls(text: str) -> None:
    assert calls_in(text, TYPES) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("f(a=3 * 60)", 180),
        ("f(a=10 ** 6)", 10**6),
        ("f(a=-2.5)", -2.5),
        ("f(a=(1, 2))", (1, 2)),
        ("f(a={'k': [1]})", {"k": [1]}),
        ("f(a=metres)", "metres"),
        ("f(a=g())", "g()"),
        ("f(a=g(b=1))", {"g": {"b": 1}}),
        ("f(a=x[0])", "x[0]"),
        ("f(a=...)", "..."),
        ("f(a=true)", "true"),
        (r"f(a='\d')", r"\d"),
    ],
)
def test_values_are_read_and_never_run(text: str, value: Any) -> None:
    assert calls_in(text, {}) == [Call("f", {"a": value})]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("f(1, b=2)", "a positional argument"),
        ("f(**k)", "arguments that are unpacked"),
        ("f(a=lambda: 1)", "a value of a that is computed"),
        ("f(a=9 ** 9 ** 9)", "a value of a that is computed"),
        ("f(a=1 / 0)", "a value of a that is computed"),
        ("f(a={**k})", "a value of a that is computed"),
        ("f(a=f'{x}')", "a value of a that is computed"),
        ("f(a='x' * 10 ** 9)", "a value of a that is computed"),
        ('<tool_call>{"name": "f", "arguments": "none"}</tool_call>', "arguments that are no JSON object"),
        ('<tool_call>{"name": "f", "argum', "a call that cannot be read"),
    ],
)
def test_what_no_program_could_call_has_its_reason(text: str, fault: str) -> None:
    (call,) = calls_in(text, {})
    assert call.fault == fault


@pytest.mark.parametrize(
    "deep", ["(", "[", "{", "f(", "{1:", "-", "not ", "lambda:", "1+", "a.", "f(a=", "x if y else "]
)
@pytest.mark.parametrize("times", [30, 3000])
def test_nesting_is_bounded(deep: str, times: int) -> None:
    for text in (deep * times, f"f(a={deep * times}1)", f"<tool_call>{deep * times}</tool_call>"):
        assert all(isinstance(one, Call) for one in calls_in(text, TYPES))


def test_a_value_without_quotes_is_what_the_schema_says() -> None:
    text = '<function=area><parameter=base>1.5</parameter><parameter=box>{"a": 1}</parameter></function>'
    assert calls_in(text, TYPES) == [Call("area", {"base": 1.5, "box": {"a": 1}})]
    text = "<function=weather_get><parameter=city>\n12\n</parameter><parameter=exact>True</parameter></function>"
    assert calls_in(text, TYPES) == [Call("weather_get", {"city": "12", "exact": True})]
