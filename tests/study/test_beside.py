"""Models that a study asks the same suites and teaches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.study.config import load_study
from mnemos.study.run import plan_lines
from tests.study.worlds import make_study
from tests.tiny import save_tiny


def test_another_model_stands_beside_the_arms_with_its_own_differences(tmp_path: Path) -> None:
    save_tiny(tmp_path / "other", seed=7)
    path = make_study(tmp_path, beside={"other": "other", "same": "model"}, train={"max_steps": 1}, arms={})
    assert any(line.startswith("beside") and "other" in line for line in plan_lines(str(path)))
    record = mnemos.run(str(path), out=tmp_path / "run", quiet=True)
    found = record.results["beside"]
    assert set(found) == {"other", "same"}
    assert found["other"]["model"] == str(tmp_path / "other")
    # What is held against the model before (KL) is not asked of a model beside it.
    suites = [one["suite"] for one in found["other"]["comparisons"]]
    assert {"new", "old", "english"} <= set(suites)
    assert not [name for name in suites if name.startswith("kl")]
    deltas = {one["suite"]: one["delta"] for one in found["same"]["comparisons"]}
    assert set(deltas.values()) == {0.0}
    english = next(one for one in found["other"]["comparisons"] if one["suite"] == "english")
    before = record.results["before"]["english"]["mean"]
    assert english["delta"] == pytest.approx(found["other"]["scores"]["english"]["mean"] - before)
    assert "Other models" in record.report("text")
    assert "other, english" in record.report("md")
    assert "Other models" in record.report("html")


def test_names_and_places_are_checked(tmp_path: Path) -> None:
    path = make_study(tmp_path, beside={"replay": "model"})
    with pytest.raises(UsageError, match="replay"):
        load_study(path)
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match=r"beside\.x"):
        load_study(make_study(tmp_path / "b", beside={"x": "./nowhere"}))


def test_arms_are_compared_with_what_the_model_was_before_an_earlier_study(tmp_path: Path) -> None:
    save_tiny(tmp_path / "earlier", seed=7)
    beside = {"earlier": "earlier", "other": "model"}
    path = make_study(tmp_path, beside=beside, since="earlier", train={"max_steps": 1}, arms={"lora": [{"lora": {}}]})
    record = mnemos.run(str(path), out=tmp_path / "run", quiet=True)
    found = record.results
    assert "Since earlier" in record.report("md")
    assert "new pieces" not in record.report("md")
    assert set(found["beside"]["earlier"]["since"]) == {"plain", "lora"}
    assert "since" not in found["beside"]["other"]
    earlier = found["beside"]["earlier"]["scores"]["english"]["mean"]
    for arm, rows in found["beside"]["earlier"]["since"].items():
        row = next(one for one in rows if one["suite"] == "english")
        after = next(one for one in found["comparisons"] if (one["arm"], one["suite"]) == (arm, "english"))["after"]
        assert (row["before"], row["after"]) == (pytest.approx(earlier), pytest.approx(after))
        new = [one for one in rows if one["role"] == "new"]
        # One seed and one new suite with its twin of health: the mean of their changes, whatever is better.
        turned = [-one["delta"] if one["better"] == "lower" else one["delta"] for one in new]
        assert found["beside"]["earlier"]["learned"][arm]["mean"] == pytest.approx(sum(turned) / len(turned), abs=1e-6)
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="is no model of beside"):
        load_study(make_study(tmp_path / "b", beside={"x": "model"}, since="y"))
