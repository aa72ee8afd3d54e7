"""Adapters on a real model: mnemos beside TRL's SFTTrainer; see `benchmarks.real_sft_vs_trl`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.common import Result
from benchmarks.real_sft_vs_trl import STEPS, results


def run(items: int = STEPS) -> Iterator[Result]:
    """Speed and memory of LoRA of rank 16."""
    yield from results("real-lora-vs-trl", items, lora=True)
