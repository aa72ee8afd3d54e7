"""Adapters: what moves, what is written, and the model before under them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from mnemos.core.errors import ModelError
from mnemos.core.plan import Likelihood
from mnemos.methods.after.arithmetic import WeightExpression
from mnemos.methods.trainable.adapters import LowRank
from mnemos.models.load import load_model
from mnemos.train.likelihood import train
from tests.tiny import save_tiny
from tests.train.making import Lora, plan, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PROMPT = torch.arange(20)[None]


def _logits(path: Path | str, **how: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = load_model(str(path), **how)(input_ids=PROMPT).logits
    return out


def test_the_adapter_alone_is_kept_and_is_the_model(llama: Path, tmp_path: Path) -> None:
    result = train(plan(llama, trainable=Lora()), tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "adapter_model.safetensors").is_file()
    assert not list((tmp_path / "model").glob("model*.safetensors"))
    merged = train(plan(llama, trainable=Lora(), keep_merged=True), tmp_path / "both", quiet=True)
    assert torch.allclose(_logits(result.model), _logits(merged.model), atol=1e-5)
    assert AutoTokenizer.from_pretrained(result.model).chat_template


def test_adapter_and_merged_model_are_written(llama: Path, tmp_path: Path) -> None:
    result = train(plan(llama, trainable=Lora(), keep_merged=True), tmp_path, quiet=True)
    assert result.trainable_parameters < result.total_parameters / 10
    assert result.losses[-1][1] < result.losses[0][1]
    adapted, merged = _logits(tmp_path / "adapter", merge=False), _logits(result.model)
    assert torch.allclose(adapted, merged, atol=1e-5)
    assert not torch.allclose(adapted, _logits(llama), atol=1e-3)
    assert weights(result.model).keys() == weights(llama).keys()
    untouched = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(weights(result.model)[untouched], weights(llama)[untouched])
    for folder in (tmp_path / "adapter", tmp_path / "model"):
        assert AutoTokenizer.from_pretrained(folder).chat_template
        assert not (folder / "training_args.bin").exists()


def test_a_second_stage_starts_from_an_adapter_directory(llama: Path, tmp_path: Path) -> None:
    first = train(plan(llama, trainable=Lora()), tmp_path / "first", quiet=True)
    again = plan(tmp_path / "first" / "model", trainable=Lora(), learning_rate=1e-12, max_steps=1)
    second = train(dataclasses.replace(again, trainable=Zero()), tmp_path / "second", quiet=True)
    assert torch.allclose(_logits(second.model), _logits(first.model), atol=1e-4)
    assert torch.allclose(_logits(second.model, merge=False), _logits(first.model), atol=1e-4)
    # Both can be moved together: the earlier one is named from the later one's place.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("first", "second"):
        (tmp_path / name).rename(moved / name)
    assert torch.allclose(_logits(moved / "second" / "model"), _logits(moved / "first" / "model"), atol=1e-4)


@dataclass(frozen=True)
class Zero(Lora):
    """An adapter that starts as no change, as peft's default does."""

    def prepare(self, model: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))


