"""What a method adds to a training step: seconds a step, beside a step of plain fine-tuning.

One result for each method that changes the step; model and rows are those of `sft_vs_trl`. Each
method and plain fine-tuning train in turn, from the end of the first step to the end of the last.
Without a GPU it is processor time, which other work on the machine disturbs less than the wall clock.
What a method does once, before the first step, is outside the clock (see `ewc_fisher`), and so is
what makes rows. Methods that train few parameters are faster than plain.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mnemos.methods  # noqa: F401  fills the registry
from benchmarks.common import Result, alternate, compared
from benchmarks.sft_vs_trl import SHARED, make
from mnemos.core.method import apply
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings

STEPS, REPETITIONS, BOUND = 8, 3, 2.0

ARMS: dict[str, dict[str, Any]] = {
    "token_mask": {},
    "kl_to_before": {},
    "distill": {},
    "l2_to_before": {},
    "rho1": {"reference_model": "MODEL"},
    "ewc": {"data": "OLD", "samples": 8},
    "a_gem": {"data": "OLD", "batch": 8},
    "freeze": {"layers_first": 2},
    "only": {"parts": ["attention"]},
    "lora": {},
    "dora": {},
    "ia3": {},
    "block_expansion": {},
}
"""Settings of each method; MODEL and OLD stand for a model directory and a file of old rows."""


def run() -> Iterator[Result]:
    """One result a method."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        rows, source = make(folder)
        places = {"MODEL": str(folder / "model"), "OLD": str(_old(folder, rows))}
        for method, settings in ARMS.items():
            chosen = {key: places.get(str(value), value) for key, value in settings.items()}
            sides = alternate(
                lambda arm=[{method: chosen}]: _step(folder, rows, arm), lambda: _step(folder, rows, []), REPETITIONS
            )
            details = {"rows": source, "settings": settings, "steps": STEPS}
            title = f"step-cost-{method.replace('_', '-')}"
            yield compared(title, sides, unit="s", direction="lower is better", bound=BOUND, details=details)


def _old(folder: Path, rows: Any) -> Path:
    """The same rows as a file, so that the old rows of a step are as long as the new ones."""
    file = folder / "old.jsonl"
    lines = [{turn.role: turn.content for turn in example.turns} for example in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def _step(folder: Path, rows: Any, arm: list[dict[str, Any]]) -> float:
    """Mean seconds of a step after the first."""
    from transformers import TrainerCallback

    from mnemos.models.load import Checkpoint
    from mnemos.train.likelihood import train

    now = clock()

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(now())

    gc.collect()
    settings = TrainSettings(**SHARED, max_steps=STEPS, optim="adamw_torch_fused")
    plan = Plan(rows, Checkpoint(str(folder / "model")), "sft", 0, settings)
    kept = Clock()
    train(apply(plan, [{"output_only": {}}, *arm]), folder / "out", quiet=True, callbacks=[kept])
    return (kept.marks[-1] - kept.marks[0]) / (len(kept.marks) - 1)


def clock() -> Callable[[], float]:
    """Seconds: of the wall with a GPU, else of the processor."""
    import torch

    return time.perf_counter if torch.accelerator.is_available() else time.process_time
