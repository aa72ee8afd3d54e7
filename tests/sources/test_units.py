"""Units as text: runs, spellings that no user text has, and the rows that are made of a clip."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.sources import units
from mnemos.sources.bad_row import RowError
from mnemos.sources.read import read


@given(st.lists(st.integers(0, 3)))
def test_runs_are_those_of_itertools_and_come_back(found: list[int]) -> None:
    merged, counts = units.runs(found)
    assert merged == [unit for unit, _ in groupby(found)]
    assert counts == [len(list(run)) for _, run in groupby(found)]
    assert units.repeated(merged, counts) == found


@given(st.lists(st.integers(0, 99_999)), st.text())
def test_units_are_read_back_out_of_text(found: list[int], other: str) -> None:
    assert units.units_of(units.text_of(found)) == found
    assert units.units_of(other.replace("<|unit_", "")) == []


def test_a_row_of_each_form() -> None:
    how = {"form": "transcribe", "prompt": units.checked_prompt(None, "transcribe")}
    row = units.row([3, 3, 3, 1, 3], "seven", **how, with_counts=True, beside={"speaker": "jackson", "label": 7})
    assert row == {
        "speaker": "jackson",
        "prompt": "Write down what is spoken. This is input: <|unit_3|><|unit_1|><|unit_3|>\n",
        "completion": "seven",
        "counts": [3, 1, 1],
    }
    chat = units.row([1, 2], "seven", form="speak", prompt="{input}!", chat=True)
    assert chat["messages"][0] == {"role": "user", "content": "seven!"}
    assert chat["messages"][1] == {"role": "assistant", "content": "<|unit_1|><|unit_2|>"}
    assert units.row([1, 1], "", form="continue", prompt="") == {"text": "<|unit_1|>"}


def test_every_form_is_read_as_training_reads_it(tmp_path: Path) -> None:
    for form, kind in (("transcribe", "completion"), ("speak", "completion"), ("continue", "text")):
        file = tmp_path / f"{form}.jsonl"
        row = units.row([5, 6], "two words", form=form, prompt=units.checked_prompt(None, form), with_counts=True)
        file.write_text(json.dumps({"id": "a", **row}) + "\n")
        (example,) = read(str(file))
        assert (example.kind, example.id) == (kind, "a")
        assert units.units_of("".join(turn.text for turn in example.turns)) == [5, 6]
        assert example.meta == {"counts": [1, 1]}


def test_text_that_spells_a_unit_is_refused_by_name_and_other_brackets_are_text() -> None:
    how = {"form": "transcribe", "prompt": units.checked_prompt(None, "transcribe")}
    with pytest.raises(RowError, match=r"'<\|unit_12\|>': would be read as sound") as caught:
        units.row([1], "he wrote <|unit_12|> there", **how)
    assert caught.value.reason == "text that spells a unit"
    for text in ("<12>", "<sosp> <|unit_x|> <|UNIT_12|> <unit_12>", "a < 12 > b"):
        assert units.row([1], text, **how)["completion"] == text


def test_what_cannot_be_asked_is_refused() -> None:
    for prompt, form, why in (
        ("no place", "transcribe", "once"),
        ("{input} {input}", "speak", "once"),
        ("{input}", "continue", "asks nothing"),
        ("<|unit_0|> {input}", "transcribe", "spells a unit"),
        (None, "sing", "must be one of transcribe, speak, continue"),
    ):
        with pytest.raises(UsageError, match=why):
            units.checked_prompt(prompt, form)
    with pytest.raises(RowError, match="is empty or not there") as caught:
        units.row([1], " ", form="transcribe", prompt="{input}")
    assert caught.value.reason == "no transcript"
