"""A run that goes on behind a step that fails: what is whole is reported, what is not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from mnemos.report import render
from mnemos.study import processes
from mnemos.study.commands.sweep import sweep
from mnemos.study.engines.failures import StepsFailedError
from mnemos.study.engines.local import LocalEngine
from tests.study.worlds import make_study

SHORT = {"arms": {"short": []}, "arm_train": {"short": {"max_length": 2}}, "health": False}
"""An arm all of whose rows are too long, which is known only when they are rendered."""


def test_the_arms_that_are_whole_are_reported_and_the_others_named(tmp_path: Path) -> None:
    study, out = make_study(tmp_path, **SHORT), tmp_path / "run"
    result = CliRunner().invoke(app, ["run", str(study), "--keep-going", "--out", str(out), "--quiet"])
    assert isinstance(result.exception, StepsFailedError)
    assert "1 of 5 steps failed, and 1 more needed them: short, seed 0: train: " in str(result.exception)
    assert "all are longer than max_length = 2 (raise train.max_length" in str(result.exception)
    record = result.exception.record
    assert {row["arm"] for row in record.comparisons} == {"plain"}
    (entry,) = record.results["failed"]
    assert (entry["arm"], entry["runs"], entry["whole"]) == ("short", 1, 0)
    assert "Not done. short: short, seed 0: train: " in " ".join(result.stdout.split())
    assert "max_length = 2" in (out / "report.html").read_text()
    assert "Not done" in render(record.results, "md")
    log = (out / "log.txt").read_text()
    assert "short, seed 0: train: failed; the run goes on without it and what needs it" in log
    mended = mnemos.run(make_study(tmp_path, arms={"short": []}, health=False), out=out, quiet=True)
    assert "failed" not in mended.results
    assert {row["arm"] for row in mended.comparisons} == {"plain", "short"}


def test_a_sweep_has_the_values_that_could_be_trained(tmp_path: Path) -> None:
    with pytest.raises(StepsFailedError) as caught:
        sweep(
            make_study(tmp_path, health=False), "train.max_length=2,64", out=tmp_path / "run", quiet=True,
            engine={"keep_going": True}, jobs=2,
        )  # fmt: skip
    results = caught.value.record.results
    assert [one["values"] for one in results["sweep"]["arms"]] == [{"train.max_length": 64}]
    assert [one["arm"] for one in results["failed"]] == ["train.max_length=2"]


def test_without_a_whole_arm_there_is_no_report_and_without_being_asked_nothing_goes_on(tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={}, train={"max_length": 2}, health=False)
    with pytest.raises(StepsFailedError) as caught:
        mnemos.run(study, out=tmp_path / "run", engine={"keep_going": True}, quiet=True)
    assert caught.value.record is None
    assert not (tmp_path / "run" / "results.json").exists()
    with pytest.raises(DataError, match="max_length"):
        mnemos.run(study, out=tmp_path / "run", quiet=True)


def test_not_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UsageError, match="keep_going under a launcher of 2 processes"):
        LocalEngine(keep_going=True)
