"""Shift ciphers: the cipher itself, what a seed learns and is asked, what is said of it, and the question to a real
model."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.files import read_json, read_jsonl
from mnemos.recipes import ciphers
from mnemos.recipes.ciphers import (
    EXAMPLE,
    KINDS,
    SHIFTS,
    World,
    ask,
    asked_orderings,
    lines,
    run,
    shifted,
    summary,
    unlikely,
)
from tests.measure.fakes import FakeModel


def test_a_shift_is_turned_back_by_its_opposite_and_thirteen_is_that_of_python() -> None:
    text = "Well, it's NOT so: 42!"
    assert all(shifted(shifted(text, shift), 26 - shift) == text for shift in SHIFTS)
    assert shifted(text, 13) == codecs.encode(text, "rot13")
    assert shifted("xyz", 3) == "abc"


def test_rows_are_met_with_the_frequencies_that_are_said() -> None:
    world = World(0)
    rows = list(world.rows())
    assert rows == list(World(0).rows())
    assert World(1).shifts != world.shifts
    met = Counter(ciphers.LETTERS.upper().index(row.turns[0].text[0]) for row in rows)
    for shift in SHIFTS:
        share = world.frequency(shift)
        # Within five standard errors of a share of so many rows.
        assert abs(met[shift] / len(rows) - share) < 5 * (share / len(rows)) ** 0.5
    assert sum(map(world.frequency, SHIFTS)) == pytest.approx(1)
    words = {row.turns[1].text for row in rows}
    groups = world.asked()
    assert not words & set(groups["unseen"])
    assert {row.turns[0].text for row in rows[:1]} == {
        ciphers.asked(rows[0].turns[1].text, ciphers.LETTERS.upper().index(rows[0].turns[0].text[0]))
    }


def cells(right: Any) -> list[dict[str, Any]]:
    world = World(3)
    return [
        {"shift": shift, "kind": kind, "frequency": world.frequency(shift), "right": right(shift, kind, world)}
        for shift in SHIFTS
        for kind in KINDS
        for _ in range(2)
    ]


def test_correlation_is_that_of_ranks_and_of_no_difference_none() -> None:
    falling = summary(cells(lambda shift, kind, world: world.frequency(shift)))
    assert falling["spearman"] == pytest.approx(1)
    assert summary(cells(lambda *_: 1.0))["spearman"] == 0
    kinds = summary(cells(lambda shift, kind, world: float(kind == "frequent")))["kinds"]
    assert kinds == {"frequent": 1.0, "rare": 0.0, "unseen": 0.0}


def test_a_walk_trains_asks_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LEARNED", 64), ("GROUP", 2)):
        monkeypatch.setattr(ciphers, name, value)
    monkeypatch.setattr(ciphers, "SHAPE", {**ciphers.SHAPE, "hidden_size": 16, "num_hidden_layers": 1})
    record = run(tmp_path, seeds=(0, 1))
    assert [len(one["shifts"]) for one in record["runs"]] == [25, 25]
    assert record["orderings"][0]["low"] <= record["orderings"][0]["mean"] <= record["orderings"][0]["high"]
    monkeypatch.setattr(ciphers, "train_one", lambda *_: pytest.fail("trained again"))
    assert run(tmp_path, seeds=(0, 1)) == record == read_json(tmp_path / "ciphers.json")
    assert run(tmp_path, seeds=(0,))["orderings"][0]["verdict"] == "CANNOT TELL", "one seed proves nothing"
    assert len(lines(record)) == 2 + 5 + 3 + 3 + 1 + 3


def test_a_model_that_decodes_gets_all_right_and_one_that_copies_none(tmp_path: Path) -> None:
    texts = ["The old mill stands beside a quiet river today.", "She said that nobody would come before the winter."]
    assert sorted(unlikely(texts[0]).rstrip(".").split()) == sorted(texts[0].rstrip(".").split())

    def decode(text: str) -> str:
        shift = int(text.split("cipher of ")[1].split()[0])
        cipher = text.rsplit('Cipher: "', 1)[1].split('"')[0]
        return f' "{shifted(cipher, 26 - shift)}"'

    right = ask(FakeModel(decode), tmp_path, texts, shifts=(1, 13))
    assert [(cell["shift"], cell["kind"], cell["right"][0]) for cell in right["cells"]] == [
        (1, "likely", 1), (1, "unlikely", 1), (13, "likely", 1), (13, "unlikely", 1),
    ]  # fmt: skip
    likely, _, example = right["orderings"]
    assert (likely["mean"], likely["verdict"]) == (0, "CANNOT TELL"), "both kinds are all right"
    assert example["mean"] > 0.5, "whoever decodes does not repeat the example"
    copied = ask(FakeModel(lambda text: text.rsplit('Cipher: "', 1)[1]), tmp_path, texts, shifts=(1,))
    assert {cell["right"][0] for cell in copied["cells"]} == {0}
    assert len(read_jsonl(tmp_path / "asked.jsonl")) == 4
    repeated = ask(FakeModel(lambda text: EXAMPLE), tmp_path, texts, shifts=(1, 2))
    assert repeated["orderings"][2]["mean"] == 0


def test_what_is_asked_is_judged_sentence_by_sentence() -> None:
    rows = [
        {"shift": 1, "kind": kind, "sentence": n, "right": right, "alike": right, "alike example": 0.25}
        for n in range(30)
        for kind, right in (("likely", 1.0), ("unlikely", 0.0))
    ]
    found = asked_orderings(rows)
    assert [one["verdict"] for one in found] == ["HOLDS"] * 3
    assert [one["mean"] for one in found] == pytest.approx([1, 1, 0.75])
    turned = asked_orderings([{**row, "right": 1 - row["right"]} for row in rows])
    assert turned[0]["verdict"] == "DOES NOT HOLD"
    assert -1 <= turned[0]["low"] <= turned[0]["mean"] <= turned[0]["high"] < 0
    assert asked_orderings([row for row in rows if row["sentence"] == 0])[0]["verdict"] == "CANNOT TELL", "one sentence"
