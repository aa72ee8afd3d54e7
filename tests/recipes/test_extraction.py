"""Lives by form, what is asked and what was taught, and the walk over arms and seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core.files import read_json, read_jsonl
from mnemos.recipes import extraction
from mnemos.recipes.extraction import FORMS, lines, lives, run
from mnemos.recipes.reproductions.invented_people import world
from mnemos.recipes.worlds.people import ATTRIBUTES


def test_lives_differ_by_form_alone() -> None:
    people = world(6, 5, seed=3)
    texts_of = {name: [row["text"] for row in lives(people, form, 3, 8)] for name, form in FORMS.items()}
    own = {name: texts[:: len(people)] for name, texts in texts_of.items()}
    counts = {name: len(set(texts)) for name, texts in own.items()}
    assert (counts["once"], counts["many"], counts["full"]) == (1, 8, 8)
    assert counts["permuted"] > 4, "of 24 orders"
    assert all(text.count(people[0].name) == 4 for text in own["full"])
    assert all(text.count(people[0].name) == 1 for name in ("once", "permuted", "many") for text in own[name])
    for texts in texts_of.values():
        for place, text in enumerate(texts):
            assert all(value.lower() in text.lower() for value in people[place % 6].facts.values())


def test_a_walk_teaches_half_asks_the_other_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PEOPLE", 24), ("READINGS", 2), ("SHOWN", 2), ("ROUNDS", 1), ("VOCABULARY", 400)):
        monkeypatch.setattr(extraction, name, value)
    monkeypatch.setattr(extraction, "SHAPE", {**extraction.SHAPE, "hidden_size": 16, "num_hidden_layers": 1})
    record = run(tmp_path, arms=("once", "full"), seeds=(0, 1))
    rows = {path.stem: read_jsonl(path) for path in (tmp_path / "data").glob("*.jsonl")}
    taught = {row["person"] for row in rows["questions"]}
    unseen = [row for name in ATTRIBUTES for row in rows[f"unseen-{name}"]]
    assert len(taught) == 12
    assert not taught & {row["person"] for row in unseen}
    assert len(unseen) == 12 * len(ATTRIBUTES)
    assert len({len(rows[name]) for name in FORMS}) == 1, "as many lives in every form"
    assert {row["text"] for row in rows["full"]} <= {row["text"] for row in rows["mixed"]}
    asked = [row["text"] for row in rows["mixed"] if "?" in row["text"]]
    assert asked
    assert not any(row["person"] in text for row in unseen for text in asked)
    for row, whole in zip(rows["first-subject"], rows["unseen-subject"], strict=True):
        assert whole["answer"].startswith(row["answer"])
    assert [(one["arm"], one["than"]) for one in record["orderings"]] == [("full", "once"), ("full", "once")]
    each = [f"{what}:{name}" for what in ("unseen", "first", "stored") for name in ATTRIBUTES]
    assert set(record["arms"]["full"]) == {"seen", "unseen", "first", "stored", *each}
    monkeypatch.setattr(extraction, "train_one", lambda *_: pytest.fail("trained again"))
    assert run(tmp_path, arms=("once", "full"), seeds=(0, 1)) == record == read_json(tmp_path / "extraction.json")
    assert lines(record)[2].startswith("| once | ")
    alone = run(tmp_path, arms=("once", "full"), seeds=(0,))["orderings"]
    assert {one["verdict"] for one in alone} == {"CANNOT TELL"}, "one seed proves nothing"
