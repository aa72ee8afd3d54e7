"""block_expansion: the grown model computes the same, only the new blocks move, and it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.plan import Trainable
from mnemos.methods.trainable.blocks import placed
from mnemos.methods.trainable.parts import block_expansion, lora
from tests.laws import base_plan
from tests.methods.families import FAMILIES, build, logits, moving


def grown(family: str, every: int = 2, **changed: Any) -> Any:
    trainable = block_expansion(base_plan(), every=every).trainable
    assert isinstance(trainable, Trainable)
    return trainable.prepare(build(family, **changed))


@pytest.mark.parametrize("family", FAMILIES)
def test_untrained_it_computes_the_same_and_only_new_blocks_move(family: str) -> None:
    """Three blocks and a new one behind the second and the third: places 2 and 4 of five."""
    before = build(family)
    model = grown(family)
    assert model.config.num_hidden_layers == 5
    torch.testing.assert_close(logits(model), logits(before), rtol=1e-5, atol=1e-6)
    names = moving(model)
    assert {part for name in names for part in name.split(".") if part.isdigit()} == {"2", "4"}
    new = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert sum(v.numel() for v in model.parameters()) - sum(v.numel() for v in before.parameters()) == new


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_in_16_bits_keeps_what_no_file_holds_in_float32(family: str, tmp_path: Path) -> None:
    """Rounded frequencies of rotary positions once moved the logits by a hundredth."""
    build(family).save_pretrained(tmp_path)
    before = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    trainable = block_expansion(base_plan(), every=2).trainable
    assert isinstance(trainable, Trainable)
    model = trainable.prepare(before)
    torch.testing.assert_close(logits(model), logits(before), rtol=0, atol=0)
    assert {v.dtype for v in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_moved_block_is_saved_and_loaded_whole(family: str, tmp_path: Path) -> None:
    model = grown(family)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += 0.3 * torch.randn(value.shape, generator=generator)
    moved = logits(model)
    assert not torch.allclose(moved, logits(build(family)), atol=1e-2)
    model.save_pretrained(tmp_path)
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(logits(again.eval()), moved, rtol=1e-5, atol=1e-6)


def test_lists_that_speak_of_each_layer_grow_with_it() -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = grown("gemma3", layer_types=kinds).config
    assert config.layer_types == [kinds[0], kinds[1], kinds[1], kinds[2], kinds[2]]


def test_new_blocks_are_copies_but_for_their_outputs() -> None:
    state, old = grown("llama", every=1).state_dict(), build("llama").state_dict()
    for name, value in old.items():
        if ".layers.1." in name:
            copy = state[name.replace(".layers.1.", ".layers.3.")]
            zero = "o_proj" in name or "down_proj" in name
            assert torch.equal(copy, torch.zeros_like(value) if zero else value)
            assert torch.equal(state[name.replace(".layers.1.", ".layers.2.")], value)


def test_learning_moves_the_outputs_first_and_then_the_rest() -> None:
    model = grown("llama")
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    ids = torch.arange(18).reshape(2, 9)
    model(input_ids=ids, labels=ids).loss.backward()
    live = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    assert {name.rsplit(".", 2)[1] for name in live} == {"o_proj", "down_proj"}
    optimizer.step()
    optimizer.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    live = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    assert live == moving(model)


def test_places() -> None:
    assert placed(4, 2) == [(0, False), (1, False), (1, True), (2, False), (3, False), (3, True)]
    assert [source for source, added in placed(32, 4) if added] == [3, 7, 11, 15, 19, 23, 27, 31]
    assert placed(3, 8) == [(0, False), (1, False), (2, False), (2, True)]


def test_blocks_that_are_no_sum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the MLP's projection is silenced: the copy's attention would change what is computed."""
    import re

    monkeypatch.setattr("mnemos.methods.trainable.blocks.OUTPUTS", re.compile(r"down_proj\.weight$"))
    with pytest.raises(ModelError, match="untrained new blocks change logits"):
        grown("llama")
    monkeypatch.setattr("mnemos.methods.trainable.blocks.OUTPUTS", re.compile(r"nothing"))
    with pytest.raises(ModelError, match="none of its projections is known"):
        grown("llama")


def test_it_stands_alone() -> None:
    with pytest.raises(UsageError, match="two methods of one arm say what may move"):
        block_expansion(lora(base_plan()))
