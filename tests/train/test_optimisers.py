"""What optimisers take, against what they take."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from transformers.optimization import Adafactor
from transformers.trainer_optimizer import _BITSANDBYTES_OPTIMIZERS, _TORCHAO_OPTIMIZERS

from mnemos.core.errors import UsageError
from mnemos.train.optimisers import PACKAGES, check_optimiser, package_of, taken
from tests.tiny import tiny_model, tiny_tokenizer


def test_every_optimiser_of_these_packages_is_known() -> None:
    assert set(PACKAGES["bitsandbytes"]) == {name.value for name in _BITSANDBYTES_OPTIMIZERS}
    assert set(PACKAGES["torchao"]) == {name.value for name in _TORCHAO_OPTIMIZERS}
    assert package_of("adamw_torch") is package_of("adafactor") is None


@pytest.mark.parametrize("optim", ["adamw_bnb_8bit", "paged_adamw_32bit", "adamw_torch_8bit"])
def test_an_absent_package_is_named_with_a_cure(optim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=f"(?s)train.optim = {optim}.*needs the package {package_of(optim)}.*adafactor"
    ):
        check_optimiser(optim)
    check_optimiser("adamw_torch")


def test_bitsandbytes_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UsageError, match="needs a GPU"):
        check_optimiser("paged_adamw_8bit")


def state_bytes(optimiser: Any, model: Any) -> int:
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    optimiser.step()
    states = [one for state in optimiser.state.values() for one in state.values()]
    return sum(one.numel() * one.element_size() for one in states if isinstance(one, torch.Tensor) and one.dim())


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "adafactor", "rmsprop", "adagrad"])
def test_states_are_as_large_as_they_are(optim: str) -> None:
    model = tiny_model(tiny_tokenizer())
    made = {
        "adamw_torch": lambda p: torch.optim.AdamW(p),
        "sgd": lambda p: torch.optim.SGD(p),
        "adafactor": lambda p: Adafactor(p, lr=1e-3, scale_parameter=False, relative_step=False),
        "rmsprop": lambda p: torch.optim.RMSprop(p),
        "adagrad": lambda p: torch.optim.Adagrad(p),
    }[optim](model.parameters())
    found = taken(optim, [tuple(value.shape) for value in model.parameters()], on_gpu=False).states
    assert found == state_bytes(made, model)


def test_paged_states_are_not_on_the_gpu() -> None:
    assert taken("paged_adamw_32bit", [(10, 10)], on_gpu=True).states == 0
    assert taken("adamw_bnb_8bit", [(10, 10)], on_gpu=True).states == 200
