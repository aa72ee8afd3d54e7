"""IFEval as a suite: all instructions of a prompt, with each of them in the note."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer, Score
from mnemos.measure.ask import measure, score
from mnemos.measure.ifeval import readings
from mnemos.measure.suite import Suite, load_suites
from tests.measure.fakes import FakeModel

ROW = {
    "id": "a",
    "prompt": "Two words, no comma.",
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{}, {"relation": "less than", "num_words": 3}],
}


def suite(row: dict[str, Any] | None = None, **settings: Any) -> Suite:
    (made,) = load_suites([{"name": "if", "kind": "ifeval", "chat": True, "items": [row or ROW], **settings}], Path())
    return made


def scored(made: Suite, text: str) -> Score:
    (one,) = score(made, [Answer(made.name, "a", text, True, 1, {})])
    return one


def test_an_item_is_right_where_every_instruction_is_followed() -> None:
    made = suite()
    assert scored(made, "two words").value == 1
    one = scored(made, "two, words")
    assert (one.value, one.note) == (0, "strict 1 of 2, loose 1 of 2; not followed: punctuation:no_comma")
    assert scored(made, "").note == (
        "strict 0 of 2, loose 0 of 2; not followed: punctuation:no_comma, length_constraints:number_words"
    )
    assert readings(made.items[0], "a b c") == {"strict": [True, False], "loose": [True, False]}


def test_the_loose_reading_forgives_a_first_line() -> None:
    text = "Sure, here it is:\ntwo words"
    assert scored(suite(), text).value == 0
    one = scored(suite(reading="loose"), text)
    assert (one.value, one.note) == (1, "strict 0 of 2, loose 2 of 2")
    assert suite().fingerprint != suite(reading="loose").fingerprint


def test_what_cannot_be_read_is_missing() -> None:
    one = scored(suite(), "a" * 200_001)
    assert math.isnan(one.value)
    assert "200,000" in (one.reason or "")


def test_the_model_is_asked_the_prompt_alone() -> None:
    model = FakeModel(answers=lambda text: "two words")
    assert measure(model, [suite()])["if"].scores[0].value == 1
    assert model.calls == ["Two words, no comma."]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instruction_id_list": None}, "names no instructions"),
        ({"instruction_id_list": None, "answer": "Paris"}, "write instruction_id_list"),
        ({"kwargs": [{}]}, "lists of one length"),
        ({"kwargs": None}, "lists of one length"),
        ({"instruction_id_list": ["punctuation:no_comma", "no:such"]}, "is not known"),
        ({"kwargs": [{}, {"num_words": 3}]}, "other arguments than it takes"),
    ],
)
def test_rows_that_cannot_be_checked_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        suite({**ROW, **changes})


def test_the_541_prompts_by_name(real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(real_data))
    (made,) = load_suites(["ifeval"], tmp_path)
    assert len(made.items) == 541
    asked = [json.loads(item.answers[0])[0] for item in made.items]
    # the paper's count of instructions, and all of its 25 kinds
    assert (sum(map(len, asked)), len({name for names in asked for name in names})) == (834, 25)
    silent = score(made, [Answer("ifeval", item.id, " ") for item in made.items])
    assert {one.value for one in silent} == {0.0}


def test_absent_prompts_say_where_they_would_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"ifeval/ifeval\.jsonl\.gz"):
        load_suites(["ifeval"], tmp_path)
    monkeypatch.delenv("MNEMOS_DATA")
    with pytest.raises(UsageError, match="environment variable that is not set"):
        load_suites(["ifeval"], tmp_path)
