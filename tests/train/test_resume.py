"""Stopped at any moment, the same call continues and ends in the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.plan import Likelihood
from mnemos.methods.gradient.projection import AveragedMemory
from mnemos.methods.objective.ewc import EWCPenalty
from mnemos.train.likelihood import TrainResult, train
from mnemos.train.resume import Mark, clear, latest, write_mark
from tests.train.making import Lora, Unlearn, plan, texts, weights
from tests.train.stall import Stall, rewarded, stalling

ROOT = Path(__file__).parents[2]


def _same(one: Any, other: Any) -> bool:
    left, right = weights(one.model), weights(other.model)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def unbroken(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """The full fine-tune that nothing stopped."""
    return train(stalling(llama, False, Stall()), tmp_path_factory.mktemp("unbroken"), quiet=True)


def _killed(model: Path, out: Path, calls: int, *rest: str) -> None:
    command = [sys.executable, "-m", "tests.train.stall", str(model), str(out), str(calls), *rest]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
    assert line == "stalled\n", errors
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("kind", [(), ("lora",)], ids=["full", "lora"])
def test_killed_and_continued_equals_unbroken(
    llama: Path, tmp_path: Path, kind: tuple[str, ...], unbroken: TrainResult
) -> None:
    """13 rows are 7 micro-batches and 4 steps a pass; the 19th lies in step 11, after checkpoint 9."""
    lora = bool(kind)
    if lora:
        unbroken = train(stalling(llama, lora, Stall()), tmp_path / "unbroken", quiet=True)
    out = tmp_path / "broken"
    _killed(llama, out, 19, *kind)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["checkpoint-6", "checkpoint-9"]
    assert not (out / "model").exists()
    counting = Stall()
    continued = train(stalling(llama, lora, counting), out, quiet=True)
    # Steps 10 to 12: two, two and one micro-batches.
    assert len(counting.calls) == 5
    assert continued.losses == unbroken.losses
    assert _same(continued, unbroken)
    for name in ("steps", "tokens", "supervised_tokens", "counts", "first_tokens"):
        assert getattr(continued, name) == getattr(unbroken, name)
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize(("calls", "step"), [(8, 3), (9, 4)], ids=["within a batch", "between batches"])
def test_killed_between_drawing_and_learning(llama: Path, tmp_path: Path, calls: int, step: int) -> None:
    """Two micro-batches a step: the 8th lies in step 4, which learns from answers drawn before step 3."""
    unbroken = train(rewarded(llama, Stall()), tmp_path / "unbroken", quiet=True)
    out = tmp_path / "broken"
    _killed(llama, out, calls, "ppo")
    assert f"checkpoint-{step}" in [path.name for path in (out / "checkpoints").iterdir()]
    counting = Stall()
    continued = train(rewarded(llama, counting), out, quiet=True)
    assert len(counting.calls) == 2 * (8 - step)
    assert _same(continued, unbroken)
    for name in ("steps", "losses", "tokens", "supervised_tokens", "counts", "noted"):
        assert getattr(continued, name) == getattr(unbroken, name)
    assert len(continued.noted["reward"]) == 3


def _stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("call", [4, 7, 8, 13])
def test_interrupted_says_where_and_continues(
    llama: Path, tmp_path: Path, call: int, unbroken: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first save, right after it, at a pass's first micro-batch, and after two saves."""
    with pytest.raises(KeyboardInterrupt):
        train(stalling(llama, False, Stall(call, _stop)), tmp_path / "broken")
    text = capsys.readouterr().err
    assert "stopped at step" in text
    assert ("continues from step" in text) == (call > 6)
    continued = train(stalling(llama, False, Stall()), tmp_path / "broken", quiet=True)
    assert continued.losses == unbroken.losses
    assert _same(continued, unbroken)


@dataclass(frozen=True)
class Pull:
    """Half the squared distance from the start of the stage."""

    def loss(self, view: Any) -> torch.Tensor:
        start = view.references.start()
        moved = [(value - start[name]).square().sum() for name, value in view.model.named_parameters()]
        return 0.5 * view.share * torch.stack(moved).sum()


def test_the_start_of_the_stage_survives_a_stop(llama: Path, tmp_path: Path, unbroken: TrainResult) -> None:
    def pulled(stall: Stall) -> Any:
        return replace(stalling(llama, False, stall), objective=(Likelihood(), Pull(), stall))

    whole = train(pulled(Stall()), tmp_path / "whole", quiet=True)
    assert not _same(whole, unbroken)
    with pytest.raises(KeyboardInterrupt):
        train(pulled(Stall(12, _stop)), tmp_path / "broken", quiet=True)
    assert _same(train(pulled(Stall()), tmp_path / "broken", quiet=True), whole)


CONTINUED: dict[str, dict[str, Any]] = {
    "a_gem": {"gradient": (AveragedMemory(texts(5), 3, 1),), "weigh": (Unlearn(),)},
    "ewc": {"objective": (Likelihood(), EWCPenalty(100.0, texts(5), 4, "empirical", 1))},
    "a_gem-lora": {"gradient": (AveragedMemory(texts(5), 3, 1),), "weigh": (Unlearn(),), "trainable": Lora()},
    "ewc-lora": {"objective": (Likelihood(), EWCPenalty(100.0, texts(5), 9, "model", 1)), "trainable": Lora()},
}


@pytest.mark.parametrize("kind", CONTINUED)
def test_what_was_made_at_the_start_survives_a_stop(llama: Path, tmp_path: Path, kind: str) -> None:
    """The Fisher information is of the start weights again, and each step meets the same old rows."""
    without = {"a_gem": {"gradient": ()}, "ewc": {"objective": (Likelihood(),)}}[kind.split("-")[0]]

    def changed(stall: Stall) -> Any:
        given = replace(stalling(llama, False, stall), **CONTINUED[kind])
        return replace(given, objective=(*given.objective, stall) if stall not in given.objective else given.objective)

    whole = train(changed(Stall()), tmp_path / "whole", quiet=True)
    assert not _same(whole, train(replace(changed(Stall()), **without), tmp_path / "without", quiet=True))
    with pytest.raises(KeyboardInterrupt):
        train(changed(Stall(14, _stop)), tmp_path / "broken", quiet=True)
    assert _same(train(changed(Stall()), tmp_path / "broken", quiet=True), whole)


def test_another_plan_does_not_continue_from_it(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(stalling(llama, False, Stall(19, _stop)), tmp_path, quiet=True)
    changed = plan(llama, save_steps=3)
    counting = Stall()
    changed = replace(changed, objective=(Likelihood(), counting))
    result = train(changed, tmp_path, quiet=True)
    assert len(counting.calls) == result.steps == 8


def _mark(folder: Path, step: int, training: str = "mine") -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    write_mark(path, Mark(training, step, [[step, 0.5]], []))
    return path


def test_only_complete_checkpoints_of_this_training_count(tmp_path: Path) -> None:
    assert latest(tmp_path / "none", "mine") is None
    _mark(tmp_path, 9)
    best = _mark(tmp_path, 10)
    _mark(tmp_path, 12, "another")
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-13").mkdir()
    (tmp_path / "checkpoint-13" / "mnemos.json").write_text(json.dumps({"step": 13})[:-4])
    found = latest(tmp_path, "mine")
    assert found is not None
    assert found[0] == best
    assert found[1].losses == [[10, 0.5]]
    (tmp_path / "runs").mkdir()
    clear(tmp_path, keep=best)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "runs"]
