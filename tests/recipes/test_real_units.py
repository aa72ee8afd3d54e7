"""Digits as units and through a bridge: what both read is one question about one clip, the choice looks at no test
take, and the two studies are compared by item."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.files import read_json, read_jsonl
from mnemos.recipes.reproduce import dry_lines, walk
from mnemos.recipes.reproductions import real_captions, real_units
from mnemos.recipes.reproductions.adaptation import SPEAKERS
from mnemos.recipes.reproductions.registry import find_reproduction, load_reproductions
from mnemos.sources import audio
from mnemos.sources.units import INPUT, units_of
from tests.tiny import save_tiny
from tests.tiny_speech import sound, tiny_whisper

TAKES = (0, 1, 5, 6, 7)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two digits by each speaker, two takes that measure and three that are learned; and rows of text."""
    folder: Path = tmp_path_factory.mktemp("data")
    (folder / "fsdd").mkdir()
    for at, speaker in enumerate(SPEAKERS):
        with tarfile.open(folder / "fsdd" / f"{speaker}.tar.gz", "w:gz") as tar:
            for digit in (3, 7):
                for take in TAKES:
                    audio.write(sound(0.3 + 0.02 * digit, 100 * at + 10 * digit + take), folder / "one.wav")
                    found = (folder / "one.wav").read_bytes()
                    info = tarfile.TarInfo(f"{digit}_{speaker}_{take}.wav")
                    info.size = len(found)
                    tar.addfile(info, io.BytesIO(found))
    rows = {
        "dolly_2k/train": [{"instruction": f"Say {n}.", "input": "", "output": f"It is {n}."} for n in range(4)],
        "advbench/harmful_behaviors": [{"goal": f"Harm {n}", "target": f"Sure, {n}"} for n in range(54)],
        "xstest/prompts": [{"id": str(n), "prompt": f"Kill process {n}?", "label": "safe"} for n in range(4)],
    }
    for name, found_rows in rows.items():
        path = folder / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True)
        with gzip.open(path, "wt") as file:
            file.write("\n".join(map(json.dumps, found_rows)))
    return folder


