"""A training that is killed continues on another number of processes, and learns what an unbroken one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.models.load import load_model
from mnemos.train.arguments import micro_batches
from mnemos.train.likelihood import train
from mnemos.train.resharding import Layout, layout_of, load_optimiser, load_weights
from tests.train.making import plan
from tests.train.reshard import KINDS, REFUSED, planned
from tests.train.test_together import ROOT, assert_same

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 16))
def test_a_step_has_the_same_rows_for_any_number_of_processes(batch: int, times: int, processes: int) -> None:
    asked = plan(Path("m"), per_device_train_batch_size=batch, gradient_accumulation_steps=times)
    if batch * times % processes:
        with pytest.raises(UsageError, match=rf"{processes} processes.*cannot share the {batch * times} rows"):
            micro_batches(asked, processes)
        return
    rows, each = micro_batches(asked, processes)
    assert rows * each * processes == batch * times
    # A device never holds more than it was said to.
    assert rows <= batch


def test_a_gathered_checkpoint_is_read_into_a_whole_training(llama: Path, tmp_path: Path) -> None:
    """By name, in whatever order it was saved: weights and moments are those of before."""
    model = load_model(str(llama))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    optimiser.step()
    names = [name for name, _ in model.named_parameters()]
    state = dict(zip(names, optimiser.state_dict()["state"].values(), strict=True))
    settings = {key: value for key, value in optimiser.param_groups[0].items() if key != "params"}
    saved = {"state": dict(reversed(state.items())), "param_groups": [{**settings, "params": names[::-1]}]}
    torch.save(saved, tmp_path / "optimizer.bin")
    torch.save(dict(model.named_parameters()), tmp_path / "pytorch_model_fsdp.bin")
    assert layout_of(tmp_path) is Layout.FULL
    fresh = load_model(str(llama))
    other = torch.optim.AdamW(fresh.parameters(), lr=0.5)
    load_weights(fresh, tmp_path)
    load_optimiser(other, fresh, tmp_path)
    assert all(map(torch.equal, model.parameters(), fresh.parameters()))
    assert other.param_groups[0]["lr"] == 0.1
    for one, moments in zip(fresh.parameters(), optimiser.state_dict()["state"].values(), strict=True):
        assert all(torch.equal(other.state[one][key], moments[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def _command(processes: int, *rest: str) -> list[str]:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(several if processes > 1 else []), "-m", "tests.train.reshard", *rest]


def _begun(processes: int, model: Path, out: Path) -> None:
    """Every kind up to its checkpoint, the last of them killed in all processes at once."""
    command, env = _command(processes, str(model), str(out), "begin"), {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        lines = [run.stdout.readline() for _ in range(processes)]
        # A launcher has its processes in sessions of their own.
        for line in lines:
            if line.startswith("stalled"):
                os.kill(int(line.split()[1]), signal.SIGKILL)
        _, errors = run.communicate(timeout=120)
    assert all(line.startswith("stalled") for line in lines), errors[-3000:]
    for kind in KINDS:
        assert (out / kind / "checkpoints" / "checkpoint-4" / "mnemos.json").is_file()


@pytest.fixture(scope="module")
def fewer(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Begun by two processes."""
    out = tmp_path_factory.mktemp("fewer")
    _begun(2, llama, out)
    return out


@pytest.fixture(scope="module")
def more(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Begun by one process, ended by two."""
    out = tmp_path_factory.mktemp("more")
    _begun(1, llama, out)
    command, env = _command(2, str(llama), str(out), "end"), {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((out / "found.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_begun_by_two_and_ended_by_one(llama: Path, tmp_path: Path, fewer: Path, kind: str) -> None:
    result = train(planned(llama, kind), fewer / kind, quiet=True)
    unbroken = train(planned(llama, kind), tmp_path, quiet=True)
    assert_same(unbroken, vars(result))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_begun_by_one_and_ended_by_two(llama: Path, tmp_path: Path, more: dict[str, Any], kind: str) -> None:
    assert_same(train(planned(llama, kind), tmp_path, quiet=True), more[kind])


@pytest.mark.slow
def test_what_each_process_keeps_is_not_shared_out_anew(llama: Path, fewer: Path, more: dict[str, Any]) -> None:
    assert "2 processes: 1 began this training" in more[REFUSED]
    with pytest.raises(UsageError, match="1 process: 2 began this training"):
        train(planned(llama, REFUSED), fewer / REFUSED, quiet=True)
