"""A study from its file to results.json, with real training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import mnemos
from mnemos.core.errors import RunError, UsageError
from mnemos.core.files import write_json
from mnemos.study.config import load_study
from mnemos.study.experiment import build, describe
from mnemos.study.run import plan_lines
from tests.study.worlds import chat, make_study, without_timings, write_jsonl


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, mnemos.Record]:
    """One finished study, shared by the tests that only look at it."""
    folder = tmp_path_factory.mktemp("finished")
    arms = {
        "replay": [{"replay": {"data": "old.jsonl", "share_of_final": 0.25}}],
        "replay-off": [{"replay": {"data": "old.jsonl", "share_of_final": 0.0}}],
        "half": [{"weights": {"expression": "0.5*after + 0.5*before"}}],
        "lora": [{"lora": {"rank": 2}}],
    }
    study = make_study(folder, arms=arms, seeds=[0, 1])
    return folder, mnemos.run(study, out=folder / "run", quiet=True)


def test_results_hold_every_arm_suite_and_seed(finished: tuple[Path, mnemos.Record]) -> None:
    folder, record = finished
    on_disk = json.loads((folder / "run" / "results.json").read_text())
    assert on_disk == json.loads(json.dumps(record.results))
    arms = [arm["arm"] for arm in on_disk["arms"]]
    assert arms == ["plain", "replay", "replay-off", "half", "lora"]
    suites = ["new", "old", "english", "stop-rate:new", "repetition:new", "kl:new"]
    assert [(c["arm"], c["suite"]) for c in on_disk["comparisons"]] == [(a, s) for a in arms for s in suites]
    assert all([run["seed"] for run in arm["runs"]] == [0, 1] for arm in on_disk["arms"])
    assert all(c["seeds"] == 2 for c in on_disk["comparisons"])


def test_training_taught_something(finished: tuple[Path, mnemos.Record]) -> None:
    losses = finished[1].results["arms"][0]["runs"][0]["losses"]
    assert losses[-1][1] < losses[0][1]


def test_an_off_method_is_the_plain_arm_and_shares_its_training(finished: tuple[Path, mnemos.Record]) -> None:
    folder, record = finished
    by_arm = {arm["arm"]: arm for arm in record.results["arms"]}
    assert without_timings(by_arm["replay-off"]["runs"]) == without_timings(by_arm["plain"]["runs"])
    assert by_arm["replay-off"]["history"][-1]["off"] is True
    trainings = [path for path in (folder / "run" / "steps").iterdir() if path.name.startswith("train-")]
    assert len(trainings) == 2 * 3  # plain, replay and lora, two seeds each


def test_people_find_models_and_answers_by_arm_and_seed(finished: tuple[Path, mnemos.Record]) -> None:
    run = finished[0] / "run"
    for place in ("before/answers/new.jsonl", "arms/plain/seed-0/model/config.json", "arms/lora/seed-1/plan.json"):
        assert (run / place).is_file(), place
    assert (run / "report.html").stat().st_size > 1000
    assert "replay" in (run / "study.yaml").read_text()


def test_an_added_arm_measures_and_trains_nothing_again(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    steps = tmp_path / "run" / "steps"
    stamps = {path: path.stat().st_mtime_ns for path in steps.glob("*/done.json")}
    more = {"arms.kl": [{"kl_to_before": {"coefficient": 0.5}}]}
    record = mnemos.run(study, out=tmp_path / "run", overrides=more, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list(steps.glob("*/done.json"))) == len(stamps) + 2
    assert [arm["arm"] for arm in record.results["arms"]] == ["plain", "replay", "kl"]


def test_changed_rows_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path)
    first = mnemos.run(study, out=tmp_path / "run")
    write_jsonl(tmp_path / "old.jsonl", [chat(n, f"Add {n} and 2.", str(n + 2)) for n in range(24)])
    noted = json.loads((tmp_path / "run" / "inputs.json").read_text())
    write_json(tmp_path / "run" / "inputs.json", {**noted, "the version of torch": "1.0"})
    second = mnemos.run(study, out=tmp_path / "run")
    notes = capsys.readouterr().err
    assert "changed since the last run: rows of replay, new; what depends on it is done again" in notes
    assert f"the version of torch (1.0 then, {torch.__version__} now); every step is done again" in notes
    losses = [[run["losses"] for arm in record.results["arms"] for run in arm["runs"]] for record in (first, second)]
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_dry_run_prints_every_plan_and_trains_nothing(tmp_path: Path) -> None:
    lines = plan_lines(make_study(tmp_path))
    text = "\n".join(lines)
    assert "share_of_final=0.25" in text
    assert "arXiv" in text
    # What each step takes of memory is said beside the plans.
    assert sum("seed 0" in line for line in lines if not line.startswith("room")) == 2
    assert not (tmp_path / "runs").exists()


def test_an_arm_with_its_own_rows_is_the_arm_that_a_study_of_these_rows_would_train(tmp_path: Path) -> None:
    given = {"arms": {"other": []}, "arm_data": {"other": {"new": "old.jsonl"}}}
    own = build(*load_study(make_study(tmp_path, **given)), tmp_path / "run")
    whole = build(*load_study(make_study(tmp_path, arms={}, teach={"data": "old.jsonl", "name": "new"})), tmp_path)
    plans = {run.arm: run.last.plan for run in own.runs}
    assert plans["other"].examples.fingerprint != plans["plain"].examples.fingerprint
    assert list(plans["other"].examples) == list(whole.runs[0].last.plan.examples)
    assert any(line.endswith("(arm other)") and "old" in line for line in describe(own))


def test_a_sequence_gives_the_score_matrix(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "two.jsonl", [chat(n, f"Add {n} and 1.", str(n + 1)) for n in range(16)])
    teach = [{"data": "new.jsonl", "suites": ["new.yaml"]}, {"data": "two.jsonl", "suites": ["old.yaml"]}]
    arms = {"replay": [{"replay": {"share_of_final": 0.2}}]}
    study = make_study(tmp_path, health=False, teach=teach, arms=arms, suites={})
    results = mnemos.run(study, out=tmp_path / "run", quiet=True).results
    matrix = results["matrix"]
    assert matrix["tasks"] == ["new", "two"]
    assert set(matrix["arms"]) == {"plain", "replay"}
    rows = matrix["arms"]["replay"]["seeds"]["0"]
    assert [len(row) for row in rows] == [2, 2]
    metrics = matrix["arms"]["plain"]["metrics"]
    final = matrix["arms"]["plain"]["seeds"]["0"][-1]
    assert metrics["average_accuracy"]["mean"] == pytest.approx(sum(final) / 2)
    assert {"backward_transfer", "forward_transfer", "forgetting", "intransigence"} <= set(metrics)
    assert [arm["arm"] for arm in results["arms"]] == ["plain", "replay", "joint"]
    counts = next(arm for arm in results["arms"] if arm["arm"] == "replay")["runs"][0]["counts"]
    assert counts["origin replay"] == 4


def test_several_orders_are_several_sequences_and_one_mean(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "two.jsonl", [chat(n, f"Add {n} and 1.", str(n + 1)) for n in range(16)])
    teach = [{"data": "new.jsonl", "suites": ["new.yaml"]}, {"data": "two.jsonl", "suites": ["old.yaml"]}]
    train = {"learning_rate": 1e-3, "max_steps": 2, "logging_steps": 1}
    study = make_study(tmp_path, health=False, teach=teach, arms={}, suites={}, orders="all", train=train)
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    matrix = record.results["matrix"]
    assert [order["tasks"] for order in matrix["orders"]] == [["new", "two"], ["two", "new"]]
    assert matrix["over"] == "order"
    each = [order["arms"]["plain"]["metrics"]["average_accuracy"]["mean"] for order in matrix["orders"]]
    assert matrix["arms"]["plain"]["metrics"]["average_accuracy"]["mean"] == pytest.approx(sum(each) / 2)
    plain, joint = record.results["arms"]
    assert [run["order"] for run in plain["runs"]] == [["new", "two"], ["two", "new"]]
    assert "order" not in joint["runs"][0]
    assert all(c["seeds"] == (2 if c["arm"] == "plain" else 1) for c in record.comparisons)
    trainings = [path for path in (tmp_path / "run" / "steps").iterdir() if path.name.startswith("train-")]
    assert len(trainings) == 5, "two tasks, in two orders, and the joint arm"
    assert (tmp_path / "run" / "arms" / "plain" / "order-2" / "seed-0" / "stage-0-two" / "plan.json").is_file()
    text = record.report("text")
    assert "plain, mean of 2 orders: all tasks" in text
    assert "plain, order two, new: score on each task" in text


RUN = "import sys, mnemos; mnemos.run(sys.argv[1], out=sys.argv[2], quiet=True)"


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(study), str(out)], cwd=Path(__file__).parents[2])


def wait_for(path: Path, process: subprocess.Popen[bytes], pattern: str, count: int) -> None:
    """Until `count` files match, or the process ended by itself."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if len(list(path.glob(pattern))) >= count or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError(f"{pattern} never appeared {count} times under {path}")


