"""Arithmetic with further models after each task of a sequence: against the sums taken by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mnemos
from mnemos.core.files import read_json
from tests.study.worlds import chat, make_study, write_jsonl
from tests.tiny import save_tiny


def test_each_stage_adds_the_vector_to_what_it_trained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arms = {"vector": [{"weights": {
        "expression": "after + rho*(chat - base)", "models": {"chat": "chat", "base": "model"}, "numbers": {"rho": 0.5},
    }}]}  # fmt: skip
    save_tiny(tmp_path / "chat", seed=7)
    write_jsonl(tmp_path / "second.jsonl", [chat(n, f"Name {n}.", f"N{n}") for n in range(16)])
    teach = [
        {"name": "first", "data": "new.jsonl", "suites": ["new.yaml"]},
        {"name": "second", "data": "second.jsonl", "suites": ["old.yaml"]},
    ]
    study = make_study(tmp_path, teach=teach, suites={}, arms=arms, seeds=[0], joint=False, health=False)
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    steps = tmp_path / "run" / "steps"
    titles = {read_json(done)["title"]: done.parent for done in steps.glob("*/done.json")}

    def tensors(folder: Path) -> dict[str, torch.Tensor]:
        return {key: value.double() for key, value in load_file(folder / "model.safetensors").items()}

    tau = {key: value - tensors(tmp_path / "model")[key] for key, value in tensors(tmp_path / "chat").items()}
    assert max(float(value.abs().max()) for value in tau.values()) > 0.01
    for task in ("first", "second"):
        trained = tensors(titles[f"vector, seed 0, {task}: train"] / "model")
        summed = tensors(titles[f"vector, seed 0, {task}: weights"] / "model")
        for key, value in trained.items():
            torch.testing.assert_close(summed[key], value + 0.5 * tau[key], rtol=0, atol=1e-6)
    # The second stage starts where the first one's arithmetic ended, not where its training did.
    plan = titles["vector, seed 0, second: train"].name
    assert plan != titles["plain, seed 0, second: train"].name
    assert set(record.results["matrix"]["arms"]) == {"plain", "vector"}
    assert "dtypes differ" not in capfd.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in steps.glob("*/done.json")}
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert before == {path: path.stat().st_mtime_ns for path in steps.glob("*/done.json")}
