"""Supervised fine-tuning: mnemos beside TRL's SFTTrainer.

Useful tokens (padding does not count) per second over the same optimiser steps: the same token
ids in the same order from the same weights, a random Llama of 5 M parameters with an 8,000-token
vocabulary, float32, fused AdamW and no gradient checkpointing on both sides. TRL runs as it comes
otherwise: no packing, loss on completions only, padding to the longest row of the batch.

The rows are prompts and completions of dolly_2k from $MNEMOS_DATA (default ../shared/data), those
of at most MAX_LENGTH tokens; where that file is absent, generated words with the same quantiles
of length. Loading, tokenising and the first step are outside the clock. No figure is reported
unless the losses of all steps agree.

`details.defaults` repeats one run with each side's own default settings.
"""

from __future__ import annotations

import gc
import gzip
import json
import math
import os
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import Result, alternate, byte_level_bpe, compared
from mnemos.core.nouns import Example, Tokens, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings

STEPS, BATCH, MAX_LENGTH = 12, 8, 1024
DEFAULT_STEPS = 3
REPETITIONS = 3
VOCABULARY = 8000
SHARED: dict[str, Any] = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": BATCH,
    "max_length": MAX_LENGTH,
    "logging_steps": 1,
}


@dataclass(frozen=True)
class Pairs:
    """Prompt and completion rows in memory."""

    examples: tuple[Example, ...]
    fingerprint: str = "sft-vs-trl"

    def describe(self) -> str:
        return f"{len(self.examples)} prompts and completions"

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


@dataclass
class Side:
    """One way to train. losses: of its last run. processor: useful tokens per second of processor
    time of each run, which other work on the machine disturbs less than the wall clock."""

    name: str
    losses: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def run() -> list[Result]:
    """One result; raises RuntimeError when the two sides' losses differ."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        pairs, source = make(folder)
        plan = _plan(folder, pairs, optim="adamw_torch_fused", max_steps=STEPS)
        rows = ordered(plan)
        ours, peer = Side("mnemos"), Side("trl")
        sides = alternate(
            lambda: _ours(plan, rows, folder, ours), lambda: _peer(folder, rows, peer, EQUAL), REPETITIONS
        )
        difference = _agree(ours, peer)
        details = {
            "rows": source,
            "lengths": _lengths(rows),
            "steps": STEPS,
            "batch": BATCH,
            "largest_loss_difference": difference,
            "losses": ours.losses,
            "ratio_by_processor_time": median(ours.processor) / median(peer.processor),
            "defaults": _defaults(folder, pairs, rows),
        }
    return [compared("sft-vs-trl", sides, unit="tokens/s", direction="higher is better", bound=1.3, details=details)]


EQUAL: dict[str, Any] = {
    "max_steps": STEPS,
    "bf16": False,
    "gradient_checkpointing": False,
    "optim": "adamw_torch_fused",
}


def make(folder: Path) -> tuple[Pairs, str]:
    """Write model and tokenizer into `folder`; returns the rows and where they came from."""
    texts, source = _texts()
    tokenizer = tokenizer_of_texts(texts)
    tokenizer.save_pretrained(folder / "model")
    _model(tokenizer).save_pretrained(folder / "model")
    kept = [pair for pair in texts if sum(len(tokenizer(part)["input_ids"]) for part in pair) + 2 <= MAX_LENGTH]
    drawn = random.Random(0).sample(kept, STEPS * BATCH)
    examples = [
        Example(f"row{i}", "completion", (Turn("prompt", p), Turn("completion", c))) for i, (p, c) in enumerate(drawn)
    ]
    return Pairs(tuple(examples)), source


def _texts() -> tuple[list[tuple[str, str]], str]:
    data = Path(os.environ.get("MNEMOS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    file = data / "dolly_2k" / "train.jsonl.gz"
    if not file.is_file():
        return _invented(), "generated words, lengths log-normal with the quartiles of dolly_2k"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    pairs = [("\n\n".join(filter(None, (row["instruction"], row["input"]))), row["output"]) for row in rows]
    return pairs, "dolly_2k"


def _invented() -> list[tuple[str, str]]:
    """2,000 pairs: total length log-normal, median 124 and quartiles 61 and 252 tokens, completions
    44 % of it; measured on dolly_2k with a vocabulary of 8,000."""
    drawn = random.Random(0)
    words = ["".join(drawn.choices("aeioubdfgklmnprstv", k=drawn.randint(3, 8))) for _ in range(6000)]
    pairs = []
    for _ in range(2000):
        total = math.exp(drawn.gauss(math.log(124), math.log(252 / 61) / 2 / 0.6745))
        counts = (max(1, round(0.56 * total)), max(1, round(0.44 * total)))
        pairs.append(tuple(" ".join(drawn.choices(words, k=count)) for count in counts))
    return [(prompt, completion) for prompt, completion in pairs]


def tokenizer_of_texts(texts: list[tuple[str, str]]) -> Any:
    from transformers import PreTrainedTokenizerFast

    core = byte_level_bpe((part for pair in texts for part in pair), VOCABULARY, ["<s>", "</s>", "<pad>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _model(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _plan(folder: Path, pairs: Pairs, **settings: Any) -> Plan:
    from mnemos.methods.weigh.tokens import output_only
    from mnemos.models.load import Checkpoint

    before = Checkpoint(str(folder / "model"))
    return output_only(Plan(pairs, before, "sft", 0, TrainSettings(**SHARED, **settings)))


def ordered(plan: Plan) -> list[Tokens]:
    """The rows as mnemos reads them, in its order; the peer gets exactly these."""
    from mnemos.sources.render import Renderer
    from mnemos.train.rows import prepare
    from mnemos.train.schedule import Schedule
    from mnemos.weights.checkpoint import load_tokenizer

    rows = [row[0] for row in prepare(plan, Renderer(load_tokenizer(plan.before.path))).rows]
    order = Schedule([len(row) for row in rows], BATCH, plan.seed).order(0)
    return [rows[int(index)] for index in order]


def _lengths(rows: list[Tokens]) -> dict[str, Any]:
    lengths = np.array([len(row) for row in rows])
    batches = lengths.reshape(STEPS, BATCH)
    return {
        "tokens": int(lengths.sum()),
        "supervised_tokens": int(sum((row.weight[1:] != 0).sum() for row in rows)),
        "quartiles": [float(q) for q in np.quantile(lengths, [0.25, 0.5, 0.75])],
        "longest": int(lengths.max()),
        "useful_share_when_padded": float(lengths.sum() / (batches.max(1) * BATCH).sum()),
    }


def clock() -> Any:
    """A callback that notes when each optimiser step ended: wall, processor."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Wall clock and processor time after every optimiser step."""

        def __init__(self) -> None:
            self.wall: list[float] = []
            self.processor: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.wall.append(time.perf_counter())
            self.processor.append(time.process_time())

    return Clock()


