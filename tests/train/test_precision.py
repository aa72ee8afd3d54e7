"""What a stage computes in, what it is saved in, and what rounding takes."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.files import read_json
from mnemos.core.progress import Work, working
from mnemos.methods.after.arithmetic import WeightExpression
from mnemos.methods.trainable.adapters import LowRank, Rescaled
from mnemos.models import precision
from mnemos.models.load import Checkpoint, load_model
from mnemos.train import likelihood, preflight
from mnemos.train.likelihood import train
from mnemos.train.rounding import Rounding
from mnemos.weights.precision import Precision, stored_precision
from tests.tiny import save_tiny
from tests.train.making import Lora, plan, weights
from tests.weights.test_precision import cast

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in bfloat16, on a machine that computes faster in float32."""
    monkeypatch.setattr(precision, "fast_dtype", lambda: "float32")
    folder = save_tiny(tmp_path / "half")
    cast(folder, torch.bfloat16)
    return folder


def asked(folder: Path, dtype: str) -> Checkpoint:
    return Checkpoint(str(folder), torch_dtype=dtype)


def test_it_is_saved_in_the_dtype_that_it_came_in(half: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with working(Work(lines.append)):
        result = train(plan(half), tmp_path / "own")
    wide = plan(half)
    whole = train(dataclasses.replace(wide, before=asked(half, "float32")), tmp_path / "wide", quiet=True)
    own, exact, before = weights(result.model), weights(whole.model), weights(half)
    assert own.keys() == exact.keys() == before.keys()
    assert all(torch.equal(own[name], exact[name].to(torch.bfloat16)) for name in own)
    assert all(value.dtype == torch.float32 for value in exact.values())
    assert read_json(Path(result.model) / "config.json")["dtype"] == "bfloat16"
    assert read_json(Path(whole.model) / "config.json")["dtype"] == "float32"

    def length(parts: Any) -> float:
        return float(np.sqrt(sum(float(part.double().square().sum()) for part in parts)))

    lost = length(own[name].float() - exact[name] for name in own)
    moved = length(exact[name] - before[name].float() for name in own)
    assert result.rounding == pytest.approx(lost / moved, rel=1e-4)
    assert (result.dtype, result.saved_dtype, whole.saved_dtype, whole.rounding) == (
        "float32",
        "bfloat16",
        "float32",
        0.0,
    )
    assert f"{100 * lost / moved:.2g} % of what training changed" in lines[-1]


@pytest.mark.parametrize(("came", "asked_for"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("bfloat16", None)])
def test_arithmetic_is_saved_in_the_dtype_that_was_asked_for(
    half: Path, tmp_path: Path, came: str, asked_for: str | None
) -> None:
    cast(half, getattr(torch, came))
    given = plan(half, trainable=Lora(), after=(WeightExpression("0.5*after + 0.5*before"),), max_steps=2)
    given = dataclasses.replace(given, before=Checkpoint(str(half), torch_dtype=asked_for))
    result = train(given, tmp_path / "out", quiet=True)
    wanted = asked_for or came
    assert {str(value.dtype) for value in weights(result.model).values()} == {f"torch.{wanted}"}
    assert read_json(Path(result.model) / "config.json")["dtype"] == result.saved_dtype == wanted


def test_an_adapter_that_is_kept_says_its_own_dtype(half: Path, tmp_path: Path) -> None:
    result = train(plan(half, trainable=Lora(), max_steps=1), tmp_path / "out", quiet=True)
    assert result.saved_dtype == "float32" != stored_precision(Path(result.model)).own


def test_tensors_of_several_dtypes_keep_theirs_and_tied_ones_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda: "float32")
    folder = save_tiny(tmp_path / "mixed", "gemma")
    cast(folder, torch.bfloat16, but="norm")
    result = train(plan(folder, max_steps=2), tmp_path / "out", quiet=True)
    before, after = weights(folder), weights(result.model)
    assert {name: value.dtype for name, value in after.items()} == {n: v.dtype for n, v in before.items()}


def test_checkpoints_are_never_rounded(half: Path, tmp_path: Path) -> None:
    """A training that was stopped goes on from float32, and ends with the same bits."""
    unbroken = train(plan(half, save_steps=1), tmp_path / "a", quiet=True)

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(plan(half, save_steps=1), tmp_path / "b", quiet=True, callbacks=[Stop()])
    kept = load_file(tmp_path / "b" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert all(value.dtype == torch.float32 for value in kept.values())
    again = train(plan(half, save_steps=1), tmp_path / "b", quiet=True)
    one, other = weights(unbroken.model), weights(again.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.rounding == unbroken.rounding


def test_what_the_dtype_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match=r"(?s)tensor x: 1 of 2 .*too large for float16.*torch_dtype: float32"):
        Rounding(Precision("float16"), None).saved({"x": torch.tensor([1.0, 1e6])})
    cast_one = Rounding(Precision("float16"), None)
    assert cast_one.saved({"x": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)})["n"].dtype == torch.int64
    assert cast_one.share is None


