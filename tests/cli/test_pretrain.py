"""`mnemos pretrain` as a person types it: text to a model that has learned from it, by the one runner."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_json, read_jsonl, write_json
from mnemos.core.yaml_text import read_yaml
from mnemos.models.fresh import fresh_llama
from mnemos.sources.plain import texts_at
from mnemos.study.commands.pretrain import School, begins, prepare
from tests.study.worlds import write_jsonl
from tests.tiny import tiny_tokenizer

SMALL = ("--vocabulary", "300", "--width", "16", "--layers", "1", "--context", "48", "--moments", "2", "--batch", "4")


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["pretrain", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    chance = random.Random(0)
    words = ("cat", "dog", "bird", "sees", "hears", "follows", "small", "old")
    rows = [{"text": " ".join(chance.choice(words) for _ in range(30))} for _ in range(240)]
    write_jsonl(tmp_path / "text.jsonl", rows)
    return tmp_path / "text.jsonl"


def test_text_becomes_a_model_and_the_same_command_goes_on(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "school"
    found = invoke(text, "--out", out, *SMALL, "--schedule", "warmup_stable_decay", "--prompt", "the cat")
    assert found.exit_code == 0, found.output
    results = read_json(out / "run/results.json")
    [held_out] = [row for row in results["comparisons"] if row["suite"] == "held-out"]
    # Uniform over the bytes is eight bits; the words alone need some 0.6.
    assert held_out["verdict"] == "gained"
    assert held_out["after"] < 3 < held_out["before"] + 2
    assert "bits per byte of held-out text: " in found.output
    assert "sample: the cat … " in found.output
    measured = {row["text"] for row in read_jsonl(out / "suites/held-out.jsonl")}
    assert len(measured) == 12
    assert not measured & {row["text"] for row in read_jsonl(out / "data/text.jsonl")}
    times = {path: path.stat().st_mtime_ns for path in (out / "run/steps").rglob("*.safetensors")}
    again = invoke(text, "--out", out, *SMALL, "--schedule", "warmup_stable_decay", "--prompt", "the cat")
    assert again.exit_code == 0
    assert "as it was made" in again.output
    run = CliRunner().invoke(app, ["run", str(out / "study.yaml"), "--out", str(out / "run")], catch_exceptions=False)
    assert "learned held-out" in run.output
    assert {path: path.stat().st_mtime_ns for path in (out / "run/steps").rglob("*.safetensors")} == times
    with pytest.raises(UsageError, match=r"width = 32: was 16 when .* was made\n  choose another --out"):
        invoke(text, "--out", out, *SMALL, "--width", "32")


def test_another_text_of_the_same_name_and_length_is_refused(text: Path, tmp_path: Path) -> None:
    school = School(vocabulary=300, width=16, layers=1, context=48, tokenizer=str(tmp_path / "tokenizer"))
    tiny_tokenizer(chat=False).save_pretrained(tmp_path / "tokenizer")

    def made() -> str:
        return list(prepare(texts_at(str(text)), school, tmp_path / "out"))[-1]

    assert "model: " in made()
    assert "as it was made" in made()
    kept = text.read_text()
    text.write_text(kept.replace("cat", "cow"))
    with pytest.raises(UsageError, match=r"is another text than when .* was made"):
        made()
    text.write_text(kept)
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"tokenizer: is another tokenizer than when"):
        made()
    # A folder of an earlier version did not note what the files hold.
    record = read_json(tmp_path / "out" / "pretrain.json")
    del record["content"]
    write_json(tmp_path / "out" / "pretrain.json", record)
    assert "as it was made" in made()


def test_the_study_can_be_edited_first(text: Path, tmp_path: Path) -> None:
    found = invoke(text, "--out", tmp_path / "school", *SMALL, "--plan-only", "--config", "num_key_value_heads=1")
    assert found.exit_code == 0
    assert "next    mnemos run " in found.output
    study = read_yaml(tmp_path / "school/study.yaml")
    assert study["train"]["packing"] is True
    assert read_json(tmp_path / "school/start/config.json")["num_key_value_heads"] == 1
    assert not (tmp_path / "school/run").exists()


def test_what_makes_no_model_is_refused(text: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one.jsonl", [{"text": "all in one"}])
    with pytest.raises(DataError, match=r"holds fewer than 40 texts\n  cut it into documents"):
        invoke(tmp_path / "one.jsonl", "--out", tmp_path / "a")
    with pytest.raises(UsageError, match="width: is no key of LlamaConfig"):
        invoke(text, "--out", tmp_path / "b", *SMALL, "--config", "width=3")
    with pytest.raises(UsageError, match="hidden_size is a multiple of the heads"):
        invoke(text, "--out", tmp_path / "c", *SMALL, "--config", "num_attention_heads=3")


def test_a_seed_gives_its_weights(tmp_path: Path) -> None:
    shape = School(width=32, layers=1).model()
    weights = [
        (fresh_llama(tiny_tokenizer(), shape, seed, tmp_path / f"{n}") / "model.safetensors").read_bytes()
        for n, seed in enumerate((0, 0, 1))
    ]
    assert [a == b for a, b in itertools.combinations(weights, 2)] == [True, False, False]


def test_the_rate_falls_with_the_width() -> None:
    assert [School(width=width).rate for width in (16, 128, 512)] == [0.01, 0.004, 0.001]
    assert School(width=512, learning_rate=0.3).rate == 0.3


def test_a_sample_begins_with_whole_words_where_there_are_some() -> None:
    assert begins("  one\ntwo ") == "one two"
    assert begins("word " * 20) == "word word word word word word"
    assert begins("字" * 100) == "字" * 32
