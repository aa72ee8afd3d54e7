"""Fine-tuning a real model: mnemos beside TRL's SFTTrainer, Qwen2.5-Coder-0.5B-Instruct in float32.

real-sft-vs-trl           useful tokens per second (padding does not count) on rows of dolly_2k
real-sft-vs-trl-memory    peak memory of training 2 rows of LONG tokens a step
real-sft-vs-trl-memory-checkpointed    the same of 8 rows a step with gradient checkpointing on both sides
real-lora-vs-trl(-memory, …) the same of adapters of rank 16, by `benchmarks.real_lora_vs_trl`

Without checkpointing the activations of all layers, alike on both sides, hide what whole logits cost; with it they are
most of what grows with the rows. The same token ids in the same order from the same weights, fused AdamW, one process a
run; TRL runs as it comes otherwise: no packing, loss on completions only, padding to the longest row. Adapters are made
by the same call with the same seed. Loading and the first step are outside the clock; memory is the highest of resident
memory from the first step on. Nothing is reported unless the losses of all steps agree. Weights: $MNEMOS_MODELS/qwen;
rows: $MNEMOS_DATA. ``--items`` takes that many steps.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, alternate, compared
from benchmarks.real_lm_eval import read, ready
from benchmarks.sft_vs_trl import Pairs, clock

STEPS, BATCH, REPETITIONS = 4, 4, 2
LONG_STEPS, LONG = 2, 512
LONG_BATCH = {"memory": 2, "checkpointed": 8}
MAX_LENGTH = 512
RATE, MEMORY, AGREE = 1.3, 0.7, 1e-4
SHARED: dict[str, Any] = {"learning_rate": 1e-5, "logging_steps": 1, "optim": "adamw_torch_fused"}


def run(items: int = STEPS) -> Iterator[Result]:
    """Speed and memory of full fine-tuning."""
    yield from results("real-sft-vs-trl", items, lora=False)


def results(name: str, steps: int, *, lora: bool) -> Iterator[Result]:
    """Both results; none, and why, where model or rows are absent. Raises RuntimeError where losses differ."""
    found = ready("dolly_2k/train.jsonl.gz")
    if isinstance(found, str):
        print(f"{name}: skipped: {found}", file=sys.stderr)
        return
    began = os.getloadavg()[0]
    for kind in ("speed", *LONG_BATCH):
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}

        def once(side: str, kind: str = kind, runs: dict[str, list[dict[str, Any]]] = runs) -> float:
            runs[side].append(_measured(side, kind, steps, lora))
            return float(runs[side][-1]["speed" if kind == "speed" else "memory"])

        # Memory varies little: one run a side.
        sides = alternate(lambda: once("ours"), lambda: once("peer"), REPETITIONS if kind == "speed" else 1)
        details = {
            "largest_loss_difference": agreement(runs["ours"][-1]["losses"], runs["peer"][-1]["losses"]),
            "losses": runs["ours"][-1]["losses"],
            "lengths": runs["ours"][-1]["lengths"],
            "by_processor_time": {side: [one["processor"] for one in made] for side, made in runs.items()},
            "load at the start": began,
        }
        if kind == "speed":
            yield compared(name, sides, unit="tokens/s", direction="higher is better", bound=RATE, details=details)
        else:
            which = f"{name}-memory" if kind == "memory" else f"{name}-memory-{kind}"
            yield compared(which, sides, unit="MB", direction="lower is better", bound=MEMORY, details=details)


def agreement(ours: list[float], peer: list[float]) -> float:
    """The largest relative difference of two loss curves; RuntimeError beyond AGREE."""
    one, other = np.array(ours), np.array(peer)
    if one.shape != other.shape or not np.allclose(one, other, rtol=AGREE):
        raise RuntimeError(f"the losses differ: {ours} and {peer}")
    return float((np.abs(one - other) / other).max())


def _measured(side: str, kind: str, steps: int, lora: bool) -> dict[str, Any]:
    """One run in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.real_sft_vs_trl", side, kind, str(steps), str(int(lora))]
    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[1:])}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def plan_of(folder: Path, data: Path, kind: str, steps: int, *, lora: bool) -> Any:
    """The stage that both sides train."""
    import mnemos.methods  # noqa: F401 - fills the catalogue
    from mnemos.core.method import apply
    from mnemos.core.nouns import Example, Turn
    from mnemos.core.plan import Plan
    from mnemos.core.settings import TrainSettings
    from mnemos.models.load import Checkpoint

    long = kind in LONG_BATCH
    batch, steps = (LONG_BATCH[kind], LONG_STEPS) if long else (BATCH, steps)
    texts = [(row["instruction"] + "\n" + row.get("input", ""), row["output"]) for row in read(data)]
    if long:
        # One text after the other until a row is full, so that every row has LONG tokens.
        whole = " ".join(f"{prompt} {answer}" for prompt, answer in texts)
        size = 8 * LONG
        texts = [(whole[n * size : n * size + 20], whole[n * size + 20 : (n + 1) * size]) for n in range(batch * steps)]
    examples = tuple(
        Example(f"row{n}", "completion", (Turn("prompt", prompt), Turn("completion", answer)))
        for n, (prompt, answer) in enumerate(texts[: 3 * batch * steps])
    )
    settings = TrainSettings(
        max_steps=steps,
        per_device_train_batch_size=batch,
        max_length=LONG if long else MAX_LENGTH,
        truncate=long,
        gradient_checkpointing=kind == "checkpointed",
        save_steps=0,
        **SHARED,
    )
    plan = Plan(Pairs(examples, "real-sft-vs-trl"), Checkpoint(str(folder), torch_dtype="float32"), "sft", 0, settings)
    methods: list[dict[str, Any]] = [{"output_only": {}}, *([{"lora": {"rank": 16}}] if lora else [])]
    return apply(plan, methods)


