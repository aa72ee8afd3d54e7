"""What a study and the command line say of the engine: which of them holds, and what cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import UsageError
from mnemos.study.config import dump_study, load_study
from mnemos.study.engines import engine, settings_of
from mnemos.study.engines.local import LocalEngine
from mnemos.study.engines.pool import ParallelEngine
from mnemos.study.engines.ray import RayEngine
from mnemos.study.sections import EngineSettings
from mnemos.study.steps import TrainStep
from tests.study.worlds import make_study
from tests.train.making import plan

RAY = EngineSettings(name="ray", address="10.0.0.1:6379", num_gpus=0.5)


def test_what_is_asked_for_goes_before_what_the_study_says() -> None:
    assert settings_of(None, study=RAY) == RAY
    assert settings_of({"address": "auto"}, study=RAY).address == "auto"
    assert settings_of(None, jobs=4, study=RAY) == RAY.model_copy(update={"jobs": 4})
    assert settings_of("ray", study=RAY) == RAY
    assert settings_of("ray", study="ray") == EngineSettings(name="ray")


def test_another_engine_leaves_the_settings_of_the_study_s_alone() -> None:
    """The study file of a cluster runs on a laptop."""
    assert settings_of("local", study=RAY) == EngineSettings(name="local")
    assert isinstance(engine("local", study=RAY), LocalEngine)
    assert isinstance(engine("pool", jobs=2, study=RAY), ParallelEngine)


def test_a_study_names_its_engine(tmp_path: Path) -> None:
    study, _ = load_study(make_study(tmp_path, engine="pool"))
    assert isinstance(engine(study=study.engine), ParallelEngine)
    (tmp_path / "again.yaml").write_text(dump_study(study))
    again, _ = load_study(tmp_path / "again.yaml")
    assert again.engine == study.engine == EngineSettings(name="pool")
    study, _ = load_study(make_study(tmp_path, engine={"name": "ray", "num_gpus": 0.25, "processes": 8}))
    assert study.engine == EngineSettings(name="ray", num_gpus=0.25, processes=8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nam": "ray"}, "engine.nam.*did you mean 'name'"),
        ({"name": "ray", "num_cpus": 0}, "engine.num_cpus = 0"),
        ({"name": "ray", "num_gpus": 1.5}, "must be whole above 1"),
        ({"name": "ray", "max_retries": -1}, "engine.max_retries = -1"),
        ({"name": "ray", "jobs": "many"}, "engine.jobs"),
        ({"name": "local", "address": "auto"}, "engine.address = auto: is nothing that the engine local reads"),
        ({"name": "pool", "jobs": 2, "num_gpus": 1}, "engine.num_gpus = 1: is nothing that the engine pool reads"),
        ({"address": "10.0.0.1:6379"}, "engine.address = 10.0.0.1:6379: is nothing that the engine local reads"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){words}"):
        engine(given)


@pytest.mark.parametrize("verb", ["run study.yaml", "sweep study.yaml --over replay.share_of_final=0,0.1"])
def test_verbs_hand_the_options_on(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*verb.split(), "--engine", "pool", "--address", "10.0.0.1:6379"])
    assert isinstance(done.exception, UsageError)
    assert "engine.address = 10.0.0.1:6379: is nothing that the engine pool reads" in str(done.exception)


@pytest.mark.parametrize("key", ["stream", "adapt"])
@pytest.mark.parametrize("given", [{"engine": "ray"}, {"engine": {"keep_going": True}}, {"jobs": 4}])
def test_a_stream_takes_no_engine(given: dict[str, Any], key: str) -> None:
    """They were passed over without a word."""
    with pytest.raises(UsageError, match="are not for a stream"):
        mnemos.run({"model": "m", key: "t"}, **given)


def test_a_step_that_processes_cannot_share_is_refused_before_a_cluster_is_joined(tmp_path: Path) -> None:
    step = TrainStep(plan(tmp_path / "model", per_device_train_batch_size=4), tmp_path, "train")
    asked = EngineSettings(name="ray", address="nobody:1", processes=3)
    with pytest.raises(UsageError, match="3 processes: cannot share the 4 rows"):
        RayEngine(asked, quiet=True).run([step], tmp_path)
