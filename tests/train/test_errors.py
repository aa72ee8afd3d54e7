"""What stops a training, and what it says."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from mnemos.core.errors import DataError, ModelError, RunError, UsageError
from mnemos.core.nouns import Example, Tokens, Turn
from mnemos.core.plan import Likelihood, ModelHandle
from mnemos.train.likelihood import train
from tests.train.making import Few, Lora, pairs, plan


@dataclass(frozen=True)
class Constant:
    """The same weight everywhere."""

    value: float

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        return [dataclasses.replace(row, weight=np.full(len(row), self.value, np.float32)) for row in rows]


def test_all_zero_weight_is_refused_with_counts(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all-zero loss weight: 0 of 217 tokens in 13 of 13 examples"):
        train(plan(llama, weigh=(Constant(0.0),)), tmp_path, quiet=True)


def test_too_long_examples_are_refused_with_the_bound(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"13 examples, the shortest of .* max_length = 3") as caught:
        train(plan(llama, max_length=3), tmp_path, quiet=True)
    assert "truncate" in str(caught.value)


def test_nothing_to_learn_from(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gives no examples"):
        train(plan(llama, examples=Few((), "none")), tmp_path, quiet=True)


def test_a_careless_weighing_method_is_caught(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Constant.*not a finite number"):
        train(plan(llama, weigh=(Constant(float("nan")),)), tmp_path, quiet=True)

    @dataclass(frozen=True)
    class Drops:
        def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> Sequence[Tokens]:
            return rows[1:]

    with pytest.raises(ModelError, match="Drops: changed the rows"):
        train(plan(llama, weigh=(Drops(),)), tmp_path, quiet=True)


@dataclass(frozen=True)
class Breaks:
    """Turns the loss (or only the gradients) into NaN at one call."""

    call: int
    gradients: bool = False
    calls: list[int] = dataclasses.field(default_factory=list, compare=False)

    def loss(self, view: Any) -> torch.Tensor:
        self.calls.append(1)
        if len(self.calls) != self.call:
            return 0 * view.logits.sum()
        if self.gradients:
            # d sqrt(x) / dx at 0 is infinite, times 0 is NaN; the value is 0.
            return (0 * view.logits).square().sum().sqrt()
        return view.logits.sum() * float("nan")


@pytest.mark.parametrize("gradients", [False, True], ids=["loss", "gradients"])
def test_a_loss_that_is_no_number_stops_at_its_step(llama: Path, tmp_path: Path, gradients: bool) -> None:
    broken = plan(llama, objective=(Likelihood(), Breaks(3, gradients)), save_steps=2)
    with pytest.raises(ModelError, match=r"step 3: the (loss|gradient norm) is nan") as caught:
        train(broken, tmp_path, quiet=True)
    assert "learning_rate" in str(caught.value)
    assert not (tmp_path / "model").exists()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]


@dataclass(frozen=True)
class Narrow:
    """Adapters on a base in float16 whose logits are beyond what it holds."""

    learning_rate: float | None = None

    def prepare(self, model: Any) -> Any:
        with torch.no_grad():
            model.lm_head.weight.fill_(0).view(-1)[::2] = 6e4
        adapted = Lora().prepare(model)
        for parameter in adapted.parameters():
            parameter.data = parameter.data if parameter.requires_grad else parameter.data.half()
        return adapted


def test_an_overflow_of_float16_names_the_dtype_and_not_the_learning_rate(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"step 1: the loss is (nan|inf)") as caught:
        train(plan(llama, trainable=Narrow()), tmp_path, quiet=True)
    assert "float16" in caught.value.bound
    assert "65,504" in caught.value.bound
    assert "bfloat16 or float32" in caught.value.cure
    assert "learning_rate" not in str(caught.value)


def test_a_learning_rate_that_explodes_is_explained(llama: Path, tmp_path: Path) -> None:
    given = plan(llama, num_train_epochs=5)
    # A study refuses such a rate before; what explodes at a rate that it allows ends in the same words.
    wild = dataclasses.replace(given, train=given.train.model_copy(update={"learning_rate": 1e30}))
    with pytest.raises(ModelError, match="must be finite"):
        train(wild, tmp_path, quiet=True)


def test_a_model_in_which_nothing_may_move(llama: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Still:
        learning_rate: float | None = None

        def prepare(self, model: Any) -> Any:
            return model.requires_grad_(False)

    with pytest.raises(ModelError, match=r"0 of [0-9]+ parameters may move"):
        train(plan(llama, trainable=Still()), tmp_path, quiet=True)


@pytest.mark.parametrize("wrong", [{"lr_scheduler_type": "cosinus"}, {"optim": "adamm"}, {"report_to": ("wandbee",)}])
def test_settings_that_transformers_refuses(llama: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))[:5].strip("('")):
        train(plan(llama, **wrong), tmp_path, quiet=True)


def test_a_full_disk_is_said_and_leaves_no_half_model(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(RunError, match="the disk is full"):
        train(plan(llama), tmp_path, quiet=True)
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "error",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/3: file write failed",
        "[enforce fail at inline_container.cc:672] . unexpected pos 312256 vs 312144",
    ],
)
def test_wrapped_messages_of_a_full_disk_are_understood(error: str, tmp_path: Path) -> None:
    from mnemos.train.save import full_disk

    with pytest.raises(RunError, match="the disk is full"), full_disk(tmp_path):
        raise RuntimeError(error)
    with pytest.raises(RuntimeError, match="other"), full_disk(tmp_path):
        raise RuntimeError("other")


def test_a_message_without_assistant_has_nothing_to_teach(llama: Path, tmp_path: Path) -> None:
    from tests.train.making import Output

    rows = Few((Example("u", "messages", (Turn("user", "hello"),)),), "user-only")
    with pytest.raises(DataError, match="all-zero loss weight"):
        train(plan(llama, examples=rows, weigh=(Output(),)), tmp_path, quiet=True)
    assert len(pairs().examples) == 13


def test_answers_that_are_not_in_the_data_are_not_learned_by_likelihood(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not learned here"):
        train(plan(llama, draw="sampled"), tmp_path, quiet=True)


def test_settings_reach_transformers_under_their_meaning(llama: Path, tmp_path: Path) -> None:
    from mnemos.train.arguments import training_arguments
    from tests.train.making import Lora

    given = plan(llama, warmup_ratio=0.1, data_seed=4, bf16=True, trainable=Lora(learning_rate=0.5), save_steps=7)
    made = training_arguments(given, tmp_path)
    assert made.get_warmup_steps(200) == 20
    assert (made.learning_rate, made.seed, made.bf16, made.save_steps) == (0.5, 0, True, 7)
    assert made.report_to == []
    assert plan(llama).train.save_steps is None
    assert training_arguments(plan(llama), tmp_path).save_strategy == "no"


def test_a_plan_keeps_its_fsdp_settings(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers writes into the mapping that it is given; a plan is named by its settings."""
    from mnemos.train.arguments import training_arguments

    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    given = plan(llama, fsdp=True, fsdp_config={"fsdp_version": 2})
    before = given.fingerprint
    made = training_arguments(given, tmp_path)
    assert made.fsdp_config["version"] == 2
    # One process has nobody to cut parameters up with; transformers would refuse to train.
    assert not made.fsdp
    assert made.fsdp_plugin_args is None
    assert given.train.fsdp_config == {"fsdp_version": 2}
    assert given.fingerprint == before