def _rate(watch: Any, rows: list[Tokens], side: Side) -> float:
    """Useful tokens per second from the end of the first step to the end of the last."""
    tokens = sum(len(row) for row in rows[BATCH : BATCH * len(watch.wall)])
    side.processor.append(tokens / (watch.processor[-1] - watch.processor[0]))
    return tokens / (watch.wall[-1] - watch.wall[0])


def _ours(plan: Plan, rows: list[Tokens], folder: Path, side: Side) -> float:
    from mnemos.train.likelihood import train

    gc.collect()
    watch = clock()
    result = train(plan, folder / "ours", quiet=True, callbacks=[watch])
    side.losses = [loss for _, loss in result.losses]
    return _rate(watch, rows, side)


def _peer(folder: Path, rows: list[Tokens], side: Side, settings: dict[str, Any]) -> float:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging
    from trl import SFTConfig, SFTTrainer

    gc.collect()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    data = Dataset.from_dict(
        {
            "input_ids": [row.ids.tolist() for row in rows],
            "completion_mask": [(row.weight != 0).astype(int).tolist() for row in rows],
        }
    )
    config = SFTConfig(
        output_dir=str(folder / "peer"),
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not _accelerated(),
        seed=0,
        **SHARED,
        **settings,
    )
    watch = clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[watch],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    side.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return _rate(watch, rows, side)


def _accelerated() -> bool:
    import torch

    return torch.accelerator.is_available()


def _agree(ours: Side, peer: Side) -> float:
    """Largest relative difference between the two loss curves; RuntimeError beyond rounding."""
    one, other = np.array(ours.losses), np.array(peer.losses)
    if one.shape != other.shape or not np.allclose(one, other, rtol=1e-3):
        raise RuntimeError(f"the losses differ: {ours.losses} and {peer.losses}")
    return float((np.abs(one - other) / other).max())


def _defaults(folder: Path, pairs: Pairs, rows: list[Tokens]) -> dict[str, Any]:
    """A short run of each side with its own defaults for precision, recomputation and optimiser.
    TRL's bfloat16 is slow on a processor without instructions for it: this is no fair comparison
    of loops, only what a newcomer would see."""
    ours, peer = Side("mnemos"), Side("trl")
    own = _ours(_plan(folder, pairs, max_steps=DEFAULT_STEPS), rows, folder, ours)
    theirs = _peer(folder, rows, peer, {"max_steps": DEFAULT_STEPS})
    return {
        "ours": own,
        "peer": theirs,
        "ratio": own / theirs,
        "ours_settings": "float32, no gradient checkpointing, adamw_torch",
        "peer_settings": "bfloat16, gradient checkpointing, adamw_torch_fused",
    }
