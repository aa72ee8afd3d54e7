"""The walk over ways to ask an untuned model: what is asked, what is kept, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core.files import write_jsonl
from mnemos.core.nouns import Decoding, RuleDecoding
from mnemos.models.language import LocalModel
from mnemos.recipes import untuned, ways
from tests.tiny import tiny_model, tiny_tokenizer

ROWS = [
    {"id": f"row-{n}", "instruction": f"What is {n} plus three?", "answer": f"The answer is {n + 3}."} for n in range(3)
]


def test_every_way_asks_the_same_questions_in_its_own_words(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "items.jsonl", ROWS)
    found = {name: untuned.suites(way, tmp_path / "items.jsonl", 8)[0] for name, way in untuned.ways().items()}
    assert found["bare"].decoding == Decoding(8)
    assert found["rules"].decoding == RuleDecoding(8)
    assert found["rules without words"].decoding == RuleDecoding(8, words=False)
    assert found["examples"].decoding == Decoding(8, stop=("\n```",))
    shown = found["examples"].items[0].prompt
    assert shown is not None
    assert shown.turns[0].text.count("# Answer:\n```\n") == 4
    assert shown.turns[0].text.endswith("# Query:\n```\nWhat is 0 plus three?\n```\n\n# Answer:\n```\n")


def test_a_walk_goes_on_where_it_was_and_counts_ties_as_nothing_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "0123")
    cells = untuned.walk(model, tmp_path, ROWS, 6)
    monkeypatch.setattr(ways, "measure", lambda *_: pytest.fail("asked again"))
    again = untuned.walk(model, tmp_path, ROWS, 6)
    record = untuned.record_of(again)
    assert record == untuned.record_of(cells)
    assert list(record["ways"]) == list(untuned.ways())
    assert {one["verdict"] for one in record["orderings"]} <= {"HOLDS", "DOES NOT HOLD", "CANNOT TELL"}
    assert len(untuned.lines(record)) == 2 + 6 + 3 + 12
    monkeypatch.undo()
    other = LocalModel(model.model, tokenizer, "tiny", "4567")
    untuned.walk(other, tmp_path, ROWS, 6)
    assert len([one for one in tmp_path.iterdir() if one.is_dir()]) == 12, "another model's answers are not taken"
