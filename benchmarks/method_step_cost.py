"""What a method adds to a training step: seconds a step, beside a step of plain fine-tuning.

One result for each method that changes the step; the model is the chat patient, the rows are chats of
its demo, 32 a step. Each method and plain fine-tuning train in turn, from the end of the first step to
the end of the last. Without a GPU it is processor time of one thread, which other work on the machine
disturbs less than the wall clock.
What a method does once, before the first step, is outside the clock (see `ewc_fisher`), and so is
what makes rows. Methods that train few parameters are faster than plain; `self_distillation` writes its
answers within the step and is here to say what that costs.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mnemos.methods  # noqa: F401  fills the registry
from benchmarks.common import Result, alternate, compared
from mnemos.core.method import apply
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.study.paths import resolve_path, shown_path

STEPS, REPETITIONS, BOUND = 10, 3, 2.0

MODEL, NEW, OLD = (str(resolve_path(f"mnemos:{name}", Path())) for name in (
    "patients/chat", "data/new_skill.jsonl", "data/old.jsonl"
))  # fmt: skip
SETTINGS = TrainSettings(
    per_device_train_batch_size=32, max_steps=STEPS, learning_rate=3e-4, max_length=256, optim="adamw_torch_fused"
)

ARMS: dict[str, dict[str, Any]] = {
    "token_mask": {},
    "kl_to_before": {},
    "distill": {},
    "l2_to_before": {},
    "rho1": {"reference_model": MODEL},
    "ewc": {"data": OLD, "samples": 8},
    "a_gem": {"data": OLD, "batch": 32},
    "freeze": {"layers_first": 2},
    "only": {"parts": ["attention"]},
    "lora": {},
    "dora": {},
    "ia3": {},
    "block_expansion": {},
    "orthogonal": {},
    "self_distillation": {"max_new_tokens": 40},
}
"""Settings of each method that changes a step."""


def run() -> Iterator[Result]:
    """One result a method."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method, settings in ARMS.items():
            sides = alternate(
                partial(_step, Path(name), [{method: settings}]), partial(_step, Path(name), []), REPETITIONS
            )
            named = {
                key: shown_path(value, Path()) if isinstance(value, str) else value for key, value in settings.items()
            }
            details = {"settings": named, "steps": STEPS}
            title = f"step-cost-{method.replace('_', '-')}"
            yield compared(title, sides, unit="s", direction="lower is better", bound=BOUND, details=details)


def _step(folder: Path, arm: list[dict[str, Any]]) -> float:
    """Mean seconds of a step after the first."""
    from transformers import TrainerCallback

    from mnemos.models.load import Checkpoint
    from mnemos.sources.read import read
    from mnemos.train.likelihood import train

    now = clock()

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(now())

    gc.collect()
    plan = Plan(read(NEW, name="new"), Checkpoint(MODEL), "new", 0, SETTINGS)
    kept = Clock()
    train(apply(plan, [{"output_only": {}}, *arm]), folder / "out", quiet=True, callbacks=[kept])
    return (kept.marks[-1] - kept.marks[0]) / (len(kept.marks) - 1)


def clock() -> Callable[[], float]:
    """Seconds: of the wall with a GPU, else of the processor."""
    import torch

    if not torch.accelerator.is_available():
        torch.set_num_threads(1)
    return time.perf_counter if torch.accelerator.is_available() else time.process_time
