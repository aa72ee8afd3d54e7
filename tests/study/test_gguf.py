"""A study, a comparison and a merge on a GGUF file: the same as on the directory that the file was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

import mnemos
from mnemos.models.load import load_model
from mnemos.study.run import plan_lines
from mnemos.weights.checkpoint import resolve
from tests.study.worlds import make_study
from tests.weights.gguf_files import write_gguf


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study on a directory, and `study-gguf.yaml`, the same on a file of float32 made of it."""
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    study = make_study(tmp_path, arms={"lora": [{"lora": {"rank": 2}}]})
    folder = tmp_path / "model"
    write_gguf(tmp_path / "m.gguf", load_model(str(folder)), AutoTokenizer.from_pretrained(folder), "llama")
    raw = yaml.safe_load(study.read_text())
    (tmp_path / "study-gguf.yaml").write_text(yaml.safe_dump({**raw, "model": "m.gguf"}))
    return tmp_path


def verdicts(record: Any) -> Any:
    return [(row["arm"], row["suite"], row["delta"], row["verdict"]) for row in record.comparisons]


def test_a_study_on_a_file_is_the_study_on_its_directory(world: Path) -> None:
    assert any("m.gguf" in line for line in plan_lines(world / "study-gguf.yaml"))
    plain = mnemos.run(world / "study.yaml", out=world / "plain", quiet=True)
    packed = mnemos.run(world / "study-gguf.yaml", out=world / "packed", quiet=True)
    assert verdicts(packed) == verdicts(plain)
    losses = [[run["losses"] for arm in one.results["arms"] for run in arm["runs"]] for one in (plain, packed)]
    assert losses[0] == losses[1]
    (adapter,) = (world / "packed").glob("steps/train-*/model/adapter_config.json")
    assert json.loads(adapter.read_text())["base_model_name_or_path"] == str(world / "m.gguf")
    load_model(str(adapter.parent))


def test_a_file_and_what_was_written_of_it_compare_as_one_model(world: Path) -> None:
    place = resolve(str(world / "m.gguf"), allow_pickle=False, trust_remote_code=False)
    record = mnemos.compare(world / "m.gguf", place, [str(world / "new.yaml"), str(world / "old.yaml")], health=False)
    assert [row["delta"] for row in record.comparisons] == [0.0] * 3
