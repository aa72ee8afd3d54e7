"""The built-in suites of general abilities: made by rule, answerable, and no answer right by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core.files import read_jsonl
from mnemos.measure.ask import file_name
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import BUILT_IN, load_suites
from mnemos.recipes import abilities
from mnemos.rewards import checks, verifiers


def test_committed_items_follow_from_the_module() -> None:
    for name, items in abilities.suites().items():
        assert read_jsonl(BUILT_IN / file_name(name)) == items, name


@pytest.mark.parametrize("name", [*abilities.suites(), "code"])
def test_each_is_a_chat_suite_of_enough_items(name: str) -> None:
    (suite,) = load_suites([name], Path())
    assert suite.name == name
    assert suite.uses_chat
    assert len(suite.items) >= 40
    assert suite.decoding is not None
    assert suite.decoding.max_new_tokens <= 128


def test_sums_are_right() -> None:
    for item in abilities.sums():
        left, sign, right = item["id"].split()
        a, b = int(left), int(right)
        assert int(item["answer"]) == {"+": a + b, "-": a - b, "*": a * b}[sign]
        assert int(item["answer"]) > 0


GOOD = (
    "WATER IS WET.",
    "Clear cool liquid",
    "apple, pear, plum",
    "Apple.",
    "Today the water is cold.",
    "- It is wet.\n- It is clear.",
    "[apple]",
    "apple END",
)
"""Answers that do what each of the instructions about the first topic asks."""

BAD = (
    "Water is wet.",
    "It is a clear liquid",
    "apple, pear",
    "The word is apple.",
    "Water today.",
    "It is wet.",
    "apple",
    "apple",
)


def test_instructions_are_met_by_what_they_ask_and_by_nothing_else() -> None:
    first = abilities.instructions()[:8]
    for item, good, bad in zip(first, GOOD, BAD, strict=True):
        assert verifiers.score("regex", good, item["answer"]).value == 1.0, item
        assert verifiers.score("regex", bad, item["answer"]).value == 0.0, item
        assert verifiers.score("regex", "", item["answer"]).value == 0.0, item


def test_a_fact_is_found_in_a_sentence_and_not_in_another_word() -> None:
    patterns = {item["prompt"]: item["answer"] for item in abilities.world_facts()}
    assert len(patterns) == len(abilities.world_facts())
    hydrogen = patterns["What is the chemical symbol of hydrogen?"]
    assert verifiers.score("regex", "The symbol is H.", hydrogen).value == 1.0
    assert verifiers.score("regex", "He", hydrogen).value == 0.0
    assert verifiers.score("regex", "the capital is PARIS", patterns["What is the capital of France?"]).value == 1.0
    assert verifiers.score("regex", "60", patterns["Give the number of legs of an insect."]).value == 0.0


def test_known_solutions_pass_the_tests_of_code_and_empty_answers_do_not() -> None:
    (suite,) = load_suites(["code"], Path())
    assert KINDS["generated"].tried(suite.settings, suite.items) == []
    solutions, tests = [item.solution or "" for item in suite.items], [item.answers[0] for item in suite.items]
    assert [one.value for one in checks.scores("code", solutions, tests)] == [1.0] * len(tests)
    # Each function is asked for by the name that its tests call.
    assert all(f"function {item.id}(" in item.prompt.turns[-1].text for item in suite.items if item.prompt)
