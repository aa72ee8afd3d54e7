"""Goals that are reached by calling real functions: the dialogue, pass rate, bad calls, win rate."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Generation, Prompt, Turn, thawed
from mnemos.measure.ask import load_measured, measure, save_measured, score
from mnemos.measure.compare import comparisons
from mnemos.measure.suite import Suite, load_suites
from mnemos.recipes import shop_tasks
from tests.measure.fakes import FakeModel

FILE = """
def add(state, item: str, pieces: int) -> int:
    "Put pieces on the shelf."
    if pieces < 1:
        raise ValueError("too few")
    state[item] = state.get(item, 0) + pieces
    return state[item]

def count(state, item: str) -> int:
    "How many are there."
    return state.get(item, 0)
"""
ROW = {
    "id": "a",
    "prompt": "Add two lamps. How many are there?",
    "state": {"lamp": 3},
    "end_state": {"lamp": 5},
    "answer": "5",
}

Say = Callable[[Prompt], str]


class Caller(FakeModel):
    """Writes what `say` makes of the whole prompt. tools: whether its template takes tools."""

    def __init__(self, say: Say, tools: bool = False) -> None:
        super().__init__()
        self.say, self.tools = say, tools
        self.prompts: list[Prompt] = []

    def takes_tools(self, prompt: Prompt) -> bool:
        return self.tools

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self.prompts += prompts
        return [Generation(text, tuple(range(len(text.split()))), True) for text in map(self.say, prompts)]


def script(*turns: str) -> Say:
    """The turns, one after another, by how often the model was asked before."""
    return lambda prompt: turns[min(sum(turn.role == "assistant" for turn in prompt.turns), len(turns) - 1)]


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[..., tuple[Suite, ...]]:
    (tmp_path / "shelf.py").write_text(FILE)

    def made(*rows: dict[str, Any], wins: dict[str, Any] | None = None, **settings: Any) -> tuple[Suite, ...]:
        spec: dict[str, Any] = {
            "name": "s",
            "kind": "tool_steps",
            "functions": "shelf.py",
            "match": "number",
            "chat": True,
        }
        specs = [{**spec, "items": list(rows or [ROW]), **settings}]
        return load_suites(
            specs + ([] if wins is None else [{"name": "w", "kind": "tool_wins", "of": "s", **wins}]), tmp_path
        )

    return made


def test_a_goal_is_reached_by_calls_and_an_answer(shelf: Any) -> None:
    model = Caller(script("add(item='lamp', pieces=2)", "count(item='lamp')", "There are 5."))
    found = measure(model, shelf())["s"]
    assert (found.scores[0].value, found.scores[0].note) == (1.0, "passed; 2 calls")
    assert found.answers[0].text == "There are 5."
    assert found.answers[0].data["steps"]["state"] == {"lamp": 5}
    last = model.prompts[-1]
    assert [turn.role for turn in last.turns] == ["user", "assistant", "user", "assistant", "user"]
    assert '"name": "add"' in last.turns[0].text
    assert last.turns[2].text.startswith("Results, in the order of the calls:\n5\n")


def test_a_template_that_takes_tools_is_given_calls_and_results_as_messages(shelf: Any) -> None:
    calls = [{"name": "add", "arguments": {"item": "lamp", "pieces": 2}}, {"name": "count", "arguments": {"item": "x"}}]
    tagged = "".join(f"<tool_call>{json.dumps(one)}</tool_call>" for one in calls)
    model = Caller(script(f"I will add. {tagged}", "5"), tools=True)
    assert measure(model, shelf())["s"].scores[0].value == 1
    prompt = model.prompts[-1]
    assert "tools" in thawed(prompt.variables)
    asked, own, *results = prompt.turns
    assert asked.text == ROW["prompt"]
    made = thawed(own.fields)["tool_calls"]
    assert [one["function"] for one in made] == calls
    assert [(turn.role, turn.text, thawed(turn.fields)["tool_call_id"]) for turn in results] == [
        ("tool", "5", made[0]["id"]),
        ("tool", "0", made[1]["id"]),
    ]


@pytest.mark.parametrize(
    ("turns", "note"),
    [
        (["There are 5."], "another state is left; 0 calls"),
        (["add(item='lamp', pieces=2)", "There are 6."], "another answer; 1 calls"),
        (["add(item='lamp', pieces=2)", "add(item='lamp', pieces=1)", "5"], "another state is left; 2 calls"),
        (["count(item='lamp')"], "too many calls; 4 calls"),
        (
            ["put(item='x')", "add(item='lamp')", "add(item='lamp', pieces=0)", "add(item='lamp', pieces=2)", "5"],
            "passed; 4 calls; bad calls: no such function 1, wrong arguments 1, raises 1",
        ),
        (
            [
                '{"name": "\\ud800", "arguments": {"\\udfff": "\\ud800"}}',
                "add(item=1e999, pieces=1)",
                "5",
            ],
            "another state is left; 2 calls; bad calls: no such function 1, wrong type 1",
        ),
        (["<tool_call>oops</tool_call>", "5"], "another state is left; 1 calls; bad calls: cannot be read 1"),
    ],
)
def test_why_a_goal_is_not_reached_and_which_calls_were_bad(shelf: Any, turns: list[str], note: str) -> None:
    for tools in (False, True):
        model = Caller(script(*turns), tools)
        measured = measure(model, shelf(max_calls=4))["s"]
        found = measured.scores[0]
        assert found.note == note
        assert found.value == float(note.startswith("passed"))
        # Whatever a model writes can be shown to a tokenizer, and kept.
        for prompt in model.prompts:
            json.dumps([turn.message() for turn in prompt.turns], ensure_ascii=False).encode()
        json.dumps(measured.answers[0].data, ensure_ascii=False, allow_nan=False).encode()


def test_a_goal_may_be_a_state_alone_or_an_answer_alone(shelf: Any) -> None:
    rows = [{**ROW, "id": "state", "answer": None}, {**ROW, "id": "answer", "end_state": None}]
    found = measure(Caller(script("add(item='lamp', pieces=2)", "Done.")), shelf(*rows))["s"].scores
    assert [one.value for one in found] == [1, 0]
    found = measure(Caller(script("5")), shelf(*rows))["s"].scores
    assert [one.value for one in found] == [0, 1]


def test_dialogues_go_on_together_and_a_prompt_too_long_is_missing(shelf: Any) -> None:
    rows = [{**ROW, "id": name, "prompt": name} for name in ("one", "two", "none", "later")]

    class Short(Caller):
        def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
            made = super().generate(prompts, decoding)
            first = [prompt.turns[0].text.rpartition("\n")[2] for prompt in prompts]
            full = [
                name == "none" or (name == "later" and len(p.turns) > 1) for name, p in zip(first, prompts, strict=True)
            ]
            return [Generation("", (), False) if lost else one for one, lost in zip(made, full, strict=True)]

    model = Short(script("add(item='lamp', pieces=2)", "5"))
    found = measure(model, shelf(*rows))["s"].scores
    assert [one.value for one in found[:2]] == [1, 1]
    assert math.isnan(found[2].value)
    assert found[2].reason == "prompt longer than the context"
    # A model that fills its context by calling was asked, and did not get there.
    assert (found[3].value, found[3].note) == (0.0, "the dialogue is longer than the context; 1 calls")
    assert len(model.prompts) == 4 + 3


def test_bad_calls_are_counted_beside_the_verdict(shelf: Any) -> None:
    suites = shelf(*[{**ROW, "id": str(n)} for n in range(12)])
    before = measure(Caller(script("put(item='x')", "5")), suites)["s"].scores
    after = measure(Caller(script("add(item='lamp', pieces=2)", "5")), suites)["s"].scores
    (row,) = comparisons(suites, {"s": before}, {0: {"s": after}}, arm="plain", roles={"s": "old"})
    assert row.delta == 1.0
    assert "bad calls: no such function 12 before, 0 after" in " ".join(row.notices)


def test_win_rate_is_paired_by_item_and_counts_calls_where_both_pass(shelf: Any, tmp_path: Path) -> None:
    rows = [{**ROW, "id": str(n), "prompt": f"{n}"} for n in range(4)]
    suites = shelf(*rows, wins={})
    good, slow, bad = "add(item='lamp', pieces=2)", "count(item='lamp')", "No."

    def of(*ways: tuple[str, ...]) -> Caller:
        return Caller(lambda prompt: script(*ways[int(prompt.turns[0].text.rpartition("\n")[2])])(prompt))

    first = of((good, "5"), (good, "5"), (bad,), (slow, good, "5"))
    second = of((good, "5"), (bad,), (slow, bad), (good, "5"))
    before = measure(first, suites)
    assert [one.value for one in before["w"].scores] == [0.5] * 4
    kept = {name: found.answers for name, found in before.items()}
    found = measure(second, suites, before=first, before_answers=kept)["w"]
    assert [one.value for one in found.scores] == [0.5, 0.0, 0.5, 1.0]
    assert found.scores[3].note == "passed with 1 calls against passed with 2 calls"
    # Of two that fail neither wins, however few calls that took.
    assert found.scores[2].note == "failed with 1 calls against failed with 0 calls"
    # The same against the answers of another arm, in a file, and from what was kept.
    save_measured(tmp_path / "kept", before)
    assert score(suites[1], load_measured(tmp_path / "kept")["w"].answers) == before["w"].scores
    anchored = shelf(*rows, wins={"against": str(tmp_path / "kept/s.jsonl")})
    assert [one.value for one in measure(second, anchored)["w"].scores] == [0.5, 0.0, 0.5, 1.0]
    assert anchored[1].fingerprint != suites[1].fingerprint


def test_what_decides_the_score_is_in_the_suites_name(shelf: Any, tmp_path: Path) -> None:
    made = [
        shelf(),
        shelf({**ROW, "state": {}}),
        shelf({**ROW, "end_state": {}}),
        shelf(max_calls=3),
        shelf(match="exact"),
    ]
    prints = {one[0].fingerprint for one in made}
    (tmp_path / "shelf.py").write_text(FILE.replace("too few", "fewer"))
    assert len(prints | {shelf()[0].fingerprint}) == 6


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"state": None}, {}, "has no state"),
        ({"state": [1]}, {}, "has no state"),
        ({"end_state": [1]}, {}, "end_state beside it, that is a JSON object"),
        ({"end_state": None, "answer": None}, {}, "names no goal"),
        ({"answer": "none"}, {}, "holds no number"),
        ({"tools": [{"name": "f"}]}, {}, "tools.*stand in the row"),
        ({"state": {"x": "y" * 30_000}}, {}, "over 24,000 bytes"),
        ({}, {"functions": "none.py"}, "none.py.*cannot be read"),
        ({}, {"wins": {"of": None, "items": []}}, "of: names the suite"),
    ],
)
def test_what_cannot_be_asked_is_refused(shelf: Any, changes: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises((DataError, UsageError), match=f"(?s){words}"):
        shelf({**ROW, **changes}, **settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is not a file"),
        ('{"item": "a", "text": "x", "data": {}}\n', "a.jsonl:1.*no answer to a suite of kind tool_steps"),
    ],
)
def test_an_anchor_that_is_none_is_refused(shelf: Any, tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises((DataError, UsageError), match=f"(?s){words}"):
        shelf(wins={"against": "a.jsonl"})


def test_wins_are_of_a_suite_of_steps(tmp_path: Path) -> None:
    specs: list[dict[str, Any]] = [
        {"name": "g", "kind": "generated", "items": [{"prompt": "a", "answer": "b", "state": {}}]},
        {"name": "w", "kind": "tool_wins", "of": "g"},
    ]
    with pytest.raises(UsageError, match="no suite of kind tool_steps"):
        load_suites(specs, tmp_path)


def test_the_shop_is_passed_by_the_right_calls_alone(tmp_path: Path) -> None:
    (made,) = load_suites(["shop"], tmp_path)
    tasks = {row["id"]: (row, calls) for row, calls in shop_tasks.tasks()}
    # What ships is what is made.
    assert [item.id for item in made.items] == list(tasks)
    for item in made.items:
        row, _ = tasks[item.id]
        assert item.goal is not None
        assert (json.loads(item.goal.state), json.loads(item.goal.end_state or "")) == (row["state"], row["end_state"])
        assert item.answers == (row["answer"],)
    # Two shops may be asked the same question: here each is asked by its name. Four of each kind are led through.
    some = made.items[:24]
    items = [dataclasses.replace(i, prompt=Prompt((Turn("user", i.id),), i.prompt.variables)) for i in some if i.prompt]
    made = dataclasses.replace(made, items=tuple(items))

    def right(prompt: Prompt) -> str:
        row, calls = tasks[prompt.turns[0].text.rpartition("The request:\n")[2]]
        at = sum(turn.role == "assistant" for turn in prompt.turns)
        if at == len(calls):
            return f"So it is {row['answer']}."
        name, arguments = calls[at]
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

    found = measure(Caller(right), [made])["shop"].scores
    assert {one.value for one in found} == {1.0}
    lazy = measure(Caller(lambda prompt: tasks[prompt.turns[0].text.rpartition("\n")[2]][0]["answer"]), [made])
    passed = {item.category for item, one in zip(made.items, lazy["shop"].scores, strict=True) if one.value == 1}
    assert passed == {"richest"}, "whoever guesses the answer passes only where nothing is to be changed"
