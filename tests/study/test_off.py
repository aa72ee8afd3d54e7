"""Ablation for free: an arm whose methods are all off is the plain arm, to the last digit."""

from __future__ import annotations

from pathlib import Path

import mnemos
import mnemos.methods
from mnemos.core.method import REGISTRY
from mnemos.study.config import load_study
from mnemos.study.experiment import build
from tests.laws import example_of
from tests.study.worlds import make_study


def test_every_method_with_its_off_settings_gives_the_plain_arms_numbers(tmp_path: Path) -> None:
    arms = {f"no-{name}": [{name: {**example_of(method), **method.off}}] for name, method in REGISTRY.items()}
    study = make_study(tmp_path, arms=arms, output_only=False)
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    numbers = {
        arm: {row["suite"]: {**row, "arm": ""} for row in record.comparisons if row["arm"] == arm}
        for arm in ["plain", *arms]
    }
    assert len(numbers["plain"]) >= 3
    assert any(row["delta"] for row in numbers["plain"].values())
    for arm in arms:
        assert numbers[arm] == numbers["plain"], arm
    assert len(list((tmp_path / "run" / "steps").glob("train-*"))) == 1


def test_every_arm_of_the_catalogue_has_an_off_twin(tmp_path: Path) -> None:
    study, folder = load_study("mnemos:catalogue.yaml", {"seeds": [0]})
    off = {
        arm: [
            {name: {**(settings or {}), **REGISTRY[name].off}}
            for step in steps or ()
            for name, settings in step.items()
        ]
        for arm, steps in study.arms.items()
    }
    runs = build(study.model_copy(update={"arms": off}), folder, tmp_path).runs
    plain = next([stage.measure.key for stage in run.stages] for run in runs if run.arm == "plain")
    assert len(runs) > 40
    for run in runs:
        if run.arm != "joint":
            assert [stage.measure.key for stage in run.stages] == plain, run.arm
