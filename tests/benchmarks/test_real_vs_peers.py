"""The benchmarks of training and merging on real models, on tiny ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import real_lora_vs_trl, real_merge_vs_mergekit, real_sft_vs_trl, room
from benchmarks.merge_vs_mergekit import ours as merged
from tests.tiny import save_tiny


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEMOS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize("bench", [real_sft_vs_trl, real_lora_vs_trl, real_merge_vs_mergekit])
def test_without_a_model_nothing_is_measured(bench: Any, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(bench.run()) == []
    assert "no model in" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lora", [False, True])
def test_both_sides_train_the_same(lora: bool, folders: Path) -> None:
    save_tiny(folders / "models" / "qwen")
    data = folders / "data" / "dolly_2k" / "train.jsonl.gz"
    data.parent.mkdir(parents=True)
    with gzip.open(data, "wt", encoding="utf-8") as file:
        rows = [{"instruction": f"Say {n}", "input": "", "output": "it is " * (1 + n % 7)} for n in range(40)]
        file.writelines(json.dumps(row) + "\n" for row in rows)
    plan = real_sft_vs_trl.plan_of(folders / "models" / "qwen", data, "speed", 3, lora=lora)
    rows_read = real_sft_vs_trl.rows_of(plan)
    assert len(rows_read) == 12
    one = real_sft_vs_trl.ours(plan, rows_read, folders / "ours")
    other = real_sft_vs_trl.peer(plan, rows_read, folders / "peer")
    assert real_sft_vs_trl.agreement(one["losses"], other["losses"]) <= real_sft_vs_trl.AGREE
    assert one["speed"] > 0
    assert other["memory"] > 0


def test_losses_that_differ_are_no_figure() -> None:
    assert real_sft_vs_trl.agreement([1.0, 2.0], [1.0, 2.0001]) == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(RuntimeError, match="the losses differ"):
        real_sft_vs_trl.agreement([1.0, 2.0], [1.0, 2.1])
    with pytest.raises(RuntimeError, match="the losses differ"):
        real_sft_vs_trl.agreement([1.0], [1.0, 2.0])


@pytest.mark.parametrize("task", ["arithmetic", "ties", "slerp"])
def test_merges_of_copies_are_what_the_formulas_give(task: str, folders: Path) -> None:
    model = save_tiny(folders / "models" / "qwen", hidden=32)
    places = real_merge_vs_mergekit.copies(model, folders)
    merged(places, task, folders / "out")
    assert real_merge_vs_mergekit.error(places, task, folders / "out") < 1e-4


def test_the_worst_factor_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{"estimate": 90, "measured": 100}, {"estimate": 130, "measured": 100}, None])
    monkeypatch.setattr(room, "_measured", lambda case: next(found))
    (result,) = room.run(3)
    assert result.ours == pytest.approx(1.3)
    assert not result.holds