def test_a_merge_that_changes_the_model_is_refused(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnemos.weights import lora

    # A merge that forgets the adapter.
    monkeypatch.setattr(lora.LowRank, "apply", lambda self, block, start, width: block)
    with pytest.raises(ModelError, match="merged logits differ from the adapter's"):
        train(plan(llama, trainable=Lora(), keep_merged=True), tmp_path, quiet=True)
    assert (tmp_path / "adapter").exists()
    assert not (tmp_path / "model").exists()


@dataclass(frozen=True)
class Watch:
    """Keeps the logits before, and how often a model was loaded for them."""

    seen: list[Any] = dataclasses.field(default_factory=list, compare=False)

    def loss(self, view: Any) -> torch.Tensor:
        before = view.references.before_logits()
        assert view.references.before_logits() is before
        assert not before.requires_grad
        self.seen.append((before, view.logits.detach()))
        return 0 * view.logits.sum()


@pytest.mark.parametrize("adapters", [False, True])
def test_before_stays_before_and_adapters_need_no_copy(
    llama: Path, tmp_path: Path, adapters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnemos.train import likelihood

    loads: list[int] = []
    load = likelihood.load_before
    monkeypatch.setattr(likelihood, "load_before", lambda *given, **more: loads.append(1) or load(*given, **more))
    watch = Watch()
    # One batch of all rows, so that every step asks about the same positions in some order.
    same = {"per_device_train_batch_size": 13, "num_train_epochs": 3, "objective": (Likelihood(), watch)}
    train(plan(llama, **same, **({"trainable": Lora()} if adapters else {})), tmp_path, quiet=True)
    # The model in training is one; a full fine-tune needs a second for the model before.
    assert len(loads) == (1 if adapters else 2)
    sums = [float(before.double().sum()) for before, _ in watch.seen]
    assert sums[1:] == pytest.approx([sums[0]] * 2, rel=1e-5)
    first, last = watch.seen[0], watch.seen[-1]
    assert torch.allclose(first[0], first[1], atol=1e-5) != adapters
    assert not torch.allclose(last[0], last[1], atol=1e-2)


def test_training_base_weights_beside_an_adapter_needs_a_copy(llama: Path) -> None:
    from mnemos.train.documents import Way
    from mnemos.train.frozen import Before

    model = Lora().prepare(load_model(str(llama)))
    way, device = Way(True, True), torch.device("cpu")
    assert Before(model, lambda: None, way, device).adapted is model
    model.get_base_model().lm_head.weight.requires_grad_(True)
    assert Before(model, lambda: None, way, device).adapted is None


def test_a_broken_generation_configuration_neither_stops_nor_is_lost(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "before")
    broken = json.dumps({"temperature": 0.3, "do_sample": False, "eos_token_id": [4, 1], "max_length": 7})
    (model / "generation_config.json").write_text(broken)
    result = train(plan(model, max_steps=2, save_steps=1), tmp_path / "out", quiet=True)
    assert (Path(result.model) / "generation_config.json").read_text() == broken
    assert AutoModelForCausalLM.from_pretrained(result.model).config.use_cache is True


@pytest.mark.parametrize("keep_merged", [False, True])
@pytest.mark.parametrize(("family", "targets"), [("gemma", ("embed_tokens", "q_proj")), ("gpt2", ("wte", "c_attn"))])
def test_an_adapter_on_tied_embeddings_is_saved_as_it_was_trained(
    family: str, targets: tuple[str, ...], keep_merged: bool, tmp_path: Path
) -> None:
    """The wrapper that was trained is the reference; the merged model has two matrices."""
    before = save_tiny(tmp_path / "before", family)
    trainable = LowRank("lora", 4, 8.0, 0.0, targets, None)
    kept = Seen()
    given = plan(before, trainable=trainable, learning_rate=1e-2, keep_merged=keep_merged)
    result = train(given, tmp_path / "out", quiet=True, callbacks=[kept])
    assert torch.allclose(_logits(result.model), kept.logits, atol=1e-4)
    adapter = tmp_path / "out" / ("adapter" if keep_merged else "model")
    assert torch.allclose(_logits(adapter, merge=False), kept.logits, atol=1e-4)
    assert not torch.allclose(_logits(before), kept.logits, atol=1e-2)
    model = load_model(result.model)
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight
    # The next stage starts from it, and arithmetic with the tied model before goes on working.
    after = plan(before, trainable=trainable, after=(WeightExpression("0.5*after + 0.5*before"),))
    half = load_model(train(after, tmp_path / "half", quiet=True).model)
    assert half.config.tie_word_embeddings is False
    train(plan(Path(result.model), trainable=Lora() if family == "gemma" else trainable), tmp_path / "next", quiet=True)


class Seen(TrainerCallback):  # type: ignore[misc]
    """Keeps the trained wrapper's logits at the end."""

    logits: torch.Tensor

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        with torch.no_grad():
            self.logits = model.eval()(input_ids=PROMPT).logits.clone()
