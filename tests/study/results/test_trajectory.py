"""Suites measured while the arms train."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.core.files import read_json
from mnemos.measure.ask import measure
from mnemos.measure.suite import load_suites
from mnemos.models.load import Checkpoint
from mnemos.study.run import plan_lines
from mnemos.train import moments
from tests.study.test_run import start, wait_for
from tests.study.worlds import make_study, without_timings

TRAIN = {
    "learning_rate": 1e-3,
    "max_steps": 7,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "lr_scheduler_type": "constant",
}
GRPO = {"reward": {"verifier": "chrf"}, "num_generations": 2, "max_new_tokens": 4}
ARMS: dict[str, Any] = {
    "twin": [],
    "half": [{"weights": {"expression": "0.5*after + 0.5*before"}}],
    "grpo": [{"lora": {"rank": 2}}, {"grpo": GRPO}],
}
TRAJECTORY = {"suites": ["new", "english"], "moments": 3}
ENDS = [0, 2, 4, 7]
"""Steps of three stretches of seven."""


def by_hand(model: Path, folder: Path, name: str) -> float:
    """The suite's weighted mean, asked of a checkpoint outside of any study."""
    suites = [suite for suite in load_suites(["new.yaml", "old.yaml"], folder) if suite.name == name]
    scores = measure(Checkpoint(str(model)).load(), suites)[name].scores
    return math.fsum(s.value * s.weight for s in scores) / math.fsum(s.weight for s in scores)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("trajectory")
    study = make_study(folder, arms=ARMS, trajectory=TRAJECTORY, train=TRAIN, health=False)
    return folder, dict(mnemos.run(study, out=folder / "run", quiet=True).results)


def curve_of(results: dict[str, Any], arm: str) -> list[dict[str, Any]]:
    (run,) = next(entry["runs"] for entry in results["arms"] if entry["arm"] == arm)
    curve: list[dict[str, Any]] = run["trajectory"]
    return curve


@pytest.mark.parametrize("arm", ["plain", "grpo"])
def test_the_curve_is_what_asking_the_kept_models_says(ran: tuple[Path, dict[str, Any]], arm: str) -> None:
    folder, results = ran
    curve = curve_of(results, arm)
    place = folder / "run" / "arms" / arm / "seed-0"
    models = [folder / "model", *(place / "train" / "moments" / n / "model" for n in "12"), place / "model"]
    assert [row["step"] for row in curve] == ENDS
    for name in ("new", "english"):
        asked = [by_hand(model, folder, name) for model in models]
        assert [row["scores"][name]["mean"] for row in curve] == pytest.approx(asked, rel=1e-12)
        assert len(set(asked)) > 1 or name == "new", "nothing moved, so nothing was compared"
    whole = next(entry for entry in results["trajectory"]["arms"] if entry["arm"] == arm)
    assert whole["steps"] == ENDS
    means = [moment["mean"] for moment in whole["suites"]["english"]["moments"]]
    assert means == pytest.approx([row["scores"]["english"]["mean"] for row in curve])


def test_a_moment_is_the_model_of_a_training_that_ended_there(ran: tuple[Path, dict[str, Any]]) -> None:
    """With a constant learning rate four steps of seven are a training of four steps."""
    folder, results = ran
    short = {**TRAIN, "max_steps": ENDS[2]}
    ended = mnemos.run(make_study(folder, arms=ARMS, train=short, health=False), out=folder / "short", quiet=True)
    for arm in ("plain", "half", "grpo"):
        (run,) = next(entry["runs"] for entry in ended.results["arms"] if entry["arm"] == arm)
        moment = curve_of(results, arm)[2]
        for name in ("new", "english"):
            assert moment["scores"][name]["mean"] == pytest.approx(run["scores"][name]["mean"], rel=1e-12)


