"""Checkpoints by the clock, and the memory of each phase."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mnemos.core.plan import Likelihood
from mnemos.core.settings import TrainSettings
from mnemos.train import saving
from mnemos.train.likelihood import train
from mnemos.train.memory import Peak, trim
from mnemos.train.saving import SaveByTime
from tests.train.making import Lora, plan, weights
from tests.train.stall import Stall


def _stop() -> None:
    raise KeyboardInterrupt


def test_by_default_a_stopped_training_continues_and_ends_the_same(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of save_steps. The clock is turned forward, so that each step is saved."""

    def given(stall: Stall) -> Any:
        return plan(llama, objective=(Likelihood(), stall), max_steps=6, logging_steps=2)

    whole = train(given(Stall()), tmp_path / "whole", quiet=True)
    assert not (tmp_path / "whole" / "checkpoints").exists()
    monkeypatch.setattr(saving, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saving, "COST", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(given(Stall(5, _stop)), tmp_path / "broken", quiet=True)
    assert sorted(path.name for path in (tmp_path / "broken" / "checkpoints").iterdir()) == [
        "checkpoint-3",
        "checkpoint-4",
    ]
    counting = Stall()
    continued = train(given(counting), tmp_path / "broken", quiet=True)
    assert len(counting.calls) == 2
    assert continued.losses == whole.losses
    left, right = weights(continued.model), weights(whole.model)
    assert all(torch.equal(left[name], right[name]) for name in right)


def _callback(monkeypatch: pytest.MonkeyPatch, now: list[float], free: int = 10**12) -> SaveByTime:
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    trainer: Any = SimpleNamespace(total_parameters=1000, trainable_parameters=1000)
    made = SaveByTime(trainer, Path("/"))
    made.on_train_begin(None, None, None)
    return made


def _due(callback: SaveByTime, step: int = 1) -> bool:
    control = SimpleNamespace(should_save=False)
    arguments = SimpleNamespace(process_index=0, world_size=1)
    callback.on_step_end(arguments, SimpleNamespace(global_step=step, max_steps=9), control)
    return control.should_save


def test_it_is_due_after_five_minutes_and_costs_at_most_a_twentieth(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    callback = _callback(monkeypatch, now)
    now[0] += 299
    assert not _due(callback)
    now[0] += 1
    assert _due(callback)
    assert not _due(callback, step=9), "the end of a stage is saved as a model"
    assert _due(callback)
    now[0] += 60  # a slow disk
    callback.on_save(None, None, None)
    now[0] += 1199
    assert not _due(callback)
    now[0] += 1
    assert _due(callback)


def test_none_is_written_where_the_disk_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    room = saving.ROOM * 12 * 1000  # weights and two moments in single precision
    for free, due in ((room, True), (room - 1, False)):
        now[0] = 0.0
        callback = _callback(monkeypatch, now, free)
        now[0] = 301.0
        assert _due(callback) is due


def test_how_often_is_saved_names_no_other_training(llama: Path) -> None:
    names = {plan(llama, save_steps=steps).fingerprint for steps in (None, 0, 5)}
    assert len(names) == 1
    assert TrainSettings().fingerprint != TrainSettings(logging_steps=3).fingerprint
    assert TrainSettings().save_steps is None


def test_every_phase_has_its_own_peak_and_none_carries_what_was_before(llama: Path, tmp_path: Path) -> None:
    """A stage after one that took much memory is measured like one alone, to a tenth of it."""
    given = replace(plan(llama, max_steps=1), trainable=Lora())
    train(given, tmp_path / "warm", quiet=True)
    alone = train(given, tmp_path / "alone", quiet=True)
    assert list(alone.peak_memory_phases) == ["prepare", "load", "train", "save"]
    assert alone.peak_memory_bytes == max(alone.peak_memory_phases.values())
    # Many small pieces: glibc would keep their room after they are freed.
    pieces: list[Any] = [np.ones(4096, dtype=np.int8) for _ in range(100_000)]
    size = sum(piece.nbytes for piece in pieces)
    pieces = pieces[::50_000]
    after = train(given, tmp_path / "after", quiet=True)
    del pieces
    assert abs(after.peak_memory_bytes - alone.peak_memory_bytes) < size / 10


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a peak start anew")
def test_a_peak_belongs_to_its_phase() -> None:
    trim()
    peak = Peak("small")
    peak.phase("large")
    block = np.ones(200_000_000, dtype=np.int8)
    del block
    peak.phase("small")
    peak.phase("end")
    found = peak.phases()
    assert list(found) == ["small", "large", "end"]
    assert found["large"] - found["small"] > 150_000_000
    assert found["large"] - found["end"] > 150_000_000
