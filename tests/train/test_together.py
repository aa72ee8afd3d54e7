"""Two gloo processes learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnemos.train.likelihood import TrainResult, train
from tests.train.making import weights
from tests.train.together import KINDS, together

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def launched(module: str, model: Path, out: Path) -> None:
    """Run a module in two gloo processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", module, str(model), str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def assert_same(alone: TrainResult, both: Mapping[str, Any]) -> None:
    """One process and several, whose result is read from a file, learned the same."""
    assert alone.steps == both["steps"]
    assert [step for step, _ in both["losses"]] == [step for step, _ in alone.losses]
    # A divergence near 0 is rounding.
    assert np.allclose([loss for _, loss in both["losses"]], [loss for _, loss in alone.losses], rtol=1e-5, atol=1e-6)
    for name in ("tokens", "supervised_tokens", "counts", "trainable_parameters", "total_parameters"):
        assert both[name] == getattr(alone, name)
    assert both["noted"].keys() == alone.noted.keys()
    for name, points in alone.noted.items():
        assert np.allclose(both["noted"][name], points, rtol=1e-4, atol=1e-6)
    one, other = weights(alone.model), weights(both["model"])
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)


@pytest.fixture(scope="module")
def pair(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds trained by two processes, one launch."""
    out = tmp_path_factory.mktemp("pair")
    launched("tests.train.together", llama, out)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_does(llama: Path, tmp_path: Path, pair: Path, kind: str) -> None:
    """11 rows in steps of 4, 4 and 3: a step that two processes share unevenly is among them."""
    alone = train(together(llama, KINDS[kind]), tmp_path, quiet=True)
    both = json.loads((pair / kind / "result.json").read_text())
    assert alone.steps == 6
    assert_same(alone, both)
    assert (pair / kind / "model" / "adapter_config.json").exists() == (kind == "lora")
    assert not (pair / kind / "checkpoints").exists()
