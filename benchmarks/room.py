"""Estimated peak memory of a training beside what it took: tiny Llamas of several shapes, and real models.

room-estimate    the factor by which estimate and measurement lie apart at most, over all cases

Each case trains STEPS steps on made-up rows of LENGTH tokens or so, after `train.estimate.training_needs` was asked;
measured is the highest of resident memory on a CPU, of what tensors took on a GPU. Real models are those of
$MNEMOS_MODELS (gemma, qwen), left out where absent. ``--items`` takes so many of the cases.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Result

BOUND, STEPS = 1.25, 2


@dataclass(frozen=True)
class Case:
    """width, layers, vocabulary: of a Llama; model: a folder of $MNEMOS_MODELS instead. rows, length: of a micro-batch.
    settings: of training. steps: methods of the arm."""

    name: str
    width: int = 512
    layers: int = 4
    vocabulary: int = 8000
    model: str | None = None
    rows: int = 4
    length: int = 256
    settings: tuple[tuple[str, Any], ...] = ()
    steps: tuple[str, ...] = ()


CASES = (
    Case("narrow", width=256, length=512),
    Case("wide", width=768),
    Case("many layers", layers=10, length=512),
    Case("large vocabulary", vocabulary=64_000),
    Case("gradient checkpointing", layers=10, length=512, settings=(("gradient_checkpointing", True),)),
    Case("accumulated", length=512, settings=(("gradient_accumulation_steps", 2),)),
    Case("adafactor", width=768, settings=(("optim", "adafactor"),)),
    Case("lora", width=768, length=512, steps=("lora",)),
    Case("kl_to_before", width=768, steps=("kl_to_before",)),
    Case("gemma, lora", model="gemma", rows=2, steps=("lora",)),
    Case("gemma", model="gemma", rows=2),
    Case("qwen, lora", model="qwen", rows=2, steps=("lora",)),
    Case("qwen", model="qwen", rows=2),
)


@dataclass(frozen=True)
class Repeated:
    """Rows of one text."""

    count: int
    words: int
    fingerprint: str = "repeated"

    def describe(self) -> str:
        return f"{self.count} rows of {self.words} words"

    def __iter__(self) -> Iterator[Any]:
        from mnemos.core.nouns import Example, Turn

        text = " ".join(f"{n % 97} plus" for n in range(self.words))
        return (Example(f"row{n}", "text", (Turn("text", text),)) for n in range(self.count))


def run(items: int = len(CASES)) -> Iterator[Result]:
    """One result over all cases."""
    began = os.getloadavg()[0]
    found = [one for case in CASES[:items] if (one := _measured(case)) is not None]
    apart = max(max(one["estimate"] / one["measured"], one["measured"] / one["estimate"]) for one in found)
    details = {"cases": found, "load at the start": began}
    yield Result("room-estimate", apart, 1.0, "times", "lower is better", BOUND, details)


def _measured(case: Case) -> dict[str, Any] | None:
    from mnemos.recipes.reproduce import models_folder
    from mnemos.train.estimate import training_needs
    from mnemos.train.likelihood import train

    with tempfile.TemporaryDirectory() as name:
        folder = models_folder() / case.model if case.model else _made(case, Path(name))
        if not (folder / "config.json").is_file():
            print(f"room-estimate: {case.name}: skipped: no model in {folder}")
            return None
        plan, shape = _plan(case, folder)
        needs = training_needs(plan, shape)
        gc.collect()
        result = train(plan, Path(name) / "out", quiet=True)
    return {
        "case": case.name,
        "parameters": result.total_parameters,
        "tokens": shape.tokens,
        "estimate": needs.peak,
        "measured": result.peak_memory_bytes,
        "ratio": round(needs.peak / result.peak_memory_bytes, 3),
        "parts": needs.parts(),
        "phases": result.peak_memory_phases,
    }


def _made(case: Case, folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.sft_vs_trl import tokenizer_of_texts

    torch.manual_seed(0)
    tokenizer = tokenizer_of_texts([("0 1 2 3 4 5 6 7 8 9 plus", "")])
    tokenizer.save_pretrained(folder / "model")
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.width,
        intermediate_size=3 * case.width,
        num_hidden_layers=case.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    return folder / "model"


def _plan(case: Case, folder: Path) -> tuple[Any, Any]:
    import mnemos.methods  # noqa: F401 - fills the catalogue
    from mnemos.core.method import apply
    from mnemos.core.plan import Plan
    from mnemos.core.settings import TrainSettings
    from mnemos.models.load import Checkpoint
    from mnemos.sources.render import Renderer
    from mnemos.train.rows import prepare
    from mnemos.train.simulate import Shape
    from mnemos.weights.checkpoint import tokenizer_of

    settings = TrainSettings(
        max_steps=STEPS,
        save_steps=0,
        per_device_train_batch_size=case.rows,
        max_length=case.length,
        truncate=True,
        **dict(case.settings),
    )
    count = case.rows * STEPS * settings.gradient_accumulation_steps
    before = Checkpoint(str(folder), torch_dtype="float32")
    plan = Plan(Repeated(count, case.length), before, "room", 0, settings)
    plan = apply(plan, [{name: {}} for name in case.steps])
    rows = [row[0] for row in prepare(plan, Renderer(tokenizer_of(before))).rows][: case.rows]
    return plan, Shape(tuple(map(len, rows)), sum(int((row.weight[1:] != 0).sum()) for row in rows))
