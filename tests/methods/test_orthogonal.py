"""O-LoRA: the penalty against numpy, and where earlier adapters are read from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.plan import PastTask, Term
from mnemos.methods.gradient.orthogonal import OrthogonalToPast, RightAngles, orthogonal
from mnemos.methods.trainable.parts import lora
from tests.laws import Handle, base_plan, rows
from tests.methods.families import build
from tests.methods.test_objective import view

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@dataclass(frozen=True)
class Started:
    model: Any


def trained(folder: Path, seed: int, targets: Any = ("q_proj", "down_proj"), rank: int = 3) -> Handle:
    """A step directory with an adapter beside its model, moved away from its start."""
    torch.manual_seed(seed)
    model = lora(base_plan(), rank=rank, targets=targets).trainable.prepare(build("llama"))
    model.save_pretrained(folder / "adapter")
    return Handle(str(folder / "model"), f"after-{seed}")


def begun(past: tuple[Handle, ...], targets: Any = ("q_proj", "down_proj")) -> tuple[RightAngles, Any]:
    torch.manual_seed(9)
    model = lora(base_plan(), rank=2, targets=targets).trainable.prepare(build("llama"))
    return OrthogonalToPast(0.5, past).begin(Started(model)), model  # type: ignore[arg-type]


def test_the_penalty_is_the_sum_of_absolute_products(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    past = (trained(tmp_path / "one", 1), trained(tmp_path / "two", 2, rank=4))
    term, model = begun(past)
    assert isinstance(term, Term)
    named = dict(model.named_parameters())
    expected = 0.0
    for handle in past:
        for name, old in load_file(Path(handle.path).parent / "adapter" / "adapter_model.safetensors").items():
            if "lora_A" in name:
                new = named[name.replace("lora_A.", "lora_A.default.")].detach().numpy()
                expected += np.abs(old @ new.T).sum()
    loss = term.loss(view(None, None, np.ones(1, np.float32), model=model, share=0.25))
    assert float(loss.detach()) == pytest.approx(0.5 * 0.25 * expected, rel=1e-5)
    loss.backward()
    live = {name for name, value in named.items() if value.grad is not None}
    assert live == {name for name in named if "lora_A" in name}


def test_at_right_angles_nothing_is_paid(tmp_path: Path) -> None:
    term, model = begun((trained(tmp_path / "one", 1),))
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, past in term.past.items():
            basis = torch.linalg.qr(past.T).Q
            named[name] -= named[name] @ basis @ basis.T
    loss = term.loss(view(None, None, np.ones(1, np.float32), model=model))
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)


def test_in_the_first_task_it_is_lora() -> None:
    first = base_plan(past=())
    assert orthogonal(first, rank=4).fingerprint == lora(first, rank=4).fingerprint
    assert orthogonal(base_plan(), rank=4, penalty=0).fingerprint == lora(base_plan(), rank=4).fingerprint


def test_each_earlier_task_must_have_left_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the earlier task left no adapter"):
        begun((Handle(str(tmp_path / "nothing" / "model")),))
    with pytest.raises(ModelError, match="adapts other layers than this stage"):
        begun((trained(tmp_path / "one", 1, targets=("o_proj",)),))
    without = dataclasses.replace(base_plan(), past=(PastTask("one", rows("one", 2), None),))
    with pytest.raises(UsageError, match="an earlier task has no checkpoint"):
        orthogonal(without)


def test_it_stands_alone() -> None:
    with pytest.raises(UsageError, match="two methods of one arm say what may move"):
        orthogonal(lora(base_plan()))
