"""Roads without a study: what their tables hold, and that a verdict is that of the numbers."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.files import read_jsonl
from mnemos.recipes.reproductions import real_vocabulary, school_tables, school_text
from tests.tiny import save_tiny_encoder

SCRIPTS = {"en": "abcdefgh", "ru": "абвгдежз", "ar": "ابتثجحخد", "hi": "कखगघचछजझ", "th": "กขคงจฉชซ"}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """XQuAD's layout: 20 titles of 2 paragraphs in each language, and pairs with Chinese."""
    rng, folder = random.Random(0), tmp_path / "data"

    def text(language: str) -> str:
        words = ("".join(rng.choices(SCRIPTS[language], k=5)) for _ in range(60))
        return " ".join(words)

    places = [(f"title-{n}", k) for n in range(20) for k in range(2)]
    own = [
        {"lang": language, "title": title, "paragraph": k, "text": text(language)}
        for language in SCRIPTS if language != "en"
        for title, k in places
    ]  # fmt: skip
    write(folder / real_vocabulary.XQUAD[0], own)
    write(folder / real_vocabulary.XQUAD[1], [{"context": text("en")} for _ in places])
    chinese = [{"en": "x", "zh": "".join(rng.choices("水火山川日月星辰", k=9))} for _ in range(40)]
    write(folder / school_tables.PAIRS, chinese)
    return folder


def test_every_kind_is_measured_on_held_out_text_of_every_language(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(school_tables, "VOCABULARY", 400)
    table = school_tables.tokenizers(data, tmp_path / "out")
    assert len(table) == 9
    assert table[0].split() == list(school_tables.LANGUAGES.values())
    assert all(line.count("(") == 6 for line in table[1:])
    held = read_jsonl(tmp_path / "out/data/hi.jsonl")
    assert len(held) == 8


def test_pieces_and_rows_are_learned_from_other_articles_than_are_measured(data: Path, tmp_path: Path) -> None:
    real_vocabulary.hindi(data, tmp_path)
    files = {path.stem: [row["text"] for row in read_jsonl(path)] for path in (tmp_path / "data").glob("*.jsonl")}
    assert files["hindi"] == files["first"] + files["second"]
    assert set(files["hindi"]) <= set(files["pieces"])
    assert not set(files["first"]) & set(files["second"])
    measured = read_jsonl(tmp_path / "data/items/bits-hindi.jsonl")
    assert len(measured) == real_vocabulary.MEASURED
    assert not any(row["text"] in piece for row in measured for piece in files["pieces"])
    assert len(files["english"]) == len(files["pieces"]) == 2 * (20 - real_vocabulary.MEASURED)
    for row in read_jsonl(tmp_path / "data/items/bits-english.jsonl"):
        assert not any(row["text"] in text for text in files["english"])


def test_a_replication_holds_where_every_number_does() -> None:
    published = {name: {"value": value} for name, (value, _) in school_tables.PUBLISHED.items()}
    assert school_tables.replicated(published)[0].startswith("HOLDS")
    for name, (value, error) in school_tables.PUBLISHED.items():
        for moved, verdict in (
            (value - 0.9 * error, "HOLDS"),
            (value + 1.1 * error, "DOES NOT HOLD"),
            (None, "DOES NOT"),
        ):
            lines = school_tables.replicated({**published, name: {"value": moved}})
            assert lines[0].startswith(verdict)


def test_points_that_are_absent_are_data_that_are_absent(tmp_path: Path) -> None:
    for road in (school_tables.laws, school_tables.people, school_tables.tokenizers):
        with pytest.raises(FileNotFoundError):
            road(tmp_path, tmp_path / "out")


def test_labels_of_four_kinds_are_learned_on_words_and_on_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, folder = random.Random(0), tmp_path / "data"

    def text(word: str) -> str:
        return f"{word} {' '.join(rng.choices(['river', 'mill', 'stone', 'town', 'garden'], k=5))} {rng.random()}"

    write(folder / school_text.PAGES, [{"text": text(("dull", "good")[n % 2]), "label": n % 2} for n in range(40)])
    write(folder / "advbench/harmful_behaviors.jsonl.gz", [{"goal": text("bomb")} for _ in range(30)])
    plain = [{"instruction": text("cake"), "input": "" if n % 2 else "x"} for n in range(90)]
    write(folder / "dolly_2k/train.jsonl.gz", plain)
    prompts = [{"prompt": text(("cake", "bomb")[n % 2]), "label": ("safe", "unsafe")[n % 2]} for n in range(40)]
    write(folder / "xstest/prompts.jsonl.gz", prompts)
    begun = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "
    pairs = [{"chosen": begun + text("kind"), "rejected": begun + text("rude")} for _ in range(20)]
    write(folder / "hh_harmless_test/shared_first1500.jsonl.gz", pairs)
    monkeypatch.setenv("MNEMOS_MODELS", str(tmp_path))
    (tmp_path / "minilm").mkdir()
    save_tiny_encoder(tmp_path / "minilm")
    table = school_tables.classifiers(folder, tmp_path / "out")
    assert [line.split()[0].rstrip(",") for line in table] == [
        "area",
        "pages",
        "requests",
        "xstest",
        "answers",
        "requests",
    ]
    # On words every kind of label is plain, and what harm is called in requests is known of other prompts too.
    assert all(line[34:].split()[0] == "1.000" for line in table[1:])
    assert len(read_jsonl(tmp_path / "out/data/requests.jsonl")) == 60
    first = read_jsonl(tmp_path / "out/data/answers.jsonl")[:2]
    assert [(row["text"].split()[0], row["label"]) for row in first] == [("kind", 0), ("rude", 1)]