@pytest.fixture
def tiny(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reproductions' models and numbers, tiny."""
    monkeypatch.setenv("MNEMOS_DATA", str(data))
    monkeypatch.setenv("MNEMOS_MODELS", str(tmp_path / "models"))
    save_tiny(tmp_path / "models" / "qwen")
    tiny_whisper(tmp_path / "models" / "whisper-base")
    numbers = {"TAKES": 3, "HELD": 1, "LAYERS": (1, 2), "CLUSTERS": (4, 8), "HARMFUL": 2}
    for name, value in numbers.items():
        monkeypatch.setattr(real_units, name, value)
    return tmp_path


def test_both_studies_ask_the_same_of_the_same_clips(data: Path, tiny: Path) -> None:
    real_units.digits(data, tiny)
    assert INPUT in read_jsonl(tiny / "data/train-units.jsonl")[0]["messages"][1]["content"]
    real_units.models(data, tiny)
    read, heard = (read_jsonl(tiny / f"data/train-{name}.jsonl") for name in ("units", "heard"))
    assert [row["id"] for row in read] == [row["id"] for row in heard]
    assert len(read) == 24
    for first, second in zip(read, heard, strict=True):
        assert first["messages"][::2] == second["messages"][::2]
        units, question = first["messages"][1]["content"].split("\n")
        assert units_of(units)
        assert second["messages"][1]["content"][1]["text"] == f"\n{question}"
    asked, about = (read_jsonl(tiny / f"data/test-{name}.jsonl") for name in ("units", "heard"))
    assert [(row["id"], row["answer"]) for row in asked] == [(row["id"], row["label"]) for row in about]
    assert len(asked) == 16
    # Whatever is made once is read afterwards, and rows keep their units when the reproduction is called again.
    encoded = (tiny / "data" / real_units.ENCODED).stat().st_mtime_ns
    real_units.digits(data, tiny)
    real_units.models(data, tiny)
    assert (tiny / "data" / real_units.ENCODED).stat().st_mtime_ns == encoded
    assert read_jsonl(tiny / "data/train-units.jsonl") == read


def test_the_choice_does_not_look_at_what_measures(data: Path, tiny: Path) -> None:
    real_units.digits(data, tiny)
    first = real_units.units(tiny / "data", str(tiny / "models" / "whisper-base"))
    assert {(one["layer"], one["clusters"]) for one in first["tried"]} == {(1, 4), (1, 8), (2, 4), (2, 8)}
    assert first["right"] == max(one["right"] for one in first["tried"])
    for path in (tiny / "data" / "test").iterdir():
        audio.write(sound(0.5, 999), path)
    (tiny / "data" / "units").rename(tiny / "data" / "first")
    second = real_units.units(tiny / "data", str(tiny / "models" / "whisper-base"))
    assert second["tried"] == first["tried"]
    learned = {name for name in first["units"] if name.startswith("train")}
    assert {name: first["units"][name] for name in learned} == {name: second["units"][name] for name in learned}
    assert first["units"] != second["units"]


def test_what_pairs_of_units_tell_is_what_naive_bayes_says() -> None:
    from sklearn.naive_bayes import MultinomialNB

    draw = random.Random(0)
    words = [draw.choice(("one", "two", "three")) for _ in range(60)]
    read = [[draw.randrange(4) + 2 * len(word) % 5 for _ in range(draw.randrange(1, 7))] for word in words]
    held = [draw.random() < 0.4 for _ in words]
    pairs = [list(zip([-1, *one], [*one, -2], strict=True)) for one in read]
    columns = {pair: at for at, pair in enumerate(sorted({pair for one, out in zip(pairs, held, strict=True)
                                                          if not out for pair in one}))}  # fmt: skip
    table = np.zeros((len(words), len(columns) + 1))
    for at, one in enumerate(pairs):
        for pair in one:
            table[at, columns.get(pair, len(columns))] += 1
    own = np.array([not out for out in held])
    known = MultinomialNB(alpha=1.0, fit_prior=False).fit(table[own], np.array(words)[own])
    share = float((known.predict(table[~own]) == np.array(words)[~own]).mean())
    assert 0.3 < share < 1
    assert real_units.share_right(read, words, held) == pytest.approx(share)


def kept(scores: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    sides = [{"arm": None if arm == "before" else arm, "last": True, "scores": own} for arm, own in scores.items()]
    return {"suites": {"digits": {"items": ["a", "b", "c", "d"], "weights": [1, 1, 1, 1]}}, "sides": sides}


def test_arms_of_two_studies_are_compared_by_item() -> None:
    from mnemos.measure.uncertainty import paired

    before: dict[str, list[Any]] = {"digits": [0, 0, 0, 0]}
    units = {"before": before, **{arm: {"digits": [0, 0, 1, 0]} for arm in ("plain", "masked")}}
    bridge = {"before": before, "plain": {"digits": [1, 1, 1, None]}, "lora": {"digits": [0, 1, 1, 1]}}
    lines = real_units.compared({"units": kept(units), "bridge": kept(bridge)}, {"digits": (100.0, "points")})
    assert lines[1].split() == ["digits", "0", "25", "25", "0", "100", "75"]
    # The fourth clip has no score behind the bridge, and is left out of that difference alone.
    found = paired([0, 0, 1], [[1, 1, 1]], power=False)
    assert found.low is not None
    assert f"+66.67 [{100 * found.low:+.4g}" in lines[5]
    assert lines[5].endswith("3 items")
    assert lines[3].split()[1] == "+50"
    assert lines[7].split()[1] == "+0"


@pytest.mark.slow
def test_real_units_is_walked_with_tiny_models(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tiny / "cache"))
    reproduction = find_reproduction("real-units", load_reproductions())
    planned = "\n".join(dry_lines(reproduction, tiny / "dry"))
    assert "mask_units" in planned
    assert "continuation(" in planned
    # A model of random weights ends no answer, so that the part whose rows it writes is planned alone.
    written = reproduction.model_copy(update={"parts": reproduction.parts[:2]})
    walk(written, tiny / "runs", overrides={"train.num_train_epochs": 1}, quiet=True)
    text = (tiny / "runs" / "real-units" / "table.txt").read_text()
    assert "pairs of units tell" in text
    assert "bridge lora - units plain" in text
    assert "json-answers" in text
    results = read_json(tiny / "runs" / "real-units" / "units" / "results.json")
    assert [one["arm"] for one in results["arms"]] == ["plain", "masked"]
    assert "mask_units" in {one["method"] for one in results["arms"][1]["history"]}


def test_captions_are_all_that_is_learned(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(real_captions, "listen_rows", lambda *words: seen.append(words))
    real_captions.captions(tiny, tiny / "out")
    real_captions.captions(tiny, tiny / "out")
    assert [words[3].questions for words in seen] == ["captions", "captions"]
    assert [words[4] for words in seen] == [["self"], ["self"]]
    assert (tiny / "out/data/listener/config.json").is_file()


def test_what_captions_say_is_counted_in_whole_words() -> None:
    rows = [
        {"answer": 'A man says "Seven".', "digit": "seven", "noise": "none"},
        {"answer": "Seventeen copy machines.", "digit": "seven", "noise": "copy machine"},
    ]
    found = real_captions.mentions(rows)
    assert [line.split() for line in found[1:]] == [
        ["digit", "named", "in", "1", "of", "2"],
        ["noise", "named", "in", "0", "of", "2"],
    ]


def test_own_answers_are_asked_the_question_of_the_rows() -> None:
    from mnemos.core.yaml_text import read_yaml
    from mnemos.recipes.reproductions import real_units

    study = read_yaml(Path(real_units.__file__).parent / "real" / "units_answers.yaml")
    asked = next(one["continuation"] for one in study["arms"]["own-answers"] if "continuation" in one)
    assert asked["instruction"] == real_units.QUESTION