class Poison(TrainerCallback):  # type: ignore[misc]
    """An update that overflows: no loss is computed with these weights before they are saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step:
            next(model.parameters()).data[0, :2] = torch.inf


@pytest.mark.parametrize(("moments", "step"), [(0, 4), (2, 4), (2, 2)])
def test_weights_that_an_update_broke_are_not_saved(llama: Path, tmp_path: Path, moments: int, step: int) -> None:
    words = rf"step {step}: model.embed_tokens.weight after the update: 2 of [0-9,]+ values are not finite"
    with pytest.raises(ModelError, match=words) as caught:
        train(plan(llama, max_steps=4), tmp_path, moments=moments, quiet=True, callbacks=[Poison(step)])
    assert "lower train.learning_rate" in str(caught.value)
    assert not (tmp_path / "model").exists()
    assert len(list(tmp_path.glob("moments/*.safetensors"))) == (1 if moments and step > 2 else 0)


@dataclass(frozen=True)
class Halved:
    """Adapters on a base that is held in float16."""

    learning_rate: float | None = None

    def prepare(self, model: Any) -> Any:
        adapted = Lora().prepare(model)
        for parameter in adapted.parameters():
            parameter.data = parameter.data if parameter.requires_grad else parameter.data.half()
        return adapted


def test_weights_that_float16_broke_are_not_blamed_on_the_learning_rate(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"step 1: \S+ after the update: [0-9,]+ of [0-9,]+ values") as caught:
        train(plan(llama, trainable=Halved(), max_steps=1), tmp_path, quiet=True, callbacks=[Poison(1)])
    assert "float16, which this model is computed in, holds no number above 65,504" in caught.value.bound
    assert "compute in bfloat16 or float32" in caught.value.cure
    assert "learning_rate" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_broken_update_leaves_no_checkpoint_to_continue_from(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"step 2: .* after the update"):
        train(plan(llama, max_steps=4, save_steps=1), tmp_path, quiet=True, callbacks=[Poison(2)])
    assert [path.name for path in tmp_path.glob("checkpoints/checkpoint-*")] == ["checkpoint-1"]