TRAINING = ("steps/train-*/checkpoints/checkpoint-*", 2)
MOMENTS = [("steps/measure-*", 1), TRAINING, ("steps/train-*/done.json", 1), ("steps/measure-*/answers/*", 5)]


@pytest.mark.parametrize(
    "moments", [[TRAINING], pytest.param(MOMENTS, marks=pytest.mark.slow)], ids=["in training", "at four moments"]
)
def test_killed_and_continued_ends_with_the_same_results(tmp_path: Path, moments: list[tuple[str, int]]) -> None:
    train = {"learning_rate": 1e-3, "num_train_epochs": 4, "per_device_train_batch_size": 4, "save_steps": 4}
    study = make_study(tmp_path, arms={}, train={**train, "logging_steps": 1})
    whole = mnemos.run(study, out=tmp_path / "whole", quiet=True)
    broken = tmp_path / "broken"
    for pattern, count in moments:
        process = start(study, broken)
        wait_for(broken, process, pattern, count)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (broken / "results.json").exists(), "the study was too quick to be killed"
    continued = mnemos.run(study, out=broken, quiet=True)
    assert without_timings(continued.results) == without_timings(whole.results)


def test_a_second_run_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    train = {"learning_rate": 1e-3, "num_train_epochs": 400, "per_device_train_batch_size": 4}
    study = make_study(tmp_path, train=train)
    process = start(study, tmp_path / "run")
    try:
        wait_for(tmp_path / "run", process, "steps/measure-*/done.json", 1)
        with pytest.raises(RunError, match=f"is in use by process {process.pid}"):
            mnemos.run(study, out=tmp_path / "run", quiet=True)
    finally:
        process.kill()
        process.wait()


