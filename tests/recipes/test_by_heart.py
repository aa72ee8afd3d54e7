"""Texts that a patient read and did not read, and what is said of those that a prompt gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core.files import read_json, read_jsonl
from mnemos.models.load import Checkpoint
from mnemos.recipes import by_heart
from mnemos.recipes.by_heart import ORDERINGS, lines, run, texts
from mnemos.recipes.patient_data import WorldSettings, base_texts
from mnemos.recipes.worlds.english import english
from mnemos.recipes.worlds.seed import chance, listed
from tests.tiny import save_tiny

WORDS = (
    "apple,river,stone,cloud,table,winter,paper,garden,window,yellow,engine,market,silver,forest,button,castle,dinner"
)


def test_what_is_called_read_stands_in_the_text_and_what_is_not_does_not(tmp_path: Path) -> None:
    for n in range(200):
        words = " ".join(chance(n, "words").sample(listed(WORDS), 12))
        (tmp_path / f"f{n}.py").write_text(f'"""It says {words} and {n} more."""\n', encoding="utf-8")
    world = WorldSettings(people=60, tellings=2, english=1, sum_lines=1, base_questions=0, base_records=0)
    found = texts(world, 8, tmp_path)
    assert {kind: len(some) for kind, some in found.items()} == dict.fromkeys(found, 8)
    assert set(found) == {"once", "many", "strangers", "read", "unread"}
    document = set(base_texts(world, english("train", tmp_path, seed=world.seed)))
    for kind in ("once", "many", "read"):
        assert set(found[kind]) <= document, kind
    for kind in ("strangers", "unread"):
        assert not set(found[kind]) & document, kind
    assert found == texts(world, 8, tmp_path)


def test_a_walk_searches_every_kind_at_once_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_heart, "TOKENS", 1)
    model = Checkpoint(str(save_tiny(tmp_path / "tiny"))).load()
    kinds = ("once", "many", "strangers", "read", "unread")
    found = {kind: [f"{kind} text {n} that is long enough to be continued" for n in range(3)] for kind in kinds}
    record = run(tmp_path / "out", model, found, searched=1)
    assert record == read_json(tmp_path / "out/by_heart.json")
    rows = read_jsonl(tmp_path / "out/texts.jsonl")
    assert [row["kind"] for row in rows] == [kind for kind in (*kinds, "random") for _ in range(3)]
    for kind, own in record["kinds"].items():
        ratios = [row["ratio"] for row in rows if row["kind"] == kind]
        assert own["given"][0] == pytest.approx(sum(ratio is not None for ratio in ratios) / 3)
        assert set(ratios) <= {None, 1.0}, "one token by one token"
    assert len(record["orderings"]) == len(ORDERINGS)
    assert len(lines(record)) == 2 + 6 + 1 + len(ORDERINGS)
