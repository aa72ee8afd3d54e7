"""An engine is one module and one row: nothing else in the house is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core.errors import UsageError
from mnemos.study.engines import ENGINES, engine
from mnemos.study.run import run
from tests.extensions import toy_engine
from tests.study.worlds import make_study


def test_an_engine_from_outside_runs_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "backwards", "tests.extensions.toy_engine")
    study = make_study(tmp_path, seeds=[0, 1])
    there = run(study, out=tmp_path / "there", engine="backwards", quiet=True)
    here = run(study, out=tmp_path / "here", quiet=True)
    assert toy_engine.MADE[-1].done
    assert there.results["comparisons"] == here.results["comparisons"]


def test_names_are_checked() -> None:
    with pytest.raises(UsageError, match="engine 'loco': is not known\\n  did you mean 'local'"):
        engine("loco")
    with pytest.raises(UsageError, match="runs one step at a time"):
        engine("local", jobs=2)
    assert type(engine(jobs=2)).__name__ == "ParallelEngine"
