"""A rate that rises, stays and falls: its shape by hand, and the names of trainings that have none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from mnemos.core.errors import UsageError
from mnemos.core.method import validated
from mnemos.core.settings import WSD, TrainSettings
from mnemos.train.likelihood import train
from mnemos.train.used import used
from tests.train.making import plan


class Rates(TrainerCallback):  # type: ignore[misc]
    """The rate of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
        self.seen += lr_scheduler.get_last_lr()[:1]


def test_the_rate_rises_stays_and_falls_in_a_line(llama: Path, tmp_path: Path) -> None:
    rates = Rates()
    given = plan(llama, max_steps=20, lr_scheduler_type=WSD, warmup_ratio=0.1, decay_ratio=0.25, learning_rate=1e-4)
    train(given, tmp_path, quiet=True, callbacks=[rates])
    rise, fall = [0, 0.5], [1, 0.8, 0.6, 0.4, 0.2]
    assert rates.seen == pytest.approx([1e-4 * share for share in [*rise, *[1] * 13, *fall]])


def test_only_a_rate_that_decays_is_named_by_its_decay(llama: Path) -> None:
    linear, wsd = (
        [TrainSettings(lr_scheduler_type=kind, decay_ratio=share).fingerprint for share in (0.1, 0.2)]
        for kind in ("linear", WSD)
    )
    assert linear[0] == linear[1]
    assert wsd[0] != wsd[1]
    assert "decay_ratio" not in used(plan(llama))
    assert used(plan(llama, lr_scheduler_type=WSD))["decay_ratio"] == 0.2


def test_more_than_all_steps_is_refused() -> None:
    asked = {"lr_scheduler_type": WSD, "warmup_ratio": 0.5, "decay_ratio": 0.6}
    with pytest.raises(UsageError, match="more than all steps together"):
        validated(TrainSettings, asked, where="train")
