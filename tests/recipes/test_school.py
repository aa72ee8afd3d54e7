"""What the studies of pre-training in small read: nothing held out is learned, shares are those asked for."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.files import read_jsonl
from mnemos.recipes.reproductions import school
from mnemos.recipes.reproductions import school_text as text
from mnemos.sources.passages import passages

WORDS = ("river", "mill", "stone", "bridge", "town", "chemistry", "report", "weather", "light", "garden", "letter")


def sentence(rng: random.Random) -> str:
    """One of a kind: a number stands in it."""
    return f"The {rng.choice(WORDS)} {rng.randrange(10**9)} {' '.join(rng.choices(WORDS, k=9))}."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as third-party data, of made-up text."""
    folder, rng = tmp_path_factory.mktemp("data"), random.Random(0)

    def page(count: int, between: str = " ") -> str:
        return between.join(sentence(rng) for _ in range(count))

    write(folder / text.WEB, [json.dumps({"text": page(12, "\n")}) for _ in range(60)])
    write(folder / text.PAGES, [json.dumps({"text": page(12, "\n"), "label": str(n % 2)}) for n in range(24)])
    write(folder / text.WIKI, [page(60) for _ in range(20)])
    write(folder / text.DRAMA, [sentence(rng) for _ in range(400)])
    rows = [{"question": sentence(rng), "answer": f"2 + 3 = <<2+3=5>>5\n#### {n}"} for n in range(200)]
    write(folder / text.SUMS, [json.dumps(row) for row in rows])
    return folder


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.fixture
def made(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a function writes, file by file; without a tokenizer and a model."""
    monkeypatch.setattr(text, "start", lambda *given, **more: None)

    def run(name: str) -> dict[str, list[dict[str, Any]]]:
        getattr(school, name)(data, tmp_path)
        return {path.stem: read_jsonl(path) for path in (tmp_path / "data").glob("*.jsonl")}

    return run


def sentences(rows: list[dict[str, Any]]) -> set[str]:
    """The numbers in the rows, each of one sentence."""
    return {word for row in rows for word in json.dumps(row).split() if word.isdigit() and len(word) > 5}


def test_sources_have_their_shares_and_nothing_held_out_is_learned(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"web": 12_000, "wikipedia": 8_000, "drama": 4_000, "sums": 2_000}
    monkeypatch.setattr(school, "SHARES", shares)
    files = made("sources")
    sizes: Counter[str] = Counter()
    for row in files["mixed"]:
        sizes[row["source"]] += len(row["text"])
    assert sizes.keys() == shares.keys()
    assert all(shares[name] <= size < shares[name] + school.PIECE for name, size in sizes.items())
    for name in (*shares, "every"):
        assert files[name]
        assert not sentences(files["mixed"]) & sentences(files[name])
    of = Counter(row["id"].rpartition("-")[0] for row in files["every"])
    assert len(set(of.values())) == 1
    assert len({row["id"] for row in files["mixed"]}) == len(files["mixed"])
    assert "<<" not in json.dumps(files["sums"])


def test_repeated_parts_lie_in_the_corpus(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(school, "CORPUS", 16_000)
    files = made("repeated")
    whole = [row["text"] for row in files["corpus"]]
    for number in school.PARTS:
        part = [row["text"] for row in files[f"part-{number}"]]
        assert part == whole[: len(part)]
        assert 0 <= sum(map(len, part)) - 16_000 // number < school.PIECE + 200
    assert not sentences(files["corpus"]) & (sentences(files["web"]) | sentences(files["wikipedia"]))


def test_related_texts_are_of_one_article_and_unrelated_ones_of_two(made: Any, data: Path) -> None:
    files = made("neighbours")
    of = {word: n for n, article in enumerate(text.articles(data)) for word in article.split() if word.isdigit()}

    def articles(row: dict[str, Any]) -> set[int]:
        return {of[word] for word in row["text"].split() if word in of}

    assert all(len(articles(row)) == 1 for row in files["related"])
    assert sum(len(articles(row)) == 2 for row in files["unrelated"]) > len(files["unrelated"]) / 3
    for single, related in zip(files["single"], files["related"], strict=True):
        assert related["text"].endswith(single["text"])
    for name in ("single", "related", "unrelated"):
        assert not sentences(files["documents"]) & sentences(files[name])


def test_filtered_pages_are_some_of_all_and_choices_have_one_answer(made: Any, data: Path) -> None:
    files = made("filtered")
    for name in (*school.FILTERS, "classifier"):
        assert sentences(files[name]) <= sentences(files["pages"])
    good = "".join(json.dumps(row) for row in files["classifier"])
    rated = [(page.split()[2], keep) for page, keep in text.labelled(data)]
    assert all((number in good) is keep for number, keep in rated), "what people labelled is sorted as they did"
    for name in ("web", "wikipedia"):
        assert not sentences(files["pages"]) & sentences(files[name])
        for row in files[f"{name}-goes-on"]:
            assert len(set(row["options"])) == 4
            assert 0 <= row["answer"] < 4


def test_passages_are_of_pages_that_are_not_measured(made: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        {"context": sentence(random.Random(n)), "question": f"Who {n}?", "answers": [{"text": f"they {n}"}]}
        for n in range(9)
    ]
    write(data / school.QUESTIONS, [json.dumps(row) for row in asked])
    monkeypatch.setattr(school, "REWRITTEN", 30)
    files = made("rephrased")
    assert len(files["passages"]) == 30
    assert all(school.PASSAGE // 3 < len(row["text"]) <= school.PASSAGE + 200 for row in files["passages"])
    for name in ("web", "wikipedia"):
        assert files[name]
        assert not sentences(files["passages"]) & sentences(files[name])
    whole = "\n\n".join(row["text"] for row in files["questions"])
    assert sorted(whole.split("\n\n")) == sorted(f"Question: Who {n}?\nAnswer: they {n}" for n in range(9))


def test_a_start_model_has_a_tokenizer_of_the_texts_and_is_kept(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = [" ".join(sentence(rng) for _ in range(5)) for _ in range(60)]
    folder = text.start(tmp_path, texts, vocabulary=300, width=32, layers=1, context=32)
    weights = folder / "model.safetensors"
    at = weights.stat().st_mtime_ns
    assert text.start(tmp_path, texts, vocabulary=300, width=32, layers=1, context=32) == folder
    assert weights.stat().st_mtime_ns == at


@pytest.mark.parametrize("characters", [1, 40, 10**6])
def test_pieces_lose_nothing_but_white_space(characters: int) -> None:
    rng = random.Random(2)
    for between in (" ", "\n"):
        whole = between.join(sentence(rng) for _ in range(20))
        assert "".join("".join(passages(whole, characters)).split()) == "".join(whole.split())
    assert passages("", characters) == []
