"""Memory, disk and time of a study before its first step."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.core.settings import TrainSettings
from mnemos.study import room
from mnemos.study.run import plan_lines
from mnemos.train import estimate
from tests.study.worlds import make_study

TRAIN = {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 8, "save_steps": 0}


def lines_of(study: Path, start: str, **how: Any) -> list[str]:
    return [line for line in plan_lines(study, **how) if line.startswith(start)]


def test_a_dry_run_says_what_every_step_takes(tmp_path: Path) -> None:
    study = make_study(
        tmp_path,
        train=TRAIN,
        arms={"kl": [{"kl_to_before": {}}], "half": [{"weights": {"expression": "0.5*after + 0.5*before"}}]},
    )
    found = lines_of(study, "room", out=tmp_path / "run")
    text = "\n".join(found)
    # An arm that differs by arithmetic alone shares its training with the plain one.
    for title in ("before: measure", "half, seed 0: train", "half, seed 0: weights", "kl, seed 0: train"):
        assert f"room    {title}: about " in text
    assert "weights" in text
    assert "optimiser" in text
    # The model before, whose outputs the term asks for, is a second copy.
    assert "beside" in next(line for line in found if "kl, seed 0: train" in line)
    assert "of disk for models" in found[-1]
    assert "are free" in found[-1]


def test_a_run_of_something_small_says_nothing(tmp_path: Path) -> None:
    record = mnemos.run(make_study(tmp_path, train=TRAIN, arms={}), out=tmp_path / "run", quiet=True)
    assert record.comparisons


def test_what_cannot_fit_is_refused_with_what_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path, train=TRAIN, arms={})
    # Of the training alone, without the program, which grows while tests run.
    monkeypatch.setattr(estimate, "resident_memory", lambda: 0)
    monkeypatch.setattr(estimate, "LIBRARIES", 0)
    monkeypatch.setattr(room, "_asking", lambda *_, **__: 0)
    monkeypatch.setattr(room, "SURE", 1.0)
    monkeypatch.setattr(room, "SMALL", 0.0)
    needs: list[Any] = []
    original = estimate.needs_of
    monkeypatch.setattr(estimate, "needs_of", lambda *a, **k: needs.append(original(*a, **k)) or needs[-1])
    plan_lines(study)
    bound = needs[0].peak - needs[0].optimiser // 2
    monkeypatch.setattr(room, "machine_memory", lambda: bound)
    for look in (plan_lines, lambda path: mnemos.run(path, out=tmp_path / "run", quiet=True)):
        with pytest.raises(UsageError) as refused:
            look(study)
        assert refused.value.value.startswith("plain, seed 0: train takes about")
        assert "this machine gives it" in refused.value.bound
        assert refused.value.cure.startswith(
            "would fit: per_device_train_batch_size: 1 with gradient_accumulation_steps"
        )
    assert not (tmp_path / "run" / "steps").exists()
    monkeypatch.setattr(room, "machine_memory", lambda: 1)
    with pytest.raises(UsageError, match="take a smaller model"):
        plan_lines(study)


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path, train=TRAIN, arms={})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=2, used=1, free=1))
    with pytest.raises(UsageError, match=r"(?s)of disk are needed.*are free there.*mnemos runs clean"):
        plan_lines(study, out=tmp_path / "run")


def test_what_is_free_now_is_spoken_of_and_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_here", lambda: 1000)
    lines = lines_of(make_study(tmp_path, train=TRAIN, arms={}), "room    about")
    assert any("are free now" in line for line in lines)


def test_time_comes_from_finished_steps_or_from_a_probe(tmp_path: Path) -> None:
    study = make_study(tmp_path, train={**TRAIN, "max_steps": 4}, arms={})
    assert lines_of(study, "time", out=tmp_path / "run") == []
    probed = lines_of(study, "time", out=tmp_path / "run", probe=True)
    assert any("plain, seed 0: train" in line and "by a few steps of it" in line for line in probed)
    assert any("of training in all" in line for line in probed)
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    found = lines_of(study, "time", out=tmp_path / "run", overrides={"seeds": [0, 1]})
    assert any("plain, seed 1: train" in line and "as its finished training took" in line for line in found)


def test_the_largest_micro_batch_is_a_large_one() -> None:
    lengths = [(10, 5)] * 50 + [(200, 100)] * 2
    train = TrainSettings(per_device_train_batch_size=2, max_length=300)
    shape = room.largest(lengths, train)
    assert shape.lengths in ((200, 10), (10, 200), (200, 200))
    packed = room.largest(lengths, train.model_copy(update={"packing": True}))
    assert packed.lengths == (300, 300)
    assert room.largest([], train).lengths == (300, 300)
    assert room.largest([(7, 3)], train).lengths == (7,)


def test_a_fitting_micro_batch() -> None:
    def needed(rows: int, length: int, recompute: bool) -> int:
        return 100 + rows * length * (1 if recompute else 4)

    assert room.fitting(16, 10, 500, needed) == (8, False, None)
    assert room.fitting(16, 10, 190, needed) == (2, False, None)
    assert room.fitting(16, 10, 119, needed) == (1, True, None)
    assert room.fitting(16, 10, 50, needed) == (1, True, 110)