def rows_of(plan: Any) -> list[Any]:
    """The rows of all steps in the order in which they are read."""
    from mnemos.sources.render import Renderer
    from mnemos.train.rows import prepare
    from mnemos.train.schedule import Schedule
    from mnemos.weights.checkpoint import load_tokenizer

    rows = [row[0] for row in prepare(plan, Renderer(load_tokenizer(plan.before.path))).rows]
    batch = plan.train.per_device_train_batch_size
    order = Schedule([len(row) for row in rows], batch, plan.seed).order(0)
    return [rows[int(index)] for index in order][: batch * plan.train.max_steps]


def ours(plan: Any, rows: list[Any], out: Path) -> dict[str, Any]:
    """Train by mnemos."""
    from mnemos.train.likelihood import train

    watch = clock()
    result = train(plan, out, quiet=True, callbacks=[watch])
    peak = result.peak_memory_phases["train"]
    return _report(watch, rows, plan, [loss for _, loss in result.losses], peak)


def peer(plan: Any, rows: list[Any], out: Path) -> dict[str, Any]:
    """Train by TRL."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from mnemos.train.memory import Peak

    columns = {
        "input_ids": [row.ids.tolist() for row in rows],
        "completion_mask": [(row.weight != 0).astype(int).tolist() for row in rows],
    }
    model = AutoModelForCausalLM.from_pretrained(plan.before.path, dtype=torch.float32)
    set_seed(plan.seed)
    model = plan.trainable.prepare(model)
    override = plan.trainable.learning_rate
    shared = {**SHARED, "learning_rate": SHARED["learning_rate"] if override is None else override}
    config = SFTConfig(
        output_dir=str(out),
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),
        seed=0,
        bf16=bool(plan.train.bf16),
        gradient_checkpointing=plan.train.gradient_checkpointing,
        max_steps=plan.train.max_steps,
        per_device_train_batch_size=plan.train.per_device_train_batch_size,
        max_length=plan.train.max_length,
        **shared,
    )
    watch = clock()
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(plan.before.path),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    gc.collect()
    peak = Peak("train")
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return _report(watch, rows, plan, losses, peak.phases()["train"])


def _report(watch: Any, rows: list[Any], plan: Any, losses: list[float], peak: int) -> dict[str, Any]:
    batch = plan.train.per_device_train_batch_size
    # From the end of the first step to the end of the last.
    tokens = sum(len(row) for row in rows[batch : batch * len(watch.wall)])
    return {
        "speed": tokens / (watch.wall[-1] - watch.wall[0]),
        "processor": tokens / (watch.processor[-1] - watch.processor[0]),
        "memory": peak / 1e6,
        "losses": losses,
        "lengths": [len(row) for row in rows],
    }


def main(words: list[str]) -> None:
    """One side in this process."""
    side, kind, steps, lora = words[0], words[1], int(words[2]), bool(int(words[3]))
    found = ready("dolly_2k/train.jsonl.gz")
    assert not isinstance(found, str), found
    plan = plan_of(*found, kind, steps, lora=lora)
    rows = rows_of(plan)
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps({"ours": ours, "peer": peer}[side](plan, rows, Path(name) / "out")))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(sys.argv[1:])