def test_an_unwritable_run_directory_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="choose another --out"):
        mnemos.run(make_study(tmp_path), out=tmp_path / "file" / "run", quiet=True)


def test_replay_without_data_outside_a_sequence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data"):
        plan_lines(make_study(tmp_path, arms={"replay": [{"replay": {"share_of_final": 0.1}}]}))


@pytest.mark.slow
def test_two_processes_learn_and_measure_what_one_does(tmp_path: Path) -> None:
    """They share the rows of a step and the suites of a measurement, each with one thread as the one has."""
    train = {"learning_rate": 1e-3, "max_steps": 6, "logging_steps": 1, "per_device_train_batch_size": 8}
    two = make_study(tmp_path, train=train, arms={})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        single = mnemos.run(two, out=tmp_path / "one", quiet=True)
    finally:
        torch.set_num_threads(threads)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    words = [*launcher, "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    script = tmp_path / "launch.py"
    script.write_text(f"import mnemos\nmnemos.run({str(two)!r}, out={str(tmp_path / 'two')!r}, quiet=True)\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*words, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    both: list[Any] = [single.results, json.loads((tmp_path / "two" / "results.json").read_text())]
    losses = [[loss for _, loss in results["arms"][0]["runs"][0]["losses"]] for results in both]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    # Of the same weights, the same answers to the last bit.
    answers = [sorted((tmp_path / out / "before" / "answers").iterdir()) for out in ("one", "two")]
    assert [path.name for path in answers[0]] == [path.name for path in answers[1]]
    assert [path.read_bytes() for path in answers[0]] == [path.read_bytes() for path in answers[1]]
    assert not list((tmp_path / "two").glob("steps/*/journal*"))
