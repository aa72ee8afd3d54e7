"""Training on a GPU: mnemos beside TRL at the same steps, and what a remedy adds to a step.

gpu-sft, gpu-lora            useful tokens a second on the same token ids in the same order, and peak memory
gpu-dpo                      pairs a second
gpu-grpo                     seconds of a step, its answers written by the model in training on both sides
gpu-step-cost-kl-to-before   seconds of a step beside one of plain fine-tuning

Both sides keep float32 master weights and compute in bfloat16, by fused AdamW without gradient checkpointing. The
model's weights are random, so losses are near the logarithm of the vocabulary; those of both sides must agree.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import on_policy_step, real_sft_vs_trl
from benchmarks.common import Result, compared
from benchmarks.gpu.machine import peak
from benchmarks.gpu.world import Size, examples, texts
from benchmarks.sft_vs_trl import Pairs, clock
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan

AGREE = 2e-2
"""Largest relative difference of two losses: bfloat16 keeps three digits, and both sides add up in orders of their own.
"""


def plan(folder: Path, size: Size, methods: list[dict[str, Any]], rows: tuple[Example, ...]) -> Plan:
    """The stage that both sides train."""
    import mnemos.methods  # noqa: F401 - fills the catalogue
    from mnemos.core.method import apply
    from mnemos.core.settings import TrainSettings
    from mnemos.models.load import Checkpoint

    settings = TrainSettings(
        max_steps=size.steps,
        per_device_train_batch_size=size.batch,
        max_length=size.length,
        save_steps=0,
        bf16=True,
        **real_sft_vs_trl.SHARED,
    )
    return apply(Plan(Pairs(rows, "gpu"), Checkpoint(str(folder)), "sft", 0, settings), methods)


def sft(folder: Path, size: Size, *, lora: bool) -> Iterator[Result]:
    """Speed and memory beside TRL; RuntimeError where the losses of a step differ."""
    name = "gpu-lora" if lora else "gpu-sft"
    methods: list[dict[str, Any]] = [{"output_only": {}}, *([{"lora": {"rank": 16}}] if lora else [])]
    stage = plan(folder, size, methods, examples(size))
    rows = real_sft_vs_trl.rows_of(stage)
    ours = real_sft_vs_trl.ours(stage, rows, folder.parent / "ours")
    peer = real_sft_vs_trl.peer(stage, rows, folder.parent / "peer")
    one, other = np.array(ours["losses"]), np.array(peer["losses"])
    if one.shape != other.shape or not np.allclose(one, other, rtol=AGREE):
        raise RuntimeError(f"the losses differ: {ours['losses']} and {peer['losses']}")
    details = {
        "losses": ours["losses"],
        "losses of the peer": peer["losses"],
        "tokens of a row": {"mean": float(np.mean(ours["lengths"])), "most": max(ours["lengths"])},
        "model FLOP utilisation": {
            "ours": utilisation(folder, ours["speed"], lora=lora),
            "peer": utilisation(folder, peer["speed"], lora=lora),
        },
    }
    yield compared(
        name,
        ([ours["speed"]], [peer["speed"]]),
        unit="tokens/s",
        direction="higher is better",
        bound=1.0,
        details=details,
    )
    yield compared(
        f"{name}-memory",
        ([ours["memory"]], [peer["memory"]]),
        unit="MB",
        direction="lower is better",
        bound=1.0,
    )


def utilisation(folder: Path, rate: float, *, lora: bool) -> float | None:
    """Share of the GPU's peak that useful tokens take: 6 operations a parameter and token, 4 where the base is frozen
    and only gradients of activations pass through it (arXiv:2204.02311, appendix B; attention is left out, which at
    512 tokens is a few percent). None without a GPU of the table. The embedding counts once: as the output matrix."""
    import torch
    from safetensors import safe_open

    most = peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    if most is None:
        return None
    with safe_open(folder / "model.safetensors", "pt") as file:
        count = sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())  # noqa: SIM118
    return (4 if lora else 6) * count * rate / most


def kl_to_before(folder: Path, size: Size) -> Result:
    """A step with the penalty beside a plain one; both are ours."""
    seconds = {}
    arms: dict[str, list[dict[str, Any]]] = {"kl": [{"kl_to_before": {}}], "plain": []}
    for name, more in arms.items():
        stage = plan(folder, size, [{"output_only": {}}, *more], examples(size))
        seconds[name] = _ours(stage, folder.parent / name)
    return compared(
        "gpu-step-cost-kl-to-before",
        ([seconds["kl"]], [seconds["plain"]]),
        unit="s",
        direction="lower is better",
        bound=2.0,
    )


def dpo(folder: Path, size: Size) -> Result:
    """Pairs a second; both sides also run the model before on every pair."""
    pairs = size.batch // 2
    answers = texts(size, pairs * size.steps, seed=1)
    rows = tuple(
        Example(
            f"pair{n}",
            "preference",
            (Turn("user", prompt), Turn("assistant", chosen)),
            (Turn("assistant", rejected),),
        )
        for n, ((prompt, chosen), (rejected, _)) in enumerate(
            zip(texts(size, pairs * size.steps), answers, strict=True)
        )
    )
    stage = plan(folder, size, [{"dpo": {}}], rows)
    stage = replace(stage, train=stage.train.model_copy(update={"per_device_train_batch_size": pairs}))
    sides = ([pairs / _ours(stage, folder.parent / "ours")], [pairs / _dpo_peer(folder, size, pairs, rows)])
    return compared("gpu-dpo", sides, unit="pairs/s", direction="higher is better", bound=1.0)


def grpo(folder: Path, size: Size) -> Result:
    """A step whose answers the model in training writes."""
    rows = texts(size, size.answers * size.steps)
    at = folder.parent / "questions.jsonl"
    lines = [{"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": a}]} for p, a in rows]
    at.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    world = on_policy_step.World(str(folder), str(at), size.answers, size.group, size.written // 2, size.steps, True)
    sides = ([on_policy_step.ours(folder.parent, "grpo", world)], [on_policy_step.trl(folder.parent, "grpo", world)])
    return compared("gpu-grpo", sides, unit="s", direction="lower is better", bound=1.2)


def _ours(stage: Plan, out: Path) -> float:
    """Mean seconds of a step after the first."""
    from mnemos.train.likelihood import train

    gc.collect()
    watch = clock()
    train(stage, out, quiet=True, callbacks=[watch])
    return float((watch.wall[-1] - watch.wall[0]) / (len(watch.wall) - 1))


def _dpo_peer(folder: Path, size: Size, pairs: int, rows: tuple[Example, ...]) -> float:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    def turns(of: tuple[Turn, ...]) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": turn.text} for turn in of]

    gc.collect()
    data = [
        {"prompt": turns(row.turns[:-1]), "chosen": turns(row.turns[-1:]), "rejected": turns(row.rejected[-1:])}
        for row in rows
    ]
    config = DPOConfig(
        output_dir=str(folder.parent / "dpo"),
        per_device_train_batch_size=pairs,
        max_steps=size.steps,
        max_length=2 * size.length,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        bf16=True,
        gradient_checkpointing=False,
        use_cpu=not torch.accelerator.is_available(),
        seed=0,
        **real_sft_vs_trl.SHARED,
    )
    watch = clock()
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[watch],
    )
    trainer.train()
    return float((watch.wall[-1] - watch.wall[0]) / (len(watch.wall) - 1))
