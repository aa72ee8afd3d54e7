"""lora, dora and ia3 through peft: what is trained, and what the adapted model computes, against
the formulas applied to the weights by hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.plan import Trainable
from mnemos.methods.trainable.parts import dora, freeze, ia3, lora, only
from tests.laws import base_plan
from tests.methods.families import FAMILIES, build, logits, moving

pytestmark = pytest.mark.filterwarnings("error")


def adapted(method: Any, model: Any, **settings: Any) -> Any:
    trainable = method(base_plan(), **settings).trainable
    assert isinstance(trainable, Trainable)
    torch.manual_seed(0)
    return trainable.prepare(model).eval()


def shake(model: Any) -> Any:
    """Move every trainable parameter, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += 0.3 * torch.randn(value.shape, generator=generator)
    return model


def tuned(model: Any) -> dict[str, Any]:
    """Module name in the bare model -> its adapter layer."""
    prefix = "base_model.model."
    found = {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}
    return {name.removeprefix(prefix): module for name, module in found.items()}


def conv(module: Any) -> bool:
    """GPT-2 keeps its matrices transposed."""
    return type(module).__name__ == "Conv1D"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [lora, dora, ia3])
def test_untrained_it_computes_the_same_and_only_it_moves(family: str, method: Any) -> None:
    expected = logits(build(family))
    model = adapted(method, build(family))
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    names = moving(model)
    assert names
    assert all("lora_" in name or "ia3_" in name for name in names)
    moved = logits(shake(model))
    assert not torch.allclose(moved, expected, atol=1e-2)
    with torch.no_grad(), model.disable_adapter():
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model.merge_and_unload()), moved, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_every_linear_layer_but_the_output(family: str) -> None:
    bare = build(family)
    head = bare.get_output_embeddings()
    expected = {
        name
        for name, module in bare.named_modules()
        if (isinstance(module, torch.nn.Linear) or conv(module)) and module is not head
    }
    assert set(tuned(adapted(lora, build(family)))) == expected


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("alpha", "scale"), [(None, 2.0), (6.0, 1.5)])
def test_lora_adds_the_scaled_product(family: str, alpha: float | None, scale: float) -> None:
    model = shake(adapted(lora, build(family), rank=4, alpha=alpha))
    bare = build(family)
    with torch.no_grad():
        for name, layer in tuned(model).items():
            product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            target = bare.get_submodule(name)
            target.weight += scale * (product.T if conv(target) else product)
    torch.testing.assert_close(logits(model), logits(bare), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dora_trains_magnitude_and_direction_apart(family: str) -> None:
    model = shake(adapted(dora, build(family), rank=4))
    bare = build(family)
    with torch.no_grad():
        for name, layer in tuned(model).items():
            target = bare.get_submodule(name)
            weight = target.weight.T if conv(target) else target.weight
            summed = weight + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            magnitude = layer.lora_magnitude_vector["default"].weight
            made = magnitude[:, None] * summed / summed.norm(dim=1, keepdim=True)
            target.weight.copy_(made.T if conv(target) else made)
    torch.testing.assert_close(logits(model), logits(bare), rtol=1e-4, atol=1e-5)


def test_the_first_magnitude_is_the_weights_norm() -> None:
    for layer in tuned(adapted(dora, build("llama"))).values():
        norm = layer.base_layer.weight.norm(dim=1)
        torch.testing.assert_close(layer.lora_magnitude_vector["default"].weight, norm)


KEYS = {"llama": "k_proj", "qwen3": "k_proj", "gemma": "k_proj", "gemma3": "k_proj", "opt": "k_proj"}
FUSED = {"gpt2": "attn.c_attn", "neox": "query_key_value", "phi3": "qkv_proj"}
FORWARD = {"gpt2": "mlp.c_proj", "neox": "mlp.dense_4h_to_h", "opt": "fc2"}


@pytest.mark.parametrize("family", FAMILIES)
def test_ia3_rescales_keys_values_and_the_mlps_inner_activations(family: str) -> None:
    model = shake(adapted(ia3, build(family)))
    bare = build(family)
    forward = FORWARD.get(family, "down_proj")
    attention = (FUSED[family],) if family in FUSED else ("k_proj", "v_proj")
    with torch.no_grad():
        for name, layer in tuned(model).items():
            target, factor = bare.get_submodule(name), layer.ia3_l["default"].flatten()
            assert name.endswith((forward, *attention))
            columns = target.weight.T if conv(target) else target.weight  # [out, in]
            if name.endswith(forward):
                columns.mul_(factor)
            else:
                columns.mul_(factor[:, None])
                if target.bias is not None:
                    target.bias.mul_(factor)
    torch.testing.assert_close(logits(model), logits(bare), rtol=1e-4, atol=1e-5)
    assert len(tuned(model)) == 3 * (len(attention) + 1)


@pytest.mark.parametrize(("part", "leaf"), [("keys", "k_proj"), ("values", "v_proj"), ("feedforward", "down_proj")])
def test_ia3_by_parts(part: str, leaf: str) -> None:
    assert {name.split(".")[-1] for name in tuned(adapted(ia3, build("qwen3"), parts=(part,)))} == {leaf}


def test_a_fused_projection_cannot_be_taken_apart() -> None:
    with pytest.raises(ModelError, match=r"attn\.c_attn makes queries, keys and values at once\n  name both"):
        adapted(ia3, build("gpt2"), parts=("keys",))
    assert {name.split(".")[-1] for name in tuned(adapted(ia3, build("gpt2"), parts=("feedforward",)))} == {"c_proj"}


def test_modules_that_nobody_knows() -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = torch.nn.Linear(2, 2)

    with pytest.raises(ModelError, match=r"ia3\.parts: feedforward: no such module is known in Bare\n  known: mixer"):
        adapted(ia3, Bare())


@pytest.mark.parametrize("method", [lora, dora])
def test_targets_by_name(method: Any) -> None:
    names = set(tuned(adapted(method, build("llama"), targets=("q_proj", "mlp.up_proj"))))
    assert {name.split(".", 3)[-1] for name in names} == {"self_attn.q_proj", "mlp.up_proj"}
    with pytest.raises(ModelError) as caught:
        adapted(method, build("llama"), targets=("q_proj", "c_attn"))
    assert f"{method.name}.targets = c_attn: names no linear layer" in str(caught.value)
    assert "model.layers.N.self_attn.q_proj" in caught.value.cure
    with pytest.raises(UsageError, match="names no module"):
        method(base_plan(), targets=[])


@pytest.mark.parametrize("rank", [1, 3])
def test_how_many_parameters_move(rank: int) -> None:
    model = adapted(lora, build("llama"), rank=rank, targets=("q_proj",))
    assert sum(value.numel() for value in model.parameters() if value.requires_grad) == 3 * rank * (32 + 32)


def test_the_start_follows_torchs_seed() -> None:
    def start(seed: int) -> list[torch.Tensor]:
        trainable = lora(base_plan()).trainable
        model = build("llama")
        torch.manual_seed(seed)
        return [value.detach() for name, value in trainable.prepare(model).named_parameters() if "lora_A" in name]

    assert all(torch.equal(a, b) for a, b in zip(start(5), start(5), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(start(5), start(6), strict=True))


@pytest.mark.parametrize(("method", "family"), [(lora, "llama"), (dora, "gpt2"), (ia3, "llama")])
def test_a_saved_adapter_is_the_same_file_and_loads_again(tmp_path: Path, method: Any, family: str) -> None:
    """peft's sets would be written in the order of the hash seed, so that equal runs differ."""
    model = shake(adapted(method, build(family)))
    model.save_pretrained(tmp_path)
    text = json.loads((tmp_path / "adapter_config.json").read_text())
    for key in ("target_modules", "feedforward_modules"):
        assert text.get(key) == (sorted(text[key]) if text.get(key) else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        again = PeftModel.from_pretrained(build(family), str(tmp_path)).eval()
    torch.testing.assert_close(logits(again), logits(model))


def test_dropout_is_on_in_training_only() -> None:
    model = shake(adapted(lora, build("llama"), dropout=0.5))
    torch.testing.assert_close(logits(model), logits(model))
    model.train()
    assert not torch.allclose(logits(model), logits(model))


def test_settings_reach_the_plan() -> None:
    assert lora(base_plan(), learning_rate=1e-3).trainable.learning_rate == 1e-3
    assert ia3(base_plan()).trainable.learning_rate is None
    assert lora(base_plan(), rank=8).fingerprint == lora(base_plan(), rank=8, alpha=16).fingerprint
    assert lora(base_plan()).fingerprint != dora(base_plan()).fingerprint
    assert lora(base_plan(), targets=["b", "a"]).fingerprint == lora(base_plan(), targets=["a", "b", "a"]).fingerprint


@pytest.mark.parametrize("other", [lora, dora, ia3])
def test_one_method_says_what_moves(other: Any) -> None:
    for first in (freeze(base_plan(), parts=("mlp",)), only(base_plan(), parts=("mlp",)), lora(base_plan())):
        with pytest.raises(UsageError, match="two methods of one arm say what may move"):
            other(first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": -1}, "lora.rank = -1"),
        ({"alpha": 0}, "lora.alpha = 0"),
        ({"dropout": 1}, "lora.dropout = 1"),
        ({"learning_rate": 0}, "lora.learning_rate = 0"),
        ({"targets": "q_proj"}, "lora.targets = 'q_proj'"),
        ({"r": 8}, "lora.r: is not a known key"),
    ],
)
def test_bounds(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        lora(base_plan(), **settings)
    assert message in str(caught.value)
