"""The Fisher information of `ewc` beside training: seconds for the same rows.

One stage trains one epoch over rows from which, as it begins, the Fisher information is taken too:
squared gradients of each row by itself. Model and rows are those of `sft_vs_trl`. Both figures come
from the same run: the pass over the rows, which includes trying two of them row by row, and the
epoch from its beginning to its last step. The term itself is left out of the epoch.
Without a GPU it is processor time.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.common import Result, compared
from benchmarks.method_step_cost import clock
from benchmarks.sft_vs_trl import SHARED, make
from mnemos.core.plan import Likelihood, Plan
from mnemos.core.settings import TrainSettings
from mnemos.methods.objective.ewc import EWCPenalty

REPETITIONS = 3
BOUND = 1.5


@dataclass(frozen=True)
class Timed(EWCPenalty):
    """Takes the information, keeps how long it took, and then costs nothing."""

    seconds: list[float] = field(default_factory=list, compare=False)

    def begin(self, stage: Any) -> Any:
        rows = stage.rows(self.old)
        now = clock()
        started = now()
        stage.squared_gradients(rows, sampled=self.fisher == "model", seed=self.seed)
        self.seconds.append(now() - started)
        return Nothing()


@dataclass(frozen=True)
class Nothing:
    def loss(self, view: Any) -> Any:
        return view.logits.new_zeros(())


def run() -> list[Result]:
    """One result for gradients of the rows' own tokens, one for tokens that the model draws."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    results = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        rows, source = make(folder)
        for kind in ("empirical", "model"):
            pairs = [_once(folder, rows, kind) for _ in range(REPETITIONS)]
            sides = [a for a, _ in pairs], [b for _, b in pairs]
            title = f"ewc-fisher-{kind}"
            details = {"rows": source, "count": len(rows.examples)}
            results.append(compared(title, sides, unit="s", direction="lower is better", bound=BOUND, details=details))
    return results


def _once(folder: Path, rows: Any, kind: Any) -> tuple[float, float]:
    """Seconds of the information, and of the epoch."""
    from transformers import TrainerCallback

    from mnemos.methods.weigh.tokens import output_only
    from mnemos.models.load import Checkpoint
    from mnemos.train.likelihood import train

    now = clock()

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.marks.append(now())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.marks.append(now())

    timed, marked = Timed(1.0, rows, len(rows.examples), kind, 0), Clock()
    settings = TrainSettings(**SHARED, num_train_epochs=1, optim="adamw_torch_fused")
    plan = output_only(Plan(rows, Checkpoint(str(folder / "model")), "sft", 0, settings))
    train(replace(plan, objective=(Likelihood(), timed)), folder / "out", quiet=True, callbacks=[marked])
    return timed.seconds[-1], marked.marks[-1] - marked.marks[0]
