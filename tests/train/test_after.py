"""Arithmetic on the weights at the end of a stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.errors import MnemosError
from mnemos.methods.after.arithmetic import WeightExpression
from mnemos.models.load import Checkpoint
from mnemos.train.likelihood import apply_after, train
from tests.tiny import save_tiny
from tests.train.making import Lora, plan, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

HALF = WeightExpression("0.5*after + 0.5*before")


def test_the_model_is_the_combination(llama: Path, tmp_path: Path) -> None:
    free = train(plan(llama), tmp_path / "free", quiet=True)
    result = train(plan(llama, after=(HALF,)), tmp_path / "half", quiet=True)
    assert result.losses == free.losses
    before, after, half = weights(llama), weights(free.model), weights(result.model)
    assert all(torch.allclose(half[name], (before[name] + after[name]) / 2, atol=1e-7) for name in half)
    assert sorted(path.name for path in (tmp_path / "half").iterdir()) == ["model"]
    AutoModelForCausalLM.from_pretrained(result.model)
    assert AutoTokenizer.from_pretrained(result.model).chat_template


def test_expressions_are_taken_in_order(llama: Path, tmp_path: Path) -> None:
    free = train(plan(llama), tmp_path / "free", quiet=True)
    steps = (HALF, WeightExpression("2*after - before"))
    apply_after(steps, Path(free.model), Checkpoint(str(llama)), tmp_path / "there" / "model")
    there, back = weights(free.model), weights(tmp_path / "there" / "model")
    assert all(torch.allclose(there[name], back[name], atol=1e-6) for name in there)
    apply_after((), Path(free.model), Checkpoint(str(llama)), tmp_path / "same")
    same = weights(tmp_path / "same")
    assert all(torch.equal(there[name], same[name]) for name in there)


def test_adapters_are_merged_first(llama: Path, tmp_path: Path) -> None:
    result = train(plan(llama, trainable=Lora(), after=(WeightExpression("before - 0*after"),)), tmp_path, quiet=True)
    before, after = weights(llama), weights(result.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "adapter").exists()


def test_the_model_before_may_be_an_adapter(llama: Path, tmp_path: Path) -> None:
    first = train(plan(llama, trainable=Lora()), tmp_path / "first", quiet=True)
    apply_after(
        (WeightExpression("0.5*after + 0.5*before"),),
        Path(first.model),
        Checkpoint(str(first.model)),
        tmp_path / "mixed",
    )
    one, other = weights(first.model), weights(tmp_path / "mixed")
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_a_failed_combination_leaves_nothing(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(MnemosError):
        apply_after((WeightExpression("after + chat"),), llama, Checkpoint(str(llama)), tmp_path / "out" / "model")
    assert not list((tmp_path / "out").iterdir())


def test_further_models_are_named(llama: Path, tmp_path: Path) -> None:
    """A chat vector whose chat model has rows for tokens of its own: template and tokenizer stay."""
    chat = save_tiny(tmp_path / "chat", seed=5)
    step = WeightExpression("after + 0.5*chat - 0.5*before", (("chat", Checkpoint(str(chat))),))
    apply_after((step, HALF), llama, Checkpoint(str(llama)), tmp_path / "out")
    start, added, out = weights(llama), weights(chat), weights(tmp_path / "out")
    for name, value in out.items():
        expected = 0.5 * (start[name] + 0.5 * added[name] - 0.5 * start[name]) + 0.5 * start[name]
        assert torch.allclose(value, expected, atol=1e-6)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (llama / "tokenizer.json").read_bytes()
    assert not (tmp_path / "out" / "README.md").exists()


def test_another_vocabulary_is_refused_unless_said(llama: Path, tmp_path: Path) -> None:
    from tests.tiny import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer(vocabulary=380)
    tiny_model(tokenizer).save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    handle = Checkpoint(str(tmp_path / "small"))
    step = WeightExpression("0.5*after + 0.5*small", (("small", handle),))
    with pytest.raises(MnemosError, match="tokens differ"):
        apply_after((step,), llama, Checkpoint(str(llama)), tmp_path / "out")
    apply_after((replace(step, embeddings="skip"),), llama, Checkpoint(str(llama)), tmp_path / "out")
    name = "model.embed_tokens.weight"
    assert torch.equal(weights(tmp_path / "out")[name], weights(llama)[name])
