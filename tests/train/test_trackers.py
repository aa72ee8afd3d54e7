"""Trackers write into the run, phone nobody, and change no result."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemos.core.settings import TrainSettings
from mnemos.train.likelihood import train
from mnemos.train.trackers import FOLDER, tracked, variables
from tests.train.making import plan


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No user's settings and keys."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_", "TENSORBOARD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize("given", ["tensorboard", ["tensorboard"], ("tensorboard", "wandb"), [], "none"])
def test_who_looks_on_is_no_part_of_a_step(given: Any) -> None:
    settings = TrainSettings(report_to=given)
    assert settings.report_to == {"none": (), "tensorboard": ("tensorboard",)}.get(str(given), tuple(given))
    assert settings.fingerprint == TrainSettings().fingerprint


def test_every_file_lies_in_the_run(tmp_path: Path) -> None:
    found = variables(("tensorboard", "wandb", "mlflow", "trackio"), tmp_path, "plain, seed 0")
    for name in ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        assert str(tmp_path) in found[name]
    assert Path(found["TENSORBOARD_LOGGING_DIR"]).name == "plain, seed 0"


def test_wandb_phones_nobody_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert variables(["wandb"], tmp_path, "t")["WANDB_MODE"] == "offline"
    (tmp_path / "netrc").write_text("machine elsewhere.example login user password x\n")
    assert variables(["wandb"], tmp_path, "t")["WANDB_MODE"] == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert variables(["wandb"], tmp_path, "t")["WANDB_MODE"] == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example/path")
    assert variables(["wandb"], tmp_path, "t")["WANDB_MODE"] == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert variables(["wandb"], tmp_path, "t")["WANDB_MODE"] == "online"
    (tmp_path / "netrc").write_text("no file of that kind {")
    monkeypatch.delenv("WANDB_API_KEY")
    assert variables(["wandb"], tmp_path, "t")["WANDB_MODE"] == "offline"


def test_what_the_user_has_set_counts_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    before = dict(os.environ)
    with tracked(["wandb"], tmp_path / FOLDER, "t"):
        assert os.environ["WANDB_PROJECT"] == "theirs"
        assert os.environ["WANDB_DIR"] == str(tmp_path / FOLDER)
        assert (tmp_path / FOLDER).is_dir()
    assert dict(os.environ) == before
    with tracked([], tmp_path / "none", "t"):
        assert dict(os.environ) == before
    assert not (tmp_path / "none").exists()


def test_the_next_training_is_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    fake = types.SimpleNamespace(run=object(), finish=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(ZeroDivisionError), tracked(["wandb"], tmp_path, "t"):
        raise ZeroDivisionError
    assert ended == [True]


def test_tensorboard_has_one_run_a_training(llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watched = plan(llama, report_to=("tensorboard",), logging_steps=1)
    result = train(watched, tmp_path / "a", quiet=True, title="plain, seed 0", tracking=tmp_path / FOLDER)
    logged = EventAccumulator(str(tmp_path / FOLDER / "plain, seed 0"))
    logged.Reload()
    seen = [(one.step, one.value) for one in logged.Scalars("train/loss")]
    np.testing.assert_allclose(seen, result.losses, rtol=1e-6)
    alone = train(plan(llama, logging_steps=1), tmp_path / "b", quiet=True)
    assert alone.losses == result.losses
    assert not (tmp_path / "b" / FOLDER).exists()
