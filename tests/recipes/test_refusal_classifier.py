"""Training the classifier of refusals from labelled rows, and what is printed about models that it has not read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.refusals import page_table
from mnemos.core.errors import DataError
from mnemos.recipes.refusal_classifier import Rates, held_out, main, read_labelled
from mnemos.rewards.refusal.classifier import load_classifier


def rows(path: Path) -> Path:
    text = []
    for model, declines, answers in (
        ("one", "I cannot help with", "Here is how to"),
        ("two", "Sorry, I won't discuss", "Take"),
    ):
        for i in range(12):
            text.append({"text": f"{declines} matter {i}.", "label": "refusal", "who": model})
            text.append({"text": f"{answers} thing {i}.", "label": "help", "who": model})
    path.write_text("\n".join(map(json.dumps, text)), encoding="utf-8")
    return path


def test_the_command_trains_and_says_what_it_does_on_models_it_has_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = rows(tmp_path / "rows.jsonl"), tmp_path / "c.json"
    asked = ["--data", f"{data}", "--out", f"{out}", "--answer", "text", "--label", "label", "--model", "who"]
    assert main([*asked, "--refused", "refusal"]) == 0
    printed = capsys.readouterr().out
    assert "held out, one: precision 100.0, recall 100.0, accuracy 100.0 of 24" in printed
    assert "held out, two: precision 100.0, recall 100.0, accuracy 100.0 of 24" in printed
    made = load_classifier(str(out))
    assert (made.rows, made.models) == (48, ("one", "two"))
    assert made.probability("I cannot help with this one.") > 0.5 > made.probability("Take this one.")
    assert main(asked) == 1, "labels that are no booleans need --refused"
    assert "rows.jsonl:1" in capsys.readouterr().err


def test_rows_without_an_answer_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"answer": "a", "refused": true}\n{"refused": true}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        read_labelled(file)


def test_rates_by_hand() -> None:
    found = Rates(hits=8, false_alarms=2, missed=4, right_answers=6)
    assert (found.recall, found.precision, found.accuracy) == (8 / 12, 8 / 10, 14 / 20)
    assert held_out([]) == {}


def test_the_table_of_the_page() -> None:
    numbers = {"precision": 0.987, "recall": 0.5, "accuracy": 0.9}
    readers = dict.fromkeys(("phrases", "wording", "without_own_cues", "classifier_of_the_others"), numbers)
    row = {
        "model": "m",
        "refused": 7,
        "agreement": 0.98,
        "unclear": 0.25,
        "found": {"2_full_refusal": 1.0, "3_partial_refusal": None},
        **readers,
    }
    last = page_table({"details": {"models": [row]}}).splitlines()[-1]
    assert last == "| m | 7 | 98.0 | 100.0 / none | 25.0 | " + " | ".join(["98.7, 50.0"] * 4) + " |"
