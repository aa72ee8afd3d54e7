"""Studies in which a model writes rows before it is trained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mnemos
from mnemos.core.errors import DataError
from mnemos.core.method import REGISTRY
from mnemos.models.load import Checkpoint
from mnemos.study import synthesis as synthesis
from mnemos.study.run import plan_lines
from mnemos.study.steps import StepModel, WeightsStep, execute
from tests.study.worlds import make_study, without_timings
from tests.study.writer import continued

PIECE = 4


@pytest.fixture(autouse=True)
def _method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "continued", continued)
    monkeypatch.setattr(synthesis, "PIECE_ROWS", PIECE)


def test_rows_are_written_once_for_all_arms_and_accounted_for(tmp_path: Path) -> None:
    arms = {
        "own": [{"continued": {"share": 0.5}}],
        "own-lora": [{"continued": {"share": 0.5}}, {"lora": {"rank": 2}}],
        "off": [{"continued": {"share": 0.0}}],
        "twice": [{"continued": {"share": 0.5, "twice": True}}],
    }
    study = make_study(tmp_path, arms=arms, health=False)
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    steps = sorted(path.name for path in (tmp_path / "run" / "steps").iterdir() if path.name.startswith("write-"))
    assert len(steps) == 2, "own, own-lora and the inner rows of twice are one step"
    runs = {arm["arm"]: arm["runs"][0] for arm in record.results["arms"]}
    assert "written" not in runs["plain"]
    assert "writing_seconds" not in runs["plain"]["cost"]
    assert without_timings(runs["off"]) == without_timings(runs["plain"])
    (own,) = runs["own"]["written"]
    assert own["rows"] == own["counts"]["kept"] <= 48
    assert own["rows"] + own["counts"].get("empty", 0) == 48
    assert own["notes"] == {"answers a question": own["rows"] / 24}
    assert 0 < own["tokens"] <= 48 * 8
    assert runs["own-lora"]["written"] == [own]
    cost, plain = runs["own"]["cost"], runs["plain"]["cost"]
    assert cost["writing_seconds"] == own["seconds"] > 0
    assert cost["seconds"] > cost["writing_seconds"]
    assert (cost["written_rows"], cost["written_tokens"]) == (own["rows"], own["tokens"])
    assert "writing_seconds" not in plain
    assert runs["own"]["counts"]["origin replay"] == 24
    assert [len(runs[arm]["written"]) for arm in ("own", "twice")] == [1, 2]
    rows = [
        json.loads(line) for line in (tmp_path / "run/arms/own/seed-0/written-0/rows.jsonl").read_text().splitlines()
    ]
    assert len(rows) == own["rows"]
    assert rows[0]["messages"][0]["content"].startswith("Say ")


def test_dry_run_lists_what_is_written_and_loads_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Checkpoint) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(Checkpoint, "load", refuse)
    lines = plan_lines(make_study(tmp_path, arms={"own": [{"continued": {"twice": True}}]}))
    written = [line.strip() for line in lines if line.strip().startswith("write-")]
    assert [line.split(": ", 1)[1] for line in written] == ["2 answers to each question", "1 answers to each question"]


def test_nothing_usable_stops_with_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path, arms={"own": [{"continued": {}}]})
    monkeypatch.setattr("tests.study.writer.Continued.write", lambda self, context: [context.count("empty", 48)][:0])
    with pytest.raises(DataError, match=r"0 usable written rows \(empty: 48\)"):
        mnemos.run(study, out=tmp_path / "run", quiet=True)


def test_other_processes_wait_for_a_step_of_the_main_one_however_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: WeightsStep, directory: Path, quiet: bool) -> None:
        raise AssertionError("worked in the wrong process")

    monkeypatch.setattr(WeightsStep, "work", refuse)
    monkeypatch.setenv("RANK", "1")
    step = WeightsStep(StepModel(tmp_path, "train-0"), Checkpoint("nowhere"), (), "weights")
    monkeypatch.setattr(WeightsStep, "key", "weights-0")
    waiting = threading.Thread(target=execute, args=(step, tmp_path), kwargs={"quiet": True})
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    (tmp_path / "steps" / "weights-0").mkdir(parents=True)
    (tmp_path / "steps" / "weights-0" / "done.json").write_text("{}")
    waiting.join(30)
    assert not waiting.is_alive()


@pytest.mark.slow
def test_two_processes_write_the_rows_that_one_writes(tmp_path: Path) -> None:
    """Under torchrun: each asks half of the questions, and they train on the rows together."""
    study = make_study(
        tmp_path, arms={"own": [{"continued": {}}]}, health=False, train={"learning_rate": 1e-3, "max_steps": 1}
    )
    mnemos.run(study, out=tmp_path / "one", quiet=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = [*launch, "tests.study.writer", str(study), str(tmp_path / "two"), str(PIECE)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (rows,) = (tmp_path / "one").glob("steps/write-*/rows.jsonl")
    place = tmp_path / "two" / rows.parent.relative_to(tmp_path / "one")
    assert (place / "rows.jsonl").read_bytes() == rows.read_bytes()
    shares = [(place / name).read_bytes().count(b"\n") for name in ("journal.jsonl", "journal-1.jsonl")]
    assert shares == [6, 6]


def journal_lines(run: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in run.glob("steps/write-*/journal.jsonl"))


@pytest.mark.slow
def test_killed_while_writing_and_continued_ends_with_the_same_rows_and_results(tmp_path: Path) -> None:
    arms = {"own": [{"continued": {"times": 12}}]}
    study = make_study(tmp_path, arms=arms, health=False)
    whole = mnemos.run(study, out=tmp_path / "whole", quiet=True)
    pieces = journal_lines(tmp_path / "whole")
    assert pieces == 12 * 24 / PIECE
    broken, seen = tmp_path / "broken", 0
    for wanted in (3, 20):
        command = [sys.executable, "-m", "tests.study.writer", str(study), str(broken), str(PIECE)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        while process.poll() is None and journal_lines(broken) < wanted:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wanted <= journal_lines(broken) < pieces, "the writing was too quick to be killed"
        assert journal_lines(broken) >= seen
        seen = journal_lines(broken)
        assert not list(broken.glob("steps/write-*/done.json"))
    (journal,) = broken.glob("steps/write-*/journal.jsonl")
    first = journal.read_bytes().splitlines()[:seen]
    continued = mnemos.run(study, out=broken, quiet=True)
    assert journal.read_bytes().splitlines()[:seen] == first
    assert journal_lines(broken) == pieces
    (rows,) = (tmp_path / "whole").glob("steps/write-*/rows.jsonl")
    assert (broken / rows.relative_to(tmp_path / "whole")).read_bytes() == rows.read_bytes()
    assert without_timings(continued.results) == without_timings(whole.results)