def test_keeping_changes_no_training_and_equal_arms_share_moments(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, results = ran
    alone = mnemos.run(make_study(folder, arms=ARMS, train=TRAIN, health=False), out=folder / "alone", quiet=True)
    for one, other in zip(results["arms"], alone.results["arms"], strict=True):
        for key in ("losses", "scores", "counts"):
            assert one["runs"][0][key] == other["runs"][0][key]
        assert "trajectory" not in other["runs"][0]
    assert "trajectory" not in alone.results
    assert curve_of(results, "plain") == curve_of(results, "twin")
    steps = [path.name for path in (folder / "run" / "steps").iterdir()]
    # plain and twin share one training of the half-way arm too, whose moments are sums of their own.
    assert sum(name.startswith("train-") for name in steps) == 2
    assert sum(name.startswith("weights-") for name in steps) == 3
    assert sum(name.startswith("measure-") for name in steps) == 1 + 3 * 3
    assert not list((folder / "run" / "steps").glob("train-*/moments/*.safetensors"))


def test_the_reward_of_a_stretch_is_the_mean_of_its_steps(ran: tuple[Path, dict[str, Any]]) -> None:
    _, results = ran
    (run,) = next(entry["runs"] for entry in results["arms"] if entry["arm"] == "grpo")
    each = dict(run["noted"]["reward"])
    for first, row in zip(ENDS, run["trajectory"][1:], strict=False):
        own = [each[step] for step in range(first + 1, row["step"] + 1)]
        assert row["noted"]["reward"] == pytest.approx(sum(own) / len(own), rel=1e-6)
    assert run["trajectory"][0]["noted"] == {}
    assert run["cost"]["trajectory_seconds"] > 0


def test_killed_and_continued_gives_the_same_curve(tmp_path: Path) -> None:
    """The kill lies behind the first moment, which is not made again, and mostly before the second."""
    train = {**TRAIN, "max_steps": 15, "save_steps": 1}
    plain = {"plain": {"max_steps": 3, "save_steps": 0}}
    study = make_study(
        tmp_path, arms={"grpo": ARMS["grpo"]}, trajectory=TRAJECTORY, train=train, arm_train=plain, health=False
    )
    whole = mnemos.run(study, out=tmp_path / "whole", quiet=True)
    broken = tmp_path / "broken"
    process = start(study, broken)
    for pattern in (
        "steps/measure-*/done.json",
        "steps/train-*/done.json",
        "steps/train-*/checkpoints/*-[6-9]/mnemos.json",
    ):
        wait_for(broken, process, pattern, 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "results.json").exists(), "the study was too quick to be killed"
    (first,) = (broken / "steps").glob("train-*/moments/1.safetensors")
    kept = first.stat().st_mtime_ns
    seen: list[int] = []
    restore = moments.Keep.restore

    def look(self: moments.Keep, number: int) -> None:
        seen.append((self.folder / "1.safetensors").stat().st_mtime_ns)
        restore(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments.Keep, "restore", look)
        continued = mnemos.run(study, out=broken, quiet=True)
    assert seen == [kept, kept]
    assert without_timings(continued.results) == without_timings(whole.results)
    assert [row["step"] for row in curve_of(dict(continued.results), "grpo")] == [0, 5, 10, 15]


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    def planned(**changes: Any) -> str:
        return "\n".join(plan_lines(make_study(tmp_path, arms={}, **changes)))

    assert planned(trajectory=TRAJECTORY, train=TRAIN).count("of 3 stretches: measure-") == 2
    with pytest.raises(UsageError, match=r"(?s)trajectory\.suites: nwe.*did you mean .new"):
        planned(trajectory={"suites": ["nwe"]})
    with pytest.raises(UsageError, match="moments"):
        planned(trajectory={"suites": ["new"], "moments": 1})
    teach = [{"data": "new.jsonl", "suites": ["new.yaml"]}, {"data": "old.jsonl", "suites": ["old.yaml"]}]
    with pytest.raises(UsageError, match="single task"):
        planned(trajectory=TRAJECTORY, teach=teach, suites={})
    few = make_study(tmp_path, arms={}, trajectory={"suites": ["new"], "moments": 8}, train=TRAIN)
    with pytest.raises(UsageError, match=r"trajectory\.moments = 8: is more than the 7 steps"):
        mnemos.run(few, out=tmp_path / "run", quiet=True)


def test_the_ledger_and_the_page_show_it(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, results = ran
    page = (folder / "run" / "report.html").read_text()
    assert 'id="trajectory"' in page
    assert page.count('data-mark="trajectory new"') == 2 * 4 * len(results["arms"])
    assert read_json(folder / "run" / "results.json")["trajectory"] == results["trajectory"]
