"""A study of a model in bfloat16: what is saved, measured and said; and of adapters that are kept alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mnemos
from mnemos.core.files import read_json
from mnemos.models import precision
from mnemos.study.config import load_study
from mnemos.study.experiment import build
from tests.study.worlds import chat, make_study, write_jsonl
from tests.weights.test_precision import cast


def test_adapters_follow_each_other_and_arithmetic_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda: "float32")
    write_jsonl(tmp_path / "second.jsonl", [chat(n, f"Name {n}.", f"N{n}") for n in range(16)])
    teach = [
        {"name": "first", "data": "new.jsonl", "suites": ["new.yaml"]},
        {"name": "second", "data": "second.jsonl", "suites": ["old.yaml"]},
    ]
    arms = {"apart": [{"orthogonal": {"rank": 2}}], "half": [{"lora": {"rank": 2}}, {"weights": {}}]}
    study = make_study(tmp_path, teach=teach, suites={}, arms=arms, seeds=[0], joint=False, health=False)
    cast(tmp_path / "model", torch.bfloat16)
    record = mnemos.run(study, out=tmp_path / "run")
    arm = {one["arm"]: one["train"] for one in record.results["arms"]}
    assert (arm["plain"]["saved_dtype"], arm["plain"]["bf16"]) == ("bfloat16", False)
    assert 0 < arm["plain"]["rounding"] < 1
    assert "% of what training changed" in capfd.readouterr().err
    stage = tmp_path / "run" / "arms"
    last = stage / "apart" / "seed-0" / "stage-1-second" / "model"
    assert read_json(last / "adapter_config.json")["base_model_name_or_path"].startswith("..")
    assert not list(last.glob("model*.safetensors"))
    halfway = load_file(stage / "half" / "seed-0" / "stage-1-second" / "model" / "model.safetensors")
    assert {value.dtype for value in halfway.values()} == {torch.bfloat16}
    assert arm["half"]["saved_dtype"] == "bfloat16"


def test_the_dtype_that_is_asked_for_names_other_steps(tmp_path: Path) -> None:
    file = make_study(tmp_path, seeds=[0])
    keys = []
    for more in ({}, {"torch_dtype": "bfloat16"}, {"torch_dtype": "float32"}):
        study, folder = load_study(file, more)
        experiment = build(study, folder, tmp_path / "run")
        handle = experiment.runs[0].last.model
        assert handle.torch_dtype == experiment.before.torch_dtype == more.get("torch_dtype")  # type: ignore[attr-defined]
        keys.append({step.key for step in experiment.steps})
    assert not keys[0] & keys[1] | keys[1] & keys[2] | keys[0] & keys[2]