class Dtypes(TrainerCallback):  # type: ignore[misc]
    """What the model in training holds its weights in: those that move, and the others."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.bf16 = args.bf16
        self.moving = {p.dtype for p in model.parameters() if p.requires_grad}
        self.frozen = {p.dtype for p in model.parameters() if not p.requires_grad}


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_what_moves_is_float32_and_a_base_that_stays_is_held_as_it_came(
    half: Path, tmp_path: Path, fast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda: fast)
    seen = Dtypes()
    full = train(plan(half, max_steps=2), tmp_path / "full", quiet=True, callbacks=[seen])
    assert (seen.bf16, seen.moving, seen.frozen) == (fast == "bfloat16", {torch.float32}, set())
    lora = train(plan(half, trainable=Lora(), max_steps=2), tmp_path / "lora", quiet=True, callbacks=[seen])
    assert (seen.moving, seen.frozen) == ({torch.float32}, {getattr(torch, fast)})
    assert full.dtype == lora.dtype == fast
    given = plan(half, trainable=Lora(), max_steps=2, bf16=fast != "bfloat16")
    assert train(given, tmp_path / "set", quiet=True).dtype != fast


@pytest.mark.parametrize(
    "trainable",
    [
        LowRank("lora", 4, 8.0, 0.0, ("q_proj", "down_proj"), None),
        LowRank("dora", 2, 8.0, 0.0, ("q_proj",), None),
        LowRank("lora", 2, 8.0, 0.0, ("embed_tokens", "v_proj"), None),
        Rescaled(("keys", "values", "feedforward"), None),
    ],
    ids=["lora", "dora", "embeddings", "ia3"],
)
def test_a_merged_model_is_the_adapted_one_rounded_once(half: Path, tmp_path: Path, trainable: Any) -> None:
    given = plan(half, trainable=trainable, learning_rate=1e-2, keep_merged=True)
    result = train(given, tmp_path / "out", quiet=True)
    # By peft, in float32.
    exact = load_model(str(tmp_path / "out" / "adapter"), merge=True).state_dict()
    found = weights(result.model)
    assert found.keys() == exact.keys()
    assert all(value.dtype == torch.bfloat16 for value in found.values())
    for name, value in found.items():
        # One bit of the last place, where a sum that lies between two numbers was added up in another order.
        torch.testing.assert_close(value.float(), exact[name], rtol=2.0**-8, atol=1e-7)
    assert result.rounding is not None
    assert 0 < result.rounding < 1


def test_without_the_trained_logits_the_adapter_beside_its_base_is_the_reference(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnemos.train.save import merge_adapter
    from mnemos.weights import lora

    train(plan(half, trainable=Lora(), max_steps=2), tmp_path / "out", quiet=True)
    adapter, prompts = tmp_path / "out" / "model", {"input_ids": torch.arange(12)[None]}
    merge_adapter(adapter, Checkpoint(str(half)), prompts, None, tmp_path / "merged")
    assert next(iter(weights(tmp_path / "merged").values())).dtype == torch.bfloat16
    monkeypatch.setattr(lora.LowRank, "apply", lambda self, block, start, width: block)
    with pytest.raises(ModelError, match="merged logits differ"):
        merge_adapter(adapter, Checkpoint(str(half)), prompts, None, tmp_path / "wrong")


def test_the_trained_model_is_gone_before_it_is_merged(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hold(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            self.model = weakref.ref(model)

    hold, merge = Hold(), likelihood.merge_adapter

    def watched(*given: Any) -> Any:
        gc.collect()
        assert hold.model() is None
        return merge(*given)

    monkeypatch.setattr(likelihood, "merge_adapter", watched)
    train(plan(half, trainable=Lora(), keep_merged=True), tmp_path / "out", quiet=True, callbacks=[hold])


@pytest.mark.parametrize("trainable", [Lora(), Rescaled(("keys", "feedforward"), None)], ids=["lora", "ia3"])
def test_arithmetic_reads_adapters_of_every_kind(half: Path, tmp_path: Path, trainable: Any) -> None:
    """Half-way between the model before and the adapted one, by hand."""
    given = plan(half, trainable=trainable, learning_rate=1e-2)
    free = train(given, tmp_path / "free", quiet=True)
    way = (WeightExpression("0.5*after + 0.5*before"),)
    result = train(dataclasses.replace(given, after=way), tmp_path / "out", quiet=True)
    found, after, before = weights(result.model), weights(free.model), weights(half)
    assert all(value.dtype == torch.bfloat16 for value in found.values())
    for name, value in found.items():
        expected = (after[name].float() + before[name].float()) / 2
        torch.testing.assert_close(value.float(), expected, rtol=2.0**-7, atol=1e-6)


def test_four_bits_need_their_library(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_4bit = LowRank("lora", 2, 4.0, 0.0, ("q_proj",), None, load_in_4bit=True)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(UsageError, match=r"load_in_4bit.*bitsandbytes"):
        preflight.check_training(plan(half, trainable=in_4bit))
    preflight.check_training(plan(half, trainable=Lora()))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UsageError, match="needs a GPU"):
        preflight.check_training(plan(half, trainable=in_4bit))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    with pytest.raises(UsageError, match="holds the base whole"):
        preflight.check_training(plan(half, trainable=in_4bit, fsdp=True))


def test_an_adapter_is_not_added_to_four_bits(half: Path, tmp_path: Path) -> None:
    first = train(plan(half, trainable=Lora(), max_steps=1), tmp_path / "first", quiet=True)
    with pytest.raises(ModelError, match="cannot be added to a base in 4 bits"):
        load_model(first.model, load_in_4bit=True)
