"""Suites of calls: how tools are handed over, what counts, and the leaderboard's rows by name."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer, Decoding, Generation, Prompt, thawed
from mnemos.measure.ask import measure, score
from mnemos.measure.suite import Suite, load_suites
from mnemos.measure.tool_calls import offered
from mnemos.sources.render import Renderer
from tests.measure.fakes import FakeModel
from tests.tiny import TEMPLATE, tiny_tokenizer

AREA = {
    "name": "area",
    "description": "Area of a {triangle}.",
    "parameters": {
        "type": "dict",
        "properties": {
            "base": {"type": "float"},
            "type": {"type": "any"},
            "of": {"type": "array", "items": {"type": "dict"}},
        },
        "required": ["base"],
    },
}
ASKED = [[{"role": "user", "content": "Base 3?"}]]
RIGHT = [{"area": {"base": [3.0], "type": ["", "plain"]}}]


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "messages": ASKED, "tools": [AREA], "answer": RIGHT, **changes}


def suite(*rows: dict[str, Any], **settings: Any) -> Suite:
    (made,) = load_suites([{"name": "calls", "kind": "tool_calls", "items": list(rows or [row()]), **settings}], Path())
    return made


def scored(made: Suite, text: str) -> tuple[float, str | None]:
    (one,) = score(made, [Answer(made.name, made.items[0].id, text, True, 1, {})])
    return one.value, one.note


def test_right_calls_score_and_wrong_ones_say_why() -> None:
    made = suite()
    assert scored(made, "[area(base=3)]") == (1.0, None)
    assert scored(made, '<tool_call>{"name": "area", "arguments": {"base": 3.0}}</tool_call>') == (1.0, None)
    assert scored(made, "area(base=4)") == (0.0, "base = 4 is not allowed")
    assert scored(made, "It is 3.") == (0.0, "0 calls, where 1 are right")


def test_no_call_is_right_where_the_suite_or_the_item_says_so() -> None:
    for made in (suite(row(answer=[])), suite(row(answer=None), no_call=True)):
        assert scored(made, "None of these helps.") == (1.0, None)
        assert scored(made, "area(base=3)") == (0.0, "1 calls, where 0 are right")
        assert scored(made, "<tool_call>oops")[0] == 0


def test_one_of_several_answers_is_enough() -> None:
    made = suite(row(answer=None, answers=[RIGHT, []]))
    assert [scored(made, text)[0] for text in ("area(base=3)", "No.", "area(base=4)")] == [1, 1, 0]


def test_what_cannot_be_read_is_missing_and_not_zero() -> None:
    made = suite()
    (one,) = score(made, [Answer("calls", "a", "x" * 200_001, True, 1, {})])
    assert math.isnan(one.value)
    assert "200,000" in (one.reason or "")
    (one,) = score(made, [Answer("calls", "a", "<think>area(base=3)", True, 1, {})])
    assert math.isnan(one.value)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"tools": None}, {}, "offers no function"),
        ({"answer": None}, {}, "names no right calls"),
        ({"answer": [{"volume": {}}]}, {}, "not among the item's tools"),
        ({}, {"no_call": True}, "no_call: true"),
        ({"messages": [ASKED[0], ASKED[0]]}, {}, "messages"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(changes: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    with pytest.raises((DataError, UsageError), match=words):
        suite(row(**changes), **settings)


@dataclasses.dataclass
class Listening(FakeModel):
    """Keeps whole prompts. tools: whether its template takes tools."""

    tools: bool = True
    prompts: list[Prompt] = dataclasses.field(default_factory=list)

    def takes_tools(self, prompt: Prompt) -> bool:
        assert json.dumps(thawed(prompt.variables)).count('"object"') == 2
        return self.tools

    def generate(self, prompts: Any, decoding: Decoding) -> list[Generation]:
        self.prompts += prompts
        return super().generate(prompts, decoding)


def asked(model: FakeModel, made: Suite) -> Prompt:
    measure(model, [made])
    (prompt,) = model.prompts  # type: ignore[attr-defined]
    return prompt


def test_tools_go_through_a_template_that_takes_them_as_json_schema() -> None:
    prompt = asked(Listening(answers=lambda text: "area(base=3)"), suite())
    assert [turn.text for turn in prompt.turns] == ["Base 3?"]
    (tool,) = thawed(prompt.variables)["tools"]
    parameters = tool["function"]["parameters"]
    assert parameters["type"] == "object"
    # "type" is a parameter's name here, and a schema's word within it
    assert parameters["properties"]["type"] == {"type": "string"}
    assert parameters["properties"]["base"] == {"type": "number"}
    assert parameters["properties"]["of"]["items"] == {"type": "object"}


@pytest.mark.parametrize(("takes", "how"), [(False, "auto"), (True, "prompt")])
def test_else_they_stand_in_words_before_the_question(takes: bool, how: str) -> None:
    rows = row(messages=[{"role": "system", "content": "Be brief."}, *ASKED[0]])
    prompt = asked(Listening(answers=lambda text: "area(base=3)", tools=takes), suite(rows, tools_in=how))
    system, user = (turn.text for turn in prompt.turns)
    assert system == "Be brief."
    assert json.dumps(AREA) in user
    assert user.endswith("Base 3?")
    assert prompt.variables == ()


def test_a_real_template_is_asked_whether_it_takes_tools() -> None:
    tokenizer = tiny_tokenizer()
    prompt = Prompt(suite().items[0].prompt.turns, suite().items[0].prompt.variables)  # type: ignore[union-attr]
    assert not Renderer(tokenizer).takes_tools(prompt)
    tokenizer.chat_template = "{% if tools %}{{ tools | tojson }}{% endif %}" + TEMPLATE
    assert Renderer(tokenizer).takes_tools(prompt)


def test_a_suite_that_borrows_its_answers_asks_the_same_prompts() -> None:
    calls = suite()
    (kl,) = load_suites([{"name": "kl", "kind": "kl", "of": "calls"}], Path(), [calls])
    assert offered(None, kl.items[0]) == offered(None, calls.items[0])
    other = suite(row(), tools_in="prompt")
    assert other.fingerprint != calls.fingerprint


def concrete(value: Any) -> Any:
    """An argument from allowed values: of an object the first of each key."""
    if isinstance(value, dict):
        firsts = {
            key: [one for one in values if one != ""] for key, values in value.items() if isinstance(values, list)
        }
        return {key: values[0] for key, values in firsts.items() if values} if firsts else value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [concrete(one) for one in value]
    return value


def oracle(reference: str) -> list[dict[str, Any]]:
    out = []
    for call in json.loads(reference):
        [(name, allowed)] = call.items()
        firsts = {key: [one for one in values if one != ""] for key, values in allowed.items()}
        out.append({"name": name, "arguments": {key: concrete(one[0]) for key, one in firsts.items() if one}})
    return out


def test_the_leaderboards_rows_by_name(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    simple, irrelevance = load_suites(["bfcl-simple", "bfcl-irrelevance"], tmp_path)
    assert (len(simple.items), len(irrelevance.items)) == (400, 240)
    answers = [json.dumps(oracle(item.answers[0])) for item in simple.items]
    for texts, right in ((answers, 400), (["I cannot."] * 400, 0), (answers[1:] + answers[:1], 0)):
        found = score(simple, [Answer("bfcl-simple", i.id, t) for i, t in zip(simple.items, texts, strict=True)])
        # two neighbours in the data ask the same function for the same thing
        assert abs(sum(one.value for one in found) - right) <= 2
    words = [Answer("bfcl-irrelevance", item.id, "None of these functions helps.") for item in irrelevance.items]
    assert {one.value for one in score(irrelevance, words)} == {1.0}


@pytest.mark.parametrize("name", ["bfcl-simple", "bfcl-multiple", "bfcl-parallel", "bfcl-irrelevance"])
def test_a_benchmark_that_is_not_there_says_where_it_would_be(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"bfcl/\w+\.jsonl\.gz"):
        load_suites([name], tmp_path)
    monkeypatch.delenv("MNEMOS_DATA")
    with pytest.raises(UsageError, match="environment variable that is not set"):
        load_suites([name], tmp_path)
