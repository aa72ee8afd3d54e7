"""A training's memory before it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import mnemos.methods  # noqa: F401 - fills the catalogue
from mnemos.core.method import REGISTRY, apply
from mnemos.core.plan import Likelihood, Plan
from mnemos.core.settings import TrainSettings
from mnemos.models.load import Checkpoint
from mnemos.sources.mix import Rows
from mnemos.train import simulate
from mnemos.train.estimate import Needs, needs_of, training_disk, training_needs
from mnemos.train.simulate import Live, Shape, step_bytes
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer

SHAPE = Shape((40, 24), 60)


def llama(layers: int = 6, **changes: Any) -> Any:
    values = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 300, **changes}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=layers, **values)).train()


def test_live_bytes_are_counted_until_they_are_gone() -> None:
    with Live() as live:
        one = torch.empty(1000, device="meta")
        two = one * 2
        view = two.view(10, 100)
        del two
        three = view.add_(1)
        assert live.now == 8000
        del one, view, three
    assert (live.now, live.peak) == (0, 8000)


def test_layers_that_are_left_out_lie_on_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape((300, 212), 500)
    few = step_bytes(llama(12), shape, half=False, terms=(Likelihood(),))
    monkeypatch.setattr(simulate, "FEW", 100)
    whole = step_bytes(llama(12), shape, half=False, terms=(Likelihood(),))
    assert few.activations == pytest.approx(whole.activations, rel=0.02)


def test_activations_are_what_a_real_backward_pass_keeps() -> None:
    """Against torch's own list of saved tensors, on a model with numbers."""
    model = llama(2).to_empty(device="cpu")
    kept: dict[int, int] = {}
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}

    def pack(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    ids = torch.zeros(1, 64, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(out[0], ids[0])
    found = step_bytes(llama(2), Shape((64,), 64), half=False, terms=(Likelihood(),)).activations
    assert loss.requires_grad
    # Beside what is kept there is what passes by: gradients of logits and of one layer's tensors.
    assert sum(kept.values()) <= found <= 2 * sum(kept.values())


def test_recomputing_less_rows_and_half_precision_take_less() -> None:
    def bytes_of(shape: Shape, *, recompute: bool = False, half: bool = False) -> int:
        model = llama(8)
        if recompute:
            model.activation_checkpointing_enable()
        return step_bytes(model, shape, half=half, terms=(Likelihood(),)).activations

    much, little = Shape((400, 400), 800), Shape((400,), 400)
    assert bytes_of(little) < 0.6 * bytes_of(much)
    assert bytes_of(much, recompute=True) < 0.5 * bytes_of(much)
    assert bytes_of(much, half=True) < 0.8 * bytes_of(much)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gemma3", "gpt2"])
def test_families_can_be_run_without_numbers(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", family=family)
    count = sum(value.numel() for value in tiny_model(tiny_tokenizer(), family).parameters())
    needs = training_needs(_plan(tmp_path), SHAPE)
    assert needs.gradients == 4 * count
    assert needs.optimiser == 8 * count
    assert 4 * count <= needs.weights < 4 * count + 2**20
    assert needs.activations > 0


def _plan(folder: Path, *steps: dict[str, Any], **settings: Any) -> Plan:
    before = Checkpoint(str(folder / "model"), torch_dtype="float32")
    return apply(Plan(Rows(()), before, "t", 0, TrainSettings(**settings)), list(steps))


def test_what_a_method_keeps_beside_the_model_is_counted(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    plain = training_needs(_plan(tmp_path), SHAPE)
    assert plain.beside == 0
    assert training_needs(_plan(tmp_path, {"kl_to_before": {}}), SHAPE).beside == plain.weights
    assert training_needs(_plan(tmp_path, {"l2_to_before": {}}), SHAPE).beside == plain.gradients
    # With adapters the model before is the one in training.
    adapted = training_needs(_plan(tmp_path, {"lora": {"rank": 4}}, {"kl_to_before": {}}), SHAPE)
    assert adapted.beside == 0
    assert adapted.gradients < plain.gradients / 4


WHAT_MOVES = sorted(name for name, one in REGISTRY.items() if "trainable" in one.changes)


@pytest.mark.parametrize("name", WHAT_MOVES)
def test_what_moves_is_chosen_on_names_and_shapes_alone(name: str, tmp_path: Path) -> None:
    """A study is planned before a weight is read, of a model with more layers than are run for all of them."""
    save_tiny(tmp_path / "model", layers=6)
    needs = training_needs(_plan(tmp_path, {name: dict(REGISTRY[name].example)}), SHAPE)
    assert 0 < needs.gradients < needs.peak


def _of_the_training(needs: Needs) -> int:
    return replace(needs, program=0, loading=0).peak


def test_settings_that_save_memory_save_it(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    plain = training_needs(_plan(tmp_path), SHAPE)
    small = training_needs(_plan(tmp_path, optim="adafactor"), SHAPE)
    assert small.optimiser < plain.optimiser / 4
    summed = training_needs(_plan(tmp_path, gradient_accumulation_steps=2), SHAPE)
    # The interpreter's own memory moves a little from one call to the next.
    assert _of_the_training(summed) >= _of_the_training(plain)


def test_disk_of_a_training(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    plain = training_disk(_plan(tmp_path, save_steps=0))
    assert plain.kept == pytest.approx(size, rel=0.05)
    assert plain.passing == 0
    assert training_disk(_plan(tmp_path, save_steps=5)).passing > 6 * plain.kept
    assert training_disk(_plan(tmp_path, {"lora": {"rank": 2}})).kept < plain.kept / 4
    assert training_disk(_plan(tmp_path), 3).kept == 3 * plain.kept


def test_a_model_without_layers_is_run_whole() -> None:
    needs = needs_of(llama(1), TrainSettings(), SHAPE)
    assert needs.peak > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_estimate_lies_near_what_a_training_takes() -> None:
    """In a process of its own, whose memory is nobody else's."""
    code = (
        "import json; from benchmarks import room; "
        "print(json.dumps([room._measured(case) for case in room.CASES[:1] + room.CASES[7:8]]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    for found in json.loads(done.stdout.splitlines()[-1]):
        assert 0.75 <= found["ratio"] <= 1.25, found
